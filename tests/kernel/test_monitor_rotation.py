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

from .monitor_host import Site, wait_for

pytestmark = pytest.mark.root

# Several seconds of it: the supervisor looks once a second.
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
    client.call("remove", name="a")
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
    client.call("remove", name="a")


def test_one_file_is_cut(site):
    client = site.supervise()
    site.bundle("a", "while true; do yes | head -c 40000; usleep 100000; done", log={"max_size": 20_000, "max_file": 1})
    client.call("start", name="a")
    path = site.paths.log("a")
    wait_for(lambda: os.path.exists(path) and os.stat(path).st_size > 40_000)
    wait_for(lambda: os.stat(path).st_size < 40_000, timeout=5)
    assert not os.path.exists(f"{path}.1")
    client.call("remove", name="a")


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
    client.call("remove", name="a")
