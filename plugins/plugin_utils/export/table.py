# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A table says of each option how it is written in the other form, or why it can't be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional

from ansible_collections.vessel.host.plugins.module_utils._options.record import Option

from .losses import Where

# What is written to (the form's own), the canonical value, and where it stands.
Writer = Callable[[Any, Any, Where], None]


@dataclass(frozen=True)
class Rule:
    """``words`` is where the option goes, as the documentation has it. Without a writer it goes nowhere: ``why`` is
    the reason. With one, ``why`` is what is different there. ``even_default``: a default that was written is said."""

    words: str = ""
    write: Optional[Writer] = None
    why: str = ""
    even_default: bool = False
    of_task: bool = False

    def __str__(self) -> str:
        """The cell of the documentation's table."""
        if self.of_task:
            return f"of the task alone: {self.why}"
        if self.write is None:
            return f"— {self.why}"
        return f"{self.words} ({self.why})" if self.why else self.words


Rules = Mapping[str, Rule]


def lacks(why: str) -> Rule:
    return Rule(why=why)


def of_task(why: str) -> Rule:
    """What tells how a task does its work, and nothing of what is declared."""
    return Rule(why=why, of_task=True)


def _nothing(place: Any, value: Any, at: Where) -> None:
    pass


def together(words: str, why: str = "") -> Rule:
    """Written by the rule of another option, or with all that a container is."""
    return Rule(words, _nothing, why)


def put(body: dict[str, Any], path: str, value: Any) -> None:
    """``a.b.c`` is below a and b; lists are joined."""
    *above, last = path.split(".")
    for key in above:
        body = body.setdefault(key, {})
    body[last] = [*body[last], *value] if isinstance(value, list) and last in body else value


def shown(option: Option, value: Any) -> Any:
    """The value as a user may see it: without what is secret, at any depth."""
    if option.secret:
        return "(secret)"
    if isinstance(value, list):
        return [shown(option, item) for item in value]
    if isinstance(value, dict) and option.options:
        parts = {part.name: part for part in option.options}
        return {name: shown(parts[name], item) if name in parts else item for name, item in value.items()}
    return value


def only_default(words: str, why: str) -> Rule:
    """Of a choice the default alone is to be had there."""
    return Rule(words, lambda place, value, at: at.lacks(value, why))


def write(rules: Rules, options: tuple[Option, ...], given: Mapping[str, Any], place: Any, at: Where) -> None:
    """Every option that was given, in the order of the records."""
    for option in options:
        value, rule, here = given.get(option.name), rules[option.name], at.at(option.name)
        if value is None or rule.of_task or (value == option.default and not rule.even_default):
            continue
        if rule.write is None:
            here.lacks(shown(option, value), rule.why)
        else:
            rule.write(place, value, here)
