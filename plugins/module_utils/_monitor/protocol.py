# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor's protocol: a JSON object a line, over a unix stream socket.

Request ``{"id": n, "op": ..., ...}``, reply ``{"id": n, "ok": true, ...}`` or ``{"id": n, "ok": false, "error": ...}``
with type, message and hint of the error. Replies come in the order in which the work ends.
"""

from __future__ import annotations

import json
import signal
from typing import Any, Optional

from .. import _errors
from .._errors import MonitorError, VesselError

# Requests are small; who sends more without a newline is not a client of ours.
REQUEST_LIMIT = 1 << 16
# What travels of an error beside its sentence, so that the other side can tell cases apart.
_FIELDS = ("errno", "step", "kind", "name", "field", "option", "problem", "operation", "obj")

# Numbers that a request may carry: from where to where, and what they are. Only seconds may have a fraction.
_NUMBERS = {"timeout": (0, 10**9, "seconds"), "signal": (1, int(signal.SIGRTMAX), "the number of a signal")}

Message = dict[str, Any]


def encode(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    try:
        message = json.loads(line)
    except ValueError as error:
        raise MonitorError(f"message is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise MonitorError("message is not an object")
    return message


def check_numbers(request: Message) -> None:
    """Raise MonitorError for a number that can't be: JSON as Python reads it has NaN, Infinity and no bounds, and a
    timer that is never due, or a heap of timers that nothing can be compared with, would be felt by every container."""
    for key, (least, most, what) in _NUMBERS.items():
        value = request.get(key)
        whole = isinstance(value, int) and not isinstance(value, bool)
        number = whole or (isinstance(value, float) and key == "timeout")
        # A NaN is neither more nor less than anything.
        if value is not None and not (number and least <= value <= most):
            shown = repr(value)[:40]
            raise MonitorError(f"{request.get('op')}: {key}: {shown} is not {what}; use {least} to {most}")


class Lines:
    """Bytes as they come, lines as they are complete."""

    def __init__(self, limit: Optional[int] = None) -> None:
        self._limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._limit is not None and max(map(len, [*lines, self._rest])) > self._limit:
            raise MonitorError(f"line is longer than {self._limit} bytes")
        return lines


def error_to_message(error: BaseException) -> Message:
    """An error as a reply's ``error``."""
    if isinstance(error, VesselError):
        found = {key: getattr(error, key, None) for key in _FIELDS}
        extra = {key: value for key, value in found.items() if isinstance(value, (str, int))}
        return {"type": type(error).__name__, "message": error.message, "hint": error.hint, **extra}
    if isinstance(error, OSError) and error.errno:
        where = f"{error.filename}: " if error.filename else ""
        return {"type": "MonitorError", "message": f"{where}{error.strerror}", "hint": "", "errno": error.errno}
    return {"type": "MonitorError", "message": f"{type(error).__name__}: {error}", "hint": ""}


def error_from_message(message: Message) -> VesselError:
    """The same type with the same sentence. Its constructor would make the sentence again from other arguments."""
    kind = getattr(_errors, str(message.get("type")), MonitorError)
    if not (isinstance(kind, type) and issubclass(kind, VesselError)):
        kind = MonitorError
    error: VesselError = kind.__new__(kind)
    VesselError.__init__(error, str(message.get("message")), hint=str(message.get("hint") or ""))
    for key in _FIELDS:
        if key in message:
            setattr(error, key, message[key])
    if isinstance(error, _errors.StartError) and not hasattr(error, "errno"):
        error.errno, error.step = 0, ""
    return error
