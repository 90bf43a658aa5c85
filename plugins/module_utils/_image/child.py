# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program in mount and pid namespaces of its own: what it mounts and starts ends with it, however we end."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import IO, NoReturn, Optional

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
_WELL = b"+"


class Around:
    """What is done in the namespaces before and after the program, and outside with what comes out of them."""

    def before(self) -> None:
        """Inside."""

    def after(self, out: IO[bytes]) -> None:
        """Inside, when the program has ended well and nothing else runs there; what is written goes to take()."""

    def take(self, stream: IO[bytes]) -> None:
        """Outside."""


def run(command: Sequence[str], env: Mapping[str, str], around: Optional[Around] = None) -> tuple[int, str]:
    """(exit code, the last of what it wrote to stdout and stderr)."""
    around = around or Around()
    never_sync = _filter()
    words, told = os.pipe2(os.O_CLOEXEC)
    results, given = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = clone3(CLONE_NEWNS | CLONE_NEWPID)
    if pid == 0:
        os.close(words)
        os.close(results)
        _first(command, env, around, never_sync, told, given)
    for fd in (told, given, pidfd):
        os.close(fd)
    try:
        said = _drain(words)
        with os.fdopen(results, "rb", buffering=0) as stream:
            if stream.read(1) == _WELL:
                around.take(stream)
    except BaseException:
        os.kill(pid, signal.SIGKILL)  # and all of its namespace with it
        raise
    finally:
        os.close(words)
        status = os.waitpid(pid, 0)[1]
    return exit_code(status), said.decode("utf-8", "replace")


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


def _first(
    command: Sequence[str], env: Mapping[str, str], around: Around, never_sync: bytes, told: int, given: int
) -> NoReturn:
    """The namespace's init: it starts the program, reaps what is left behind, and ends as the program does."""
    code = _NOT_FOUND
    try:
        # Its death is that of all in the namespace. Our parent may have died before the kernel knew.
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != 0:
            os._exit(code)
        reset_signals()
        _stdio(told)
        mount("none", "/", None, MS_REC | MS_PRIVATE)
        _own_proc()
        around.before()
        if never_sync:
            seccomp.install(never_sync)
        program = os.fork()
        if program == 0:
            os.execvpe(command[0], list(command), dict(env))
        code = _wait_for(program)
        if code == 0:
            _finish(around, given)
    except BaseException as error:
        code = code or 1
        os.write(2, f"{command[0]}: {error}\n".encode("utf-8", "surrogateescape"))
    finally:
        os._exit(code)


def _stdio(output: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)


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


def _finish(around: Around, given: int) -> None:
    try:
        os.kill(-1, signal.SIGKILL)  # all in the namespace but its init
        while True:
            os.wait()
    except (ProcessLookupError, ChildProcessError):
        pass  # none was left
    # Who reads what was said goes on when nobody can say more; an error from here on is a stream that is cut short.
    for fd in (1, 2):
        os.dup2(0, fd)
    with os.fdopen(given, "wb", buffering=1 << 20) as out:
        out.write(_WELL)
        around.after(out)
