# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After all that was rolled out, rolled back and lost: every host serves the second version, nothing of a rollout is
left, and the counter runs once."""

from __future__ import annotations

import json
import os
import time
import urllib.request

import pytest

PLACE = os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]
OPTIONS = f"-F none -i {PLACE}/key -o StrictHostKeyChecking=no -o UserKnownHostsFile={PLACE}/known_hosts"
HOSTS = [f"10.84.0.1{number}" for number in range(1, 9)]


@pytest.fixture(params=HOSTS)
def address(request):
    return request.param


@pytest.fixture
def ssh(host, address):
    """A command on the host of the fleet."""
    return lambda command: host.check_output(f"ssh -q {OPTIONS} root@{address} {command}")


def test_page(address):
    with urllib.request.urlopen(f"http://{address}/", timeout=10) as answer:
        assert answer.read().strip() == b"2"


def test_nothing_of_a_rollout_is_left(ssh):
    assert ssh("ls /var/lib/vessel-rollout") == ""


def test_history(ssh):
    """One that ended at once is not what the host has; from the third, which was whole, it has gone back."""
    current = json.loads(ssh("cat /var/lib/vessel/stacks/site/history/current.json"))
    assert current["revision"] == 2


def test_the_counter_runs_once(host):
    listed = [json.loads(host.check_output(f"ssh -q {OPTIONS} root@{address} vessel ps --json")) for address in HOSTS]
    counters = [one["status"] for containers in listed for one in containers if one["name"] == "counter-1"]
    assert counters == ["running"]
    one = f"ssh -q {OPTIONS} root@{HOSTS[0]} cat /shared/counter/n"
    before = int(host.check_output(one))
    time.sleep(2)
    assert int(host.check_output(one)) > before
