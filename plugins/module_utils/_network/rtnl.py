# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links, addresses and routes: the one place that speaks to pyroute2 (0.7.2 and newer)."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Optional

from .._errors import DependencyError, KernelError
from .._kernel.namespaces import inside

try:
    from pyroute2 import IPRoute, NetlinkError
except ImportError:
    IPRoute = None
    NetlinkError = OSError


@dataclass(frozen=True)
class Link:
    """A network interface. ``master`` and ``peer`` are indices, 0 for none."""

    index: int
    name: str
    kind: str
    up: bool
    mtu: int
    mac: str
    master: int
    peer: int


@dataclass(frozen=True)
class Route:
    """``destination`` is ADDRESS/LENGTH, "default" for none."""

    destination: str
    gateway: str
    index: int


class Rtnl:
    """A netlink socket in the namespace at ``netns``, or in the caller's."""

    def __init__(self, netns: str = "") -> None:
        if IPRoute is None:
            hint = "install python3-pyroute2 for the interpreter that Ansible uses on the host"
            raise DependencyError("the Python library pyroute2 is missing", hint=hint)
        # A socket stays in the namespace in which it was opened, so the thread goes there only for that.
        if netns:
            with inside(netns):
                self._ipr = IPRoute()
        else:
            self._ipr = IPRoute()

    def __enter__(self) -> Rtnl:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._ipr.close()

    # reading
    def link(self, name: str) -> Optional[Link]:
        try:
            found = list(self._ipr.link("get", ifname=name))
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return None
            _raise("get link", name, error)
        return _link(found[0])

    def addresses(self, family: int = socket.AF_UNSPEC) -> dict[int, set[str]]:
        """ADDRESS/LENGTH of each link, by its index; link-local IPv6 left out."""
        found: dict[int, set[str]] = {}
        for message in _dump(lambda: self._ipr.get_addr(family=family)):
            address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            if address and not address.startswith("fe80:"):
                found.setdefault(message["index"], set()).add(f"{address}/{message['prefixlen']}")
        return found

    def routes(self) -> list[Route]:
        """Unicast routes of the main table, both families."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            for message in _dump(lambda family=family: self._ipr.get_routes(family=family)):  # type: ignore[misc]
                if message.get_attr("RTA_TABLE") != 254 or message["type"] != 1:
                    continue
                destination = message.get_attr("RTA_DST")
                where = f"{destination}/{message['dst_len']}" if destination else "default"
                gateway = message.get_attr("RTA_GATEWAY") or ""
                found.append(Route(where, gateway, message.get_attr("RTA_OIF") or 0))
        return found

    # writing; what is there already is no error
    def add_bridge(self, name: str, mtu: int, mac: str) -> None:
        # Without forward delay a container's first packets would be lost for 30 s; we make no loops.
        self._do(
            "add bridge",
            name,
            lambda: self._ipr.link("add", ifname=name, kind="bridge", mtu=mtu, address=mac, br_forward_delay=0),
        )

    def add_veth(self, name: str, *, master: int, mtu: int, inside_name: str, mac: str, netns_fd: int) -> None:
        """A pair whose far end is born inside the namespace, under its final name: no rename, no move."""
        peer = {"ifname": inside_name, "net_ns_fd": netns_fd, "mtu": mtu, "address": mac}
        self._do(
            "add veth",
            name,
            lambda: self._ipr.link("add", ifname=name, kind="veth", mtu=mtu, master=master, peer=peer, state="up"),
        )

    def set_hairpin(self, name: str) -> None:
        """Let the port of a bridge send back where it received: with br_netfilter, a container that asks for its own
        published port is turned round by the bridge itself."""
        try:
            with open(f"/sys/class/net/{name}/brport/hairpin_mode", "w") as file:
                file.write("1")
        except OSError:  # /sys may be of another namespace than ours
            link = self.link(name)
            if link is not None:
                self._do("set hairpin of", name, lambda: self._ipr.brport("set", index=link.index, mode=1))

    def set_link(self, index: int, **attributes: Any) -> None:
        """state="up", mtu=…, master=…, address=…"""
        self._do("set link", index, lambda: self._ipr.link("set", index=index, **attributes))

    def delete_link(self, name: str) -> None:
        link = self.link(name)
        if link is not None:
            self._do("delete link", name, lambda: self._ipr.link("del", index=link.index), missing=(errno.ENODEV,))

    def add_address(self, index: int, address: str) -> None:
        ip, dummy, length = address.partition("/")
        attributes: dict[str, Any] = {"index": index, "address": ip, "prefixlen": int(length)}
        if ":" in ip:
            attributes["flags"] = 0x02  # IFA_F_NODAD: nobody else can have it, and it works at once
        else:
            attributes["broadcast"] = _broadcast(address)
        self._do(f"add address {address} to link", index, lambda: self._ipr.addr("add", **attributes))

    def delete_address(self, index: int, address: str) -> None:
        ip, dummy, length = address.partition("/")
        self._do(
            f"delete address {address} of link",
            index,
            lambda: self._ipr.addr("del", index=index, address=ip, prefixlen=int(length)),
            missing=(errno.EADDRNOTAVAIL, errno.ENODEV),
        )

    def set_default_route(self, gateway: str, index: int) -> None:
        family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
        self._do(
            f"set default route via {gateway} on link",
            index,
            lambda: self._ipr.route("replace", dst="default", gateway=gateway, oif=index, family=family),
        )

    def delete_default_route(self, gateway: str) -> None:
        family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
        self._do(
            "delete default route via",
            gateway,
            lambda: self._ipr.route("del", dst="default", gateway=gateway, family=family),
            missing=(errno.ESRCH, errno.ENODEV),
        )

    @staticmethod
    def _do(operation: str, obj: object, request: Callable[[], Any], *, missing: tuple[int, ...] = ()) -> None:
        try:
            answer = request()
            if answer is not None and not isinstance(answer, (list, tuple)):
                list(answer)  # 0.9 answers with a generator, and what is not read is not heard
        except NetlinkError as error:
            if error.code != errno.EEXIST and error.code not in missing:
                _raise(operation, obj, error)


def _dump(request: Callable[[], Any]) -> list[Any]:
    """The whole of a dump. One that changes meanwhile is begun anew: it may miss what did not change."""
    tries = 100
    while tries:
        tries -= 1
        try:
            return list(request())
        except NetlinkError as error:
            if type(error).__name__ != "NetlinkDumpInterrupted":
                _raise("dump", "", error)
    raise KernelError("dump", "the kernel's tables", errno.EINTR, hint="they do not stop changing")


def _raise(operation: str, obj: object, error: Any) -> NoReturn:
    raise KernelError(operation, obj, error.code or errno.EIO) from None


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    return Link(
        message["index"],
        message.get_attr("IFLA_IFNAME"),
        (info.get_attr("IFLA_INFO_KIND") or "") if info else "",
        bool(message["flags"] & 1),
        message.get_attr("IFLA_MTU") or 0,
        message.get_attr("IFLA_ADDRESS") or "",
        message.get_attr("IFLA_MASTER") or 0,
        message.get_attr("IFLA_LINK") or 0,
    )


def _broadcast(address: str) -> str:
    import ipaddress

    return str(ipaddress.ip_interface(address).network.broadcast_address)


def open_netns(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
