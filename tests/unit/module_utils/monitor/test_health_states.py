# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state machine of a health check, with a clock of its own."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.module_utils._monitor.health import OUTPUT_LIMIT, Health, text
from ansible_collections.vessel.host.plugins.module_utils._monitor.settings import HealthCheck


def health(**changes):
    times = {"interval": 30.0, "timeout": 5.0, "retries": 3, "start_period": 0.0, "start_interval": 2.0}
    return Health(HealthCheck({"test": ["CMD", "x"], **times, **changes}), began=100.0)


def entry(code):
    return {"start": "", "end": "", "exit_code": code, "output": ""}


def test_success_is_healthy_at_once():
    it = health()
    assert it.status == "starting"
    assert it.result(130.0, entry(0)) is True
    assert it.status == "healthy"
    assert it.result(160.0, entry(0)) is False


def test_retries_in_a_row_are_unhealthy():
    it = health()
    it.result(130.0, entry(0))
    for dummy in range(2):
        assert it.result(140.0, entry(1)) is False
    assert it.status == "healthy"
    it.result(150.0, entry(0))
    assert it.failing_streak == 0
    for dummy in range(3):
        it.result(160.0, entry(1))
    assert (it.status, it.failing_streak) == ("unhealthy", 3)
    it.result(170.0, entry(0))
    assert (it.status, it.failing_streak) == ("healthy", 0)


def test_the_start_period_forgives_until_the_first_success():
    it = health(start_period=60.0, retries=1)
    assert it.delay(100.0) == 2.0
    it.result(102.0, entry(1))
    assert (it.status, it.failing_streak) == ("starting", 0)
    it.result(104.0, entry(0))
    assert it.delay(104.0) == 30.0
    it.result(106.0, entry(1))  # still within the period, but it has been well
    assert it.status == "unhealthy"


def test_the_start_period_ends():
    it = health(start_period=60.0, retries=1)
    assert it.delay(159.9) == 2.0
    assert it.delay(160.0) == 30.0
    it.result(160.0, entry(1))
    assert it.status == "unhealthy"


def test_five_results_are_kept():
    it = health()
    for code in range(8):
        it.result(130.0, entry(code))
    assert [kept["exit_code"] for kept in it.log] == [3, 4, 5, 6, 7]


def test_resumed_as_it_was_left():
    it = health()
    for code in (0, 1, 1):
        it.result(130.0, entry(code))
    again = Health.resumed(it.check, 100.0, it.to_dict())
    assert again.to_dict() == it.to_dict()
    again.result(140.0, entry(1))
    assert again.status == "unhealthy"
    assert Health.resumed(it.check, 100.0, None).status == "starting"
    assert Health.resumed(it.check, 100.0, {"status": "odd"}).status == "starting"


def test_output_as_text():
    assert text(b"one\ntwo\n\n") == "one\ntwo"
    assert text(b"\xff") == "\ufffd"
    assert len(text(b"x" * 9999)) == OUTPUT_LIMIT


@pytest.mark.parametrize(
    ("test", "args"), [(["CMD", "a", "b"], ["a", "b"]), (["CMD-SHELL", "a b"], ["/bin/sh", "-c", "a b"])]
)
def test_the_command(test, args):
    assert HealthCheck({"test": test}).args() == args
