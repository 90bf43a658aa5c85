# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""config.json as the ordered list of operations that make its root file system. Pure: nothing is touched here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .._kernel import mount as m
from .ops import Bind, Cgroup2, CgroupV1, FileSystem, Link, Mask, Node, Operation, Propagation, ReadOnly, Root
from .options import PROPAGATION, parse

# runtime-spec, config-linux.md, "Default Devices"
_DEVICES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)


def operations(config: Mapping[str, Any], bundle: str, groups: Mapping[str, str]) -> list[Operation]:
    """``groups`` are the container's own cgroup directories on the host, by the name of the hierarchy; "" is v2's."""
    linux = config.get("linux") or {}
    mounts = list(config.get("mounts") or [])
    spread = PROPAGATION.get(linux.get("rootfsPropagation") or "rprivate", m.MS_PRIVATE)
    # Slave at the least: our mounts must not reach the host, whatever the container's own tree is to be.
    outer = m.MS_SLAVE if spread & (m.MS_SLAVE | m.MS_SHARED) else m.MS_PRIVATE
    result: list[Operation] = [Propagation(outer | m.MS_REC)]
    if mounts and mounts[0]["destination"] == "/":
        root = mounts.pop(0)
        result.append(Root(root.get("type", ""), root.get("source", ""), parse(root.get("options") or [])))
    else:
        result.append(Root())
    for entry in mounts:
        result.append(_mount(entry, bundle, groups))
    if any(entry["destination"] == "/dev" and not _is_bind(entry) for entry in mounts):
        result += [Node(path, "c", major, minor) for path, major, minor in _DEVICES]
        result += [Link(path, to) for path, to in _LINKS]
    result += [_node(entry) for entry in linux.get("devices") or []]
    return result


def protections(config: Mapping[str, Any]) -> list[Operation]:
    """What is hidden or made read-only, after everything that had to be written was written."""
    linux = config.get("linux") or {}
    read_only = [ReadOnly(path) for path in linux.get("readonlyPaths") or []]
    return [*read_only, *(Mask(path) for path in linux.get("maskedPaths") or [])]


def _is_bind(entry: Mapping[str, Any]) -> bool:
    return entry.get("type") == "bind" or bool({"bind", "rbind"} & set(entry.get("options") or []))


def _mount(entry: Mapping[str, Any], bundle: str, groups: Mapping[str, str]) -> Operation:
    destination, kind = entry["destination"], entry.get("type") or "none"
    options = parse(entry.get("options") or [])
    if _is_bind(entry):
        # Relative sources are relative to the bundle (config.md, "Mounts").
        return Bind(os.path.join(bundle, entry.get("source", "")), destination, options)
    if kind in ("cgroup", "cgroup2"):
        if "" in groups:
            return Cgroup2(destination, groups[""], options)
        named = tuple((name.lstrip("="), path) for name, path in groups.items())
        return CgroupV1(destination, named, options)
    return FileSystem(kind, entry.get("source") or kind, destination, options)


def _node(entry: Mapping[str, Any]) -> Node:
    return Node(
        entry["path"],
        entry["type"],
        int(entry.get("major") or 0),
        int(entry.get("minor") or 0),
        int(entry["fileMode"]) & 0o7777 if entry.get("fileMode") is not None else 0o666,
        int(entry.get("uid") or 0),
        int(entry.get("gid") or 0),
    )
