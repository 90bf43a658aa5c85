# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies and back-off, as docker has them."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import VesselError
from ansible_collections.vessel.host.plugins.module_utils._monitor.restart import Policy, next_delay


@pytest.mark.parametrize(
    ("policy", "retries", "code", "done", "restarts"),
    [
        ("no", 0, 0, 0, False),
        ("no", 0, 1, 0, False),
        ("always", 0, 0, 1000, True),
        ("always", 0, 1, 0, True),
        ("unless-stopped", 0, 0, 0, True),
        ("unless-stopped", 0, None, 0, True),
        ("on-failure", 0, 0, 0, False),
        ("on-failure", 0, 1, 1000, True),
        ("on-failure", 0, None, 0, True),
        ("on-failure", 3, 1, 2, True),
        ("on-failure", 3, 1, 3, False),
        ("on-failure", 3, 137, 0, True),
    ],
)
def test_policy(policy, retries, code, done, restarts):
    assert Policy(policy, retries).restarts(code, done) is restarts


def test_a_policy_that_is_none():
    with pytest.raises(VesselError, match="'sometimes' is none of no, always, on-failure, unless-stopped"):
        Policy("sometimes")


def test_back_off_doubles_to_a_minute():
    delays = [0.0]
    for dummy in range(12):
        delays.append(next_delay(delays[-1], 0.01))
    assert delays[1:6] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])
    assert delays[-1] == 60.0


def test_ten_seconds_of_life_forgive():
    assert next_delay(60.0, 9.9) == 60.0
    assert next_delay(60.0, 10.0) == 0.1
