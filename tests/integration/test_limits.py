# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits bite: what a process gets that wants more than it may have, and that container_info says so."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.vessel.host.tests.patience import patient

from . import cgroup_words
from .options_box import Box, until
from .options_container import DISK, HUGETLB
from .warm import TRAP, WarmPlace

pytestmark = [pytest.mark.root, pytest.mark.alone]
# It wants a buffer of 100 MB, and has it filled.
HOG = "dd if=/dev/zero of=/dev/null bs=100M count=1"
SPIN = "while :; do :; done"


@contextlib.contextmanager
def boxes(place: WarmPlace, *names: str) -> Iterator[list[Box]]:
    made = [Box(place, name) for name in names]
    try:
        yield made
    finally:
        for box in made:
            box.remove()


# memory


def test_who_wants_more_memory_is_killed(shared: WarmPlace, box: Box) -> None:
    box.make(memory="32m", command=HOG)
    until(box.ended)
    facts = box.facts()
    assert (facts["state"], facts["exit_code"], facts["oom_killed"]) == ("exited", 137, True)
    # The next one that ends by itself was not killed, and nothing says so any more.
    shared.task("container", name="box", command="true")
    until(box.ended)
    assert (box.facts()["exit_code"], box.facts()["oom_killed"]) == (0, False)


def test_without_a_limit_it_ends_well(box: Box) -> None:
    box.make(command=HOG)
    until(box.ended)
    assert (box.facts()["exit_code"], box.facts()["oom_killed"]) == (0, False)


def test_a_child_is_killed_and_the_container_lives(box: Box) -> None:
    box.make(memory="32m")
    process = box.process
    assert not box.works(HOG)
    assert box.process == process
    facts = box.facts()
    assert (facts["state"], facts["oom_killed"], facts["usage"]["oom_kills"] > 0) == ("running", True, True)


def test_restarts_after_being_killed_say_why(box: Box) -> None:
    box.make(memory="32m", command=HOG, restart_policy="on-failure", restart_retries=2)
    until(lambda: box.ended() and box.status["restarts"] == 2)
    facts = box.facts()
    assert (facts["exit_code"], facts["oom_killed"], facts["restarts"]) == (137, True, 2)


def test_while_it_waits_for_its_restart_too(box: Box) -> None:
    box.make(memory="32m", command=HOG, restart_policy="always")
    until(lambda: box.status["status"] == "restarting" and box.status["restarts"] > 3)
    assert box.facts()["oom_killed"] is True


def test_files_are_no_reason_to_be_killed(box: Box) -> None:
    """The page cache counts as used, and is given back."""
    box.make(memory="32m")
    box.sh("dd if=/dev/zero of=/big bs=1M count=80 2>/dev/null; rm /big")
    assert int(box.limit("memory", "memory.max_usage_in_bytes")) <= 32 << 20
    assert box.facts()["oom_killed"] is False


def test_less_than_is_used_is_refused(shared: WarmPlace, box: Box) -> None:
    hold = "x=$(head -c 30000000 /dev/zero | tr '\\0' x); echo ready > /ready; sleep 100000 & wait"
    box.make(memory="256m", command=["sh", "-c", f"trap 'exit 0' TERM; {hold}"], labels={"a": "1"})
    until(lambda: box.path("/ready").exists())
    process = box.process
    result = shared.task("container", fails=True, name="box", memory="8m", labels={"a": "2"})
    assert result["msg"].startswith("memory: ")
    assert "bytes are in use" in result["msg"]
    assert box.process == process
    assert box.limit("memory", "memory.limit_in_bytes") == str(256 << 20)
    assert box.facts()["labels"] == {"a": "1"}


def test_shared_memory_has_its_size(box: Box) -> None:
    box.make(shm_size="1m", memory="32m")
    assert not box.works("dd if=/dev/zero of=/dev/shm/x bs=1M count=2 2>/dev/null")
    assert box.path("/dev/shm/x").stat().st_size == 1 << 20
    assert box.facts()["oom_killed"] is False


def test_a_tmpfs_counts_as_memory(box: Box) -> None:
    box.make(tmpfs=["/scratch"], memory="32m")
    assert not box.works("dd if=/dev/zero of=/scratch/x bs=1M count=64")
    assert int(box.limit("memory", "memory.max_usage_in_bytes")) <= 32 << 20


@pytest.mark.skipif(not cgroup_words.UNIFIED, reason="cgroup v1 has no memory.high")
def test_who_is_above_memory_high_is_slowed_down_and_lives(shared: WarmPlace, box: Box) -> None:
    hold = "x=$(head -c 30000000 /dev/zero | tr '\\0' x); touch /ready; sleep 100000 & wait"
    box.make(memory_high="16m", memory="256m", command=["sh", "-c", f"trap 'exit 0' TERM; {hold}"])
    until(lambda: box.facts()["usage"]["memory_high_exceeded"] > 0)
    process, usage = box.process, box.facts()["usage"]
    assert usage["memory_some_us"] > 0
    time.sleep(1)
    assert not box.path("/ready").exists()
    assert box.facts()["usage"]["memory_some_us"] > usage["memory_some_us"]
    shared.task("container", name="box", memory_high=0)
    until(lambda: box.path("/ready").exists())
    assert box.process == process
    assert box.facts()["oom_killed"] is False


@pytest.mark.skipif(not cgroup_words.UNIFIED, reason="cgroup v1 has no memory.oom.group")
def test_one_is_killed_and_all_go(box: Box) -> None:
    box.make(memory="32m", oom_group=True)
    assert not box.works(HOG)
    until(box.ended)
    assert (box.facts()["exit_code"], box.facts()["oom_killed"]) == (137, True)


@pytest.mark.skipif(not HUGETLB, reason="this host has no controller hugetlb")
def test_huge_pages_are_refused(box: Box) -> None:
    """To a process in the container's group; a program that asks for some is not in the image."""
    box.make(hugepage_limits={"2m": "4m"})
    procs = cgroup_words.where("hugetlb", box.place.paths.cgroup("box")) / "cgroup.procs"
    pages = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
    before = pages.read_text()
    pages.write_text(str(int(before) + 8))
    try:
        taken = [took_huge_pages(procs, size << 20) for size in (4, 8)]
    finally:
        pages.write_text(before)
    assert taken == [True, False]


def took_huge_pages(procs: Path, size: int) -> bool:
    """mmap(2) with MAP_HUGETLB, in the group."""
    script = (
        "import mmap, os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); "
        "mmap.mmap(-1, int(sys.argv[2]), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(procs), str(size)],
        capture_output=True,
        text=True,
        timeout=patient(20),
        check=False,
    )
    assert done.returncode == 0 or "Cannot allocate memory" in done.stderr, done.stderr
    return done.returncode == 0


# block devices, past the page cache


def took(box: Box, what: str, count: int, size: str) -> float:
    """Seconds for so many blocks, written to or read from the disk itself; by a clock inside, without the way there."""
    ways = {"write": "if=/dev/zero of=/big oflag=direct", "read": "if=/big of=/dev/null iflag=direct"}
    clock = "cut -d ' ' -f 1 /proc/uptime"
    begin, end = box.sh(f"{clock}; dd {ways[what]} bs={size} count={count} 2>/dev/null; {clock}").split()
    return float(end) - float(begin)


@pytest.mark.parametrize("what", ["write", "read"])
def test_bytes_a_second(shared: WarmPlace, box: Box, what: str) -> None:
    """4 MiB at 1 MiB a second; without, in less than half of that."""
    box.make()
    took(box, "write", 64, "64k")
    free = took(box, what, 64, "64k")
    shared.task("container", name="box", **{f"device_{what}_bps": [{"path": DISK, "rate": "1m"}]})
    assert took(box, what, 64, "64k") > 3.4 > 2 * free


@pytest.mark.parametrize("what", ["write", "read"])
def test_operations_a_second(shared: WarmPlace, box: Box, what: str) -> None:
    box.make()
    took(box, "write", 100, "4k")
    free = took(box, what, 100, "4k")
    shared.task("container", name="box", **{f"device_{what}_iops": [{"path": DISK, "rate": 25}]})
    assert took(box, what, 100, "4k") > 3.4 > 2 * free


# cores


def cores_of(pid: int, seconds: float) -> set[str]:
    """Where the process was, asked a few hundred times (field 39 of /proc/PID/stat)."""
    seen, deadline = set(), time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen.add(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[36])
        time.sleep(0.002)
    return seen


def test_a_busy_loop_stays_on_its_core(shared: WarmPlace, box: Box) -> None:
    box.make(command=["sh", "-c", SPIN], cpuset_cpus="0", stop_timeout=0.1)
    assert cores_of(box.pid, 1.0) == {"0"}
    shared.task("container", name="box", cpuset_cpus="1")
    time.sleep(0.1)
    assert cores_of(box.pid, 1.0) == {"1"}


def cpu_time(box: Box) -> int:
    return int(box.limit("cpuacct", "cpuacct.usage"))


def spent(made: list[Box], seconds: float) -> list[int]:
    """Nanoseconds that each was given meanwhile."""
    before = [cpu_time(box) for box in made]
    time.sleep(seconds)
    return [cpu_time(box) - was for box, was in zip(made, before)]


def test_shares_of_one_core(shared: WarmPlace) -> None:
    """Two that want all of one core get it as 1 to 3, whatever else there is on it; and live as 3 to 1."""
    with boxes(shared, "one", "three") as made:
        for box, shares in zip(made, (256, 768)):
            box.make(command=["sh", "-c", SPIN], cpuset_cpus="0", cpu_shares=shares, stop_timeout=0.1)
        time.sleep(0.2)
        small, large = spent(made, 4.0)
        assert large / small == pytest.approx(3, rel=0.1)
        for box, shares in zip(made, (768, 256)):
            shared.task("container", name=box.name, cpu_shares=shares)
        large, small = spent(made, 4.0)
        assert large / small == pytest.approx(3, rel=0.1)


def test_a_fifth_of_a_core_is_no_more(box: Box) -> None:
    box.make(command=["sh", "-c", SPIN], cpus=0.2, stop_timeout=0.1)
    used = spent([box], 3.0)[0] / 3e9
    assert 0.1 < used < 0.23
    stat = dict(line.split() for line in box.limit("cpu", "cpu.stat").splitlines())
    assert int(stat["nr_throttled"]) > 5
    assert box.facts()["usage"]["cpu_throttled_periods"] > 5


# processes and files


def test_a_fork_bomb_comes_to_nothing(shared: WarmPlace, box: Box) -> None:
    box.make(pids_limit=30, command=["sh", "-c", f"trap 'exit 0' TERM; {TRAP}"])
    shared.task("container_exec", container="box", argv=["sh", "-c", "b() { b | b & }; b; sleep 2"], detach=True)
    until(lambda: "max 0" not in box.limit("pids", "pids.events"))
    for dummy in range(50):
        assert int(box.limit("pids", "pids.current")) <= 30
        time.sleep(0.01)
    assert box.facts()["usage"]["pids_refused"] > 0
    begin = time.monotonic()
    shared.task("container", name="box", state="stopped", stop_timeout="1s")
    assert time.monotonic() - begin < patient(10)
    assert not cgroup_words.where("pids", shared.paths.cgroup("box")).exists()


def test_limits_of_files(box: Box) -> None:
    """Few enough that the runtime itself has more of them open on the way."""
    box.make(ulimits=["fsize:100000:-1", "nofile:8:20000"])
    assert not box.works("dd if=/dev/zero of=/big bs=1k count=200")
    assert box.path("/big").stat().st_size == 100000
    assert box.works("exec 3< / 4< / 5< / 6< / 7< /")
    assert not box.works("exec 3< / 4< / 5< / 6< / 7< / 8< /")
