# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a placement tells: who moves and why, what has no host and why, and what is near to having one."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError
from ansible_collections.vessel.host.plugins.plugin_utils.place import gather
from ansible_collections.vessel.host.plugins.plugin_utils.place.placement import place

ONE = {"cpus": 4, "memory": "8g"}


def hosts(**more):
    return {name: {**ONE, **body} for name, body in more.items()}


def test_unplaced_with_its_reason_and_the_nearest_fit():
    services = {"db": {"memory": "12g", "cpus": 1, "constraints": ["labels.disk == 'ssd'"], "replicas": 2}}
    there = hosts(
        h1={"labels": {"disk": "ssd"}},
        h2={"labels": {"disk": "ssd"}, "memory": "10g"},
        h3={"memory": "32g", "taints": ["gpu:NoSchedule"], "cpus": 0.5},
    )
    result = place(services, there)
    assert (result["complete"], result["changes"]) == (False, False)
    one, two = result["unplaced"]
    assert (one["replica"], two["replica"]) == ("db-1", "db-2")
    assert one["reason"] == (
        "none of 3 hosts: memory (2), constraint labels.disk == 'ssd' (1), cpus (1), taint gpu:NoSchedule (1)"
    )
    assert one["refused"]["memory"] == {"count": 2, "hosts": ["h1", "h2"]}
    assert one["nearest"] == {"host": "h2", "rules": [], "lacks": {"memory": 2 << 30}}


def test_why_not_where_a_port_or_a_device_is_not_to_be_had():
    there = hosts(
        h1={"ports": [80], "devices": {"gpu": 1}},
        h2={"devices": {"gpu": 2}},
        h3={"cpus": 0.5, "ports": ["10.0.0.1:80"], "devices": {"gpu": 8}},
        h4={"cordon": True, "ports": [80]},
        h5={},
    )
    services = {
        "big": {"cpus": 1, "ports": [80], "priority": 2},
        "gpu": {"devices": {"gpu": 1}, "max_per_host": 1, "replicas": 2, "priority": 1},
        "web": {"cpus": 1, "ports": ["127.0.0.1:80"]},
    }
    why = place(services, there)["why"]
    assert why["big"]["candidates"] == 2
    cordon = {"count": 1, "hosts": ["h4"]}
    port = {"count": 2, "hosts": ["h1", "h3"]}
    assert why["big"]["refused"] == {"cordon": cordon, "cpus": {"count": 1, "hosts": ["h3"]}, "port 80/tcp": port}
    assert why["big"]["replicas"]["big-1"]["because"].endswith("best of 2")
    assert why["gpu"]["refused"] == {"cordon": cordon, "device gpu": {"count": 1, "hosts": ["h5"]}}
    (other,) = {"h2", "h5"} - {why["big"]["replicas"]["big-1"]["host"]}
    assert (why["web"]["candidates"], why["web"]["replicas"]["web-1"]["host"]) == (1, other)
    taken = [name for name in ("h1", "h2", "h5") if name != other]
    assert why["web"]["refused"]["port 127.0.0.1:80/tcp"] == {"count": 2, "hosts": taken}


def test_the_nearest_by_its_rules():
    there = hosts(h1={"drain": True, "cpus": 1}, h2={"taints": ["a=b:NoExecute"]})
    (one,) = place({"web": {"cpus": 2}}, there)["unplaced"]
    assert one["nearest"] == {"host": "h2", "rules": ["taint a=b:NoExecute"], "lacks": {}}
    assert one["reason"] == "none of 2 hosts: cpus (1), drain (1), taint a=b:NoExecute (1)"


def test_moves_starts_and_stops():
    there = hosts(h1={"drain": True, "running": ["web-1", "web-2", "web-4", "other"]}, h2={"running": ["web-3"]}, h3={})
    result = place({"web": {"replicas": 3}, "db": {}}, there)
    assert [(move["replica"], move["from"], move["because"]) for move in result["moves"]] == [
        ("web-1", "h1", "drain"),
        ("web-2", "h1", "drain"),
    ]
    assert result["starts"][0]["replica"] == "db-1"
    assert result["stops"] == [{"service": "web", "replica": "web-4", "from": "h1", "because": "replicas is 3 now"}]
    assert result["why"]["web"]["replicas"]["web-3"]["because"] == "it runs there, and no rule is against it"
    assert result["usage"]["h1"]["containers"] == 1


def test_what_runs_twice_is_ended_once():
    there = hosts(h1={"drain": True, "running": ["web-1"]}, h2={"running": ["web-1"]}, h3={"running": ["web-1"]})
    result = place({"web": {}}, there)
    assert result["hosts"]["h2"] == {"web": ["web-1"]}
    assert sorted((stop["from"], stop["because"]) for stop in result["stops"]) == [
        ("h1", "it runs twice"),
        ("h3", "it runs twice"),
    ]
    assert (result["moves"], result["starts"]) == ([], [])


def test_what_follows_another_goes_with_it():
    services = {"db": {"cpus": 1}, "web": {"affinity": ["db"]}}
    there = hosts(h1={"drain": True, "running": ["db-1", "web-1"]}, h2={})
    moves = {move["replica"]: (move["to"], move["because"]) for move in place(services, there)["moves"]}
    assert moves == {"db-1": ("h2", "drain"), "web-1": ("h2", "drain")}
    # Its own host is not drained, and its company left.
    there = hosts(h1={"labels": {"ok": ""}, "running": ["db-1", "web-1"]}, h2={"labels": {"ok": "yes"}})
    services["db"]["constraints"] = ["labels.ok"]
    moves = {move["replica"]: (move["to"], move["because"]) for move in place(services, there)["moves"]}
    assert moves == {"db-1": ("h2", "constraint labels.ok"), "web-1": ("h2", "affinity to db over host")}


def test_who_lost_its_company_for_a_while_stays():
    services = {
        "db": {"constraints": ["labels.disk"], "cpus": 1},
        "web": {"affinity": [{"service": "db", "topology": "zone"}]},
    }
    zone = {"zone": "z"}
    there = hosts(h1={"labels": zone, "running": ["db-1", "web-1"]}, h2={"labels": {**zone, "disk": "ssd"}})
    result = place(services, there)
    assert [move["replica"] for move in result["moves"]] == ["db-1"]
    assert result["hosts"]["h1"] == {"web": ["web-1"]}


def test_company_that_gave_way_takes_others_along():
    """web can't be without db, and db had to make room for one of a higher priority."""
    services = {
        "db": {"cpus": 3},
        "web": {"affinity": ["db"]},
        "top": {"cpus": 4, "priority": 5},
    }
    result = place(services, hosts(h1={"running": ["db-1", "web-1"]}))
    assert result["hosts"]["h1"] == {"top": ["top-1"]}
    assert [stop["replica"] for stop in result["stops"]] == ["db-1", "web-1"]
    assert result["stops"][0]["because"] == "top-1 has priority 5"
    assert sorted(one["replica"] for one in result["unplaced"]) == ["db-1", "web-1"]


def test_measured_memory_is_asked_of_what_is_new_alone():
    there = hosts(h1={"memory_available": "1g", "running": ["old-1"]}, h2={"memory_available": "3g"})
    result = place({"old": {"memory": "4g"}, "new": {"memory": "2g"}}, there)
    assert result["hosts"] == {"h1": {"old": ["old-1"]}, "h2": {"new": ["new-1"]}}
    (one,) = place({"new": {"memory": "4g"}}, hosts(h1={"memory_available": "1g"}))["unplaced"]
    assert one["nearest"]["lacks"] == {"memory": 3 << 30}


def test_the_idle_host_comes_first():
    """By requests both are empty; something else keeps one of them busy."""
    result = place({"new": {"cpus": 1}}, hosts(h1={"idle_cpus": 0.2}, h2={"idle_cpus": 3.5}))
    assert result["hosts"]["h2"] == {"new": ["new-1"]}
    assert result["why"]["new"] == {
        "candidates": 2,
        "refused": {},
        "replicas": {
            "new-1": {"host": "h2", "was": None, "because": "0 of new there, the least load (38%); best of 2"}
        },
    }


def test_a_port_of_the_hosts_own_is_that_of_the_container_that_runs():
    """With the host's network a container listens there itself, and host_info sees that."""
    there = hosts(h1={"ports": [80], "running": ["web-1"]}, h2={"ports": [80]})
    result = place({"web": {"replicas": 2, "ports": [80]}}, there)
    assert result["hosts"]["h1"] == {"web": ["web-1"]}
    assert [one["replica"] for one in result["unplaced"]] == ["web-2"]


CAPACITY = {
    "cpus": 4,
    "memory": 8 << 30,
    "idle_cpus": 3.5,
    "memory_available": 6 << 30,
    "ports": ["0.0.0.0:22/tcp", "[::]:22/tcp"],
    "devices": ["/dev/kvm", "/dev/ttyUSB0"],
    "containers": {
        "web-1": {"cpus": 1, "memory": 1 << 30, "ports": ["0.0.0.0:80/tcp"], "devices": ["/dev/kvm"], "labels": {}}
    },
}


def test_hosts_of_a_play():
    variables = {
        "vessel_host": {"host": {"capacity": CAPACITY}},
        "vessel_labels": {"zone": "a"},
        "vessel_taints": ["gpu:NoSchedule"],
        "vessel_drain": False,
        "vessel_devices": {"gpu": 2},
        "vessel_memory": "4g",
        "group_names": ["web"],
        "ansible_facts": {"distribution": "Debian"},
    }
    found = gather.hosts(["h1"], {"h1": variables})
    assert found["h1"]["devices"] == {"/dev/kvm": None, "/dev/ttyUSB0": 1, "gpu": 2}
    assert found["h1"]["memory"] == "4g"
    services = {
        "web": {"cpus": 1, "ports": [80], "devices": {"/dev/kvm": 1}},
        "gpu": {
            "devices": {"gpu": 2},
            "tolerations": [{"key": "gpu"}],
            "constraints": ["facts.distribution == 'Debian'"],
        },
        "ssh": {"ports": [22], "tolerations": [{"key": "gpu"}]},
    }
    result = place(services, found)
    assert result["hosts"] == {"h1": {"web": ["web-1"], "gpu": ["gpu-1"]}}
    assert result["unplaced"][0]["nearest"] == {"host": "h1", "rules": [], "lacks": {"port 22/tcp": 1}}


@pytest.mark.parametrize("told", [None, {"skipped": True}, {"host": {"capacity": {"cpus": 1}}}])
def test_a_host_of_which_nothing_is_known(told):
    variables = {} if told is None else {"vessel_host": told}
    with pytest.raises(OptionError, match=r"hosts: \['h2'\] have no result of host_info in the variable vessel_host"):
        gather.hosts(["h1", "h2"], {"h1": {"vessel_host": {"host": {"capacity": CAPACITY}}}, "h2": variables})


@pytest.mark.parametrize(
    ("state", "variables", "found"),
    [
        ("undrained", {}, {}),
        ("undrained", {"vessel_drain": True}, {"drain": True}),
        ("drained", {}, {"drain": True}),
        ("drained", {"vessel_drain": False}, {"drain": True}),  # the host knows what an old inventory does not
        ("cordoned", {}, {"cordon": True}),
    ],
)
def test_the_mark_that_a_host_keeps(state, variables, found):
    told = {"host": {"capacity": CAPACITY, "drain": {"state": state, "stopped": []}}}
    host = gather.hosts(["h1"], {"h1": {"vessel_host": told, **variables}})["h1"]
    assert {key: host[key] for key in ("drain", "cordon") if key in host} == found
