# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who calls the process that serve.py leaves on a host, and what runs for them.

A verb's process is a fork that has imported everything, with the caller's streams, directory and umask, and runs the
verb as any other would. When the caller goes, it is told as by a terminal that hangs up.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Optional

from .._kernel import process
from . import ask


class Verb:
    """One that runs for a request, which is as in ask.py, with ``fds`` as its streams. OSError without processes."""

    def __init__(self, request: bytes, fds: Sequence[int]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            _run(request, fds)
        self.pidfd = process.pidfd_open(self.pid)

    def send(self, number: int) -> None:
        process.send(self.pidfd, number)

    def ended(self) -> Optional[int]:
        """The exit code, once; None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        os.close(self.pidfd)
        return process.exit_code(status)


def _run(request: bytes, fds: Sequence[int]) -> None:
    """The verb's process, from its birth to its end."""
    code = 125
    try:
        for target, fd in enumerate(fds):
            os.dup2(fd, target)
        process.close_all_but({0, 1, 2})
        cwd, root, mask, *args = request.decode("utf-8", "surrogateescape").split("\0")
        if mask:
            os.umask(int(mask))
        with contextlib.suppress(OSError):
            os.chdir(cwd)
        from .vessel import main

        code = main(args, root=root)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


class Caller:
    """One end of a connection, and the verb that runs for it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.verb: Optional[Verb] = None

    def wants(self) -> dict[int, int]:
        """Descriptors and what of each is waited for, as poll(2) has it; empty when it is over."""
        raise NotImplementedError

    def ready(self, fd: int, event: int) -> None:
        """One of them is."""
        raise NotImplementedError


class Passing(Caller):
    """One on this host: it passes its own streams on, and tells what signals it was sent. ``stop`` is called for one
    who wants all of this to end."""

    def __init__(self, sock: socket.socket, stop: Callable[[], None]) -> None:
        super().__init__(sock)
        self._stop = stop

    def wants(self) -> dict[int, int]:
        fds = [self.sock.fileno(), self.verb.pidfd if self.verb else -1]
        return {fd: select.POLLIN for fd in fds if fd >= 0}

    def ready(self, fd: int, event: int) -> None:
        if self.verb is None:
            self._begin()
        elif fd == self.verb.pidfd:
            self._end(self.verb)
        else:
            self._signal(self.verb)

    def _begin(self) -> None:
        data, fds = _request(self.sock)
        if data == ask.QUIT:
            self._stop()
        with contextlib.suppress(OSError):
            self.verb = Verb(data, fds) if len(fds) == 3 else None
        if self.verb is None:
            self.sock.close()
        for fd in fds:
            os.close(fd)

    def _signal(self, verb: Verb) -> None:
        """What the caller was sent; SIGHUP when it is gone."""
        try:
            data = self.sock.recv(64)
        except OSError:
            data = b""
        verb.send(int(data) if data else signal.SIGHUP)
        if not data:
            self.sock.close()

    def _end(self, verb: Verb) -> None:
        code = verb.ended()
        if code is None:
            return
        self.verb = None
        with contextlib.suppress(OSError):
            self.sock.send(b"%d" % code)
        self.sock.close()


def _request(sock: socket.socket) -> tuple[bytes, list[int]]:
    """A request and the caller's streams; none where the caller went before it was told that we begin."""
    data, fds = b"", list[int]()
    try:
        data, fds, _flags, _address = socket.recv_fds(sock, ask.MOST, 3)
        if len(fds) == 3:
            sock.send(ask.BEGUN)
    except OSError:
        for fd in fds:
            os.close(fd)
        return b"", []
    return data, fds
