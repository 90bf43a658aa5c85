# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changing a container that runs: each option that the kernel can change under a process, and how."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterable, Mapping
from typing import Any

from ..._cgroup import throttle
from ..._cgroup.manager import Manager, merge, open_manager
from ..._errors import KernelError, OptionError
from ..._kernel import mount as m
from ..._kernel import namespaces
from ..._kernel.openat2 import RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS, open_root, openat2
from ..._options import limits
from ..._options.container import mount_words, tmpfs_target, volume_parts
from ..._paths import Paths
from ..._rootfs import ops
from ..._rootfs import options as mount_options
from ..._rootfs import target as target_place
from .. import secrets
from ..host import Host
from ..inside import inside, mounted_at
from . import attach, compile, labels, lifecycle, prepare

Spec = Mapping[str, Any]
RESOURCES = frozenset(
    (
        "memory",
        "memory_reservation",
        "memory_swap",
        "cpus",
        "cpu_shares",
        "cpuset_cpus",
        "cpuset_mems",
        "pids_limit",
        "blkio_weight",
        "hugepage_limits",
        *limits.RATES,
        *limits.UNIFIED,
    )
)
MONITORED = frozenset(
    ("restart_policy", "restart_retries", "healthcheck", "stop_signal", "stop_timeout", "log_options")
)
NAMED = frozenset(
    (
        "networks",
        "published_ports",
        "dns_servers",
        "dns_search_domains",
        "dns_opts",
        "etc_hosts",
        "hostname",
        "domainname",
    )
)


_BFQ_WEIGHT = 100  # of a group that nobody gave one: Documentation/block/bfq-iosched.rst


def manager(host: Host, name: str) -> Manager:
    return open_manager(host.paths.cgroup(name))


def defaults(host: Host) -> dict[str, Any]:
    """What a group has that nobody gave limits: our own parent group is one."""
    return host.once("default limits", lambda: _without_limits(open_manager(host.paths.cgroups)))


def _without_limits(parent: Manager) -> dict[str, Any]:
    limits = parent.read() if parent.exists() else {}
    if parent.unified():
        # But for what it has because containers are in it (_cgroup/v2/protection.py).
        merge(limits, {"memory": {"reservation": 0}, "unified": {"memory.min": "0"}} if limits else {})
    elif "weight" in limits.get("blockIO", {}):
        limits["blockIO"]["weight"] = _BFQ_WEIGHT  # systemd gives one to the slices that it makes
    return limits


def wanted_resources(host: Host, spec: Spec) -> dict[str, Any]:
    """linux.resources with every key that an option stands for; what is not declared has the default."""
    result: dict[str, Any] = {}
    for values in (defaults(host), compile.resources(spec)):
        merge(result, values)
    return result


# Where an option's value is in linux.resources: the object and the keys in it, or a list.
_KEYS: dict[str, list[tuple[str, str]]] = {
    "memory": [("memory", "limit"), ("memory", "swap")],
    "memory_swap": [("memory", "limit"), ("memory", "swap")],
    "memory_reservation": [("memory", "reservation")],
    "cpus": [("cpu", "quota"), ("cpu", "period")],
    "cpu_shares": [("cpu", "shares")],
    "cpuset_cpus": [("cpu", "cpus")],
    "cpuset_mems": [("cpu", "mems")],
    "pids_limit": [("pids", "limit")],
    "blkio_weight": [("blockIO", "weight")],
    "hugepage_limits": [("hugepageLimits", "")],
    **{option: [("blockIO", key)] for option, key in limits.RATES.items()},
    **{option: [("unified", file)] for option, file in limits.UNIFIED.items()},
}


def apply_resources(host: Host, name: str, spec: Spec, options: Iterable[str]) -> None:
    """Write the limits of these options, whatever is there."""
    everything = wanted_resources(host, spec)
    chosen: dict[str, Any] = {}
    for option in options:
        for group, key in _KEYS[option]:
            if not key and group in everything:
                chosen[group] = everything[group]
            elif key in everything.get(group, {}):
                chosen.setdefault(group, {})[key] = everything[group][key]
    _lift_rates(host, name, chosen.get("blockIO", {}))
    if "limit" in chosen.get("memory", {}):
        chosen["memory"]["checkBeforeUpdate"] = True  # v1 refuses what is less than in use; v2 would kill for it
    try:
        manager(host, name).apply(chosen)
    except KernelError as error:
        names = ", ".join(sorted(options))
        raise KernelError(f"{names}: {error.operation}", error.obj, error.errno, hint=error.hint) from None


def _lift_rates(host: Host, name: str, block: dict[str, Any]) -> None:
    """A device that is in a list no more keeps its rate until somebody takes it off."""
    present = manager(host, name).read().get("blockIO", {})
    for key in throttle.KEYS:
        if key in block:
            block[key] = [*block[key], *throttle.lifted(present.get(key, []), block[key])]


def apply_ulimits(host: Host, name: str, spec: Spec, before: Spec) -> None:
    """prlimit(2) for each process. A limit that is declared no more goes back to the supervisor's own."""
    wanted = {limit.split(":")[0]: limit.split(":")[1:] for limit in spec["ulimits"]}
    for limit in before["ulimits"]:
        kind = limit.split(":")[0]
        if kind not in wanted:
            inherited = resource.getrlimit(getattr(resource, f"RLIMIT_{kind.upper()}"))
            wanted[kind] = [str(value) for value in inherited]
    for pid in manager(host, name).pids():
        for kind, (soft, hard) in wanted.items():
            _prlimit(pid, kind, int(soft), int(hard))


def _prlimit(pid: int, kind: str, soft: int, hard: int) -> None:
    try:
        resource.prlimit(pid, getattr(resource, f"RLIMIT_{kind.upper()}"), (soft, hard))
    except ProcessLookupError:
        pass
    except (PermissionError, ValueError):
        hint = "raising a hard limit needs CAP_SYS_RESOURCE, which this host does not give"
        raise OptionError("ulimits", f"{kind}:{soft}:{hard}", "is above the limit of this host", hint=hint) from None


def apply_oom_score(host: Host, name: str, spec: Spec) -> None:
    for pid in manager(host, name).pids():
        try:
            with open(f"/proc/{pid}/oom_score_adj", "w") as file:
                file.write(str(spec["oom_score_adj"]))
        except (FileNotFoundError, ProcessLookupError):
            continue
        except PermissionError:
            hint = "lowering it needs CAP_SYS_RESOURCE, which this host does not give"
            raise OptionError("oom_score_adj", spec["oom_score_adj"], "is refused by the kernel", hint=hint) from None


def apply_hostname(pid: int, name: str, spec: Spec) -> None:
    def act() -> None:
        namespaces.sethostname(spec["hostname"] or name)
        namespaces.setdomainname(spec["domainname"] or "(none)")

    inside(pid, ["uts"], act)


def apply_sysctls(pid: int, spec: Spec, before: Spec) -> None:
    """One that is declared no more keeps its value: nobody knows what it was."""
    changed = {key: value for key, value in spec["sysctls"].items() if before["sysctls"].get(key) != value}

    def act() -> None:
        for key, value in changed.items():
            try:
                with open(f"/proc/sys/{key.replace('.', '/')}", "w") as file:
                    file.write(value)
            except OSError as error:
                raise KernelError(f"sysctls.{key}: write", value, error.errno or 0) from None

    inside(pid, ["network", "ipc"], act)


def apply_shm(pid: int, spec: Spec) -> None:
    flags = m.MS_REMOUNT | m.MS_NOSUID | m.MS_NODEV | m.MS_NOEXEC
    inside(pid, ["mount"], lambda: m.mount("none", "/dev/shm", None, flags, f"size={spec['shm_size']}"))


def mount_volume(pid: int, source: str, target: str, words: Iterable[str]) -> None:
    """Attach a copy of the source's mount inside the container, flags and all, through descriptors."""
    options = mount_options.parse(["rbind", *words])
    tree = m.open_tree(source, m.OPEN_TREE_CLONE | m.AT_RECURSIVE)

    def act() -> None:
        root = open_root("/")
        place = target_place.like_fd(root, target, tree)
        ops.attach(tree, place, options, recursive=True)

    try:
        inside(pid, ["mount"], act)
    finally:
        os.close(tree)


def unmount_volume(pid: int, target: str, source: str, *, busy: bool = True) -> None:
    """Take the volume off, with ``busy`` also from under those who have files open in it. Whoever is inside could put a
    symlink to another mount of the container in its way, so it must be the source's, and from then on no symlink is
    followed."""
    place = mounted_at(pid, target, source)
    if not place:
        hint = "what is there now is something else; restart the container"
        raise KernelError("unmount", f"{source} from {target}", errno.EINVAL, hint=hint)

    def act() -> None:
        parent, dummy, name = place.rpartition("/")
        resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS
        os.fchdir(openat2(open_root("/"), parent or "/", os.O_PATH | os.O_DIRECTORY, resolve=resolve))
        m.umount2(name, (m.MNT_DETACH if busy else 0) | m.UMOUNT_NOFOLLOW)

    try:
        inside(pid, ["mount"], act)
    except KernelError as error:
        if error.errno != errno.EBUSY:
            raise
        hint = "processes of the container have files open in it; set restart: true"
        raise KernelError("unmount", f"{source} from {target}", errno.EBUSY, hint=hint) from None


Bind = tuple[str, str, tuple[str, ...]]  # source, target, mode words
# The kernel's own file systems in a container, which can't be made anew under its processes.
_KERNEL_MOUNTS = ("/proc", "/sys", "/dev")


def check_volumes(paths: Paths, spec: Spec, before: Spec) -> None:
    """A volume that comes or goes above a tmpfs would take the tmpfs and what is in it along; one with a lease is
    given to a container that has the lease, which is asked for when it is started."""
    from ..volumes import lease

    for entry in _changing(spec, before):
        source, target, words = volume_parts(entry)
        if entry in spec["volumes"] and "ro" not in words and not source.startswith("/") and lease(paths, source):
            problem = "can't come while the container runs: it is for one writer at a time"
            raise OptionError("volumes", entry, problem, hint="set restart: true")
        below = [*map(tmpfs_target, spec["tmpfs"]), *_KERNEL_MOUNTS]
        hidden = [path for path in below if path == target or path.startswith(f"{target}/")]
        if hidden:
            problem = f"can't come or go while the container runs: {hidden[0]} is below it"
            raise OptionError("volumes", entry, problem, hint="set restart: true")


def _changing(spec: Spec, before: Spec) -> set[str]:
    return set(spec["volumes"]) ^ set(before["volumes"])


def apply_volumes(host: Host, name: str, pid: int, spec: Spec, before: Spec) -> None:
    """What goes, goes first: it may come back with another mode. What stays below something that comes or goes is
    taken off and put on again, for it would be hidden by the one and lost with the other."""
    before = {**before, "volumes": _mounted(host, pid, spec, before)}
    changing = [volume_parts(entry)[1] for entry in _changing(spec, before)]

    def moves(bind: Bind) -> bool:
        return bind[1] in changing or any(bind[1].startswith(f"{target}/") for target in changing)

    old, new, leased = _binds(host, before), _binds(host, spec), prepare.leases(host.paths, before)
    own = compile.own_binds(before, host.paths, name)
    here = [bind for bind in _beside(own, old) if mounted_at(pid, bind[1], bind[0])]
    for source, target, dummy in filter(moves, reversed([*old, *here])):
        # Who has a file open could write to it for as long as it likes, also when the lease is another's.
        unmount_volume(pid, target, source, busy=source not in leased)
    sources = {volume_parts(entry)[0]: bind[0] for entry, bind in zip(spec["volumes"], new)}
    labels.label_volumes(spec, labels.of(host.paths, name, spec), sources)
    for source, target, words in filter(moves, [*new, *_beside(own, new)]):
        mount_volume(pid, source, target, words)


def _beside(own: Iterable[Bind], volumes: Iterable[Bind]) -> list[Bind]:
    """Those of our own binds in whose place no volume is."""
    taken = {target for dummy, target, dummies in volumes}
    return [bind for bind in own if bind[1] not in taken]


def _mounted(host: Host, pid: int, spec: Spec, before: Spec) -> list[str]:
    """The volumes of the one or the other that are really there: somebody may have taken one off by hand, or a task
    may have been killed half way."""
    found: dict[str, str] = {}
    for known in (before, spec):
        for entry, (source, target, dummy) in zip(known["volumes"], _binds(host, known)):
            if target not in found and mounted_at(pid, target, source):
                found[target] = entry
    for entry in before["volumes"]:
        # Something else is in its way: to take it off will tell.
        target = volume_parts(entry)[1]
        if target not in found and mounted_at(pid, target):
            found[target] = entry
    return [entry for dummy, entry in sorted(found.items())]


def _binds(host: Host, spec: Spec) -> list[Bind]:
    """The declared volumes, those that others lie in first."""
    from ..volumes import source as volume_source

    found = []
    for source, target, words in map(volume_parts, spec["volumes"]):
        path = source if source.startswith("/") else volume_source(host.paths, source)
        found.append((path, target, tuple(mount_words(words))))
    return found


def swap_secrets(host: Host, name: str, pid: int, spec: Spec) -> None:
    """The first secret brings the directory, the last takes it away."""
    if spec["secrets"]:
        secrets.write(host.paths, name, spec["secrets"], labels.of(host.paths, name, spec))
        source = host.paths.secrets(name)
        mount_volume(pid, source, compile.SECRETS_INSIDE, compile.SECRETS_MODE)
    else:
        unmount_volume(pid, compile.SECRETS_INSIDE, host.paths.secrets(name))


def apply_networks(host: Host, name: str, spec: Spec) -> None:
    """Attach and detach; then names and rules for all whom it concerns."""
    before = host.attachments.get(name)
    old = {endpoint.network: endpoint for endpoint in before.endpoints} if before else {}
    lifecycle.reserve(host, [(name, spec)], starting=False)
    new = host.attachments[name]
    have = {endpoint.network: endpoint for endpoint in new.endpoints}
    gone = [endpoint for network, endpoint in old.items() if network not in have or have[network].mac != endpoint.mac]
    attach.disconnect(host, gone)
    if attach.uses_sandbox(spec):
        attach.connect(host, name, new, attach.rtnl(host))
    host.save_attachment(name)
    attach.touch(host, name, {*old, *have})
