# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clone: new namespaces all at once, those of others joined on the side of it where the kernel wants that."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from typing import Any

from .._errors import KernelError, StartError
from .._kernel import namespaces, process
from .channel import Channel, failure, raised

Joins = Sequence[tuple[str, int]]
Config = dict[str, Any]

# Joined by the parent for a while: they take effect for its children only (pid_namespaces(7), time_namespaces(7)).
_FOR_CHILDREN = ("pid", "time")
# Joined by the parent, and left again, where the child will be in a user namespace that has no power over them.
_AND_BACK = ("network", "ipc", "uts", "cgroup")


def open_all(config: Config, opened: list[int]) -> list[tuple[str, int]]:
    """Descriptors of the namespaces that are joined by path, the user namespace first: it decides what we may do in
    the others. They are added to ``opened``."""
    found = []
    for entry in (config.get("linux") or {}).get("namespaces") or []:
        if entry.get("path"):
            try:
                fd = os.open(entry["path"], os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                what = f"the {entry['type']} namespace {entry['path']}"
                raise KernelError("open", what, error.errno or 0) from None
            opened.append(fd)
            found.append((entry["type"], fd))
    return sorted(found, key=lambda join: join[0] != "user")


def new_flags(config: Config) -> int:
    """New namespaces all at once, but for the cgroup's, which must wait until the process is in its group, and for a
    time namespace with offsets, which can only be set before the first process is in it."""
    linux = config.get("linux") or {}
    late = {"cgroup", "time"} if linux.get("timeOffsets") else {"cgroup"}
    kinds = [entry["type"] for entry in linux.get("namespaces") or [] if not entry.get("path")]
    return sum(namespaces.FLAGS[kind] for kind in kinds if kind not in late)


def sides(config: Config, joins: Joins) -> tuple[Joins, Joins]:
    """(joined by the parent around the clone, joined by the child)."""
    kinds = {entry["type"]: entry.get("path") for entry in (config.get("linux") or {}).get("namespaces") or []}
    mapped = "user" in kinds and not kinds["user"]
    outside = (*_FOR_CHILDREN, *_AND_BACK) if mapped else _FOR_CHILDREN
    return [join for join in joins if join[0] in outside], [join for join in joins if join[0] not in outside]


def clone(flags: int, around: Joins, offsets: Config, *, cgroup_fd: int = -1) -> tuple[int, int]:
    """clone3 with the namespaces in ``around`` joined: (pid, pidfd), or (0, -1) in the child."""
    kinds = [*dict(around), *(["time"] if offsets else [])]
    homes = [(kind, os.open(f"/proc/self/ns/{namespaces.FILES[kind]}", os.O_RDONLY | os.O_CLOEXEC)) for kind in kinds]
    try:
        for kind, fd in around:
            namespaces.setns(fd, namespaces.FLAGS[kind])
        if offsets:
            _new_time(offsets)
        pid, pidfd = namespaces.clone3(flags, cgroup_fd=cgroup_fd)
    except BaseException:
        _go_home(homes)
        raise
    if pid != 0:
        _go_home(homes)
    return pid, pidfd


def _go_home(homes: Joins) -> None:
    for kind, fd in homes:
        namespaces.setns(fd, namespaces.FLAGS[kind])
        os.close(fd)


def _new_time(offsets: Config) -> None:
    """A time namespace for the children, with the clocks of linux.timeOffsets."""
    namespaces.unshare(namespaces.CLONE_NEWTIME)
    lines = [f"{clock} {int(at.get('secs') or 0)} {int(at.get('nanosecs') or 0)}\n" for clock, at in offsets.items()]
    _write("/proc/self/timens_offsets", "".join(lines))


def clone_as_sibling(flags: int, joins: Joins, channel: Channel, body: Callable[[], None]) -> int:
    """The pid of ``between``, a process that joins a user namespace and clones: what is new must belong to that one,
    and there is no way back from it. Its child, which runs ``body``, is ours; its pid comes through the channel."""
    between = os.fork()
    if between:
        return between
    gc.disable()
    step = "namespaces"
    try:
        process.set_dumpable(False)
        for kind, fd in joins:
            namespaces.setns(fd, namespaces.FLAGS[kind])
        step = "clone"
        pid, dummy = namespaces.clone3(flags | namespaces.CLONE_PARENT)
        if pid == 0:
            body()
        channel.send(pid=pid)
    except BaseException as error:
        channel.send(**failure(step, error))
    os._exit(0)


def hear_of_birth(channel: Channel, between: int) -> tuple[int, int]:
    """(pid, pidfd) of the process that ``between`` has cloned."""
    message = channel.receive()
    os.waitpid(between, 0)
    if message is None:
        raise StartError("clone: the process between ended without a word", step="clone")
    if "pid" not in message:
        raise raised(message)
    return message["pid"], os.pidfd_open(message["pid"])


def map_users(config: Config, pid: int) -> None:
    """uid_map and gid_map of the child's new user namespace."""
    for key, file in (("uidMappings", "uid_map"), ("gidMappings", "gid_map")):
        lines = [f"{m['containerID']} {m['hostID']} {m['size']}\n" for m in config["linux"][key]]
        _write(f"/proc/{pid}/{file}", "".join(lines))


def _write(path: str, text: str) -> None:
    """In one write: these files take no second one."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        what = "; ".join(text.splitlines())
        raise KernelError(f"write {what} to", path, error.errno or 0) from None
