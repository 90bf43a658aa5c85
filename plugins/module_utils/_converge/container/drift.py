# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a running container is not as its spec has it: asked of cgroupfs, /proc and the network each time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..._kernel.errand import bounded
from ..._network import observe, sandbox, veth
from ..._options import limits
from ..._options.container import volume_parts
from ..._volume.filesystem import LOOK
from .. import users
from ..host import Host
from ..inside import mounted_at
from ..volumes import is_elsewhere, source
from . import attach, labels, live

Spec = Mapping[str, Any]


class Drift:
    """An option whose value in the kernel is another."""

    def __init__(self, option: str, present: Any, wanted: Any) -> None:
        self.option = option
        self.present = present
        self.wanted = wanted


def find(host: Host, name: str, spec: Spec, pid: int, lines: Mapping[str, str]) -> list[Drift]:
    """``lines`` are names.network_lines of the container's networks."""
    try:
        found = (
            _resources(host, name, spec)
            + _process(pid, spec)
            + _volumes(host, name, spec, pid)
            + _labels(host, name, spec)
        )
        return found + _network(host, name, spec, pid) + _names(host, name, spec, lines)
    except (FileNotFoundError, ProcessLookupError):
        return []  # it ended while we looked; that is seen elsewhere


def _resources(host: Host, name: str, spec: Spec) -> list[Drift]:
    manager = live.manager(host, name)
    present, wanted = manager.read(), manager.expected(live.wanted_resources(host, spec))
    found = []
    for option, (group, key) in _SHOWN.items():
        have, want = ((side.get(group) or {}).get(key) if key else side.get(group) for side in (present, wanted))
        # A limit that this kernel does not have would have kept the container from starting.
        if have is not None and want is not None and have != want:
            found.append(Drift(option, have, want))
    return found


_SHOWN = {
    "memory": ("memory", "limit"),
    "memory_swap": ("memory", "swap"),
    "memory_reservation": ("memory", "reservation"),
    "cpus": ("cpu", "quota"),
    "cpu_shares": ("cpu", "shares"),
    "cpuset_cpus": ("cpu", "cpus"),
    "cpuset_mems": ("cpu", "mems"),
    "pids_limit": ("pids", "limit"),
    "blkio_weight": ("blockIO", "weight"),
    "hugepage_limits": ("hugepageLimits", ""),
    **{option: ("blockIO", key) for option, key in limits.RATES.items()},
    **{option: ("unified", file) for option, file in limits.UNIFIED.items()},
}


def _process(pid: int, spec: Spec) -> list[Drift]:
    found = []
    with open(f"/proc/{pid}/oom_score_adj") as file:
        score = int(file.read())
    if score != spec["oom_score_adj"] and spec["oom_score_adj"]:
        found.append(Drift("oom_score_adj", score, spec["oom_score_adj"]))
    if spec["ulimits"]:
        import resource

        present = []
        for limit in spec["ulimits"]:
            kind = limit.split(":")[0]
            soft, hard = resource.prlimit(pid, getattr(resource, f"RLIMIT_{kind.upper()}"))
            present.append(f"{kind}:{soft}:{hard}")
        # A process may lower its own soft limit; what it was given is the hard one.
        if [entry.split(":")[::2] for entry in present] != [entry.split(":")[::2] for entry in spec["ulimits"]]:
            found.append(Drift("ulimits", present, spec["ulimits"]))
    return found


def _volumes(host: Host, name: str, spec: Spec, pid: int) -> list[Drift]:
    def look() -> list[str]:
        return [entry for entry in spec["volumes"] if mounted_at(pid, volume_parts(entry)[1])]

    if any(is_elsewhere(host.paths, volume) for volume in users.volumes_of(spec)):
        there = bounded(look, LOOK, "look at the volumes of container", name)
    else:
        there = look()
    return [Drift("volumes", there, spec["volumes"])] if there != spec["volumes"] else []


def _labels(host: Host, name: str, spec: Spec) -> list[Drift]:
    own = labels.of(host.paths, name, spec)
    if not own.mount:
        return []
    named = [volume_parts(entry)[0] for entry in spec["volumes"]]
    sources = {volume: source(host.paths, volume) for volume in named if not volume.startswith("/")}
    wrong = labels.wrong_volumes(spec, own, sources)
    return [Drift(f"volumes: label of {path}", present, wanted) for path, present, wanted in wrong]


def _network(host: Host, name: str, spec: Spec, pid: int) -> list[Drift]:
    if not attach.uses_sandbox(spec):
        return []
    attachment = host.attachments.get(name)
    wanted = {entry["name"] for entry in attach.network_names(spec)}
    have = {endpoint.network for endpoint in attachment.endpoints} if attachment else set()
    if have != wanted:
        return [Drift("networks", sorted(have), sorted(wanted))]
    found = []
    if attachment is not None and attachment.endpoints:
        inside = observe.inside(pid)
        for wire in attach.wires(host, attachment):
            for difference in veth.differences(wire, host.snapshot, inside):
                found.append(Drift(f"networks: {difference.what}", difference.before, difference.after))
    if attachment is not None and not attachment.running:
        found.append(Drift("published_ports", "not led to the container", "led to it"))
    if sandbox.identity(host.paths.netns(name)) != os.stat(f"/proc/{pid}/ns/net").st_ino:
        found.append(Drift("networks: namespace", "not pinned", host.paths.netns(name)))
    return found


def _names(host: Host, name: str, spec: Spec, lines: Mapping[str, str]) -> list[Drift]:
    found = []
    for file, content in attach.name_files(host, name, spec, lines).items():
        path = f"{host.paths.etc(name)}/{file}"
        try:
            with open(path) as stream:
                # Whoever is inside may have made it as large as the disk.
                present = stream.read(len(content) + 4096)
        except (FileNotFoundError, UnicodeDecodeError):
            present = ""
        if present != content:
            found.append(Drift(f"/etc/{file}", present, content))
    return found
