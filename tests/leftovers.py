# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests could leave on a host: read before the first and after the last of them."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

Snapshot = dict[str, Counter[str]]

FILES = ("/var/lib/vessel", "/run/vessel", "/usr/local/libexec/vessel", "/run/netns")
NAMED = (("/usr/local/bin", "vessel*"), ("/etc/systemd/system", "vessel*"), ("/run/systemd/system", "vessel*"))
NAMESPACES = ("mnt", "net", "pid", "uts", "ipc", "user")
SYSCTLS = (
    "net/ipv4/ip_forward",
    *(f"net/ipv4/conf/{scope}/{name}" for scope in ("all", "default") for name in ("rp_filter", "route_localnet")),
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/default/disable_ipv6",
    "kernel/hostname",
    "kernel/domainname",
    "kernel/core_pattern",
    "kernel/pid_max",
    "fs/inotify/max_user_instances",
)
# As ip-netns(8) makes it on first use; it belongs to nobody, and stays.
NETNS_RUN_DIR = "/run/netns"
# A network that is connected to the world turns this on, and it stays: other things may have come to rely on it.
FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")


def take() -> Snapshot:
    """Every kind of thing that could be left, with how many there are of each."""
    kinds = {
        "mounts": mounts,
        "links": lambda: iter(os.listdir("/sys/class/net")),
        "nftables": nftables,
        "cgroups": cgroups,
        "processes": processes,
        "files": files,
        "loop devices": lambda: (path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")),
        "sysctls": sysctls,
    }
    return {kind: Counter(read()) for kind, read in kinds.items()}


def difference(before: Snapshot, after: Snapshot) -> list[str]:
    """What there is more or less of, a line each."""
    found = []
    for kind, was in before.items():
        found += [f"{kind}: {thing} is left" for thing in sorted((after[kind] - was).elements())]
        found += [f"{kind}: {thing} is gone" for thing in sorted((was - after[kind]).elements())]
    return found


def mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[4] != NETNS_RUN_DIR:
            yield f"{fields[4]} ({fields[fields.index('-') + 1]})"


def nftables() -> Iterator[str]:
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True, timeout=60)
    return iter(listed.stdout.splitlines())


def cgroups() -> Iterator[str]:
    # Where we are ourselves, whoever put us there makes and removes groups as he likes.
    paths = (line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines())
    theirs = {path.split("/")[1] for path in paths} - {""}
    for directory, children, _names in os.walk("/sys/fs/cgroup"):
        children[:] = [name for name in children if name not in theirs]
        yield directory


def processes() -> Iterator[str]:
    """The supervisor, and whatever runs in a namespace or a cgroup that is not this process's own."""
    own = _namespaces("self")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        # Everything may be gone between two reads; kernel threads have no command line.
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if not words:
                continue
            contained = _namespaces(pid) != own or "/vessel" in Path(f"/proc/{pid}/cgroup").read_text()
            if contained or "libexec/vessel" in words:
                yield words[:200]


def _namespaces(pid: str) -> list[str]:
    return [os.readlink(f"/proc/{pid}/ns/{name}") for name in NAMESPACES]


def files() -> Iterator[str]:
    for root in FILES:
        for directory, _children, names in os.walk(root):
            if directory != NETNS_RUN_DIR:
                yield directory
            yield from (f"{directory}/{name}" for name in names)
    for directory, pattern in NAMED:
        yield from map(str, Path(directory).glob(pattern))


def sysctls() -> Iterator[str]:
    for name in SYSCTLS:
        with suppress(OSError):
            yield f"{name} = {Path('/proc/sys', name).read_text().strip()}"


def restore_forwarding(before: Snapshot) -> None:
    """Put back what the product turns on and, on purpose, not off."""
    for name in FORWARDING:
        for line in before["sysctls"]:
            if line.startswith(f"{name} = "):
                Path("/proc/sys", name).write_text(line.split(" = ")[1])
