# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables in the values of a compose file, as the specification's chapter on interpolation has them.

What comes in their place is data: it is not looked through again, but for the words after an operator, which may hold
variables themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .errors import NOTHING, ComposeError

# A name's value; None for one that is not set.
Lookup = Callable[[str], "str | None"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")
_HINT = "write $NAME or ${NAME}, and $$ for a dollar sign itself"


class Variables:
    """Values by name; ``missing`` are the names that were asked for in vain, and stood for nothing."""

    def __init__(self, values: Mapping[str, str], missing: set[str] | None = None) -> None:
        self.values = dict(values)
        self.missing: set[str] = set() if missing is None else missing

    def get(self, name: str) -> str | None:
        return self.values.get(name)

    def over(self, values: Mapping[str, str]) -> Variables:
        """With values for names that have none here."""
        return Variables({**values, **self.values}, self.missing)


def interpolate(value: Any, variables: Variables, file: str, path: str = "") -> Any:
    """A copy, with the variables of every string in it replaced; names of mappings stay as they are."""
    if isinstance(value, str):
        return substitute(value, variables, file, path)
    if isinstance(value, dict):
        return {
            key: interpolate(item, variables, file, f"{path}.{key}" if path else str(key))
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [interpolate(item, variables, file, f"{path}[{index}]") for index, item in enumerate(value)]
    if hasattr(value, "with_content"):  # a tag's
        return value.with_content(interpolate(value.content, variables, file, path))
    return value


def substitute(text: str, variables: Variables, file: str, path: str) -> str:
    """The text with its variables replaced. Raises ComposeError for what is none, and for one that must be set."""
    try:
        return _expand(text, variables)
    except ValueError as error:
        raise ComposeError(file, path, text, str(error), _HINT) from None
    except LookupError as error:
        hint = "set it in compose_env, or in an env file"
        raise ComposeError(file, path, NOTHING, f"{error.args[0]}", hint) from None


def _expand(text: str, variables: Variables) -> str:
    parts: list[str] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        parts.append(text[at:dollar])
        value, at = _one(text, dollar + 1, variables)
        parts.append(value)
    return "".join((*parts, text[at:]))


def _one(text: str, at: int, variables: Variables) -> tuple[str, int]:
    """(what stands for it, where the text goes on) of what begins after a dollar sign."""
    if text[at : at + 1] == "$":
        return "$", at + 1
    if text[at : at + 1] == "{":
        end = _end(text, at)
        return _braced(text[at + 1 : end], variables), end + 1
    name = _NAME.match(text, at)
    if not name:
        raise ValueError(f"has a dollar sign that begins no variable, before {text[at : at + 10]!r}")
    return _plain(name[0], variables), name.end()


def _end(text: str, at: int) -> int:
    """Where the brace that opens here is closed; those of variables within are passed over."""
    depth = 0
    for index in range(at, len(text)):
        if text[index] == "{" and text[index - 1] == "$":
            depth += 1
        elif text[index] == "}":
            depth -= 1
            if not depth:
                return index
    raise ValueError("has a ${ that is not closed")


def _plain(name: str, variables: Variables) -> str:
    value = variables.get(name)
    if value is None:
        variables.missing.add(name)
    return value or ""


def _braced(inner: str, variables: Variables) -> str:
    name = _NAME.match(inner)
    if not name:
        raise ValueError(f"has ${{{inner}}}, which names no variable")
    rest = inner[name.end() :]
    if not rest:
        return _plain(name[0], variables)
    operator = next((operator for operator in _OPERATORS if rest.startswith(operator)), None)
    if operator is None:
        raise ValueError(f"has ${{{inner}}}; after the name may come {' '.join(_OPERATORS)}")
    return _operate(name[0], operator, rest[len(operator) :], variables)


def _operate(name: str, operator: str, word: str, variables: Variables) -> str:
    value = variables.get(name)
    there = value is not None and (operator[0] != ":" or value != "")
    if operator[-1] == "+":
        return _expand(word, variables) if there else ""
    if there:
        return str(value)
    if operator[-1] == "-":
        return _expand(word, variables)
    reason = _expand(word, variables)
    raise LookupError(f"the variable {name} must be set{f': {reason}' if reason else ''}")
