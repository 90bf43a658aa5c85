# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last test of all can fail: what it looks for is found."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.tests import leftovers

pytestmark = [pytest.mark.root, pytest.mark.alone]


@pytest.mark.parametrize(
    ("make", "undo", "kind"),
    [
        ("mount -t tmpfs none {dir}", "umount {dir}", "mounts"),
        ("ip link add vsltest0 type bridge", "ip link delete vsltest0", "links"),
        ("nft add table inet vessel-left", "nft delete table inet vessel-left", "nftables"),
        ("mkdir /sys/fs/cgroup/pids/vessel-left", "rmdir /sys/fs/cgroup/pids/vessel-left", "cgroups"),
        ("touch /usr/local/bin/vessel-left", "rm /usr/local/bin/vessel-left", "files"),
        ("ip netns add vessel-left", "ip netns delete vessel-left", "files"),
    ],
)
def test_what_is_left_is_found(make, undo, kind, tmp_path):
    if "cgroup" in make and not Path("/sys/fs/cgroup/pids").is_dir():
        make, undo = make.replace("/pids", ""), undo.replace("/pids", "")
    before = leftovers.take()
    subprocess.run(make.format(dir=tmp_path), shell=True, check=True)
    try:
        found = leftovers.difference(before, leftovers.take())
    finally:
        subprocess.run(undo.format(dir=tmp_path), shell=True, check=True)
    assert [line for line in found if line.startswith(f"{kind}: ") and line.endswith(" is left")], found


def test_a_process_in_a_namespace_of_its_own_is_found():
    before = leftovers.take()
    process = subprocess.Popen(["unshare", "--net", "sleep", "61"])
    try:
        deadline = time.monotonic() + 10
        while "processes: sleep 61 is left" not in leftovers.difference(before, leftovers.take()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
