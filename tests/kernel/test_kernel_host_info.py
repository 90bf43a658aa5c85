# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of this host agrees with what the kernel shows, and asking changed nothing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cgroup.manager import layout
from ansible_collections.vessel.host.plugins.module_utils._converge import host_info as facts_of
from ansible_collections.vessel.host.plugins.module_utils._kernel import caps, probe
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

pytestmark = pytest.mark.root


def trace() -> dict[str, object]:
    """What a careless probe would leave behind. Others make links and mounts meanwhile, so only ours are looked for."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
    return {
        "mounts": [line for line in mounts if line.split()[4].startswith("/proc")],
        "tables": [line for line in tables.splitlines() if "probe" in line],
        "groups": [entry for top in set(layout().values()) for entry in os.listdir(top) if "probe" in entry],
        "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")},
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "oom": Path("/proc/self/oom_score_adj").read_text(),
        "limits": Path("/proc/self/limits").read_text(),
        "children": Path("/proc/thread-self/children").read_text(),
        "directory": os.getcwd(),
    }


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    before = trace()
    root = tmp_path_factory.mktemp("host-info") / "root"
    found = facts_of.host_info(Paths.at(str(root)))
    assert trace() == before
    assert not root.exists()
    return found


def test_this_host_is_ready(facts):
    assert facts["ready"], facts["missing"]
    assert all(facts["namespaces"][kind]["available"] for kind in ("mount", "pid", "network", "ipc", "uts"))
    assert facts["filesystems"]["overlay"] == {"available": True, "problem": ""}
    assert facts["network"]["nftables"]["available"]
    assert json.loads(json.dumps(facts)) == facts


def test_cgroups_are_those_in_proc(facts):
    lines = [line.split(":") for line in Path("/proc/self/cgroup").read_text().splitlines()]
    present = sorted({name for line in lines for name in line[1].split(",") if name and "=" not in name})
    if facts["cgroup"]["version"] == 1:
        assert facts["cgroup"]["controllers"] == present
    assert facts["cgroup"]["writable"]


def test_capabilities_that_are_lacking_are_those_in_proc(facts):
    status = Path("/proc/self/status").read_text()
    mask = int(status.split("CapPrm:\t")[1].split()[0], 16)
    lacking = [name for name, number in caps.NUMBERS.items() if number <= caps.last_cap() and not mask >> number & 1]
    assert facts["security"]["capabilities_lacking"] == sorted(lacking)
    may = "CAP_SYS_RESOURCE" not in lacking
    assert facts["security"]["raise_hard_limits"]["available"] == may
    assert facts["security"]["lower_oom_score"]["available"] == may
    assert ("container.ulimits" in [lack["option"] for lack in facts["missing"]]) == (not may)


@pytest.mark.parametrize("kind", facts_of.LINKS)
def test_a_link_kind_is_there_when_ip_can_make_one(facts, kind):
    """ip(8) as the counterpart: it names a kind that the kernel does not know as such."""
    make = ["ip", "link", "add", "probe0", "type", kind]
    told = subprocess.run(["unshare", "--net", *make], capture_output=True, text=True, check=False).stderr
    unknown = "Unknown device type" in told or "Operation not supported" in told
    assert facts["network"]["links"][kind]["available"] == (not unknown), told


def test_what_there_is_not_is_not_there():
    assert probe.link_kinds(("nosuchkind",)) == {"nosuchkind": "this kernel was built without it"}
    assert probe.module("nosuchmodule") == ""


def test_a_namespace_at_its_limit_is_not_available():
    """Inside a user namespace whose limit is 0, as some hosts set it."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "open('/proc/sys/user/max_uts_namespaces', 'w').write('0');"
        "from ansible_collections.vessel.host.plugins.module_utils._kernel import probe;"
        "print(probe.namespace('uts') + '|' + probe.namespace('ipc'))"
    )
    collections = str(Path(__file__).parents[2] / "collection")
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "/usr/bin/python3", "-c", code, collections],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"no user namespace to try it in: {done.stderr.splitlines()[-1]}")
    assert done.stdout.strip() == "unshare 0x4000000: No space left on device [ENOSPC]|"


def test_new_owners_are_possible_where_the_kernel_says_so(facts):
    if probe.version() < (6, 3):
        pytest.skip("idmapped tmpfs is Linux 6.3's")
    assert probe.idmapped("/dev/shm") == ""
    assert probe.idmapped("/proc").endswith("[EINVAL]")


def test_the_store_and_its_room(facts):
    disk = os.statvfs("/tmp")
    assert facts["filesystems"]["store"]["type"] == subprocess.run(
        ["stat", "-f", "-c", "%T", "/tmp"], capture_output=True, text=True, check=True
    ).stdout.strip().replace("ext2/ext3", "ext4")
    assert facts["capacity"]["store_size"] == disk.f_blocks * disk.f_frsize
    assert facts["capacity"]["cpus"] == os.cpu_count()


def test_a_child_that_fails_tells_why():
    assert probe.in_child(lambda: 3) == (True, "3")
    assert probe.in_child(lambda: os.stat("/nothing")) == (False, "[Errno 2] No such file or directory: '/nothing'")
    assert probe.in_child(lambda: os.kill(os.getpid(), 9)) == (False, "the child was killed")
