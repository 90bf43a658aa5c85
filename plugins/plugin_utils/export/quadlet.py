# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stack as podman's quadlets (podman-systemd.unit(5), podman 5.0 and newer): a mapping from file names to texts."""

from __future__ import annotations

import json
import shlex
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError
from ansible_collections.vessel.host.plugins.module_utils._options.container import (
    HEALTHCHECK_DEFAULTS,
    tmpfs_target,
    volume_parts,
)

from . import quadlet_parts, spelling
from .declaration import OPTIONS, STOPPED, Stack
from .losses import Losses, Where
from .secrets import Names
from .table import Rule, Rules, lacks, together, write
from .unit import Unit, argument, line, lines, pairs, stem, true, unified

FORM = "in a quadlet"
_STOP_MARGIN = 30  # seconds that systemd gives podman beyond the container's own time
_START_TIMEOUT = 900  # as podman-systemd.unit(5) has it for images that are yet to be pulled
_STOP_DEFAULT = 90  # systemd's, DefaultTimeoutStopSec
# As the engine waits between two restarts (_monitor/restart.py).
_BACK_OFF = {"RestartSec": "100ms", "RestartSteps": "10", "RestartMaxDelaySec": "60s"}


# containers


def _command(place: Unit, value: list[str], at: Where) -> None:
    entrypoint = place.spec.get("entrypoint")
    if "" in value and entrypoint is None:
        at.lacks(value, "quadlet ends a command at an empty word; give the entrypoint, too")
    elif value and "" not in value:
        place.words("Exec", *value)
    elif entrypoint is None:  # one that is declared drops the image's command
        at.lacks(value, "no command at all is the image's own there")


def _entrypoint(place: Unit, value: list[str], at: Where) -> None:
    """With the command, where that has an empty word: a list in JSON may."""
    command = place.spec.get("command") or []
    words = [*value, *command] if "" in command else value
    if words:
        place.line("Entrypoint", _json(words), at)
    else:
        place.argument("--entrypoint=")


def _json(value: list[str]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _user(place: Unit, value: str, at: Where) -> None:
    user, dummy, group = value.partition(":")
    place.line("User", user, at)
    if group:
        place.line("Group", group, at)


def _networks(place: Unit, value: list[dict[str, Any]], at: Where) -> None:
    for index, network in enumerate(value):
        name = network["name"]
        source = _unit_of(place, "networks", name, "network")
        words = [f"ip={network['ipv4_address']}"] if network.get("ipv4_address") else []
        words += [f"ip6={network['ipv6_address']}"] if network.get("ipv6_address") else []
        words += [f"mac={network['mac_address']}"] if network.get("mac_address") else []
        words += [f"alias={alias}" for alias in network["aliases"]]
        place.line("Network", source + (f":{','.join(words)}" if words else ""), at.item(index))
    if not value:
        place.line("Network", "none", at)


def _unit_of(place: Unit, kind: str, name: str, suffix: str) -> str:
    """The file that declares it, where one does; else podman's own of that name."""
    own = {"networks": place.stack.networks, "volumes": place.stack.volumes}[kind]
    implied = kind == "networks" and name == "default"
    return f"{stem(place.stack, name)}.{suffix}" if name in own or implied else name


def _network_mode(place: Unit, value: str, at: Where) -> None:
    other = place.stack.joined(value)
    place.line("Network", f"{stem(place.stack, other)}.container" if other else value, at)


def _port(text: str) -> str:
    return text.removeprefix("0.0.0.0::")


def _volumes(place: Unit, value: list[str], at: Where) -> None:
    for index, text in enumerate(value):
        source, target, words = volume_parts(text)
        if not source.startswith("/"):
            source = _unit_of(place, "volumes", source, "volume")
        words = [option for option in words if option != "rw"]
        place.line("Volume", ":".join([source, target, *([",".join(words)] if words else [])]), at.item(index))


def _tmpfs(place: Unit, value: list[str], at: Where) -> None:
    for index, text in enumerate(value):
        words = spelling.tmpfs(text).partition(":")[2].split(",")
        for option in words:
            if option.partition("=")[0] in ("uid", "gid", "nr_inodes"):
                at.item(index).lacks(text, f"podman's --tmpfs has no {option.partition('=')[0]}")
        kept = [option for option in words if option.partition("=")[0] not in ("uid", "gid", "nr_inodes")]
        # podman would copy into it what the image has there.
        place.line("Tmpfs", f"{tmpfs_target(text)}:{','.join([*kept, 'notmpcopyup'])}", at.item(index))


def _etc_hosts(place: Unit, value: dict[str, str], at: Where) -> None:
    for name, address in value.items():
        place.line("AddHost", f"{name}:{address}", at)


def _read_only(place: Unit, value: bool, at: Where) -> None:
    place.line("ReadOnly", "true", at)
    place.line("ReadOnlyTmpfs", "false", at)  # podman would mount some at /tmp, /run and /var/tmp


def _hugepages(place: Unit, value: dict[str, int], at: Where) -> None:
    for page, limit in value.items():
        place.argument(f"--cgroup-conf=hugetlb.{page}.max={limit}")


def _rates(name: str) -> Rule:
    def writer(place: Unit, value: list[dict[str, Any]], at: Where) -> None:
        for rate in value:
            place.argument(f"{name}={rate['path']}:{rate['rate']}")

    return Rule(f"`PodmanArgs={name}`", writer)


def _ulimit(text: str) -> str:
    name, soft, hard = text.split(":")
    return f"{name}={soft}:{hard}"


_LABELS = {"type": "SecurityLabelType", "level": "SecurityLabelLevel", "filetype": "SecurityLabelFileType"}


def _security_opts(place: Unit, value: list[str], at: Where) -> None:
    for text in value:
        kind, dummy, rest = text.partition("=")
        part, dummy, name = rest.partition(":")
        if text == "label=disable":
            place.line("SecurityLabelDisable", "true", at)
        elif kind == "label" and part in _LABELS:
            place.line(_LABELS[part], name, at)
        else:
            place.argument(f"--security-opt={text}")


def _restart(place: Unit, value: str, at: Where) -> None:
    retries = place.spec.get("restart_retries") if value == "on-failure" else 0
    place.plain("Service", "Restart", "on-failure" if value == "on-failure" else "always")
    for key, text in _BACK_OFF.items():
        place.plain("Service", key, text)
    # systemd gives up after five starts in ten seconds.
    place.plain("Unit", "StartLimitIntervalSec", "infinity" if retries else 0)
    if retries:
        place.plain("Unit", "StartLimitBurst", retries + 1)


def _test(test: list[str]) -> list[str]:
    """podman takes a list of one word for the shell, and one with CMD apart at its blanks."""
    if test[0] == "CMD-SHELL":
        return test
    return test[1:] if len(test) > 2 else ["CMD-SHELL", shlex.quote(test[1])]


def _healthcheck(place: Unit, value: dict[str, Any], at: Where) -> None:
    if not value:
        place.line("HealthCmd", "none", at)
        return
    place.line("HealthCmd", _json(_test(value["test"])), at.at("test"))
    keys = {"interval": "HealthInterval", "timeout": "HealthTimeout", "start_period": "HealthStartPeriod"}
    for name, key in keys.items():
        if value[name] != HEALTHCHECK_DEFAULTS[name]:
            place.line(key, spelling.duration(value[name]), at.at(name))
    if value["retries"] != HEALTHCHECK_DEFAULTS["retries"]:
        place.line("HealthRetries", str(value["retries"]), at.at("retries"))
    if value["start_interval"] != HEALTHCHECK_DEFAULTS["start_interval"]:
        at.at("start_interval").lacks(value["start_interval"], "podman checks as often in the start period as later")


def _stop_timeout(place: Unit, value: float, at: Where) -> None:
    if value != int(value):
        at.lacks(value, "podman counts whole seconds")
    seconds = -int(-value // 1)
    place.line("StopTimeout", str(seconds), at)
    if seconds + _STOP_MARGIN > _STOP_DEFAULT:
        place.plain("Service", "TimeoutStopSec", seconds + _STOP_MARGIN)


def _secrets(place: Unit, value: list[dict[str, Any]], at: Where) -> None:
    for secret in value:
        name = stem(place.stack, place.names.of(place.owner[1], secret["name"]))
        words = [f"{key}={secret[key]}" for key in ("uid", "gid") if secret[key]]
        words += [f"mode={spelling.mode(secret['mode'])}", f"target={secret['name']}"]
        place.words("Secret", ",".join([name, "type=mount", *words]))


_LOG_DRIVERS = {"file": "k8s-file", "journald": "journald", "none": "none"}


def _log_options(place: Unit, value: dict[str, Any], at: Where) -> None:
    driver = place.spec.get("log_driver")
    if driver in ("journald", "none"):
        at.lacks(value, f"they are for files, and log_driver is {driver}")
        return
    if driver is None:
        place.line("LogDriver", "k8s-file", at)
    if "max_size" in value:
        place.line("LogOpt", f"max-size={spelling.size(value['max_size'])}", at)
    if value.get("max_file", 1) != 1:
        at.at("max_file").lacks(value["max_file"], "podman keeps one file")


def _depends_on(place: Unit, value: dict[str, str], at: Where) -> None:
    for name, condition in value.items():
        if place.stack.containers[name].get("state") in STOPPED:
            at.at(name).lacks(condition, f"{name} is declared as not running, and systemd would start it")
            continue
        for key in ("Requires", "After"):
            place.plain("Unit", key, f"{stem(place.stack, name)}.service")


CONTAINER: Rules = {
    "image": together("`Image=`"),
    "command": Rule("`Exec=`", _command, "no empty words"),
    "entrypoint": Rule("`Entrypoint=`", _entrypoint),
    "env": pairs("Environment"),
    "user": Rule("`User=`, `Group=`", _user),
    "groups": lines("GroupAdd"),
    "working_dir": line("WorkingDir"),
    "hostname": together("`HostName=`"),
    "domainname": lacks("podman sets no domain name"),
    "labels": pairs("Label"),
    "networks": Rule("`Network=`", _networks),
    "network_mode": Rule("`Network=`", _network_mode),
    "published_ports": lines("PublishPort", _port),
    "dns_servers": lines("DNS"),
    "dns_search_domains": lines("DNSSearch"),
    "dns_opts": lines("DNSOption"),
    "etc_hosts": Rule("`AddHost=`", _etc_hosts),
    "volumes": Rule("`Volume=`", _volumes),
    "tmpfs": Rule("`Tmpfs=`", _tmpfs, "no `uid`, `gid`, `nr_inodes`"),
    "shm_size": line("ShmSize", lambda value: str(spelling.size(value))),
    "read_only": Rule("`ReadOnly=`", _read_only),
    "memory": argument("--memory", spelling.size),
    "memory_reservation": argument("--memory-reservation", spelling.size),
    "memory_swap": argument("--memory-swap", spelling.size),
    "memory_high": unified("memory.high"),
    "memory_min": unified("memory.min"),
    "oom_group": unified("memory.oom.group"),
    "hugepage_limits": Rule("`PodmanArgs=--cgroup-conf=hugetlb.SIZE.max`", _hugepages),
    "cpus": argument("--cpus", spelling.number),
    "cpu_shares": argument("--cpu-shares"),
    "cpuset_cpus": argument("--cpuset-cpus"),
    "cpuset_mems": argument("--cpuset-mems"),
    "pids_limit": together("`PidsLimit=`"),
    "blkio_weight": argument("--blkio-weight"),
    "device_read_bps": _rates("--device-read-bps"),
    "device_write_bps": _rates("--device-write-bps"),
    "device_read_iops": _rates("--device-read-iops"),
    "device_write_iops": _rates("--device-write-iops"),
    "oom_score_adj": argument("--oom-score-adj"),
    "ulimits": lines("Ulimit", _ulimit),
    "sysctls": pairs("Sysctl"),
    "devices": lines("AddDevice"),
    "capabilities": together("`AddCapability=`", "podman's default set, made ours"),
    "cap_drop": together("`DropCapability=`", "podman's default set, made ours"),
    "privileged": Rule("`PodmanArgs=--privileged`", lambda place, value, at: place.argument("--privileged")),
    "security_opts": Rule("`SecurityLabelType=` and others", _security_opts),
    "pid_mode": argument("--pid"),
    "ipc_mode": argument("--ipc"),
    "uts": argument("--uts"),
    "cgroupns_mode": argument("--cgroupns"),
    "restart_policy": Rule("`Restart=`", _restart, "`unless-stopped` is `always`"),
    "restart_retries": together("`StartLimitBurst=`"),
    "healthcheck": Rule("`HealthCmd=`, `HealthInterval=` and others", _healthcheck, "no `start_interval`"),
    "stop_signal": line("StopSignal", spelling.signal_name),
    "stop_timeout": Rule("`StopTimeout=`", _stop_timeout, "whole seconds"),
    "update_order": lacks("systemd stops a unit before it starts it anew"),
    "drain_timeout": lacks("systemd does not wait for connections to end"),
    "init": true("RunInit"),
    "secrets": Rule("`Secret=`", _secrets, "a podman secret of that name; its content is never written"),
    "log_driver": Rule(
        "`LogDriver=`", lambda place, value, at: place.line("LogDriver", _LOG_DRIVERS[value], at), even_default=True
    ),
    "log_options": Rule("`LogOpt=max-size`", _log_options, "no `max_file`"),
    "state": together("`[Install]`", "none for one that is not to run"),
    "paused": lacks("nothing in it is paused"),
    "pull": line("Pull"),
    "depends_on": Rule("`Requires=`, `After=`", _depends_on, "`Notify=healthy`, `Type=oneshot` of the other one"),
}


def _container(stack: Stack, name: str, names: Names, losses: Losses) -> Unit:
    spec = stack.containers[name]
    body = stack.images.get(spec["image"], {})
    place = Unit("Container", ("containers", name), stack, names, spec, losses)
    at = Where(losses, place.owner, f"containers.{name}")
    place.plain("Unit", "Description", f"Container {name} of the stack {stack.name}")
    place.line("ContainerName", name, at)
    place.line("Image", quadlet_parts.image_name(stack, spec["image"]), at.at("image"))
    _hostname(place, at.at("hostname"))
    write(CONTAINER, OPTIONS["containers"], spec, place, at)
    if spec.get("networks") is None and not spec.get("network_mode"):
        _networks(place, stack.attached(name), at.at("networks"))
    if body.get("pull") and not spec.get("pull") and quadlet_parts.kind_of(body) != "build":
        place.line("Pull", body["pull"], at)
    place.line("PidsLimit", str(spec.get("pids_limit") or -1), at)  # podman would set one
    if spec.get("memory") and not spec.get("memory_swap"):
        place.argument("--memory-swap=-1")  # podman would take twice the memory
    _privileges(place, at)
    _awaited(place, stack.awaited(name))
    # What others wait for to end is starting for as long as it runs.
    limit = "infinity" if "completed" in stack.awaited(name) else _START_TIMEOUT
    place.plain("Service", "TimeoutStartSec", limit)
    if spec.get("state") not in STOPPED:
        place.plain("Install", "WantedBy", "multi-user.target default.target")
    return place


def _hostname(place: Unit, at: Where) -> None:
    declared = place.spec.get("hostname")
    if place.spec.get("uts") != "host":
        place.line("HostName", declared or place.owner[1], at)
    elif declared:
        at.lacks(declared, "podman refuses a host name where that of the host is used")


def _privileges(place: Unit, at: Where) -> None:
    if place.spec.get("privileged"):
        if place.spec.get("cap_drop"):
            at.at("cap_drop").lacks(place.spec["cap_drop"], "podman takes nothing from a container that is privileged")
        return
    place.plain("Container", "NoNewPrivileges", "true")
    keys = ("AddCapability", "DropCapability")
    for key, names in zip(keys, spelling.capabilities(place.spec, spelling.PODMAN_CAPS)):
        if names:
            place.plain("Container", key, " ".join(name if name == "ALL" else f"CAP_{name}" for name in names))


def _awaited(place: Unit, conditions: set[str]) -> None:
    if "completed" in conditions:
        place.plain("Service", "Type", "oneshot")
        place.plain("Service", "RemainAfterExit", "yes")
    elif "healthy" in conditions:
        place.plain("Container", "Notify", "healthy")


# the whole


def export(stack: Stack, losses: Losses) -> dict[str, str]:
    """File names and their texts, for /etc/containers/systemd."""
    if not stack.name:
        raise OptionError("name", None, "is missing; the names of units begin with the stack's")
    names = Names(stack)
    used = {network["name"] for name in stack.containers for network in stack.attached(name)}
    networks = {**stack.networks, **({"default": {}} if "default" in used else {})}
    units: dict[str, Unit] = {}
    for name in stack.containers:
        units[f"{stem(stack, name)}.container"] = _container(stack, name, names, losses)
    for name in networks:
        units[f"{stem(stack, name)}.network"] = quadlet_parts.network(stack, name, names, losses)
    for name in stack.volumes:
        units[f"{stem(stack, name)}.volume"] = quadlet_parts.volume(stack, name, names, losses)
    for name, body in stack.images.items():
        unit = quadlet_parts.image(stack, name, names, losses)
        if quadlet_parts.kind_of(body):
            units[f"{stem(stack, name)}.{quadlet_parts.kind_of(body)}"] = unit
    return {**_texts(units, losses), **names.texts}


def _texts(units: dict[str, Unit], losses: Losses) -> dict[str, str]:
    """Each with what was left out of it; what has no file of its own is told in the first."""
    homeless = [loss.owner for loss in losses.found if loss.owner not in {unit.owner for unit in units.values()}]
    texts = {}
    for index, (name, unit) in enumerate(units.items()):
        texts[name] = unit.text(losses.of(unit.owner, *(homeless if index == 0 else ())))
    return texts
