# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Callers who have one stream to us and nothing to pass through it, as those at the other end of ssh.

A caller is sent frames: a byte that says what follows, the length of that in four bytes, the first the highest, and
that. The first frame says that we are here; who has not got it may take another way, for nothing was done. Then the
caller sends the length of its request, in eight hexadecimal digits; the request, as in ask.py, where no umask means our
own; and what the verb is to read on its standard input, until the caller shuts its side down.

The verb has pipes for its streams: programs open /dev/stdout, which can't be done with a socket.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import sys
import termios
from typing import Optional

from . import ask
from .callers import Caller, Verb

HERE, OUT, ERR, END = b"h", b"1", b"2", b"x"
PROTOCOL = b"1"  # what the first frame tells: who knows another one goes another way
_DIGITS = 8
_CHUNK = 1 << 16


class Streaming(Caller):
    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        sock.setblocking(False)
        self._stdin = -1
        self._sources: dict[int, bytes] = {}  # what frame it makes, by the pipe that the verb writes to
        self._up = b""  # from the caller: the request, then what stdin has not taken yet
        self._down = _frame(HERE, PROTOCOL)  # what the caller has not taken yet
        self._heard_all = False

    def wants(self) -> dict[int, int]:
        if self.sock.fileno() < 0 and self.verb is None:
            return {}
        found = dict.fromkeys(self._sources, 0 if self._down else select.POLLIN)
        if self.sock.fileno() >= 0:
            hears = not self._heard_all and (self.verb is None or not self._up)
            found[self.sock.fileno()] = (select.POLLIN if hears else 0) | (select.POLLOUT if self._down else 0)
        if self._stdin >= 0:
            found[self._stdin] = select.POLLOUT if self._up else 0
        if self.verb is not None:
            found[self.verb.pidfd] = select.POLLIN
        return found

    def ready(self, fd: int, event: int) -> None:
        if self.verb is not None and fd == self.verb.pidfd:
            self._end(self.verb)
        elif fd == self._stdin:
            self._feed(broken=bool(event & select.POLLERR))
        elif fd in self._sources:
            self._take(fd)
        elif event & (select.POLLHUP | select.POLLERR):
            self._lose()
        else:
            self._talk(event)

    def _talk(self, event: int) -> None:
        try:
            if event & select.POLLOUT:
                self._down = self._down[self.sock.send(self._down) :]
            if event & select.POLLIN:
                self._hear(self.sock.recv(_CHUNK))
        except BlockingIOError:
            return
        except (OSError, ValueError):
            self._lose()
        if self.verb is None and self._heard_all and not self._down:
            self.sock.close()

    def _hear(self, data: bytes) -> None:
        self._up += data
        self._heard_all = not data
        if self.verb is not None:
            self._feed()
        elif (found := _request(self._up)) is not None:
            request, self._up = found
            self._begin(request)

    def _begin(self, request: bytes) -> None:
        theirs: list[int] = []
        try:
            for kind in (b"", OUT, ERR):
                read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
                if kind:
                    self._sources[read] = kind
                else:
                    self._stdin = write
                theirs.append(write if kind else read)
                os.set_blocking(theirs[-1], True)
            self.verb = Verb(request, theirs)
        except OSError:  # no descriptor or no process is left, and what else comes is no second request
            self._lose()
        finally:
            for fd in theirs:
                os.close(fd)
        self._feed()

    def _feed(self, *, broken: bool = False) -> None:
        """The verb's standard input, which is over when the caller has said so, and when nobody reads it."""
        try:
            while self._up and self._stdin >= 0 and not broken:
                self._up = self._up[os.write(self._stdin, self._up) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            broken = True
        if broken or self._stdin < 0:
            self._up = b""
        if self._stdin >= 0 and (broken or self._heard_all):
            os.close(self._stdin)
            self._stdin = -1

    def _take(self, fd: int, most: int = _CHUNK) -> None:
        try:
            data = os.read(fd, most)
        except BlockingIOError:
            return
        if data:
            self._down += _frame(self._sources[fd], data)
        else:
            del self._sources[fd]
            os.close(fd)

    def _lose(self) -> None:
        """The caller is gone; nobody hears what the verb still says."""
        self.sock.close()
        if self.verb is not None:
            self.verb.send(signal.SIGHUP)
        self._down = b""
        self._close_pipes()

    def _end(self, verb: Verb) -> None:
        """All that it has said is in its pipes. What it has left behind may have them for longer; nobody waits for
        that."""
        code = verb.ended()
        if code is None:
            return
        self.verb = None
        for fd in list(self._sources):
            self._take(fd, _held(fd))
        self._close_pipes()
        self._heard_all = True
        if self.sock.fileno() >= 0:
            self._down += _frame(END, b"%d" % code)

    def _close_pipes(self) -> None:
        for fd in (*self._sources, self._stdin):
            if fd >= 0:
                os.close(fd)
        self._sources, self._stdin, self._up = {}, -1, b""


def _frame(kind: bytes, data: bytes) -> bytes:
    return kind + len(data).to_bytes(4, "big") + data


def _held(pipe: int) -> int:
    """How many bytes it has: a pipe holds more where pages are large, and where a program has made it so (pipe(7))."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def _request(data: bytes) -> Optional[tuple[bytes, bytes]]:
    """The request and what came after it; None as long as it is not whole. ValueError for one that makes no sense."""
    if len(data) < _DIGITS:
        return None
    end = _DIGITS + int(data[:_DIGITS], 16)
    if not _DIGITS <= end <= _DIGITS + ask.MOST:
        raise ValueError(data[:_DIGITS])
    return (data[_DIGITS:end], data[end:]) if len(data) >= end else None
