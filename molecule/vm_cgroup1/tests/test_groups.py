# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site of molecule/vm in cgroup v1's words, on a host where systemd keeps the tree."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

import pytest

PORT = "18485"
ROOT = "/sys/fs/cgroup"


@pytest.fixture
def web(host):
    """What the host's own command says of it."""
    return json.loads(host.check_output("vessel inspect web"))


@pytest.fixture
def group(web):
    """Its group below each hierarchy."""
    return web["cgroup"]


def test_it_has_the_controllers_of_v1(host):
    assert host.check_output(f"stat -f -c %T {ROOT}") == "tmpfs"
    assert host.file(f"{ROOT}/memory/memory.limit_in_bytes").exists


def test_the_page_comes_through_the_published_port():
    record = json.loads(Path(os.environ["VESSEL_VM_PLACE"], "record.json").read_text())
    with urllib.request.urlopen(f"http://127.0.0.1:{record['wires']['ports'][PORT]}/", timeout=60) as answer:
        assert answer.read() == b"scribe\n"


@pytest.mark.parametrize(
    ("file", "value"),
    [
        ("cpu/cpu.cfs_quota_us", "50000"),
        ("cpu/cpu.shares", "512"),
        ("cpuset/cpuset.cpus", "1"),
        ("memory/memory.limit_in_bytes", str(32 << 20)),
        ("memory/memory.soft_limit_in_bytes", str(16 << 20)),
        ("memory/memory.memsw.limit_in_bytes", str(64 << 20)),
        ("pids/pids.max", "16"),
        ("blkio/blkio.bfq.weight", "300"),
    ],
)
def test_the_kernel_has_the_limit(host, group, file, value):
    hierarchy, dummy, name = file.partition("/")
    assert host.file(f"{ROOT}/{hierarchy}{group}/{name}").content_string.strip() == value


def test_its_weight_is_the_scope_s_for_there_it_has_neighbours(host, group):
    assert host.file(f"{ROOT}/cpu{os.path.dirname(group)}/cpu.shares").content_string.strip() == "512"


def test_it_is_in_its_group_in_every_hierarchy(host, web, group):
    lines = host.file(f"/proc/{web['status']['pid']}/cgroup").content_string.splitlines()
    found = {controllers: path for dummy, controllers, path in (line.split(":", 2) for line in lines)}
    for controllers in ("memory", "pids", "cpuset", "devices", "freezer", "blkio", "cpu,cpuacct"):
        assert found[controllers] == group


def test_memory_is_limited_for_good(host):
    """It kills what asks for too much, and not the container."""
    assert host.run("vessel exec web sh -c 'x=$(head -c 100000000 /dev/zero | tr \"\\\\0\" x)'").rc == 137
    assert host.run("vessel exec web true").rc == 0


def test_a_device_is_what_was_declared(host):
    assert host.run("vessel exec web sh -c ': </dev/fuse'").rc == 0
    assert "Operation not permitted" in host.run("vessel exec web sh -c ': >/dev/fuse'").stderr


def test_nothing_of_systemd_failed(host):
    assert host.check_output("systemctl is-system-running") == "running"
