# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Netlink's answers taken apart: those that come in pieces, torn, or as an error."""

from __future__ import annotations

import struct

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError
from ansible_collections.vessel.host.plugins.module_utils._network import dump
from ansible_collections.vessel.host.plugins.module_utils._network.dump import Link, Reader, Route


def message(kind: int, payload: bytes, sequence: int, flags: int = 2) -> bytes:
    body = struct.pack("=IHHII", 16 + len(payload), kind, flags, sequence, 0) + payload
    return body + bytes(-len(body) % 4)


def link(name: str, index: int) -> bytes:
    info = dump._attribute(dump.IFLA_LINKINFO, dump._attribute(dump.IFLA_INFO_KIND, b"veth\0"))
    parts = dump._attribute(dump.IFLA_IFNAME, name.encode() + b"\0") + dump._u32(dump.IFLA_MTU, 1500)
    mac = dump._attribute(dump.IFLA_ADDRESS, bytes((2, 0x42, 0, 0, 0, 1)))
    return struct.pack("=BxHiII", 0, 1, index, 0x1043, 0) + parts + mac + info + dump._u32(dump.IFLA_MASTER, 7)


class Wire:
    """A socket whose other end is a list of answers, each a function of the question's sequence number."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.sequence = 0

    def send(self, data: bytes) -> None:
        self.sequence = struct.unpack_from("=I", data, 8)[0]

    def recv(self, size: int) -> bytes:
        return self.answers.pop(0)(self.sequence)


def reader(*answers) -> Reader:
    made = Reader.__new__(Reader)
    made.socket = Wire(*answers)
    made._sequence = 0
    return made


def done(flags: int = 2):
    return lambda sequence: message(dump.NLMSG_DONE, bytes(4), sequence, flags)


def one(name: str, index: int, flags: int = 2):
    return lambda sequence: message(dump.RTM_NEWLINK, link(name, index), sequence, flags)


def refused(code: int):
    return lambda sequence: message(dump.NLMSG_ERROR, struct.pack("=i", -code), sequence)


def test_an_answer_in_pieces_is_one():
    links = reader(lambda number: one("a", 1)(number) + one("bcd", 2)(number), one("e", 3), done()).links()
    assert list(links) == ["a", "bcd", "e"]
    assert links["bcd"] == Link(2, "bcd", "veth", True, 1500, "02:42:00:00:00:01", 7, 0, running=True)


def test_what_is_left_of_an_older_answer_is_passed_over():
    assert list(reader(lambda number: one("old", 9)(number - 1), one("new", 1), done()).links()) == ["new"]


def test_a_torn_answer_is_asked_for_again_and_the_last_is_better_than_none():
    torn = dump.NLM_F_DUMP_INTR
    assert list(reader(one("a", 1), done(torn), one("b", 2), done()).links()) == ["b"]
    assert list(reader(*[one("a", 1), done(torn)] * dump._TRIES).links()) == ["a"]


def test_the_kernels_refusal_has_its_errno():
    with pytest.raises(KernelError) as caught:
        reader(refused(1)).links()
    assert caught.value.errno == 1


def test_no_such_link_is_none():
    assert reader(refused(19)).link("a") is None
    assert reader(one("a", 4)).link("a").index == 4


def route(family: int, length: int, attributes: bytes, *, table: int = 254, kind: int = 1) -> bytes:
    return struct.pack("=BBBBBBBBI", family, length, 0, 0, table, 0, 0, kind, 0) + attributes


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (route(2, 0, dump._attribute(5, bytes((10, 0, 0, 1))) + dump._u32(4, 3)), [Route("default", "10.0.0.1", 3)]),
        (route(2, 24, dump._attribute(1, bytes((10, 0, 0, 0))) + dump._u32(4, 3)), [Route("10.0.0.0/24", "", 3)]),
        (route(10, 64, dump._attribute(1, b"\xfd" + bytes(15)) + dump._u32(4, 3)), [Route("fd00::/64", "", 3)]),
        (
            route(
                2, 0, dump._attribute(18, struct.pack("=H", 10) + b"\xfe\x80" + bytes(13) + b"\x01") + dump._u32(4, 3)
            ),
            [Route("default", "fe80::1", 3)],
        ),
        (
            route(
                2, 0, dump._attribute(9, struct.pack("=HBBi", 16, 0, 0, 5) + dump._attribute(5, bytes((10, 0, 0, 9))))
            ),
            [Route("default", "10.0.0.9", 5)],
        ),
        (route(2, 24, dump._u32(4, 3), table=255), []),
        (route(2, 24, dump._u32(15, 1000), table=252), []),
        (route(2, 24, dump._u32(4, 3), kind=6), []),
        (route(28, 20, b""), []),
    ],
)
def test_routes_of_the_main_table(payload, found):
    assert reader(lambda sequence: message(dump.RTM_NEWROUTE, payload, sequence), done()).routes() == found
