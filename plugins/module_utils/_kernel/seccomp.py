# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""seccomp(2): a profile of the OCI runtime-spec compiled by libseccomp, installed by the child."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import struct
from typing import Any, Optional

from .._errors import DependencyError, SpecError
from .libc import oserror, syscall

LIBRARY = "libseccomp.so.2"
SECCOMP_SET_MODE_FILTER = 1
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}

# seccomp_init(3)
_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_OPS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_NR_SCMP_ERROR = -1
# Actions that let a call through, or tell somebody: with these a call that the profile does not know is not refused.
_LENIENT = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
_X32_BIT = 0x40000000


class scmp_arg_cmp(ctypes.Structure):
    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


class sock_fprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


_library: Optional[ctypes.CDLL] = None
_compiled: dict[str, bytes] = {}


def library() -> ctypes.CDLL:
    global _library  # noqa: PLW0603 - loaded once, by the first profile
    if _library is None:
        try:
            lib = ctypes.CDLL(LIBRARY, use_errno=True)
        except OSError as error:
            raise DependencyError(f"{LIBRARY} can't be loaded: {error}", hint="install libseccomp2") from error
        lib.seccomp_init.restype = ctypes.c_void_p
        lib.seccomp_init.argtypes = (ctypes.c_uint32,)
        lib.seccomp_release.argtypes = (ctypes.c_void_p,)
        lib.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
        lib.seccomp_arch_resolve_name.restype = ctypes.c_uint32
        lib.seccomp_arch_native.restype = ctypes.c_uint32
        lib.seccomp_syscall_resolve_name_arch.argtypes = (ctypes.c_uint32, ctypes.c_char_p)
        lib.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
        lib.seccomp_rule_add_array.argtypes = (
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_void_p,
        )
        _library = lib
    return _library


def version() -> str:
    """Of libseccomp: "2.5.4"."""
    lib = library()
    lib.seccomp_version.restype = ctypes.POINTER(ctypes.c_uint * 3)
    return ".".join(str(number) for number in lib.seccomp_version().contents)


def compile(profile: dict[str, Any]) -> bytes:
    """The BPF program of a linux.seccomp object. Every equal profile is compiled once in a process."""
    key = json.dumps(profile, sort_keys=True)
    if key not in _compiled:
        _compiled[key] = _compile(profile)
    return _compiled[key]


def install(program: bytes, flags: int = 0) -> None:
    """Filter this thread and all that it starts; needs no_new_privs or CAP_SYS_ADMIN. Opens and imports nothing."""
    prog = sock_fprog(len(program) // 8, program)
    if syscall("seccomp", SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(prog)) < 0:
        oserror("seccomp", "SECCOMP_SET_MODE_FILTER")


def _compile(profile: dict[str, Any]) -> bytes:
    lib = library()
    default = _action(profile, "defaultAction", "defaultErrnoRet", "linux.seccomp")
    context = lib.seccomp_init(default)
    if not context:
        raise SpecError("linux.seccomp.defaultAction", f"{profile.get('defaultAction')} is refused by libseccomp")
    try:
        _add_architectures(lib, context, profile.get("architectures") or [])
        for index, rule in enumerate(profile.get("syscalls") or []):
            _add_rule(lib, context, rule, default, f"linux.seccomp.syscalls[{index}]")
        return _newer_calls(lib, profile) + _export(lib, context)
    finally:
        lib.seccomp_release(context)


def _action(entry: dict[str, Any], name: str, number: str, field: str) -> int:
    word = entry.get(name, "")
    if word == "SCMP_ACT_NOTIFY":
        raise SpecError(f"{field}.{name}", "SCMP_ACT_NOTIFY is not supported: there is no agent that would answer")
    if word not in _ACTIONS:
        raise SpecError(f"{field}.{name}", f"{word!r} is not supported; use {', '.join(sorted(_ACTIONS))}")
    value = _ACTIONS[word]
    if word in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        given = entry.get(number)
        value |= (errno.EPERM if given is None else int(given)) & 0xFFFF
    return value


def _add_architectures(lib: ctypes.CDLL, context: int, names: list[str]) -> None:
    for name in names:
        code = lib.seccomp_arch_add(context, _token(lib, name))
        if code not in (0, -errno.EEXIST):
            raise SpecError("linux.seccomp.architectures", f"{name}: {os.strerror(-code)}")


def _token(lib: ctypes.CDLL, name: str) -> int:
    token = int(lib.seccomp_arch_resolve_name(name[len("SCMP_ARCH_") :].lower().encode()))
    if not name.startswith("SCMP_ARCH_") or not token:
        raise SpecError("linux.seccomp.architectures", f"{name!r} is not an architecture of libseccomp")
    return token


def _newer_calls(lib: ctypes.CDLL, profile: dict[str, Any]) -> bytes:
    """Instructions in front of libseccomp's: ENOSYS for calls beyond the newest that the profile names.

    A libc tries a call of a newer kernel and takes an older one on ENOSYS; the profile's EPERM it would believe.
    """
    if profile.get("defaultAction") in _LENIENT or profile.get("defaultErrnoRet") == errno.ENOSYS:
        return b""
    names = {name.encode() for rule in profile.get("syscalls") or [] for name in rule.get("names") or []}
    tokens = {int(lib.seccomp_arch_native()), *(_token(lib, name) for name in profile.get("architectures") or [])}
    newest = {}
    for token in sorted(tokens):
        numbers = [lib.seccomp_syscall_resolve_name_arch(token, name) for name in names]
        newest[token] = max([number for number in numbers if number < _X32_BIT], default=-1)
    return stub({token: number for token, number in newest.items() if number >= 0})


def stub(newest: dict[int, int]) -> bytes:
    """Classic BPF over struct seccomp_data: nr at 0, arch at 4. libseccomp's own code begins with a load again."""
    code = []
    for left, (arch, number) in zip(range(len(newest) - 1, -1, -1), newest.items()):
        end = 5 * left
        code += [
            (0x15, 0, 4, arch),  # another architecture: the next five
            (0x20, 0, 0, 0),
            (0x35, end + 2, 0, _X32_BIT),  # x32 has an architecture's number of its own only in libseccomp
            (0x25, 0, end + 1, number),
            (0x06, 0, 0, _ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS),
        ]
    head = [(0x20, 0, 0, 4)] if code else []
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in head + code)


def _add_rule(lib: ctypes.CDLL, context: int, rule: dict[str, Any], default: int, field: str) -> None:
    action = _action(rule, "action", "errnoRet", field)
    if action == default:
        return  # libseccomp refuses a rule that says what would happen anyway
    args = rule.get("args") or []
    # Several conditions on one argument are alternatives, which the kernel's filter can't say in one rule.
    indices = [arg["index"] for arg in args]
    batches = [args] if len(set(indices)) == len(indices) else [[arg] for arg in args]
    for name in rule.get("names") or []:
        number = lib.seccomp_syscall_resolve_name(name.encode())
        if number == _NR_SCMP_ERROR:
            continue  # a name that this libseccomp does not know can't be called by it either
        for batch in batches:
            array = (scmp_arg_cmp * max(1, len(batch)))(*[_condition(arg, field) for arg in batch])
            code = lib.seccomp_rule_add_array(context, action, number, len(batch), array)
            if code not in (0, -errno.EEXIST, -errno.EDOM):
                raise SpecError(field, f"{name}: {os.strerror(-code)}")


def _condition(arg: dict[str, Any], field: str) -> scmp_arg_cmp:
    op = _OPS.get(arg.get("op", ""))
    if op is None:
        raise SpecError(f"{field}.args.op", f"{arg.get('op')!r} is not one of {', '.join(sorted(_OPS))}")
    value, second = int(arg.get("value", 0)), int(arg.get("valueTwo") or 0)
    # runtime-spec: for MASKED_EQ, value is the mask and valueTwo the datum
    return scmp_arg_cmp(int(arg["index"]), op, value, second)


def _export(lib: ctypes.CDLL, context: int) -> bytes:
    fd = os.memfd_create("seccomp")
    try:
        code = lib.seccomp_export_bpf(context, fd)
        if code < 0:
            oserror("seccomp_export_bpf", code=-code)
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
