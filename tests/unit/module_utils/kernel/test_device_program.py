# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The BPF program for devices against what its rules say, for every kind of access."""

from __future__ import annotations

import itertools
import struct

import pytest
from ansible_collections.vessel.host.plugins.module_utils._kernel.bpf import device_program

KINDS = {"b": 1, "c": 2}
BITS = {"m": 1, "r": 2, "w": 4}


def run(program: bytes, kind: str, access: str, major: int, minor: int) -> int:
    """The few instructions that the program is made of, as bpf/standardization/instruction-set.rst has them."""
    context = struct.pack("<III", KINDS[kind] | sum(BITS[letter] for letter in access) << 16, major, minor)
    registers = [0] * 11
    code = list(struct.iter_unpack("<BBhi", program))
    at = 0
    while True:
        opcode, operands, offset, immediate = code[at]
        to, source = operands & 15, operands >> 4
        at += 1
        if opcode == 0x95:
            return registers[0]
        if opcode == 0x61:
            registers[to] = struct.unpack_from("<I", context, offset)[0]
        elif opcode == 0xB7:
            registers[to] = immediate
        elif opcode == 0xBC:
            registers[to] = registers[source] & 0xFFFFFFFF
        elif opcode == 0x54:
            registers[to] &= immediate & 0xFFFFFFFF
        elif opcode == 0x74:
            registers[to] >>= immediate
        elif opcode == 0x55:
            at += offset if registers[to] != immediate else 0
        elif opcode == 0x15:
            at += offset if registers[to] == immediate else 0
        elif opcode == 0x5D:
            at += offset if registers[to] != registers[source] else 0
        else:
            raise ValueError(f"unknown instruction {opcode:#x}")


def declared(rules, kind: str, access: str, major: int, minor: int) -> bool:
    """The last rule that speaks of it; an allowing one must cover all that is asked, a denying one any of it."""
    for rule in reversed(rules):
        if rule.get("type", "a") not in ("a", kind):
            continue
        if rule.get("major", -1) not in (-1, major) or rule.get("minor", -1) not in (-1, minor):
            continue
        letters = set(rule.get("access", "rwm"))
        if set(access) <= letters if rule["allow"] else set(access) & letters:
            return rule["allow"]
    return False


DENY, ALLOW = {"allow": False}, {"allow": True}
FUSE = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}
LISTS = [
    [],
    [DENY],
    [ALLOW],
    [DENY, FUSE],
    [DENY, FUSE, {**FUSE, "allow": False, "access": "w"}],
    [ALLOW, {**FUSE, "allow": False}],
    [DENY, {"allow": True, "type": "c", "access": "m"}, {"allow": True, "type": "b", "access": "m"}],
    [
        DENY,
        {"allow": True, "type": "c", "major": 136},
        {"allow": True, "type": "b", "major": 8, "minor": 0, "access": "r"},
    ],
    [FUSE, DENY, {"allow": True, "type": "c", "major": 10, "access": "r"}],
]
ASKED = list(itertools.product("bc", ("m", "r", "w", "rw"), ((8, 0), (8, 1), (10, 229), (10, 1), (136, 5), (1, 3))))


@pytest.mark.parametrize("rules", LISTS, ids=range(len(LISTS)))
def test_the_program_answers_as_the_rules(rules):
    program = device_program(rules)
    for kind, access, (major, minor) in ASKED:
        asked = (kind, access, major, minor)
        assert run(program, *asked) == declared(rules, *asked), asked
