# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds of every placement, tried on thousands of small ones that nobody thought of.

They are the same in every run: a failure can be run again.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.plugin_utils.place.placement import Unplaced, place
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .judge import again, broken, where

NAMES = ("a", "b", "c", "d", "e")
ZONES = ("x", "y", "z")
TAINTS = ("k=v:NoSchedule", "m=v:NoExecute", "p=v:PreferNoSchedule")
CONSTRAINTS = ("labels.zone == 'x'", "labels.zone != 'y'", "labels.disk == 'ssd'", "name != 'h0'")
many = settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def optional(name: str, value: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(st.just({}), st.just({}), value.map(lambda found: {name: found}))


def merged(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda found: {key: value for part in found for key, value in part.items()})


labels = st.fixed_dictionaries({}, optional={"zone": st.sampled_from(ZONES), "disk": st.sampled_from(("ssd", "hdd"))})
others = st.dictionaries(
    st.sampled_from(("other", "more")),
    st.fixed_dictionaries({"cpus": st.sampled_from((0, 0.5, 1))}, optional={"ports": st.just([80])}),
    max_size=1,
)
one_host = merged(
    st.fixed_dictionaries({"cpus": st.integers(1, 6), "memory": st.sampled_from(("2g", "4g", "8g")), "labels": labels}),
    optional("taints", st.lists(st.sampled_from(TAINTS), max_size=2, unique=True)),
    optional("devices", st.fixed_dictionaries({"gpu": st.integers(0, 3)})),
    optional("running", others),
    optional("cordon", st.booleans()),
)
hosts = st.lists(one_host, min_size=1, max_size=6).map(lambda found: {f"h{i}": host for i, host in enumerate(found)})
term = st.fixed_dictionaries(
    {"service": st.sampled_from(NAMES), "topology": st.sampled_from(("host", "zone")), "required": st.booleans()}
)
spread = st.fixed_dictionaries(
    {"topology": st.sampled_from(("host", "zone")), "max_skew": st.integers(1, 2), "required": st.booleans()}
)


def service(*, company: bool = True, priorities: bool = True) -> st.SearchStrategy[dict[str, Any]]:
    return merged(
        st.fixed_dictionaries({"replicas": st.integers(0, 5), "strategy": st.sampled_from(("spread", "pack"))}),
        optional("cpus", st.sampled_from((0.1, 0.5, 1, 2))),
        optional("memory", st.sampled_from(("100m", "1g", "3g"))),
        optional("ports", st.lists(st.sampled_from((80, 443)), max_size=2, unique=True)),
        optional("devices", st.just({"gpu": 1})),
        optional("constraints", st.lists(st.sampled_from(CONSTRAINTS), max_size=1)),
        optional("preferences", st.lists(st.sampled_from(CONSTRAINTS), max_size=2)),
        optional("tolerations", st.just([{"key": "k"}, {"key": "m"}])),
        optional("anti_affinity", st.lists(term, max_size=1)),
        optional("affinity", st.lists(term, max_size=1)) if company else st.just({}),
        optional("spread", st.lists(spread, max_size=2, unique_by=lambda rule: rule["topology"])),
        optional("max_per_host", st.integers(1, 3)),
        optional("priority", st.integers(-1, 2)) if priorities else st.just({}),
    )


def services(**how: bool) -> st.SearchStrategy[dict[str, Any]]:
    # All the names are there, for others to be near to.
    return st.tuples(*[service(**how) for dummy in NAMES]).map(lambda found: dict(zip(NAMES, found)))


@many
@given(st.one_of(services(), services(priorities=False)), hosts)
def test_all_rules_hold(given_services, given_hosts):
    result = place(given_services, given_hosts)
    same = len({body.get("priority", 0) for body in given_services.values()}) == 1
    # Who gives way may leave the others of its service unevenly spread, as with Kubernetes.
    assert broken(result, given_services, given_hosts, afresh=same) == []


@many
@given(services(), hosts, st.randoms(use_true_random=False))
def test_the_order_in_which_it_is_said_says_nothing(given_services, given_hosts, chance):
    def shuffled(body: dict[str, Any]) -> dict[str, Any]:
        items = list(body.items())
        chance.shuffle(items)
        return dict(items)

    before = copy.deepcopy((given_services, given_hosts))
    result = place(given_services, given_hosts)
    assert (given_services, given_hosts) == before
    assert place(shuffled(given_services), shuffled(given_hosts)) == result


@many
@given(services(), hosts)
def test_a_second_time_nothing_moves(given_services, given_hosts):
    first = place(given_services, given_hosts)
    second = place(given_services, again(first, given_hosts))
    assert (second["moves"], second["stops"], second["starts"]) == ([], [], [])
    assert where(second) == where(first)


@many
@given(services(), hosts, one_host)
def test_a_host_that_is_added_moves_nothing(given_services, given_hosts, added):
    first = place(given_services, given_hosts)
    second = place(given_services, {**again(first, given_hosts), "h00": added})
    assert (second["moves"], second["stops"]) == ([], [])
    assert {start["to"] for start in second["starts"]} <= {"h00"}


@many
@given(services(company=False, priorities=False), hosts, st.integers(0, 5))
def test_a_host_that_is_drained_moves_its_own(given_services, given_hosts, number):
    first = place(given_services, given_hosts)
    drained = f"h{number % len(given_hosts)}"
    now = again(first, given_hosts)
    now[drained]["drain"] = True
    second = place(given_services, now)
    leaving = {name for name, host in where(first).items() if host == drained}
    assert {one["replica"] for one in second["moves"] + second["stops"]} == leaving
    assert second["hosts"][drained] == {}
    assert broken(second, given_services, now, afresh=False) == []


@many
@given(services(), hosts, services())
def test_all_rules_hold_when_others_are_declared(before, given_hosts, after):
    """What ran by other rules is there: it stays, moves, or ends."""
    now = again(place(before, given_hosts), given_hosts)
    result = place(after, now)
    assert broken(result, after, now, afresh=False) == []
    ran = {name for host in now.values() for name in host["running"]}
    told = {stop["replica"] for stop in result["stops"]} | set(where(result))
    assert {name for name in ran if name.partition("-")[0] in NAMES} <= told


@many
@given(services(), hosts)
def test_who_asks_for_the_same_is_told_the_same_as_alone(given_services, given_hosts):
    given_services.update({f"{name}2": copy.deepcopy(body) for name, body in given_services.items()})
    told = place(given_services, given_hosts)["unplaced"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Unplaced, "_shape", lambda self, service: service.name)
        assert place(given_services, given_hosts)["unplaced"] == told
