# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stack as a compose file (the Compose Specification, compose-spec.io), one mapping."""

from __future__ import annotations

from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._network.model import parse_port
from ansible_collections.vessel.host.plugins.module_utils._options.container import HEALTHCHECK_DEFAULTS, volume_parts

from . import compose_parts, spelling
from .declaration import OPTIONS, STOPPED, Stack
from .losses import Losses, Where
from .secrets import Names
from .service import LEFT_OUT, Service, key
from .table import Rule, Rules, lacks, together, write

PROPAGATION = ("private", "rprivate", "slave", "rslave", "shared", "rshared")

# services


def _ports(place: Service, value: list[str], at: Where) -> None:
    place.put("ports", [_port(text, at) for text in value])


def _port(text: str, at: Where) -> str:
    (port,) = parse_port(text, at.path)
    if port.host_port:
        return str(port)
    # Without an address nor a host's port docker has no colon at all.
    return str(port) if port.host_ip != "0.0.0.0" else f"{port.container_port}/{port.protocol}"


def _networks(place: Service, value: list[dict[str, Any]], at: Where) -> None:
    found: dict[str, Any] = {}
    for index, network in enumerate(value):
        entry = {name: network[name] for name in ("ipv4_address", "ipv6_address", "mac_address") if network.get(name)}
        if network["aliases"]:
            entry["aliases"] = network["aliases"]
        if len(value) > 1:
            entry["priority"] = len(value) - index  # the highest is joined first, and has the default route
        found[network["name"]] = entry or None
    if found:
        place.put("networks", found)
    else:
        place.put("network_mode", "none")


def _joined(path: str) -> Rule:
    """``container:NAME`` is ``service:NAME`` where the stack has it."""

    def writer(place: Service, value: str, at: Where) -> None:
        other = place.stack.joined(value)
        place.put(path, f"service:{other}" if other else value)

    return Rule(f"`{path}`", writer)


def _volumes(place: Service, value: list[str], at: Where) -> None:
    place.put("volumes", [_volume(text, at.item(index)) for index, text in enumerate(value)])


def _volume(text: str, at: Where) -> dict[str, Any]:
    source, target, words = volume_parts(text)
    bind = source.startswith("/")
    entry: dict[str, Any] = {"type": "bind" if bind else "volume", "source": source, "target": target}
    if "ro" in words:
        entry["read_only"] = True
    if bind:
        entry["bind"] = {"create_host_path": False}  # here it has to be there
    for word in words:
        if word in ("ro", "rw") or (word == "z" and not bind):  # a volume with a name has that label unasked
            continue
        if word in PROPAGATION and bind:
            entry["bind"]["propagation"] = word
        elif word in ("z", "Z") and bind:
            entry["bind"]["selinux"] = word
        else:
            at.lacks(text, f"a mount of the type {entry['type']} has no word for {word}")
    return entry


def _ulimits(value: list[str]) -> dict[str, Any]:
    parts = [text.split(":") for text in value]
    return {name: {"soft": int(soft), "hard": int(hard)} for name, soft, hard in parts}


def _security_opts(place: Service, value: list[str], at: Where) -> None:
    for text in value:
        if text.startswith("label=filetype:"):
            at.lacks(text, "docker knows no type for a container's files")
        else:
            place.put("security_opt", [text])


def _restart(place: Service, value: str, at: Where) -> None:
    retries = place.spec.get("restart_retries") if value == "on-failure" else 0
    place.put("restart", f"{value}:{retries}" if retries else value)


def _healthcheck(place: Service, value: dict[str, Any], at: Where) -> None:
    if not value:
        place.put("healthcheck", {"disable": True})
        return
    check: dict[str, Any] = {"test": value["test"]}
    for name, default in HEALTHCHECK_DEFAULTS.items():
        if value[name] != default:
            check[name] = value[name] if name == "retries" else spelling.duration(value[name])
    place.put("healthcheck", check)


def _secrets(place: Service, value: list[dict[str, Any]], at: Where) -> None:
    entries = []
    for secret in value:
        entry = {"source": place.names.of(place.name, secret["name"]), "target": secret["name"]}
        entry.update({name: str(secret[name]) for name in ("uid", "gid") if secret[name]})
        entries.append({**entry, "mode": spelling.mode(secret["mode"])})
    place.put("secrets", entries)


_LOG_DRIVERS = {"file": "json-file", "journald": "journald", "none": "none"}


def _log_options(place: Service, value: dict[str, Any], at: Where) -> None:
    driver = place.spec.get("log_driver", "file")
    if driver != "file":
        at.lacks(value, f"they are for files, and log_driver is {driver}")
        return
    place.put("logging.driver", _LOG_DRIVERS[driver])
    if "max_size" in value:
        place.put("logging.options", {"max-size": str(spelling.size(value["max_size"]))})
    if "max_file" in value:
        place.body["logging"].setdefault("options", {})["max-file"] = str(value["max_file"])


_CONDITIONS = {
    "started": "service_started",
    "healthy": "service_healthy",
    "completed": "service_completed_successfully",
}


def _depends_on(place: Service, value: dict[str, str], at: Where) -> None:
    found = {}
    for name, condition in value.items():
        if place.stack.containers[name].get("state") in STOPPED:
            at.at(name).lacks(condition, f"{name} is declared as not running, and compose would start nothing for it")
        else:
            found[name] = {"condition": _CONDITIONS[condition]}
    if found:
        place.put("depends_on", found)


def _state(place: Service, value: str, at: Where) -> None:
    if value in STOPPED:
        place.put("profiles", ["stopped"])


CONTAINER: Rules = {
    "image": key("image"),
    "command": key("command"),
    "entrypoint": key("entrypoint"),
    "env": key("environment"),
    "user": key("user"),
    "groups": key("group_add"),
    "working_dir": key("working_dir"),
    "hostname": together("`hostname`"),
    "domainname": key("domainname"),
    "labels": key("labels"),
    "networks": Rule("`networks`", _networks, "the first has the highest `priority`"),
    "network_mode": _joined("network_mode"),
    "published_ports": Rule("`ports`", _ports),
    "dns_servers": key("dns"),
    "dns_search_domains": key("dns_search"),
    "dns_opts": key("dns_opt"),
    "etc_hosts": key("extra_hosts", lambda value: [f"{name}:{address}" for name, address in value.items()]),
    "volumes": Rule("`volumes`", _volumes, "no `noexec`, `nosuid`, `nodev`"),
    "tmpfs": key("tmpfs", lambda value: [spelling.tmpfs(text) for text in value]),
    "shm_size": key("shm_size", spelling.size),
    "read_only": key("read_only"),
    "memory": key("mem_limit", spelling.size),
    "memory_reservation": key("mem_reservation", spelling.size),
    "memory_swap": key("memswap_limit", spelling.size),
    "memory_high": lacks("it has no word for memory.high of cgroup v2"),
    "memory_min": lacks("it has no word for memory.min of cgroup v2"),
    "oom_group": lacks("it has no word for memory.oom.group of cgroup v2"),
    "hugepage_limits": lacks("it has no word for limits of huge pages"),
    "cpus": key("cpus", spelling.number),
    "cpu_shares": key("cpu_shares"),
    "cpuset_cpus": key("cpuset"),
    "cpuset_mems": lacks("it has no word for memory nodes"),
    "pids_limit": key("pids_limit"),
    "blkio_weight": key("blkio_config.weight"),
    "device_read_bps": key("blkio_config.device_read_bps"),
    "device_write_bps": key("blkio_config.device_write_bps"),
    "device_read_iops": key("blkio_config.device_read_iops"),
    "device_write_iops": key("blkio_config.device_write_iops"),
    "oom_score_adj": key("oom_score_adj"),
    "ulimits": key("ulimits", _ulimits),
    "sysctls": key("sysctls"),
    "devices": key("devices"),
    "capabilities": together("`cap_add`", "docker's default set, made ours"),
    "cap_drop": together("`cap_drop`", "docker's default set, made ours"),
    "privileged": key("privileged"),
    "security_opts": Rule("`security_opt`", _security_opts, "no `label=filetype`"),
    "pid_mode": _joined("pid"),
    "ipc_mode": _joined("ipc"),
    "uts": key("uts"),
    "cgroupns_mode": key("cgroup"),
    "restart_policy": Rule("`restart`", _restart),
    "restart_retries": together("`restart: on-failure:N`"),
    "healthcheck": Rule("`healthcheck`", _healthcheck),
    "stop_signal": key("stop_signal", spelling.signal_name),
    "stop_timeout": key("stop_grace_period", spelling.duration),
    "update_order": key("deploy.update_config.order", lambda value: value.replace("_", "-")),
    "drain_timeout": lacks("docker does not wait for connections to end"),
    "init": key("init"),
    "secrets": Rule("`secrets`", _secrets, "a file beside the compose file; its content is never written"),
    "log_driver": Rule(
        "`logging.driver`", lambda place, value, at: place.put("logging.driver", _LOG_DRIVERS[value]), even_default=True
    ),
    "log_options": Rule("`logging.options`", _log_options),
    "state": Rule("`profiles: [stopped]`", _state, "of one that is not to run"),
    "paused": lacks("nothing in it is paused"),
    "pull": key("pull_policy"),
    "depends_on": Rule("`depends_on`", _depends_on),
}


def _service(stack: Stack, name: str, names: Names, losses: Losses) -> dict[str, Any]:
    spec = stack.containers[name]
    place = Service(name, stack, names, spec, {"container_name": name})
    at = Where(losses, ("containers", name), f"containers.{name}")
    _hostname(place, at.at("hostname"))
    write(CONTAINER, OPTIONS["containers"], spec, place, at)
    if spec.get("memory") and not spec.get("memory_swap"):
        place.put("memswap_limit", -1)  # docker would take twice the memory
    compose_parts.image(place, losses)
    _privileges(place, at)
    return place.body


def _hostname(place: Service, at: Where) -> None:
    """The container's name, which docker would not take. Who shares another's host name has none of its own."""
    declared = place.spec.get("hostname")
    mode = place.spec.get("network_mode") or ""
    if place.spec.get("uts") != "host" and not mode.startswith("container:"):
        place.put("hostname", declared or place.name)
    elif declared:
        at.lacks(declared, "docker refuses a host name where that of the host or of another container is used")


def _privileges(place: Service, at: Where) -> None:
    added, dropped = spelling.capabilities(place.spec, spelling.DOCKER_CAPS)
    if place.spec.get("privileged"):
        if place.spec.get("cap_drop"):
            at.at("cap_drop").lacks(place.spec["cap_drop"], "docker takes nothing from a container that is privileged")
        return
    place.put("security_opt", ["no-new-privileges:true"])
    if added:
        place.put("cap_add", added)
    if dropped:
        place.put("cap_drop", dropped)


# the whole


def export(stack: Stack, losses: Losses) -> dict[str, Any]:
    """The file's content. Values are data: what compose would take for a variable is escaped."""
    names = Names(stack)
    services = {name: _service(stack, name, names, losses) for name in stack.containers}
    compose_parts.images_of_none(stack, names, losses)
    found: dict[str, Any] = {"name": stack.name} if _is_project(stack, losses) else {}
    found["services"] = services
    networks = {name: compose_parts.network(name, spec, losses) for name, spec in stack.networks.items()}
    volumes = {name: compose_parts.volume(name, spec, losses) for name, spec in stack.volumes.items()}
    used = (network["name"] for name in stack.containers for network in stack.attached(name))
    found["networks"] = {**_external(used, networks, "default"), **networks}
    found["volumes"] = {**_external(_sources(stack), volumes), **volumes}
    found["secrets"] = names.files()
    found = {key: _literal(value) for key, value in found.items() if value}
    if losses.found:
        found[LEFT_OUT] = [str(loss) for loss in losses.found]
    return found


def _is_project(stack: Stack, losses: Losses) -> bool:
    """Is the stack's name one of a project (compose-spec, "name")?"""
    if not stack.name:
        return False
    fits = set(stack.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    if not fits:
        Where(losses, ("stack", stack.name), "name").lacks(stack.name, "a project has lower case, digits, _ and -")
    return fits


def _sources(stack: Stack) -> list[str]:
    sources = [volume_parts(text)[0] for body in stack.containers.values() for text in body.get("volumes") or ()]
    return [source for source in sources if not source.startswith("/")]


def _external(used: Any, declared: dict[str, Any], own: str = "") -> dict[str, Any]:
    """What is used and declared elsewhere."""
    return {name: {"name": name, "external": True} for name in used if name not in declared and name != own}


def _literal(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return value.replace("$", "$$") if isinstance(value, str) else value
