# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One document over another, by the specification's chapter on merging.

A mapping is merged name by name, a list goes on, anything else is replaced; the exceptions are the table below. Of a
list's elements that speak of the same (a port, a target, a name) the last one stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .document import Override, Reset
from .errors import ComposeError
from .ports import identity

Path = tuple[str, ...]
Rule = Callable[[Any, Any, Path, str], Any]


def merge(base: Any, over: Any, file: str, path: Path = ()) -> Any:
    """A new value; ``file`` is that of ``over``. Tags in ``over`` are done away with."""
    if isinstance(over, Override):
        return settled(over.content)
    if over is None:
        return base
    return _rule(path)(base, over, path, file)


def settled(value: Any) -> Any:
    """What there is nothing below of: a reset leaves nothing, an override is what it says."""
    if isinstance(value, Override):
        return settled(value.content)
    if isinstance(value, dict):
        return {name: settled(item) for name, item in value.items() if not isinstance(item, Reset)}
    if isinstance(value, list):
        return unique([settled(item) for item in value if not isinstance(item, Reset)])
    return value


def _rule(path: Path) -> Rule:
    if path[:1] in (("services",), ("networks",), ("volumes",)):
        for pattern, rule in _RULES.items():
            if len(pattern) == len(path) and all(one in ("*", two) for one, two in zip(pattern, path)):
                return rule
    return _general


def _general(base: Any, over: Any, path: Path, file: str) -> Any:
    if isinstance(base, dict) or isinstance(over, dict):
        return _mappings(base, over, path, file)
    if isinstance(base, list) or isinstance(over, list):
        return _lists(base, over, path, file)
    return settled(over)


def _mappings(base: Any, over: Any, path: Path, file: str) -> Any:
    if base is None:
        return settled(over)
    if not isinstance(base, dict) or not isinstance(over, dict):
        raise _contrary(over, path, file)
    result = dict(base)
    for name, value in over.items():
        if isinstance(value, Reset):
            result.pop(name, None)
        elif name in result:
            result[name] = merge(result[name], value, file, (*path, name))
        else:
            result[name] = settled(value)
    return result


def _lists(base: Any, over: Any, path: Path, file: str) -> Any:
    if base is None:
        return settled(over)
    if not isinstance(base, list) or not isinstance(over, list):
        raise _contrary(over, path, file)
    return unique([*base, *settled(over)], path)


def _contrary(value: Any, path: Path, file: str) -> ComposeError:
    return ComposeError(file, ".".join(path), value, "can't be over what the file before says; it has another form")


def _replaced(base: Any, over: Any, path: Path, file: str) -> Any:
    return settled(over)


def _listed(base: Any, over: Any, path: Path, file: str) -> Any:
    """A word is a list of one."""
    return _lists(as_list(base), as_list(over), path, file)


def _paired(base: Any, over: Any, path: Path, file: str) -> Any:
    return _mappings(as_pairs(base), as_pairs(over), path, file)


def _hosts(base: Any, over: Any, path: Path, file: str) -> Any:
    entries = [*host_entries(base), *host_entries(settled(over))]
    return list(dict.fromkeys(f"{name}={address}" for name, address in entries))


def _named(base: Any, over: Any, path: Path, file: str) -> Any:
    return _mappings(as_names(base), as_names(over), path, file)


def _built(base: Any, over: Any, path: Path, file: str) -> Any:
    both = [{"context": value} if isinstance(value, str) else value for value in (base, over)]
    return _mappings(both[0], both[1], path, file)


def _logged(base: Any, over: Any, path: Path, file: str) -> Any:
    """The options of one driver say nothing to another."""
    drivers = {value["driver"] for value in (base or {}, settled(over)) if value.get("driver")}
    return settled(over) if len(drivers) > 1 else _mappings(base, over, path, file)


def _pools(base: Any, over: Any, path: Path, file: str) -> Any:
    """What is said of one subnet is merged; a file that names another one replaces it."""
    before = {pool.get("subnet"): pool for pool in base or []}
    return [_mappings(before.get(pool.get("subnet"), {}), pool, path, file) for pool in settled(over)]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def as_pairs(value: Any) -> dict[str, Any]:
    """NAME=VALUE of a list as a mapping; a name alone leads to None."""
    if isinstance(value, dict):
        return value
    split = [str(item).partition("=") for item in value or []]
    return {name: text if equals else None for name, equals, text in split}


def as_names(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else dict.fromkeys(value or [])


def host_entries(value: Any) -> list[tuple[str, str]]:
    """(name, address) of extra_hosts, in any of its forms."""
    if isinstance(value, dict):
        return [(name, str(address)) for name, found in value.items() for address in as_list(found)]
    entries = []
    for item in as_list(value):
        separator = "=" if "=" in str(item) else ":"
        name, dummy, address = str(item).partition(separator)
        entries.append((name.strip(), address.strip().strip("[]")))
    return entries


def unique(items: list[Any], path: Path = ()) -> list[Any]:
    """Of those that speak of the same the last one, where the first one was."""
    attribute = path[2] if len(path) == 3 and path[0] == "services" else path[-1] if path else ""
    key = _KEYS.get(attribute)
    if key is None:
        return items
    found: dict[Any, Any] = {}
    for item in items:
        found[key(item)] = item
    return list(found.values())


def _target(item: Any) -> str:
    """Of ``source:target:mode``, and of the long form."""
    if isinstance(item, dict):
        return str(item.get("target") or item.get("source"))
    parts = str(item).split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def _source(item: Any) -> str:
    return str(item.get("target") or item.get("source")) if isinstance(item, dict) else str(item)


def _file(item: Any) -> str:
    return str(item.get("path")) if isinstance(item, dict) else str(item)


_KEYS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(
        ("cap_add", "cap_drop", "dns", "dns_opt", "dns_search", "expose", "links", "profiles", "tmpfs", "aliases"), str
    ),
    "ports": identity,
    **dict.fromkeys(("volumes", "devices"), _target),
    **dict.fromkeys(("secrets", "configs"), _source),
    "env_file": _file,
}
_RULES: dict[Path, Rule] = {
    ("networks", "*", "ipam", "config"): _pools,
    ("networks", "*", "labels"): _paired,
    ("volumes", "*", "labels"): _paired,
    **{("services", "*", name): _paired for name in ("environment", "labels", "sysctls")},
    **{("services", "*", "build", name): _paired for name in ("args", "labels")},
    **{("services", "*", name): _replaced for name in ("command", "entrypoint", "extends")},
    ("services", "*", "healthcheck", "test"): _replaced,
    ("services", "*", "ulimits", "*"): _replaced,
    **{("services", "*", name): _listed for name in ("dns", "dns_search", "env_file", "label_file", "tmpfs")},
    **{("services", "*", name): _named for name in ("depends_on", "networks")},
    ("services", "*", "extra_hosts"): _hosts,
    ("services", "*", "build"): _built,
    ("services", "*", "logging"): _logged,
}
