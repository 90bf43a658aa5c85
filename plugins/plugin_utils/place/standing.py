# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands for or against a host whatever runs on it: its taints, drain, cordon, and what constraints say."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from . import query
from .model import NO_EXECUTE, PREFER_NO_SCHEDULE, Host, Service


@dataclass
class Verdict:
    """``refused``: the rules against each host that there are any against; ``unbearable``: those that what runs
    there must leave for. ``wish`` is the weight of preferences, ``taints`` the number of soft ones that are not
    tolerated; hosts of 0 are left out of both."""

    constrained: list[int] = field(default_factory=list)
    allowed: list[int] = field(default_factory=list)
    refused: dict[int, list[str]] = field(default_factory=dict)
    unbearable: dict[int, list[str]] = field(default_factory=dict)
    mask: list[bool] = field(default_factory=list)  # whether each host is allowed
    wish: dict[int, int] = field(default_factory=dict)
    taints: dict[int, int] = field(default_factory=dict)

    @functools.cached_property
    def by_rule(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for index, rules in self.refused.items():
            for rule in rules:
                found.setdefault(rule, []).append(index)
        return found


class Standing:
    """Verdicts, one for all services that say the same."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts
        self._documents = [host.document() for host in hosts]
        self._verdicts: dict[object, Verdict] = {}
        self._answers: dict[str, list[bool]] = {}

    def of(self, service: Service) -> Verdict:
        key = (service.constraints, service.preferences, service.tolerations)
        if key not in self._verdicts:
            self._verdicts[key] = self._judge(service)
        return self._verdicts[key]

    def _judge(self, service: Service) -> Verdict:
        verdict = Verdict()
        option = f"services.{service.name}.constraints"
        failing = [(text, self._ask(text, option)) for text in service.constraints]
        wishes = [
            (self._ask(one.constraint, f"services.{service.name}.preferences"), one.weight)
            for one in service.preferences
        ]
        for index, host in enumerate(self._hosts):
            failed = [f"constraint {text}" for text, answers in failing if not answers[index]]
            if not failed and not host.drain:
                verdict.constrained.append(index)
            hard, must = _barred(host, service)
            verdict.mask.append(not hard and not failed)
            if hard or failed:
                verdict.refused[index] = [*hard, *failed]
            else:
                verdict.allowed.append(index)
            if must or failed:
                verdict.unbearable[index] = [*must, *failed]
            if wish := sum(weight for answers, weight in wishes if answers[index]):
                verdict.wish[index] = wish
            if soft := sum(1 for dummy in _untolerated(host, service, (PREFER_NO_SCHEDULE,))):
                verdict.taints[index] = soft
        return verdict

    def _ask(self, text: str, option: str) -> list[bool]:
        if text not in self._answers:
            self._answers[text] = [query.holds(text, document, option) for document in self._documents]
        return self._answers[text]


def _untolerated(host: Host, service: Service, effects: Sequence[str]) -> Iterator[str]:
    for taint in host.taints:
        if taint.effect in effects and not any(toleration.covers(taint) for toleration in service.tolerations):
            yield f"taint {taint}"


def _barred(host: Host, service: Service) -> tuple[list[str], list[str]]:
    """(what keeps new ones away, what drives away what runs there)."""
    must = (["drain"] if host.drain else []) + list(_untolerated(host, service, (NO_EXECUTE,)))
    hard = must + (["cordon"] if host.cordon and not host.drain else [])
    return hard + list(_untolerated(host, service, ("NoSchedule",))), must
