# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bpf(2): the device filter of a cgroup v2."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Any

from .libc import oserror, syscall

BPF_PROG_LOAD = 5
BPF_PROG_ATTACH = 8
BPF_PROG_DETACH = 9
BPF_PROG_GET_FD_BY_ID = 13
BPF_PROG_QUERY = 16
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2

# struct bpf_cgroup_dev_ctx: access_type (kind in the low half, access in the high one), major, minor
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_LDX_W, _MOV_REG32, _MOV_IMM, _AND_IMM32, _RSH_IMM32, _JNE_IMM, _JNE_REG, _EXIT = (
    0x61,
    0xBC,
    0xB7,
    0x54,
    0x74,
    0x55,
    0x5D,
    0x95,
)


def _insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    return struct.pack("<BBhi", code, src << 4 | dst, off, imm)


def device_program(rules: list[dict[str, Any]]) -> bytes:
    """A program that answers as the rules do, where a later rule overrides an earlier one; without any, no.

    r2 is the kind, r3 the access, r4 and r5 the numbers.
    """
    program = b"".join(
        (
            _insn(_LDX_W, 2, 1, 0),
            _insn(_AND_IMM32, 2, imm=0xFFFF),
            _insn(_LDX_W, 3, 1, 0),
            _insn(_RSH_IMM32, 3, imm=16),
            _insn(_LDX_W, 4, 1, 4),
            _insn(_LDX_W, 5, 1, 8),
        )
    )
    for rule in reversed(rules):
        block, final = _rule(rule)
        program += block
        if final:
            return program
    return program + _insn(_MOV_IMM, 0, imm=0) + _insn(_EXIT)


def _rule(rule: dict[str, Any]) -> tuple[bytes, bool]:
    """The rule's instructions, and whether it decides everything that reaches it."""
    allow, kind = bool(rule.get("allow")), rule.get("type") or "a"
    access = sum(_ACCESS[letter] for letter in rule.get("access") or "rwm")
    tests: list[tuple[bytes, ...]] = []
    if kind != "a":
        tests.append((_insn(_JNE_IMM, 2, imm=_TYPES[kind]),))
    if access != 7:
        # An allowing rule must cover all of what is asked; a denying one, any of it.
        if allow:
            tests.append((_insn(_MOV_REG32, 1, 3), _insn(_AND_IMM32, 1, imm=access), _insn(_JNE_REG, 1, 3)))
        else:
            tests.append((_insn(_MOV_REG32, 1, 3), _insn(_AND_IMM32, 1, imm=access), _insn(0x15, 1, imm=0)))
    for key, register in (("major", 4), ("minor", 5)):
        if rule.get(key) not in (None, -1):
            tests.append((_insn(_JNE_IMM, register, imm=int(rule[key])),))
    verdict = _insn(_MOV_IMM, 0, imm=int(allow)) + _insn(_EXIT)
    block = verdict
    for test in reversed(tests):
        jump = test[-1][:2] + struct.pack("<h", len(block) // 8) + test[-1][4:]
        block = b"".join(test[:-1]) + jump + block
    return block, not tests


def _bpf(command: int, data: bytes, what: str) -> int:
    attr = ctypes.create_string_buffer(data, max(len(data), 128))
    result = syscall("bpf", command, ctypes.cast(attr, ctypes.c_void_p), len(attr))
    if result < 0:
        oserror("bpf", what)
    return result


def _load(program: bytes) -> int:
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"GPL")
    data = struct.pack(
        "<IIQQ", BPF_PROG_TYPE_CGROUP_DEVICE, len(program) // 8, ctypes.addressof(code), ctypes.addressof(licence)
    )
    return _bpf(BPF_PROG_LOAD, data, "BPF_PROG_LOAD")


def attached_device_programs(group: int) -> list[int]:
    """Ids of the device programs on the cgroup that ``group`` is open on."""
    ids = (ctypes.c_uint32 * 64)()
    data = struct.pack("<IIIIQI", group, BPF_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), 64)
    attr = ctypes.create_string_buffer(data, 128)
    if syscall("bpf", BPF_PROG_QUERY, ctypes.cast(attr, ctypes.c_void_p), len(attr)) < 0:
        oserror("bpf", "BPF_PROG_QUERY")
    return list(ids[: struct.unpack_from("<I", attr.raw, 24)[0]])


def replace_device_program(group: int, program: bytes) -> None:
    """Attach the program and take the older ones off; in between both must agree, so nothing opens that should not."""
    older = attached_device_programs(group)
    fd = _load(program)
    try:
        data = struct.pack("<IIII", group, fd, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI)
        _bpf(BPF_PROG_ATTACH, data, "BPF_PROG_ATTACH")
    finally:
        os.close(fd)
    for number in older:
        old = _bpf(BPF_PROG_GET_FD_BY_ID, struct.pack("<I", number), "BPF_PROG_GET_FD_BY_ID")
        try:
            _bpf(BPF_PROG_DETACH, struct.pack("<III", group, old, BPF_CGROUP_DEVICE), "BPF_PROG_DETACH")
        finally:
            os.close(old)
