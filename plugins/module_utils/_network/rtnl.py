# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of links, addresses and routes: the one place that speaks to pyroute2 (0.7.2 and newer).

The library is imported with the first change. A run that only asks (dump.py) does without it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from .._errors import DependencyError, KernelError
from .._kernel.namespaces import inside
from . import library
from .dump import Link, Reader, Route

__all__ = ["Link", "Route", "Rtnl", "open_netns"]

# To delete as many links one by one costs no more than to list them all.
_FEW = 3
_GROUP = 0x76730000  # an administrator's groups have small numbers; one that is in use is passed over
SIOCGSKNS = 0x894C  # the network namespace of a socket, as a descriptor (Linux 4.10)
# One library for the process: the class, and the error that it raises.
_library: list[Any] = []


class Rtnl(Reader):
    """Reader that can write too, in the namespace at ``netns``, or in the one in which it was made."""

    _writer: Any = None

    def __enter__(self) -> Rtnl:
        return self

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        super().close()

    @property
    def _ipr(self) -> Any:
        """The library's own socket, opened where ours is, wherever the thread is by now."""
        if self._writer is None:
            make = _import()[0]
            home = fcntl.ioctl(self.socket, SIOCGSKNS)
            try:
                with inside(f"/proc/self/fd/{home}"):
                    self._writer = make()
            finally:
                os.close(home)
        return self._writer

    # writing; what is there already is no error, nor is what is gone already
    def add_bridge(self, name: str, mtu: int, mac: str) -> None:
        # Without forward delay a container's first packets would be lost for 30 s; we make no loops.
        self._do(
            "add bridge",
            name,
            lambda: self._ipr.link("add", ifname=name, kind="bridge", mtu=mtu, address=mac, br_forward_delay=0),
        )

    def add_veth(self, name: str, *, master: int, mtu: int, inside_name: str, mac: str, netns_fd: int) -> None:
        """A pair whose far end is born inside the namespace, under its final name: no rename, no move."""
        peer: dict[str, Any] = {"ifname": inside_name, "net_ns_fd": netns_fd, "mtu": mtu}
        if mac:
            peer["address"] = mac
        self._do(
            "add veth",
            name,
            lambda: self._ipr.link("add", ifname=name, kind="veth", mtu=mtu, master=master, peer=peer, state="up"),
            exists=False,
        )

    def add_vxlan(
        self, name: str, *, vni: int, port: int, local: str, device: int, master: int, mtu: int, mac: str
    ) -> None:
        """Who is behind which host it learns from what comes in; to whom it sends what nobody is known for,
        ``append_forwarding`` says."""
        words: dict[str, Any] = {"vxlan_local6" if ":" in local else "vxlan_local": local}
        if device:
            words["vxlan_link"] = device
        self._do(
            "add vxlan",
            name,
            lambda: self._ipr.link(
                "add",
                ifname=name,
                kind="vxlan",
                vxlan_id=vni,
                vxlan_port=port,
                vxlan_learning=1,
                mtu=mtu,
                address=mac,
                master=master,
                **words,
            ),
            exists=False,
        )

    def append_forwarding(self, index: int, mac: str, where: str) -> None:
        self._do(
            f"append {mac} at {where} to link",
            index,
            lambda: self._ipr.fdb("append", ifindex=index, lladdr=mac, dst=where),
        )

    def delete_forwarding(self, index: int, mac: str, where: str) -> None:
        self._do(
            f"delete {mac} at {where} of link",
            index,
            lambda: self._ipr.fdb("del", ifindex=index, lladdr=mac, dst=where),
            missing=(errno.ENOENT, errno.ENODEV),
        )

    def set_hairpin(self, index: int) -> None:
        """Let the port of a bridge send back where it received: with br_netfilter, a container that asks for its own
        published port is turned round by the bridge itself."""
        self._do("set hairpin of link", index, lambda: self._ipr.brport("set", index=index, mode=1))

    def set_link(self, index: int, **attributes: Any) -> None:
        """state="up", mtu=…, master=…, address=…"""
        self._do("set link", index, lambda: self._ipr.link("set", index=index, **attributes))

    def delete_link(self, name: str) -> None:
        link = self.link(name)
        if link is not None:
            self._do("delete link", name, lambda: self._ipr.link("del", index=link.index), missing=(errno.ENODEV,))

    def delete_links(self, names: Iterable[str]) -> None:
        """As a group: the kernel waits until nobody looks at a link any more, and does it once for all of them."""
        wanted = set(names)
        if len(wanted) < _FEW:
            for name in wanted:
                self.delete_link(name)
            return
        present = self.links().values()
        going = [link.index for link in present if link.name in wanted]
        used = {link.group for link in present}
        group = next(number for number in range(_GROUP, _GROUP + len(used) + 1) if number not in used)
        for index in going:
            self.set_link(index, group=group)
        if going:
            self._do("delete links of group", group, lambda: self._ipr.link("del", group=group))

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
    def _do(
        operation: str,
        obj: object,
        request: Callable[[], Any],
        *,
        missing: tuple[int, ...] = (),
        exists: bool = True,
    ) -> None:
        try:
            answer = request()
            if answer is not None and not isinstance(answer, (list, tuple)):
                list(answer)  # 0.9 answers with a generator, and what is not read is not heard
        except _import()[1] as error:
            if error.code not in ((errno.EEXIST, *missing) if exists else missing):
                _raise(operation, obj, error)


def _raise(operation: str, obj: object, error: Any) -> NoReturn:
    raise KernelError(operation, obj, error.code or errno.EIO) from None


def _import() -> list[Any]:
    if not _library:
        library.need()
        try:
            from pyroute2 import IPRoute, NetlinkError
        except ImportError as error:
            raise DependencyError(f"the Python library pyroute2 can't be used: {error}", hint=library.REMEDY) from None
        _library.extend((IPRoute, NetlinkError))
    return _library


def _broadcast(address: str) -> str:
    import ipaddress

    return str(ipaddress.ip_interface(address).network.broadcast_address)


def open_netns(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
