# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts for the replicas of a service, and the best of them: built when the service's turn comes, and again when
others than itself have changed the board.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from itertools import compress
from typing import Optional

from .board import EMPTY, Board, Replica
from .model import SPREAD, Service

# taints that are only disliked, weight of wishes (negative), replicas in spread domains, replicas of the service (with
# the strategy spread), load (negative with pack), the host's number
Key = tuple[int, int, int, int, float, int]
NONE = -1 << 62  # what nobody asks for is there, on a host that was promised too often as well
_OWN = 1e4  # more than any load


class Candidates:
    """What both kinds have."""

    def __init__(self, board: Board, service: Service) -> None:
        self.board, self.service = board, service
        self.version = board.version
        self.verdict = board.standing.of(service)
        self.ties = board.ties[service.name]
        self.tied = self.ties.any or bool(service.max_per_host)
        self.sign = 1 if service.strategy == SPREAD else -1
        self.count = 0
        self.taken = self._taken()

    def _taken(self) -> dict[str, list[int]]:
        """Of the allowed hosts, those that each port and device is not to be had on."""
        requests, mask = self.service.requests, self.verdict.mask
        if not requests.ports and not requests.devices:
            return {}
        found = self.board.taken(self.service)
        return {rule: kept for rule, hosts in found.items() if (kept := [index for index in hosts if mask[index]])}

    def best(self, replica: Replica) -> Optional[Key]:
        """The key of the host that it is best put on; None where all stand against it."""
        raise NotImplementedError

    def changed(self, index: int) -> None:
        raise NotImplementedError

    def put(self, replica: Replica, index: int) -> None:
        """The replica is there, and what is said of the host is said anew."""
        self.board.put(replica, index)
        self.version = self.board.version
        self.changed(index)

    def refused(self) -> dict[str, Sequence[int]]:
        """The hosts that each rule is against, but for those about domains, which change with every replica."""
        board, requests = self.board, self.service.requests
        found: dict[str, Sequence[int]] = dict(self.verdict.by_rule)
        if self.count == len(self.verdict.allowed) and not self.tied:
            return found
        for name, wanted, free in (("cpus", requests.cpus, board.free_cpus), ("memory", requests.memory, board.room)):
            if wanted and (lacking := [index for index in self.verdict.allowed if free[index] < wanted]):
                found[name] = lacking
        near: dict[str, list[int]] = {}
        if self.tied:
            for index in self.verdict.allowed:
                for rule, dummy in board.near(self.service, index):
                    near.setdefault(rule, []).append(index)
        return {**found, **self.taken, **near}


class Plain(Candidates):
    """Of a service that has nothing to do with others: a load a host, and the least of them.

    Services that ask for the same come one after the other, and the next one takes over from the one before.
    """

    def __init__(self, board: Board, service: Service) -> None:
        super().__init__(board, service)
        self._hosts = self.verdict.allowed
        self._loads = self._all_loads()
        self._touched: dict[int, int] = {}  # position by host, where the load is no longer what any other would find
        self._begin()

    def _begin(self) -> None:
        self.count = len(self._loads) - self._loads.count(math.inf)
        if self.taken:
            taken = {index for hosts in self.taken.values() for index in hosts}
            self.count -= sum(load < math.inf and index in taken for index, load in zip(self._hosts, self._loads))
        if self.sign > 0 and self.ties.own.total:
            for at, index in enumerate(self._hosts):
                if own := self.ties.own.at(index):
                    self._touched[index] = at
                    self._loads[at] += _OWN * own

    def serves(self, service: Service, version: int) -> bool:
        """Can it be asked by that service now?"""
        mine, other = self.service, service
        same = mine.requests.cpus == other.requests.cpus and mine.requests.memory == other.requests.memory
        return (
            same
            and mine.strategy == other.strategy
            and version == self.version
            and self.board.standing.of(other) is self.verdict
        )

    def turn_to(self, service: Service) -> None:
        requests, board = service.requests, self.board
        self.service, self.ties = service, board.ties[service.name]
        self.taken = self._taken()
        for index, at in self._touched.items():
            short = board.free_cpus[index] < (requests.cpus or NONE) or board.room[index] < (requests.memory or NONE)
            self._loads[at] = math.inf if short else board.ranked(index, service)
        self._touched = {}
        self._begin()

    def _all_loads(self) -> list[float]:
        """Board.load of each host at once, infinite without room: of 1,000 hosts, and for each of 10,000 services."""
        board, requests, none, empty = self.board, self.service.requests, math.inf, EMPTY
        cpus, memory, least_cpus = requests.cpus, requests.memory, requests.cpus or NONE
        least_memory = requests.memory or NONE
        rows: list[Sequence[float]] = [board.free_cpus, board.room, board.load_cpus, board.part_cpus]
        rows += [board.load_memory, board.part_memory, board.crowd]
        if len(self._hosts) < len(board.hosts):
            rows = [list(compress(row, self.verdict.mask)) for row in rows]
        if self.sign > 0:
            return [
                none
                if free < least_cpus or room < least_memory
                else (a if (a := load + cpus * part) > (b := load2 + memory * part2) else b)
                for free, room, load, part, load2, part2, dummy in zip(*rows)
            ]
        return [
            none
            if free < least_cpus or room < least_memory
            else (empty + a if not crowd else -a)
            if (a := load + cpus * part) > (b := load2 + memory * part2)
            else (empty + b if not crowd else -b)
            for free, room, load, part, load2, part2, crowd in zip(*rows)
        ]

    def best(self, replica: Replica) -> Optional[Key]:
        while self._loads and (least := min(self._loads)) < math.inf:
            at = self._loads.index(least)
            index = self._hosts[at]
            self._touched[index] = at
            if self.board.fits(replica, index):
                own = self.ties.own.at(index) if self.sign > 0 else 0
                return 0, 0, 0, own, least - own * _OWN, index
            self._loads[at] = math.inf
        return None

    def changed(self, index: int) -> None:
        board = self.board
        load = board.ranked(index, self.service)
        self._loads[self._touched[index]] = load + (_OWN * self.ties.own.at(index) if self.sign > 0 else 0)


class Tied(Candidates):
    """The best first, one heap for those hosts who share all domains.

    Within such a cell what is said of domains is the same for all hosts, and only the host that was chosen changes. So
    a choice costs one look at each cell, and not one at each host.
    """

    def __init__(self, board: Board, service: Service) -> None:
        super().__init__(board, service)
        ties = self.ties
        self._soft = [(count, term.weight) for term, count in ties.affinity if not term.required]
        self._soft += [(count, -term.weight) for term, count in ties.anti_affinity if not term.required]
        each = [rule.required and count.domains.each for rule, count, _eligible in ties.spread]
        each += [term.required and count.domains.each for term, count in ties.affinity]
        self._alike = not any(each)  # what may fall again is the same for all hosts of a cell
        probe = Replica(service, 0)
        rooms = [index for index in self.verdict.allowed if board.fits(probe, index)]
        self.count = len(rooms)
        self._cells: dict[tuple[int, ...], list[Key]] = {}
        for index in rooms:
            self._cells.setdefault(self._cell(index), []).append(self._key(index))
        for heap in self._cells.values():
            heapq.heapify(heap)

    def _cell(self, index: int) -> tuple[int, ...]:
        return tuple([domains.of[index] for domains in self.ties.topologies])

    def _key(self, index: int) -> Key:
        """What the host itself has to say; what is said of domains is added to it when cells are compared."""
        board = self.board
        wish, spread = -self.verdict.wish.get(index, 0), 0
        for count, weight in self._soft:
            if count.domains.each and count.at(index):
                wish -= weight
        for _rule, count, _eligible in self.ties.spread:
            if count.domains.each:
                spread += count.at(index)
        own = self.ties.own.at(index) if self.sign > 0 else 0
        load = board.ranked(index, self.service)
        return self.verdict.taints.get(index, 0), wish, spread, own, load, index

    def best(self, replica: Replica) -> Optional[Key]:
        found: Optional[Key] = None
        for heap in self._cells.values():
            key = self._top(heap, replica)
            if key is not None:
                key = self._compared(key)
                if found is None or key < found:
                    found = key
        return found

    def _top(self, heap: list[Key], replica: Replica) -> Optional[Key]:
        """The best of a cell. What has no room any more, or is refused for good, is thrown away."""
        aside: list[Key] = []
        found = None
        while heap:
            index = heap[0][-1]
            rules = list(self.board.near(self.service, index))
            if not self.board.fits(replica, index) or any(lasting for dummy, lasting in rules):
                heapq.heappop(heap)
            elif not rules:
                found = heap[0]
                break
            elif self._alike:
                break  # what is against it is against all of the cell
            else:
                aside.append(heapq.heappop(heap))
        for key in aside:
            heapq.heappush(heap, key)
        return found

    def _compared(self, key: Key) -> Key:
        taints, wish, spread, own, load, index = key
        for count, weight in self._soft:
            if not count.domains.each and count.at(index):
                wish -= weight
        for _rule, count, _eligible in self.ties.spread:
            if not count.domains.each:
                spread += count.at(index)
        return taints, wish, spread, own, load, index

    def changed(self, index: int) -> None:
        heap = self._cells[self._cell(index)]
        if heap[0][-1] == index:
            heapq.heapreplace(heap, self._key(index))
            return
        at = next(at for at, key in enumerate(heap) if key[-1] == index)
        heap[at] = self._key(index)
        heapq.heapify(heap)


def candidates(board: Board, service: Service, before: Optional[Candidates]) -> Candidates:
    """Those for the service; ``before`` are those of the service before, which may do."""
    verdict = board.standing.of(service)
    if board.ties[service.name].any or service.max_per_host or verdict.wish or verdict.taints:
        return Tied(board, service)
    if isinstance(before, Plain) and before.serves(service, board.version):
        before.turn_to(service)
        return before
    return Plain(board, service)
