# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cases that kube-scheduler's documentation decides, in our words and in the terms of ``vessel.host.place``.

Each has the page that its rule is from, below https://kubernetes.io/docs/. ``lands`` says for each replica the hosts
that it may be put on, as Kubernetes would; an empty set is one that stays pending.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

RESOURCES = "concepts/configuration/manage-resources-containers/"
PACKING = "concepts/scheduling-eviction/resource-bin-packing/"
CONFIG = "reference/scheduling/config/"  # the plugins, NodePorts among them
ASSIGN = "concepts/scheduling-eviction/assign-pod-node/"
TAINTS = "concepts/scheduling-eviction/taint-and-toleration/"
SPREAD = "concepts/scheduling-eviction/topology-spread-constraints/"
PRIORITY = "concepts/scheduling-eviction/pod-priority-preemption/"
NODES = "concepts/architecture/nodes/"
DRAIN = "tasks/administer-cluster/safely-drain-node/"
DEVICES = "concepts/extend-kubernetes/compute-storage-net/device-plugins/"

Data = dict[str, Any]


@dataclass
class Case:
    name: str
    page: str
    services: Data
    hosts: Data
    lands: dict[str, set[str]]
    moves: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def h(cpus: float = 4, memory: str = "8g", **more: Any) -> Data:
    return {"cpus": cpus, "memory": memory, **more}


def zones(*names: str, **more: Any) -> Data:
    """Hosts n1, n2 … each in the zone that is named."""
    return {f"n{number}": h(labels={"zone": name}, **more) for number, name in enumerate(names, start=1)}


def with_running(hosts: Data, **running: Any) -> Data:
    return {name: {**body, **({"running": running[name]} if name in running else {})} for name, body in hosts.items()}


def term(service: str, topology: str = "host", **more: Any) -> Data:
    return {"service": service, "topology": topology, **more}


TWO = {"n1": h(), "n2": h()}

CASES = [
    # NodeResourcesFit: the sum of the requests there, with the new ones, is no more than the node has.
    Case("a request that is all there is", RESOURCES, {"a": {"cpus": 4, "memory": "8g"}}, {"n1": h()}, {"a-1": {"n1"}}),
    Case("a request of more CPUs than any node", RESOURCES, {"a": {"cpus": 4.001}}, TWO, {"a-1": set()}),
    Case("a request of a byte more than any node", RESOURCES, {"a": {"memory": (8 << 30) + 1}}, TWO, {"a-1": set()}),
    # Requests count, though what runs there may use less.
    Case(
        "requests of what runs are taken",
        RESOURCES,
        {"a": {"cpus": 1}},
        with_running(TWO, n1={"old": {"cpus": 3.5}}),
        {"a-1": {"n2"}},
    ),
    Case(
        "nothing is lent from CPUs to memory",
        RESOURCES,
        {"a": {"cpus": 1, "memory": "1g"}},
        with_running(TWO, n1={"old": {"cpus": 4}}, n2={"old": {"memory": "8g"}}),
        {"a-1": set()},
    ),
    Case(
        "what requests nothing fits on a full node",
        RESOURCES,
        {"a": {}},
        with_running({"n1": h()}, n1={"old": {"cpus": 4, "memory": "8g"}}),
        {"a-1": {"n1"}},
    ),
    # A limit without a request is the request too.
    Case(
        "a limit is the request when there is none",
        RESOURCES,
        {"a": {"container": {"memory": "6g"}}},
        {"n1": h(memory="4g"), "n2": h()},
        {"a-1": {"n2"}},
    ),
    Case(
        "a request is not the limit when there are both",
        RESOURCES,
        {"a": {"memory": "1g", "container": {"memory": "6g"}}},
        {"n1": h(memory="4g")},
        {"a-1": {"n1"}},
    ),
    # LeastAllocated and MostAllocated.
    Case(
        "least allocated",
        PACKING,
        {"a": {"cpus": 1, "strategy": "spread"}},
        with_running(TWO, n1={"old": {"cpus": 2}}),
        {"a-1": {"n2"}},
    ),
    Case(
        "most allocated",
        PACKING,
        {"a": {"cpus": 1, "strategy": "pack"}},
        with_running({"n1": h(), "n2": h()}, n2={"old": {"cpus": 2}}),
        {"a-1": {"n2"}},
    ),
    # Extended resources are whole and are not promised twice.
    Case(
        "devices are counted",
        DEVICES,
        {"a": {"replicas": 3, "devices": {"gpu": 1}}},
        {"n1": h(devices={"gpu": 2}), "n2": h()},
        {"a-1": {"n1"}, "a-2": {"n1"}, "a-3": set()},
    ),
    Case("a device that no node has", DEVICES, {"a": {"devices": {"fpga": 1}}}, TWO, {"a-1": set()}),
    # NodePorts: the triple of address, protocol and port is had once a node; 0.0.0.0 is every address.
    Case(
        "a host port is had once",
        CONFIG,
        {"a": {"replicas": 3, "ports": [80]}},
        TWO,
        {"a-1": {"n1", "n2"}, "a-2": {"n1", "n2"}, "a-3": set()},
    ),
    Case(
        "the same port of another protocol",
        CONFIG,
        {"a": {"ports": ["53/udp"]}},
        with_running({"n1": h()}, n1={"old": {"ports": ["53/tcp"]}}),
        {"a-1": {"n1"}},
    ),
    Case(
        "the same port of another address",
        CONFIG,
        {"a": {"ports": ["10.0.0.1:80"]}},
        with_running({"n1": h()}, n1={"old": {"ports": ["10.0.0.2:80"]}}),
        {"a-1": {"n1"}},
    ),
    Case(
        "every address is that one too",
        CONFIG,
        {"a": {"ports": ["10.0.0.1:80"]}},
        with_running({"n1": h()}, n1={"old": {"ports": [80]}}),
        {"a-1": set()},
    ),
    # Taints.
    Case("NoSchedule keeps away", TAINTS, {"a": {}}, {"n1": h(taints=["k=v:NoSchedule"]), "n2": h()}, {"a-1": {"n2"}}),
    Case(
        "NoSchedule leaves what runs",
        TAINTS,
        {"a": {}},
        with_running({"n1": h(taints=["k=v:NoSchedule"]), "n2": h()}, n1=["a-1"]),
        {"a-1": {"n1"}},
    ),
    Case(
        "NoExecute drives away what runs",
        TAINTS,
        {"a": {}},
        with_running({"n1": h(taints=["k=v:NoExecute"]), "n2": h()}, n1=["a-1"]),
        {"a-1": {"n2"}},
        {"a-1"},
    ),
    Case("NoExecute keeps away", TAINTS, {"a": {}}, {"n1": h(taints=["k=v:NoExecute"])}, {"a-1": set()}),
    Case(
        "NoExecute tolerated, what runs stays",
        TAINTS,
        {"a": {"tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute"}]}},
        with_running({"n1": h(taints=["k=v:NoExecute"]), "n2": h()}, n1=["a-1"]),
        {"a-1": {"n1"}},
    ),
    Case(
        "PreferNoSchedule is avoided",
        TAINTS,
        {"a": {"cpus": 1}},
        with_running({"n1": h(taints=["k=v:PreferNoSchedule"]), "n2": h()}, n2={"old": {"cpus": 2}}),
        {"a-1": {"n2"}},
    ),
    Case(
        "PreferNoSchedule is taken when nothing else is left",
        TAINTS,
        {"a": {"cpus": 3}},
        with_running({"n1": h(taints=["k=v:PreferNoSchedule"]), "n2": h()}, n2={"old": {"cpus": 2}}),
        {"a-1": {"n1"}},
    ),
    *(
        Case(
            f"toleration {name}",
            TAINTS,
            {"a": {"tolerations": [toleration]}},
            {"n1": h(taints=["k=v:NoSchedule"])},
            {"a-1": {"n1"} if covers else set()},
        )
        for name, toleration, covers in (
            ("Equal with the value", {"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}, True),
            ("Equal with another value", {"key": "k", "operator": "Equal", "value": "w"}, False),
            ("Exists", {"key": "k", "operator": "Exists"}, True),
            ("without an operator is Equal", {"key": "k", "value": "v"}, True),
            ("of another key", {"key": "j", "operator": "Exists"}, False),
            ("of another effect", {"key": "k", "operator": "Exists", "effect": "NoExecute"}, False),
            ("without an effect is of all", {"key": "k", "value": "v"}, True),
            ("Exists without a key is of all", {"operator": "Exists"}, True),
        )
    ),
    Case(
        "each taint must be tolerated",
        TAINTS,
        {"a": {"tolerations": [{"key": "k1", "value": "v1", "effect": "NoSchedule"}]}},
        {"n1": h(taints=["k1=v1:NoSchedule", "k2=v2:NoSchedule"])},
        {"a-1": set()},
    ),
    Case(
        "a toleration draws nobody",
        TAINTS,
        {"a": {"cpus": 1, "tolerations": [{"key": "k"}]}},
        with_running({"n1": h(taints=["k=v:NoSchedule"]), "n2": h()}, n1={"old": {"cpus": 2}}),
        {"a-1": {"n2"}},
    ),
    # Cordoned and drained nodes.
    Case("a cordoned node takes no new ones", NODES, {"a": {}}, {"n1": h(cordon=True), "n2": h()}, {"a-1": {"n2"}}),
    Case(
        "a cordoned node keeps what runs",
        NODES,
        {"a": {}},
        with_running({"n1": h(cordon=True), "n2": h()}, n1=["a-1"]),
        {"a-1": {"n1"}},
    ),
    Case(
        "a drained node loses what runs",
        DRAIN,
        {"a": {}},
        with_running({"n1": h(drain=True), "n2": h()}, n1=["a-1"]),
        {"a-1": {"n2"}},
        {"a-1"},
    ),
    # nodeSelector, node affinity.
    Case(
        "required node affinity",
        ASSIGN,
        {"a": {"constraints": ["labels.disk == 'ssd'"]}},
        {"n1": h(labels={"disk": "hdd"}), "n2": h(labels={"disk": "ssd"}), "n3": h()},
        {"a-1": {"n2"}},
    ),
    Case(
        "In",
        ASSIGN,
        {"a": {"constraints": ["contains(['z1', 'z2'], labels.zone)"]}},
        zones("z3", "z2"),
        {"a-1": {"n2"}},
    ),
    Case("NotIn", ASSIGN, {"a": {"constraints": ["labels.zone != 'z1'"]}}, zones("z1", "z2"), {"a-1": {"n2"}}),
    Case(
        "NotIn is true of a node without the label",
        ASSIGN,
        {"a": {"constraints": ["labels.zone != 'z1'"]}},
        {"n1": h(labels={"zone": "z1"}), "n2": h()},
        {"a-1": {"n2"}},
    ),
    Case(
        "Exists",
        ASSIGN,
        {"a": {"constraints": ["labels.zone"]}},
        {"n1": h(), "n2": h(labels={"zone": "z1"})},
        {"a-1": {"n2"}},
    ),
    Case(
        "DoesNotExist",
        ASSIGN,
        {"a": {"constraints": ["!(labels.zone)"]}},
        {"n1": h(labels={"zone": "z1"}), "n2": h()},
        {"a-1": {"n2"}},
    ),
    Case(
        "Gt",
        ASSIGN,
        {"a": {"constraints": ["to_number(labels.cores) > `8`"]}},
        {"n1": h(labels={"cores": 8}), "n2": h(labels={"cores": 16})},
        {"a-1": {"n2"}},
    ),
    Case(
        "all of several constraints",
        ASSIGN,
        {"a": {"constraints": ["labels.zone == 'z1'", "labels.disk == 'ssd'"]}},
        {
            "n1": h(labels={"zone": "z1"}),
            "n2": h(labels={"disk": "ssd"}),
            "n3": h(labels={"zone": "z1", "disk": "ssd"}),
        },
        {"a-1": {"n3"}},
    ),
    Case(
        "preferred node affinity",
        ASSIGN,
        {"a": {"cpus": 1, "preferences": [{"constraint": "labels.zone == 'z2'", "weight": 50}]}},
        with_running(zones("z1", "z2"), n2={"old": {"cpus": 2}}),
        {"a-1": {"n2"}},
    ),
    Case(
        "the heavier of two preferences",
        ASSIGN,
        {
            "a": {
                "preferences": [
                    {"constraint": "labels.zone == 'z1'", "weight": 1},
                    {"constraint": "labels.zone == 'z2'", "weight": 50},
                ]
            }
        },
        zones("z1", "z2"),
        {"a-1": {"n2"}},
    ),
    Case(
        "what is preferred and full is done without",
        ASSIGN,
        {"a": {"cpus": 3, "preferences": ["labels.zone == 'z2'"]}},
        with_running(zones("z1", "z2"), n2={"old": {"cpus": 2}}),
        {"a-1": {"n1"}},
    ),
    # Affinity between pods.
    Case(
        "affinity to a zone",
        ASSIGN,
        {"db": {"constraints": ["name == 'n2'"], "cpus": 4}, "web": {"cpus": 1, "affinity": [term("db", "zone")]}},
        zones("z1", "z2", "z2"),
        {"db-1": {"n2"}, "web-1": {"n3"}},
    ),
    Case(
        "affinity to a host",
        ASSIGN,
        {"db": {"constraints": ["name == 'n2'"]}, "web": {"affinity": [term("db")]}},
        zones("z1", "z2", "z2"),
        {"db-1": {"n2"}, "web-1": {"n2"}},
    ),
    Case(
        "affinity to what is nowhere",
        ASSIGN,
        {"db": {"replicas": 0}, "web": {"affinity": [term("db")]}},
        TWO,
        {"web-1": set()},
    ),
    Case(
        "the first of those who want to be together",
        ASSIGN,
        {"web": {"replicas": 3, "cpus": 1, "affinity": [term("web", "zone")]}},
        zones("z1", "z1", "z2", "z2"),
        {"web-1": {"n1", "n2", "n3", "n4"}, "web-2": {"n1", "n2", "n3", "n4"}, "web-3": {"n1", "n2", "n3", "n4"}},
    ),
    Case(
        "affinity needs the topology's label",
        ASSIGN,
        {"web": {"affinity": [term("web", "rack")]}},
        TWO,
        {"web-1": set()},
    ),
    Case(
        "preferred affinity",
        ASSIGN,
        {
            "db": {"constraints": ["name == 'n2'"], "cpus": 2, "priority": 1},
            "web": {"cpus": 1, "affinity": [term("db", required=False, weight=10)]},
        },
        TWO,
        {"db-1": {"n2"}, "web-1": {"n2"}},
    ),
    Case(
        "anti-affinity to itself over hosts",
        ASSIGN,
        {"web": {"replicas": 3, "strategy": "pack", "anti_affinity": [term("web")]}},
        TWO,
        {"web-1": {"n1", "n2"}, "web-2": {"n1", "n2"}, "web-3": set()},
    ),
    Case(
        "anti-affinity over zones",
        ASSIGN,
        {"web": {"replicas": 2, "anti_affinity": [term("web", "zone")]}},
        zones("z1", "z1"),
        {"web-1": {"n1", "n2"}, "web-2": set()},
    ),
    Case(
        "anti-affinity is symmetric",
        ASSIGN,
        {"web": {}, "db": {"anti_affinity": [term("web")]}},
        with_running({"n1": h()}, n1=["db-1"]),
        {"db-1": {"n1"}, "web-1": set()},
    ),
    Case(
        "anti-affinity of a node without the label",
        ASSIGN,
        {"web": {"replicas": 2, "anti_affinity": [term("web", "rack")]}},
        {"n1": h()},
        {"web-1": {"n1"}, "web-2": {"n1"}},
    ),
    Case(
        "anti-affinity by labels",
        ASSIGN,
        {"web": {"anti_affinity": [{"labels": {"tier": "db"}}]}},
        with_running(TWO, n1={"old": {"labels": {"tier": "db"}}}),
        {"web-1": {"n2"}},
    ),
    Case(
        "preferred anti-affinity",
        ASSIGN,
        {"web": {"replicas": 3, "strategy": "pack", "anti_affinity": [term("web", required=False)]}},
        {"n1": h(), "n2": h(), "n3": h()},
        {"web-1": {"n1"}, "web-2": {"n2"}, "web-3": {"n3"}},
    ),
    # Topology spread constraints.
    Case(
        "max_skew 1, DoNotSchedule",
        SPREAD,
        {"web": {"replicas": 4, "spread": [{"topology": "zone"}]}},
        with_running(zones("z1", "z1", "z2", "z2"), n1=["web-1"], n2=["web-2"], n3=["web-3"]),
        {"web-1": {"n1"}, "web-2": {"n2"}, "web-3": {"n3"}, "web-4": {"n3", "n4"}},
    ),
    Case(
        "max_skew 1, and the other zone is full",
        SPREAD,
        {"web": {"replicas": 3, "cpus": 2, "spread": [{"topology": "zone"}]}},
        {"n1": h(cpus=16, labels={"zone": "z1"}), "n2": h(cpus=2, labels={"zone": "z2"})},
        {"web-1": {"n1", "n2"}, "web-2": {"n1", "n2"}, "web-3": {"n1"}},
    ),
    Case(
        "max_skew 1, and the other zone has no room at all",
        SPREAD,
        {"web": {"replicas": 2, "cpus": 2, "spread": [{"topology": "zone"}]}},
        {"n1": h(cpus=16, labels={"zone": "z1"}), "n2": h(cpus=1, labels={"zone": "z2"})},
        {"web-1": {"n1"}, "web-2": set()},
    ),
    Case(
        "max_skew 2",
        SPREAD,
        {"web": {"replicas": 3, "cpus": 2, "spread": [{"topology": "zone", "max_skew": 2}]}},
        {"n1": h(cpus=16, labels={"zone": "z1"}), "n2": h(cpus=1, labels={"zone": "z2"})},
        {"web-1": {"n1"}, "web-2": {"n1"}, "web-3": set()},
    ),
    Case(
        "ScheduleAnyway prefers what lowers the skew",
        SPREAD,
        {"web": {"replicas": 2, "cpus": 1, "spread": [{"topology": "zone", "required": False}]}},
        with_running(zones("z1", "z1", "z2"), n1=["web-1"], n3={"old": {"cpus": 2}}),
        {"web-1": {"n1"}, "web-2": {"n3"}},
    ),
    Case(
        "ScheduleAnyway goes where there is room",
        SPREAD,
        {"web": {"replicas": 2, "cpus": 1, "spread": [{"topology": "zone", "required": False}]}},
        with_running(zones("z1", "z1", "z2"), n1=["web-1"], n3={"old": {"cpus": 4}}),
        {"web-1": {"n1"}, "web-2": {"n1", "n2"}},
    ),
    Case(
        "two constraints at once",
        SPREAD,
        {"web": {"replicas": 4, "spread": [{"topology": "zone"}, {"topology": "host"}]}},
        with_running(zones("z1", "z1", "z2"), n1=["web-1"], n3=["web-2", "web-3"]),
        {"web-1": {"n1"}, "web-2": {"n3"}, "web-3": {"n3"}, "web-4": {"n2"}},
    ),
    Case(
        "conflicting constraints leave it pending",
        SPREAD,
        {"web": {"replicas": 6, "spread": [{"topology": "zone"}, {"topology": "host"}]}},
        with_running(zones("z1", "z1", "z2"), n1=["web-1", "web-2"], n2=["web-3"], n3=["web-4", "web-5"]),
        {
            "web-1": {"n1"},
            "web-2": {"n1"},
            "web-3": {"n2"},
            "web-4": {"n3"},
            "web-5": {"n3"},
            "web-6": set(),
        },
    ),
    Case(
        "nodes without the label are bypassed",
        SPREAD,
        {"web": {"replicas": 2, "spread": [{"topology": "zone"}]}},
        {"n1": h(labels={"zone": "z1"}), "n2": h()},
        {"web-1": {"n1"}, "web-2": {"n1"}},
    ),
    Case(
        "zones that node affinity excludes do not count",
        SPREAD,
        {"web": {"replicas": 3, "spread": [{"topology": "zone"}], "constraints": ["labels.zone != 'z3'"]}},
        zones("z1", "z2", "z3"),
        {"web-1": {"n1", "n2"}, "web-2": {"n1", "n2"}, "web-3": {"n1", "n2"}},
    ),
    Case(
        "zones that taints exclude count (nodeTaintsPolicy Ignore)",
        SPREAD,
        {"web": {"replicas": 3, "spread": [{"topology": "zone"}]}},
        {**zones("z1", "z2"), "n3": h(labels={"zone": "z3"}, taints=["k=v:NoSchedule"])},
        {"web-1": {"n1", "n2"}, "web-2": {"n1", "n2"}, "web-3": set()},
    ),
    # Priority and preemption.
    Case(
        "the higher priority comes first",
        PRIORITY,
        {"low": {"cpus": 3}, "top": {"cpus": 3, "priority": 10}},
        {"n1": h()},
        {"top-1": {"n1"}, "low-1": set()},
    ),
    Case(
        "a lower priority gives way",
        PRIORITY,
        {"low": {"cpus": 3}, "top": {"cpus": 3, "priority": 10}},
        with_running({"n1": h()}, n1=["low-1"]),
        {"top-1": {"n1"}, "low-1": set()},
    ),
    Case(
        "an equal priority does not give way",
        PRIORITY,
        {"old": {"cpus": 3}, "new": {"cpus": 3}},
        with_running({"n1": h()}, n1=["old-1"]),
        {"old-1": {"n1"}, "new-1": set()},
    ),
    Case(
        "nobody gives way where there is room",
        PRIORITY,
        {"low": {"cpus": 3}, "top": {"cpus": 3, "priority": 10}},
        with_running(TWO, n1=["low-1"]),
        {"low-1": {"n1"}, "top-1": {"n2"}},
    ),
    Case(
        "nobody gives way where it would not help",
        PRIORITY,
        {"low": {"cpus": 1}, "top": {"cpus": 4, "priority": 10}},
        with_running({"n1": h()}, n1={"low-1": {}, "other": {"cpus": 1}}),
        {"low-1": {"n1"}, "top-1": set()},
    ),
    Case(
        "as few as can be give way",
        PRIORITY,
        {"low": {"replicas": 2, "cpus": 2}, "top": {"cpus": 2, "priority": 10}},
        with_running({"n1": h()}, n1=["low-1", "low-2"]),
        {"low-1": {"n1"}, "low-2": set(), "top-1": {"n1"}},
    ),
    Case(
        "the lowest priority gives way",
        PRIORITY,
        {"low": {"cpus": 4}, "mid": {"cpus": 4, "priority": 5}, "top": {"cpus": 4, "priority": 10}},
        with_running(TWO, n1=["mid-1"], n2=["low-1"]),
        {"mid-1": {"n1"}, "low-1": set(), "top-1": {"n2"}},
    ),
    Case(
        "who gave way finds another place",
        PRIORITY,
        {"low": {"cpus": 2}, "top": {"cpus": 4, "priority": 10}},
        with_running({"n1": h(), "n2": h(cpus=2)}, n1=["low-1"]),
        {"low-1": {"n2"}, "top-1": {"n1"}},
        {"low-1"},
    ),
]
