# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""UDP flows of published ports, which the kernel leads on as it led their first datagram.

Rules are asked once a flow. Who keeps sending from one port keeps its flow alive, and would go on reaching the
container that had the port before, or nobody. TCP ends by itself: the old container answers a reset or nothing.

Besides rtnl.py this is the one place that speaks to pyroute2 (0.7.2 and newer), imported when a port has changed.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Iterable
from typing import Any, Optional

from .._errors import DependencyError, KernelError
from . import library
from .nftables import Target

_FAMILIES = {4: (socket.AF_INET, "V4", "0.0.0.0"), 6: (socket.AF_INET6, "V6", "::")}
# A kernel without CONFIG_NF_CT_NETLINK: nobody can look, and flows end by themselves when nothing is sent for a while.
_ABSENT = (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT)

Key = tuple[int, str, int]  # IP version, address of the host, port
Lead = tuple[str, int]  # address and port inside


def let_go(before: list[Target], after: list[Target], local: Collection[str]) -> int:
    """End the flows that go elsewhere than the rules lead by now; how many they were.

    ``before`` and ``after`` are what the rules led to and lead to, ``local`` the addresses of the host.
    """
    leads = _leads(after)
    return sum(_let_go(version, port, leads, local) for version, port in changed(before, after))


def changed(before: Iterable[Target], after: Iterable[Target]) -> list[tuple[int, int]]:
    """(IP version, port) of the UDP ports that lead elsewhere, or to nobody, or that nobody had."""
    old, new = _leads(before), _leads(after)
    return sorted({(key[0], key[2]) for key in old.keys() | new.keys() if old.get(key) != new.get(key)})


def _leads(targets: Iterable[Target]) -> dict[Key, Lead]:
    found = {}
    for target in targets:
        if target.port.protocol == "udp":
            version = 6 if ":" in target.address else 4
            wild = target.port.host_ip in ("0.0.0.0", "::")
            host_ip = _FAMILIES[version][2] if wild else target.port.host_ip
            found[version, host_ip, target.port.host_port] = (target.address, target.port.container_port)
    return found


def _let_go(version: int, port: int, leads: dict[Key, Lead], local: Collection[str]) -> int:
    library.need()
    try:
        from pyroute2 import NetlinkError
        from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket
    except ImportError as error:
        raise DependencyError(f"the Python library pyroute2 can't be used: {error}", hint=library.REMEDY) from None

    family, dummy, wild = _FAMILIES[version]
    conntrack, ended = NFCTSocket(nfgen_family=family), 0
    try:
        asked = NFCTAttrTuple(family=family, proto=socket.IPPROTO_UDP, dport=port)
        for flow in list(conntrack.dump(tuple_orig=asked)):
            there, answers = _tuple(flow, "CTA_TUPLE_ORIG", version), _tuple(flow, "CTA_TUPLE_REPLY", version)
            if there is None or answers is None or there["dport"] != port or not _is_local(there["daddr"], local):
                continue
            wanted = leads.get((version, there["daddr"], port)) or leads.get((version, wild, port))
            if (answers["saddr"], answers["sport"]) != (wanted or (there["daddr"], port)):
                ended += _end(conntrack, NFCTAttrTuple(family=family, proto=socket.IPPROTO_UDP, **there), NetlinkError)
    except NetlinkError as error:
        if error.code not in _ABSENT:
            raise KernelError("end the flows of port", f"{port}/udp", error.code or errno.EIO) from None
    finally:
        conntrack.close()
    return ended


def _end(conntrack: Any, flow: Any, netlink_error: type[Exception]) -> int:
    try:
        list(conntrack.entry("del", tuple_orig=flow))
    except netlink_error as error:
        if getattr(error, "code", 0) != errno.ENOENT:  # it has ended meanwhile
            raise
    return 1


def _tuple(flow: Any, name: str, version: int) -> Optional[dict[str, Any]]:
    """saddr, daddr, sport and dport of one direction; None for what is no UDP."""
    body = flow.get_attr(name)
    ip, proto = body.get_attr("CTA_TUPLE_IP"), body.get_attr("CTA_TUPLE_PROTO")
    if proto.get_attr("CTA_PROTO_NUM") != socket.IPPROTO_UDP:
        return None
    kind = _FAMILIES[version][1]
    addresses = {key: ip.get_attr(f"CTA_IP_{kind}_{end}") for key, end in (("saddr", "SRC"), ("daddr", "DST"))}
    ports = {key: proto.get_attr(f"CTA_PROTO_{end}_PORT") for key, end in (("sport", "SRC"), ("dport", "DST"))}
    return {**addresses, **ports} if addresses["daddr"] else None


def _is_local(address: str, local: Collection[str]) -> bool:
    return address in local or address.startswith("127.")
