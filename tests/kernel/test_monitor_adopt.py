# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor dies by SIGKILL; no container notices, and the next one knows all that can be known."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Optional

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cgroup.manager import open_manager

from .monitor_host import Site, children, start_ready, wait_for

pytestmark = pytest.mark.root

SERVICE = ["/bin/sh", "-c", "trap 'exit 5' TERM; i=0; while true; do i=$((i+1)); echo $i; usleep 10000; done"]
CHECK = {"test": ["CMD", "/bin/true"], "interval": 0.1, "timeout": 5.0, "retries": 3}


def known(code: int) -> set[Optional[int]]:
    """What may be known of a process that is no child: before Linux 6.15 only who is quick sees the zombie's code."""
    version = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
    return {code} if version >= (6, 15) else {code, None}


# The kernel refuses PIDFD_GET_INFO, as before Linux 6.13; the containers have the filter too, and do not care.
NO_PIDFD_INFO = """
from ansible_collections.vessel.host.plugins.module_utils._kernel import pidfd, seccomp
argument = {"index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": 0xFFFFFFFF, "valueTwo": pidfd.PIDFD_GET_INFO}
refused = {"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 25, "args": [argument]}
seccomp.install(seccomp.compile({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused]}))
"""
# The supervisor has a parent that gets its children, and reaps them at once as systemd does.
REAPED = """
import signal
from ansible_collections.vessel.host.plugins.module_utils._kernel import process
process.set_child_subreaper()
if os.fork():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        signal.pause()
"""
OTHER_NETWORK = """
from ansible_collections.vessel.host.plugins.module_utils._kernel import namespaces
namespaces.unshare(namespaces.CLONE_NEWNET)
"""


def connectors(pid: int) -> int:
    """How many sockets of the connector the process has."""
    sockets = [line.split() for line in Path("/proc/net/netlink").read_text().splitlines()]
    inodes = {fields[9] for fields in sockets if fields[1] == "11"}
    links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    return sum(link[8:-1] in inodes for link in links if link.startswith("socket:["))


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path / "site")
    yield site
    site.close()


@pytest.fixture
def reaped(site):
    """A supervisor's client; its containers leave no zombies when it is killed by ``kill_reaped``."""
    client = site.supervise(first=REAPED)
    reaper = site.process
    yield client
    reaper.kill()
    reaper.wait()


def kill_reaped(client):
    pid = client.call("ping")["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"))


@pytest.fixture
def client(site):
    return site.supervise()


def finish(site, client):
    for name in site.names:
        client.call("remove", name=name, timeout=0)
    assert children(site.process.pid) == []
    site.assert_clean()


def test_three_deaths_and_the_exit_code_is_right(site, client):
    site.bundle("a", SERVICE, health=CHECK, restart={"policy": "always"})
    client.call("start", name="a")
    client.call("kill", name="a", signal=9)
    site.until("a", restarts=1, status="running")
    before = client.call("wait", name="a", until="healthy", timeout=10)["status"]
    for dummy in range(3):
        site.kill_supervisor()
        client = site.supervise()
        now = client.call("status", name="a")["status"]
        for key in ("pid", "pid_start", "started_at", "restarts", "wanted", "backoff", "status"):
            assert now[key] == before[key], key
        assert now["health"]["status"] == "healthy"
    lines = [int(line) for line in site.output("a").splitlines()]
    last_life = lines[len(lines) - lines[::-1].index(1) - 1 :]
    assert last_life == list(range(1, len(last_life) + 1))  # it went on counting all the time
    # it is not our child any more: the kernel tells its code by the pidfd
    assert client.call("stop", name="a")["status"]["exit_code"] in known(5)
    finish(site, client)


@pytest.mark.parametrize(("command", "sent", "code"), [("usleep 800000; exit 42", 0, 42), ("sleep 1000", 9, 137)])
def test_exit_codes_of_the_adopted(site, client, command, sent, code):
    site.bundle("a", command)
    pid = client.call("start", name="a")["pid"]
    site.kill_supervisor()
    client = site.supervise()
    if sent:
        os.kill(pid, sent)
    assert client.call("wait", name="a", until="exited", timeout=10)["status"]["exit_code"] in known(code)
    finish(site, client)


def test_exit_codes_of_the_adopted_before_linux_6_15(site, reaped):
    """The kernel's process events have them: each code is right, and nobody listens before or after."""
    ends = {"zero": (15, 0), "three": (10, 3), "killed": (9, 137)}
    traps = "trap 'exit 0' TERM; trap 'exit 3' USR1; while true; do usleep 10000; done"
    for name in ends:
        site.bundle(name, traps, restart={"policy": "on-failure", "retries": 1})
        reaped.call("start", name=name)
    assert connectors(reaped.call("ping")["pid"]) == 0
    time.sleep(0.2)  # the traps are set
    kill_reaped(reaped)
    client = site.supervise(first=NO_PIDFD_INFO)
    assert connectors(site.process.pid) == 1
    for name, (sent, code) in ends.items():
        os.kill(site.status(name)["pid"], sent)
        assert site.until(name, pid=0)["exit_code"] == code
        if code:
            site.until(name, status="running", restarts=1)
            client.call("stop", name=name, timeout=0)
        assert client.call("status", name=name)["status"]["restarts"] == int(code != 0)
    assert connectors(site.process.pid) == 0
    assert "unknown" not in site.log()
    finish(site, client)


def test_exit_codes_of_the_adopted_where_nobody_tells(site, reaped):
    """As in a container: the kernel's process events are for its initial namespaces. It is said, once."""
    for name in ("a", "b"):
        site.bundle(name, "usleep 700000; exit 0")
        reaped.call("start", name=name)
    kill_reaped(reaped)
    client = site.supervise(first=OTHER_NETWORK + NO_PIDFD_INFO)
    for name in ("a", "b"):
        assert client.call("wait", name=name, until="exited", timeout=10)["status"]["exit_code"] is None
    assert site.log().count("the exit codes of adopted containers will be unknown: ") == 1
    finish(site, client)


def test_what_ended_meanwhile_is_started_by_its_policy(site, client):
    policies = {"no": "no", "always": "always", "failure": "on-failure"}
    for name, policy in policies.items():
        site.bundle(name, ["/bin/sleep", "1000"], restart={"policy": policy})
        client.call("start", name=name)
    pids = {name: site.status(name)["pid"] for name in policies}
    site.kill_supervisor()
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids.values()))
    client = site.supervise()
    ended = site.until("no", status="exited")
    assert ended["exit_code"] is None  # nobody was there to hear it
    for name in ("always", "failure"):
        again = site.until(name, status="running", restarts=1)
        assert again["pid"] != pids[name]
    finish(site, client)


def test_a_stopped_container_stays_stopped(site, client):
    site.bundle("a", ["/bin/sleep", "1000"], restart={"policy": "always"})
    site.bundle("b", "trap '' TERM; echo ready; while true; do usleep 10000; done", restart={"policy": "always"})
    client.call("start", name="a")
    start_ready(site, client, "b")
    pid = site.status("b")["pid"]
    client.call("stop", name="a", timeout=0)
    client.submit("stop", name="b", timeout=60)
    site.until("b", status="stopping")
    site.kill_supervisor()
    os.kill(pid, signal.SIGKILL)
    client = site.supervise()
    site.until("b", status="exited")
    time.sleep(0.4)
    assert site.status("a")["status"] == "exited"
    assert site.status("b")["status"] == "exited"
    finish(site, client)


def test_a_stop_goes_on(site, client):
    stop = {"signal": int(signal.SIGTERM), "timeout": 0.3}
    site.bundle("a", "trap '' TERM; echo ready; while true; do usleep 10000; done", stop=stop)
    start_ready(site, client)
    client.submit("stop", name="a", timeout=600)
    site.until("a", status="stopping")
    site.kill_supervisor()
    client = site.supervise()
    assert site.until("a", status="exited")["exit_code"] in known(137)
    finish(site, client)


def test_back_off_goes_on(site, client):
    site.bundle("a", "exit 1", restart={"policy": "always"})
    client.call("start", name="a")
    wait_for(lambda: site.status("a")["restarts"] >= 3 and site.status("a")["status"] == "restarting")
    before = site.status("a")
    site.kill_supervisor()
    client = site.supervise()
    after = site.until("a", restarts=before["restarts"] + 1)
    assert after["backoff"] >= before["backoff"]
    finish(site, client)


def test_paused_stays_paused(site, client):
    site.bundle("a", SERVICE)
    client.call("start", name="a")
    wait_for(lambda: site.output("a"))
    client.call("pause", name="a")
    site.kill_supervisor()
    client = site.supervise()
    assert client.call("status", name="a")["status"]["status"] == "paused"
    client.call("resume", name="a")
    assert client.call("stop", name="a")["status"]["exit_code"] in known(5)
    finish(site, client)


def test_killed_while_thirty_start(site, client):
    """Whatever moment it was: in the end each one runs once, or is started by the next supervisor."""
    names = [f"c{number}" for number in range(30)]
    for name in names:
        site.bundle(name, "echo up; exec sleep 1000")
    for name in names:
        client.submit("start", name=name)
    wait_for(lambda: any(os.path.exists(site.paths.status(name)) for name in names))
    time.sleep(0.05)
    site.kill_supervisor()
    client = site.supervise()
    for name in names:
        if not os.path.exists(site.paths.status(name)):
            client.call("start", name=name)  # the request had not been read yet
        client.call("wait", name=name, until="running", timeout=20)
    pids = [site.status(name)["pid"] for name in names]
    assert len(set(pids)) == 30
    for name, pid in zip(names, pids):
        # one process in the group: no second life beside it
        assert open_manager(site.paths.cgroup(name)).pids() == [pid]
    finish(site, client)


def test_a_pid_that_another_process_got_is_not_taken(site, client):
    """pid and start time are one name; a state that names a living process of another start time is an ended one."""
    import json

    site.bundle("a", ["/bin/sleep", "1000"])
    pid = client.call("start", name="a")["pid"]
    site.kill_supervisor()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"))
    for path in (site.paths.status("a"), f"{site.paths.runtime}/a/state.json"):
        data = json.loads(Path(path).read_text())
        data["pid"] = os.getpid()
        Path(path).write_text(json.dumps(data))
    client = site.supervise()
    assert site.until("a", status="exited")["exit_code"] is None
    os.kill(os.getpid(), 0)
    finish(site, client)


def test_a_bundle_that_is_gone(site, client):
    import shutil

    site.bundle("a", SERVICE)
    site.bundle("b", ["/bin/sleep", "1000"])
    client.call("start", name="a")
    pid = client.call("start", name="b")["pid"]
    site.kill_supervisor()
    shutil.rmtree(site.paths.bundle("a"))
    client = site.supervise()
    assert client.call("status", name="b")["status"]["pid"] == pid
    assert client.call("status", name="a")["status"]["status"] == "running"
    os.makedirs(site.paths.bundle("a"))
    finish(site, client)
