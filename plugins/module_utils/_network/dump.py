# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links, addresses and routes as rtnetlink(7) dumps them, for asking alone.

A run that changes nothing only asks, and it is the run that must be fast: the library that rtnl.py changes things
with takes a tenth of a second to import, and a quarter of a millisecond for what takes the kernel ten microseconds.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from .._errors import KernelError
from .._kernel.namespaces import inside

NETLINK_ROUTE = 0
RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO, IFLA_GROUP = 1, 3, 4, 5, 10, 18, 27
IFLA_EXT_MASK = 29
IFLA_INFO_KIND = 1
RTEXT_FILTER_SKIP_STATS = 8
IFLA_INFO_DATA = 2
IFLA_VXLAN_ID, IFLA_VXLAN_LINK, IFLA_VXLAN_LOCAL, IFLA_VXLAN_PORT, IFLA_VXLAN_LOCAL6 = 1, 3, 4, 15, 17
RTM_NEWNEIGH, RTM_GETNEIGH = 28, 30
NDA_DST, NDA_LLADDR = 1, 2
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_MULTIPATH, RTA_TABLE, RTA_VIA = 1, 4, 5, 9, 15, 18
RTN_UNICAST, RT_TABLE_MAIN = 1, 254
IFF_UP, IFF_RUNNING = 0x1, 0x40

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_IFINFO = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_IFADDR = struct.Struct("=BBBBI")  # ifaddrmsg: family, length, flags, scope, index
_RT = struct.Struct("=BBBBBBBBI")  # rtmsg: family, lengths, tos, table, protocol, scope, type, flags
_ND = struct.Struct("=BxxxiHBB")  # ndmsg: family, index, state, flags, type
_NEXTHOP = struct.Struct("=HBBi")  # rtnexthop: length, flags, hops, index
# An interrupted dump (something changed between two of its parts) is asked for again, but not for ever.
_TRIES = 12

Attributes = dict[int, bytes]


@dataclass(frozen=True)
class Vxlan:
    """``device`` is the index of the link below, 0 for none."""

    vni: int
    port: int
    local: str
    device: int


@dataclass(frozen=True)
class Link:
    """A network interface. ``master`` and ``peer`` are indices, 0 for none. One that is ``running`` has a carrier, and
    where it is a bridge's port the bridge knows."""

    index: int
    name: str
    kind: str
    up: bool
    mtu: int
    mac: str
    master: int
    peer: int
    group: int = 0
    vxlan: Optional[Vxlan] = None
    running: bool = False


@dataclass(frozen=True)
class Route:
    """``destination`` is ADDRESS/LENGTH, "default" for none."""

    destination: str
    gateway: str
    index: int


class Reader:
    """A netlink socket in the namespace at ``netns``, or in the caller's."""

    def __init__(self, netns: str = "") -> None:
        # A socket stays in the namespace in which it was opened, so the thread goes there only for that.
        if netns:
            with inside(netns):
                self.socket = _open()
        else:
            self.socket = _open()
        self._sequence = 0

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def links(self) -> dict[str, Link]:
        body = _IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
        found = (_link(data) for kind, data in self._dump(RTM_GETLINK, body) if kind == RTM_NEWLINK)
        return {link.name: link for link in found}

    def link(self, name: str) -> Optional[Link]:
        encoded = name.encode() + b"\0"
        body = _IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _attribute(IFLA_IFNAME, encoded)
        try:
            for kind, data in self._ask(RTM_GETLINK, body, 0):
                if kind == RTM_NEWLINK:
                    return _link(data)
        except KernelError as error:
            if error.errno != errno.ENODEV:
                raise
        return None

    def addresses(self) -> dict[int, set[str]]:
        """ADDRESS/LENGTH of each link, by its index; link-local IPv6 left out."""
        found: dict[int, set[str]] = {}
        for kind, data in self._dump(RTM_GETADDR, _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
            if kind != RTM_NEWADDR:
                continue
            family, length, dummy, dummy, index = _IFADDR.unpack_from(data)
            attributes = _attributes(data, _IFADDR.size)
            raw = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS)
            address = socket.inet_ntop(family, raw) if raw else ""
            if address and not address.startswith("fe80:"):
                found.setdefault(index, set()).add(f"{address}/{length}")
        return found

    def routes(self) -> list[Route]:
        """Unicast routes of the main table, both families."""
        found = []
        for kind, data in self._dump(RTM_GETROUTE, _RT.pack(socket.AF_UNSPEC, *[0] * 8)):
            if kind == RTM_NEWROUTE and data[0] in (socket.AF_INET, socket.AF_INET6):
                route = _route(data)
                if route is not None:
                    found.append(route)
        return found

    def forwarding(self, index: int) -> set[tuple[str, str]]:
        """(MAC, address of the host that it is at) of a vxlan link; all zeros stand for whoever is not known."""
        found = set()
        # As ifinfomsg the question is for one link (rtnl_fdb_dump); as ndmsg it would be for all.
        body = _IFINFO.pack(socket.AF_BRIDGE, 0, index, 0, 0)
        for kind, data in self._dump(RTM_GETNEIGH, body):
            if kind != RTM_NEWNEIGH or _ND.unpack_from(data)[1] != index:
                continue
            attributes = _attributes(data, _ND.size)
            mac, where = attributes.get(NDA_LLADDR), attributes.get(NDA_DST)
            if mac and where:
                found.add((mac.hex(":"), _ip(where)))
        return found

    def _dump(self, kind: int, body: bytes) -> list[tuple[int, bytes]]:
        """A dump of one time where that can be had. On a host where links come and go all the time, the last try: it
        may lack one or have one twice, and to mend what is right already changes nothing."""
        found: list[tuple[int, bytes]] = []
        for number in range(_TRIES):
            found.clear()
            try:
                found.extend(self._ask(kind, body, NLM_F_DUMP))
                return found
            except InterruptedError:
                time.sleep(0.001 * number)
        return found

    def _ask(self, kind: int, body: bytes, flags: int) -> Iterator[tuple[int, bytes]]:
        """(type, payload) of each part of the answer. InterruptedError, at its end, when it may not be of one time."""
        self._sequence += 1
        head = _HEADER.pack(_HEADER.size + len(body), kind, NLM_F_REQUEST | flags, self._sequence, 0)
        self.socket.send(head + body)
        torn = False
        while True:
            answer = self.socket.recv(1 << 18)
            offset = 0
            while offset + _HEADER.size <= len(answer):
                length, kind, marks, sequence, dummy = _HEADER.unpack_from(answer, offset)
                payload = answer[offset + _HEADER.size : offset + length]
                offset += (length + 3) & ~3
                if sequence != self._sequence:
                    continue  # what is left of an answer that was given up
                torn = torn or bool(marks & NLM_F_DUMP_INTR)
                if kind in (NLMSG_ERROR, NLMSG_DONE):
                    code = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
                    if code:
                        raise KernelError("ask netlink for", f"type {kind}", code)
                    if torn:
                        raise InterruptedError
                    return
                yield kind, payload
                if not flags:
                    return


def _open() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
    sock.bind((0, 0))
    return sock


def _attribute(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + bytes(-len(data) % 4)


def _u32(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _attributes(data: bytes, offset: int) -> Attributes:
    found = {}
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[offset + _ATTRIBUTE.size : offset + length]  # less the marks nested, big-endian
        offset += (length + 3) & ~3
    return found


def _number(data: Optional[bytes]) -> int:
    return struct.unpack("=I", data)[0] if data and len(data) == 4 else 0


def _ip(data: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data)


def _link(data: bytes) -> Link:
    dummy, dummy, index, flags, dummy = _IFINFO.unpack_from(data)
    attributes = _attributes(data, _IFINFO.size)
    info = _attributes(attributes.get(IFLA_LINKINFO, b""), 0)
    kind = info.get(IFLA_INFO_KIND, b"")
    return Link(
        index,
        attributes[IFLA_IFNAME].rstrip(b"\0").decode(),
        kind.rstrip(b"\0").decode(),
        bool(flags & IFF_UP),
        _number(attributes.get(IFLA_MTU)),
        attributes.get(IFLA_ADDRESS, b"").hex(":"),
        _number(attributes.get(IFLA_MASTER)),
        _number(attributes.get(IFLA_LINK)),
        _number(attributes.get(IFLA_GROUP)),
        _vxlan(info.get(IFLA_INFO_DATA, b"")) if kind == b"vxlan\0" else None,
        bool(flags & IFF_RUNNING),
    )


def _vxlan(data: bytes) -> Vxlan:
    attributes = _attributes(data, 0)
    local = attributes.get(IFLA_VXLAN_LOCAL) or attributes.get(IFLA_VXLAN_LOCAL6)
    return Vxlan(
        _number(attributes.get(IFLA_VXLAN_ID)),
        int.from_bytes(attributes.get(IFLA_VXLAN_PORT, b""), "big"),
        _ip(local) if local else "",
        _number(attributes.get(IFLA_VXLAN_LINK)),
    )


def _route(data: bytes) -> Optional[Route]:
    family, length, dummy, dummy, table, dummy, dummy, kind, dummy = _RT.unpack_from(data)
    attributes = _attributes(data, _RT.size)
    if kind != RTN_UNICAST or (_number(attributes.get(RTA_TABLE)) or table) != RT_TABLE_MAIN:
        return None
    destination, hops = attributes.get(RTA_DST), attributes.get(RTA_MULTIPATH, b"")
    index = _number(attributes.get(RTA_OIF))
    if len(hops) >= _NEXTHOP.size:  # of several ways the first stands for all
        end, dummy, dummy, index = _NEXTHOP.unpack_from(hops)
        attributes = _attributes(hops[:end], _NEXTHOP.size)
    where = f"{socket.inet_ntop(family, destination)}/{length}" if destination else "default"
    return Route(where, _gateway(family, attributes), index)


def _gateway(family: int, attributes: Attributes) -> str:
    via = attributes.get(RTA_VIA)
    if via:  # an IPv4 route by way of an IPv6 neighbour
        return socket.inet_ntop(struct.unpack_from("=H", via)[0], via[2:])
    raw = attributes.get(RTA_GATEWAY)
    return socket.inet_ntop(family, raw) if raw else ""
