# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's stdin, stdout and stderr. No byte of them passes through us."""

from __future__ import annotations

import errno
import os
import socket

from .._errors import KernelError, StartError
from .settings import Log

JOURNAL = "/run/systemd/journal/stdout"
# syslog(3)
_INFO, _ERR = 6, 3


class Stdio:
    """The three descriptors, ours until the child has its copies."""

    def __init__(self, stdin: int, stdout: int, stderr: int) -> None:
        self.fds = (stdin, stdout, stderr)

    def close(self) -> None:
        for fd in set(self.fds):
            os.close(fd)


def open_stdio(log: Log, *, journal: str = JOURNAL) -> Stdio:
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        if log.driver == "file":
            fd = open_file(log.path)
            return Stdio(null, fd, fd)
        if log.driver == "journald":
            return Stdio(null, *_journal(log.tag, journal))
    except BaseException:
        os.close(null)
        raise
    return Stdio(null, null, null)


def open_file(path: str) -> int:
    """For both: with O_APPEND each write goes to the end, whoever else writes and whatever rotation takes away."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        return os.open(path, flags, 0o640)
    except OSError as error:
        raise KernelError("open the log", path, error.errno or 0) from None


def _journal(tag: str, path: str) -> tuple[int, int]:
    stdout = journal_stream(tag, _INFO, path)
    try:
        return stdout, journal_stream(tag, _ERR, path)
    except BaseException:
        os.close(stdout)
        raise


def journal_stream(tag: str, priority: int, path: str) -> int:
    """A stream whose lines become journal entries; the header is that of sd_journal_stream_fd(3)."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
        sock.shutdown(socket.SHUT_RD)
        # identifier, unit, priority, level prefix, then: forward to syslog, to kmsg, to the console
        sock.sendall(f"{tag}\n\n{priority}\n1\n0\n0\n0\n".encode())
    except OSError as error:
        sock.close()
        name = errno.errorcode.get(error.errno or 0, "")
        raise StartError(
            f"log driver journald: {path}: {os.strerror(error.errno or 0)} [{name}]",
            step="log",
            errno=error.errno or 0,
            hint="this host has no journal; use the log driver file"
            if error.errno == errno.ENOENT
            else "systemd-journald does not answer; systemctl status systemd-journald says why",
        ) from None
    return sock.detach()


def tail(path: str, lines: int = 5, size: int = 4096) -> str:
    """The last lines of a log file, for an error's text; empty when there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        length = os.fstat(fd).st_size
        data = os.pread(fd, size, max(0, length - size))
    finally:
        os.close(fd)
    return "\n".join(data.decode("utf-8", "replace").splitlines()[-lines:])
