# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod with one container, while it is written, and the rules that write into it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from .declaration import Stack
from .losses import Where
from .table import Rule, put

FORM = "in Kubernetes' words"
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")  # RFC 1123
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_NAME_MAX = 63
_UNITS = ((30, "Gi"), (20, "Mi"), (10, "Ki"))


@dataclass
class Pod:
    """What a container becomes, while it is written."""

    name: str
    stack: Stack
    spec: dict[str, Any]  # of the declaration
    container: dict[str, Any] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)
    mounts: list[dict[str, Any]] = field(default_factory=list)
    claims: list[str] = field(default_factory=list)  # volumes of the stack that it has to itself

    def put(self, path: str, value: Any) -> None:
        """Of the container."""
        put(self.container, path, value)

    def put_pod(self, path: str, value: Any) -> None:
        put(self.body, path, value)

    def limit(self, name: str, quantity: str) -> None:
        self.container.setdefault("resources", {}).setdefault("limits", {})[name] = quantity

    def mount(
        self, name: str, volume: Optional[dict[str, Any]], target: str, *, read_only: bool = False
    ) -> dict[str, Any]:
        if volume is not None:
            self.volumes[name] = {"name": name, **volume}
        entry: dict[str, Any] = {"name": name, "mountPath": target}
        if read_only:
            entry["readOnly"] = True
        self.mounts.append(entry)
        return entry


def named(name: str, at: Where) -> str:
    """The name as a label of DNS, which names of objects are."""
    if LABEL.fullmatch(name) and name[0].isalpha() and len(name) <= _NAME_MAX:
        return name
    at.lacks(name, f"names there have lower case, digits and -, a letter first, {_NAME_MAX} at most")
    text = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return (text if text[:1].isalpha() else f"n-{text}")[:_NAME_MAX].rstrip("-")


def quantity(value: int) -> str:
    for shift, unit in _UNITS:
        if value and not value % (1 << shift):
            return f"{value >> shift}{unit}"
    return str(value)


def is_label(key: str, value: str) -> bool:
    return bool(LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value))


def literal(text: str) -> str:
    """What would be a variable in a command, its arguments or a variable's value (core/v1, Container)."""
    return re.sub(r"\$(?=[$(])", "$$", text)


def key(path: str, convert: Optional[Callable[[Any], Any]] = None, why: str = "") -> Rule:
    """Of the container."""

    def writer(place: Pod, value: Any, at: Where) -> None:
        place.put(path, convert(value) if convert else value)

    return Rule(f"`{path}`", writer, why)


def of_pod(path: str, convert: Optional[Callable[[Any], Any]] = None, why: str = "") -> Rule:
    def writer(place: Pod, value: Any, at: Where) -> None:
        place.put_pod(path, convert(value) if convert else value)

    return Rule(f"the pod's `{path}`", writer, why)
