# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose place one of a higher priority takes, by the rules of kube-scheduler's preemption.

All of a lower priority are thought away from a host; when that makes room, as many as can be come back, the highest
priority first. Of the hosts that is taken whose victims have the lowest priorities, then are the fewest.
"""

from __future__ import annotations

from typing import Optional

from .board import Board, Replica


def find(board: Board, replica: Replica) -> Optional[tuple[int, list[Replica]]]:
    """(host, those who give way); None where nobody's going would help."""
    best: Optional[tuple[tuple[int, ...], list[Replica]]] = None
    for index in board.standing.of(replica.service).allowed:
        lower = [one for one in board.replicas[index] if one.service.priority < replica.service.priority]
        if not lower or not _enough(board, replica, index, lower):
            continue
        victims = _victims(board, replica, index, lower)
        if not victims:
            continue
        priorities = [victim.service.priority for victim in victims]
        rank = (max(priorities), sum(priorities), len(victims), index)
        if best is None or rank < best[0]:
            best = (rank, victims)
    return None if best is None else (best[0][-1], best[1])


def _enough(board: Board, replica: Replica, index: int, lower: list[Replica]) -> bool:
    """A cheap look, before anything is thought away."""
    requests = replica.service.requests
    cpus = board.free_cpus[index] + sum(one.service.requests.cpus for one in lower)
    memory = board.free_memory[index] + sum(one.service.requests.memory for one in lower)
    return requests.cpus <= max(0, cpus) and requests.memory <= max(0, memory)


def _victims(board: Board, replica: Replica, index: int, lower: list[Replica]) -> list[Replica]:
    """Those who must go, empty when that would not do; the board is as before."""
    lower = sorted(lower, key=lambda one: (-one.service.priority, one.service.name, one.number))
    version = board.version
    for one in lower:
        board.take(one)
    victims = list(lower) if _free(board, replica, index) else []
    for one in lower:
        board.put(one, index)
        if one in victims and _free(board, replica, index):
            victims.remove(one)
        elif victims:
            board.take(one)
    for one in victims:
        board.put(one, index)
    board.version = version
    return victims


def _free(board: Board, replica: Replica, index: int) -> bool:
    return board.fits(replica, index) and next(board.near(replica.service, index), None) is None
