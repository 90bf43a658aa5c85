# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this host can do, asked before anything is changed. Nothing that is tried here stays."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import Any, Optional

from .._cgroup.manager import ROOT, controllers, layout
from .._cgroup.offers import offers
from .._errors import DependencyError, VesselError
from .._kernel import apparmor, caps, probe, seccomp
from .._kernel import namespaces as ns
from .._network import library, policy
from .._network import nftables as rules
from .._network.model import Allow, End, Network, Port
from .._network.nftables import Target
from .._paths import Paths, booted_by_systemd
from .._volume.filesystem import find_program
from .._volume.mount import HELPERS
from . import drain_mark
from .container import labels
from .container.compile import INIT_HOST
from .host_capacity import Watch, capacity
from .host_lacks import lacks

Facts = dict[str, Any]

# Since when the kernel has what the engine calls, or would like to.
CALLS = {
    "pidfd_send_signal": (5, 1),
    "open_tree": (5, 2),
    "move_mount": (5, 2),
    "fsopen": (5, 2),
    "pidfd_open": (5, 3),
    "clone3": (5, 3),
    "openat2": (5, 6),
    "close_range": (5, 9),
    "mount_setattr": (5, 12),
    "seccomp": (3, 17),
    "bpf": (4, 15),
}
FEATURES = {
    "namespaces": (3, 8),
    "overlayfs": (3, 18),
    "cgroup_namespace": (4, 6),
    "cgroup_freeze_v2": (5, 2),
    "time_namespace": (5, 6),
    "clone_into_cgroup": (5, 7),
    "setns_of_a_pidfd": (5, 8),
    "cgroup_kill_v2": (5, 14),
    "idmapped_overlay_layers": (5, 19),
    "idmapped_tmpfs": (6, 3),
    "exit_code_of_foreign_processes": (6, 15),
}
NAMESPACES_FLOOR = (3, 8)
ENGINE_FLOOR = (5, 10)

# What volumes on shared storage and of block devices are of.
MOUNTABLE = ("nfs", "cifs", "ceph", "9p", "virtiofs", "ext4", "xfs", "btrfs")
LOOP_CONTROL = "/dev/loop-control"
LINKS = ("bridge", "veth", "macvlan", "ipvlan", "vxlan")
TOOLS = ("nft", "ip", "mmdebstrap", "debootstrap", "zstd", "journalctl", "systemctl")
JOURNAL = "/run/systemd/journal/socket"
# A network with a published port, which asks of nftables all that networks do.
_NETWORK = Network(name="probe", link="probe", subnet="192.0.2.0/24", subnet6="2001:db8::/64")
_TARGETS = (Target(Port("0.0.0.0", 80, 80), "192.0.2.2"), Target(Port("127.0.0.1", 53, 53, "udp"), "192.0.2.2"))
# Everything that may be asked of a network's policy.
_ALLOW = (
    Allow(End(("probe",)), End(), ("tcp", "udp", "sctp", "icmp")),
    Allow(End(), End(), ("tcp", "udp"), ((80, 81),)),
)


def host_info(paths: Paths) -> Facts:
    """All facts, what is missing for which option, and whether the modules can work here at all."""
    watch = Watch()
    facts: Facts = {
        "root": os.geteuid() == 0,
        "kernel": kernel(),
        "namespaces": namespaces(),
        "cgroup": cgroup(paths),
        "filesystems": filesystems(paths),
        "network": network(),
        "security": security(),
        "supervisor": supervisor(paths),
        "tools": tools(),
        "drain": drain_mark.facts(paths),
    }
    facts["capacity"] = capacity(paths, watch, existing(paths.state))  # last, for it looks at what idled meanwhile
    facts["missing"] = lacks(facts)
    # An entry for a module as a whole, and not for one of its options, stands in the way of everything.
    facts["ready"] = not any("." not in entry["option"] for entry in facts["missing"])
    return facts


def dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def kernel() -> Facts:
    present, there = probe.version(), probe.calls()
    return {
        "release": os.uname().release,
        "version": dotted(present),
        "architecture": platform.machine(),
        "floor": {"namespaces": dotted(NAMESPACES_FLOOR), "engine": dotted(ENGINE_FLOOR)},
        "above_floor": present >= ENGINE_FLOOR,
        "calls": {name: {"since": dotted(since), "available": there[name]} for name, since in CALLS.items()},
        "features": {name: {"since": dotted(since), "available": present >= since} for name, since in FEATURES.items()},
    }


def namespaces() -> Facts:
    """Each as it was found by making one in a child that ended with it."""
    result = {}
    for kind in ns.FLAGS:
        problem = probe.namespace(kind)
        result[kind] = {"available": not problem, "problem": problem}
    return result


def cgroup(paths: Paths) -> Facts:
    hierarchies = layout()
    facts: Facts = {"root": ROOT, "version": None, "layout": "none", "controllers": [], "writable": False}
    if "" in hierarchies:
        facts.update(version=2, layout="unified", controllers=controllers())
    elif hierarchies:
        kind = "hybrid" if "=unified" in hierarchies else "legacy"
        facts.update(version=1, layout=kind, controllers=controllers())
    if hierarchies:
        facts["writable"] = all(os.access(directory, os.W_OK) for directory in hierarchies.values())
        facts.update(offers(f"{paths.prefix}-probe-{os.getpid()}"))
        facts["bfq"] = probe.module("bfq")
    return facts


def filesystems(paths: Paths) -> Facts:
    known = probe.filesystems()
    store = existing(paths.state)
    problem = probe.overlay()
    idmap = probe.idmapped(store)
    return {
        "overlay": {"available": not problem, "problem": problem},
        "erofs": "erofs" in known or bool(probe.module("erofs")),
        "tmpfs": "tmpfs" in known,
        "mountable": {fstype: mountable(fstype, known) for fstype in MOUNTABLE},
        "loop": {"available": os.path.exists(LOOP_CONTROL), "mkfs": find_program("mkfs.ext4") or None},
        "idmapped_mounts": {"available": not idmap, "problem": idmap},
        "store": {"path": paths.state, "type": filesystem_of(store)},
    }


def mountable(fstype: str, known: set[str]) -> Facts:
    """Whether the kernel has it, and the program without which nothing mounts it; null where none is needed."""
    kernel = fstype in known or bool(probe.module(fstype))
    package = HELPERS.get(fstype)
    helper = find_program(f"mount.{fstype}") or None
    return {"available": kernel and bool(helper or not package), "kernel": kernel, "helper": helper, "package": package}


def existing(path: str) -> str:
    """The path, or the nearest directory above it that there is."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def filesystem_of(path: str) -> str:
    """The type of the file system that ``path`` is on, as /proc/self/mountinfo has it."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo") as file:
        for line in file:
            left, dummy, right = line.partition(" - ")
            if left.split()[2] == wanted:
                return right.split()[0]
    return "unknown"


def network() -> Facts:
    links = probe.link_kinds(LINKS)
    return {
        "links": {kind: {"available": not problem, "problem": problem} for kind, problem in links.items()},
        "ipv6": os.path.exists("/proc/net/if_inet6"),
        "nftables": nftables(),
        "pyroute2": library.version(),
    }


def nftables() -> Facts:
    """The program, its version, and the kernel's answer to rules like ours in a child's own network namespace."""
    path = shutil.which("nft")
    if path is None:
        lacking = {"available": False, "problem": "the program nft is not installed"}
        return {**lacking, "path": None, "version": None, "bridge": lacking}
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.split()
    done, text = probe.in_child(_try_rules)
    bridges, why = probe.in_child(_try_policy)
    version = next((word[1:] for word in shown if word[:1] == "v"), None)
    return {
        "available": done,
        "path": path,
        "version": version,
        "problem": "" if done else text,
        "bridge": {"available": bridges, "problem": "" if bridges else why},
    }


def _try_rules() -> None:
    ns.unshare(ns.CLONE_NEWNET)
    rules.apply(rules.render("probe", [_NETWORK], _TARGETS))


def _try_policy() -> None:
    ns.unshare(ns.CLONE_NEWNET)
    network = replace(_NETWORK, gateway="192.0.2.1", gateway6="2001:db8::1", allow=_ALLOW)
    rules.apply(policy.render("probe", [network], []))


def security() -> Facts:
    held = caps.held()
    known = {name for name, number in caps.NUMBERS.items() if number <= caps.last_cap()}
    limits, oom = probe.raised_limits(), probe.lowered_oom_score()
    return {
        "lsms": probe.security_modules(),
        "apparmor": apparmor.enabled(),
        "apparmor_parser": apparmor.parser(),
        "selinux": {"1": "enforcing", "0": "permissive"}.get(_text("/sys/fs/selinux/enforce"), "off"),
        "selinux_container_types": labels.contexts() is not None,
        "seccomp": _seccomp(),
        "capabilities_lacking": sorted(known - held),
        "raise_hard_limits": {"available": not limits, "problem": limits},
        "lower_oom_score": {"available": not oom, "problem": oom},
        "user_namespaces": _text("/proc/sys/user/max_user_namespaces") not in ("", "0"),
    }


def _seccomp() -> Facts:
    actions = _text("/proc/sys/kernel/seccomp/actions_avail").split()
    try:
        version: Optional[str] = seccomp.version()
    except DependencyError:
        version = None
    return {"available": bool(actions), "actions": actions, "libseccomp": version}


def _text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def supervisor(paths: Paths) -> Facts:
    """systemd where it is PID 1 (sd_booted(3)), else our own process; and the one that runs now, if one does."""
    from .._monitor import client

    facts: Facts = {
        "kind": "systemd" if booted_by_systemd() else "own",
        "pid1": _text("/proc/1/comm"),
        "running": False,
        "pid": None,
        "version": None,
        "containers": None,
    }
    try:
        connection = client.connect(paths)
        try:
            answer = connection.call("ping")
        finally:
            connection.close()
    except (VesselError, OSError):
        return facts
    return {**facts, "running": True, **{key: answer.get(key) for key in ("pid", "version", "containers")}}


def tools() -> Facts:
    found: Facts = {name: shutil.which(name) for name in TOOLS}
    found["tini"] = INIT_HOST if os.path.exists(INIT_HOST) else None
    found["journal"] = JOURNAL if os.path.exists(JOURNAL) else None
    found["python"] = platform.python_version()
    found["python_path"] = sys.executable
    return found
