# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs are rotated under a writer that never notices."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._kernel.fallocate import collapse

from .monitor_host import Site, children, wait_for

pytestmark = pytest.mark.root

# Several seconds of it.
COUNT = """i=0; while [ $i -lt 60000 ]; do i=$((i+1)); echo line $i of the log that is rotated
[ $((i%10000)) = 0 ] && sleep 1; done; sleep 1000"""


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path / "site")
    yield site
    site.close()


def can_collapse(directory: Path) -> bool:
    path = directory / "probe"
    path.write_bytes(b"x" * 8193)
    fd = os.open(path, os.O_RDWR)
    try:
        return collapse(fd, 4096)
    finally:
        os.close(fd)
        path.unlink()


def all_of_it(path: str) -> str:
    files = sorted(Path(path).parent.glob("log.[0-9]*"), key=lambda file: -int(file.suffix[1:]))
    return "".join(file.read_text() for file in [*files, Path(path)])


def test_no_line_is_lost_under_load(site, tmp_path):
    if not can_collapse(tmp_path):
        pytest.skip("this file system has no FALLOC_FL_COLLAPSE_RANGE")
    client = site.supervise()
    site.bundle("a", COUNT, log={"max_size": 100_000, "max_file": 1000})
    client.call("start", name="a")
    path = site.paths.log("a")
    wait_for(lambda: os.path.exists(path) and "line 60000 " in all_of_it(path), timeout=60, pause=0.2)
    wait_for(lambda: os.stat(path).st_size <= 100_000, timeout=10)
    text = all_of_it(path)
    assert text.splitlines() == [f"line {i} of the log that is rotated" for i in range(1, 60001)]
    assert os.path.exists(f"{path}.2")  # it was rotated more than once
    client.call("remove", name="a", timeout=0)
    assert site.log() == ""


def test_so_many_files_are_kept(site, tmp_path):
    client = site.supervise()
    site.bundle("a", "while true; do yes | head -c 40000; usleep 100000; done", log={"max_size": 20_000, "max_file": 3})
    client.call("start", name="a")
    path = site.paths.log("a")
    wait_for(lambda: os.path.exists(f"{path}.2"), timeout=15)
    first = os.stat(f"{path}.2").st_ino
    wait_for(lambda: os.stat(f"{path}.2").st_ino != first, timeout=15)
    names = ["log", "log.1", "log.2"]  # and, for an instant, one that is being made
    wait_for(lambda: sorted(file.name for file in Path(path).parent.glob("log*")) == names)
    assert os.stat(f"{path}.1").st_mode & 0o777 == 0o640
    client.call("remove", name="a", timeout=0)


def test_one_file_is_cut(site):
    client = site.supervise()
    site.bundle("a", "while true; do yes | head -c 40000; usleep 100000; done", log={"max_size": 20_000, "max_file": 1})
    client.call("start", name="a")
    path = site.paths.log("a")
    wait_for(lambda: os.path.exists(path) and os.stat(path).st_size > 40_000)
    wait_for(lambda: os.stat(path).st_size < 40_000, timeout=5)
    assert not os.path.exists(f"{path}.1")
    client.call("remove", name="a", timeout=0)


def test_a_size_that_is_reloaded(site):
    client = site.supervise()
    site.bundle("a", "yes | head -c 50000; exec sleep 1000")
    client.call("start", name="a")
    path = site.paths.log("a")
    wait_for(lambda: os.path.exists(path) and os.stat(path).st_size == 50_000)
    time.sleep(1.2)
    assert not os.path.exists(f"{path}.1")
    site.settings("a", log={"max_size": 10_000, "max_file": 2})
    client.call("reload", name="a")
    wait_for(lambda: os.path.exists(f"{path}.1"), timeout=5)
    client.call("remove", name="a", timeout=0)


def switches(site) -> int:
    """How often the supervisor has been woken."""
    text = Path(f"/proc/{site.process.pid}/status").read_text()
    return int(text.partition("voluntary_ctxt_switches:")[2].split()[0])


def test_who_is_quiet_costs_nothing(site):
    """Neither a container that says nothing, nor one that has said something."""
    client = site.supervise()
    for name, command in (("a", "exec sleep 1000"), ("b", "echo hello; exec sleep 1000"), ("c", "sleep 1; echo x")):
        site.bundle(name, command, log={"max_size": 100_000, "max_file": 3})
        client.call("start", name=name)
    time.sleep(2)
    before = switches(site)
    time.sleep(3)
    assert switches(site) == before
    for name in "abc":
        client.call("remove", name=name)


def test_a_flood_is_met_soon(site):
    """Some 100 MB/s: to look once a second would let it grow by as much."""
    client = site.supervise()
    flood = "while true; do dd if=/dev/zero bs=100k count=10 2>/dev/null; usleep 10000; done"
    site.bundle("a", f"sleep 1; {flood}", log={"max_size": 1 << 20, "max_file": 3})
    client.call("start", name="a")
    path, most, end = site.paths.log("a"), 0, time.monotonic() + 4
    while time.monotonic() < end:
        most = max(most, os.stat(path).st_size)
        time.sleep(0.001)
    assert os.path.exists(f"{path}.2")
    assert 1 << 20 < most < 50 << 20
    client.call("remove", name="a", timeout=0)
    assert site.log() == ""


def test_a_flood_that_has_ended_is_rotated_too(site):
    """In less than a moment it has said all and is gone."""
    client = site.supervise()
    site.bundle("a", "dd if=/dev/zero bs=1M count=50 2>/dev/null", log={"max_size": 1 << 20, "max_file": 3})
    client.call("start", name="a")
    site.until("a", status="exited")
    path = site.paths.log("a")
    wait_for(lambda: os.stat(path).st_size <= 1 << 20, timeout=5)
    wait_for(lambda: children(site.process.pid) == [], timeout=5)
    # A first rotation may have met the flood's beginning; of what is a little above its size nothing is lost.
    for number in (1, 2):
        assert 0.75 <= os.stat(f"{path}.{number}").st_size / (1 << 20) <= 1.5
    client.call("start", name="a")  # and again
    site.until("a", status="exited")
    wait_for(lambda: os.stat(path).st_size <= 1 << 20, timeout=5)
    client.call("remove", name="a", timeout=0)


def test_what_came_while_no_supervisor_ran_is_rotated_by_the_next(site):
    client = site.supervise()
    site.bundle("a", "sleep 1; dd if=/dev/zero bs=1M count=50 2>/dev/null; exec sleep 1000",
                log={"max_size": 1 << 20, "max_file": 2})  # fmt: skip
    client.call("start", name="a")
    site.kill_supervisor()
    path = site.paths.log("a")
    wait_for(lambda: os.stat(path).st_size == 50 << 20)
    client = site.supervise()
    wait_for(lambda: os.stat(path).st_size <= 1 << 20, timeout=5)
    client.call("remove", name="a", timeout=0)


def test_a_container_that_is_removed_during_a_rotation_leaves_no_file(site):
    client = site.supervise()
    site.bundle("a", "exec dd if=/dev/zero bs=1M", log={"max_size": 1 << 20, "max_file": 3})
    home = Path(site.paths.log("a")).parent
    for dummy in range(5):
        client.call("start", name="a")
        time.sleep(0.2)
        client.call("remove", name="a")
        for file in home.glob("log*"):
            file.unlink()
        time.sleep(0.2)
        assert list(home.glob("log*")) == []
        assert children(site.process.pid) == []
