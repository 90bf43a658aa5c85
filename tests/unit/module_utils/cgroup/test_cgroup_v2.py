# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cgroup v2 against directories that stand for cgroupfs: what is written, in which file, and what is read back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cgroup import manager as managers
from ansible_collections.vessel.host.plugins.module_utils._cgroup.manager import open_manager
from ansible_collections.vessel.host.plugins.module_utils._cgroup.v2 import blkio, cpu, memory
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError

FILES = {
    "cgroup.controllers": "cpuset cpu io memory hugetlb pids",
    "cgroup.subtree_control": "",
    "cgroup.procs": "",
    "cgroup.freeze": "0",
    "cgroup.kill": "",
    "cgroup.events": "populated 0\nfrozen 0",
    "cpu.weight": "100",
    "cpu.idle": "0",
    "cpu.max": "max 100000",
    "cpu.max.burst": "0",
    "cpu.stat": "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\nnr_periods 9\nnr_throttled 4\nthrottled_usec 70",
    "cpu.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3",
    "cpuset.cpus": "",
    "cpuset.mems": "",
    "cpuset.cpus.effective": "0-1",
    "cpuset.mems.effective": "0",
    "memory.max": "max",
    "memory.high": "max",
    "memory.low": "0",
    "memory.min": "0",
    "memory.swap.max": "max",
    "memory.swap.current": "4096",
    "memory.oom.group": "0",
    "memory.current": "8192",
    "memory.peak": "16384",
    "memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1",
    "io.weight": "default 100",
    "io.max": "",
    "io.stat": "8:0 rbytes=100 wbytes=20 rios=1 wios=1\n8:16 rbytes=5 wbytes=1 rios=1 wios=1",
    "hugetlb.2MB.max": "max",
    "hugetlb.2MB.rsvd.max": "max",
    "pids.max": "max",
    "pids.current": "3",
    "pids.events": "max 2",
}


def fill(directory: Path, *without: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        if name not in without:
            (directory / name).write_text(text + "\n")


@pytest.fixture
def root(tmp_path):
    fill(tmp_path)
    yield tmp_path
    managers._layouts.pop(str(tmp_path), None)


@pytest.fixture
def group(root):
    fill(root / "vessel" / "web")
    fill(root / "vessel")
    return root / "vessel" / "web"


@pytest.fixture
def manager(root, group):
    return open_manager("/vessel/web", root=str(root))


WRITES = [
    ({"memory": {"limit": 1 << 20}}, {"memory.max": "1048576"}),
    ({"memory": {"limit": 1 << 20, "swap": 3 << 20}}, {"memory.max": "1048576", "memory.swap.max": "2097152"}),
    ({"memory": {"limit": 1 << 20, "swap": 1 << 20}}, {"memory.max": "1048576", "memory.swap.max": "0"}),
    ({"memory": {"limit": -1}}, {"memory.max": "max", "memory.swap.max": "max"}),
    ({"memory": {"swap": -1}}, {"memory.swap.max": "max"}),
    ({"memory": {"reservation": 4096}}, {"memory.low": "4096"}),
    ({"cpu": {"shares": 1024}}, {"cpu.weight": "39"}),
    ({"cpu": {"shares": 2}}, {"cpu.weight": "1"}),
    ({"cpu": {"shares": 262144}}, {"cpu.weight": "10000"}),
    ({"cpu": {"quota": 50000, "period": 200000}}, {"cpu.max": "50000 200000"}),
    ({"cpu": {"quota": 50000}}, {"cpu.max": "50000 100000"}),
    ({"cpu": {"quota": -1, "period": 100000}}, {"cpu.max": "max 100000"}),
    ({"cpu": {"period": 5000}}, {"cpu.max": "max 5000"}),
    ({"cpu": {"quota": 50000, "burst": 1000}}, {"cpu.max": "50000 100000", "cpu.max.burst": "1000"}),
    ({"cpu": {"idle": 1}}, {"cpu.idle": "1"}),
    ({"cpu": {"cpus": "0-1", "mems": "0"}}, {"cpuset.cpus": "0-1", "cpuset.mems": "0"}),
    ({"cpu": {"cpus": ""}}, {"cpuset.cpus": ""}),
    ({"pids": {"limit": 20}}, {"pids.max": "20"}),
    ({"pids": {"limit": -1}}, {"pids.max": "max"}),
    ({"blockIO": {"weight": 10}}, {"io.weight": "1"}),
    ({"blockIO": {"weight": 1000}}, {"io.weight": "10000"}),
    ({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 99}]}}, {"io.max": "8:0 rbps=99"}),
    ({"blockIO": {"throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}]}}, {"io.max": "8:0 wiops=max"}),
    (
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 2097152}]},
        {"hugetlb.2MB.max": "2097152", "hugetlb.2MB.rsvd.max": "2097152"},
    ),
    ({"unified": {"memory.high": "900", "memory.oom.group": "1"}}, {"memory.high": "900", "memory.oom.group": "1"}),
]


@pytest.mark.parametrize(("resources", "expected"), WRITES, ids=[str(case[0]) for case in WRITES])
def test_apply_writes_the_value_and_nothing_else(manager, group, resources, expected):
    before = {name: (group / name).read_text().strip() for name in FILES}
    manager.apply(resources)
    after = {name: (group / name).read_text().strip() for name in FILES}
    assert after == {**before, **expected}


def test_swap_alone_is_reckoned_from_the_memory_limit_that_stands(manager, group):
    (group / "memory.max").write_text("1000\n")
    manager.apply({"memory": {"swap": 1500}})
    assert (group / "memory.swap.max").read_text() == "500"


@pytest.mark.parametrize(
    ("limit", "swap", "present"), [(4096, 2048, None), (None, 2048, -1), (None, 2048, 4096), (-1, 4096, None)]
)
def test_swap_that_can_not_be_is_refused_before_a_write(limit, swap, present):
    with pytest.raises(KernelError, match=r"limit memory and swap to \d+: Invalid argument \[EINVAL\]"):
        memory.swap_max(limit, swap, present)


def test_check_before_update_spares_the_container(manager, group):
    with pytest.raises(KernelError, match=r"write 4096 to .*memory\.max: .*\[EBUSY\] \(8192 bytes are in use"):
        manager.apply({"memory": {"limit": 4096, "checkBeforeUpdate": True}})
    assert (group / "memory.max").read_text() == "max\n"
    assert (group / "memory.high").read_text().strip() == "max"


def test_a_set_that_was_not_given_is_the_one_that_holds(manager):
    """It can be written back to a group with processes, which an empty one can't."""
    assert manager.read()["cpu"]["cpus"] == "0-1"
    assert manager.read()["cpu"]["mems"] == "0"


def test_the_kernels_own_io_weight_is_kept_when_written_back():
    assert blkio.weight(blkio.blkio(100)) == 100
    assert [blkio.weight(value) for value in (19, 21)] == [91, 112]


def test_bfq_comes_before_io_weight(manager, group):
    (group / "io.bfq.weight").write_text("100\n")
    manager.apply({"blockIO": {"weight": 300, "weightDevice": [{"major": 8, "minor": 0, "weight": 200}]}})
    assert (group / "io.weight").read_text() == "default 100\n"
    assert (group / "io.bfq.weight").read_text() == "8:0 200"


def test_no_weight_in_the_kernel_names_the_option_and_why(manager, group):
    (group / "io.weight").unlink()
    with pytest.raises(KernelError, match=r"blkio_weight needs a kernel with BFQ"):
        manager.apply({"blockIO": {"weight": 300}})


def test_read_is_linux_resources(manager, group):
    manager.apply(
        {
            "memory": {"limit": 1 << 20, "swap": 3 << 20, "reservation": 4096},
            "cpu": {"shares": 512, "quota": 20000, "period": 100000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 20},
            "unified": {"memory.high": "8192"},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 2097152}],
            "blockIO": {"throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 5}]},
        }
    )
    assert (group / "io.max").read_text() == "8:0 wbps=5"
    (group / "io.max").write_text("8:16 rbps=max wbps=6 riops=max wiops=7\n8:0 rbps=max wbps=5 riops=max wiops=max\n")
    assert manager.read() == {
        "memory": {"limit": 1 << 20, "swap": 3 << 20, "reservation": 4096},
        "cpu": {"shares": cpu.shares(cpu.weight(512)), "quota": 20000, "period": 100000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 20},
        "blockIO": {
            "weight": 20,
            "throttleReadBpsDevice": [],
            "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 5}, {"major": 8, "minor": 16, "rate": 6}],
            "throttleReadIOPSDevice": [],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 7}],
        },
        "unified": {"memory.high": "8192", "memory.min": "0", "memory.oom.group": "0"},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 2097152}],
    }


def test_what_the_kernel_rounds(manager):
    wanted = {
        "unified": {"memory.high": "8193", "memory.min": "4095", "memory.oom.group": "1"},
        "hugepageLimits": [{"pageSize": "2MB", "limit": (2 << 20) + 1}],
        "blockIO": {
            "throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 1}, {"major": 8, "minor": 0, "rate": 2}]
        },
    }
    assert manager.expected(wanted) == {
        "unified": {"memory.high": "8192", "memory.min": "0", "memory.oom.group": "1"},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 2 << 20}],
        "blockIO": {
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 2}, {"major": 8, "minor": 1, "rate": 1}]
        },
    }


def test_read_shows_no_limit_as_minus_one(manager):
    seen = manager.read()
    assert seen["memory"]["limit"] == seen["memory"]["swap"] == seen["pids"]["limit"] == seen["cpu"]["quota"] == -1


@pytest.mark.parametrize("shares", [2, 3, 100, 512, 1000, 1024, 2048, 262144])
@pytest.mark.parametrize("weight", [10, 11, 100, 300, 500, 999, 1000])
def test_what_is_expected_is_what_is_read(manager, shares, weight):
    wanted = {
        "cpu": {"shares": shares, "cpus": "1,0"},
        "blockIO": {"weight": weight},
        "pids": {"limit": 0},
    }
    expected = manager.expected(wanted)
    manager.apply({**wanted, "cpu": {**wanted["cpu"], "cpus": "0-1"}})  # the kernel canonicalises, a directory does not
    seen = manager.read()
    assert {key: {name: seen[key][name] for name in values} for key, values in expected.items()} == expected


def test_weights_lie_within_the_kernels_range_and_grow():
    weights = [cpu.weight(shares) for shares in range(2, 262145, 97)]
    assert weights == sorted(weights)
    assert weights[0] == 1
    assert cpu.weight(262144) == 10000
    assert (blkio.weight(10), blkio.weight(1000)) == (1, 10000)


def test_stats(manager):
    assert manager.stats() == {
        "memory_usage": 8192,
        "memory_max_usage": 16384,
        "memory_limit": -1,
        "memory_failures": 7,
        "memory_high_exceeded": 0,
        "swap_usage": 4096,
        "oom_kills": 1,
        "cpu_usage_ns": 5000000,
        "cpu_user_ns": 3000000,
        "cpu_system_ns": 2000000,
        "cpu_throttled_ns": 70000,
        "cpu_throttled_periods": 4,
        "pids_current": 3,
        "pids_limit": -1,
        "pids_refused": 2,
        "io_read_bytes": 105,
        "io_write_bytes": 21,
        "cpu_some_us": 12,
        "cpu_full_us": 3,
    }


def test_create_shares_the_controllers_out_from_the_root_down(root):
    (root / "a").mkdir()
    fill(root / "a" / "b")
    fill(root / "a")
    (root / "a" / "cgroup.controllers").write_text("memory pids\n")
    (root / "a" / "cgroup.subtree_control").write_text("memory\n")
    open_manager("/a/b/c", root=str(root)).create()
    assert (root / "a" / "b" / "c").is_dir()
    assert (root / "cgroup.subtree_control").read_text() == "+cpuset +cpu +io +memory +hugetlb +pids"
    assert (root / "a" / "cgroup.subtree_control").read_text() == "+pids"


def test_freeze_and_kill(manager, group):
    (group / "cgroup.events").write_text("frozen 1\n")
    manager.freeze(True)
    assert manager.frozen()
    manager.kill()
    assert (group / "cgroup.kill").read_text() == "1"


def test_pids_are_those_below_too(manager, group):
    (group / "cgroup.procs").write_text("5\n6\n")
    fill(group / "inner")
    (group / "inner" / "cgroup.procs").write_text("7\n")
    assert manager.pids() == [5, 6, 7]


def test_clone_fd_is_the_directory(manager, group):
    fd = manager.clone_fd()
    try:
        assert os.fstat(fd).st_ino == group.stat().st_ino
    finally:
        os.close(fd)


def test_a_controller_that_is_not_enabled_is_named(manager, group):
    (group / "pids.max").unlink()
    (group / "cgroup.controllers").write_text("cpu memory\n")
    with pytest.raises(
        KernelError, match=r"write 5 to .*/pids\.max: .*\[ENOENT\] \(the controller pids is not enabled"
    ):
        manager.apply({"pids": {"limit": 5}})


def test_unified_takes_file_names_only(manager):
    with pytest.raises(KernelError, match="must be a file's name"):
        manager.apply({"unified": {"../memory.max": "1"}})
