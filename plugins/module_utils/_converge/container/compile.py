# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A declared container as an OCI runtime-spec config.json, and as the supervisor's monitor.json. Nothing here acts."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..._errors import DependencyError, OptionError
from ..._image.store import Image
from ..._options import limits
from ..._options.container import CPU_PERIOD, HEALTHCHECK_DEFAULTS, mount_words, volume_parts
from ..._paths import Paths
from . import security
from .identity import Identity
from .labels import Labels

Spec = Mapping[str, Any]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INIT_HOST = "/usr/bin/tini-static"
INIT_INSIDE = "/sbin/vessel-init"
SECRETS_INSIDE = "/run/secrets"
SECRETS_MODE = ("ro", "nosuid", "noexec", "nodev")
# Files of /etc that are the host's to write; the kernel shows their present content.
NAME_FILES = ("hosts", "resolv.conf", "hostname")


@dataclass(frozen=True)
class Surroundings:
    """What the host adds to the declaration: resolved names, and namespaces that others own."""

    paths: Paths
    name: str
    image: Image
    layers: Sequence[str]  # directories, base first
    identity: Identity
    netns: str = ""  # path; empty for the host's own
    joined: Mapping[str, str] = field(default_factory=dict)  # namespace type: path under /proc/PID/ns
    volumes: Mapping[str, str] = field(default_factory=dict)  # name: directory on the host
    mounts: Mapping[str, str] = field(default_factory=dict)  # volumes' directory: file system mounted there
    labels: Labels = field(default_factory=Labels)
    leases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # volumes' directory: what monitor.json has


def arguments(spec: Spec, image: Image) -> list[str]:
    """Entrypoint and command as docker joins them: declaring an entrypoint drops the image's command."""
    config = image.config
    entrypoint = spec["entrypoint"] if spec["entrypoint"] is not None else config.get("Entrypoint") or []
    command = spec["command"]
    if command is None:
        command = [] if spec["entrypoint"] is not None else config.get("Cmd") or []
    args = [*entrypoint, *command]
    if not args:
        raise OptionError("command", spec["command"], f"is missing, and the image {image.name} has none; give one")
    if not args[0]:
        option = "entrypoint" if entrypoint else "command"
        raise OptionError(option, args, "names no program; its first word is empty")
    return args


def environment(spec: Spec, around: Surroundings) -> list[str]:
    env = {"PATH": PATH, "HOME": around.identity.home, "HOSTNAME": hostname(spec, around.name)}
    env.update(item.partition("=")[::2] for item in around.image.config.get("Env") or [])
    env.update(spec["env"])
    return [f"{key}={value}" for key, value in env.items()]


def hostname(spec: Spec, name: str) -> str:
    return str(spec["hostname"] or name)


def capabilities(spec: Spec) -> list[str]:
    """The default set, with ``capabilities`` added and ``cap_drop`` taken away; ALL stands for every one that we have:
    a host that is a container or a guarded machine itself may lack some, and nobody can give what he lacks."""
    from ..._kernel import caps

    everything = caps.held()
    added, dropped = set(spec["capabilities"]), set(spec["cap_drop"])
    held = everything if spec["privileged"] or "ALL" in added else set(security.DEFAULT_CAPS) | added
    return sorted((held if "ALL" not in dropped else added) - dropped - {"ALL"})


def rlimits(spec: Spec) -> list[dict[str, Any]]:
    result = []
    for limit in spec["ulimits"]:
        name, soft, hard = limit.split(":")
        unlimited = 2**64 - 1
        values = [unlimited if int(value) < 0 else int(value) for value in (soft, hard)]
        result.append({"type": f"RLIMIT_{name.upper()}", "soft": values[0], "hard": values[1]})
    return result


def resources(spec: Spec) -> dict[str, Any]:
    """linux.resources with what is declared and nothing else, so that any runtime takes it."""
    memory = {
        "limit": spec["memory"],
        "reservation": spec["memory_reservation"],
        "swap": spec["memory_swap"],
    }
    cpu: dict[str, Any] = {"shares": spec["cpu_shares"], "cpus": spec["cpuset_cpus"], "mems": spec["cpuset_mems"]}
    if spec["cpus"]:
        cpu.update(quota=quota(spec["cpus"]), period=CPU_PERIOD)
    result: dict[str, Any] = {
        "memory": {key: value for key, value in memory.items() if value},
        "cpu": {key: value for key, value in cpu.items() if value},
        "pids": {"limit": spec["pids_limit"]} if spec["pids_limit"] else {},
        "blockIO": {**({"weight": spec["blkio_weight"]} if spec["blkio_weight"] else {}), **limits.rates(spec)},
        "hugepageLimits": limits.hugepages(spec),
        "unified": limits.unified(spec),
    }
    return {key: value for key, value in result.items() if value}


def quota(cpus: float) -> int:
    """Microseconds of a period; the kernel takes 1000 at the least (sched-bwc.rst)."""
    return max(1000, round(cpus * CPU_PERIOD))


def device_node(entry: str, option: str) -> dict[str, Any]:
    """linux.devices' entry for HOST:INSIDE:rwm, from the node on the host."""
    host, inside, dummy = entry.split(":")
    try:
        info = os.stat(host)
    except OSError:
        raise OptionError(option, entry, f"names {host}, which this host does not have") from None
    kinds = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}
    kind = kinds.get(stat.S_IFMT(info.st_mode))
    if kind is None:
        raise OptionError(option, entry, f"names {host}, which is no device; mount files with volumes")
    return {
        "path": inside,
        "type": kind,
        "major": os.major(info.st_rdev),
        "minor": os.minor(info.st_rdev),
        "fileMode": stat.S_IMODE(info.st_mode),
        "uid": info.st_uid,
        "gid": info.st_gid,
    }


def devices(spec: Spec) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(linux.devices, linux.resources.devices)."""
    nodes = [device_node(entry, f"devices[{index}]") for index, entry in enumerate(spec["devices"])]
    if spec["privileged"]:
        own = {node["path"] for node in nodes}
        nodes += [device_node(f"{path}:{path}:rwm", "privileged") for path in _host_devices() if path not in own]
        return nodes, [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for entry, node in zip(spec["devices"], nodes):
        keys = ("type", "major", "minor")
        rules.append({"allow": True, "access": entry.split(":")[2], **{key: node[key] for key in keys}})
    return nodes, rules


def _host_devices() -> list[str]:
    """Devices of the host's /dev that a container does not get anyway."""
    own = {"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "fd", "core"}
    found = []
    for entry in os.scandir("/dev"):
        if entry.name not in own and stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode) in (
            stat.S_IFCHR,
            stat.S_IFBLK,
        ):
            found.append(entry.path)
    return sorted(found)


def namespaces(spec: Spec, around: Surroundings) -> list[dict[str, str]]:
    result: list[dict[str, str]] = [{"type": "mount"}]
    if around.netns:
        result.append({"type": "network", "path": around.netns})
    private = {
        "pid": spec["pid_mode"] == "private",
        "ipc": spec["ipc_mode"] in ("private", "shareable"),
        "uts": spec["uts"] == "private",
        "cgroup": spec["cgroupns_mode"] == "private",
    }
    for kind, own in private.items():
        if kind in around.joined:
            result.append({"type": kind, "path": around.joined[kind]})
        elif own:
            result.append({"type": kind})
    return result


def mounts(spec: Spec, around: Surroundings) -> list[dict[str, Any]]:
    """In the order in which they are made: what lies deeper comes later."""
    system = "rw" if spec["privileged"] else "ro"
    own = [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
        ),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _shm(spec),
        _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", system),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", system),
    ]
    own += [_bind(source, target, *words) for source, target, words in own_binds(spec, around.paths, around.name)]
    declared = [_tmpfs(entry) for entry in spec["tmpfs"]] + [
        _volume(entry, around.volumes) for entry in spec["volumes"]
    ]
    # A volume at /dev/shm or /proc/x replaces ours; sorted by depth, a parent never hides its child.
    targets = {mount["destination"] for mount in declared}
    kept = [mount for mount in own if mount["destination"] not in targets]
    return [overlay(around), *sorted([*kept, *declared], key=lambda mount: mount["destination"].count("/"))]


def own_binds(spec: Spec, paths: Paths, name: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """(source, target, mode words) of what is bound into each container without being declared as a volume."""
    mode = "ro" if spec["read_only"] else "rw"
    found: list[tuple[str, str, tuple[str, ...]]] = [
        (f"{paths.etc(name)}/{file}", f"/etc/{file}", (mode, "rprivate")) for file in NAME_FILES
    ]
    if spec["secrets"]:
        found.append((paths.secrets(name), SECRETS_INSIDE, SECRETS_MODE))
    if spec["init"]:
        found.append((_init(), INIT_INSIDE, ("ro",)))
    return found


def overlay(around: Surroundings) -> dict[str, Any]:
    home = around.paths.home(around.name)
    lower = ":".join(reversed([*around.layers]))
    return _mount("/", "overlay", "overlay", f"lowerdir={lower}", f"upperdir={home}/upper", f"workdir={home}/work")


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _bind(source: str, destination: str, *options: str) -> dict[str, Any]:
    return _mount(destination, "bind", source, "rbind", *options)


def _shm(spec: Spec) -> dict[str, Any]:
    if spec["ipc_mode"] == "host":
        return _bind("/dev/shm", "/dev/shm", "rw", "nosuid", "noexec", "nodev")
    return _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", f"size={spec['shm_size']}")


def _tmpfs(entry: str) -> dict[str, Any]:
    path, dummy, options = entry.partition(":")
    return _mount(path, "tmpfs", "tmpfs", "nosuid", "nodev", *(word for word in options.split(",") if word))


def _volume(entry: str, volumes: Mapping[str, str]) -> dict[str, Any]:
    source, target, words = volume_parts(entry)
    spread = [] if any(word.endswith(("private", "slave", "shared")) for word in words) else ["rprivate"]
    return _bind(source if source.startswith("/") else volumes[source], target, *mount_words(words), *spread)


def _init() -> str:
    if not os.path.exists(INIT_HOST):
        raise DependencyError(f"init: {INIT_HOST} is missing on this host", hint="install the package tini")
    return INIT_HOST


def config(spec: Spec, around: Surroundings) -> dict[str, Any]:
    """The bundle's config.json (OCI runtime-spec 1.0.2 and newer)."""
    args = arguments(spec, around.image)
    nodes, rules = devices(spec)
    linux: dict[str, Any] = {
        "namespaces": namespaces(spec, around),
        "cgroupsPath": around.paths.cgroup(around.name),
        "resources": {"devices": rules, **resources(spec)},
        "devices": nodes,
        "rootfsPropagation": "private",
    }
    if spec["sysctls"]:
        linux["sysctl"] = dict(spec["sysctls"])
    if around.labels.mount:
        linux["mountLabel"] = around.labels.mount
    if not spec["privileged"]:
        linux["maskedPaths"] = list(security.MASKED_PATHS)
        linux["readonlyPaths"] = list(security.READONLY_PATHS)
        linux["seccomp"] = security.seccomp_profile(capabilities(spec))
    result: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": process(spec, around, [INIT_INSIDE, "--", *args] if spec["init"] else args),
        "root": {"path": "rootfs", "readonly": spec["read_only"]},
        "mounts": mounts(spec, around),
        "linux": linux,
        "annotations": {"host.vessel.image": around.image.id},
    }
    if spec["uts"] == "private":
        result["hostname"] = hostname(spec, around.name)
        if spec["domainname"]:
            result["domainname"] = spec["domainname"]
    return result


def process(spec: Spec, around: Surroundings, args: list[str]) -> dict[str, Any]:
    identity = around.identity
    held = capabilities(spec)
    result: dict[str, Any] = {
        "terminal": False,
        "user": {"uid": identity.uid, "gid": identity.gid, "additionalGids": list(identity.groups)},
        "args": args,
        "env": environment(spec, around),
        "cwd": spec["working_dir"] or around.image.config.get("WorkingDir") or "/",
        # A process that is not root gets no effective capability from the start (capabilities(7)).
        "capabilities": {
            "bounding": held,
            "effective": held if identity.uid == 0 else [],
            "permitted": held if identity.uid == 0 else [],
        },
        "noNewPrivileges": not spec["privileged"],
    }
    if spec["ulimits"]:
        result["rlimits"] = rlimits(spec)
    if spec["oom_score_adj"]:
        result["oomScoreAdj"] = spec["oom_score_adj"]
    if around.labels.process:
        result["selinuxLabel"] = around.labels.process
    if around.labels.apparmor:
        result["apparmorProfile"] = around.labels.apparmor
    return result


def monitor(spec: Spec, around: Surroundings) -> dict[str, Any]:
    """The bundle's monitor.json."""
    options = spec["log_options"]
    return {
        "restart": {"policy": spec["restart_policy"], "retries": spec["restart_retries"]},
        "health": health(spec, around.image),
        "log": {
            "driver": spec["log_driver"],
            "path": around.paths.log(around.name),
            "max_size": options.get("max_size", 0),
            "max_file": options.get("max_file", 1),
            "tag": f"{around.paths.prefix}-{around.name}",
        },
        "mounts": dict(around.mounts),
        "leases": dict(around.leases),
        "stop": {"signal": stop_signal(spec, around.image), "timeout": spec["stop_timeout"]},
    }


def health(spec: Spec, image: Image) -> dict[str, Any] | None:
    """The declared health check, else the image's (its times are nanoseconds); None for none."""
    if spec["healthcheck"] is not None:
        return spec["healthcheck"] or None
    declared = image.config.get("Healthcheck") or {}
    if not declared.get("Test") or declared["Test"] == ["NONE"]:
        return None
    names = {
        "Interval": "interval",
        "Timeout": "timeout",
        "StartPeriod": "start_period",
        "StartInterval": "start_interval",
    }
    # Shorter than a millisecond is what docker refuses, too: the supervisor would do nothing else.
    times = {names[key]: value / 1e9 for key, value in declared.items() if key in names and (value or 0) >= 1e6}
    retries = {"retries": declared["Retries"]} if (declared.get("Retries") or 0) > 0 else {}
    return {"test": declared["Test"], **HEALTHCHECK_DEFAULTS, **times, **retries}


def stop_signal(spec: Spec, image: Image) -> int:
    from ..._options.parse import parse_signal

    if spec["stop_signal"] is not None:
        return int(spec["stop_signal"])
    return parse_signal(image.config.get("StopSignal") or "SIGTERM", "stop_signal")
