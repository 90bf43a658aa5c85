# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what the documentation takes from the code: ``docs/options.md``, from the records of the options.

Run by ``make docs``; a test holds that the file is what this writes.
"""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(CHECKOUT / "collection"))

from ansible_collections.vessel.host.plugins.module_utils._converge import (
    container_options,
    network_options,
    volume_options,
)
from ansible_collections.vessel.host.plugins.module_utils._converge.options import Compare, Option
from ansible_collections.vessel.host.plugins.module_utils._converge.parse import parse_mode
from ansible_collections.vessel.host.plugins.module_utils._converge.plan import Cost

TARGET = CHECKOUT / "docs" / "options.md"
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

This file is written by `make docs` from the records in `plugins/module_utils/_converge/`: the same records from which
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


def render() -> str:
    classes = table(("class", "what it means"), [(f"`{cost.name}`", meaning) for cost, meaning in MEANING.items()])
    return "\n".join([HEAD.format(classes=classes), *(section(name, found) for name, found in RESOURCES.items())])


if __name__ == "__main__":
    TARGET.write_text(render())
