# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much there is on this host, how much of it is idle, and what is promised to containers of ours."""

from __future__ import annotations

import os
import socket
import stat
import struct
import time
from collections.abc import Iterator
from typing import Any, Optional

from .._network.model import parse_port
from .._paths import Paths
from . import store

Facts = dict[str, Any]

WINDOW = 0.1  # seconds that CPUs are watched for, at least
# Listening, and not connected, in /proc/net/tcp and udp (include/net/tcp_states.h).
_LISTENS, _UNCONNECTED = "0A", "07"
# Memory, terminals, registers of CPUs, loop devices and RAM disks (admin-guide/devices.rst): all hosts have them.
_COMMON_CHAR = {1, 2, 3, 4, 5, 7, 10, 202, 203, *range(136, 144)}
_COMMON_BLOCK = {1, 7}
# Of the many of major 10, misc, those that containers are given.
_MISC = ("fuse", "kvm", "net/tun", "vhost-net", "vhost-vsock", "uinput", "hwrng", "tpm0", "tpmrm0")


class Watch:
    """The CPUs from here on."""

    def __init__(self) -> None:
        self._cpus = os.sched_getaffinity(0)
        self._since, self._idle, self._own = time.monotonic(), self._ticks(), _own_seconds()

    def _ticks(self) -> int:
        """idle and iowait, of the CPUs that we may use (proc_stat(5))."""
        total = 0
        with open("/proc/stat") as file:
            for line in file:
                words = line.split()
                if not words[0].startswith("cpu"):
                    break  # the lines after them may be long
                if words[0][3:].isdecimal() and int(words[0][3:]) in self._cpus:
                    total += int(words[4]) + int(words[5])
        return total

    def idle_cpus(self) -> float:
        """How many were idle meanwhile, without what asking has cost; waits until enough was seen."""
        time.sleep(max(0.0, WINDOW - (time.monotonic() - self._since)))
        idle, own = self._ticks() - self._idle, _own_seconds() - self._own
        seconds = time.monotonic() - self._since
        return round(min(float(len(self._cpus)), (idle / os.sysconf("SC_CLK_TCK") + own) / seconds), 2)


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def capacity(paths: Paths, watch: Watch, existing_store: str) -> Facts:
    memory = {}
    with open("/proc/meminfo") as file:
        for line in file:
            name, dummy, rest = line.partition(":")
            memory[name] = int(rest.split()[0]) * 1024
    disk = os.statvfs(existing_store)
    declared = containers(paths)
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "idle_cpus": watch.idle_cpus(),
        "committed_cpus": round(sum(body["cpus"] for body in declared.values()), 3),
        "memory": memory["MemTotal"],
        "memory_available": memory.get("MemAvailable", memory["MemFree"]),
        "committed_memory": sum(body["memory"] for body in declared.values()),
        "swap": memory["SwapTotal"],
        "store_size": disk.f_blocks * disk.f_frsize,
        "store_free": disk.f_bavail * disk.f_frsize,
        "ports": ports(),
        "devices": devices(),
        "containers": declared,
    }


def containers(paths: Paths) -> dict[str, Facts]:
    """What each declared container was promised, running or not: its reservation of memory, or else its limit."""
    found = {}
    for name in store.names(paths, "containers"):
        spec = store.read_spec(paths, "containers", name)
        if spec is not None:  # it may go meanwhile
            found[name] = {
                "cpus": spec.get("cpus") or 0,
                "memory": spec.get("memory_reservation") or spec.get("memory") or 0,
                "ports": list(_published(spec.get("published_ports") or [])),
                "devices": [text.partition(":")[0] for text in spec.get("devices") or []],
                "labels": spec.get("labels") or {},
            }
    return found


def _published(texts: list[str]) -> Iterator[str]:
    """Host ports that were declared; those that are chosen for a container are no promise."""
    for text in texts:
        for port in parse_port(text, "published_ports"):
            if port.host_port:
                yield _port(port.host_ip, port.host_port, port.protocol)


def _port(ip: str, port: int, protocol: str) -> str:
    return f"[{ip}]:{port}/{protocol}" if ":" in ip else f"{ip}:{port}/{protocol}"


def ports() -> list[str]:
    """Ports that programs of the host listen on, as IP:PORT/PROTOCOL."""
    found: set[str] = set()
    for protocol, state in (("tcp", _LISTENS), ("udp", _UNCONNECTED)):
        for version in ("", "6"):
            found.update(_bound(f"/proc/net/{protocol}{version}", protocol, state))
    return sorted(found)


def _bound(path: str, protocol: str, state: str) -> Iterator[str]:
    try:
        file = open(path)  # noqa: SIM115
    except FileNotFoundError:
        return  # no IPv6
    with file:
        next(file, None)
        for line in file:
            words = line.split()
            if words[3] == state:
                address, dummy, port = words[1].partition(":")
                yield _port(_address(address), int(port, 16), protocol)
            elif protocol == "tcp":
                return  # those that listen come first (net/ipv4/tcp_ipv4.c); there may be 100,000 others


def _address(text: str) -> str:
    """As the kernel prints it: words of 32 bits, each in the host's own order of bytes."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)


def devices() -> list[str]:
    """Devices that some hosts have and others have not."""
    return sorted(path for path in _nodes("/dev") if _rare(path))


def _nodes(directory: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.path not in ("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd"):
                yield from _nodes(entry.path)
        elif not entry.is_symlink():
            yield entry.path


def _rare(path: str) -> bool:
    info = _stat(path)
    if info is None:
        return False
    major = os.major(info.st_rdev)
    if stat.S_ISBLK(info.st_mode):
        return major not in _COMMON_BLOCK
    return stat.S_ISCHR(info.st_mode) and (major not in _COMMON_CHAR or path[len("/dev/") :] in _MISC)


def _stat(path: str) -> Optional[os.stat_result]:
    try:
        return os.lstat(path)
    except OSError:
        return None
