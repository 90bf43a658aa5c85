# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services and hosts as users write them, into values; what can't be is refused with its path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional

from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError
from ansible_collections.vessel.host.plugins.module_utils._network.model import Port, parse_port
from ansible_collections.vessel.host.plugins.module_utils._options.container import parse_ports
from ansible_collections.vessel.host.plugins.module_utils._options.parse import (
    choice,
    integer,
    listing,
    mapping,
    number,
    parse_bool,
    parse_name,
    parse_str,
    parse_word,
    size,
)
from ansible_collections.vessel.host.plugins.module_utils._options.record import Option, group, parse_options

from . import query
from .model import (
    EFFECTS,
    HOST,
    STRATEGIES,
    Host,
    Preference,
    Requests,
    Running,
    Selector,
    Service,
    Spread,
    Taint,
    Term,
    Toleration,
)

REPLICAS_MAX = 100_000
_NAME_MAX = 63  # of a container
_cpus = number()
_memory = size()


def services(given: Any, strategy: str = "spread") -> list[Service]:
    """Sorted by name; ``strategy`` is that of those who name none."""
    choice(*STRATEGIES)(strategy, "strategy")
    bodies = mapping(_mapping, parse_name)(given, "services")
    found = [_service(name, body, strategy) for name, body in sorted(bodies.items())]
    for service in found:
        _check_names(service, bodies)
    return found


def hosts(given: Any) -> list[Host]:
    """Sorted by name."""
    bodies = mapping(_mapping)(given, "hosts")
    if not bodies:
        raise OptionError("hosts", given, "has no host; name one at least")
    return [_host(name, body) for name, body in sorted(bodies.items())]


def _mapping(value: Any, option: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise OptionError(option, value, "is not a mapping; write option: value")
    return value


# what both have


def parse_host_ports(value: Any, option: str) -> tuple[Port, ...]:
    """``[IP:]PORT[-PORT][/PROTOCOL]``, of the host; a number is a port."""
    ports: list[Port] = []
    for index, item in enumerate(value if isinstance(value, list) else [value]):
        where = f"{option}[{index}]"
        if isinstance(item, bool) or not isinstance(item, (int, str)):
            raise OptionError(where, item, "is not a port; write [IP:]PORT[-PORT][/PROTOCOL], in quotes")
        address, dummy, protocol = str(item).partition("/")
        ip, dummy, port = address.rpartition(":")
        if not port.replace("-", "").isdecimal():
            raise OptionError(where, item, "is not a port of the host; write [IP:]PORT[-PORT][/PROTOCOL]")
        try:
            ports += parse_port(f"{ip or '0.0.0.0'}:{port}:{port}/{protocol or 'tcp'}", where)
        except OptionError as error:
            raise OptionError(where, item, error.problem, hint=error.hint) from None
    return tuple(replace(port, container_port=0) for port in ports)


def parse_counts(value: Any, option: str) -> dict[str, Optional[int]]:
    """``{gpu: 2}``, or a list of which each is one; null: any number."""
    if isinstance(value, (list, str)):
        names = [parse_word(item, option) for item in (value if isinstance(value, list) else [value])]
        return {name: names.count(name) for name in names}
    counts: dict[str, Optional[int]] = mapping(lambda item, where: None if item is None else integer(0)(item, where))(
        value, option
    )
    return counts


def _labels(value: Any, option: str) -> dict[str, str]:
    """Labels are compared as text; true and false are what YAML made of such a word."""

    def text(item: Any, where: str) -> str:
        return str(item).lower() if isinstance(item, bool) else parse_str(item, where)

    found: dict[str, str] = mapping(text)(value, option)
    if HOST in found:
        raise OptionError(
            f"{option}.{HOST}", found[HOST], "is what a host's own name is as a topology; use another key"
        )
    return found


def _thousandths(value: Any, option: str) -> int:
    cpus: float = _cpus(value, option)
    return round(cpus * 1000)


def _requests(body: Mapping[str, Any]) -> Requests:
    devices = {name: 1 if count is None else count for name, count in (body.get("devices") or {}).items()}
    return Requests(
        body.get("cpus", 0),
        body.get("memory", 0),
        tuple(dict.fromkeys(body.get("ports", ()))),
        tuple(sorted((name, count) for name, count in devices.items() if count)),
    )


_REQUESTS = (
    Option("cpus", _thousandths),
    Option("memory", _memory),
    Option("ports", parse_host_ports),
    Option("devices", parse_counts),
)

# services


def _constraint(value: Any, option: str) -> str:
    text = parse_word(value, option)
    query.compiled(text, option)
    return text


def _topology(value: Any, option: str) -> str:
    return parse_word(value, option)


def _term(value: Any, option: str) -> Term:
    body = group(
        Option("service", parse_name),
        Option("labels", _labels),
        Option("topology", _topology),
        Option("required", parse_bool),
        Option("weight", integer(1, 100)),
    )({"service": value} if isinstance(value, str) else value, option)
    if not body.get("service") and not body.get("labels"):
        raise OptionError(option, value, "selects nobody; give service or labels")
    selector = Selector(body.get("service", ""), tuple(sorted(body.get("labels", {}).items())))
    return Term(selector, body.get("topology", HOST), body.get("required", True), body.get("weight", 1))


def _spread(value: Any, option: str) -> Spread:
    body = group(
        Option("topology", _topology, required=True),
        Option("max_skew", integer(1)),
        Option("required", parse_bool),
    )({"topology": value} if isinstance(value, str) else value, option)
    return Spread(body["topology"], body.get("max_skew", 1), body.get("required", True))


def _preference(value: Any, option: str) -> Preference:
    body = group(Option("constraint", _constraint, required=True), Option("weight", integer(1, 100)))(
        {"constraint": value} if isinstance(value, str) else value, option
    )
    return Preference(body["constraint"], body.get("weight", 1))


def _toleration(value: Any, option: str) -> Toleration:
    body = group(
        Option("key", parse_str),
        Option("value", parse_str),
        Option("operator", choice("Equal", "Exists")),
        Option("effect", choice(*EFFECTS)),
    )(value, option)
    key, operator = body.get("key", ""), body.get("operator", "Equal" if "value" in body else "Exists")
    if operator == "Exists" and "value" in body:
        raise OptionError(f"{option}.value", body["value"], "is never looked at with the operator Exists; leave it out")
    if operator == "Equal" and not key:
        raise OptionError(option, value, "has no key; only the operator Exists does without")
    return Toleration(key, body.get("value", "") if operator == "Equal" else None, body.get("effect", ""))


_SERVICE = (
    *_REQUESTS,
    Option("replicas", integer(0, REPLICAS_MAX)),
    Option("labels", _labels),
    Option("constraints", listing(_constraint)),
    Option("preferences", listing(_preference)),
    Option("affinity", listing(_term)),
    Option("anti_affinity", listing(_term)),
    Option("spread", listing(_spread)),
    Option("max_per_host", integer(0)),
    Option("strategy", choice(*STRATEGIES)),
    Option("tolerations", listing(_toleration)),
    Option("priority", integer(-(10**9), 10**9)),
    Option("container", _mapping),
)
_LISTS = ("constraints", "preferences", "affinity", "anti_affinity", "spread", "tolerations")


def _service(name: str, given: dict[str, Any], strategy: str) -> Service:
    path = f"services.{name}"
    body = parse_options(_SERVICE, given, path)
    _default_requests(body, f"{path}.container")
    for key in _LISTS:
        body[key] = tuple(body.get(key, ()))
    requests = _requests(body)
    _check_own_ports(requests.ports, f"{path}.ports")
    body.setdefault("strategy", strategy)
    rest = {key: value for key, value in body.items() if key not in ("cpus", "memory", "ports", "devices")}
    return Service(name=name, requests=requests, **rest)


def _default_requests(body: dict[str, Any], path: str) -> None:
    """What is not requested is taken from the container's limits, as Kubernetes does it."""
    container = body.get("container") or {}
    if "cpus" not in body and container.get("cpus"):
        body["cpus"] = _thousandths(container["cpus"], f"{path}.cpus")
    for key in ("memory_reservation", "memory"):
        if "memory" not in body and container.get(key) and str(container[key]) != "-1":
            body["memory"] = _memory(container[key], f"{path}.{key}")
    if "ports" not in body and container.get("published_ports"):
        texts = parse_ports(container["published_ports"], f"{path}.published_ports")
        found = [port for text in texts for port in parse_port(text, path) if port.host_port]
        body["ports"] = tuple(replace(port, container_port=0) for port in found)


def _check_own_ports(ports: tuple[Port, ...], option: str) -> None:
    for index, port in enumerate(ports):
        for other in ports[:index]:
            if port.overlaps(other):
                raise OptionError(option, shown(port), f"is a part of {shown(other)}; name it once")


def shown(port: Port) -> str:
    ip = "" if port.host_ip in ("0.0.0.0", "::") else f"{port.host_ip}:"
    return f"{ip}{port.host_port}/{port.protocol}"


def _check_names(service: Service, bodies: Mapping[str, Any]) -> None:
    longest = f"{service.name}-{service.replicas}"
    if len(longest) > _NAME_MAX:
        problem = f"has the replica {longest}, and a container's name has {_NAME_MAX} characters at most"
        raise OptionError(f"services.{service.name}", service.name, problem)
    for key in ("affinity", "anti_affinity"):
        for index, term in enumerate(getattr(service, key)):
            if term.selector.service and term.selector.service not in bodies:
                problem = f"is no service here; there are {', '.join(sorted(bodies))}"
                raise OptionError(f"services.{service.name}.{key}[{index}].service", term.selector.service, problem)


# hosts


def _taint(value: Any, option: str) -> Taint:
    """A mapping, or as kubectl has it: ``key=value:effect``, ``key:effect``."""
    if isinstance(value, str):
        left, colon, effect = value.rpartition(":")
        if not colon:
            raise OptionError(option, value, f"has no effect; write KEY=VALUE:EFFECT, with one of {', '.join(EFFECTS)}")
        key, dummy, worth = left.partition("=")
        value = {"key": key, "value": worth, "effect": effect}
    body = group(
        Option("key", parse_word, required=True),
        Option("value", parse_str),
        Option("effect", choice(*EFFECTS), required=True),
    )(value, option)
    return Taint(body["key"], body.get("value", ""), body["effect"])


def _running(value: Any, option: str) -> tuple[Running, ...]:
    if isinstance(value, list):
        value = {parse_name(name, f"{option}[{index}]"): {} for index, name in enumerate(value)}
    bodies = mapping(_mapping, parse_name)(value, option)
    found = []
    for name, given in bodies.items():
        body = parse_options((*_REQUESTS, Option("labels", _labels)), given, f"{option}.{name}")
        found.append(Running(name, _requests(body), body.get("labels", {})))
    return tuple(found)


def _anything(value: Any, _option: str) -> Any:
    return value


_HOST = (
    Option("cpus", _thousandths, required=True),
    Option("memory", _memory, required=True),
    Option("idle_cpus", _thousandths),
    Option("memory_available", _memory),
    Option("labels", _labels),
    Option("taints", listing(_taint)),
    Option("ports", parse_host_ports),
    Option("devices", parse_counts),
    Option("cordon", parse_bool),
    Option("drain", parse_bool),
    Option("running", _running),
    Option("groups", listing(parse_word)),
    Option("facts", _anything),
)


def _host(name: str, given: dict[str, Any]) -> Host:
    body = parse_options(_HOST, given, f"hosts.{name}")
    for key in ("taints", "groups", "ports"):
        body[key] = tuple(body.get(key, ()))
    return Host(name=name, **body)
