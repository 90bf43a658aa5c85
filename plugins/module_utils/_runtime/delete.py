# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""delete: take away what create made."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Optional

from .._cgroup.manager import Manager
from .._errors import NotFoundError
from .._kernel.process import send
from . import hooks
from .state import FILES, State, directory, load


def delete(root: str, container: str, *, force: bool = False, warn: Callable[[str], None] = hooks.silent) -> None:
    """Remove a stopped container; with ``force`` a running one is killed first, and a missing one is no error.

    A poststop hook that fails is told to ``warn``.
    """
    try:
        state = load(root, container)
    except NotFoundError:
        if not force:
            raise
        discard(directory(root, container), None)  # create was killed before it wrote the state
        return
    if not force:
        state.require("delete")
    manager = state.manager()
    if force:
        end(state, manager)
    discard(state.directory, manager)
    hooks.run_after(state.to_oci(), state.hooks("poststop"), "poststop", warn)


def discard(path: str, manager: Optional[Manager]) -> None:
    """Remove a container's group and its directory."""
    if manager is not None:
        manager.kill()
        manager.remove()
    for name in FILES:
        try:
            os.unlink(f"{path}/{name}")
        except FileNotFoundError:
            pass
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass


def end(state: State, manager: Manager) -> None:
    """Kill and wait: the init of a pid namespace takes all in it along. A frozen process ends when it is thawed."""
    fd = state.pidfd()
    if fd >= 0:
        send(fd, 9)
    if manager.exists() and manager.frozen():
        manager.freeze(False)
    if fd < 0:
        return
    try:
        select.select([fd], [], [], 10)
        os.waitpid(state.pid, os.WNOHANG)
    except ChildProcessError:
        pass  # somebody else's to reap
    finally:
        os.close(fd)
