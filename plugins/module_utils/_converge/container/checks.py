# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a container's declaration can be refused before the first side effect: options against each other, and
against what this host has."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from typing import Any

from ..._cgroup.manager import is_unified
from ..._cgroup.offers import offers
from ..._errors import OptionError
from ..._kernel import caps, probe
from ..._options import limits
from ..._options.container import parse_cpuset, tmpfs_target, volume_parts
from ..host import Host
from ..host_lacks import no_weight
from . import aliases, attach, compile, labels, prepare, succession

Spec = Mapping[str, Any]


def check(host: Host, name: str, spec: Spec, state: str) -> None:
    """Raise OptionError for the first option that can't be. ``state`` is what the container shall be."""
    if not spec.get("image"):
        raise OptionError(
            "image", None, f"is missing; the container {name} is not there yet, and needs one to be made from"
        )
    attach.check(host, name, spec, starting=state in ("started", "healthy"))
    aliases.check(host, name, spec)
    around = prepare.surroundings(host, name, spec)
    compile.config(spec, around)
    compile.monitor(spec, around)
    if state == "healthy" and compile.health(spec, around.image) is None:
        problem = f"needs a health check, and neither the declaration has one nor the image {spec['image']}"
        raise OptionError("state", state, f"{problem}; give it a healthcheck, or set state: started")
    labels.check(host.paths, name, spec)
    succession.check(host, name, spec)
    _check_places(spec)
    limits.check(spec)
    _check_memory(spec)
    _check_weight(host, spec)
    _check_cores(spec)
    _check_sysctls(spec)
    _check_raised(spec)


def _check_places(spec: Spec) -> None:
    """In one place one thing is mounted: a second one would hide the first, and nobody asked for that."""
    owners = {compile.SECRETS_INSIDE: "the secrets are"} if spec["secrets"] else {}
    if spec["init"]:
        owners[compile.INIT_INSIDE] = "the init process is"
    owners.update({device.split(":")[1]: "a device is" for device in spec["devices"]})
    for option, places in (
        ("tmpfs", [tmpfs_target(entry) for entry in spec["tmpfs"]]),
        ("volumes", [volume_parts(entry)[1] for entry in spec["volumes"]]),
    ):
        for index, place in enumerate(places):
            if place in owners:
                problem = f"is at {place}, where {owners[place]} too; choose another place for one of both"
                raise OptionError(f"{option}[{index}]", spec[option][index], problem)
        owners.update(dict.fromkeys(places, "a tmpfs is"))


def _check_memory(spec: Spec) -> None:
    memory, swap = spec["memory"], spec["memory_swap"]
    if swap > 0 and memory <= 0:
        raise OptionError("memory_swap", swap, "is memory and swap together, and needs memory to be given")
    if 0 < swap < memory:
        raise OptionError("memory_swap", swap, f"is less than memory, {memory}; it is memory and swap together")
    for option in ("memory_reservation", "memory_min", "memory_high"):
        if 0 < memory < spec[option]:
            raise OptionError(option, spec[option], f"is more than memory, {memory}")
    # Below this the process that becomes the container can't be made.
    for option in ("memory", "memory_high"):
        if 0 < spec[option] < 4 << 20:
            problem = "is too small to start a process in; use 4m or more, or 0 for no limit"
            raise OptionError(option, spec[option], problem)


def _check_weight(host: Host, spec: Spec) -> None:
    """Once the container starts it would be too late: its networks and its groups are there."""
    if (
        spec["blkio_weight"]
        and offers(f"{host.paths.prefix}-probe-{os.getpid()}", "blkio_weight")["blkio_weight"] == ""
    ):
        because, remedy = no_weight(2 if is_unified() else 1, probe.module("bfq"))
        raise OptionError("blkio_weight", spec["blkio_weight"], f"can't be set: {because}; {remedy}")


def _check_cores(spec: Spec) -> None:
    for option, path in (
        ("cpuset_cpus", "/sys/devices/system/cpu/online"),
        ("cpuset_mems", "/sys/devices/system/node/online"),
    ):
        if not spec[option]:
            continue
        try:
            with open(path) as file:
                online = file.read().strip()
        except FileNotFoundError:
            online = "0"
        have, wanted = _numbers(parse_cpuset(online, option)), _numbers(spec[option])
        if wanted - have:
            raise OptionError(option, spec[option], f"names what this host does not have; it has {online}")
    count = os.cpu_count() or 1
    if spec["cpus"] > count:
        raise OptionError("cpus", spec["cpus"], f"is more than the {count} cores of this host")


def _numbers(text: str) -> set[int]:
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        low, dummy, high = part.partition("-")
        found.update(range(int(low), int(high or low) + 1))
    return found


def _check_sysctls(spec: Spec) -> None:
    for name, value in spec["sysctls"].items():
        option = f"sysctls.{name}"
        host_net = name.startswith("net.") and spec["network_mode"] == "host"
        host_ipc = not name.startswith("net.") and spec["ipc_mode"] == "host"
        if host_net or host_ipc:
            raise OptionError(option, value, "would change the host, whose namespace the container shares")
        path = f"/proc/sys/{name.replace('.', '/')}"
        if not name.startswith(_COMES_LATER) and os.path.isdir(os.path.dirname(path)) and not os.path.isfile(path):
            problem = "is for a parameter that this kernel does not have; ls -R /proc/sys shows those that it has"
            raise OptionError(option, value, problem)


# Parameters of a module that our own rules load, in a directory that is there before: only the start can tell. The same
# holds for the directories that a network interface or a module brings along: there the host has none to look into.
_COMES_LATER = ("net.netfilter.", "net.nf_conntrack")


def _check_raised(spec: Spec) -> None:
    """What needs CAP_SYS_RESOURCE, on a host that does not give it even to root."""
    if "CAP_SYS_RESOURCE" in caps.held():
        return
    for index, limit in enumerate(compile.rlimits(spec)):
        hard = resource.getrlimit(getattr(resource, limit["type"]))[1]
        if hard != resource.RLIM_INFINITY and limit["hard"] > hard:
            problem = (
                f"is above {hard}, the hard limit of this host; raising it needs CAP_SYS_RESOURCE, which is missing"
            )
            raise OptionError(f"ulimits[{index}]", spec["ulimits"][index], problem)
    if spec["oom_score_adj"] < 0 and not _may_lower(spec["oom_score_adj"]):
        problem = "is lower than this host allows; lowering it needs CAP_SYS_RESOURCE, which is missing"
        raise OptionError("oom_score_adj", spec["oom_score_adj"], problem)


def _may_lower(score: int) -> bool:
    """How low a process may go is shown nowhere (proc_pid_oom_score_adj(5)), so we try it on ourselves."""
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    try:
        own = os.read(fd, 16)
        os.pwrite(fd, str(score).encode(), 0)
        os.pwrite(fd, own, 0)
        return True
    except PermissionError:
        return False
    finally:
        os.close(fd)
