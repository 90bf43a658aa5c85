# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of the test's own on one wire, each a network namespace, and containers on networks that go across them."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._kernel import namespaces
from ansible_collections.vessel.host.plugins.module_utils._network import (
    ipam,
    nft_compare,
    nft_replace,
    nftables,
    observe,
    policy,
    sandbox,
    segment,
    veth,
)
from ansible_collections.vessel.host.plugins.module_utils._network.model import Endpoint, Network
from ansible_collections.vessel.host.plugins.module_utils._network.policy import Member
from ansible_collections.vessel.host.plugins.module_utils._network.rtnl import Rtnl
from ansible_collections.vessel.host.plugins.module_utils._network.veth import Wire
from ansible_collections.vessel.host.plugins.module_utils._options.allow import (
    parse_allow,
    parse_names,
    to_allow,
    to_names,
)

from .network_world import TIMEOUT, Places, eventually

TABLE = "fleet"
Ask = tuple[str, str, str, int]  # who asks whom, protocol, port


def underlay(host: int, *, six: bool = False) -> str:
    return f"2001:db8::{host}" if six else f"192.0.2.{host}"


class Fleet(Places):
    """Host N is the namespace hN; on the wire it is 192.0.2.N and 2001:db8::N. Of a network with the number M it has
    the addresses 10.M.N.0/24 and fd00:M::10.M.N.0/120, the gateway the first of them."""

    def __init__(self, hosts: int = 2, mtu: int = 1500, *, six: bool = False) -> None:
        super().__init__()
        self.hosts = list(range(1, hosts + 1))
        self.six, self.mtu = six, mtu
        self.networks: dict[tuple[int, str], Network] = {}
        self.wires: dict[str, tuple[int, Wire]] = {}
        self.labels: dict[str, Mapping[str, str]] = {}
        self.applied: dict[int, list[dict]] = {}
        self.make("wire")
        self.ip("link", "add", "wire", "mtu", str(mtu), "type", "bridge", where="wire")
        self.ip("link", "set", "wire", "up", where="wire")
        for host in self.hosts:
            self._join(host)

    def _join(self, host: int) -> None:
        name = f"h{host}"
        self.make(name)
        self.ip("link", "add", name, "mtu", str(self.mtu), "master", "wire", "type", "veth", "peer", "name", "eth0",
                "mtu", str(self.mtu), "netns", f"{self.tag}-{name}", where="wire")  # fmt: skip
        self.ip("link", "set", name, "up", where="wire")
        with self.on(host), open("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "w") as file:
            file.write("0")
        for six, length in ((False, 24), (True, 64)):
            self.ip("addr", "add", f"{underlay(host, six=six)}/{length}", "dev", "eth0", "nodad", where=name)
        self.ip("link", "set", "eth0", "up", where=name)

    @contextlib.contextmanager
    def on(self, host: int) -> Iterator[None]:
        with namespaces.inside(self.path(f"h{host}")):
            yield

    def nft(self, host: int, *words: str) -> str:
        with self.on(host):
            return subprocess.run(["nft", *words], check=True, capture_output=True, text=True).stdout

    # networks
    def declare(self, host: int, name: str, number: int, **options: Any) -> Network:
        """Without ``peers`` all hosts are."""
        peers = options.pop("peers", self.hosts)
        allow = options.pop("allow", None)
        six = options.pop("six", True)
        less = 70 if self.six else 50
        network = Network(
            name,
            f"br-{name}",
            "vxlan",
            f"10.{number}.0.0/16",
            f"10.{number}.{host}.1",
            f"10.{number}.{host}.0/24",
            f"fd00:{number}::/64" if six else "",
            ipam.with_ipv4(f"fd00:{number}::/64", f"10.{number}.{host}.1") if six else "",
            mtu=self.mtu - less,
            vni=number,
            port=4789,
            local=underlay(host, six=self.six),
            peers=tuple(underlay(peer, six=self.six) for peer in peers if peer != host),
            allow=to_allow(None if allow is None else parse_allow(allow, "allow")),
        )
        self.networks[host, name] = replace(network, **options)
        self.mend(host, name)
        return self.networks[host, name]

    def everywhere(self, name: str, number: int, **options: Any) -> None:
        for host in self.hosts:
            self.declare(host, name, number, **options)

    def change(self, host: int, name: str, **options: Any) -> None:
        if "allow" in options:
            options["allow"] = to_allow(None if options["allow"] is None else parse_allow(options["allow"], "allow"))
        if "peers" in options:
            options["peers"] = tuple(underlay(peer, six=self.six) for peer in options["peers"] if peer != host)
        if "names" in options:
            options["names"] = to_names(parse_names(options["names"], "names"))
        self.networks[host, name] = replace(self.networks[host, name], **options)
        self.mend(host, name)

    def mend(self, host: int, name: str) -> None:
        with self.on(host), Rtnl() as rtnl:
            segment.ensure(rtnl, self.networks[host, name], observe.Snapshot.take(rtnl))
        self.firewall(host)

    def drift(self, host: int, name: str) -> list[str]:
        with self.on(host), Rtnl() as rtnl:
            found = segment.differences(self.networks[host, name], observe.Snapshot.take(rtnl))
            rules = nft_compare.differences(self.rules(host), self.read(host))
        return [item.what for item in (*found, *rules)]

    # rules
    def rules(self, host: int) -> list[dict]:
        networks = [network for (where, dummy), network in self.networks.items() if where == host]
        members = [
            Member(
                wire.network.name,
                wire.endpoint.peer,
                wire.endpoint.mac,
                tuple(address.partition("/")[0] for address in wire.endpoint.addresses()),
                (name, *wire.endpoint.aliases),
                self.labels[name],
            )
            for name, (where, wire) in self.wires.items()
            if where == host
        ]
        return [*nftables.render(TABLE, networks, []), *policy.render(TABLE, networks, members)]

    def read(self, host: int) -> list[dict]:
        with self.on(host):
            return nftables.read(TABLE) + nftables.read(TABLE, policy.FAMILY)

    def firewall(self, host: int) -> None:
        wanted = self.rules(host)
        with self.on(host):
            nftables.apply(nft_replace.replacement(wanted, self.read(host)))

    # containers
    def container(self, name: str, host: int, network: str, number: int = 0, **labels: str) -> None:
        """The NUMBERth address of the host's part; without one, whichever comes next."""
        known = self.networks[host, network]
        self.make(name)
        last = number or 10 + len(self.wires)
        address = f"{known.ip_range.rpartition('.')[0]}.{last}"
        ipv6 = f"{ipam.with_ipv4(known.subnet6, address)}/64" if known.subnet6 else ""
        self.attach(name, host, network, f"{address}/16", ipv6, labels)

    def attach(
        self, name: str, host: int, network: str, ipv4: str, ipv6: str, labels: Mapping[str, str] | None = None
    ) -> None:
        known = self.networks[host, network]
        endpoint = Endpoint(name, network, "eth0", f"ve-{name}", ipv4, ipv6, ipam.mac_address(ipv4))
        sandbox.write_sysctl(self.path(name), "net/ipv6/conf/default/disable_ipv6", "1")  # as a sandbox has it
        self.wires[name] = (host, Wire(endpoint, known, default=True))
        self.labels[name] = labels or {}
        with self.on(host), Rtnl() as rtnl:
            link = rtnl.link(known.link)
            assert link is not None
            veth.ensure(rtnl, self.path(name), self.wires[name][1], link)
        self.firewall(host)

    def move(self, name: str, host: int) -> None:
        """To another host, with its addresses."""
        where, wire = self.wires.pop(name)
        with self.on(where), Rtnl() as rtnl:
            veth.detach(rtnl, [wire.endpoint])
        self.firewall(where)
        endpoint = wire.endpoint
        self.attach(name, host, wire.network.name, endpoint.ipv4, endpoint.ipv6, self.labels[name])

    def address(self, name: str, family: int = 4) -> str:
        return str(getattr(self.wires[name][1].endpoint, f"ipv{family}")).partition("/")[0]

    def reached(self, asked: Iterable[Ask], family: int, patience: float) -> set[Ask]:
        """Which of these are answered; all ask at once."""
        selector = selectors.DefaultSelector()
        found: set[Ask] = set()
        with contextlib.ExitStack() as stack:
            stack.enter_context(selector)
            for ask in asked:
                source, target, protocol, port = ask
                kind = (socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM) | socket.SOCK_NONBLOCK
                with namespaces.inside(self.path(source)):
                    sock = socket.socket(
                        socket.AF_INET6 if family == 6 else socket.AF_INET, kind | socket.SOCK_NONBLOCK
                    )
                stack.enter_context(sock)
                sock.connect_ex((self.address(target, family), port))
                if protocol == "udp":
                    sock.send(b"?")
                selector.register(sock, selectors.EVENT_READ, ask)
            end = time.monotonic() + patience
            while selector.get_map() and time.monotonic() < end:
                for key, dummy in selector.select(0.1):
                    selector.unregister(key.fileobj)
                    with contextlib.suppress(OSError):
                        if key.fileobj.recv(100):  # type: ignore[union-attr]
                            found.add(key.data)
        return found

    def echo(self, name: str, address: str, size: int = 8, patience: float = TIMEOUT) -> bool:
        """Is an echo request of ``size`` bytes answered? OSError when it does not fit into the link."""
        six = ":" in address
        with namespaces.inside(self.path(name)):
            protocol = socket.getprotobyname("ipv6-icmp") if six else socket.IPPROTO_ICMP
            sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM, protocol)
        with sock:
            sock.settimeout(patience)
            _dont_fragment(sock, six=six)
            head = struct.pack("!BBHHH", 128 if six else 8, 0, 0, 0, 1)
            sock.connect((address, 0))
            sock.send(head + bytes(size))
            try:
                return len(sock.recv(70000)) == len(head) + size
            except OSError:
                return False


def _dont_fragment(sock: socket.socket, *, six: bool) -> None:
    if six:
        sock.setsockopt(socket.IPPROTO_IPV6, 23, 2)  # IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO
    else:
        sock.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO


class Flow:
    """Numbered datagrams from one container to another that do not pause, and what of them arrives."""

    def __init__(self, fleet: Fleet, source: str, target: str, family: int = 4) -> None:
        kind = socket.AF_INET6 if family == 6 else socket.AF_INET
        with namespaces.inside(fleet.path(target)):
            self._in = socket.socket(kind, socket.SOCK_DGRAM)
        with namespaces.inside(fleet.path(source)):
            self._out = socket.socket(kind, socket.SOCK_DGRAM)
        self._in.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._in.bind((fleet.address(target, family), 7777))
        self._in.settimeout(1.0)
        self._out.connect((fleet.address(target, family), 7777))
        self.sent = 0
        self.seen: set[int] = set()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=part) for part in (self._send, self._receive)]

    def __enter__(self) -> Flow:
        for thread in self._threads:
            thread.start()
        assert eventually(lambda: self.seen)
        return self

    def _send(self) -> None:
        while not self._stop.is_set():
            self._out.send(struct.pack("!I", self.sent))
            self.sent += 1
            time.sleep(0.001)

    def _receive(self) -> None:
        with contextlib.suppress(TimeoutError):
            while True:
                self.seen.add(struct.unpack("!I", self._in.recv(100))[0])

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._in.close()
        self._out.close()

    def lost(self) -> list[int]:
        return sorted(set(range(self.sent)) - self.seen)
