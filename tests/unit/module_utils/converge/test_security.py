# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The default policy: what a container may when nothing is declared, and what a capability opens."""

from __future__ import annotations

import platform

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge.container import security
from ansible_collections.vessel.host.plugins.module_utils._errors import DependencyError
from ansible_collections.vessel.host.plugins.module_utils._kernel import caps, seccomp
from ansible_collections.vessel.host.tests.unit.module_utils.kernel.classic_bpf import (
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

NR = {
    "socket": 41, "clone": 56, "fork": 57, "ptrace": 101, "syslog": 103, "personality": 135, "mount": 165,
    "umount2": 166,
    "reboot": 169, "init_module": 175, "settimeofday": 164, "clock_settime": 227, "keyctl": 250, "unshare": 272,
    "open_by_handle_at": 304, "setns": 308, "finit_module": 313, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "clone3": 435, "pivot_root": 155, "kexec_load": 246,
    "perf_event_open": 298, "add_key": 248, "acct": 163, "swapon": 167, "iopl": 172, "quotactl": 179,
}  # fmt: skip
OFTEN = {
    "read": 0, "write": 1, "openat": 257, "close": 3, "mmap": 9, "brk": 12, "rt_sigaction": 13, "ioctl": 16,
    "execve": 59,
    "exit_group": 231, "wait4": 61, "futex": 202, "epoll_wait": 232, "epoll_pwait2": 441, "accept4": 288, "setuid": 105,
    "setgroups": 116, "chown": 92, "chroot": 161, "prctl": 157, "getrandom": 318, "memfd_create": 319, "statx": 332,
    "rseq": 334, "io_submit": 209, "fallocate": 285, "copy_file_range": 326, "sendfile": 40, "shmget": 29, "flock": 73,
    "prlimit64": 302, "sched_setaffinity": 203, "mlock": 149, "inotify_init1": 294, "timerfd_create": 283,
    "capset": 126,
    "faccessat2": 439, "close_range": 436, "openat2": 437, "pidfd_open": 434, "landlock_restrict_self": 446,
}  # fmt: skip


def program(*added: str) -> bytes:
    return seccomp.compile(security.seccomp_profile({*security.DEFAULT_CAPS, *added}))


@pytest.mark.parametrize("name", OFTEN)
def test_programs_may_do_their_work(name):
    assert answer(program(), X86_64, OFTEN[name]) == ALLOW


@pytest.mark.parametrize("name", sorted(set(NR) - {"socket", "clone", "fork", "ptrace", "personality", "clone3"}))
def test_what_reaches_beyond_the_container_is_refused(name):
    assert answer(program(), X86_64, NR[name]) == errno(1)


@pytest.mark.parametrize(
    ("capability", "names"),
    [
        (
            "CAP_SYS_ADMIN",
            ["mount", "umount2", "unshare", "setns", "pivot_root", "open_tree", "move_mount", "fsopen", "bpf"],
        ),
        ("CAP_SYS_MODULE", ["init_module", "finit_module"]),
        ("CAP_SYS_TIME", ["settimeofday", "clock_settime"]),
        ("CAP_SYS_BOOT", ["reboot", "kexec_load"]),
        ("CAP_DAC_READ_SEARCH", ["open_by_handle_at"]),
        ("CAP_SYSLOG", ["syslog"]),
        ("CAP_BPF", ["bpf"]),
        ("CAP_PERFMON", ["perf_event_open"]),
        ("CAP_SYS_PACCT", ["acct"]),
        ("CAP_SYS_RAWIO", ["iopl"]),
    ],
)
def test_a_capability_opens_its_calls_and_no_others(capability, names):
    opened = {name for name in NR if answer(program(capability), X86_64, NR[name]) == ALLOW}
    before = {name for name in NR if answer(program(), X86_64, NR[name]) == ALLOW}
    more = {"perf_event_open", "quotactl", "clone3"} if capability == "CAP_SYS_ADMIN" else set()
    assert opened - before == set(names) | more


@pytest.mark.parametrize("capability", ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_MKNOD"])
def test_others_open_nothing(capability):
    assert program(capability) == program()


NAMESPACES = [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000]


@pytest.mark.parametrize("flag", NAMESPACES)
def test_no_new_namespace_by_clone(flag):
    assert answer(program(), X86_64, NR["clone"], flag | 17) == errno(1)
    assert answer(program("CAP_SYS_ADMIN"), X86_64, NR["clone"], flag | 17) == ALLOW


def test_threads_and_processes_by_clone():
    threads = 0x3D0F00  # what a libc asks for a thread
    assert answer(program(), X86_64, NR["clone"], threads) == answer(program(), X86_64, NR["clone"], 0x1200011) == ALLOW
    assert answer(program(), X86_64, NR["clone3"]) == errno(38)


def test_no_socket_to_the_hypervisor_in_either_word_size():
    for family, expected in ((1, ALLOW), (2, ALLOW), (10, ALLOW), (16, ALLOW), (40, errno(1))):
        assert answer(program(), X86_64, NR["socket"], family) == expected
        assert answer(program(), I386, 359, family) == expected
    assert answer(program(), I386, 102, 1) == errno(38)  # socketcall hides the family


@pytest.mark.parametrize(("value", "expected"), [(0, ALLOW), (8, ALLOW), (0xFFFFFFFF, ALLOW), (0x0040000, errno(1))])
def test_personality_does_not_turn_off_randomisation(value, expected):
    assert answer(program(), X86_64, NR["personality"], value) == expected


def test_calls_of_tomorrow_are_unknown_and_other_architectures_end():
    assert answer(program(), X86_64, 600) == errno(38)
    assert answer(program(), X86_64, 0x40000000) == KILL


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "riscv64", "armv7l"])
def test_profiles_of_other_machines_compile(machine):
    assert seccomp.compile(security.seccomp_profile(security.DEFAULT_CAPS, machine))


@pytest.mark.parametrize(("machine", "index"), [("x86_64", 0), ("s390x", 1)])
def test_clone_has_its_flags_elsewhere_on_s390(machine, index):
    rules = security.seccomp_profile(security.DEFAULT_CAPS, machine)["syscalls"]
    assert next(rule for rule in rules if rule["names"] == ["clone"])["args"][0]["index"] == index


def test_no_call_is_named_twice():
    groups = [name for group in security._ALLOWED for name in group.split()]
    assert sorted(set(groups)) == sorted(groups)


def test_the_default_capabilities_are_the_kernels_and_few():
    assert set(security.DEFAULT_CAPS) < set(caps.NUMBERS)
    assert not {"CAP_NET_RAW", "CAP_MKNOD", "CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH"} & set(security.DEFAULT_CAPS)


def test_device_rules_are_copies():
    security.device_rules()[0]["allow"] = True
    assert security.device_rules() == [{"allow": False, "access": "rwm"}]
    assert security.device_rules(privileged=True) == [{"allow": True, "access": "rwm"}]


def test_paths_are_absolute_and_different():
    for paths in (security.MASKED_PATHS, security.READONLY_PATHS):
        assert list(paths) == sorted(set(paths))
        assert all(path.startswith(("/proc/", "/sys/")) for path in paths)
