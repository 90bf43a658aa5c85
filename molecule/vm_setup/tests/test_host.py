# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that the role has made ready, asked over ssh and from outside."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from pathlib import Path

PORT = "18485"
PATIENCE = 600.0  # seconds: emulated, and on a machine that has other things to do


def test_the_page_comes_through_the_published_port():
    record = json.loads(Path(os.environ["VESSEL_VM_PLACE"], "record.json").read_text())
    with urllib.request.urlopen(f"http://127.0.0.1:{record['wires']['ports'][PORT]}/", timeout=60) as answer:
        assert answer.read() == b"scribe\n"


def test_what_the_kernel_needs_is_loaded_at_the_next_boot_too(host):
    loaded = {line.split()[0] for line in host.file("/proc/modules").content_string.splitlines()}
    wanted = host.check_output("grep -v '^#' /etc/modules-load.d/vessel.conf").split()
    assert {"overlay", "veth", "nft_masq"} <= set(wanted)
    assert set(wanted) <= loaded


def test_parameters_are_set_now_and_at_the_next_boot(host):
    lines = host.check_output("grep -v '^#' /etc/sysctl.d/60-vessel.conf").splitlines()
    wanted = dict(line.split(" = ") for line in lines)
    assert wanted["net.ipv4.ip_forward"] == "1"
    assert {name: host.check_output(f"sysctl -n {name}") for name in wanted} == wanted


def test_subordinate_ids(host):
    assert host.file("/etc/subuid").content_string == host.file("/etc/subgid").content_string == "root:100000:65536\n"


def test_units_are_enabled_and_nothing_failed(host):
    assert host.check_output("systemctl is-enabled vessel vessel-restore").split() == ["enabled", "enabled"]
    assert host.check_output("systemctl is-system-running") == "running"


def test_the_timer_waits(host):
    timer = host.service("vessel-pull.timer")
    assert timer.is_enabled
    assert timer.is_running
    assert "vessel-pull.service" in host.check_output("systemctl list-timers --all --no-pager vessel-pull.timer")


def test_it_pulls_what_its_repository_says(host):
    """By the ansible-core of its own, with the collection that it was given: when the timer says so; what was committed
    since, at the next run; and then there is nothing to do."""
    seen = []
    for run, recap, memory in (
        (by_the_timer, "changed=1", "max"),
        (after_a_commit, "changed=1", str(24 << 20)),
        (at_once, "changed=0", str(24 << 20)),
    ):
        run(host)
        assert host.check_output("systemctl show --property=Result --value vessel-pull.service") == "success"
        said = host.check_output("journalctl --sync; journalctl --unit=vessel-pull.service --output=cat").splitlines()
        assert recap in [line for line in said if "changed=" in line][-1]
        pulled = [one for one in json.loads(host.check_output("vessel ps --json")) if one["name"] == "pulled"]
        assert [one["status"] for one in pulled] == ["running"]
        group = "/sys/fs/cgroup/vessel.slice/vessel-pulled.scope/container"
        assert host.file(f"{group}/memory.max").content_string.strip() == memory
        seen.append(pulled[0]["pid"])
    assert len(set(seen)) == 1
    assert host.check_output("systemctl is-system-running") == "running"


def by_the_timer(host):
    """Its first run is at the boot, or at once where that was before, but for the delay that is by chance."""
    settings = "/run/systemd/system/vessel-pull.timer.d"
    host.check_output(f"mkdir {settings} && printf '[Timer]\\nRandomizedDelaySec=0\\n' >{settings}/now.conf")
    host.check_output("systemctl daemon-reload && systemctl restart vessel-pull.timer")
    deadline = time.monotonic() + PATIENCE
    asked = "systemctl show --property=ExecMainStartTimestampMonotonic,ActiveState --value vessel-pull.service"
    while True:
        state = host.check_output(asked).split()
        if "0" not in state and ({"inactive", "failed"} & set(state)):
            break
        assert time.monotonic() < deadline, state
        time.sleep(2)
    host.check_output(f"rm -r {settings} && systemctl daemon-reload && systemctl restart vessel-pull.timer")


def after_a_commit(host):
    more = r"sed -i 's/^\( *\)network_mode: none/\1memory: 24m\n&/' local.yml && grep -q 24m local.yml"
    commit = "git -c user.name=Tester -c user.email=tester@example.org commit --quiet --all --message=second"
    host.check_output(f"cd /root/fleet && {more} && {commit}")
    at_once(host)


def at_once(host):
    host.check_output("systemctl start vessel-pull.service")
