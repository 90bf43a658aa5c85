# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor dies by SIGKILL before and after each thing that it does for one start and one end: each end that the
container had is counted as one restart, and no start is lost or done twice.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import MonitorError

from .monitor_host import Site, wait_for

pytestmark = pytest.mark.root

# Functions with a side effect; the process dies at the n-th call or return of one of them.
EFFECTS = "save begin _go finish knock _connect hear _finish delete discard remove ended clean await_restart _begin"
SUICIDE = """
import signal
effects, at, seen, ours = set({effects!r}.split()), {at}, 0, os.getpid()
counted = os.open({counted!r}, os.O_WRONLY | os.O_CREAT)
def watch(frame, event, argument):
    global seen
    code = frame.f_code
    if event in ("call", "return") and code.co_name in effects and "module_utils/_" in code.co_filename:
        if os.getpid() != ours:
            return  # a container's child
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)
        if at == 0:
            os.pwrite(counted, b"%d" % seen, 0)
sys.setprofile(watch)
"""
# Ends by itself in its first life, and stays in its second. It says so before anything else.
COMMAND = "echo start >>/starts; test $(grep -c start /starts) -ge 2 || exit 1; exec sleep 1000"
# The default is a sample that suits every run; VESSEL_KILL_STRIDE=1 sweeps them all.
STRIDE = int(os.environ.get("VESSEL_KILL_STRIDE", "4"))


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path / "site")
    (site.rootfs / "bin" / "grep").symlink_to("busybox")
    yield site
    site.close()


def starts(site: Site) -> int:
    path = Path(site.paths.resource("containers", "a"), "upper", "starts")
    return len(path.read_text().splitlines()) if path.exists() else 0


def lives(site: Site, at: int) -> None:
    """One start by a user, one end, one restart; killed at the n-th effect, and followed by a supervisor that lives."""
    counted = str(site.root / "effects")
    client = site.supervise(first=SUICIDE.format(effects=EFFECTS, at=at, counted=counted))
    site.bundle("a", COMMAND, restart={"policy": "always"})
    site.names[:] = ["a"]
    try:
        client.call("start", name="a")
        if at == 0:
            site.until("a", status="running", restarts=1)
            wait_for(lambda: starts(site) == 2)
            return
    except MonitorError:
        pass
    assert site.process is not None
    site.process.wait(20)
    client = site.supervise()
    if not os.path.exists(site.paths.status("a")):
        client.call("start", name="a")  # nothing is known of the request
    status = site.until("a", status="running", restarts=1)
    wait_for(lambda: starts(site) >= 2)
    assert starts(site) == 2, f"effect {at}"
    assert (status["exit_code"], status["finished_at"], status["oom_killed"]) == (None, "", False)
    assert status["started_at"]


def clean(site: Site) -> None:
    client = site.connect()
    client.call("remove", name="a", timeout=0)
    site.assert_clean()
    site.kill_supervisor()
    Path(site.paths.resource("containers", "a"), "upper", "starts").unlink()


def test_killed_at_each_effect(site):
    lives(site, 0)
    count = int((site.root / "effects").read_text())
    clean(site)
    assert count > 40
    for at in range(1, count + 1, STRIDE):
        lives(site, at)
        clean(site)
