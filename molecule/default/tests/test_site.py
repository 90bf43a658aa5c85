# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenario's host, asked from outside: processes, cgroups, addresses and the page itself."""

from __future__ import annotations

import json
import os

import pytest

ROOT = os.environ.get("VESSEL_MOLECULE_ROOT") or "/tmp/vessel-molecule"


@pytest.fixture
def containers(host):
    """What the host's own command says, by name."""
    listed = json.loads(host.check_output(f"{ROOT}/bin/vessel ps --json"))
    return {container["name"]: container for container in listed}


def test_both_run(containers):
    assert {name: container["status"] for name, container in containers.items()} == {
        "web": "running",
        "writer": "running",
    }


def test_the_page_comes_through_the_published_port(host):
    assert host.check_output("curl --silent --fail --max-time 10 http://127.0.0.1:18485/") == "scribe"


def test_the_containers_init_is_the_users_own_process(host, containers):
    command = host.file(f"/proc/{containers['web']['pid']}/cmdline").content_string
    assert command.split("\0")[:2] == ["httpd", "-f"]


def test_nothing_of_the_host_is_seen_from_inside(host, containers):
    pid = containers["web"]["pid"]
    listed = host.check_output(f"{ROOT}/bin/vessel exec web ps -o pid,args").splitlines()
    assert any(line.split()[:2] == ["1", "httpd"] for line in listed)
    assert len(listed) < 6
    for name in ("mnt", "net", "pid", "uts", "ipc"):
        inside, outside = (host.check_output(f"readlink /proc/{which}/ns/{name}") for which in (pid, "self"))
        assert inside != outside


def test_the_kernel_has_the_limits(host, containers):
    groups = host.file(f"/proc/{containers['web']['pid']}/cgroup").content_string.splitlines()
    by_controller = {
        name: path for dummy, names, path in (line.split(":", 2) for line in groups) for name in names.split(",")
    }
    if by_controller.get("memory"):
        base = f"/sys/fs/cgroup/memory{by_controller['memory']}/memory.limit_in_bytes"
        pids = f"/sys/fs/cgroup/pids{by_controller['pids']}/pids.max"
    else:
        base = f"/sys/fs/cgroup{by_controller['']}/memory.max"
        pids = f"/sys/fs/cgroup{by_controller['']}/pids.max"
    assert host.file(base).content_string.strip() == str(32 << 20)
    assert host.file(pids).content_string.strip() == "16"


def test_one_finds_the_other_by_name(host):
    assert "scribe" in host.check_output(f"{ROOT}/bin/vessel exec writer wget -q -O - http://web/")


def test_a_volume_is_read_only_where_declared(host):
    assert host.run(f"{ROOT}/bin/vessel exec web touch /pages/x").rc != 0
    assert host.run(f"{ROOT}/bin/vessel exec writer touch /pages/x").rc == 0
