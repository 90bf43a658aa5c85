# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that the role has made ready, asked over ssh and from outside."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

PORT = "18485"


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
