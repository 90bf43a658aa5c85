# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to_quadlet gives, run by systemd and podman in a Debian 13: in order, as declared, and again after a reboot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.plugin_utils.export.filtering import to_quadlet
from ansible_collections.vessel.host.tests import declared
from ansible_collections.vessel.host.tests.bench import quadlet

from .machine import Machine, machine, until

pytestmark = [
    pytest.mark.vm,
    pytest.mark.root,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="QEMU is not installed"),
]
START = ("--cold", "--suite", "trixie", "--packages", "podman,netavark,aardvark-dns,crun", "--publish", "18080")
_ON = {"image": "busybox", "networks": [{"name": "inside"}], "stop_timeout": "2s"}
STACK: dict[str, Any] = {
    "name": "site",
    "networks": {"inside": {"subnet": "10.85.0.0/24", "mtu": 1400}},
    "volumes": {"data": {}, "memory": {"driver": "tmpfs", "size": "1m", "owner": "33", "mode": "0700"}},
    "containers": {
        # In the order against that in which they can start.
        "web": {
            **_ON,
            "command": ["sh", "-c", "cat /data/made /run/secrets/key > /tmp/index.html; exec httpd -f -p 80 -h /tmp"],
            "env": {"NASTY": declared.NASTY, "LINES": declared.TWO_LINES},
            "labels": {"nasty": declared.NASTY},
            "volumes": ["data:/data:ro", "memory:/memory"],
            "tmpfs": ["/tmp:size=1m,mode=1777"],
            "read_only": True,
            "memory": "32m",
            "memory_high": "24m",
            "published_ports": ["18080:80"],
            "secrets": [{"name": "key", "content": declared.SECRET, "mode": "0440", "gid": 34}],
            "restart_policy": "always",
            "depends_on": {"db": "healthy", "job": "completed"},
        },
        "db": {
            **_ON,
            "command": ["sh", "-c", "sleep 3; touch /tmp/ready; exec sleep 1000000"],
            "healthcheck": {"test": ["CMD", "test", "-e", "/tmp/ready"], "interval": "2s", "start_period": "5m"},
            "restart_policy": "always",
        },
        "job": {**_ON, "command": ["sh", "-c", "echo made > /data/made"], "volumes": ["data:/data"]},
        "idle": {**_ON, "command": ["sleep", "1000000"], "state": "stopped"},
    },
}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine("quadlets", tmp_path_factory.mktemp("quadlets"), *START) as host:
        host.ssh(quadlet.importing("docker.io/library/busybox:latest"))
        host.ssh("podman secret create site-key -", input=declared.SECRET)
        for name, text in to_quadlet(STACK).items():
            host.write(f"{quadlet.DIRECTORY}/{name}", text)
        host.ssh("systemctl daemon-reload && systemctl start site-web.service")
        yield host


def inspect(host: Machine, name: str) -> dict[str, Any]:
    return dict(json.loads(host.ssh(f"podman inspect {name}"))[0])


def stamp(host: Machine, name: str, what: str) -> int:
    """Microseconds by systemd's clock."""
    return int(host.ssh(f"systemctl show --value --property {what} site-{name}.service"))


def test_it_starts_in_order_and_answers(host):
    page = until("the page", lambda: host.page(18080))
    assert page == f"made\n{declared.SECRET}"
    assert inspect(host, "db")["State"]["Health"]["Status"] == "healthy"
    begun = stamp(host, "web", "InactiveExitTimestampMonotonic")
    assert begun >= max(stamp(host, name, "ActiveEnterTimestampMonotonic") for name in ("db", "job"))
    shown = host.ssh("systemctl show --property ActiveState,SubState site-job.service").split()
    assert shown == ["ActiveState=active", "SubState=exited"]
    assert host.ssh("systemctl is-active site-idle.service", check=False).strip() == "inactive"


def test_values_are_data(host):
    for name, value in (("NASTY", declared.NASTY), ("LINES", declared.TWO_LINES)):
        assert host.ssh(f"podman exec web sh -c 'printf %s. \"${name}\"'") == f"{value}."
    assert inspect(host, "web")["Config"]["Labels"]["nasty"] == declared.NASTY


def test_the_kernel_has_the_limits(host):
    group = "/sys/fs/cgroup$(podman inspect --format '{{.State.CgroupPath}}' web)"
    limits = host.ssh(f"cat {group}/memory.max {group}/memory.high {group}/memory.swap.max {group}/pids.max")
    assert limits.split() == [str(32 << 20), str(24 << 20), "max", "max"]


def test_the_process_has_no_more_rights(host):
    status = dict(
        line.split(":\t") for line in host.ssh("podman exec web cat /proc/1/status").splitlines() if ":\t" in line
    )
    assert status["NoNewPrivs"] == "1"
    # The twelve of _converge/container/security.py, by their numbers in linux/capability.h.
    held = (0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 29, 31)
    assert int(status["CapBnd"], 16) == sum(1 << number for number in held)


def test_files_are_as_declared(host):
    assert host.ssh("podman exec web stat -c %u:%g:%a /run/secrets/key") == "0:34:440\n"
    assert host.ssh("podman exec web stat -c %u:%a /memory") == "33:700\n"
    assert host.ssh("podman exec web cat /sys/class/net/eth0/mtu") == "1400\n"
    assert "Read-only" in host.ssh("podman exec web touch /x 2>&1", check=False)


def test_it_comes_back_after_a_reboot(host):
    boot = host.ssh("cat /proc/sys/kernel/random/boot_id")
    host.ssh("systemctl reboot", check=False)
    until("another boot", lambda: host.ssh("cat /proc/sys/kernel/random/boot_id", check=False) not in ("", boot))
    assert until("the page", lambda: host.page(18080)) == f"made\n{declared.SECRET}"
    assert host.ssh("systemctl is-active site-idle.service", check=False).strip() == "inactive"
