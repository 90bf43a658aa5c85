# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""delete: take away what create made."""

from __future__ import annotations

import os
import select

from .._errors import NotFoundError
from . import hooks
from .bundle import load as load_bundle
from .create import discard
from .state import directory, load


def delete(root: str, container: str, *, force: bool = False) -> None:
    """Remove a stopped container; with ``force`` a running one is killed first, and a missing one is no error."""
    try:
        state = load(root, container)
    except NotFoundError:
        path = directory(root, container)
        if not force:
            raise
        if os.path.isdir(path):  # create was killed before it wrote the state
            discard(path, None)
        return
    if not force:
        state.require("delete")
    elif state.alive():
        _end(state.pid)
    manager = state.manager()
    if manager.exists() and manager.frozen():
        manager.freeze(False)
    discard(state.directory, manager)
    if os.path.exists(f"{state.bundle}/config.json"):
        declared = load_bundle(state.bundle).get("hooks") or {}
        hooks.run_all(state.to_oci(), declared.get("poststop") or [], "poststop")


def _end(pid: int) -> None:
    """Kill and wait: the init of a pid namespace takes all in it along."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        os.kill(pid, 9)
        select.select([fd], [], [], 10)
        os.waitpid(pid, os.WNOHANG)
    except (ProcessLookupError, ChildProcessError):
        pass
    finally:
        os.close(fd)
