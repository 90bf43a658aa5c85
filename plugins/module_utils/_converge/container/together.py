# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the containers of a stack are to one another, seen in their declarations before anything is done: what each of
them may ask for alone, and not all of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._errors import OptionError
from ..._network.model import Port
from ..._options.container import defaults
from ..host import Host
from . import aliases, attach, compile, prepare
from .succession import JOINING, in_namespaces, starts_first

Declared = Mapping[str, Mapping[str, Any]]
# A container with one of these is started again whenever it ends.
_ENDLESS = ("always", "unless-stopped")


def with_implied(declared: Declared) -> dict[str, dict[str, Any]]:
    """Who joins a namespace of another container of the stack depends on it, whether it says so or not."""
    result = {}
    for name, body in declared.items():
        needs = dict(body.get("depends_on") or {})
        for other in joined(body):
            if other in declared:
                needs.setdefault(other, "started")
        result[name] = {**body, "depends_on": needs}
    return result


def joined(body: Mapping[str, Any]) -> list[str]:
    """The containers whose namespaces it joins."""
    parts = [(body.get(option) or "").partition(":") for option in JOINING]
    return [other for kind, dummy, other in parts if kind == "container"]


def check(declared: Declared) -> None:
    """Raise OptionError when two of them want one port, one address or one name."""
    specs = {name: {**defaults(), **body} for name, body in declared.items() if body.get("state") != "absent"}
    _check_ports(specs)
    _check_addresses(specs)
    _check_joined(specs)
    index = aliases.Index(
        (entry["name"], name, entry["aliases"]) for name, spec in specs.items() for entry in attach.network_names(spec)
    )
    for name, spec in specs.items():
        index.check(name, spec, path=f"containers.{name}.")


def _check_ports(specs: Declared) -> None:
    owners: dict[tuple[str, int], list[tuple[str, Port]]] = {}
    for name, spec in specs.items():
        for port in attach.parse_all(spec):
            for owner, other in owners.setdefault(port.key, []):
                if owner != name and port.overlaps(other):
                    problem = f"is published by the container {owner} of this stack too"
                    raise OptionError(f"containers.{name}.published_ports", str(port), problem)
            owners[port.key].append((name, port))


def _check_addresses(specs: Declared) -> None:
    owners: dict[tuple[str, str], str] = {}
    for name, spec in specs.items():
        for number, entry in enumerate(attach.network_names(spec)):
            for key in ("ipv4_address", "ipv6_address", "mac_address"):
                value = entry.get(key)
                if value and owners.setdefault((entry["name"], value), name) != name:
                    option = f"containers.{name}.networks[{number}].{key}"
                    problem = f"is that of the container {owners[entry['name'], value]} of this stack too"
                    raise OptionError(option, value, problem)


def _check_joined(specs: Declared) -> None:
    for name, spec in specs.items():
        for option in JOINING:
            other = (spec[option] or "").partition("container:")[2]
            if other in specs and starts_first(specs[other]):
                raise in_namespaces(f"containers.{other}.", name, option, other)


def link(body: Mapping[str, Any], other: str) -> tuple[str, Any]:
    """The option by which a container waits for another one, and its value."""
    for option in JOINING:
        if body.get(option) == f"container:{other}":
            return option, body[option]
    return "depends_on", list(body["depends_on"])


def check_conditions(host: Host, declared: Declared, state: str) -> None:
    """Raise OptionError for what a container would be waited for in vain: it never becomes healthy, or never ends.

    ``state`` is the stack's. Of an image that is not made yet nothing is known; it is asked when it is there.
    """
    for name, body in declared.items():
        if not _runs(body, state):
            continue
        for other, condition in (body.get("depends_on") or {}).items():
            problem = _IN_VAIN.get(condition, _never)(host, other, declared[other], state)
            if problem:
                raise OptionError(f"containers.{name}.depends_on.{other}", condition, problem)


def needs(name: str, declared: Declared, state: str) -> list[tuple[str, str]]:
    """(container, condition) before anything happens with the container: it starts after what it depends on, and
    stops after who depends on it."""
    if _runs(declared[name], state):
        return sorted((declared[name].get("depends_on") or {}).items())
    others = [other for other, body in declared.items() if name in (body.get("depends_on") or {})]
    return [(other, "done") for other in others if not _runs(declared[other], state)]


def _state(body: Mapping[str, Any], state: str) -> str:
    return str(body.get("state") or ("stopped" if state == "stopped" else "started"))


def _runs(body: Mapping[str, Any], state: str) -> bool:
    return _state(body, state) in ("started", "healthy")


def _never(host: Host, other: str, body: Mapping[str, Any], state: str) -> str:
    return ""


def _never_healthy(host: Host, other: str, body: Mapping[str, Any], state: str) -> str:
    if not _runs(body, state) and not prepare.look(host.paths, other).pid:
        return f"waits for {other}, which is declared as {_state(body, state)}; declare it as started"
    if lacks_health_check(host, {**defaults(), **body}):
        return (
            f"waits for the health check of {other}, and there is none, neither declared nor in the image "
            f"{body.get('image')}; give {other} a healthcheck, or depend on it as started"
        )
    return ""


def lacks_health_check(host: Host, spec: Mapping[str, Any]) -> bool:
    """Neither the declaration nor the image has one. Of an image that is yet to come nobody knows."""
    if spec["healthcheck"] is not None:
        return not spec["healthcheck"]
    known = spec["image"] and not prepare.is_coming(host, spec)
    image = prepare.find_image(host, spec) if known else None
    return image is not None and compile.health(spec, image) is None


def _never_completed(host: Host, other: str, body: Mapping[str, Any], state: str) -> str:
    if not _runs(body, state) and prepare.look(host.paths, other).status.get("status") != "exited":
        return f"waits for the end of {other}, which is declared as {_state(body, state)}; declare it as started"
    policy = body.get("restart_policy")
    if policy in _ENDLESS:
        return (
            f"waits for the end of {other}, which is started again whenever it ends (restart_policy: {policy}); "
            f"give {other} the policy no or on-failure, or depend on it as started"
        )
    return ""


_IN_VAIN = {"healthy": _never_healthy, "completed": _never_completed}
