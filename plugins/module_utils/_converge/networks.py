# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks: what is declared against what the kernel has; a change keeps the containers on it running.

A declared network is in the kernel always, whether a container is on it or not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, Optional

from .._errors import InUseError, NotFoundError, OptionError
from .._network import ipam, segment
from .._network.model import Endpoint, Network
from .._network.observe import Snapshot
from .._network.rtnl import Rtnl
from .._options import vxlan
from .._options.network import OPTIONS, complete, to_model
from .._paths import Paths
from . import firewall, store, users
from .plan import Plan, Step

KIND = "networks"
Networks = dict[str, Network]
# What an attached container has of its network: it must follow when one of these changes.
_FOLLOWED = ("driver", "subnet", "gateway", "ip_range", "subnet6", "gateway6", "internal", "mtu")
# Which options the kernel's values come from.
_SHOWN = {
    "mtu": {"mtu"},
    "addresses": {"subnet", "gateway", "subnet6", "gateway6"},
    "sysctl": {"internal", "ipv6"},
    "vxlan": {"driver", "vni", "port", "local", "device"},
    "forwarding": {"driver", "peers", "local"},
}


def snapshot() -> Snapshot:
    """The host's links, addresses and routes, for as many plans as are made of it."""
    with Rtnl() as rtnl:
        return Snapshot.take(rtnl)


def plan(
    paths: Paths,
    desired: dict[str, Any],
    *,
    whole: bool = False,
    seen: Optional[Snapshot] = None,
    others: Optional[Networks] = None,
) -> Plan:
    """What makes the network as desired; ``firewall.plan`` comes after it, once for all networks.

    ``others`` are the networks that are declared already; the one that is planned is put among them, so that the next
    one's subnet avoids it.
    """
    name = desired["name"]
    seen = seen or snapshot()
    others = firewall.networks(paths) if others is None else others
    stored = store.read_spec(paths, KIND, name)
    if desired.get("state") == "absent":
        others.pop(name, None)
        return _absence(paths, name, stored, seen, force=bool(desired.get("force")))
    rest = [network for other, network in others.items() if other != name]
    routes = _routes(paths, name, seen)
    taken = [*routes, *(network.subnet for network in rest)]
    spec = complete(desired, stored, name=name, tag=paths.tag, taken=taken, whole=whole, seen=seen)
    vxlan.check_alone(name, spec, rest)
    _check_overlaps(spec, stored or {}, rest, routes)
    if stored is not None:
        _check_containers(paths, name, spec, stored)
    others[name] = to_model(paths, name, spec)
    if stored is None:
        result = _creation(paths, name, spec, desired, others)
    else:
        result = _change(paths, name, stored, spec, seen, others)
    result.warnings += vxlan.warnings(name, spec, seen)
    return result


def _routes(paths: Paths, name: str, seen: Snapshot) -> list[str]:
    """Networks that the host is on itself. What lies behind a gateway may be shadowed by a closer one."""
    own = seen.links.get(paths.link("br", name))
    return [
        route.destination
        for route in seen.routes
        if not route.gateway and "/" in route.destination and (own is None or route.index != own.index)
    ]


def _check_overlaps(spec: dict[str, Any], stored: dict[str, Any], rest: list[Network], routes: list[str]) -> None:
    for option in ("subnet", "subnet6"):
        if spec[option] and spec[option] != stored.get(option):
            ipam.check_overlap(option, spec[option], rest, routes)


def _check_containers(paths: Paths, name: str, spec: dict[str, Any], stored: dict[str, Any]) -> None:
    """A container keeps an address that it declares, so the subnet must hold it, and the gateway be another. The others
    get one each."""
    changed = {option for option in (*_FIXED, *_GATEWAYS) if spec[option] != stored.get(option)}
    entries = [
        (container, entry)
        for container, declared in (users.specs(paths) if changed else ())
        for entry in users.attached(declared)
        if entry["name"] == name
    ]
    for container, entry in entries:
        for option in sorted(changed):
            address = entry.get(_FIXED.get(option) or _GATEWAYS[option])
            if address and not _leaves(option, spec[option], address):
                what = "leaves out" if option in _FIXED else "is"
                problem = f"{what} {address}, the fixed address of the container {container}; change that first"
                raise OptionError(option, spec[option], problem)
    if "subnet" in changed and spec["subnet"]:
        _check_room(spec, sum(not entry.get("ipv4_address") for dummy, entry in entries))


def _leaves(option: str, value: str, address: str) -> bool:
    """May somebody keep the address when the option has this value?"""
    if option in _FIXED:
        return bool(value) and ip_address(address) in ip_network(value)
    return not value or ip_address(address) != ip_address(value)


def _check_room(spec: dict[str, Any], wanted: int) -> None:
    pool, subnet = ip_network(spec["ip_range"] or spec["subnet"]), ip_network(spec["subnet"])
    reserved = {subnet.network_address, subnet.broadcast_address, ip_address(spec["gateway"])}
    room = pool.num_addresses - sum(address in pool for address in reserved)
    if room < wanted:
        problem = f"has {room} addresses, and {wanted} containers of the network need one each"
        raise OptionError("ip_range" if spec["ip_range"] else "subnet", str(pool), problem)


_FIXED = {"subnet": "ipv4_address", "subnet6": "ipv6_address"}
_GATEWAYS = {"gateway": "ipv4_address", "gateway6": "ipv6_address"}


def _creation(paths: Paths, name: str, spec: dict[str, Any], given: Mapping[str, Any], others: Networks) -> Plan:
    made: list[Network] = []

    def do() -> None:
        with _ours_alone():
            seen = snapshot()
            known = store.read_spec(paths, KIND, name)
            if known is None:
                _look_again(paths, name, spec, given, others, seen)
                made.append(to_model(paths, name, spec))
                # Stored first: whatever a kill leaves in the kernel has a name in the store by then.
                store.write_spec(paths, KIND, name, spec)
            else:
                spec.update(known)  # another container brought the network that everybody is on
            others[name] = to_model(paths, name, spec)
            _ensure(others[name], seen)

    def undo() -> None:
        for network in made:
            _remove(paths, network)
            firewall.sync(paths)

    return Plan([Step(f"network {name}", "create", do, undo, after=spec)])


@contextlib.contextmanager
def _ours_alone() -> Iterator[None]:
    """No network is made on this host meanwhile, of whatever installation: all have the same routes. The lock is the
    default installation's, which every other one knows the way to."""
    with store.lock(Paths(), "host", KIND):
        yield


def _look_again(
    paths: Paths, name: str, spec: dict[str, Any], given: Mapping[str, Any], others: Networks, seen: Snapshot
) -> None:
    """What was free when it was planned may be taken by now. A subnet that nobody named becomes another one."""
    rest = {**others, **firewall.networks(paths)}
    rest.pop(name, None)
    routes = _routes(paths, name, seen)
    try:
        _check_overlaps(spec, {}, list(rest.values()), routes)
    except OptionError:
        if given.get("subnet"):
            raise
        taken = [*routes, *(network.subnet for network in rest.values())]
        given = {**given, "name": name}
        spec.update(complete(given, None, name=name, tag=paths.tag, taken=taken, whole=True, seen=seen))
        _check_overlaps(spec, {}, list(rest.values()), routes)


def _change(
    paths: Paths, name: str, stored: dict[str, Any], spec: dict[str, Any], seen: Snapshot, others: Networks
) -> Plan:
    network = to_model(paths, name, spec)
    before = {option.name: stored.get(option.name, option.default) for option in OPTIONS}
    changed = [option for option in OPTIONS if not option.same(spec[option.name], before[option.name])]
    names = {option.name for option in changed}
    attached = firewall.endpoints(paths, name)
    follow = _follower(paths, name, names, attached)
    result = Plan()

    def do() -> None:
        with _ours_alone():
            now = snapshot()
            rest = {**others, **firewall.networks(paths)}
            rest.pop(name, None)
            _check_overlaps(spec, stored, list(rest.values()), _routes(paths, name, now))
            store.write_spec(paths, KIND, name, spec)
            _ensure(network, now)
        follow()

    def undo() -> None:
        store.write_spec(paths, KIND, name, stored)
        _ensure(to_model(paths, name, stored), snapshot())
        follow()
        firewall.sync(paths)

    for option in changed:
        result.add(_told(name, f"set {option.name}", option.name, before[option.name], spec[option.name]))
    for drift in segment.differences(network, seen):
        # What follows from a changed option is told once, by the option.
        if not names & _SHOWN.get(drift.what.partition(" ")[0], set()):
            result.add(_told(name, f"mend {drift.what}", drift.what, drift.before, drift.after))
    if result:
        # The first step does it all in one go; the others say what it comes to.
        result.steps[0].do, result.steps[0].undo = do, undo
    return result


def _told(name: str, action: str, option: str, before: Any, after: Any) -> Step:
    return Step(f"network {name}", action, lambda: None, option=option, before=before, after=after)


def _follower(paths: Paths, name: str, changed: set[str], attached: list[Endpoint]) -> Callable[[], None]:
    """What brings the attached containers along."""
    if not attached or not changed & {*_FOLLOWED, "names"}:
        return lambda: None
    from .container import lifecycle

    follow = lifecycle.readdress if changed & set(_FOLLOWED) else lifecycle.rename
    return lambda: follow(paths, name)


def _ensure(network: Network, seen: Snapshot) -> None:
    with Rtnl() as rtnl:
        segment.ensure(rtnl, network, seen)


def _absence(paths: Paths, name: str, stored: dict[str, Any] | None, seen: Snapshot, *, force: bool) -> Plan:
    link = paths.link("br", name)
    if stored is None and link not in seen.links:
        return Plan()
    used_by = users.of_network(paths, name)
    if used_by and not force:
        raise InUseError("network", name, used_by, hint="remove them, or set force: true to detach them")
    result = Plan()
    for container in used_by:
        result.extend(_detachment(paths, name, container))
    result.extend(removal(paths, name))
    return result


def removal(paths: Paths, name: str) -> Plan:
    """The network goes; who asks has seen to it that nobody is on it by then."""
    stored = store.read_spec(paths, KIND, name)
    network = to_model(paths, name, stored) if stored else Network(name, paths.link("br", name))

    def undo() -> None:
        if stored is not None:
            store.write_spec(paths, KIND, name, stored)
            _ensure(network, snapshot())
            firewall.sync(paths)

    return Plan([Step(f"network {name}", "remove", lambda: _remove(paths, network), undo, before=stored)])


def _detachment(paths: Paths, name: str, container: str) -> Plan:
    """The container's own plan with the network taken out of its declaration."""
    from .container import containers

    spec = store.read_spec(paths, "containers", container) or {}
    networks = [entry for entry in spec.get("networks") or [] if entry["name"] != name]
    desired = {"name": container, "networks": networks, "state": "present"}
    return containers.plan(paths, desired, whole=False)


def _remove(paths: Paths, network: Network) -> None:
    # The kernel first: while the spec is stored, a kill in between is mended by the next run.
    with Rtnl() as rtnl:
        segment.delete(rtnl, network)
    store.remove_spec(paths, KIND, network.name)


def info(paths: Paths, name: str, *, seen: Optional[Snapshot] = None) -> dict[str, Any]:
    """What is declared, and what the kernel shows of it."""
    spec = store.read_spec(paths, KIND, name)
    if spec is None:
        raise NotFoundError("network", name)
    seen = seen or snapshot()
    network = to_model(paths, name, spec)
    link = seen.links.get(network.link)
    endpoints = firewall.endpoints(paths, name)
    return {
        "name": name,
        **{option.name: option.default for option in OPTIONS},
        **spec,
        "bridge": network.link,
        "present": link is not None,
        "up": bool(link and link.up),
        "addresses": sorted(seen.on(network.link)),
        "containers": [_attachment(endpoint) for endpoint in endpoints],
        "members": _members(paths, endpoints),
    }


def _members(paths: Paths, endpoints: list[Endpoint]) -> dict[str, Any]:
    """The containers and their aliases, as the option ``names`` of other hosts takes them."""
    found: dict[str, Any] = {}
    for endpoint in endpoints:
        labels = (store.read_spec(paths, "containers", endpoint.container) or {}).get("labels") or {}
        addresses = [address.partition("/")[0] for address in endpoint.addresses()]
        found[endpoint.container] = {"addresses": addresses, "labels": labels}
        for alias in endpoint.aliases:
            if alias != endpoint.container:
                found.setdefault(alias, {"addresses": [], "labels": {}})["addresses"] += addresses
    return found


def _attachment(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "name": endpoint.container,
        "ipv4_address": endpoint.ipv4.partition("/")[0],
        "ipv6_address": endpoint.ipv6.partition("/")[0],
        "mac_address": endpoint.mac,
        "interface": endpoint.ifname,
        "aliases": list(endpoint.aliases),
    }


def infos(paths: Paths, names: Optional[list[str]] = None) -> list[dict[str, Any]]:
    seen = snapshot()
    return [info(paths, name, seen=seen) for name in (store.names(paths, KIND) if names is None else names)]
