# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an option is: one record, from which come the argument spec, the canonical value, the comparison, the diff,
the documentation's table of costs and the test that applies every option twice.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

from .._errors import OptionError
from .parse import Parser, parse_bool, parse_str


class Cost(enum.IntEnum):
    """What a change costs the running container. The order is the order of harm."""

    live = 0  # the process does not notice
    signal = 1  # the process gets a signal
    restart = 2  # the process is started anew, its writable layer stays
    recreate = 3  # the writable layer goes too


class Compare(enum.Enum):
    """When a value that is there counts as the declared one."""

    strict = "strict"  # equal
    set = "set"  # equal, the order says nothing
    allow_more = "allow_more"  # what is declared is there; more may be


@dataclass(frozen=True)
class Option:
    """``type``, ``elements`` and ``choices`` are as in an Ansible argument spec.

    ``cost`` is what changing the option costs a running container; None marks an option that is no part of what is
    declared (state, restart, max_disruption). ``default`` is the canonical value when a whole declaration leaves the
    option out. ``secret`` values are kept out of logs and diffs.
    """

    name: str
    parse: Parser = parse_str
    type: str = "str"
    elements: str = ""
    choices: tuple[str, ...] = ()
    default: Any = None
    shown_default: Any = None  # the default as the documentation has it, where Ansible itself is to fill it in
    required: bool = False
    secret: bool = False
    aliases: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    each: tuple[Option, ...] = ()  # of a mapping by name: the options of each; Ansible is not told of them
    compare: Compare = Compare.strict
    cost: Optional[Cost] = None

    def argument(self) -> dict[str, Any]:
        """The option's entry in an argument spec."""
        entry: dict[str, Any] = {"type": self.type}
        if self.elements:
            entry["elements"] = self.elements
        if self.choices:
            entry["choices"] = list(self.choices)
        if self.required:
            entry["required"] = True
        if self.aliases:
            entry["aliases"] = list(self.aliases)
        if self.options:
            entry["options"] = arguments(self.options)
        if self.shown_default is not None:
            entry["default"] = self.shown_default
        entry["no_log"] = self.secret
        return entry

    def same(self, declared: Any, present: Any) -> bool:
        """Is the value that is there the declared one?"""
        if self.compare is Compare.strict or declared is None or present is None:
            return bool(declared == present)
        if self.compare is Compare.set:
            return sorted(map(repr, declared)) == sorted(map(repr, present))
        if isinstance(declared, dict):
            return all(key in present and present[key] == value for key, value in declared.items())
        return all(item in present for item in declared)


def arguments(options: tuple[Option, ...]) -> dict[str, Any]:
    """The argument spec of a module with these options."""
    return {option.name: option.argument() for option in options}


def parse_options(options: tuple[Option, ...], given: dict[str, Any], path: str = "") -> dict[str, Any]:
    """The options that were given, in canonical form; those that are None were not given.

    Raises OptionError for an unknown option, a missing required one, or a value that is not right.
    """
    known = {name: option for option in options for name in (option.name, *option.aliases)}
    result: dict[str, Any] = {}
    for name, value in given.items():
        where = f"{path}.{name}" if path else str(name)
        option = known.get(name)
        if option is None:
            raise OptionError(
                where, value, f"belongs to no option; there are {', '.join(sorted(o.name for o in options))}"
            )
        if value is not None:
            result[option.name] = option.parse(value, where)
    for option in options:
        if option.required and option.name not in result:
            raise OptionError(
                f"{path}.{option.name}" if path else option.name, None, "is missing; the option is required"
            )
    return result


def secret_texts(options: tuple[Option, ...], given: Any) -> Iterator[str]:
    """What of the given values is secret, at any depth, or may be: what stands where a secret belongs in another form
    than it should have is told in an error, and must not show there."""
    for option in options if isinstance(given, dict) else ():
        value = given.get(option.name)
        if option.secret and value and isinstance(value, (str, int, float)):
            yield str(value)
        elif option.each and isinstance(value, dict):
            for body in value.values():
                yield from secret_texts(option.each, body)
        else:
            for body in value if isinstance(value, list) else [value]:
                yield from secret_texts(option.options, body)
                if any(one.secret for one in option.options):
                    yield from _texts(_misplaced(option.options, body))


def _misplaced(options: tuple[Option, ...], body: Any) -> Any:
    """What none of the options is."""
    if not isinstance(body, dict):
        return body
    names = {name for option in options for name in (option.name, *option.aliases)}
    return [value for key, value in body.items() if key not in names]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    elif value and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield str(value)


def group(*options: Option) -> Parser:
    """A parser of a mapping with these options, as in a list of dictionaries."""

    def parse(value: Any, option: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            names = ", ".join(o.name for o in options)
            raise OptionError(option, value, f"is not a mapping; it takes {names}")
        return parse_options(options, value, option)

    return parse


def check_each_once(entries: list[dict[str, Any]], key: str, option: str) -> None:
    """Raise OptionError when two entries of the list have the same ``key``."""
    values = [entry[key] for entry in entries]
    for index, value in enumerate(values):
        if value in values[:index]:
            raise OptionError(f"{option}[{index}].{key}", value, "stands in the list twice")


def flag(name: str, *, default: bool = False, cost: Optional[Cost] = None) -> Option:
    """An option that is true or false."""
    return Option(name, parse_bool, "bool", default=default, cost=cost)
