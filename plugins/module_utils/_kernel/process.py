# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process is and may: prctl(2), close_range(2), /proc/PID/stat."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterable, Sequence
from typing import Optional

from .caps import prctl
from .libc import libc, oserror, syscall

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
CLOSE_RANGE_CLOEXEC = 4
FD_MAX = 0xFFFFFFFF
KEYCTL_JOIN_SESSION_KEYRING = 1


def set_dumpable(dumpable: bool) -> None:
    """A process that is not dumpable can't be traced, nor its /proc/PID/exe and fd opened, without CAP_SYS_PTRACE."""
    if prctl(PR_SET_DUMPABLE, int(dumpable)) < 0:
        oserror("prctl", "PR_SET_DUMPABLE")


def set_no_new_privs() -> None:
    if prctl(PR_SET_NO_NEW_PRIVS, 1) < 0:
        oserror("prctl", "PR_SET_NO_NEW_PRIVS")


def set_child_subreaper() -> None:
    if prctl(PR_SET_CHILD_SUBREAPER, 1) < 0:
        oserror("prctl", "PR_SET_CHILD_SUBREAPER")


def end_with(parent: int) -> None:
    """SIGKILL when our parent ends, which it may have done before the kernel knew of our wish."""
    if prctl(PR_SET_PDEATHSIG, signal.SIGKILL) < 0:
        oserror("prctl", "PR_SET_PDEATHSIG")
    if os.getppid() != parent:
        os._exit(1)


def join_session_keyring() -> None:
    """A session keyring of its own: keys are not namespaced (keyrings(7)). Kernels without keys have none to hide."""
    syscall("keyctl", KEYCTL_JOIN_SESSION_KEYRING, 0)


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor that is not in ``keep``."""
    first = 0
    for fd in sorted(set(keep)):
        if fd > first:
            _close_range(first, fd - 1)
        first = fd + 1
    _close_range(first, FD_MAX)


def _close_range(first: int, last: int) -> None:
    if syscall("close_range", first, last, 0) < 0:  # Linux 5.9
        os.closerange(first, min(last, os.sysconf("SC_OPEN_MAX")) + 1)


def reset_signals() -> None:
    """Default dispositions and an empty mask: both outlive an exec, and Python has changed some."""
    for number in range(1, signal.NSIG):
        # None is what nobody but the kernel can change, and what libc keeps for itself.
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def heeds(pid: int, number: int) -> bool:
    """Does the process do anything about the signal, or may it later? The first one of a pid namespace is not sent a
    signal for which it has no handler (pid_namespaces(7)), unless it is blocked and waits to be fetched."""
    try:
        with open(f"/proc/{pid}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        namespaces = fields["NSpid"].split()
        if len(namespaces) == 1 or namespaces[-1] != "1":
            return True
        masks = (int(fields[kind], 16) for kind in ("SigCgt", "SigBlk", "SigIgn"))
        return any(mask >> (number - 1) & 1 for mask in masks)
    except (OSError, ValueError, KeyError):  # it has ended; a kernel that does not tell
        return True


def setgroups(groups: Sequence[int]) -> None:
    array = (ctypes.c_uint * max(1, len(groups)))(*groups)
    if libc.setgroups(ctypes.c_size_t(len(groups)), array) < 0:
        oserror("setgroups", " ".join(map(str, groups)))


def start_time(pid: int) -> Optional[int]:
    """Clock ticks after boot at which it began, field 22 of proc_pid_stat(5), None when it is gone or a zombie.

    With the pid it names a process for good: pids are used again, start times are not.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def alive(pid: int, started: int) -> bool:
    return pid > 0 and start_time(pid) == started


def namespace_id(pid: int | str, file: str) -> str:
    """ "net:[4026531840]"; empty when the process is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{file}")
    except OSError:
        return ""


def send(pidfd: int, number: int) -> None:
    """pidfd_send_signal(2); a process that is gone is no error."""
    if syscall("pidfd_send_signal", pidfd, number, None, 0) < 0 and ctypes.get_errno() != 3:
        oserror("pidfd_send_signal", number)


def pidfd_open(pid: int) -> int:
    fd = syscall("pidfd_open", pid, 0)
    if fd < 0:
        oserror("pidfd_open", pid)
    return fd


def exit_code(status: int) -> int:
    """A wait(2) status as shells have it: 128 + n for a signal n."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
