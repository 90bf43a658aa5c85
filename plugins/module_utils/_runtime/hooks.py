# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks: programs that get the state on their standard input (runtime-spec, config.md, "POSIX-platform Hooks")."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
from collections.abc import Callable, Sequence
from typing import Any

from .._errors import StartError
from .._kernel.process import exit_code

Hook = dict[str, Any]
_MOST_WORDS = 1024  # of what a failed hook said


def runner(state: dict[str, Any]) -> Callable[[Sequence[Hook], str], None]:
    """A function that runs hooks of one kind in their order; the first that fails ends it with StartError."""
    data = json.dumps(state).encode()

    def run(hooks: Sequence[Hook], kind: str) -> None:
        for hook in hooks:
            _run(hook, kind, data)

    return run


def _run(hook: Hook, kind: str, data: bytes) -> None:
    path = hook["path"]
    # Files in memory, not pipes: a hook may leave its input unread, or write without end.
    state, said = os.memfd_create("state"), os.memfd_create("output")
    try:
        os.write(state, data)
        os.lseek(state, 0, os.SEEK_SET)
        code = _wait(_spawn(hook, kind, state, said), hook.get("timeout"))
        if code != 0:
            why = "took too long" if code is None else f"ended with {code}"
            words = os.pread(said, _MOST_WORDS, max(0, os.fstat(said).st_size - _MOST_WORDS))
            text = words.decode("utf-8", "replace").strip()
            raise StartError(f"{kind} hook {path} {why}{': ' if text else ''}{text}", step=kind)
    finally:
        os.close(state)
        os.close(said)


def _spawn(hook: Hook, kind: str, state: int, said: int) -> int:
    path = hook["path"]
    env = dict(entry.partition("=")[::2] for entry in hook.get("env") or [])
    actions = [(os.POSIX_SPAWN_DUP2, state, 0), *((os.POSIX_SPAWN_DUP2, said, number) for number in (1, 2))]
    try:
        return os.posix_spawn(path, list(hook.get("args") or [path]), env, file_actions=actions)
    except OSError as error:
        code = error.errno or 0
        text = f"{kind} hook {path}: {os.strerror(code)} [{errno.errorcode.get(code, code)}]"
        raise StartError(text, step=kind, errno=code) from None


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
    """Hooks that fail the container when one of them fails, and then the others do not run."""
    if hooks:
        runner(state)(hooks, kind)


def run_after(state: dict[str, Any], hooks: Sequence[Hook], kind: str, warn: Callable[[str], None]) -> None:
    """Hooks after its end: one that fails is a warning, and the others run (runtime-spec, runtime.md, "Lifecycle")."""
    data = json.dumps(state).encode() if hooks else b""
    for hook in hooks:
        try:
            _run(hook, kind, data)
        except StartError as error:
            warn(str(error))


def silent(message: str) -> None:
    """Nobody wants to know."""
