# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sd-bus(3): method calls on the system bus by systemd's own library. A container costs a message, not a program."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from typing import Any, Optional

from .._errors import BusError, DependencyError

LIBRARY = "libsystemd.so.0"
_TIMEOUT = 25_000_000  # microseconds; what D-Bus has by default
# The connection is not, or no more, ours: closed by the other side, or made before a fork.
_BROKEN = (errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE, errno.ESTALE, errno.ECHILD)
# What the library itself finds wrong it calls by errno (sd_bus_error_set_errno(3)).
_OWN = "System.Error."
_NUMBERS = {"b": ctypes.c_int, "u": ctypes.c_uint32, "t": ctypes.c_uint64}


class sd_bus_error(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("message", ctypes.c_char_p), ("need_free", ctypes.c_int)]


_library: Optional[ctypes.CDLL] = None


def library() -> ctypes.CDLL:
    global _library  # noqa: PLW0603 - loaded once, by the first call
    if _library is None:
        try:
            lib = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise DependencyError(f"{LIBRARY} can't be loaded: {error}", hint="install libsystemd0") from error
        pointer, text = ctypes.c_void_p, ctypes.c_char_p
        lib.sd_bus_open_system.argtypes = (ctypes.POINTER(pointer),)
        lib.sd_bus_flush_close_unref.argtypes = (pointer,)
        lib.sd_bus_flush_close_unref.restype = pointer
        lib.sd_bus_message_new_method_call.argtypes = (pointer, ctypes.POINTER(pointer), text, text, text, text)
        lib.sd_bus_message_append_basic.argtypes = (pointer, ctypes.c_char, pointer)
        lib.sd_bus_message_open_container.argtypes = (pointer, ctypes.c_char, text)
        lib.sd_bus_message_close_container.argtypes = (pointer,)
        lib.sd_bus_message_unref.argtypes = (pointer,)
        lib.sd_bus_message_unref.restype = pointer
        lib.sd_bus_call.argtypes = (pointer, pointer, ctypes.c_uint64, ctypes.POINTER(sd_bus_error), pointer)
        lib.sd_bus_error_free.argtypes = (ctypes.POINTER(sd_bus_error),)
        lib.sd_bus_error_free.restype = None
        _library = lib
    return _library


class Bus:
    """The system bus, connected at the first call and again when that connection breaks."""

    def __init__(self) -> None:
        self._bus = ctypes.c_void_p()

    def call(
        self, destination: str, path: str, interface: str, member: str, signature: Sequence[str], *values: Any
    ) -> None:
        """Call a method, and wait until it has returned; its result is not looked at.

        ``signature`` has a D-Bus type for each value: s, b, u, t, v, arrays and structs of them. The value of a
        variant is (type, value). BusError when the answer is an error, or none comes.
        """
        target = [text.encode() for text in (destination, path, interface, member)]
        for attempt in range(2):
            code, error = self._try(target, list(zip(signature, values)))
            if code >= 0:
                return
            if error is not None and error.name:
                raise error
            self.close()
            if -code not in _BROKEN or attempt:
                raise error or BusError("", f"{member} over the system bus: {_errno(code)}", hint="does dbus run?")

    def _try(self, target: list[bytes], values: list[tuple[str, Any]]) -> tuple[int, Optional[BusError]]:
        lib = library()
        if not self._bus:
            code = lib.sd_bus_open_system(ctypes.byref(self._bus))
            if code < 0:
                return code, BusError(
                    "", f"the system bus does not answer: {_errno(code)}", hint="is dbus there, and running?"
                )
        message, answer = ctypes.c_void_p(), sd_bus_error()
        code = lib.sd_bus_message_new_method_call(self._bus, ctypes.byref(message), *target)
        try:
            if code >= 0:
                for kind, value in values:
                    _append(message, kind, value)
                code = lib.sd_bus_call(self._bus, message, _TIMEOUT, ctypes.byref(answer), None)
            name = (answer.name or b"").decode()
            if not name or name.startswith(_OWN):
                return code, None
            return code, BusError(name, (answer.message or b"").decode("utf-8", "replace"))
        finally:
            lib.sd_bus_error_free(ctypes.byref(answer))
            lib.sd_bus_message_unref(message)

    def close(self) -> None:
        library().sd_bus_flush_close_unref(self._bus)
        self._bus = ctypes.c_void_p()


def _append(message: ctypes.c_void_p, kind: str, value: Any) -> None:
    """One value of a complete type, as sd_bus_message_append(3) would."""
    lib = library()
    if kind == "s":
        _check(lib.sd_bus_message_append_basic(message, b"s", value.encode()))
    elif kind in _NUMBERS:
        _check(lib.sd_bus_message_append_basic(message, kind.encode(), ctypes.byref(_NUMBERS[kind](value))))
    elif kind == "v":
        _append_all(message, b"v", value[0], [value])
    elif kind[0] == "a":
        _append_all(message, b"a", kind[1:], [(kind[1:], item) for item in value])
    else:  # a struct, whose members have types of one letter
        _append_all(message, b"r", kind[1:-1], list(zip(kind[1:-1], value)))


def _append_all(message: ctypes.c_void_p, container: bytes, content: str, values: list[tuple[str, Any]]) -> None:
    _check(library().sd_bus_message_open_container(message, container, content.encode()))
    for kind, value in values:
        _append(message, kind, value)
    _check(library().sd_bus_message_close_container(message))


def _check(code: int) -> None:
    if code < 0:
        raise BusError("", f"the message can't be made: {_errno(code)}")


def _errno(code: int) -> str:
    return f"{os.strerror(-code)} [{errno.errorcode.get(-code, -code)}]"
