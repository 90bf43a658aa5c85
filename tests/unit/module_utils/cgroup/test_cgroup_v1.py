# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of cgroup v1 needs no kernel: the order of limits, device lists, the layout of what is mounted."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cgroup import cpuset, devices, files, manager
from ansible_collections.vessel.host.plugins.module_utils._cgroup.v1 import devices as v1_devices
from ansible_collections.vessel.host.plugins.module_utils._cgroup.v1 import memory
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError

HUGE = 1 << 62


def value(limit):
    return HUGE if limit == -1 else limit


LIMITS = [(100, 100), (100, 200), (150, 300), (200, 200), (300, 600), (100, -1), (-1, -1)]


@pytest.mark.parametrize(("before", "after"), list(itertools.product(LIMITS, LIMITS)))
def test_memory_never_exceeds_memory_and_swap_on_the_way(before, after):
    state = {"limit": value(before[0]), "swap": value(before[1])}
    for name, number in memory.order(after[0], after[1], before[1]):
        state[name] = value(number)
        assert state["limit"] <= state["swap"], f"{before} -> {after}: refused after {name}={number}"
    assert (state["limit"], state["swap"]) == (value(after[0]), value(after[1]))


@pytest.mark.parametrize(
    ("limit", "present", "expected"),
    [
        (100, -1, [("limit", 100)]),
        (100, 200, [("limit", 100)]),
        (300, 200, [("swap", 300), ("limit", 300)]),
        (300, None, [("limit", 300)]),
    ],
)
def test_memory_alone_takes_swap_along_where_it_must(limit, present, expected):
    assert memory.order(limit, None, present) == expected


def simulate(present, writes):
    """The kernel's list after the writes; every allowed node on the way."""
    allow, nodes = present.allow, {node: set(access) for node, access in present.exceptions.items()}
    steps = []
    for verb, line in writes:
        if line == "a":
            allow, nodes = verb == "allow", {}
        else:
            kind, numbers, access = line.split()
            major, minor = (-1 if number == "*" else int(number) for number in numbers.split(":"))
            node = nodes.setdefault((kind, major, minor), set())
            if (verb == "allow") != allow:
                node |= set(access)
            else:
                node -= set(access)
            if not node:
                del nodes[(kind, major, minor)]
        steps.append((allow, {node: set(access) for node, access in nodes.items()}))
    return allow, nodes, steps


DENY = {"allow": False, "access": "rwm"}
ALLOW = {"allow": True, "access": "rwm"}
FUSE = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}
DISK = {"allow": True, "type": "b", "major": 254, "minor": 0, "access": "r"}
LISTS = [
    [DENY],
    [DENY, FUSE],
    [DENY, FUSE, DISK],
    [DENY, {**FUSE, "access": "r"}],
    [ALLOW],
    [ALLOW, {**DISK, "allow": False}],
]


@pytest.mark.parametrize(("before", "after"), list(itertools.product(LISTS, LISTS)))
def test_device_changes_lead_to_the_list_and_keep_what_stays(before, after):
    present = devices.state([*before, *devices.default_rules(before)])
    wanted = devices.state([*after, *devices.default_rules(after)])
    allow, nodes, steps = simulate(present, v1_devices.changes(present, wanted))
    assert (allow, nodes) == (wanted.allow, wanted.exceptions)
    if not present.allow and not wanted.allow:
        for dummy, between in steps:
            for node in set(present.exceptions) & set(wanted.exceptions):
                assert between[node] >= present.exceptions[node] & wanted.exceptions[node]


def test_the_same_device_list_writes_nothing():
    present = v1_devices.parse("c *:* m\nb *:* m\nc 1:3 rwm\nc 136:* rwm")
    assert v1_devices.changes(present, present) == []


def test_device_list_of_everything():
    assert v1_devices.parse("a *:* rwm").allow


def test_u_is_a_character_device():
    assert devices.kind({"type": "u"}) == "c"
    assert devices.kind({}) == "a"


def test_a_disk_is_not_among_what_everyone_has():
    wanted = devices.state([DENY, *devices.default_rules([DENY])])
    assert wanted.exceptions[("b", -1, -1)] == {"m"}
    assert wanted.exceptions[("c", 1, 3)] == set("rwm")
    assert ("c", 1, 1) not in wanted.exceptions


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", "0"), ("1,0", "0-1"), ("0-2,7", "0-2,7"), ("7,0,1,2", "0-2,7"), ("", ""), ("0-31:2/4", "0-31:2/4")],
)
def test_cpuset_lists_as_the_kernel_prints_them(text, expected):
    assert cpuset.canonical(text) == expected


def test_cpuset_hint_names_the_cores_and_the_parent():
    assert cpuset.outside("0,5-6", "0-1") == "5-6 not in the parent's '0-1'"
    assert cpuset.outside("0", "0-1") == ""
    assert cpuset.outside("x", "0-1") == "it is no list such as 0-2,7"


@pytest.fixture
def hybrid(tmp_path):
    for name in ("memory", "cpu,cpuacct", "pids", "systemd", "unified", "elogind"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    (tmp_path / "unified" / "cgroup.controllers").touch()
    (tmp_path / "cpu").symlink_to("cpu,cpuacct")
    (tmp_path / "cpuacct").symlink_to("cpu,cpuacct")
    (tmp_path / "empty").mkdir()
    yield tmp_path
    manager._layouts.pop(str(tmp_path), None)


def test_layout_of_a_hybrid_host(hybrid):
    both = str(hybrid / "cpu,cpuacct")
    assert manager.layout(str(hybrid)) == {
        "cpu": both,
        "cpuacct": both,
        "memory": str(hybrid / "memory"),
        "pids": str(hybrid / "pids"),
        "=systemd": str(hybrid / "systemd"),
        "=unified": str(hybrid / "unified"),
    }
    directories = manager.open_manager("/x", root=str(hybrid)).directories()
    assert directories.count(f"{both}/x") == 1
    assert len(directories) == 5


def test_the_layout_is_looked_at_once(hybrid):
    first = manager.layout(str(hybrid))
    (hybrid / "memory" / "cgroup.procs").unlink()
    assert manager.layout(str(hybrid)) is first


def test_a_controller_that_is_not_mounted_is_named(hybrid):
    with pytest.raises(KernelError, match=r"\(the controller hugetlb is not mounted on this host\)"):
        manager.open_manager("/x", root=str(hybrid)).apply({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]})


def test_no_hierarchy_at_all(tmp_path):
    with pytest.raises(KernelError, match=r"find a cgroup hierarchy at .*\(mount cgroup2 there\)"):
        manager.open_manager("/x", root=str(tmp_path / "nothing"))


def test_an_error_names_value_and_file(tmp_path):
    with pytest.raises(
        KernelError, match=r"write 4096 to .*/memory\.limit_in_bytes: No such file or directory \[ENOENT\]"
    ):
        files.write(f"{tmp_path}/memory.limit_in_bytes", 4096)


@pytest.mark.parametrize(("text", "number"), [("max", -1), ("9223372036854771712", -1), ("4096", 4096), ("-1", -1)])
def test_numbers(tmp_path, text, number):
    (tmp_path / "n").write_text(text + "\n")
    assert files.read_number(f"{tmp_path}/n") == number


def test_long_files_are_read_whole(tmp_path):
    for size in (4095, 4096, 4097, 200000):
        (tmp_path / "n").write_text("x" * size)
        assert len(files.read(f"{tmp_path}/n")) == size
