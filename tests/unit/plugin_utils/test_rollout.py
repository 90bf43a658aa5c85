# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.plugin_utils.rollout import batches, short_of, unwell

HOSTS = [f"h{number}" for number in range(10)]


@pytest.mark.parametrize(
    ("sizes", "lengths"),
    [
        ([1, "25%"], [1, 2, 2, 2, 2, 1]),
        (["100%"], [10]),
        (["1%"], [1] * 10),
        ([3], [3, 3, 3, 1]),
        ([1, 20, 5], [1, 9]),
        ([" 4 "], [4, 4, 2]),
        ("25%", [2] * 5),
        (4, [4, 4, 2]),
    ],
)
def test_batches(sizes, lengths):
    found = batches(HOSTS, sizes)
    assert list(map(len, found)) == lengths
    assert [host for batch in found for host in batch] == HOSTS
    assert batches([], sizes) == []


@pytest.mark.parametrize("size", [0, "0%", "101%", -1, 1.5, True, "many", None, "25 %"])
def test_a_size_that_is_none(size):
    with pytest.raises(ValueError, match=r"^sizes\[1\]: .* is neither a number of hosts from 1 on nor a percentage"):
        batches(HOSTS, [1, size])


def test_no_sizes():
    with pytest.raises(ValueError, match=r"^sizes: \[\] is empty"):
        batches(HOSTS, [])


def container(**more):
    return {"name": "web", "state": "running", "health": None, "exit_code": None, "pid": 7, "restarts": 0, **more}


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ({}, []),
        ({"health": {"status": "healthy"}}, []),
        ({"health": {"status": "starting"}}, ["web is starting"]),
        ({"health": {"status": "unhealthy"}}, ["web is unhealthy"]),
        ({"state": "restarting"}, ["web is restarting"]),
        ({"state": "exited", "exit_code": 0}, []),
        ({"state": "exited", "exit_code": 3}, ["web ended with 3"]),
        ({"state": "exited", "exit_code": 137, "oom_killed": True}, ["web ended with 137 for want of memory"]),
        ({"state": "exited", "exit_code": None}, ["web ended with a code that nobody knows"]),
        ({"pid": 8}, ["web was started anew meanwhile"]),
        ({"restarts": 1}, ["web was started anew meanwhile"]),
    ],
)
def test_unwell(now, words):
    assert unwell([container(**now)], ["web"], [container()]) == words


def test_who_is_not_there_is_not_well_and_others_are_not_asked_for():
    assert unwell([container(name="other", state="exited", exit_code=1)], ["web"]) == ["web is not there"]


PLACED = {"h1": {"web": ["web-1"], "db": ["db-1"]}, "h2": {"web": ["web-2", "web-3"]}, "h3": {}}
WELL = {"h1": ["web-1", "db-1", "other"], "h2": ["web-2"]}


@pytest.mark.parametrize(
    ("well", "minimums", "words"),
    [
        ({"h1": ["web-1", "db-1"], "h2": ["web-2", "web-3"]}, None, []),
        (WELL, None, ["web: 2 of 3 are well, and 3 must be"]),
        (WELL, {"web": 2}, []),
        (WELL, {"web": "66%"}, []),
        (WELL, {"web": "67%"}, ["web: 2 of 3 are well, and 3 must be"]),
        (WELL, {"web": 9}, ["web: 2 of 3 are well, and 3 must be"]),  # no more than there are
        ({}, {"web": 1, "db": 0}, ["web: 0 of 3 are well, and 1 must be"]),
        # Well where it is to go from is not well where it is to be.
        ({"h1": ["db-1", "web-2"], "h2": ["web-1", "web-3"]}, {"web": 2}, ["web: 1 of 3 is well, and 2 must be"]),
    ],
)
def test_short_of(well, minimums, words):
    assert short_of(PLACED, well, minimums) == words


@pytest.mark.parametrize("value", [-1, True, "many", "101%", None, 1.5])
def test_a_minimum_that_is_none(value):
    with pytest.raises(ValueError, match=r"^minimums\.web: .* is neither a number of replicas nor a percentage"):
        short_of(PLACED, WELL, {"web": value})
