# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parent and child talk: one message a packet, JSON, over a socket pair."""

from __future__ import annotations

import errno as errnos
import json
import os
import socket
from typing import Any

from .._errors import KernelError, StartError, VesselError

_PACKET = 1 << 16


class Channel:
    """One end. A packet is a message; an end that is closed reads as None."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        return cls(ends[0]), cls(ends[1])

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, **message: Any) -> None:
        self.sock.send(json.dumps(message).encode()[:_PACKET])

    def receive(self) -> dict[str, Any] | None:
        try:
            data = self.sock.recv(_PACKET)
        except ConnectionResetError:  # closed with something of ours unread
            return None
        return dict(json.loads(data)) if data else None

    def close(self) -> None:
        self.sock.close()


def failure(step: str, error: BaseException) -> dict[str, Any]:
    """A child's error as a message: the step, what was said of it, errno."""
    if isinstance(error, KernelError):
        return {"step": step, "message": error.message, "errno": error.errno, "hint": error.hint}
    if isinstance(error, OSError) and error.errno:
        name = errnos.errorcode.get(error.errno, str(error.errno))
        where = f"{error.filename}: " if error.filename else ""
        return {
            "step": step,
            "message": f"{where}{os.strerror(error.errno)} [{name}]",
            "errno": error.errno,
            "hint": "",
        }
    if isinstance(error, StartError):
        return {"step": step, "message": error.message, "errno": error.errno, "hint": error.hint, "whole": True}
    if isinstance(error, VesselError):
        return {"step": step, "message": error.message, "errno": 0, "hint": error.hint}
    return {"step": step, "message": f"{type(error).__name__}: {error}", "errno": 0, "hint": ""}


def raised(message: dict[str, Any]) -> StartError:
    """The same on the other side."""
    step, text = message["step"], message["message"]
    # An error that was raised with the whole sentence, or that is named as its step, needs no second name.
    whole = message.get("whole") or text.startswith(step.split(" ", maxsplit=1)[0])
    sentence = text if whole else f"{step}: {text}"
    return StartError(sentence, step=step, errno=message["errno"], hint=message["hint"])
