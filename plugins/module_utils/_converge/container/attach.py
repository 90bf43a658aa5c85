# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's place on its networks: addresses, links, names and published ports."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from ..._errors import OptionError
from ..._network import ipam, names, ports, sandbox, segment, veth
from ..._network.model import Endpoint, Network, Port, parse_member
from ..._network.rtnl import Rtnl
from .. import firewall, store
from ..host import Attachment, Host

Spec = Mapping[str, Any]
DEFAULT_NETWORK = "default"


def network_names(spec: Spec) -> list[dict[str, Any]]:
    """The networks that a container is on. Without a word about it, the one that everybody is on."""
    if spec["network_mode"]:
        return []
    if spec["networks"] is None:
        return [{"name": DEFAULT_NETWORK, "aliases": []}]
    return list(spec["networks"])


def uses_sandbox(spec: Spec) -> bool:
    """Does it have a network namespace of its own?"""
    return spec["network_mode"] in (None, "none")


def check(host: Host, name: str, spec: Spec, *, starting: bool = False) -> None:
    """What can be refused before anything is done. Who is ``starting`` and was stopped may find its ports taken."""
    if spec["networks"] and spec["network_mode"]:
        raise OptionError("network_mode", spec["network_mode"], "excludes networks; give one of both")
    if spec["published_ports"] and not network_names(spec):
        raise OptionError("published_ports", spec["published_ports"], "needs a network to lead to; give networks")
    for index, entry in enumerate(spec["networks"] or []):
        network = host.networks.get(entry["name"])
        if network is None:
            hint = "declare it with vessel.host.network first"
            raise OptionError(f"networks[{index}].name", entry["name"], "is no network of this host", hint=hint)
        _check_static(host, name, entry, network, f"networks[{index}]")
    _check_ports(host, name, spec, starting=starting)


def _check_static(host: Host, name: str, entry: Mapping[str, Any], network: Network, option: str) -> None:
    for key, subnet, gateway in (
        ("ipv4_address", network.subnet, network.gateway),
        ("ipv6_address", network.subnet6, network.gateway6),
    ):
        address = entry.get(key)
        if not address:
            continue
        if not subnet:
            raise OptionError(f"{option}.{key}", address, f"can't be: the network {network.name} has no such subnet")
        parse_member(address, subnet, f"{option}.{key}")
        if address == gateway:
            raise OptionError(f"{option}.{key}", address, f"is the gateway of the network {network.name}")
        owner = _owner(host, network.name, address)
        if owner not in ("", name, firewall.other(name)):
            raise OptionError(f"{option}.{key}", address, f"is the address of the container {owner.lstrip('+')}")


def _owner(host: Host, network: str, address: str) -> str:
    for name, attachment in host.attachments.items():
        for endpoint in attachment.endpoints:
            if endpoint.network == network and address in [a.partition("/")[0] for a in endpoint.addresses()]:
                return name
    return ""


def check_taken(host: Host, name: str, spec: Spec) -> None:
    """What the plan found free may be another task's by now; who asks holds the lock of all attachments."""
    for index, entry in enumerate(network_names(spec)):
        _check_static(host, name, entry, host.networks[entry["name"]], f"networks[{index}]")
    wanted = [port for port in parse_all(spec) if port.host_port]
    if wanted:
        ports.check_others("published_ports", wanted, _others_ports(host, name))


def _others_ports(host: Host, name: str) -> dict[str, list[Port]]:
    own = (name, firewall.other(name))
    return {other: item.ports for other, item in host.attachments.items() if other not in own}


def _check_ports(host: Host, name: str, spec: Spec, *, starting: bool) -> None:
    for text, port in zip(spec["published_ports"], parse_all(spec)):
        if ":" in port.host_ip and not any(_has_ipv6(host, entry["name"]) for entry in network_names(spec)):
            problem = "is an IPv6 address of the host, and no network of the container has IPv6 to lead it to"
            raise OptionError("published_ports", text, f"{problem}; give one ipv6: true, or publish on IPv4 alone")
    mine = host.attachments.get(name)
    own = {port.key for port in mine.ports} if mine and (mine.running or not starting) else set()
    wanted = [port for port in parse_all(spec) if port.host_port and port.key not in own]
    if wanted:
        ports.check("published_ports", wanted, _others_ports(host, name))
        ports.check_elsewhere("published_ports", wanted, host.elsewhere)


def _has_ipv6(host: Host, network: str) -> bool:
    return network in host.networks and bool(host.networks[network].subnet6)


def parse_all(spec: Spec) -> list[Port]:
    """Canonical texts as ports again; one without a host port has two colons in a row."""
    result = []
    for text in spec["published_ports"]:
        ip, host_port, rest = _split(text)
        inside, dummy, protocol = rest.partition("/")
        result.append(Port(ip, int(host_port or 0), int(inside), protocol))
    return result


def _split(text: str) -> tuple[str, str, str]:
    ip, host_port, rest = text.rsplit(":", 2)
    return ip.strip("[]"), host_port, rest


def allocate(host: Host, name: str, spec: Spec) -> Attachment:
    """Addresses and ports for what is declared; those that the container has already, it keeps."""
    present = host.attachments.get(name) or Attachment([], [])
    have = {endpoint.network: endpoint for endpoint in present.endpoints}
    used = {endpoint.ifname for endpoint in present.endpoints}
    endpoints = []
    for entry in network_names(spec):
        network = host.networks[entry["name"]]
        endpoint = _endpoint(host, name, entry, network, have.get(network.name), used)
        used.add(endpoint.ifname)
        endpoints.append(endpoint)
    attachment = Attachment(endpoints, _ports(host, name, spec, present), running=present.running)
    host.attachments[name] = attachment
    return attachment


def _endpoint(
    host: Host, name: str, entry: Mapping[str, Any], network: Network, present: Endpoint | None, used: set[str]
) -> Endpoint:
    ifname = present.ifname if present else next(f"eth{n}" for n in range(1000) if f"eth{n}" not in used)
    addresses = {}
    for key, subnet, gateway, ip_range in (
        ("ipv4", network.subnet, network.gateway, network.ip_range),
        ("ipv6", network.subnet6, network.gateway6, ""),
    ):
        wanted = entry.get(f"{key}_address")
        held = getattr(present, key) if present else ""
        if wanted:
            addresses[key] = f"{wanted}/{subnet.partition('/')[2]}"
        elif subnet and network.across and key == "ipv6":
            addresses[key] = f"{ipam.with_ipv4(subnet, addresses['ipv4'].partition('/')[0])}/{subnet.partition('/')[2]}"
        elif held and subnet and _keeps(network, held, subnet, ip_range) and held.partition("/")[0] != gateway:
            addresses[key] = held
        elif subnet:
            addresses[key] = ipam.allocate(subnet, ip_range, gateway, taken(host, network.name), network.name)
        else:
            addresses[key] = ""
        taken(host, network.name).add(addresses[key].partition("/")[0])
    mac = entry.get("mac_address") or ipam.mac_address(addresses["ipv4"] or addresses["ipv6"])
    peer = host.paths.link("ve", f"{host.paths.instance(name)}+{network.name}")
    aliases = tuple(entry.get("aliases") or ())
    return Endpoint(name, network.name, ifname, peer, addresses["ipv4"], addresses["ipv6"], mac, aliases)


def _keeps(network: Network, address: str, subnet: str, ip_range: str) -> bool:
    """May a container keep its address? On a network across hosts those outside of the own part are others' to give."""
    import ipaddress

    interface = ipaddress.ip_interface(address)
    same = interface.network == ipaddress.ip_network(subnet)
    return same and (not network.across or interface.ip in ipaddress.ip_network(ip_range))


def taken(host: Host, network: str) -> set[str]:
    """Addresses of a network that somebody has; made once and kept, since a hundred allocations ask."""
    if network not in host.taken:
        host.taken[network] = ipam.Taken(
            address.partition("/")[0]
            for attachment in host.attachments.values()
            for endpoint in attachment.endpoints
            if endpoint.network == network
            for address in endpoint.addresses()
        )
    return host.taken[network]


def _ports(host: Host, name: str, spec: Spec, present: Attachment) -> list[Port]:
    """Declared ports; where the host port is left to us, one that it has already, it or the instance before, or a free
    one."""
    chosen: set[tuple[str, int]] = {port.key for item in host.attachments.values() for port in item.ports}
    before = host.attachments.get(firewall.other(name)) or Attachment([], [])
    spare = {(port.host_ip, port.container_port, port.protocol): port for port in [*before.ports, *present.ports]}
    result = []
    for port in parse_all(spec):
        if port.host_port == 0:
            held = spare.get((port.host_ip, port.container_port, port.protocol))
            if not held:
                chosen.update(other.key for dummy, other in host.elsewhere)
            number = held.host_port if held else ports.choose(port.protocol, chosen)
            port = Port(port.host_ip, number, port.container_port, port.protocol)  # noqa: PLW2901
        result.append(port)
    return result


def wires(host: Host, attachment: Attachment) -> list[veth.Wire]:
    """The first network that leads out has the default route."""
    result: list[veth.Wire] = []
    routed = False
    for endpoint in attachment.endpoints:
        network = host.networks[endpoint.network]
        result.append(veth.Wire(endpoint, network, default=not routed and not network.internal))
        routed = routed or not network.internal
    return result


def connect(host: Host, name: str, attachment: Attachment, rtnl: Rtnl) -> None:
    """Make the namespace and the links, or mend them; those that are declared no more go."""
    netns = pin(host, name)
    for wire in wires(host, attachment):
        link = _bridge(host, wire.network, rtnl)
        veth.ensure(rtnl, netns, wire, link)


def pin(host: Host, name: str) -> str:
    """The container's namespace at its place: that of its process where one runs, else a new one."""
    from . import prepare

    path, present = host.paths.netns(name), prepare.look(host.paths, name)
    own = present.applied is not None and uses_sandbox(present.applied)
    sandbox.create(path, f"/proc/{present.pid}/ns/net" if own and present.pid else "")
    return path


def _bridge(host: Host, network: Network, rtnl: Rtnl) -> Any:
    return host.once(f"bridge of {network.name}", lambda: segment.ensure(rtnl, network, host.snapshot))


def rtnl(host: Host) -> Rtnl:
    """One netlink socket for all that a run changes."""
    return host.once("rtnl", Rtnl)


def disconnect(host: Host, endpoints: list[Endpoint]) -> None:
    if endpoints:
        veth.detach(rtnl(host), endpoints)


def remove(host: Host, names: Iterable[str]) -> None:
    """Everything that the containers have of the network."""
    _leave(host, [key for name in names for key in (name, firewall.other(name)) if key == name or _is_there(host, key)])


def _is_there(host: Host, key: str) -> bool:
    its, name = firewall.seen(host.paths, key)
    return key in host.attachments or os.path.lexists(its.netns(name))


def remove_other(host: Host, name: str) -> None:
    """The same of the container's instance that does not count."""
    _leave(host, [firewall.other(name)])


def _leave(host: Host, keys: list[str]) -> None:
    disconnect(host, [endpoint for key in keys for endpoint in endpoints(host, key)])
    for key in keys:
        its, name = firewall.seen(host.paths, key)
        sandbox.delete(its.netns(name))
        host.drop_attachment(key)


def endpoints(host: Host, name: str) -> list[Endpoint]:
    attachment = host.attachments.get(name)
    return attachment.endpoints if attachment else []


def touch(host: Host, name: str, networks: Iterable[str]) -> None:
    """The container, or those networks' names, changed: commit() brings the files and rules up to date."""
    host.touched.add(name)
    host.touched_networks.update(networks)


def commit(host: Host) -> None:
    """Names and rules, once for everything that this run changed."""
    networks, concerned = host.touched_networks, set(host.touched)
    for name, attachment in host.attachments.items():
        if any(endpoint.network in networks for endpoint in attachment.endpoints):
            concerned.add(name)
    host.touched, host.touched_networks = set(), set()
    lines = network_lines(host, networks_of(host, concerned))
    for name in sorted(concerned):
        spec = store.read_spec(host.paths, "containers", name)
        if spec is not None and os.path.isdir(host.paths.bundle(name)):
            write_names(host, name, spec, lines)
    firewall.sync(host.paths)


def networks_of(host: Host, containers: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for name in containers:
        attachment = host.attachments.get(name)
        found.update(endpoint.network for endpoint in (attachment.endpoints if attachment else []))
    return found


def network_lines(host: Host, networks: Iterable[str]) -> dict[str, str]:
    """names.network_lines of each of the networks."""
    index: dict[str, list[Endpoint]] = {network: [] for network in networks}
    for key, attachment in sorted(host.attachments.items()):
        for endpoint in attachment.endpoints if not firewall.is_other(key) else ():
            if endpoint.network in index:
                index[endpoint.network].append(endpoint)
    found = {}
    for network, endpoints in index.items():
        elsewhere = host.networks[network].names if network in host.networks else ()
        found[network] = names.network_lines(endpoints, elsewhere)
    return found


def name_files(host: Host, name: str, spec: Spec, lines: Mapping[str, str]) -> dict[str, str]:
    """hosts, resolv.conf and hostname as they are to be."""
    attachment = host.attachments.get(name) or Attachment([], [])
    hostname = spec["hostname"] or name
    own = [lines[endpoint.network] for endpoint in attachment.endpoints]
    return {
        "hosts": names.hosts(hostname, spec["domainname"] or "", attachment.endpoints, own, spec["etc_hosts"]),
        "resolv.conf": names.resolv_conf(spec["dns_servers"], spec["dns_search_domains"], spec["dns_opts"]),
        "hostname": f"{hostname}\n",
    }


def write_names(host: Host, name: str, spec: Spec, lines: Mapping[str, str]) -> None:
    for file, content in name_files(host, name, spec, lines).items():
        names.write_in_place(f"{host.paths.etc(name)}/{file}", content)
