# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a row of the option tables is: an option, the values that it is given one after the other, and who is asked.

Every value is applied twice, and looked at before and after by check mode: changed, changed, not, not. In between the
kernel is asked for it, and must have answered otherwise before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

ROWS: dict[str, list[Row]] = {}


@dataclass(frozen=True)
class Given:
    """The task's options, and the answer then. ``same`` are other spellings, which are no change."""

    args: Mapping[str, Any]
    answer: Any
    same: tuple[Mapping[str, Any], ...] = ()
    alike: str = ""  # why the kernel's answer is the one from before


@dataclass(frozen=True)
class Row:
    """``option`` is a path such as healthcheck.interval; ``base`` is what is there before the first value."""

    module: str
    option: str
    ask: Callable[[Any], Any]
    given: tuple[Given, ...]
    base: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    made: bool = True  # is it there before the first value?
    lacks: str = ""  # what the refusal says where the host does not have it

    def __str__(self) -> str:
        return f"{self.option}{'-' if self.name else ''}{self.name}"


class Also:
    """A value that needs other options beside it."""

    def __init__(self, **args: Any) -> None:
        self.args = args


@dataclass(frozen=True)
class Alike:
    """An answer that is the one from before, and why the kernel can't tell."""

    answer: Any
    reason: str


def given(option: str, value: Any, answer: Any, *same: Any) -> Given:
    def task(value: Any) -> Mapping[str, Any]:
        return value.args if isinstance(value, Also) else {option.partition(".")[0]: value}

    if isinstance(answer, Alike):
        return Given(task(value), answer.answer, tuple(map(task, same)), answer.reason)
    return Given(task(value), answer, tuple(map(task, same)))


def rows(module: str) -> Callable[..., None]:
    """What adds a row to the module's table: option, who is asked, then (value, answer, other spellings …)."""

    def add(
        option: str,
        ask: Callable[[Any], Any],
        *values: tuple[Any, ...],
        name: str = "",
        made: bool = True,
        lacks: str = "",
        **base: Any,
    ) -> None:
        steps = tuple(given(option, *value) for value in values)
        ROWS.setdefault(module, []).append(Row(module, option, ask, steps, base, name, made, lacks))

    return add
