# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service's attributes as the options of its containers."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._options.container import BY_NAME

from . import envfile, mounts, networks, ports
from .errors import NOTHING
from .merge import as_list, as_names, as_pairs, host_entries
from .project import At, Project
from .values import is_true, text, texts

Options = dict[str, Any]
_CPU_PERIOD = 100_000


@dataclass(frozen=True)
class Replica:
    """One container of a service; ``number`` counts from 0."""

    project: Project
    service: str
    number: int
    count: int

    @property
    def body(self) -> dict[str, Any]:
        return self.project.services[self.service]

    @property
    def at(self) -> At:
        return self.project.at("services", self.service)

    @property
    def name(self) -> str:
        own = self.body.get("container_name")
        return own or f"{self.project.name}-{self.service}-{self.number + 1}"


def replicas(project: Project, service: str) -> list[Replica]:
    """Its containers, by what scale or deploy.replicas says."""
    body, at = project.services[service], project.at("services", service)
    deploy = body.get("deploy") or {}
    given = {"scale": body.get("scale"), "deploy.replicas": deploy.get("replicas")}
    counts = {name: _whole(value, at.below(*name.split("."))) for name, value in given.items() if value is not None}
    if len(set(counts.values())) > 1:
        raise at.below("scale").error(body["scale"], f"is not what deploy.replicas says, {deploy['replicas']}")
    count = next(iter(counts.values()), 1)
    if deploy.get("mode") == "global" and counts:
        raise at.below("deploy", "mode").error("global", "is one container on the host; leave replicas out")
    if count > 1 and body.get("container_name"):
        raise at.below("container_name").error(
            body["container_name"], f"is one name for {count} containers; leave it out"
        )
    return [Replica(project, service, number, count) for number in range(count)]


def _whole(value: Any, at: At) -> int:
    try:
        count = int(value)
    except ValueError:
        count = -1
    if count < 0:
        raise at.error(value, "is no number of containers")
    return count


def options(replica: Replica) -> Options:
    """The options of vessel.host.container, but for its image's, which images.py knows."""
    result: Options = {}
    for name, value in replica.body.items():
        if name in DIRECT and value is not None:
            option, convert = DIRECT[name]
            found = {option: convert(value)}
        elif name in HANDLERS and value is not None:
            found = HANDLERS[name](replica, value, replica.at.below(name))
        else:
            continue
        _add(result, found, replica.at.below(name))
    if not replica.body.get("networks") and not replica.body.get("network_mode"):
        result.update(networks.on_default(replica))
    env = _environment(replica)
    labels = _labels(replica)
    return {**result, **({"env": env} if env else {}), **({"labels": labels} if labels else {})}


def _add(result: Options, found: Options, at: At) -> None:
    for option, value in found.items():
        if option == "depends_on":
            # To be linked to asks for no more than a start; what is said of the same otherwise asks for that too.
            more = {name: condition for name, condition in value.items() if condition != "started"}
            result[option] = {**value, **result.get(option, {}), **more}
        elif option in ("volumes", "tmpfs") and option in result:
            result[option] = [*result[option], *value]
        else:
            at.checked(BY_NAME[option], value)
            if option in result and BY_NAME[option].parse(result[option], "") != BY_NAME[option].parse(value, ""):
                raise at.error(value, f"is {result[option]!r} by another attribute; both become the option {option}")
            result[option] = value


def _environment(replica: Replica) -> dict[str, str]:
    project, at = replica.project, replica.at
    found: dict[str, str] = {}
    for index, entry in enumerate(as_list(replica.body.get("env_file"))):
        given = {"path": entry} if isinstance(entry, str) else entry
        found.update(_env_file(project, given, at.below("env_file", index), found))
    for name, value in as_pairs(replica.body.get("environment")).items():
        known = project.variables.get(name) if value is None else text(value)
        if known is None:
            found.pop(name, None)
        else:
            found[name] = known
    at.below("environment").checked(BY_NAME["env"], found)
    return found


def _env_file(project: Project, entry: dict[str, Any], at: At, before: dict[str, str]) -> dict[str, str]:
    content = mounts.read(project, entry["path"], at, missing=not is_true(entry.get("required", True)))
    if content is None:
        return {}
    path = mounts.on_controller(project, entry["path"])
    if entry.get("format") == "raw":
        return envfile.parse_raw(content, path)
    return envfile.parse(content, path, project.variables.over(before).get)


def _labels(replica: Replica) -> dict[str, str]:
    found: dict[str, str] = {}
    for index, path in enumerate(as_list(replica.body.get("label_file"))):
        content = mounts.read(replica.project, path, replica.at.below("label_file", index))
        found.update(envfile.parse(content or "", mounts.on_controller(replica.project, path), lambda name: None))
    return {**found, **texts(replica.body.get("labels"))}


# one attribute to one option


def _texts(value: Any) -> list[str]:
    return [text(item) for item in as_list(value)]


def _words(value: Any) -> list[str]:
    return list(value) if isinstance(value, list) else shlex.split(value)


def _same(value: Any) -> Any:
    return value


DIRECT: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "user": ("user", text),
    "group_add": ("groups", _texts),
    "working_dir": ("working_dir", text),
    "hostname": ("hostname", text),
    "domainname": ("domainname", text),
    "dns": ("dns_servers", as_list),
    "dns_search": ("dns_search_domains", as_list),
    "dns_opt": ("dns_opts", as_list),
    "tmpfs": ("tmpfs", as_list),
    "shm_size": ("shm_size", _same),
    "read_only": ("read_only", _same),
    "stop_signal": ("stop_signal", _same),
    "stop_grace_period": ("stop_timeout", _same),
    "init": ("init", _same),
    "cpus": ("cpus", _same),
    "cpu_shares": ("cpu_shares", _same),
    "cpuset": ("cpuset_cpus", _same),
    "mem_limit": ("memory", _same),
    "mem_reservation": ("memory_reservation", _same),
    "memswap_limit": ("memory_swap", _same),
    "oom_score_adj": ("oom_score_adj", _same),
    "pids_limit": ("pids_limit", _same),
    "sysctls": ("sysctls", texts),
    "cap_add": ("capabilities", as_list),
    "cap_drop": ("cap_drop", as_list),
    "privileged": ("privileged", _same),
    "cgroup": ("cgroupns_mode", _same),
    "uts": ("uts", _same),
}


# attributes that need a look at more than themselves


def _command(replica: Replica, value: Any, at: At) -> Options:
    try:
        return {str(at.path[-1]): _words(value)}
    except ValueError as error:
        raise at.error(value, f"can't be split into words ({str(error).lower()})", "write it as a list") from None


def _ports(replica: Replica, value: Any, at: At) -> Options:
    found = []
    for index, port in enumerate(value):
        try:
            found.append(ports.published(port, replica.number, replica.count))
        except ValueError as error:
            raise at.below(index).error(port, str(error)) from None
        at.below(index).item(BY_NAME["published_ports"], found[-1])
    return {"published_ports": found}


def _extra_hosts(replica: Replica, value: Any, at: At) -> Options:
    found: dict[str, str] = {}
    for name, address in host_entries(value):
        if address == "host-gateway":
            hint = "give the network a gateway, and name that address"
            raise at.error(f"{name}:{address}", "has an address that is known when the network is made", hint)
        if found.setdefault(name, address) != address:
            raise at.error(f"{name}:{address}", f"names {name} twice; a name has one address here")
    return {"etc_hosts": found}


def _links(replica: Replica, value: Any, at: At) -> Options:
    needs: dict[str, str] = {}
    for index, link in enumerate(value):
        service, dummy, alias = link.partition(":")
        others = _containers(replica, service, at.below(index))
        if alias and alias != service:
            hint = f"write it in the aliases of a network of services.{service}"
            raise at.below(index).error(link, "gives a name that this service alone would know", hint)
        needs.update(dict.fromkeys(others, "started"))
    return {"depends_on": needs}


def _containers(replica: Replica, service: str, at: At) -> list[str]:
    if service not in replica.project.services:
        raise at.error(
            service, f"is no service that is enabled; there are {', '.join(sorted(replica.project.services))}"
        )
    return [other.name for other in replicas(replica.project, service)]


_CONDITIONS = {
    "service_started": "started",
    "service_healthy": "healthy",
    "service_completed_successfully": "completed",
}


def _depends_on(replica: Replica, value: Any, at: At) -> Options:
    needs: dict[str, str] = {}
    for service, how in as_names(value).items():
        if service in replica.project.services:
            condition = _CONDITIONS[(how or {}).get("condition") or "service_started"]
            needs.update(dict.fromkeys(_containers(replica, service, at.below(service)), condition))
    return {"depends_on": needs}


def _joined(option: str) -> Callable[[Replica, Any, At], Options]:
    """A namespace of its own, the host's, or that of another."""

    def handle(replica: Replica, value: Any, at: At) -> Options:
        kind, dummy, name = str(value).partition(":")
        if kind != "service":
            return {option: value}
        others = _containers(replica, name, at)
        if len(others) != 1:
            raise at.error(value, f"has {len(others)} containers; it can join one")
        return {option: f"container:{others[0]}", "depends_on": {others[0]: "started"}}

    return handle


def _network_mode(replica: Replica, value: Any, at: At) -> Options:
    if replica.body.get("networks"):
        raise at.error(value, "can't be with networks")
    return {} if value in ("bridge", "default") else _joined("network_mode")(replica, value, at)


def _restart(replica: Replica, value: Any, at: At) -> Options:
    policy, dummy, retries = ("no" if value is False else str(value)).partition(":")
    if retries and policy != "on-failure":
        raise at.error(value, "has a number, which only on-failure:N takes")
    return {"restart_policy": policy, **({"restart_retries": retries} if retries else {})}


def _healthcheck(replica: Replica, value: Any, at: At) -> Options:
    if is_true(value.get("disable")):
        return {"healthcheck": {"test": ["NONE"]}}
    found = {name: item for name, item in value.items() if name != "disable" and not name.startswith("x-")}
    if not found:
        return {}
    if not found.get("test"):
        hint = "write its command here"
        raise at.below("test").error(NOTHING, "is missing; the image's own check is taken whole or not at all", hint)
    return {"healthcheck": found}


def _logging(replica: Replica, value: Any, at: At) -> Options:
    driver = {"json-file": "file", "local": "file"}.get(value.get("driver"), value.get("driver"))
    given = {name: item for name, item in (value.get("options") or {}).items() if item is not None}
    at.below("options").checked(BY_NAME["log_options"], given)
    return {**({"log_driver": driver} if driver else {}), **({"log_options": given} if given else {})}


def _ulimits(replica: Replica, value: Any, at: At) -> Options:
    limits = []
    for name, limit in value.items():
        both = [limit.get("soft"), limit.get("hard")] if isinstance(limit, dict) else [limit]
        if None in both:
            raise at.below(name).error(limit, "needs both soft and hard")
        limits.append(":".join([name, *map(text, both)]))
        at.below(name).item(BY_NAME["ulimits"], limits[-1])
    return {"ulimits": limits}


def _devices(replica: Replica, value: Any, at: At) -> Options:
    return {"devices": [_device(device) for device in value]}


def _device(device: Any) -> str:
    if not isinstance(device, dict):
        return str(device)
    source = device["source"]
    return ":".join([source, device.get("target") or source, device.get("permissions") or "rwm"])


def _security_opt(replica: Replica, value: Any, at: At) -> Options:
    """That no program gains privileges holds for every container."""
    plain = ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true")
    return {"security_opts": [option for option in value if option not in plain]}


def _cpu_quota(replica: Replica, value: Any, at: At) -> Options:
    try:
        quota = int(value)
    except ValueError:
        raise at.error(value, "is no number of microseconds") from None
    return {"cpus": quota / _CPU_PERIOD} if quota > 0 else {}


def _cpu_period(replica: Replica, value: Any, at: At) -> Options:
    if text(value) not in ("0", str(_CPU_PERIOD)):
        raise at.error(value, f"can't be set; it is {_CPU_PERIOD} microseconds", "give cpus")
    return {}


def _blkio(replica: Replica, value: Any, at: At) -> Options:
    return {"blkio_weight" if name == "weight" else name: item for name, item in value.items()}


_DEPLOYED = {
    "cpus": ("resources", "limits", "cpus"),
    "memory": ("resources", "limits", "memory"),
    "pids_limit": ("resources", "limits", "pids"),
    "memory_reservation": ("resources", "reservations", "memory"),
    "restart_policy": ("restart_policy", "condition"),
    "restart_retries": ("restart_policy", "max_attempts"),
    "update_order": ("update_config", "order"),
}


def _deploy(replica: Replica, value: Any, at: At) -> Options:
    resources = value.get("resources") or {}
    limits, reserved = resources.get("limits") or {}, resources.get("reservations") or {}
    names = {"cpus": "cpus", "memory": "memory", "pids": "pids_limit"}
    found = {option: limits[name] for name, option in names.items() if limits.get(name) is not None}
    if reserved.get("memory") is not None:
        found["memory_reservation"] = reserved["memory"]
    policy = value.get("restart_policy") or {}
    if policy:
        condition = policy.get("condition") or "any"
        found["restart_policy"] = {"none": "no", "any": "always"}.get(condition, condition)
        attempts = policy.get("max_attempts")
        if attempts is not None and condition != "on-failure":
            problem = f"counts restarts of on-failure, and the condition is {condition}"
            raise at.below("restart_policy", "max_attempts").error(attempts, problem)
        found.update({"restart_retries": attempts} if attempts is not None else {})
    order = (value.get("update_config") or {}).get("order")
    if order is not None:
        found["update_order"] = order.replace("-", "_")
    for option, item in found.items():
        at.below(*_DEPLOYED[option]).checked(BY_NAME[option], item)
    return found


HANDLERS: dict[str, Callable[[Replica, Any, At], Options]] = {
    "command": _command,
    "entrypoint": _command,
    "ports": _ports,
    "extra_hosts": _extra_hosts,
    "links": _links,
    "depends_on": _depends_on,
    "networks": networks.on,
    "network_mode": _network_mode,
    "pid": _joined("pid_mode"),
    "ipc": _joined("ipc_mode"),
    "restart": _restart,
    "healthcheck": _healthcheck,
    "logging": _logging,
    "ulimits": _ulimits,
    "devices": _devices,
    "security_opt": _security_opt,
    "cpu_quota": _cpu_quota,
    "cpu_period": _cpu_period,
    "blkio_config": _blkio,
    "deploy": _deploy,
    "volumes": mounts.volumes,
    "secrets": mounts.secrets,
}
