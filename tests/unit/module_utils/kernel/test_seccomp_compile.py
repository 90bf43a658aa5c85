# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""linux.seccomp as a program: what it answers to calls, and what is refused before there is one."""

from __future__ import annotations

import platform

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import DependencyError, SpecError
from ansible_collections.vessel.host.plugins.module_utils._kernel import seccomp
from ansible_collections.vessel.host.tests.unit.module_utils.kernel.classic_bpf import (
    AARCH64,
    ALLOW,
    I386,
    KILL,
    X86_64,
    answer,
    errno,
)

try:
    seccomp.library()
except DependencyError as missing:
    pytest.skip(str(missing), allow_module_level=True)
if platform.machine() != "x86_64":
    pytest.skip("the numbers are those of x86_64", allow_module_level=True)

READ, WRITE, SOCKET, CLONE, MOUNT = 0, 1, 41, 56, 165
BOTH = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]


def profile(*rules, default="SCMP_ACT_ERRNO", **more):
    return {"defaultAction": default, "syscalls": list(rules), **more}


def rule(*names, action="SCMP_ACT_ALLOW", args=(), **more):
    return {"names": list(names), "action": action, "args": list(args), **more}


def arg(index, op, value, second=0):
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": second}


def test_what_is_named_is_allowed_and_the_rest_refused():
    program = seccomp.compile(profile(rule("read", "mount")))
    assert answer(program, X86_64, READ) == ALLOW
    assert answer(program, X86_64, WRITE) == errno(1)
    assert answer(program, AARCH64, READ) == KILL


@pytest.mark.parametrize(
    ("word", "action"),
    [
        ("SCMP_ACT_KILL", 0x00000000),
        ("SCMP_ACT_KILL_THREAD", 0x00000000),
        ("SCMP_ACT_KILL_PROCESS", 0x80000000),
        ("SCMP_ACT_TRAP", 0x00030000),
        ("SCMP_ACT_ERRNO", 0x00050001),
        ("SCMP_ACT_TRACE", 0x7FF00001),
        ("SCMP_ACT_LOG", 0x7FFC0000),
    ],
)
def test_actions(word, action):
    program = seccomp.compile(profile(rule("mount", action=word), default="SCMP_ACT_ALLOW"))
    assert answer(program, X86_64, MOUNT) == action
    assert answer(program, X86_64, READ) == ALLOW
    assert answer(program, X86_64, 100000) == ALLOW


def test_errno_is_the_given_one():
    refused = rule("mount", action="SCMP_ACT_ERRNO", errnoRet=13)
    program = seccomp.compile(profile(rule("read"), refused, defaultErrnoRet=22))
    assert (answer(program, X86_64, MOUNT), answer(program, X86_64, WRITE)) == (errno(13), errno(22))


OPS = [
    ("NE", 5, 0, [4, 6], [5]),
    ("LT", 5, 0, [0, 4], [5, 1 << 40]),
    ("LE", 5, 0, [0, 5], [6, 1 << 40]),
    ("EQ", 5, 0, [5], [4, 5 + (1 << 32)]),
    ("GE", 5, 0, [5, 1 << 40], [4]),
    ("GT", 5, 0, [6, 1 << 40], [5]),
    ("MASKED_EQ", 0xF0, 0x20, [0x20, 0x2F, 0x120], [0x30, 0x00]),
]


@pytest.mark.parametrize(("op", "value", "second", "yes", "no"), OPS, ids=[case[0] for case in OPS])
def test_comparisons(op, value, second, yes, no):
    program = seccomp.compile(profile(rule("write", args=[arg(2, op, value, second)])))
    assert [answer(program, X86_64, WRITE, 0, 0, number) for number in yes] == [ALLOW] * len(yes)
    assert [answer(program, X86_64, WRITE, 0, 0, number) for number in no] == [errno(1)] * len(no)


def test_conditions_on_different_arguments_must_all_hold():
    program = seccomp.compile(profile(rule("write", args=[arg(0, "EQ", 1), arg(2, "EQ", 9)])))
    assert answer(program, X86_64, WRITE, 1, 0, 9) == ALLOW
    assert answer(program, X86_64, WRITE, 1, 0, 8) == errno(1)


def test_conditions_on_one_argument_are_alternatives():
    program = seccomp.compile(profile(rule("write", args=[arg(0, "EQ", 1), arg(0, "EQ", 2)])))
    assert [answer(program, X86_64, WRITE, fd) for fd in (0, 1, 2, 3)] == [errno(1), ALLOW, ALLOW, errno(1)]


def test_sub_architectures_have_their_own_numbers():
    program = seccomp.compile(profile(rule("read"), architectures=BOTH))
    assert answer(program, I386, 3) == ALLOW  # read there
    assert answer(program, I386, 0) == errno(1)
    assert answer(program, X86_64, READ) == ALLOW


def test_unknown_names_are_skipped():
    program = seccomp.compile(profile(rule("read", "no_such_call", "vm86"), architectures=BOTH))
    assert answer(program, X86_64, READ) == ALLOW
    assert answer(program, I386, 166) == ALLOW  # vm86 is i386's alone


def test_a_rule_that_says_the_same_as_the_default_is_no_error():
    program = seccomp.compile(profile(rule("read"), rule("mount", action="SCMP_ACT_ERRNO")))
    assert answer(program, X86_64, MOUNT) == errno(1)


def test_calls_of_newer_kernels_are_unknown_not_forbidden():
    program = seccomp.compile(profile(rule("read", "openat2"), architectures=BOTH))
    assert answer(program, X86_64, 437) == answer(program, I386, 437) == ALLOW  # openat2
    assert answer(program, X86_64, 438) == answer(program, I386, 438) == errno(38)
    assert answer(program, X86_64, WRITE) == answer(program, I386, 4) == errno(1)
    assert answer(program, X86_64, 0x40000000 + READ) == KILL  # x32


@pytest.mark.parametrize("default", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"])
def test_a_lenient_default_stays_lenient(default):
    program = seccomp.compile(profile(rule("mount", action="SCMP_ACT_ERRNO"), default=default))
    assert answer(program, X86_64, 100000) == seccomp._ACTIONS[default]


def test_equal_profiles_are_compiled_once():
    first = profile(rule("read", "write"), defaultErrnoRet=1)
    second = {key: first[key] for key in reversed(first)}
    assert seccomp.compile(first) is seccomp.compile(second)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (profile(default="SCMP_ACT_NOTIFY"), r"linux\.seccomp\.defaultAction: SCMP_ACT_NOTIFY is not supported"),
        (profile(rule("read", action="SCMP_ACT_NOTIFY")), r"linux\.seccomp\.syscalls\[0\]\.action: SCMP_ACT_NOTIFY"),
        (profile(default="ALLOW"), r"linux\.seccomp\.defaultAction: 'ALLOW' is not supported; use SCMP_ACT_ALLOW"),
        (profile(architectures=["SCMP_ARCH_Z80"]), r"architectures: 'SCMP_ARCH_Z80' is not an architecture"),
        (profile(architectures=["x86_64"]), r"architectures: 'x86_64' is not an architecture"),
        (profile(rule("read", args=[arg(0, "LIKE", 1)])), r"syscalls\[0\]\.args\.op: 'SCMP_CMP_LIKE' is not one of"),
        (profile(rule("read", args=[arg(7, "EQ", 1)])), r"syscalls\[0\]: read: Invalid argument"),
    ],
)
def test_what_can_not_be_is_refused_by_field(bad, message):
    with pytest.raises(SpecError, match=message):
        seccomp.compile(bad)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(seccomp, "_library", None)
    monkeypatch.setattr(seccomp, "LIBRARY", "libseccomp-that-is-not-there.so.2")
    with pytest.raises(DependencyError, match=r"can't be loaded.*\(install libseccomp2\)"):
        seccomp.library()
