# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health checks are processes in the container, and change what is known of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import WaitError

from .monitor_host import Site, children, wait_for, zombies

pytestmark = pytest.mark.root

FAST = {"interval": 0.05, "timeout": 5.0, "retries": 3, "start_period": 0.0, "start_interval": 0.05}
SLEEP = ["/bin/sleep", "1000"]


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path / "site")
    yield site
    site.close()


@pytest.fixture
def client(site):
    return site.supervise()


def inside(site, name="a"):
    """Its root through its process: what is changed below an overlay's back need not be seen in it."""
    return Path(f"/proc/{site.status(name)['pid']}/root")


def health(site, name="a"):
    return site.status(name)["health"]


def finish(site, client):
    for name in site.names:
        client.call("remove", name=name, timeout=0)
    assert children(site.process.pid) == []
    assert site.log() == ""
    site.assert_clean()


def test_starting_healthy_unhealthy_healthy(site, client):
    site.bundle("a", SLEEP, health={**FAST, "test": ["CMD-SHELL", "echo looked; test -e /well"]})
    client.call("start", name="a")
    assert health(site)["status"] == "starting"
    (inside(site) / "well").touch()
    status = client.call("wait", name="a", until="healthy", timeout=10)["status"]
    assert status["health"]["failing_streak"] == 0
    last = status["health"]["log"][-1]
    assert (last["exit_code"], last["output"]) == (0, "looked")
    assert last["end"] >= last["start"]
    (inside(site) / "well").unlink()
    wait_for(lambda: health(site)["status"] == "unhealthy")
    assert health(site)["failing_streak"] >= 3
    assert health(site)["log"][-1]["exit_code"] == 1
    wait_for(lambda: len(health(site)["log"]) == 5)
    # unhealthy is a word, not a sentence: it goes on running, and comes back
    assert site.status("a")["status"] == "running"
    (inside(site) / "well").touch()
    client.call("wait", name="a", until="healthy", timeout=10)
    finish(site, client)


def test_failures_in_the_start_period_do_not_count(site, client):
    check = {**FAST, "test": ["CMD", "/bin/false"], "start_period": 0.6, "retries": 1}
    site.bundle("a", SLEEP, health=check)
    began = time.monotonic()
    client.call("start", name="a")
    wait_for(lambda: health(site)["log"])
    assert health(site)["status"] == "starting"
    wait_for(lambda: health(site)["status"] == "unhealthy")
    assert time.monotonic() - began >= 0.6
    finish(site, client)


def test_start_interval_is_for_the_start_period(site, client):
    check = {**FAST, "test": ["CMD", "/bin/true"], "interval": 60.0, "start_period": 60.0}
    site.bundle("a", SLEEP, health=check)
    began = time.monotonic()
    client.call("start", name="a")
    client.call("wait", name="a", until="healthy", timeout=10)
    assert time.monotonic() - began < 3
    time.sleep(0.3)
    assert len(health(site)["log"]) == 1  # from now on every 60 s
    finish(site, client)


def test_a_probe_that_takes_too_long_is_killed_with_its_children(site, client):
    check = {
        **FAST,
        "test": ["CMD-SHELL", "echo began; sleep 4321 & sleep 4321; echo never"],
        "timeout": 0.2,
        "retries": 1,
    }
    site.bundle("a", SLEEP, health=check)
    client.call("start", name="a")
    wait_for(lambda: health(site)["status"] == "unhealthy")
    entry = health(site)["log"][0]
    assert entry["exit_code"] == -1
    assert entry["output"] == "began\nhealth check exceeded its timeout of 0.2 s"
    site.settings("a")
    client.call("reload", name="a")  # no more probes
    assert health(site) is None
    wait_for(lambda: not sleeping("4321"))
    assert zombies(site.process.pid) == []
    finish(site, client)


def sleeping(seconds):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                found.append(pid)
        except OSError:
            continue
    return found


def test_a_probe_that_is_not_there(site, client):
    site.bundle("a", SLEEP, health={**FAST, "test": ["CMD", "/bin/nope"], "retries": 1})
    client.call("start", name="a")
    wait_for(lambda: health(site)["status"] == "unhealthy")
    assert "/bin/nope" in health(site)["log"][0]["output"]
    finish(site, client)


def test_output_is_kept_up_to_4096_bytes_and_does_not_block(site, client):
    site.bundle("a", SLEEP, health={**FAST, "test": ["CMD-SHELL", "yes | head -c 300000"]})
    client.call("start", name="a")
    client.call("wait", name="a", until="healthy", timeout=10)
    assert len(health(site)["log"][0]["output"]) in (4095, 4096)  # but for the last newline
    finish(site, client)


def test_a_probe_is_in_the_container(site, client):
    """Its root, its namespaces, its group, its user, its environment, its capabilities."""
    script = "cat /proc/self/cgroup /proc/self/status; echo host $HOSTNAME_; id -u; test -e /in"
    (site.rootfs / "bin" / "id").symlink_to("busybox")
    home = Path(site.paths.resource("containers", "a"))
    process = site.config("a", home, SLEEP)["process"]
    process.update(user={"uid": 1234, "gid": 1234}, env=["PATH=/bin", "HOSTNAME_=inside"])
    check = {**FAST, "test": ["CMD-SHELL", script]}
    site.bundle("a", SLEEP, config={"process": process}, health=check)
    client.call("start", name="a")
    (inside(site) / "in").touch()
    client.call("wait", name="a", until="healthy", timeout=10)
    output = health(site)["log"][0]["output"]
    assert output.endswith("host inside\n1234")
    assert "NoNewPrivs:\t1" in output
    assert ":/\n" in output  # in the container's own group, as its cgroup namespace shows it
    finish(site, client)


def test_waiting_for_health_in_vain_tells_the_last_output(site, client):
    site.bundle("a", SLEEP, health={**FAST, "test": ["CMD-SHELL", "echo no database yet; exit 2"]})
    client.call("start", name="a")
    text = r"it is not healthy after 0\.5 s, but running and unhealthy; its last health check ended with 2: no database"
    with pytest.raises(WaitError, match=text):
        client.call("wait", name="a", until="healthy", timeout=0.5)
    client.call("stop", name="a", timeout=0)
    with pytest.raises(WaitError, match="it is not healthy: it has ended with exit code 137"):
        client.call("wait", name="a", until="healthy", timeout=5)
    finish(site, client)


def test_reload_takes_another_test_live(site, client):
    site.bundle("a", SLEEP, health={**FAST, "test": ["CMD", "/bin/false"], "retries": 1})
    pid = client.call("start", name="a")["pid"]
    wait_for(lambda: health(site)["status"] == "unhealthy")
    site.settings("a", health={**FAST, "test": ["CMD", "/bin/true"]})
    client.call("reload", name="a")
    status = client.call("wait", name="a", until="healthy", timeout=10)["status"]
    assert status["pid"] == pid
    assert len(status["health"]["log"]) == 1
    finish(site, client)


def test_no_probe_while_paused(site, client):
    site.bundle("a", SLEEP, health={**FAST, "test": ["CMD", "/bin/true"]})
    client.call("start", name="a")
    client.call("wait", name="a", until="healthy", timeout=10)
    client.call("pause", name="a")
    before = health(site)["log"]
    time.sleep(0.3)
    assert health(site)["log"] == before
    client.call("resume", name="a")
    wait_for(lambda: health(site)["log"] != before)
    finish(site, client)


def test_a_hung_probe_does_not_stop_the_supervisor(site, client):
    """The group is frozen behind the supervisor's back: a probe that joins it freezes too, and others are served."""
    site.bundle("a", SLEEP, health={**FAST, "test": ["CMD", "/bin/true"], "timeout": 0.3})
    site.bundle("b", ["/bin/true"])
    client.call("start", name="a")
    client.call("wait", name="a", until="healthy", timeout=10)
    from ansible_collections.vessel.host.plugins.module_utils._cgroup.manager import open_manager

    manager = open_manager(site.paths.cgroup("a"))
    for dummy in range(5):
        manager.freeze(True)
        time.sleep(0.12)
        began = time.monotonic()
        client.call("start", name="b")
        client.call("wait", name="b", until="exited", timeout=5)
        assert time.monotonic() - began < 1
        manager.freeze(False)
        time.sleep(0.05)
    client.call("wait", name="a", until="healthy", timeout=10)
    finish(site, client)


def test_stop_ends_a_probe_that_runs(site, client):
    site.bundle("a", SLEEP, health={**FAST, "test": ["CMD", "/bin/sleep", "9876"]})
    client.call("start", name="a")
    wait_for(lambda: len(children(site.process.pid)) == 2)
    client.call("stop", name="a", timeout=0)
    wait_for(lambda: children(site.process.pid) == [])
    assert site.status("a")["health"]["status"] == "starting"
    finish(site, client)
