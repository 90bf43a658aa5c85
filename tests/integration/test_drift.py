# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift: what was changed by hand is named in check mode and mended by a run, and nobody is restarted for it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.tests.patience import patient

from . import cgroup_words
from .options_container import DISK, NUMBERS
from .warm import WarmPlace

pytestmark = pytest.mark.root

STACK = {
    "name": "shop",
    "networks": {"shop": {"subnet": "10.77.3.0/24"}},
    "volumes": {"data": {}},
    "containers": {
        "db": {
            "image": "bb",
            "command": ["sh", "-c", "mkdir -p /www; echo ok > /www/index.html; exec httpd -f -p 80 -h /www"],
            "networks": [{"name": "shop"}],
            "volumes": ["data:/data"],
            "memory": "64m",
            "cpus": 0.5,
            "cpu_shares": 512,
            "cpuset_cpus": "0",
            "pids_limit": 50,
            "device_read_bps": [{"path": DISK, "rate": "9m"}],
            "oom_score_adj": 100,
            "ulimits": ["nofile:256:512"],
        },
        "web": {
            "image": "bb",
            "networks": [{"name": "shop", "aliases": ["www"]}],
            "published_ports": ["127.0.0.1:28931:80"],
            "etc_hosts": {"extra": "192.0.2.7"},
            "depends_on": ["db"],
        },
    },
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = WarmPlace(str(tmp_path_factory.mktemp("drift") / "vessel"))
    place.busybox()
    place.task("stack", **STACK)
    assert not place.task("stack", **STACK)["changed"]
    assert reachable(place)
    yield place
    place.task("stack", name="shop", state="absent")
    place.remove()


def mended(place: WarmPlace, named: str, *, same_process: bool = True) -> dict[str, Any]:
    """Check mode names it; a run mends it; the next one finds nothing; nobody was restarted. What the run said."""
    before = {name: place.process(name) for name in STACK["containers"]} if same_process else {}
    announced = place.task("stack", check=True, **STACK)
    assert announced["changed"]
    assert any(named in action for action in announced["actions"]), announced["actions"]
    done = place.task("stack", **STACK)
    assert done["changed"]
    assert any(named in action for action in done["actions"]), done["actions"]
    again = place.task("stack", check=True, **STACK)
    assert not again["changed"], again["actions"]
    assert {name: place.process(name) for name in before} == before
    return done


def cgroup(place: WarmPlace, controller: str, name: str = "db") -> Path:
    return cgroup_words.where(controller, place.paths.cgroup(name))


@pytest.mark.parametrize(
    ("controller", "file", "value", "option"),
    [
        ("memory", "memory.limit_in_bytes", "134217728", "memory"),
        ("cpu", "cpu.shares", "77", "cpu_shares"),
        ("cpu", "cpu.cfs_quota_us", "-1", "cpus"),
        ("cpuset", "cpuset.cpus", "0-1", "cpuset_cpus"),
        ("pids", "pids.max", "max", "pids_limit"),
        ("blkio", "blkio.throttle.read_bps_device", f"{NUMBERS} 77777", "device_read_bps"),
    ],
)
def test_limit_that_was_echoed_by_hand(place, controller, file, value, option):
    group = cgroup(place, controller)
    declared = cgroup_words.read(group, file)
    cgroup_words.write(group, file, value)
    assert cgroup_words.read(group, file) != declared
    mended(place, f"mend {option}")
    assert cgroup_words.read(group, file) == declared


def test_limit_by_hand_where_none_is_declared(place):
    path = cgroup(place, "pids", "web") / "pids.max"
    path.write_text("7")
    mended(place, "container web: mend pids_limit")
    assert path.read_text().strip() == "max"


def test_rate_by_hand_where_none_is_declared(place):
    """Of a device that no list names."""
    group = cgroup(place, "blkio", "web")
    cgroup_words.write(group, "blkio.throttle.read_bps_device", f"{NUMBERS} 77777")
    mended(place, "container web: mend device_read_bps")
    assert cgroup_words.read(group, "blkio.throttle.read_bps_device") == ""


@pytest.mark.skipif(not cgroup_words.UNIFIED, reason="cgroup v1 has no such files")
@pytest.mark.parametrize(
    ("file", "value", "option"),
    [
        ("memory.high", "7000064", "memory_high"),
        ("memory.min", "4096", "memory_min"),
        ("memory.oom.group", "1", "oom_group"),
    ],
)
def test_what_v2_alone_has_by_hand(place, file, value, option):
    path = cgroup(place, "memory", "web") / file
    before = path.read_text()
    path.write_text(value)
    mended(place, f"container web: mend {option}")
    assert path.read_text() == before


def test_oom_score_by_hand(place):
    pid = place.facts("db")["pid"]
    Path(f"/proc/{pid}/oom_score_adj").write_text("300")
    mended(place, "mend oom_score_adj")
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "100"


def host_interface(place: WarmPlace, name: str) -> str:
    return str(place.facts(name)["networks"][0]["host_interface"])


def reachable(place: WarmPlace) -> bool:
    """Does web find db by its name, and get an answer at that address? (A static busybox can't look names up.)"""
    lines = [line.split() for line in place.sh("web", "cat /etc/hosts").splitlines()]
    address = next(line[0] for line in lines if "db" in line[1:])
    pid = str(place.facts("web")["pid"])
    fetch = ["nsenter", "-t", pid, "-n", "curl", "-fs", "--max-time", f"{patient(2):g}", f"http://{address}/"]
    return subprocess.run(fetch, capture_output=True, text=True, check=False).stdout == "ok\n"


def test_host_end_of_the_veth_deleted(place):
    subprocess.run(["ip", "link", "delete", host_interface(place, "web")], check=True)
    assert not reachable(place)
    mended(place, "networks: link eth0")
    assert reachable(place)


def test_host_end_of_the_veth_down(place):
    subprocess.run(["ip", "link", "set", host_interface(place, "web"), "down"], check=True)
    mended(place, "container web: mend networks: link")
    assert reachable(place)


def test_address_removed_inside(place):
    pid = place.facts("web")["pid"]
    address = place.facts("web")["networks"][0]["ipv4_address"]
    subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "addr", "del", f"{address}/24", "dev", "eth0"], check=True)
    mended(place, "addresses of eth0")
    assert address in place.sh("web", "ip addr show eth0")
    assert "default via 10.77.3.1" in place.sh("web", "ip route")


def test_default_route_removed_inside(place):
    pid = place.facts("web")["pid"]
    subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "route", "del", "default"], check=True)
    mended(place, "default route")
    assert "default via 10.77.3.1" in place.sh("web", "ip route")


def test_bridge_deleted(place):
    bridge = place.task("network_info", name="shop")["networks"][0]["bridge"]
    subprocess.run(["ip", "link", "delete", bridge], check=True)
    mended(place, "network shop: mend bridge")
    assert reachable(place)


def rules(place: WarmPlace) -> str:
    table = ["nft", "list", "table", "inet", place.paths.nft_table]
    return subprocess.run(table, capture_output=True, text=True, check=False).stdout


def test_rules_flushed(place):
    before = rules(place)
    assert "28931" in before
    subprocess.run(["nft", "flush", "table", "inet", place.paths.nft_table], check=True)
    assert rules(place) != before
    mended(place, "firewall")
    assert rules(place) == before


def test_a_port_is_missing_and_another_too_many(place):
    """The task names them, and its diff shows nothing else."""
    table, before = place.paths.nft_table, rules(place)
    key = "ip_one_port { 127.0.0.1 . tcp . 28931 }"
    subprocess.run(["nft", "delete", "element", "inet", table, *key.split()], check=True)
    more = "{ udp . 28999 : 10.9.9.9 }"
    subprocess.run(["nft", "add", "element", "inet", table, "ip_any_address", *more.split()], check=True)
    told = mended(place, f"firewall {table}: mend port 28931/tcp on 127.0.0.1, port 28999/udp")
    diff = {side: told["diff"][side][f"firewall {table}"] for side in ("before", "after")}
    (before_diff,), (after_diff,) = (side.values() for side in diff.values())
    assert before_diff["port 28999/udp"] == "10.9.9.9:?"
    assert after_diff["port 28999/udp"] == "missing"
    assert before_diff["port 28931/tcp on 127.0.0.1"].endswith(":?")
    assert before_diff.keys() == after_diff.keys() == {"port 28931/tcp on 127.0.0.1", "port 28999/udp"}
    assert rules(place) == before


def test_table_deleted(place):
    before = rules(place)
    subprocess.run(["nft", "delete", "table", "inet", place.paths.nft_table], check=True)
    mended(place, "firewall")
    assert rules(place) == before


def test_foreign_rule_in_our_table(place):
    before = rules(place)
    table = place.paths.nft_table
    subprocess.run(["nft", "add", "rule", "inet", table, "forward", "tcp", "dport", "81", "drop"], check=True)
    mended(place, "firewall")
    assert rules(place) == before


@pytest.mark.parametrize("file", ["hosts", "resolv.conf", "hostname"])
def test_name_file_overwritten_inside(place, file):
    before = place.sh("web", f"cat /etc/{file}")
    place.sh("web", f"echo 203.0.113.9 elsewhere > /etc/{file}")
    mended(place, f"mend /etc/{file}")
    assert place.sh("web", f"cat /etc/{file}") == before


@pytest.mark.parametrize("file", ["hosts", "resolv.conf", "hostname"])
def test_name_file_made_huge_inside_is_not_read(place, file):
    place.sh("web", f"truncate -s 15000G /etc/{file}")
    mended(place, f"mend /etc/{file}")
    assert os.path.getsize(f"{place.paths.etc('web')}/{file}") < 4096


@pytest.mark.parametrize("file", ["hosts", "resolv.conf", "hostname"])
def test_name_file_lies_on_the_disk_that_the_layer_fills(place, file):
    """What a container's root writes to it must not take the room of the host's /run."""
    pid = place.facts("web")["pid"]
    inside = os.stat(f"/proc/{pid}/root/etc/{file}")
    assert os.path.samestat(inside, os.stat(f"{place.paths.etc('web')}/{file}"))
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    overlay = next(line for line in lines if line.split()[4] == "/")
    upper = next(word for word in overlay.split(",") if word.startswith("upperdir=")).partition("=")[2]
    assert inside.st_dev == os.stat(upper).st_dev
    assert not [name for name in os.listdir(place.paths.bundle("web")) if name == file]


def test_volume_taken_off_by_hand(place):
    pid = place.facts("db")["pid"]
    place.sh("db", "echo kept > /data/file")
    subprocess.run(["nsenter", "-t", str(pid), "-m", "umount", "/data"], check=True)
    mended(place, "mend volumes")
    assert place.sh("db", "cat /data/file") == "kept"


def test_a_volume_behind_a_symlink_is_where_it_leads(place, tmp_path):
    """As /var/run/docker.sock is in an image of Debian's, where /var/run is a symlink."""
    (tmp_path / "file").write_text("seen")
    place.sh("web", "mkdir /real; ln -s real /link; ln -s /real/in /real/last")
    pid = place.facts("web")["pid"]
    mounts = Path(f"/proc/{pid}/mountinfo")
    for target in ("/link/file", "/real/last"):
        volumes = [f"{tmp_path}:{target}"]
        assert place.task("container", name="web", volumes=volumes)["changed"]
        assert place.sh("web", f"cat {target}/file") == "seen"
        assert not place.task("container", name="web", volumes=volumes)["changed"]
        assert place.task("container", name="web", volumes=[])["changed"]
        assert "/real" not in mounts.read_text()
    assert place.facts("web")["pid"] == pid


def test_another_mount_put_in_a_volume_s_way_stays(place, tmp_path):
    volumes = [f"{tmp_path}:/way/timer_list"]
    place.task("container", name="web", volumes=volumes)
    place.sh("web", "mv /way /elsewhere; ln -s /proc /way")
    failed = place.task("container", fails=True, name="web", volumes=[])
    assert "restart the container" in failed["msg"]
    assert place.sh("web", "cat /proc/timer_list") == ""
    place.sh("web", "rm /way; mv /elsewhere /way")
    assert place.task("container", name="web", volumes=[])["changed"]


def test_network_namespace_unpinned(place):
    subprocess.run(["umount", "-l", place.paths.netns("web")], check=True)
    mended(place, "namespace")
    assert reachable(place)


def test_container_killed_by_hand_is_started_again(place):
    pid = place.facts("web")["pid"]
    db = place.process("db")
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + patient(10)
    while place.facts("web")["state"] != "exited" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert place.facts("web")["exit_code"] == 137
    mended(place, "container web: start", same_process=False)
    assert place.facts("web")["state"] == "running"
    assert place.process("db") == db
    assert reachable(place)


def test_supervisor_killed_is_replaced_and_nobody_notices(place):
    before = {name: place.process(name) for name in STACK["containers"]}
    pattern = f"{place.root}/.*vessel monitor"
    pids = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=True).stdout.split()
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)
    place.task("container", name="db", stop_timeout="2s")
    assert {name: place.process(name) for name in before} == before
    place.task("stack", **STACK)
