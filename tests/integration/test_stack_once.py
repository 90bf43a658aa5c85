# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container of a stack that does its work and ends, such as a migration: once, until it is changed."""

from __future__ import annotations

import pytest

from .place import Place

pytestmark = pytest.mark.root

PLAIN = {"image": "bb", "network_mode": "none", "stop_timeout": "1s"}


def stack(script: str, **app: object) -> dict[str, object]:
    once = {**PLAIN, "command": ["sh", "-c", script]}
    return {"name": "s", "containers": {"app": {**PLAIN, **app, "depends_on": {"once": "completed"}}, "once": once}}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(str(tmp_path_factory.mktemp("once") / "vessel"))
    place.busybox()
    yield place
    place.task("stack", name="s", state="absent")
    place.remove()


def test_what_has_ended_well_is_not_run_again(place):
    assert place.task("stack", **stack("exit 0"))["changed"]
    done = place.facts("once")["finished_at"]
    for check in (True, False):
        assert not place.task("stack", check=check, **stack("exit 0"))["changed"]
    # Who waits for it does not wait for another end.
    assert place.task("stack", **stack("exit 0", env={"A": "1"}))["actions"] == ["container app: set env (restart)"]
    assert place.facts("once")["finished_at"] == done
    assert place.task("stack", **stack("sleep 0.1"))["changed"]
    assert place.facts("once")["finished_at"] > done
    assert not place.task("stack", **stack("sleep 0.1"))["changed"]


def test_what_has_failed_is_run_again(place):
    place.task("stack", name="s", state="absent")
    assert "exit code 3" in place.task("stack", fails=True, **stack("exit 3"))["msg"]
    assert "exit code 3" in place.task("stack", fails=True, **stack("exit 3"))["msg"]
    assert place.task("stack", **stack("exit 0"))["changed"]
    assert not place.task("stack", **stack("exit 0"))["changed"]
