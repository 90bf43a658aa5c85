# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RUN --mount=… and its like: what a command sees for as long as it runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Optional

KINDS = ("bind", "cache", "secret", "tmpfs")
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "readonly": "ro", "readwrite": "rw"}
_COMMON = ("type", "target")
_KNOWN = {
    "bind": (*_COMMON, "from", "source", "ro", "rw", "relabel", "z", "Z"),
    "cache": (*_COMMON, "id", "from", "source", "sharing", "mode", "uid", "gid", "ro", "rw", "z", "Z"),
    "secret": (*_COMMON, "id", "env", "required", "mode", "uid", "gid"),
    "tmpfs": (*_COMMON, "size", "mode"),
}
_SIZE = re.compile(r"(\d+)([bkmg]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
SHARING = ("shared", "private", "locked")
Expand = Callable[[str], str]


def options_of(text: str) -> dict[str, str]:
    """``type=cache,target=/x``: values by their canonical name; a word alone has "true"."""
    found = {}
    for word in text.strip("\"'").split(","):
        name, equals, value = word.partition("=")
        name = name if name == "Z" else name.lower()
        found[_ALIASES.get(name, name)] = value if equals else "true"
    return found


def parse(text: str, expand: Optional[Expand] = None) -> dict[str, Any]:
    """The fields of steps.Mount, but for its origin: that is named by ``from``. ValueError for what can't be."""
    given = options_of(text)
    kind = given.get("type", "bind")
    if kind not in KINDS:
        raise ValueError(f"type={kind} is not one of {', '.join(KINDS)}")
    for name in given:
        if name not in _KNOWN[kind]:
            raise ValueError(f"{name} is no option of type={kind}; there are {', '.join(_KNOWN[kind])}")
    given = {name: expand(value) if expand and name != "type" else value for name, value in given.items()}
    fields: dict[str, Any] = {"kind": kind, **{name: given[name] for name in ("target", "from") if given.get(name)}}
    fields.update({name: _number(name, given[name]) for name in ("uid", "gid") if name in given})
    if "mode" in given:
        fields["mode"] = _mode(given["mode"])
    return {**fields, **_OF_KIND[kind](given)}


def _bind(given: dict[str, str]) -> dict[str, Any]:
    return {"target": _target(given), "source": given.get("source", ""), "readonly": not _is_true(given, "rw")}


def _cache(given: dict[str, str]) -> dict[str, Any]:
    sharing = given.get("sharing", "shared")
    if sharing not in SHARING:
        raise ValueError(f"sharing={sharing} is not one of {', '.join(SHARING)}")
    target = _target(given)
    return {"target": target, "id": given.get("id") or target, "source": given.get("source", ""), "sharing": sharing,
            "readonly": _is_true(given, "ro")}  # fmt: skip


def _secret(given: dict[str, str]) -> dict[str, Any]:
    name = given.get("id") or (given.get("target") or "").rpartition("/")[2]
    if not name:
        raise ValueError("a secret needs its id")
    # One that is only a variable is no file.
    target = given.get("target") or ("" if given.get("env") else f"/run/secrets/{name}")
    target = target if target.startswith("/") or not target else f"/run/secrets/{target}"
    return {"id": name, "target": target, "env": given.get("env", ""), "mode": _mode(given.get("mode", "0400")),
            "required": _is_true(given, "required")}  # fmt: skip


def _tmpfs(given: dict[str, str]) -> dict[str, Any]:
    match = _SIZE.fullmatch(given.get("size", "0"))
    if not match:
        raise ValueError(f"size={given['size']} is no number of bytes, such as 64m")
    size = int(match[1]) * _UNITS[match[2].lower()]
    return {"target": _target(given), "size": size, "mode": _mode(given.get("mode", "1777"))}


_OF_KIND = {"bind": _bind, "cache": _cache, "secret": _secret, "tmpfs": _tmpfs}


def _target(given: dict[str, str]) -> str:
    if not given.get("target"):
        raise ValueError("it has no target")
    return given["target"]


def _is_true(given: dict[str, str], name: str) -> bool:
    value = given.get(name, "false").lower()
    if value not in ("true", "false", "1", "0", ""):
        raise ValueError(f"{name}={given[name]} is neither true nor false")
    return value in ("true", "1", "")


def _number(name: str, value: str) -> int:
    if not value.isdecimal() or int(value) > 2**32 - 2:
        raise ValueError(f"{name}={value} is no number of a user or group")
    return int(value)


def _mode(value: str) -> int:
    if not re.fullmatch(r"0?o?[0-7]{1,4}", value):
        raise ValueError(f"mode={value} is no octal number such as 0755")
    return int(value.replace("o", ""), 8)
