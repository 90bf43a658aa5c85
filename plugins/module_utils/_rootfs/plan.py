# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""config.json as the ordered list of operations that make its root file system. Pure: nothing is touched here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .._kernel import mount as m
from .cgroups import Cgroup2, CgroupV1
from .devices import DefaultDevices, Node
from .ops import Bind, FileSystem, Operation, PrivateParent, Propagation, Remount, Root
from .options import PROPAGATION, parse
from .protect import Mask, ReadOnly

# SELinux has labels of its own for what is in these; mqueue takes no context=, and is labelled once it is mounted.
_UNLABELLED = ("proc", "sysfs", "mqueue")


def operations(config: Mapping[str, Any], bundle: str, groups: Mapping[str, str]) -> list[Operation]:
    """``groups`` are the container's own cgroup directories on the host, by the name of the hierarchy; "" is v2's."""
    linux = config.get("linux") or {}
    mounts = list(config.get("mounts") or [])
    result: list[Operation] = [_outer(linux, mounts)]
    label = linux.get("mountLabel") or ""
    if mounts and mounts[0]["destination"] == "/":
        root = mounts.pop(0)
        options = parse([*(root.get("options") or []), *_context(label, root.get("type", ""))])
        result.append(Root(root.get("type", ""), root.get("source", ""), options))
    else:
        result.append(Root())
    late: list[Operation] = []
    own_cgroups = any(entry["type"] == "cgroup" for entry in linux.get("namespaces") or [])
    for entry in mounts:
        if _is_bind(entry):
            # Relative sources are relative to the bundle (config.md, "Mounts").
            source = os.path.join(bundle, entry.get("source", ""))
            result.append(Bind(source, entry["destination"], parse(entry.get("options") or [])))
        elif entry.get("type") in ("cgroup", "cgroup2"):
            _cgroup(entry, groups, own_cgroups, result, late)
        else:
            _file_system(entry, label, result, late)
    if not any(_path(entry) == "/dev" and _is_bind(entry) for entry in mounts):
        result.append(DefaultDevices())
    result += [_node(entry) for entry in linux.get("devices") or []]
    return [*result, *late]


def protections(config: Mapping[str, Any]) -> list[Operation]:
    """What is hidden or made read-only, after everything that had to be written was written."""
    linux = config.get("linux") or {}
    read_only = [ReadOnly(path) for path in linux.get("readonlyPaths") or []]
    return [*read_only, *(Mask(path) for path in linux.get("maskedPaths") or [])]


def root_propagation(config: Mapping[str, Any]) -> int:
    """What the container's / is to be once it is the only root; 0 for as it is."""
    flags = PROPAGATION.get((config.get("linux") or {}).get("rootfsPropagation") or "", 0)
    return 0 if flags & m.MS_PRIVATE else flags


def _outer(linux: Mapping[str, Any], mounts: list[Mapping[str, Any]]) -> Operation:
    """How far the new mount namespace is cut off from the host's: no further than what a mount asks for."""
    words = {word for entry in mounts if _is_bind(entry) for word in entry.get("options") or [] if word in PROPAGATION}
    asked = 0
    for word in (*words, linux.get("rootfsPropagation") or "rprivate"):
        asked |= PROPAGATION.get(word, 0)
    if any(word.endswith("shared") for word in words):
        return PrivateParent()
    return Propagation((m.MS_SLAVE if asked & (m.MS_SLAVE | m.MS_SHARED) else m.MS_PRIVATE) | m.MS_REC)


def _path(entry: Mapping[str, Any]) -> str:
    return os.path.normpath("/" + str(entry["destination"]).lstrip("/"))


def _is_bind(entry: Mapping[str, Any]) -> bool:
    return entry.get("type") == "bind" or bool({"bind", "rbind"} & set(entry.get("options") or []))


def _context(label: str, kind: str) -> list[str]:
    """In quotes, for its categories have commas between them (mount(8), "context=")."""
    return [f'context="{label}"'] if label and kind and kind not in (*_UNLABELLED, "bind") else []


def _file_system(entry: Mapping[str, Any], label: str, result: list[Operation], late: list[Operation]) -> None:
    """A read-only tmpfs is filled first: mount points of others may have to be made in it."""
    kind = entry.get("type") or "none"
    options = parse([*(entry.get("options") or []), *_context(label, kind)])
    wait = kind == "tmpfs" and options.flags & m.MS_RDONLY
    if wait:
        late.append(Remount(entry["destination"], options.flags))
    source = entry.get("source") or kind
    options = options.writable() if wait else options
    result.append(FileSystem(kind, source, entry["destination"], options, label if kind == "mqueue" else ""))


def _cgroup(
    entry: Mapping[str, Any], groups: Mapping[str, str], own: bool, result: list[Operation], late: list[Operation]
) -> None:
    destination, options = entry["destination"], parse(entry.get("options") or [])
    if "" in groups:
        result.append(Cgroup2(destination, groups[""], options, own=own))
        return
    result.append(CgroupV1(destination, tuple((name.lstrip("="), path) for name, path in groups.items()), options))
    if options.flags & m.MS_RDONLY:
        late.append(Remount(destination, options.flags))


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
