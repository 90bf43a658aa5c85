# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a placement keeps the rules, found out from the data alone: nothing of what placed it is asked."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import jmespath

Data = dict[str, Any]
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def in_bytes(value: Any) -> int:
    number, unit = re.fullmatch(r"(\d+)([kmg]?)", str(value)).groups()
    return int(number) * UNITS[unit]


def where(result: Data) -> dict[str, str]:
    """Host by replica."""
    return {name: host for host, services in result["hosts"].items() for names in services.values() for name in names}


def again(result: Data, hosts: Data) -> Data:
    """The hosts, with all of it running, and what was running there that is no service's."""
    mine = set(where(result)) | {stop["replica"] for stop in result["stops"]}
    mine |= {one["replica"] for one in result["unplaced"]} | {move["replica"] for move in result["moves"]}
    found = {}
    for name, host in hosts.items():
        kept = {other: body for other, body in host.get("running", {}).items() if other not in mine}
        found[name] = {**host, "running": {**kept, **{one: {} for one in result["containers"][name]}}}
    return found


def broken(result: Data, services: Data, hosts: Data, *, afresh: bool) -> list[str]:
    """What does not hold. Rules that are for newcomers are asked where all of them are: ``afresh``."""
    placed = where(result)
    found = list(counted(result, services))
    for host, body in hosts.items():
        here = [name for name, there in placed.items() if there == host]
        found += over_capacity(here, services, host, body)
        for name in here:
            found += against(service_of(name), services, body, host, new=name not in body.get("running", {}))
    found += apart(placed, services, hosts)
    if afresh:
        found += uneven(placed, services, hosts)
    return found


def service_of(name: str) -> str:
    return name.rpartition("-")[0]


def counted(result: Data, services: Data) -> Iterator[str]:
    names = list(where(result)) + [one["replica"] for one in result["unplaced"]]
    wanted = [f"{name}-{n}" for name, body in services.items() for n in range(1, body.get("replicas", 1) + 1)]
    if sorted(names) != sorted(wanted):
        yield f"{sorted(names)} are not {sorted(wanted)}"


def over_capacity(here: list[str], services: Data, host: str, body: Data) -> Iterator[str]:
    others = [one for name, one in body.get("running", {}).items() if service_of(name) not in services]
    bodies = [services[service_of(name)] for name in here] + others
    ours = bodies[: len(here)]
    cpus = round(sum(one.get("cpus", 0) for one in bodies) * 1000)
    # What was promised to others may be too much already; then nobody of ours may be there who asks for any.
    if any(one.get("cpus") for one in ours) and cpus > body["cpus"] * 1000:
        yield f"{host} has too few CPUs"
    memory = sum(in_bytes(one.get("memory", 0)) for one in bodies)
    if any(one.get("memory") for one in ours) and memory > in_bytes(body["memory"]):
        yield f"{host} has too little memory"
    ports = Counter(port for one in bodies for port in one.get("ports", ())) + Counter(body.get("ports", ()))
    yield from (f"{host} has port {port} twice" for port, number in ports.items() if number > 1)
    devices = Counter()
    for one in bodies:
        devices.update(one.get("devices", {}))
    for device, number in devices.items():
        if number > body.get("devices", {}).get(device, 0):
            yield f"{host} has too few of {device}"


def against(service: str, services: Data, host: Data, name: str, *, new: bool) -> Iterator[str]:
    body = services[service]
    document = {"name": name, "labels": host.get("labels", {})}
    for text in body.get("constraints", ()):
        if not jmespath.search(text, document):
            yield f"{service} on {name}: {text}"
    if host.get("drain") or (new and host.get("cordon")):
        yield f"{service} on {name}: drained or cordoned"
    tolerated = {toleration["key"] for toleration in body.get("tolerations", ())}
    for taint in host.get("taints", ()):
        left, dummy, effect = taint.partition(":")
        if left.partition("=")[0] not in tolerated and effect in (
            ("NoExecute", "NoSchedule") if new else ("NoExecute",)
        ):
            yield f"{service} on {name}: {taint}"


def domain(host: str, body: Data, topology: str) -> str | None:
    return host if topology == "host" else body.get("labels", {}).get(topology)


def apart(placed: dict[str, str], services: Data, hosts: Data) -> Iterator[str]:
    for name, host in placed.items():
        body = services[service_of(name)]
        same = [one for one, there in placed.items() if there == host and service_of(one) == service_of(name)]
        if body.get("max_per_host") and len(same) > body["max_per_host"]:
            yield f"{name}: {len(same)} on {host}"
        for key, wanted in (("affinity", True), ("anti_affinity", False)):
            for term in body.get(key, ()):
                if not term.get("required", True):
                    continue
                mine = domain(host, hosts[host], term["topology"])
                others = [one for one in placed if one != name and service_of(one) == term["service"]]
                near = [
                    one for one in others if mine and domain(placed[one], hosts[placed[one]], term["topology"]) == mine
                ]
                first = (
                    term["service"] == service_of(name)
                    and mine
                    and not [one for one in others if domain(placed[one], hosts[placed[one]], term["topology"])]
                )
                if (wanted and not near and not first) or (not wanted and near):
                    yield f"{name} on {host}: {key} {term}, near are {near}"


def uneven(placed: dict[str, str], services: Data, hosts: Data) -> Iterator[str]:
    for service, body in services.items():
        mine = [host for name, host in placed.items() if service_of(name) == service]
        for rule in body.get("spread", ()):
            if not rule.get("required", True):
                continue
            counts: dict[str | None, int] = defaultdict(int)
            for name, host in hosts.items():
                document = {"name": name, "labels": host.get("labels", {})}
                if all(jmespath.search(text, document) for text in body.get("constraints", ())) and not host.get(
                    "drain"
                ):
                    counts[domain(name, host, rule["topology"])] += mine.count(name)
            counts.pop(None, None)
            if counts and max(counts.values()) - min(counts.values()) > rule["max_skew"]:
                yield f"{service} over {rule['topology']}: {dict(counts)}"
