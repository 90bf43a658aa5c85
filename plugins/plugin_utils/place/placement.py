# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The placement as data: what the filter and the action return."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from . import read
from .board import Board, Replica
from .model import Service
from .solve import Reasons, Solution, solve

Facts = dict[str, Any]
SOME = 5  # hosts that are named of many


def place(services: Any, hosts: Any, strategy: str = "spread") -> Facts:
    """The placement of the services (a mapping by name) on the hosts (a mapping by name).

    Raises OptionError, with the path of what can't be, and DependencyError where constraints lack jmespath.
    """
    known_hosts = read.hosts(hosts)
    known_services = read.services(services, strategy)
    solution = solve(known_services, known_hosts)
    found: Facts = {"hosts": {host.name: {} for host in known_hosts}}
    found["containers"] = {host.name: {} for host in known_hosts}
    found.update(moves=[], starts=[], stops=_stops(solution), unplaced=[], why={})
    names = [host.name for host in known_hosts]
    for service in known_services:
        replicas = [solution.replicas[name] for name in service.names()]
        _add(found, names, service, replicas, solution.reasons.get(service.name, Reasons()))
    found["unplaced"] = Unplaced(solution).all()
    found["usage"] = solution.board.usage()
    found["complete"] = not found["unplaced"]
    found["changes"] = bool(found["moves"] or found["starts"] or found["stops"])
    return found


def _add(found: Facts, names: Sequence[str], service: Service, replicas: Sequence[Replica], reasons: Reasons) -> None:
    told: Facts = {"candidates": reasons.candidates, "refused": refusals(reasons.refused, names), "replicas": {}}
    for replica in replicas:
        to = names[replica.host] if replica.host >= 0 else None
        was = names[replica.was] if replica.was >= 0 else None
        because = replica.because if to is None or to != was else "it runs there, and no rule is against it"
        told["replicas"][replica.name] = {"host": to, "was": was, "because": because}
        entry = {"service": service.name, "replica": replica.name}
        if to is not None:
            found["hosts"][to].setdefault(service.name, []).append(replica.name)
            found["containers"][to][replica.name] = dict(service.container)
        if was is not None and to is not None and to != was:
            found["moves"].append({**entry, "from": was, "to": to, "because": replica.why_moved})
        elif was is None and to is not None:
            found["starts"].append({**entry, "to": to, "because": because})
        elif was is not None and to is None:
            found["stops"].append({**entry, "from": was, "because": replica.why_moved})
    found["why"][service.name] = told


def _stops(solution: Solution) -> list[Facts]:
    return [
        {"service": service, "replica": name, "from": solution.hosts[index].name, "because": because}
        for service, name, index, because in sorted(solution.stops)
    ]


def refusals(rules: Mapping[str, Sequence[int]], names: Sequence[str]) -> Facts:
    """How many hosts each rule is against, and the names of the first of them."""
    return {
        rule: {"count": len(indexes), "hosts": [names[index] for index in indexes[:SOME]]}
        for rule, indexes in sorted(rules.items())
    }


class Unplaced:
    """Why there is no host for some, as things stand when all the others have one."""

    def __init__(self, solution: Solution) -> None:
        self.solution = solution
        self.board: Board = solution.board
        self.names = [host.name for host in solution.hosts]

    def all(self) -> list[Facts]:
        told: dict[Hashable, Facts] = {}
        result = []
        for replica in sorted(self.solution.unplaced, key=lambda one: (one.service.name, one.number)):
            shape = self._shape(replica.service)
            if shape not in told:
                told[shape] = self._tell(replica)
            result.append({"service": replica.service.name, "replica": replica.name, **told[shape]})
        return result

    def _shape(self, service: Service) -> Hashable:
        """What the answer depends on, so that thousands of a few sizes do not look at each host each."""
        if self.board.ties[service.name].any or service.max_per_host:
            return service.name
        return service.requests, id(self.board.standing.of(service))

    def _tell(self, replica: Replica) -> Facts:
        probe = Replica(replica.service, 0)
        refused: dict[str, list[int]] = {}
        nearest: Any = None
        for index, static in self._each_host(replica.service):
            lacking = dict(self.board.shortages(probe, index))
            rules = [*static, *(rule for rule, dummy in self.board.near(replica.service, index))]
            for rule in [*rules, *lacking]:
                refused.setdefault(rule, []).append(index)
            shortfall = sum(self._share(index, what, number) for what, number in lacking.items())
            rank = (len(rules) + len(lacking), shortfall, index)
            if nearest is None or rank < nearest[0]:
                nearest = (rank, rules, lacking)
        told = refusals(refused, self.names)
        return {
            "reason": self._sentence(told),
            "refused": told,
            "nearest": {
                "host": self.names[nearest[0][-1]],
                "rules": nearest[1],
                "lacks": {
                    what: number / 1000 if what == "cpus" else int(number) for what, number in nearest[2].items()
                },
            },
        }

    def _each_host(self, service: Service) -> Any:
        refused = self.board.standing.of(service).refused
        return ((index, refused.get(index, ())) for index in range(len(self.names)))

    def _share(self, index: int, what: str, number: float) -> float:
        host = self.solution.hosts[index]
        return number / ({"cpus": host.cpus, "memory": host.memory}.get(what) or 1)

    def _sentence(self, told: Facts) -> str:
        """As kube-scheduler has it: how many hosts there are, and how many of them each rule is against."""
        parts = sorted(((-entry["count"], rule) for rule, entry in told.items()))
        against = ", ".join(f"{rule} ({-count})" for count, rule in parts)
        return f"none of {len(self.names)} hosts: {against}"
