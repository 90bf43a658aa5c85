# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks: programs that get the state on their standard input (runtime-spec, config.md, "POSIX-platform Hooks")."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable, Sequence
from typing import Any

from .._errors import StartError
from .._kernel.process import exit_code

Hook = dict[str, Any]


def runner(state: dict[str, Any]) -> Callable[[Sequence[Hook], str], None]:
    """A function that runs hooks of one kind in their order; the first that fails ends it with StartError."""
    data = json.dumps(state).encode()

    def run(hooks: Sequence[Hook], kind: str) -> None:
        for hook in hooks:
            _run(hook, kind, data)

    return run


def _run(hook: Hook, kind: str, data: bytes) -> None:
    path = hook["path"]
    reader, writer = os.pipe()
    pid = os.posix_spawn(
        path,
        list(hook.get("args") or [path]),
        dict(entry.partition("=")[::2] for entry in hook.get("env") or []),
        file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0)],
    )
    os.close(reader)
    try:
        os.write(writer, data)
    except BrokenPipeError:
        pass  # the hook does not want the state
    os.close(writer)
    code = _wait(pid, hook.get("timeout"))
    if code != 0:
        why = "took too long" if code is None else f"ended with {code}"
        raise StartError(f"{kind} hook {path} {why}", step=kind)


def _wait(pid: int, timeout: float | None) -> int | None:
    """The exit code; None, and the process killed, when the time ran out."""
    if timeout:
        fd = os.pidfd_open(pid)
        try:
            if not select.select([fd], [], [], timeout)[0]:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return None
        finally:
            os.close(fd)
    return exit_code(os.waitpid(pid, 0)[1])


def run_all(state: dict[str, Any], hooks: Sequence[Hook], kind: str) -> None:
    if hooks:
        runner(state)(hooks, kind)
