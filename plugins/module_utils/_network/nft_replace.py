# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that put tables in the place of those that are there, in one transaction.

What stays in them as it is, chains, sets and maps, is kept, and only rules and elements are new: those the kernel
switches for all packets at once. A chain that is made anew is another hook. Packets that have begun with the hooks from
before the transaction find the old chain empty, and of new connections to a published port one is refused now and then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .nft_compare import added
from .nft_words import Json

# Rules go first, and then what nothing names any more: maps name chains.
_ORDER = ("map", "chain", "set")
# What can't be changed in them; what nft tells beyond is in every version's own words.
_SHAPE = ("type", "map", "hook", "prio", "policy", "size", "timeout", "gc-interval", "auto-merge", "stmt")
# Of what nft tells as flags; "dynamic" is told by some of a set that rules add to.
_FLAGS = {"interval", "timeout", "constant"}
_Key = tuple[str, str, str, str]  # kind, family, table, name


def replacement(wanted: list[Json], present: list[Json]) -> list[Json]:
    """For ``wanted``, the commands that add the tables, where ``present`` is there, as nftables.read gives it.

    What a set holds that forgets stays: packets put it there.
    """
    declared, there = dict(_objects(added(wanted))), dict(_objects(present))
    if any(kind not in (*_ORDER, "rule", "table") for item in present for kind in item):
        return anew(wanted, present)
    stays = {key for key in declared.keys() & there.keys() if _shape(declared[key]) == _shape(there[key])}
    kept = _tables(command["add"] for command in wanted)
    commands: list[Json] = [{"delete": {"table": head}} for head in _tables(present) if head not in kept]
    for head in kept:
        commands += [{"add": {"table": head}}, {"flush": {"table": head}}]
    for key in sorted(there, key=lambda key: _ORDER.index(key[0])):
        if {"family": key[1], "name": key[2]} not in kept:
            continue  # it goes with its table
        if key not in stays:
            commands.append({"delete": _named(key)})
        elif key[0] != "chain" and "timeout" not in there[key]:
            commands.append({"flush": _named(key)})
    return [*commands, *_rest(wanted, stays)]


def anew(wanted: list[Json], present: list[Json]) -> list[Json]:
    """The same by tables alone, whatever is in them."""
    commands: list[Json] = []
    for head in _tables([*present, *(command["add"] for command in wanted)]):
        commands += [{"add": {"table": head}}, {"delete": {"table": head}}]
    return [*commands, *wanted]


def _tables(objects: Iterable[Json]) -> list[Json]:
    """The heads of tables, each once."""
    found = {(body["family"], body["name"]) for item in objects for kind, body in item.items() if kind == "table"}
    return [{"family": family, "name": name} for family, name in sorted(found)]


def _objects(items: Iterable[Json]) -> Iterator[tuple[_Key, Json]]:
    """Chains, sets and maps."""
    return ((_key(kind, body), body) for item in items for kind, body in item.items() if kind in _ORDER)


def _shape(body: Json) -> list[Any]:
    flags = body.get("flags") or []  # newer nft tells a single one without a list
    return [*(body.get(name) for name in _SHAPE), _FLAGS & {*([flags] if isinstance(flags, str) else flags)}]


def _key(kind: str, body: Json) -> _Key:
    return kind, body["family"], body["table"], body["name"]


def _named(key: _Key) -> Json:
    kind, family, table, name = key
    return {kind: {"family": family, "table": table, "name": name}}


def _rest(wanted: list[Json], stays: set[_Key]) -> Iterator[Json]:
    """What is to be added: of what stays its elements alone."""
    for command in wanted:
        ((kind, body),) = command["add"].items()
        if kind == "table":
            continue
        if kind not in _ORDER or _key(kind, body) not in stays:
            yield command
        elif body.get("elem"):
            yield {"add": {"element": {**_named(_key(kind, body))[kind], "elem": body["elem"]}}}
