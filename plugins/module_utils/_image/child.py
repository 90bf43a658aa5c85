# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program in mount and pid namespaces of its own: what it mounts and starts ends with it, however we end."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import NoReturn

from .._errors import DependencyError, KernelError
from .._kernel import seccomp
from .._kernel.caps import prctl
from .._kernel.mount import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_REC, mount
from .._kernel.namespaces import CLONE_NEWNS, CLONE_NEWPID, clone3
from .._kernel.process import exit_code, reset_signals
from .nosync import profile

_PR_SET_PDEATHSIG = 1
_KEPT = 64 << 10  # of what it says: the end is where reasons are
_NOT_FOUND = 127


def run(command: Sequence[str], env: Mapping[str, str]) -> tuple[int, str]:
    """(exit code, the last of what it wrote to stdout and stderr)."""
    never_sync = _filter()
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = clone3(CLONE_NEWNS | CLONE_NEWPID)
    if pid == 0:
        _first(never_sync, theirs, command, env)
    os.close(theirs)
    os.close(pidfd)
    try:
        words = _drain(ours)
    except BaseException:
        os.kill(pid, signal.SIGKILL)  # and all of its namespace with it
        raise
    finally:
        os.close(ours)
        status = os.waitpid(pid, 0)[1]
    return exit_code(status), words.decode("utf-8", "replace")


def _drain(fd: int) -> bytes:
    kept = b""
    while True:
        data = os.read(fd, 1 << 16)
        if not data:
            return kept
        kept = (kept + data)[-_KEPT:]


def _filter() -> bytes:
    try:
        return seccomp.compile(profile())
    except DependencyError:
        return b""  # without libseccomp it takes longer


def _first(never_sync: bytes, output: int, command: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """The namespace's init: it starts the program, reaps what is left behind, and ends as the program does."""
    code = _NOT_FOUND
    try:
        # Its death is that of all in the namespace. Our parent may have died before the kernel knew.
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != 0:
            os._exit(code)
        reset_signals()
        _stdio(output)
        mount("none", "/", None, MS_REC | MS_PRIVATE)
        _own_proc()
        if never_sync:
            seccomp.install(never_sync)
        program = os.fork()
        if program == 0:
            os.execvpe(command[0], list(command), dict(env))
        code = _wait_for(program)
    except BaseException as error:
        os.write(2, f"{command[0]}: {error}\n".encode("utf-8", "surrogateescape"))
    finally:
        os._exit(code)


def _stdio(output: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)


def _own_proc() -> None:
    """Programs look themselves up by the pids that they know."""
    try:
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    except KernelError:
        pass  # where ours has mounts over it, a new one is refused; most programs do not look


def _wait_for(program: int) -> int:
    while True:
        pid, status = os.wait()
        if pid == program:
            return exit_code(status)
