# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is it legal? Small checks in order, before the first side effect; what is not there yet is refused by its name."""

from __future__ import annotations

import os
from typing import Any, Callable

from .._errors import SpecError
from .._kernel.caps import NUMBERS
from .._kernel.namespaces import FLAGS

Config = dict[str, Any]
CAP_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
# Sysctls that belong to a namespace, by the namespace (namespaces(7)).
SYSCTLS = {
    "ipc": ("fs.mqueue.", "kernel.msg", "kernel.sem", "kernel.shm"),
    "network": ("net.",),
    "uts": ("kernel.hostname", "kernel.domainname"),
}


def check(config: Any) -> None:
    """Raise SpecError for the first thing that is wrong."""
    if not isinstance(config, dict):
        raise SpecError("file", "is not an object")
    for one in _CHECKS:
        one(config)


def check_process(process: Any, field: str = "process") -> None:
    """The checks that an exec's process needs too."""
    if not isinstance(process, dict):
        raise SpecError(field, "is missing")
    _process_args(process, field)
    _process_cwd(process, field)
    _process_caps(process, field)
    _process_rlimits(process, field)
    _process_labels(process, field)


def _object(config: Config, *path: str) -> Config:
    value: Any = config
    for name in path:
        value = value.get(name) or {}
        if not isinstance(value, dict):
            raise SpecError(".".join(path), "is not an object")
    return dict(value)


def _version(config: Config) -> None:
    version = str(config.get("ociVersion", ""))
    if not version.startswith("1."):
        raise SpecError("ociVersion", f"{version!r} is not a version 1 of the runtime-spec")


def _platform(config: Config) -> None:
    for name in ("windows", "solaris", "vm", "zos", "freebsd"):
        if config.get(name):
            raise SpecError(name, "is not for Linux containers")


def _root(config: Config) -> None:
    if not _object(config, "root").get("path"):
        raise SpecError("root.path", "is missing")


def _process(config: Config) -> None:
    check_process(config.get("process"))


def _process_args(process: Config, field: str) -> None:
    args = process.get("args")
    if not isinstance(args, list) or not args or not all(isinstance(arg, str) for arg in args):
        raise SpecError(f"{field}.args", "is missing or not a list of strings")
    for name in ("args", "env"):
        for item in process.get(name) or []:
            if not isinstance(item, str) or "\0" in item:
                raise SpecError(f"{field}.{name}", f"{item!r} is not a string without NUL bytes")


def _process_cwd(process: Config, field: str) -> None:
    if not str(process.get("cwd", "")).startswith("/"):
        raise SpecError(f"{field}.cwd", f"{process.get('cwd')!r} is not an absolute path")


def _process_caps(process: Config, field: str) -> None:
    for name, caps in _object(process, "capabilities").items():
        if name not in CAP_SETS:
            raise SpecError(f"{field}.capabilities.{name}", "is not a set of capabilities(7)")
        for cap in caps or []:
            if cap not in NUMBERS:
                raise SpecError(f"{field}.capabilities.{name}", f"{cap!r} is not a capability")


def _process_rlimits(process: Config, field: str) -> None:
    import resource

    seen = set()
    for limit in process.get("rlimits") or []:
        kind = limit.get("type")
        if not hasattr(resource, str(kind)):
            raise SpecError(f"{field}.rlimits", f"{kind!r} is not a limit of getrlimit(2)")
        if kind in seen:
            raise SpecError(f"{field}.rlimits", f"{kind} stands there twice")
        seen.add(kind)
        if int(limit.get("soft", 0)) > int(limit.get("hard", 0)):
            raise SpecError(f"{field}.rlimits", f"{kind} has a soft limit above the hard one")


def _process_labels(process: Config, field: str) -> None:
    if process.get("apparmorProfile") and not os.path.isdir("/sys/kernel/security/apparmor"):
        raise SpecError(f"{field}.apparmorProfile", "AppArmor is not enabled on this host")
    if process.get("selinuxLabel") and not _selinux():
        raise SpecError(f"{field}.selinuxLabel", "SELinux is not enabled on this host")
    for name in ("scheduler", "ioPriority", "execCPUAffinity"):
        if process.get(name):
            raise SpecError(f"{field}.{name}", "is not supported yet")


def _selinux() -> bool:
    return os.path.isdir("/sys/fs/selinux/booleans")


def _namespaces(config: Config) -> None:
    seen = set()
    for entry in _object(config, "linux").get("namespaces") or []:
        kind = entry.get("type")
        if kind not in FLAGS:
            raise SpecError("linux.namespaces", f"{kind!r} is not one of {', '.join(FLAGS)}")
        if kind in seen:
            raise SpecError("linux.namespaces", f"{kind} stands there twice")
        seen.add(kind)
        path = entry.get("path")
        if path and not os.path.isabs(path):
            raise SpecError("linux.namespaces", f"{path!r} of {kind} is not an absolute path")
        if path:
            _existing(path, kind)
    if "mount" not in seen:
        raise SpecError("linux.namespaces", "mount is missing; the root file system is made in one")
    _joined_mount(config)


def _existing(path: str, kind: str) -> None:
    try:
        os.stat(path)
    except FileNotFoundError:
        raise SpecError("linux.namespaces", f"{path} of {kind} does not exist") from None
    except OSError as error:
        raise SpecError("linux.namespaces", f"{path} of {kind}: {error.strerror}") from None


def _joined_mount(config: Config) -> None:
    """A root is changed for all in a mount namespace, so it must not be ours."""
    entries = {entry["type"]: entry.get("path") or "" for entry in _object(config, "linux")["namespaces"]}
    path = entries["mount"]
    if path and os.stat(path).st_ino == os.stat("/proc/self/ns/mnt").st_ino:
        raise SpecError("linux.namespaces", f"{path} of mount is the runtime's own; the host would get another root")
    if path and "user" in entries and not entries["user"]:
        raise SpecError("linux.namespaces", "mount can't be joined from a new user namespace")


def _kinds(config: Config) -> set[str]:
    return {entry["type"] for entry in _object(config, "linux").get("namespaces") or []}


def _users(config: Config) -> None:
    linux = _object(config, "linux")
    mapped = linux.get("uidMappings") or linux.get("gidMappings")
    if mapped and "user" not in _kinds(config):
        raise SpecError("linux.uidMappings", "are given without a user namespace")
    joined = any(entry["type"] == "user" and entry.get("path") for entry in linux.get("namespaces") or [])
    if "user" in _kinds(config) and not joined and not (linux.get("uidMappings") and linux.get("gidMappings")):
        raise SpecError("linux.uidMappings", "and gidMappings are missing for the new user namespace")


def _hostname(config: Config) -> None:
    for name in ("hostname", "domainname"):
        if config.get(name) and "uts" not in _kinds(config):
            raise SpecError(name, "needs a uts namespace of its own")


def _sysctls(config: Config) -> None:
    kinds = _kinds(config)
    for name in _object(config, "linux", "sysctl"):
        dotted = name.replace("/", ".")
        owner = next((kind for kind, starts in SYSCTLS.items() if dotted.startswith(starts)), None)
        if owner is None or ".." in dotted:
            raise SpecError("linux.sysctl", f"{name} belongs to no namespace; it would change the host")
        if owner not in kinds:
            raise SpecError("linux.sysctl", f"{name} needs a {owner} namespace of its own")


def _mounts(config: Config) -> None:
    for index, entry in enumerate(config.get("mounts") or []):
        field = f"mounts[{index}]"
        destination = entry.get("destination", "")
        if not destination.startswith("/"):
            raise SpecError(f"{field}.destination", f"{destination!r} is not an absolute path")
        if destination == "/" and index:
            raise SpecError(f"{field}.destination", "only the first mount can be the root")
        bound = {"bind", "rbind"} & set(entry.get("options") or [])
        if not entry.get("type") and not bound:
            raise SpecError(f"{field}.type", "is missing")
        if (bound or entry.get("type") == "bind") and not entry.get("source"):
            raise SpecError(f"{field}.source", "is missing for a bind mount")
        if entry.get("uidMappings") or entry.get("gidMappings"):
            raise SpecError(f"{field}.uidMappings", "idmapped mounts are not supported yet")


def _devices(config: Config) -> None:
    for index, entry in enumerate(_object(config, "linux").get("devices") or []):
        if entry.get("type") not in ("c", "u", "b", "p"):
            raise SpecError(f"linux.devices[{index}].type", f"{entry.get('type')!r} is not one of c, u, b, p")
        if not str(entry.get("path", "")).startswith("/"):
            raise SpecError(f"linux.devices[{index}].path", f"{entry.get('path')!r} is not an absolute path")
        for key in ("major", "minor") if entry["type"] != "p" else ():
            if not isinstance(entry.get(key), int):
                raise SpecError(f"linux.devices[{index}].{key}", f"{entry.get(key)!r} is not a number")


def _time(config: Config) -> None:
    linux = _object(config, "linux")
    joined = any(entry["type"] == "time" and entry.get("path") for entry in linux.get("namespaces") or [])
    if linux.get("timeOffsets") and ("time" not in _kinds(config) or joined):
        raise SpecError("linux.timeOffsets", "need a new time namespace")
    for clock in linux.get("timeOffsets") or {}:
        if clock not in ("monotonic", "boottime"):
            raise SpecError("linux.timeOffsets", f"{clock!r} is not one of monotonic, boottime")


def _hooks(config: Config) -> None:
    for kind, hooks in _object(config, "hooks").items():
        if kind not in HOOKS:
            raise SpecError(f"hooks.{kind}", f"is not one of {', '.join(HOOKS)}")
        for index, hook in enumerate(hooks or []):
            if not str(hook.get("path", "")).startswith("/"):
                raise SpecError(f"hooks.{kind}[{index}].path", f"{hook.get('path')!r} is not an absolute path")


def _cgroups(config: Config) -> None:
    path = _object(config, "linux").get("cgroupsPath") or ""
    if ".." in path.split("/"):
        raise SpecError("linux.cgroupsPath", f"{path!r} holds ..")


def _unsupported(config: Config) -> None:
    linux = _object(config, "linux")
    if linux.get("mountLabel") and not _selinux():
        raise SpecError("linux.mountLabel", "SELinux is not enabled on this host")
    for name in ("intelRdt", "personality", "memoryPolicy", "netDevices"):
        if linux.get(name):
            raise SpecError(f"linux.{name}", "is not supported yet")
    if _object(linux, "seccomp").get("listenerPath"):
        raise SpecError("linux.seccomp.listenerPath", "is not supported yet")
    if _object(linux, "resources").get("rdma"):
        raise SpecError("linux.resources.rdma", "is not supported yet")


_CHECKS: tuple[Callable[[Config], None], ...] = (
    _version,
    _platform,
    _root,
    _process,
    _namespaces,
    _users,
    _hostname,
    _sysctls,
    _mounts,
    _devices,
    _time,
    _hooks,
    _cgroups,
    _unsupported,
)
