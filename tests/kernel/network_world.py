# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host of the test's own: a network namespace with networks of ours, containers that serve, and a machine outside.

The test's thread lives in that namespace, so that nothing of it is on the machine's own network.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress

from ansible_collections.vessel.host.plugins.module_utils._kernel import namespaces
from ansible_collections.vessel.host.plugins.module_utils._network import (
    bridge,
    ipam,
    nft_replace,
    nftables,
    observe,
    sandbox,
    veth,
)
from ansible_collections.vessel.host.plugins.module_utils._network.model import Endpoint, Network, Port
from ansible_collections.vessel.host.plugins.module_utils._network.nftables import Target
from ansible_collections.vessel.host.plugins.module_utils._network.rtnl import Rtnl
from ansible_collections.vessel.host.plugins.module_utils._network.veth import Wire

OUTSIDE, HOST = "198.51.100.2", "198.51.100.1"
OUTSIDE6, HOST6 = "2001:db8::2", "2001:db8::1"
TIMEOUT = 1.0


class Places:
    """Namespaces by short names, and who serves and asks in them."""

    def __init__(self) -> None:
        self.tag = f"vt{os.getpid()}"
        self.servers: list[int] = []
        self.made: list[str] = []
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def make(self, name: str) -> None:
        sandbox.create(self.path(name))
        self.made.append(name)

    def path(self, name: str) -> str:
        return f"/run/netns/{self.tag}-{name}"

    def enter(self, name: str) -> None:
        fd = os.open(self.path(name), os.O_RDONLY)
        namespaces.setns(fd, namespaces.CLONE_NEWNET)
        os.close(fd)

    def ip(self, *words: str, where: str = "host") -> str:
        command = ["ip", "-n", f"{self.tag}-{where}", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def serve(self, name: str, where: str, port: int, protocol: str = "tcp", host: str = "::") -> None:
        """A process in the namespace that tells ``name`` to whoever asks."""
        ready, told = os.pipe()
        pid = os.fork()
        if pid:
            os.close(told)
            assert os.read(ready, 1) == b"y"
            os.close(ready)
            self.servers.append(pid)
            return
        try:
            self.enter(where)
            _serve(name.encode(), host, port, protocol, lambda: os.write(told, b"y"))
        finally:
            os._exit(1)

    def fetch(
        self, where: str, address: str, port: int = 80, protocol: str = "tcp", *, patience: float = TIMEOUT
    ) -> str:
        """ "WHO PEER": who answers, and as whom it saw us; empty when nobody does within ``patience`` seconds."""
        kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[protocol]
        with namespaces.inside(self.path(where)):
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        with sock:
            sock.settimeout(patience)
            try:
                sock.connect((address, port))
                if protocol == "udp":
                    sock.send(b"?")
                return sock.recv(200).decode()
            except OSError:
                return ""

    def close(self) -> None:
        for pid in self.servers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        namespaces.setns(self.home, namespaces.CLONE_NEWNET)
        os.close(self.home)
        for name in reversed(self.made):
            sandbox.delete(self.path(name))


class World(Places):
    """``host`` and ``outside`` are names of namespaces, as those of containers are."""

    def __init__(self) -> None:
        super().__init__()
        self.table = "world"
        self.networks: dict[str, Network] = {}
        self.wires: dict[str, list[Wire]] = {}
        self.targets: list[Target] = []
        for name in ("host", "outside"):
            self.make(name)
        self.enter("host")
        self.rtnl = Rtnl()
        self._uplink()

    def _uplink(self) -> None:
        self.ip("link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", f"{self.tag}-outside")
        for where, link, four, six in (("host", "uplink", HOST, HOST6), ("outside", "eth0", OUTSIDE, OUTSIDE6)):
            with namespaces.inside(self.path(where)), open(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6", "w") as file:
                file.write("0")
            self.ip("addr", "add", f"{four}/24", "dev", link, where=where)
            self.ip("addr", "add", f"{six}/64", "dev", link, "nodad", where=where)
            self.ip("link", "set", link, "up", where=where)

    def network(self, name: str, number: int, **options: object) -> Network:
        """10.NUMBER.0.0/24, fd00:NUMBER::/64"""
        self.networks[name] = network = Network(
            name,
            f"br-{name}",
            subnet=f"10.{number}.0.0/24",
            gateway=f"10.{number}.0.1",
            subnet6=f"fd00:{number}::/64",
            gateway6=f"fd00:{number}::1",
            **options,  # type: ignore[arg-type]
        )
        self.mend_bridge(name)
        for prefix, gateway in ((network.subnet, HOST), (network.subnet6, HOST6)):
            self.ip("route", "add", prefix, "via", gateway, where="outside")
        return network

    def mend_bridge(self, name: str) -> None:
        bridge.ensure(self.rtnl, self.networks[name], observe.Snapshot.take(self.rtnl))

    def container(self, name: str, *networks: str, number: int = 0, serves: Iterable[int] = (80,)) -> None:
        """Attached to the networks in their order, and it tells its name to whoever connects to its ports."""
        self.make(name)
        self.wires[name] = []
        routed = False
        for index, each in enumerate(networks):
            network = self.networks[each]
            host = number or 10 + len(self.wires)
            ipv4 = network.subnet.replace(".0/", f".{host}/")
            ipv6 = network.subnet6.replace("::/", f"::{host}/")
            mac = ipam.mac_address(ipv4 or ipv6)
            endpoint = Endpoint(name, each, f"eth{index}", f"ve{index}-{name}", ipv4, ipv6, mac)
            self.wires[name].append(Wire(endpoint, network, default=not routed and not network.internal))
            routed = routed or not network.internal
        self.attach(name)
        for port in serves:
            self.serve(name, name, port)

    def attach(self, name: str) -> None:
        for wire in self.wires[name]:
            link = self.rtnl.link(wire.network.link)
            assert link is not None
            veth.ensure(self.rtnl, self.path(name), wire, link)

    def drift(self, name: str) -> list[str]:
        here, inside = observe.Snapshot.take(self.rtnl), observe.within(self.path(name))
        return [found.what for wire in self.wires[name] for found in veth.differences(wire, here, inside)]

    def remove(self, name: str) -> None:
        for wire in self.wires.pop(name):
            veth.detach(self.rtnl, [wire.endpoint])
        sandbox.delete(self.path(name))

    def address(self, name: str, network: str = "", family: int = 4) -> str:
        wires = [wire for wire in self.wires[name] if network in ("", wire.network.name)]
        return getattr(wires[0].endpoint, f"ipv{family}").partition("/")[0]

    def publish(self, name: str, port: Port, network: str = "") -> None:
        self.targets += [Target(port, self.address(name, network, family)) for family in (4, 6)]

    def rules(self) -> list[dict]:
        return nftables.render(self.table, self.networks.values(), self.targets)

    def firewall(self) -> None:
        nftables.apply(nft_replace.replacement(self.rules(), nftables.read(self.table)))

    def close(self) -> None:
        self.rtnl.close()
        super().close()


def _serve(name: bytes, host: str, port: int, protocol: str, ready: object) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[protocol]
    sock = socket.socket(family, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    if protocol == "tcp":
        sock.listen(16)
    ready()  # type: ignore[operator]
    while True:
        if protocol == "tcp":
            connection, peer = sock.accept()
            with connection:
                connection.send(name + b" " + peer[0].removeprefix("::ffff:").encode())
        else:
            dummy, peer = sock.recvfrom(100)
            sock.sendto(name + b" " + peer[0].removeprefix("::ffff:").encode(), peer)


def eventually(check: object, seconds: float = 3.0) -> bool:
    """For what the kernel does a moment later."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False
