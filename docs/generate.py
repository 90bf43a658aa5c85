# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what the documentation takes from the code: ``docs/options.md``, from the records of the options,
``docs/leaving_options.md``, from the tables by which stacks are given in the forms of others, and the tables of
``docs/compose.md``, from those of the compose specification's attributes.

Run by ``make docs``; a test holds that the files are what this writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(CHECKOUT / "collection"))

from ansible_collections.vessel.host.plugins.module_utils._options import (
    container as container_options,
)
from ansible_collections.vessel.host.plugins.module_utils._options import (
    network as network_options,
)
from ansible_collections.vessel.host.plugins.module_utils._options import (
    volume as volume_options,
)
from ansible_collections.vessel.host.plugins.module_utils._options.parse import parse_mode
from ansible_collections.vessel.host.plugins.module_utils._options.record import Compare, Cost, Option
from ansible_collections.vessel.host.plugins.plugin_utils.compose.attributes import TOP, Attribute, Fate
from ansible_collections.vessel.host.plugins.plugin_utils.export import (
    compose,
    compose_parts,
    kubernetes,
    manifests,
    quadlet,
    quadlet_parts,
)

COMPOSE = CHECKOUT / "docs" / "compose.md"
MARK = "<!-- From here on this file is written by make docs. -->\n"
RESOURCES = {
    "container": container_options.OPTIONS,
    "network": network_options.OPTIONS,
    "volume": volume_options.OPTIONS,
}
COMPARED = {
    Compare.strict: "equal",
    Compare.set: "equal, in any order",
    Compare.allow_more: "at least what is declared",
}
MEANING = {
    Cost.live: "the process does not notice; its PID and start time stay",
    Cost.signal: "the process gets a signal",
    Cost.restart: "the process is started anew; its writable layer stays",
    Cost.recreate: "the writable layer goes too",
}
HEAD = """\
# What a change costs

This file is written by `make docs` from the records in `plugins/module_utils/_options/`: the same records from which
the argument specs, the comparison and the diff come.

Every option that declares something has a cost class, which says what changing it does to a container that runs:

{classes}

`--check --diff` names the class of each change, and `max_disruption` forbids anything worse than the class it names.
A change to a network or a volume is of the class `live` for every container that uses it.
"""


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _column in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def default(option: Option) -> str:
    value = option.default
    if value is None or value in ("", [], {}):
        return ""
    if option.parse is parse_mode:
        return f"`{value:04o}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int) and value and not value % (1 << 20):
        return f"`{value >> 20}m`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def kind(option: Option) -> str:
    if option.choices:
        return ", ".join(f"`{word}`" for word in option.choices)
    return f"{option.type} of {option.elements}" if option.elements else option.type


def row(option: Option) -> tuple[str, ...]:
    cost = option.cost.name if option.cost is not None else "can't be changed"
    return f"`{option.name}`", kind(option), default(option), COMPARED[option.compare], cost


def section(name: str, options: tuple[Option, ...]) -> str:
    head = ("option", "type or choices", "default", "is the same when", "cost")
    return f"## {name}\n\n{table(head, [row(option) for option in sorted(options, key=lambda o: o.name)])}\n"


LEAVING = """\
# What becomes of each option

This file is written by `make docs` from the tables in `plugins/plugin_utils/export/`, by which the filters
`to_compose`, `to_quadlet` and `to_kubernetes` work. [leaving.md](leaving.md) tells of them.

A dash is an option that can't be said in that form, with the reason; an option that has its default needs no word.
"""
FORMS = {
    "container": (compose.CONTAINER, quadlet.CONTAINER, kubernetes.CONTAINER),
    "network": (compose_parts.NETWORK, quadlet_parts.NETWORK, manifests.NETWORK),
    "volume": (compose_parts.VOLUME, quadlet_parts.VOLUME, manifests.VOLUME),
    "image": (compose_parts.IMAGE, quadlet_parts.IMAGE, kubernetes.IMAGE),
}


def forms(name: str) -> str:
    head = ("option", "compose", "quadlet", "Kubernetes")
    rows = [(f"`{option}`", *(str(rules[option]) for rules in FORMS[name])) for option in sorted(FORMS[name][0])]
    return f"## {name}\n\n{table(head, rows)}\n"


def render_leaving() -> str:
    return "\n".join([LEAVING, *map(forms, FORMS)])


def render() -> str:
    classes = table(("class", "what it means"), [(f"`{cost.name}`", meaning) for cost, meaning in MEANING.items()])
    return "\n".join([HEAD.format(classes=classes), *(section(name, found) for name, found in RESOURCES.items())])


def fate(attribute: Attribute) -> str:
    if attribute.fate is Fate.mapped:
        return attribute.text
    if attribute.fate is Fate.holds:
        return f"nothing to do: {attribute.text}"
    harmless = " or ".join(f"`{str(value).lower()}`" for value in attribute.harmless if value != "")
    return f"**refused**{f' but for {harmless}' if harmless else ''}: {attribute.text}"


def attribute_rows(attributes: tuple[Attribute, ...], path: str = "") -> Iterator[tuple[str, ...]]:
    for attribute in sorted(attributes, key=lambda attribute: attribute.name):
        where = f"{path}.{attribute.name}".removeprefix(".")
        if attribute.text:
            yield f"`{where}`", fate(attribute)
        yield from attribute_rows(attribute.below, where)


def render_compose() -> str:
    """The text that is there, with the tables after its mark."""
    head = ("attribute", "what becomes of it")
    parts = [COMPOSE.read_text().partition(MARK)[0] + MARK]
    parts.append(table(head, [(f"`{found.name}`", fate(found)) for found in TOP if found.text]) + "\n")
    for found in TOP:
        if found.below:
            parts.append(f"## {found.name}\n\n{table(head, list(attribute_rows(found.below)))}\n")
    return "\n".join(parts)


TARGETS = {
    CHECKOUT / "docs" / "options.md": render,
    CHECKOUT / "docs" / "leaving_options.md": render_leaving,
    COMPOSE: render_compose,
}

if __name__ == "__main__":
    for target, rendered in TARGETS.items():
        target.write_text(rendered())
