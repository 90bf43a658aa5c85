# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The other end of the protocol: what modules and the command use to talk to the supervisor."""

from __future__ import annotations

import os
import socket
from typing import Any, Optional

from .._errors import MonitorError
from .._paths import Paths
from .protocol import Lines, Message, decode, encode, error_from_message

_HINT = "the supervisor is started by any task of vessel.host, or by hand: vessel monitor --daemon"


class Client:
    """A connection. Many requests may be under way; ``next`` gives replies as they come."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lines = Lines()
        self._replies: list[Message] = []
        self._count = 0

    def submit(self, op: str, **fields: Any) -> int:
        """Ask without waiting; the id by which ``next`` will name the answer."""
        self._count += 1
        try:
            self._sock.sendall(encode({"id": self._count, "op": op, **fields}))
        except OSError as error:
            raise MonitorError(f"{op}: the supervisor has gone away: {error.strerror}", hint=_HINT) from None
        return self._count

    def next(self) -> tuple[Any, Message]:
        """Wait for any answer: (id, reply). ``result`` tells whether it is an error."""
        reply = self._replies.pop(0) if self._replies else self._receive()
        return reply.get("id"), reply

    @staticmethod
    def result(reply: Message) -> Message:
        """The reply, or its error raised as the type it had in the supervisor."""
        if reply.get("ok"):
            return reply
        raise error_from_message(dict(reply.get("error") or {}))

    def call(self, op: str, **fields: Any) -> Message:
        """Ask and wait; answers to others are kept for ``next``."""
        number = self.submit(op, **fields)
        others: list[Message] = []
        try:
            while True:
                answered, reply = self.next()
                if answered == number or answered is None:
                    return self.result(reply)
                others.append(reply)
        finally:
            self._replies[:0] = others

    def _receive(self) -> Message:
        while True:
            try:
                data = self._sock.recv(1 << 18)
            except TimeoutError:
                raise MonitorError("the supervisor does not answer", hint="see monitor.log in its directory") from None
            except OSError as error:
                raise MonitorError(f"the supervisor has gone away: {error.strerror}", hint=_HINT) from None
            if not data:
                raise MonitorError("the supervisor has gone away", hint="see monitor.log in its directory")
            lines = self._lines.feed(data)
            if lines:
                self._replies += [decode(line) for line in lines[1:]]
                return decode(lines[0])

    def fileno(self) -> int:
        return self._sock.fileno()

    def settimeout(self, seconds: Optional[float]) -> None:
        """How long one answer may take; None, which is the default, for ever."""
        self._sock.settimeout(seconds)

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def connect(paths: Paths) -> Client:
    """A client of the installation's supervisor; MonitorError when nobody listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # An address has 108 bytes; through its directory's descriptor the path may be of any length.
        directory = os.open(paths.run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{directory}/{os.path.basename(paths.monitor_socket)}")
        finally:
            os.close(directory)
    except OSError as error:
        sock.close()
        raise MonitorError(f"no supervisor at {paths.monitor_socket}: {error.strerror}", hint=_HINT) from None
    return Client(sock)
