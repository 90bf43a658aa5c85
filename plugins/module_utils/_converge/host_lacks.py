# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what a host can do to what it lacks, by the option that asks for it, with what would help.

``option`` is a module's name where the module can do nothing without it, else the module, a dot and the option.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .._network import library
from .._options.limits import UNIFIED
from .._options.network import DRIVERS

Facts = dict[str, Any]
Lack = dict[str, str]

MODULES = ("container", "image", "network", "volume")
# linux.namespaces' kinds by the option that asks for them; mount and pid are not an option's but every container's.
_NAMESPACE_OPTIONS = {
    "network": "container.network_mode",
    "ipc": "container.ipc_mode",
    "uts": "container.uts",
    "cgroup": "container.cgroupns_mode",
}
_CONTROLLER_OPTIONS = {
    "memory": ("memory", "memory_reservation", "memory_swap"),
    "cpu": ("cpus", "cpu_shares"),
    "cpuset": ("cpuset_cpus", "cpuset_mems"),
    "pids": ("pids_limit",),
    "blkio": ("blkio_weight", "device_read_bps", "device_read_iops", "device_write_bps", "device_write_iops"),
    "hugetlb": ("hugepage_limits",),
    "freezer": ("paused",),
    "devices": ("devices",),
}
# What v2 calls otherwise, and what every v2 has without a controller.
_V2_NAMES = {"blkio": "io"}
_V2_BUILT_IN = ("freezer", "devices")
# There is another way, or what needs it is asked for elsewhere.
_DISPENSABLE = ("seccomp", "bpf", "close_range", "mount_setattr")
_NEEDED_CAPS = ("CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_MKNOD", "CAP_CHOWN")
_NO_UPPERDIR = ("overlay", "nfs", "nfs4", "cifs", "vfat", "exfat", "ecryptfs", "9p")


def lacks(facts: Facts) -> list[Lack]:
    """Empty when the host has everything. Without root only what that does not hide: the rest would all be root's."""
    checks = _CHECKS if facts["root"] else (_host, _tools)
    return [lack for check in checks for lack in check(facts)]


def _lack(option: str, because: str, remedy: str) -> Lack:
    return {"option": option, "because": because, "remedy": remedy}


def _host(facts: Facts) -> Iterator[Lack]:
    if not facts["root"]:
        for module in MODULES:
            yield _lack(module, "the task does not run as root", "set become to true")


def _kernel(facts: Facts) -> Iterator[Lack]:
    kernel = facts["kernel"]
    for name, call in kernel["calls"].items():
        if call["available"] or name in _DISPENSABLE:
            continue
        because = f"the system call {name} is not there; this is Linux {kernel['version']}"
        yield _lack("container", because, f"use Linux {call['since']} or newer, and no seccomp filter that hides it")


def _namespaces(facts: Facts) -> Iterator[Lack]:
    for kind, found in facts["namespaces"].items():
        if found["available"] or kind in ("user", "time"):  # no option asks for these yet
            continue
        option = _NAMESPACE_OPTIONS.get(kind, "container")
        remedy = "use a kernel that has it, as root outside of another container"
        if kind in _NAMESPACE_OPTIONS:
            remedy += f"; or set {option.partition('.')[2]} to host"
        yield _lack(option, f"a {kind} namespace can't be made: {found['problem']}", remedy)


def _cgroup(facts: Facts) -> Iterator[Lack]:
    cgroup = facts["cgroup"]
    if not cgroup["version"]:
        yield _lack("container", f"no cgroup hierarchy is mounted at {cgroup['root']}", "mount cgroup2 there")
        return
    if not cgroup["writable"]:
        remedy = "run on the host itself, not in a container"
        yield _lack("container", f"the cgroups at {cgroup['root']} can't be written to", remedy)
    for controller, options in _CONTROLLER_OPTIONS.items():
        name = _V2_NAMES.get(controller, controller) if cgroup["version"] == 2 else controller
        if name in cgroup["controllers"] or (cgroup["version"] == 2 and controller in _V2_BUILT_IN):
            continue
        for option in options:
            because = f"the cgroup controller {name} is not there"
            yield _lack(f"container.{option}", because, "enable it in the kernel, or on its command line")
    if cgroup["version"] == 1 or "memory" not in cgroup["controllers"]:
        for option in UNIFIED:
            because = "only the controller memory of cgroup v2 has that, which is not there"
            yield _lack(f"container.{option}", because, "boot it with systemd.unified_cgroup_hierarchy=1")
    if cgroup["blkio_weight"] == "" and {"blkio", "io"} & set(cgroup["controllers"]):
        yield _lack("container.blkio_weight", *no_weight(cgroup["version"], cgroup["bfq"]))
    if cgroup["swap"] == "" and "memory" in cgroup["controllers"]:
        because = "this kernel does not count swap"
        yield _lack("container.memory_swap", because, "boot it with swapaccount=1 on its command line")


def no_weight(version: int, bfq: str) -> tuple[str, str]:
    """Why no group has a weight, and what would help. ``bfq`` is what probe.module() says of it."""
    because = "nothing in this kernel gives block devices out by weight: BFQ is not there"
    because += ", and cgroup v1 has nothing else" if version == 1 else ", nor is io.cost"
    if bfq == "loadable":
        return because.replace("not there", "not loaded"), "load the kernel module bfq: modprobe bfq"
    return because, "use a kernel with CONFIG_BFQ_GROUP_IOSCHED" + ("; or boot with cgroup v2" if version == 1 else "")


def _filesystems(facts: Facts) -> Iterator[Lack]:
    filesystems = facts["filesystems"]
    if not filesystems["overlay"]["available"]:
        because = f"overlayfs can't be mounted: {filesystems['overlay']['problem']}"
        yield _lack("container", because, "use a kernel with CONFIG_OVERLAY_FS")
    if not filesystems["tmpfs"]:
        for option in ("container", "volume.driver"):
            yield _lack(option, "this kernel has no tmpfs", "use a kernel with CONFIG_TMPFS")
    yield from _volumes(filesystems)
    store = filesystems["store"]
    if store["type"] in _NO_UPPERDIR or store["type"].startswith("fuse"):
        because = f"{store['path']} is on {store['type']}, which overlayfs can't write through"
        yield _lack("container", because, "put it on ext4, xfs or btrfs: mount one there")


def _volumes(filesystems: Facts) -> Iterator[Lack]:
    """Of the many types of file systems those alone that people ask for by name."""
    for fstype in ("nfs", "cifs"):
        found = filesystems["mountable"][fstype]
        if not found["kernel"]:
            yield _lack(
                f"volume.fstype={fstype}", "this kernel has no such client", f"use one with the module {fstype}"
            )
        elif not found["helper"]:
            because = f"the program mount.{fstype} is not installed"
            yield _lack(f"volume.fstype={fstype}", because, f"install the package {found['package']}")
    if not filesystems["loop"]["available"]:
        yield _lack("volume.driver=loop", "there is no /dev/loop-control", "load the kernel's module loop")
    elif not filesystems["loop"]["mkfs"]:
        yield _lack("volume.driver=loop", "the program mkfs.ext4 is not installed", "install the package e2fsprogs")


def _network(facts: Facts) -> Iterator[Lack]:
    network = facts["network"]
    unfit = library.lacking(network["pyroute2"])
    if unfit:
        yield _lack("network", unfit, library.REMEDY)
    if not network["nftables"]["available"]:
        remedy = "use a kernel with CONFIG_NF_TABLES, NFT_NAT and NFT_MASQ"
        if not network["nftables"]["path"]:
            remedy = "install the package nftables"
        yield _lack("network", f"nftables can't be used: {network['nftables']['problem']}", remedy)
    elif not network["nftables"]["bridge"]["available"]:
        because = f"nftables has no rules for bridges: {network['nftables']['bridge']['problem']}"
        yield _lack("network.allow", because, "use a kernel with CONFIG_NF_TABLES_BRIDGE")
    for kind in ("bridge", "veth"):
        if not network["links"][kind]["available"]:
            because = f"a {kind} can't be made: {network['links'][kind]['problem']}"
            yield _lack("network", because, f"use a kernel with CONFIG_{kind.upper()}")
    for driver in DRIVERS:
        link = network["links"].get(driver)
        if driver != "bridge" and link and not link["available"]:
            because = f"a link of the kind {driver} can't be made: {link['problem']}"
            yield _lack(f"network.driver={driver}", because, f"use a kernel with CONFIG_{driver.upper()}")
    if not network["ipv6"]:
        because = "this kernel has no IPv6"
        yield _lack("network.subnet6", because, "boot it without ipv6.disable=1")
        yield _lack("container.networks.ipv6_address", because, "boot it without ipv6.disable=1")


def _security(facts: Facts) -> Iterator[Lack]:
    security = facts["security"]
    lacking = [name for name in _NEEDED_CAPS if name in security["capabilities_lacking"]]
    if lacking:
        yield _lack(
            "container", f"this process lacks {', '.join(lacking)}", "run on the host itself, not in a container"
        )
    if security["capabilities_lacking"]:
        names = ", ".join(security["capabilities_lacking"])
        because = f"this host gives no process {names}, so no container can have it"
        yield _lack("container.capabilities", because, "use the others, or a host without that restriction")
    if not security["raise_hard_limits"]["available"]:
        because = "hard limits can't be raised here, as CAP_SYS_RESOURCE is missing"
        yield _lack("container.ulimits", because, "stay at or below the limits of the host's own processes")
    if not security["lower_oom_score"]["available"]:
        because = "it can't be lowered here, as CAP_SYS_RESOURCE is missing"
        yield _lack("container.oom_score_adj", because, "use 0 or more")
    if security["selinux"] != "off" and not security["selinux_container_types"]:
        because = "the SELinux policy has no types for containers, so they have no label of their own"
        yield _lack("container.security_opts", because, "load one that has; the role vessel.host.setup does")
    if security["apparmor"] and not security["apparmor_parser"]:
        because = (
            "apparmor_parser is not installed, so no container has an AppArmor profile unless it names a loaded one"
        )
        yield _lack("container.security_opts", because, "install the package apparmor")
    seccomp = security["seccomp"]
    if not seccomp["available"]:
        yield _lack("container", "this kernel has no seccomp filters", "use a kernel with CONFIG_SECCOMP_FILTER")
    elif not seccomp["libseccomp"]:
        yield _lack("container", "libseccomp.so.2 can't be loaded", "install the package libseccomp2")


def _tools(facts: Facts) -> Iterator[Lack]:
    tools = facts["tools"]
    if not tools["mmdebstrap"] and not tools["debootstrap"]:
        because = "neither mmdebstrap nor debootstrap is installed"
        yield _lack("image.template", because, "install the package mmdebstrap")
    if not tools["zstd"]:
        because = "the program zstd is not installed"
        yield _lack("image.path", f"{because}, so archives with zstd layers can't be read", "install the package zstd")
    if not tools["tini"]:
        yield _lack("container.init", "/usr/bin/tini-static is not installed", "install the package tini")
    if not tools["journal"]:
        because = "there is no journal on this host"
        yield _lack("container.log_driver=journald", because, "use the log driver file, or a host with systemd")


_CHECKS: tuple[Callable[[Facts], Iterator[Lack]], ...] = (
    _host,
    _kernel,
    _namespaces,
    _cgroup,
    _filesystems,
    _network,
    _security,
    _tools,
)
