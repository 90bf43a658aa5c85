# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small cases, made better: those of a few hosts are taken back and put anew, again and again, and the better is kept.

Large cases have room for a mistake, and small ones time for this. What runs is left alone, and so is who has company
or is spread: what was checked when they were put must go on to hold. The choices come from a fixed seed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .board import Board, Replica, selected
from .model import PACK, SPREAD, Requests, Service

HOSTS, REPLICAS = 64, 300  # more of either is no small case
_EFFORT = 24_000  # hosts asked, of all rounds together
_ROUNDS = 800
_NOTHING = Requests()


def improve(board: Board, services: Sequence[Service], replicas: Iterable[Replica]) -> list[Replica]:
    """Those who were put elsewhere, or at all; the others are where they were."""
    everyone = list(replicas)
    free = _free(board, services)
    pool = [one for one in everyone if one.service.name in free and (one.host < 0 or one.host != one.was)]
    if not pool or len(board.hosts) > HOSTS or len(pool) > REPLICAS:
        return []
    before = {one: one.host for one in pool}
    search = _Search(board, services, everyone, pool)
    first = search.cost
    for dummy in range(min(_ROUNDS, _EFFORT // len(board.hosts))):
        search.step()
    if search.cost < first:
        _settle(board, pool)
    else:
        _move(board, before)
    return [one for one in pool if one.host != before[one]]


def _settle(board: Board, pool: Sequence[Replica]) -> None:
    """Replicas are alike: those who run come first, then those of the lower numbers, on hosts in their order."""
    found: dict[Replica, int] = {}
    for name in sorted({one.service.name for one in pool}):
        alike = sorted((one for one in pool if one.service.name == name), key=lambda one: (one.was < 0, one.number))
        hosts = sorted(one.host for one in alike if one.host >= 0)
        found.update(zip(alike, [*hosts, *[-1] * (len(alike) - len(hosts))]))
    _move(board, found)


def _move(board: Board, wanted: Mapping[Replica, int]) -> None:
    moving = {one: host for one, host in wanted.items() if one.host != host}
    for one in moving:
        if one.host >= 0:
            board.take(one)
    for one, host in moving.items():
        if host >= 0:
            board.put(one, host)


def _free(board: Board, services: Sequence[Service]) -> set[str]:
    known = {service.name: service for service in services}
    bound = {one.name for service in services for term in service.affinity for one in selected(term.selector, known)}
    for service in services:
        wishes = [term for term in service.anti_affinity if not term.required]
        bound.update({one.name for term in wishes for one in selected(term.selector, known)})
        if wishes or service.affinity or service.spread:
            bound.add(service.name)
    return set(known) - bound


class _Search:
    def __init__(
        self, board: Board, services: Sequence[Service], everyone: Sequence[Replica], pool: Sequence[Replica]
    ) -> None:
        self.board, self.everyone, self.pool = board, everyone, pool
        self.chance = random.Random(0)
        self.priorities = sorted({-service.priority for service in services})
        self.spreads = any(service.strategy == SPREAD for service in services)
        self._sign = 1 if self.spreads else -1
        self.cost = self._cost()

    def step(self) -> None:
        chance, board = self.chance, self.board
        used = sorted({one.host for one in self.pool if one.host >= 0})
        ruined = set(chance.sample(used, min(len(used), chance.choice((1, 2, 2, 3)))))
        if chance.random() < 0.5:  # the one that the strategy has most against
            ruined.add(max(used, key=lambda host: self._sign * board.load(host, _NOTHING), default=-1))
        share = chance.choice((0.3, 0.6, 1.0))
        out = [one for one in self.pool if one.host < 0 or (one.host in ruined and chance.random() < share)]
        old = [(one, one.host) for one in out]
        for one, host in old:
            if host >= 0:
                board.take(one)
        self._order(out)
        wild = chance.choice((0.0, 0.1, 0.5))
        for one in out:
            self._put(one, wild)
        cost = self._cost()
        if cost <= self.cost:
            self.cost = cost
            return
        _move(board, dict(old))

    def _order(self, out: list[Replica]) -> None:
        """The large ones first, the small ones first, or as it comes; a higher priority always first."""
        self.chance.shuffle(out)
        sign = self.chance.choice((-1, -1, 0, 1))
        out.sort(key=lambda one: (-one.service.priority, sign * self._size(one.service.requests)))

    def _size(self, requests: Requests) -> float:
        return max(requests.cpus * self.board.part_cpus[0], requests.memory * self.board.part_memory[0])

    def _put(self, one: Replica, wild: float) -> None:
        board, service = self.board, one.service
        verdict, ties = board.standing.of(service), board.ties[service.name]
        best: Any = None
        for index in verdict.allowed:
            if not board.fits(one, index) or next(board.conflicts(service, index), None) is not None:
                continue
            own = ties.own.at(index) if service.strategy == SPREAD else 0
            load = board.ranked(index, service) + wild * self.chance.random()
            key = (verdict.taints.get(index, 0), -verdict.wish.get(index, 0), own, load, index)
            if best is None or key < best:
                best = key
        if best is not None:
            board.put(one, best[-1])

    def _cost(self) -> tuple[Any, ...]:
        """The less the better: those without a host by priority, what was wished, then what the strategies ask."""
        board = self.board
        missing: Counter[int] = Counter()
        crowds: Counter[tuple[str, int]] = Counter()
        packed, taints, wish, own = set(), 0, 0, 0
        for one in self.everyone:
            service, host = one.service, one.host
            if host < 0:
                missing[-service.priority] += 1
                continue
            verdict = board.standing.of(service)
            taints += verdict.taints.get(host, 0)
            wish -= verdict.wish.get(host, 0)
            if service.strategy == PACK:
                packed.add(host)
            else:
                own += crowds[service.name, host]
                crowds[service.name, host] += 1
        loads = [board.load(index, _NOTHING) for index in range(len(board.hosts))] if self.spreads else [0.0]
        even = (round(max(loads), 9), round(sum(load * load for load in loads), 9))
        return tuple(missing[priority] for priority in self.priorities), taints, wish, own, len(packed), even
