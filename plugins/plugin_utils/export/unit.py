# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One of podman's unit files (podman-systemd.unit(5)) while it is written, and the rules that write into it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from .declaration import Stack
from .losses import Losses, Owner, Where
from .secrets import Names
from .table import Rule

_SIMPLE = re.compile(r"[a-zA-Z0-9_./:=,@+-]+")
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_.-]+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


@dataclass
class Unit:
    """A file while it is written. ``own`` is the section that has the kind's name."""

    own: str
    owner: Owner
    stack: Stack
    names: Names
    spec: dict[str, Any]
    losses: Losses
    sections: dict[str, list[str]] = field(default_factory=lambda: {"Unit": []})

    def line(self, key: str, text: str, at: Where, section: str = "") -> None:
        """A value that quadlet takes whole."""
        if text != text.strip() or text.endswith("\\") or len(text.splitlines()) > 1:
            at.lacks(text, "a line of it has no line breaks, no blanks around it, and no backslash at its end")
        else:
            self.sections.setdefault(section or self.own, []).append(f"{key}={literal(text)}")

    def words(self, key: str, *texts: str) -> None:
        """Values that quadlet splits into words."""
        self.sections.setdefault(self.own, []).append(f"{key}={' '.join(map(word, texts))}")

    def argument(self, text: str) -> None:
        """What has no key of its own goes to podman as it is."""
        self.words("PodmanArgs", text)

    def plain(self, section: str, key: str, value: Any) -> None:
        self.sections.setdefault(section, []).append(f"{key}={value}")

    def text(self, left_out: list[str]) -> str:
        head = [f"# left out: {loss}" for loss in left_out]
        order = [name for name in ("Unit", self.own, "Service", "Install") if self.sections.get(name)]
        parts = ["\n".join([f"[{name}]", *self.sections[name]]) for name in order]
        return "\n\n".join([*(["\n".join(head)] if head else []), *parts]) + "\n"


def literal(text: str) -> str:
    """What systemd would take for a specifier or a variable, in the command that quadlet makes of it."""
    return text.replace("%", "%%").replace("$", "$$")


def word(text: str) -> str:
    """One word (systemd.syntax(7)), in quotes unless it is simple."""
    if _SIMPLE.fullmatch(text):
        return text
    return '"' + "".join(_ESCAPES.get(char, char) for char in literal(text)) + '"'


def stem(stack: Stack, name: str) -> str:
    """The files' names begin with the stack's, so that no unit of the host's has the same."""
    tail = _NOT_IN_NAMES.sub("-", name.removesuffix(":latest"))
    return f"{stack.name}-{tail}"


# rules


def line(key: str, convert: Optional[Callable[[Any], str]] = None, why: str = "") -> Rule:
    def writer(place: Unit, value: Any, at: Where) -> None:
        place.line(key, convert(value) if convert else str(value), at)

    return Rule(f"`{key}=`", writer, why)


def lines(key: str, convert: Optional[Callable[[Any], str]] = None) -> Rule:
    """A line for each of the list."""

    def writer(place: Unit, value: list[Any], at: Where) -> None:
        for index, item in enumerate(value):
            place.line(key, convert(item) if convert else str(item), at.item(index))

    return Rule(f"`{key}=`", writer)


def true(key: str) -> Rule:
    return line(key, lambda value: str(value).lower())


def pairs(key: str) -> Rule:
    """A line for each of a mapping, as NAME=VALUE in quotes."""

    def writer(place: Unit, value: dict[str, str], at: Where) -> None:
        for name, text in value.items():
            place.words(key, f"{name}={text}")

    return Rule(f"`{key}=`", writer)


def argument(name: str, convert: Optional[Callable[[Any], Any]] = None) -> Rule:
    def writer(place: Unit, value: Any, at: Where) -> None:
        place.argument(f"{name}={convert(value) if convert else value}")

    return Rule(f"`PodmanArgs={name}`", writer)


def unified(file: str) -> Rule:
    """A file of cgroup v2, which quadlet needs anyway."""

    def writer(place: Unit, value: Any, at: Where) -> None:
        place.argument(f"--cgroup-conf={file}={int(value)}")

    return Rule(f"`PodmanArgs=--cgroup-conf={file}`", writer)
