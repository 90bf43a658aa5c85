# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has a document the form that the specification gives it, and does it ask for anything that there is not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from .attributes import ANY, Attribute, Fate
from .document import Override, Reset
from .errors import NOTHING, ComposeError

_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "list": (list,),
    "mapping": (dict,),
}
_NAME = re.compile(r"[a-zA-Z0-9._-]+")
TRUE, FALSE = ("true", "yes", "on", "y", "1"), ("false", "no", "off", "n", "0")


def check(document: dict[str, Any], attributes: Sequence[Attribute], file: str, path: str = "") -> None:
    """Raise ComposeError for an attribute that no one knows, and for a value of another kind."""
    known = {attribute.name: attribute for attribute in attributes}
    for name, value in document.items():
        where = f"{path}.{name}" if path else name
        if name.startswith("x-"):
            continue
        if name not in known:
            names = ", ".join(sorted(known))
            raise ComposeError(file, where, NOTHING, f"is no attribute of the compose specification; there are {names}")
        if value is not None:  # which is as if it was not there
            _check_value(value, known[name], known[name].kinds, file, where)


def check_required(document: dict[str, Any], attributes: Sequence[Attribute], file: str, path: str) -> None:
    """Raise ComposeError for what must be there and is not; what is merged later may have it."""
    for attribute in attributes:
        if attribute.required and document.get(attribute.name) is None:
            raise ComposeError(file, f"{path}.{attribute.name}", NOTHING, "is missing, and must be there")


def _check_value(value: Any, attribute: Attribute, kinds: str, file: str, path: str) -> None:
    if isinstance(value, Reset):
        return
    if isinstance(value, Override):
        value = value.content
    if not _is_of(value, kinds):
        raise ComposeError(file, path, value, f"is {_article(_kind(value))}; give {_either(kinds)}")
    if isinstance(value, str) and attribute.choices and value not in attribute.choices:
        raise ComposeError(file, path, value, f"is not one of {', '.join(attribute.choices)}")
    if isinstance(value, str) and kinds == "boolean string" and value.lower() not in (*TRUE, *FALSE):
        raise ComposeError(file, path, value, "is neither true nor false")
    if isinstance(value, list):
        for index, item in enumerate(value):
            where = f"{path}[{index}]"
            _check_value(item, _inner(attribute), attribute.items, file, where)
            if isinstance(item, dict):
                check_required(item, attribute.below, file, where)
    elif isinstance(value, dict):
        _check_mapping(value, attribute, file, path)


def _check_mapping(value: dict[str, Any], attribute: Attribute, file: str, path: str) -> None:
    if not attribute.names:
        if attribute.fate is not Fate.refused:
            check(value, attribute.below, file, path)
        return
    for name, item in value.items():
        if attribute.below and not _NAME.fullmatch(name):
            raise ComposeError(file, path, name, "is no name; use letters, digits, _ . and -")
        _check_value(item, _inner(attribute), attribute.values, file, f"{path}.{name}")


def _inner(attribute: Attribute) -> Attribute:
    """Of what is in it: a mapping has the attributes below, or anything where there are none."""
    return Attribute("", "", below=attribute.below, items=ANY, names=not attribute.below, values=ANY)


def refusals(value: Any, attributes: Sequence[Attribute], path: str) -> Iterator[tuple[str, Any, str]]:
    """(attribute, value, reason) of each that is asked for and refused."""
    known = {attribute.name: attribute for attribute in attributes}
    for name, found in (value if isinstance(value, dict) else {}).items():
        attribute = known.get(name)
        if attribute is None or found is None:
            continue
        where = f"{path}.{name}" if path else name
        if attribute.fate is Fate.refused:
            if not _is_harmless(found, attribute.harmless):
                yield where, found, attribute.text
        elif isinstance(found, list):
            for index, item in enumerate(found):
                yield from refusals(item, attribute.below, f"{where}[{index}]")
        elif attribute.names and isinstance(found, dict):
            for key, item in found.items():
                yield from refusals(item, attribute.below, f"{where}.{key}")
        else:
            yield from refusals(found, attribute.below, where)


def _is_harmless(value: Any, harmless: tuple[Any, ...]) -> bool:
    if isinstance(value, (list, dict)) and not value:
        return True
    if isinstance(value, str) and value.lower() in (*TRUE, *FALSE) and any(isinstance(one, bool) for one in harmless):
        value = value.lower() in TRUE
    return any(type(value) is type(one) and value == one for one in harmless)


def _is_of(value: Any, kinds: str) -> bool:
    if isinstance(value, bool):
        return "boolean" in kinds.split()
    return any(isinstance(value, _KINDS[kind]) for kind in kinds.split())


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return next((kind for kind, types in _KINDS.items() if isinstance(value, types)), type(value).__name__)


def _article(kind: str) -> str:
    return "nothing" if kind == "null" else f"a {kind}"


def _either(kinds: str) -> str:
    return " or ".join(_article(kind) for kind in kinds.split())
