# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a seccomp filter answers, worked out as the kernel does it (networking/filter.rst), without installing it."""

from __future__ import annotations

import struct

X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
ALLOW, KILL = 0x7FFF0000, 0x00000000


def errno(number: int) -> int:
    return 0x00050000 | number


def answer(program: bytes, arch: int, number: int, *args: int) -> int:
    """The action for a call with these arguments."""
    padded = [arg & (1 << 64) - 1 for arg in (*args, 0, 0, 0, 0, 0, 0)][:6]
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *padded)
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator = at = 0
    scratch = [0] * 16
    while True:
        opcode, when, otherwise, k = code[at]
        at += 1
        if opcode == 0x06:  # ret
            return k
        if opcode == 0x20:  # ld [k]
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif opcode == 0x05:  # ja
            at += k
        elif opcode in (0x15, 0x25, 0x35, 0x45):  # jeq, jgt, jge, jset
            tests = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k, 0x45: accumulator & k}
            at += when if tests[opcode] else otherwise
        elif opcode == 0x54:  # and
            accumulator &= k
        elif opcode == 0x02:  # st
            scratch[k] = accumulator
        elif opcode == 0x60:  # ldm
            accumulator = scratch[k]
        else:
            raise ValueError(f"unknown instruction {opcode:#x}")
