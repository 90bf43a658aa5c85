# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is where, what is left on each host, and what of that stands against one more."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .counts import Count, Domains
from .model import HOST, SPREAD, Host, Port, Requests, Running, Selector, Service, Spread, Term
from .read import shown
from .standing import Standing

# Between hosts of the same load the number of containers decides: each is this much of it.
CROWD = 1e-9
EMPTY = 1e3  # more than any load
ANY = {"0.0.0.0", "::"}  # addresses that are every other one too
Addresses = dict[int, list[str]]  # by host, that a port is had at


@dataclass(eq=False)
class Replica:
    """One container of a service; ``host`` is where it is to be, ``was`` where it runs now, -1: nowhere."""

    service: Service
    number: int
    was: int = -1
    host: int = -1
    why_moved: str = ""
    because: str = ""

    @property
    def name(self) -> str:
        return f"{self.service.name}-{self.number}"


@dataclass
class Ties:
    """What a service has to do with replicas, its own and others'.

    ``counted`` are the counts that each replica of it adds to. Of terms each has the count of those whom it selects;
    ``feared`` are counts of those who don't want it near.
    """

    own: Count
    counted: list[Count] = field(default_factory=list)
    affinity: list[tuple[Term, Count]] = field(default_factory=list)
    anti_affinity: list[tuple[Term, Count]] = field(default_factory=list)
    feared: list[tuple[Service, Term, Count]] = field(default_factory=list)
    spread: list[tuple[Spread, Count, tuple[int, ...]]] = field(default_factory=list)
    topologies: list[Domains] = field(default_factory=list)  # of all of these, but for those of single hosts

    @property
    def any(self) -> bool:
        return bool(self.affinity or self.anti_affinity or self.feared or self.spread)


class Board:
    """The hosts as lists, a number a host. A replica is put and taken; everything else only reads."""

    def __init__(self, hosts: Sequence[Host], services: Sequence[Service], standing: Standing) -> None:
        self.hosts, self.services, self.standing = hosts, services, standing
        self.free_cpus = [host.cpus for host in hosts]
        self.free_memory = [host.memory for host in hosts]
        # What was measured is asked of newcomers alone: what runs is in it already.
        self.available = [host.memory if host.memory_available is None else host.memory_available for host in hosts]
        self.idle = [host.cpus if host.idle_cpus is None else host.idle_cpus for host in hosts]
        self.room = list(map(min, self.free_memory, self.available))
        self.crowd = [0] * len(hosts)
        self.part_cpus = [1 / (host.cpus or 1) for host in hosts]
        self.part_memory = [1 / (host.memory or 1) for host in hosts]
        self.load_cpus, self.load_memory = [0.0] * len(hosts), [0.0] * len(hosts)
        self._devices: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(hosts))  # how many are left
        self._ports: dict[tuple[str, int], Addresses] = defaultdict(dict)  # that containers of ours have
        self._listening: dict[tuple[str, int], Addresses] = defaultdict(dict)  # that others have
        self._look_at_hosts()
        self.replicas: list[dict[Replica, None]] = [{} for host in hosts]
        self.version = 0
        self._by_name = {service.name: service for service in services}
        self._domains: dict[str, Domains] = {}
        self._selected: dict[tuple[Selector, str], Count] = {}
        self._tie()
        self._of_labels = [(one, count) for (one, dummy), count in self._selected.items() if not one.service]
        for index in range(len(hosts)):
            self._weigh(index)

    def _look_at_hosts(self) -> None:
        for index, host in enumerate(self.hosts):
            for port in host.ports:
                self._listening[port.key].setdefault(index, []).append(port.host_ip)
            for name, number in host.devices.items():
                self._devices[name][index] = math.inf if number is None else number

    # ties

    def _tie(self) -> None:
        self.ties = {service.name: Ties(self._count(Selector(service.name), HOST)) for service in self.services}
        for service in self.services:
            self._tie_one(service)
        for (selector, dummy), count in self._selected.items():
            for service in selected(selector, self._by_name):
                self.ties[service.name].counted.append(count)
        # A term is symmetric: who does not want others near is not wanted by them either.
        for owner in self.services:
            for term in owner.anti_affinity:
                if term.required:
                    count = Count(self._domain(term.topology))
                    self.ties[owner.name].counted.append(count)
                    for service in selected(term.selector, self._by_name):
                        self.ties[service.name].feared.append((owner, term, count))
        for ties in self.ties.values():
            counts = [count for _term, count in (*ties.affinity, *ties.anti_affinity)]
            counts += [count for _rule, count, _eligible in ties.spread]
            counts += [count for _owner, _term, count in ties.feared]
            found = {count.domains.topology: count.domains for count in counts if not count.domains.each}
            ties.topologies = [domains for dummy, domains in sorted(found.items())]

    def _tie_one(self, service: Service) -> None:
        ties = self.ties[service.name]
        ties.affinity = [(term, self._count(term.selector, term.topology)) for term in service.affinity]
        ties.anti_affinity = [(term, self._count(term.selector, term.topology)) for term in service.anti_affinity]
        for rule in service.spread:
            count = self._count(Selector(service.name), rule.topology)
            ties.spread.append((rule, count, self._eligible(service, count.domains)))

    def _eligible(self, service: Service, domains: Domains) -> tuple[int, ...]:
        """Domains that count for a spread: of hosts that constraints allow; taints and cordons are not asked."""
        allowed = self.standing.of(service).constrained
        return tuple(sorted({domains.of[index] for index in allowed} - {-1}))

    def _domain(self, topology: str) -> Domains:
        if topology not in self._domains:
            self._domains[topology] = Domains(topology, self.hosts)
        return self._domains[topology]

    def _count(self, selector: Selector, topology: str) -> Count:
        key = (selector, topology)
        if key not in self._selected:
            self._selected[key] = Count(self._domain(topology))
        return self._selected[key]

    # put and take

    def occupy(self, index: int, running: Running) -> None:
        """What others run there stays there."""
        self._take(index, running.requests, 1)
        for selector, count in self._of_labels:
            if selector.matches("", running.labels):
                count.add(index, 1)

    def put(self, replica: Replica, index: int) -> None:
        replica.host = index
        self.replicas[index][replica] = None
        self._account(replica, index, 1)

    def take(self, replica: Replica) -> int:
        index, replica.host = replica.host, -1
        del self.replicas[index][replica]
        self._account(replica, index, -1)
        return index

    def _account(self, replica: Replica, index: int, sign: int) -> None:
        requests = replica.service.requests
        self.version += 1
        if replica.was != index:
            self.available[index] -= sign * requests.memory
            self.idle[index] -= sign * requests.cpus
        self._take(index, requests, sign)
        for count in self.ties[replica.service.name].counted:
            count.add(index, sign)

    def _take(self, index: int, requests: Requests, sign: int) -> None:
        self.free_cpus[index] -= sign * requests.cpus
        self.free_memory[index] -= sign * requests.memory
        self.crowd[index] += sign
        self._weigh(index)
        for name, number in requests.devices:
            self._devices[name][index] -= sign * number
        if requests.ports:
            self._take_ports(index, requests, sign)

    def _weigh(self, index: int) -> None:
        """What is asked of every host at every turn is kept at hand."""
        self.room[index] = min(self.free_memory[index], self.available[index])
        crowd = 1 + CROWD * self.crowd[index]
        self.load_cpus[index] = crowd - min(self.free_cpus[index], self.idle[index]) * self.part_cpus[index]
        self.load_memory[index] = crowd - self.room[index] * self.part_memory[index]

    def _take_ports(self, index: int, requests: Requests, sign: int) -> None:
        for port in requests.ports:
            held = self._ports[port.key].setdefault(index, [])
            if sign > 0:
                held.append(port.host_ip)
            else:
                held.remove(port.host_ip)

    # what stands against one more

    def fits(self, replica: Replica, index: int) -> bool:
        """Is there room? Asked often, so that it says no more; ``shortages`` does."""
        requests = replica.service.requests
        if requests.cpus and requests.cpus > self.free_cpus[index]:
            return False
        if requests.memory and requests.memory > self._room(replica, index):
            return False
        if not requests.ports and not requests.devices:
            return True
        return next(self._taken(replica, index), None) is None

    def _room(self, replica: Replica, index: int) -> int:
        return self.free_memory[index] if replica.was == index else self.room[index]

    def _taken(self, replica: Replica, index: int) -> Iterator[tuple[str, float]]:
        """Ports and devices that others have. What listens on a port of one that runs there is that one itself."""
        requests = replica.service.requests
        for port in requests.ports:
            others = () if replica.was == index else self._listening[port.key].get(index, ())
            if _is_had(port, self._ports[port.key].get(index, ())) or _is_had(port, others):
                yield f"port {shown(port)}", 1.0
        for name, number in requests.devices:
            left = self._devices[name][index]
            if left < number:
                yield f"device {name}", float(number - max(0, left))

    def taken(self, service: Service) -> dict[str, list[int]]:
        """The hosts that each port and device which one more of the service asks for is not to be had on.

        It is asked for each service, so ports are looked up by who has them, and not on each host.
        """
        found: dict[str, list[int]] = {}
        for port in service.requests.ports:
            had = (self._ports[port.key], self._listening[port.key])
            by = {index for ones in had for index, addresses in ones.items() if _is_had(port, addresses)}
            found[f"port {shown(port)}"] = sorted(by)
        for name, number in service.requests.devices:
            found[f"device {name}"] = [index for index, left in enumerate(self._devices[name]) if left < number]
        return found

    def shortages(self, replica: Replica, index: int) -> Iterator[tuple[str, float]]:
        """(what, how much of it is lacking), of resources; CPUs in thousandths, memory in bytes."""
        requests = replica.service.requests
        if requests.cpus and requests.cpus > self.free_cpus[index]:
            yield "cpus", float(requests.cpus - max(0, self.free_cpus[index]))
        if requests.memory and requests.memory > self._room(replica, index):
            yield "memory", float(requests.memory - max(0, self._room(replica, index)))
        yield from self._taken(replica, index)

    def conflicts(self, service: Service, index: int) -> Iterator[str]:
        """The rules that no more than there already are may be near."""
        ties = self.ties[service.name]
        if service.max_per_host and ties.own.at(index) >= service.max_per_host:
            yield f"max_per_host {service.max_per_host}"
        for term, count in ties.anti_affinity:
            if term.required and count.at(index):
                yield f"anti-affinity to {term.selector} over {term.topology}"
        for owner, term, count in ties.feared:
            if owner is not service and count.at(index):
                yield f"anti-affinity of {owner.name} over {term.topology}"

    def near(self, service: Service, index: int) -> Iterator[tuple[str, bool]]:
        """(rule, for good) of each rule about others that stands against one more of the service on the host.

        What is not for good may fall when more of the service are put elsewhere.
        """
        for rule in self.conflicts(service, index):
            yield rule, True
        for rule in self.unmet(service, index):
            yield rule, False
        for spread, count, eligible in self.ties[service.name].spread:
            if spread.required and count.domains.of[index] < 0:
                yield f"no label {spread.topology} to spread over", True
            elif spread.required and count.at(index) + 1 - count.fewest(eligible) > spread.max_skew:
                yield f"spread over {spread.topology}, max_skew {spread.max_skew}", False

    def unmet(self, service: Service, index: int, own: int = 0) -> Iterator[str]:
        """Affinities for want of their like. The first of those who want to be together may be anywhere.

        ``own`` is how many of the service's replicas there are not to be counted.
        """
        for term, count in self.ties[service.name].affinity:
            if not term.required:
                continue
            itself = term.selector.matches(service.name, service.labels)
            mine = own if itself else 0
            if count.domains.of[index] < 0 or count.at(index) - mine < 1:
                first = itself and count.total - mine == 0 and count.domains.of[index] >= 0
                if not first:
                    yield f"affinity to {term.selector} over {term.topology}"

    def load(self, index: int, requests: Requests) -> float:
        """The larger share, of CPUs or memory, that is taken with this one: by requests, or as measured."""
        cpus = self.load_cpus[index] + requests.cpus * self.part_cpus[index]
        memory = self.load_memory[index] + requests.memory * self.part_memory[index]
        return cpus if cpus > memory else memory

    def ranked(self, index: int, service: Service) -> float:
        """The load as the service's strategy has it, the least first.

        To pack is to take the fullest host; where all that have room are empty, the largest.
        """
        load = self.load(index, service.requests)
        if service.strategy == SPREAD:
            return load
        return -load if self.crowd[index] else EMPTY + load

    def usage(self) -> Mapping[str, dict[str, float]]:
        return {
            host.name: {
                "cpus": host.cpus / 1000,
                "cpus_requested": (host.cpus - self.free_cpus[index]) / 1000,
                "memory": host.memory,
                "memory_requested": host.memory - self.free_memory[index],
                "containers": self.crowd[index],
            }
            for index, host in enumerate(self.hosts)
        }


def _is_had(port: Port, addresses: Sequence[str]) -> bool:
    """Whether one of those who have that port at these addresses is in its way, as Port.overlaps has it."""
    return bool(addresses) and (port.host_ip in ANY or not ANY.isdisjoint(addresses) or port.host_ip in addresses)


def selected(selector: Selector, services: Mapping[str, Service]) -> list[Service]:
    """Those of the services that are meant."""
    known = [services[selector.service]] if selector.service in services else []
    return [one for one in (known if selector.service else services.values()) if selector.matches(one.name, one.labels)]
