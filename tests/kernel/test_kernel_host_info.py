# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of this host agrees with what the kernel shows, and asking changed nothing."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cgroup.manager import layout
from ansible_collections.vessel.host.plugins.module_utils._converge import host_capacity, store
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
    assert facts["network"]["nftables"]["bridge"]["available"]
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


def test_idle_cpus_are_those_that_nobody_uses():
    """Ours are not counted: who asks would find the host busy with asking."""
    watch = host_capacity.Watch()
    cpus = len(os.sched_getaffinity(0))
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pass
    assert 0 <= watch.idle_cpus() <= cpus
    busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for dummy in range(2 * cpus)]
    try:
        watch = host_capacity.Watch()
        time.sleep(0.3)
        assert watch.idle_cpus() < 0.5 * cpus
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_ports_are_those_that_somebody_listens_on():
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("0.0.0.0", 0))
        ours = {f"127.0.0.1:{tcp.getsockname()[1]}/tcp", f"0.0.0.0:{udp.getsockname()[1]}/udp"}
        assert ours - set(host_capacity.ports()) == {f"127.0.0.1:{tcp.getsockname()[1]}/tcp"}
        tcp.listen()
        found = set(host_capacity.ports())
        assert ours <= found
        with socket.create_connection(tcp.getsockname()) as client:
            assert f"127.0.0.1:{client.getsockname()[1]}/tcp" not in host_capacity.ports()
    if os.path.exists("/proc/net/if_inet6"):
        with socket.socket(socket.AF_INET6) as six:
            six.bind(("::1", 0))
            six.listen()
            assert f"[::1]:{six.getsockname()[1]}/tcp" in host_capacity.ports()


def test_devices_are_those_that_not_all_hosts_have(facts):
    found = facts["capacity"]["devices"]
    assert all(stat.S_ISCHR(mode) or stat.S_ISBLK(mode) for mode in (os.stat(path).st_mode for path in found))
    assert ("/dev/fuse" in found) == os.path.exists("/dev/fuse")
    assert not {"/dev/null", "/dev/tty", "/dev/console", "/dev/loop0"} & set(found)


def test_what_is_promised_to_containers(tmp_path):
    paths = Paths.at(str(tmp_path / "root"))
    assert host_capacity.containers(paths) == {}
    ports = ["0.0.0.0:8080:80/tcp", "[::]:53:53/udp", "0.0.0.0::443/tcp"]
    body = {"cpus": 0.5, "memory": 64 << 20, "published_ports": ports, "devices": ["/dev/fuse:/dev/fuse:rwm"]}
    store.write_spec(paths, "containers", "web", {**body, "labels": {"tier": "front"}})
    store.write_spec(paths, "containers", "db", {"cpus": 0.0, "memory": 2 << 30, "memory_reservation": 1 << 30})
    found = host_capacity.capacity(paths, host_capacity.Watch(), str(tmp_path))
    assert found["containers"]["web"] == {
        "cpus": 0.5,
        "memory": 64 << 20,
        "ports": ["0.0.0.0:8080/tcp", "[::]:53/udp"],
        "devices": ["/dev/fuse"],
        "labels": {"tier": "front"},
    }
    assert (found["committed_cpus"], found["committed_memory"]) == (0.5, (1 << 30) + (64 << 20))


def test_a_child_that_fails_tells_why():
    assert probe.in_child(lambda: 3) == (True, "3")
    assert probe.in_child(lambda: os.stat("/nothing")) == (False, "[Errno 2] No such file or directory: '/nothing'")
    assert probe.in_child(lambda: os.kill(os.getpid(), 9)) == (False, "the child was killed")
