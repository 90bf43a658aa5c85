# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One client: its requests come in as lines, its replies go out when they are ready, in any order."""

from __future__ import annotations

import socket
import struct
from typing import Any, Callable

from .._errors import MonitorError
from .loop import READ, WRITE, Loop
from .protocol import REQUEST_LIMIT, Lines, Message, decode, encode, error_to_message

IN_FLIGHT_LIMIT = 10_000
# A client that asks and never reads must not fill our memory.
UNREAD_LIMIT = 16 << 20


class Reply:
    """The way back to one request; what is said after the first time, or to a client that left, is not heard."""

    def __init__(self, connection: Connection, number: Any) -> None:
        self._connection = connection
        self._number = number
        self._open = True

    @property
    def wanted(self) -> bool:
        """Does the client still wait?"""
        return self._open and self._connection.open

    def ok(self, **fields: Any) -> None:
        self._say({"id": self._number, "ok": True, **fields})

    def error(self, error: BaseException) -> None:
        self._say({"id": self._number, "ok": False, "error": error_to_message(error)})

    def _say(self, message: Message) -> None:
        if self._open:
            self._open = False
            self._connection.answered(message)


class Connection:
    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        request: Callable[[Message, Reply], None],
        closed: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._request = request
        self._closed = closed
        self._lines = Lines(REQUEST_LIMIT)
        self._out = bytearray()
        self._in_flight = 0
        self.open = True
        sock.setblocking(False)
        loop.watch(sock.fileno(), self._ready)

    def _ready(self) -> None:
        if self._out:
            self._flush()
        if not self.open:
            return
        try:
            data = self._sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            for line in self._lines.feed(data):
                self._one(line)
        except MonitorError as error:
            # Where one line can't be understood, the next can't be trusted to be one.
            self.answered({"id": None, "ok": False, "error": error_to_message(error)})
            self.close()

    def _one(self, line: bytes) -> None:
        if not line.strip() or not self.open:
            return
        message = decode(line)
        self._in_flight += 1
        reply = Reply(self, message.get("id"))
        if self._in_flight > IN_FLIGHT_LIMIT:
            reply.error(MonitorError(f"more than {IN_FLIGHT_LIMIT} requests wait for an answer"))
            return
        self._request(message, reply)

    def answered(self, message: Message) -> None:
        self._in_flight -= 1
        if not self.open:
            return
        self._out += encode(message)
        self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                sent = self._sock.send(self._out)
                del self._out[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if len(self._out) > UNREAD_LIMIT:
            self.close()
            return
        self._loop.change(self._sock.fileno(), READ | WRITE if self._out else READ)

    def close(self) -> None:
        if self.open:
            self.open = False
            self._loop.unwatch(self._sock.fileno())
            self._sock.close()
            self._closed(self)


def peer_uid(sock: socket.socket) -> int:
    """Who connected (SO_PEERCRED of unix(7)): the kernel's word, not the client's."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", data)[1])
