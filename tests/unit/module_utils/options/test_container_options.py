# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What no option of a container takes, and what is the same said otherwise."""

from __future__ import annotations

import os

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge.container import compile, identity
from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError
from ansible_collections.vessel.host.plugins.module_utils._image.store import Image
from ansible_collections.vessel.host.plugins.module_utils._options.container import DIRECTIVES, OPTIONS
from ansible_collections.vessel.host.plugins.module_utils._options.record import parse_options

# int() takes no superscripts, which str.isdigit() takes for digits.
SUPERSCRIPT = "\N{SUPERSCRIPT TWO}"


def parsed(**given):
    return parse_options((*DIRECTIVES, *OPTIONS), {"name": "c", **given})


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("name", "c\n", "is not a name"),
        ("memory", SUPERSCRIPT, "is not a size"),
        ("memory", "99999999999g", "is too large"),
        ("memory_swap", 1 << 63, "is too large"),
        ("cpus", float("inf"), "is out of range"),
        ("pids_limit", 5_000_000, "use 1 to 4194304"),
        ("ulimits", [f"nofile:{SUPERSCRIPT}"], "is not name:soft"),
        ("stop_signal", SUPERSCRIPT, "is not a signal"),
        ("stop_signal", "RTMIN+99", "RTMAX is 64"),
        ("tmpfs", [f"/x:size={SUPERSCRIPT}"], "is not a size"),
        ("tmpfs", ["/x:uid=somebody"], "is not a whole number"),
        ("tmpfs", ["/x:mode=rwx"], "is not a mode"),
        ("tmpfs", ["/"], "hides /"),
        ("tmpfs", ["/proc/"], "hides /proc"),
        ("dns_opts", ["ndots:2\nnameserver 192.0.2.1"], "has line breaks"),
        ("sysctls", {"net.core.somaxconn": "1\n2"}, "has line breaks"),
        ("published_ports", ["80:80", "80:81"], "has the host port of 0.0.0.0:80:80/tcp"),
        ("published_ports", ["80:80", "127.0.0.1:80:81"], "has the host port of"),
        ("published_ports", ["192.0.2.1:80:80", "192.0.2.2:80:80", "192.0.2.2:80:81"], "host port of 192.0.2.2:80:80"),
        ("volumes", ["x:/y:ro,rw"], "says both ro and rw"),
        ("volumes", ["x:/y:ro,ro"], "says ro twice"),
        ("volumes", ["x:/y:nosuid,nosuid"], "says nosuid twice"),
        ("volumes", ["x:/y:rslave,private"], "says both rslave and private"),
        ("tmpfs", ["/x:ro,rw"], "says both ro and rw"),
        ("tmpfs", ["/x:exec,noexec"], "says both exec and noexec"),
        ("tmpfs", ["/x:size=1m,size=2m"], "says size twice"),
        ("tmpfs", ["/x", "/x/:size=1m"], "is at /x, as another one is"),
        ("devices", ["/dev/null:/dev/x", "/dev/zero:/dev/x"], "is at /dev/x, as another one is"),
        ("devices", ["/dev/null:/dev/x:rr"], "each once"),
        ("devices", ["/dev/null:/"], "in place of the root"),
        ("ulimits", [f"nofile:{1 << 63}"], "is not name:soft"),
        ("sysctls", {"net.core.somaxconn": 1, "net/core/somaxconn": 2}, "once more"),
        ("etc_hosts", ["a:192.0.2.1", "a:192.0.2.2"], "names a twice"),
        ("stop_timeout", "9" * 400, "is not a duration"),
        ("restart_retries", 1 << 63, "is out of range; use 0 or more"),
        ("restart_retries", 10**400, "that length' is out of range"),
        ("stop_timeout", float("nan"), "is not a duration"),
    ],
)
def test_refused(option, value, words):
    with pytest.raises(OptionError, match=words) as caught:
        parsed(**{option: value})
    assert option in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value", "meant"),
    [
        ("published_ports", ["80:80", "[::]:80:80"], ["0.0.0.0:80:80/tcp", "[::]:80:80/tcp"]),
        ("published_ports", ["80", "81"], ["0.0.0.0::80/tcp", "0.0.0.0::81/tcp"]),
        ("published_ports", ["192.0.2.1:80:80", "192.0.2.2:80:81"], ["192.0.2.1:80:80/tcp", "192.0.2.2:80:81/tcp"]),
        ("tmpfs", ["/x/:uid=7,mode=0700,size=1m"], ["/x:mode=0700,size=1m,uid=7"]),
        ("sysctls", {"net/ipv4/ping_group_range": "0 7"}, {"net.ipv4.ping_group_range": "0 7"}),
        ("stop_signal", "RTMIN+3", 37),
    ],
)
def test_taken(option, value, meant):
    assert parsed(**{option: value})[option] == meant


def test_an_image_s_health_check_with_times_that_can_not_be():
    check = {"Test": ["CMD", "true"], "Interval": 1, "Timeout": -5, "Retries": -1, "StartPeriod": 2_000_000_000}
    health = compile.health({"healthcheck": None}, Image("x", "", (), {"Healthcheck": check}))
    assert health == {
        "test": ["CMD", "true"],
        "interval": 30.0,
        "timeout": 30.0,
        "retries": 3,
        "start_period": 2.0,
        "start_interval": 5.0,
    }


@pytest.mark.parametrize("make", ["mkdir", "mkfifo"])
def test_accounts_that_are_no_file_are_none(tmp_path, make):
    getattr(os, make)(tmp_path / "passwd")
    assert identity.read_file([str(tmp_path)], "passwd") == ""
