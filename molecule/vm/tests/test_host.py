# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine, asked over ssh and from outside: systemd, cgroup v2, the journal, the network; also after a reboot."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

import pytest

PORT = "18485"
SCOPE = "/vessel.slice/vessel-web.scope"
GROUP = f"/sys/fs/cgroup{SCOPE}/container"


@pytest.fixture(scope="module")
def url():
    """Where the guest's published port is on this host."""
    record = json.loads(Path(os.environ["VESSEL_VM_PLACE"], "record.json").read_text())
    return f"http://127.0.0.1:{record['wires']['ports'][PORT]}/"


@pytest.fixture
def containers(host):
    """What the host's own command says, by name."""
    return {container["name"]: container for container in json.loads(host.check_output("vessel ps --json"))}


@pytest.fixture
def web(containers):
    return containers["web"]["pid"]


def test_it_is_another_host(host):
    assert host.check_output("hostname") == os.environ["VESSEL_VM_NAME"]
    assert host.file("/proc/1/comm").content_string.strip() == "systemd"
    assert host.check_output("stat -f -c %T /sys/fs/cgroup") == "cgroup2fs"


def test_nothing_of_systemd_failed(host):
    assert host.check_output("systemctl is-system-running") == "running"


def test_the_supervisor_is_a_service(host):
    service = host.service("vessel")
    assert service.is_running
    assert service.is_enabled
    assert host.service("vessel-restore").is_enabled
    pid = host.check_output("systemctl show --property=MainPID --value vessel")
    assert host.file(f"/proc/{pid}/cgroup").content_string.strip() == "0::/system.slice/vessel.service"


def test_systemd_shows_each_by_its_name(host, web):
    shown = host.check_output("systemctl status --no-pager vessel-web.scope")
    assert "active (running)" in shown
    assert f"{web} " in shown
    assert "vessel-writer.scope" in host.check_output("systemd-cgls --no-pager --unit vessel.slice")
    assert host.check_output("systemctl show --property=Delegate --value vessel-web.scope") == "yes"


def test_limits_survive_a_reload_of_systemd(host):
    """The scope's own files are systemd's; ours are below."""
    before = host.file(f"{GROUP}/memory.max").content_string
    host.check_output("systemctl daemon-reload && systemctl set-property --runtime vessel-web.scope MemoryHigh=100M")
    assert host.file(f"{GROUP}/memory.max").content_string == before


def test_no_container_notices_the_end_of_the_supervisor(host, containers):
    before = {name: container["pid"] for name, container in containers.items()}
    host.check_output("systemctl kill --signal=KILL vessel && sleep 1 && systemctl restart vessel")
    after = {container["name"]: container["pid"] for container in json.loads(host.check_output("vessel ps --json"))}
    assert after == before
    assert host.service("vessel").is_running


def test_each_is_in_its_state(containers):
    assert {name: container["status"] for name, container in containers.items()} == {
        "front": "running",
        "setup": "exited",
        "web": "running",
        "writer": "running",
    }
    assert containers["setup"]["exit_code"] == 0


def test_the_page_comes_through_the_published_port(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert answer.read() == b"scribe\n"


def test_nobody_listens_for_it_on_the_host(host):
    assert f":{PORT}" not in host.check_output("ss --listening --tcp --numeric --no-header")
    assert PORT in host.check_output("nft list table inet vessel")


def test_one_finds_the_other_by_name(host):
    assert host.check_output("vessel exec writer wget -q -O - http://web/") == "scribe"


@pytest.mark.parametrize(
    ("file", "value"),
    [
        ("cpu.max", "50000 100000"),
        ("cpu.weight", "20"),
        ("cpuset.cpus", "1"),
        ("memory.max", str(32 << 20)),
        ("memory.low", str(16 << 20)),
        ("memory.swap.max", str(32 << 20)),
        ("pids.max", "16"),
        ("io.weight", "default 2930"),
    ],
)
def test_the_kernel_has_the_limit(host, file, value):
    assert host.file(f"{GROUP}/{file}").content_string.strip() == value


@pytest.mark.parametrize(("file", "value"), [("cpu.weight", "20"), ("io.weight", "default 2930")])
def test_weights_are_the_scope_s_for_there_it_has_neighbours(host, file, value):
    assert host.file(f"/sys/fs/cgroup{SCOPE}/{file}").content_string.strip() == value


def test_each_instance_has_a_scope_of_its_own(host, containers):
    """The first id's and the second's by turns. Which of them counts survives the boot, and nothing of the other is."""
    word = host.check_output("vessel exec writer wget -qO- front")
    scope = {"one": "vessel-front.scope", "two": "vessel-_front.scope"}[word]
    listed = host.check_output("systemctl list-units --all --plain --no-legend --full 'vessel-*front.scope'")
    assert [line.split()[:4] for line in listed.splitlines()] == [[scope, "loaded", "active", "running"]]
    group = f"/sys/fs/cgroup/vessel.slice/{scope}"
    assert host.check_output("ls -d /sys/fs/cgroup/vessel.slice/vessel-*front.scope") == group
    assert host.file(f"{group}/container/memory.max").content_string.strip() == str(24 << 20)
    assert str(containers["front"]["pid"]) in host.file(f"{group}/container/cgroup.procs").content_string.split()


@pytest.mark.parametrize("above", ["/vessel.slice", SCOPE])
def test_a_reservation_holds_against_other_groups(host, above):
    """The kernel protects a group by no more than those above it have."""
    assert host.file(f"/sys/fs/cgroup{above}/memory.low").content_string.strip() == str(16 << 20)


def test_the_group_is_the_process_own(host, web):
    assert host.file(f"/proc/{web}/cgroup").content_string.strip() == f"0::{SCOPE}/container"
    assert str(web) in host.file(f"{GROUP}/cgroup.procs").content_string.split()


def test_memory_is_limited_for_good(host, web):
    """It kills what asks for too much, and not the container."""
    before = _killed(host)
    assert host.run("vessel exec web sh -c 'x=$(head -c 100000000 /dev/zero | tr \"\\\\0\" x)'").rc == 137
    assert _killed(host) > before
    assert host.file(f"/proc/{web}/comm").exists


def _killed(host):
    lines = host.file(f"{GROUP}/memory.events").content_string.splitlines()
    return int(dict(line.split() for line in lines)["oom_kill"])


def test_processes_are_limited(host):
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do sleep 1 & done; wait"
    assert "can't fork" in host.run(f"vessel exec web sh -c '{script}'").stderr


def test_a_device_is_what_was_declared(host):
    """By a program in the kernel: cgroup v2 has no file for it."""
    assert host.run("vessel exec web sh -c ': </dev/fuse'").rc == 0
    refused = host.run("vessel exec web sh -c ': >/dev/fuse'")
    assert refused.rc != 0
    assert "Operation not permitted" in refused.stderr
    assert host.run("vessel exec writer sh -c 'mknod /scratch/fuse c 10 229 && : </scratch/fuse'").rc != 0


def test_the_journal_has_what_it_said(host, web):
    for words in ("SYSLOG_IDENTIFIER=vessel-web", "--unit vessel-web.scope"):
        lines = host.check_output(f"journalctl --boot --output json {words}").splitlines()
        assert "serving" in [json.loads(line)["MESSAGE"] for line in lines]
    assert host.check_output("vessel logs web").splitlines()[-1] == "serving"


def test_a_volume_is_read_only_where_declared(host):
    assert host.run("vessel exec web touch /pages/x").rc != 0
    assert host.run("vessel exec writer touch /pages/x").rc == 0
    assert host.mount_point("/var/lib/vessel/volumes/scratch/data").filesystem == "tmpfs"


def test_apparmor_confines_it(host, web):
    """Its own profile, which the kernel lost at the boot; what is executed in it has it too."""
    profile = "vessel-default (enforce)"
    assert host.file(f"/proc/{web}/attr/apparmor/current").content_string.strip() == profile
    assert host.check_output("vessel exec web cat /proc/self/attr/current") == profile
    assert json.loads(host.check_output("vessel inspect web"))["security"]["apparmor_profile"] == profile
