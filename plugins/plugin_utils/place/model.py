# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services, hosts and their rules as values. CPUs are counted in thousandths, memory in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.vessel.host.plugins.module_utils._network.model import Port

HOST = "host"  # the topology of which each host is a domain of its own
NO_SCHEDULE, PREFER_NO_SCHEDULE, NO_EXECUTE = EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
SPREAD, PACK = STRATEGIES = ("spread", "pack")


@dataclass(frozen=True)
class Requests:
    """What one container takes of a host."""

    cpus: int = 0
    memory: int = 0
    ports: tuple[Port, ...] = ()
    devices: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Taint:
    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        return f"{self.key}{'=' if self.value else ''}{self.value}:{self.effect}"


@dataclass(frozen=True)
class Toleration:
    """``key`` empty: any; ``value`` None: any; ``effect`` empty: any."""

    key: str = ""
    value: Optional[str] = None
    effect: str = ""

    def covers(self, taint: Taint) -> bool:
        return self.key in ("", taint.key) and self.value in (None, taint.value) and self.effect in ("", taint.effect)


@dataclass(frozen=True)
class Selector:
    """Whose replicas are meant: those of a service, or of all that have the labels."""

    service: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    def matches(self, service: str, labels: Mapping[str, str]) -> bool:
        return self.service in ("", service) and all(labels.get(key) == value for key, value in self.labels)

    def __str__(self) -> str:
        words = [self.service] if self.service else []
        return ",".join([*words, *(f"{key}={value}" for key, value in self.labels)])


@dataclass(frozen=True)
class Term:
    """Near to, or far from, those who are selected: in one domain of the topology with them, or not."""

    selector: Selector
    topology: str = HOST
    required: bool = True
    weight: int = 1


@dataclass(frozen=True)
class Spread:
    """At most ``max_skew`` more replicas in a domain than in that which has the fewest."""

    topology: str
    max_skew: int = 1
    required: bool = True


@dataclass(frozen=True)
class Preference:
    constraint: str
    weight: int = 1


@dataclass(frozen=True)
class Service:
    name: str
    replicas: int = 1
    requests: Requests = Requests()
    labels: Mapping[str, str] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    preferences: tuple[Preference, ...] = ()
    affinity: tuple[Term, ...] = ()
    anti_affinity: tuple[Term, ...] = ()
    spread: tuple[Spread, ...] = ()
    max_per_host: int = 0  # no limit
    strategy: str = SPREAD
    tolerations: tuple[Toleration, ...] = ()
    priority: int = 0
    container: Mapping[str, Any] = field(default_factory=dict)

    def names(self) -> list[str]:
        return [f"{self.name}-{number}" for number in range(1, self.replicas + 1)]


@dataclass(frozen=True)
class Running:
    """A container that is on a host."""

    name: str
    requests: Requests = Requests()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Host:
    """``ports`` are taken by others than containers of ours. A device with None can be had by any number.

    ``idle_cpus`` and ``memory_available`` are what was measured, None where nothing was.
    """

    name: str
    cpus: int
    memory: int
    idle_cpus: Optional[int] = None
    memory_available: Optional[int] = None
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    ports: tuple[Port, ...] = ()
    devices: Mapping[str, Optional[int]] = field(default_factory=dict)
    cordon: bool = False
    drain: bool = False
    running: tuple[Running, ...] = ()
    groups: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def domain(self, topology: str) -> Optional[str]:
        """Which part of the topology it is in; None where it has no such label."""
        return self.name if topology == HOST else self.labels.get(topology)

    def document(self) -> dict[str, Any]:
        """What constraints are asked of."""
        return {
            "name": self.name,
            "groups": list(self.groups),
            "labels": dict(self.labels),
            "facts": self.facts,
            "cpus": self.cpus / 1000,
            "memory": self.memory,
            "devices": list(self.devices),
        }
