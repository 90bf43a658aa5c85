# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a verb: few enough that reading them needs no library, which would cost more than most verbs do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._errors import VesselError


class UsageError(VesselError):
    """The command line is wrong."""


class Parsed:
    def __init__(self, values: dict[str, Any], rest: list[str]) -> None:
        self.values = values
        self.rest = rest

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def parse(args: Sequence[str], flags: Mapping[str, str], valued: Mapping[str, str], *, interleaved: bool) -> Parsed:
    """``flags`` and ``valued`` map spellings to names; a valued option may be given several times.

    Unless ``interleaved``, options end at the first word that is none: what follows belongs to another command.
    """
    values: dict[str, Any] = dict.fromkeys(flags.values(), False)
    values.update({name: [] for name in valued.values()})
    rest: list[str] = []
    words = list(args)
    while words:
        word = words.pop(0)
        if word == "--":
            return Parsed(values, rest + words)
        if not word.startswith("-") or word == "-":
            rest.append(word)
            if not interleaved:
                return Parsed(values, rest + words)
            continue
        _option(word, words, flags, valued, values)
    return Parsed(values, rest)


def _option(
    word: str, words: list[str], flags: Mapping[str, str], valued: Mapping[str, str], values: dict[str, Any]
) -> None:
    name, equals, value = word.partition("=")
    if name in valued:
        if not equals:
            if not words:
                raise UsageError(f"option {name} needs a value")
            value = words.pop(0)
        values[valued[name]].append(value)
    elif word in flags:
        values[flags[word]] = True
    elif not word.startswith("--") and len(word) > 2 and all(f"-{letter}" in flags for letter in word[1:]):
        for letter in word[1:]:
            values[flags[f"-{letter}"]] = True
    elif not word.startswith("--") and word[:2] in valued:
        values[valued[word[:2]]].append(word[2:])
    else:
        raise UsageError(f"no such option: {word}", hint="--help lists them")


def last(values: list[str], default: str = "") -> str:
    return values[-1] if values else default
