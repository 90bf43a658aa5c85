# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of the host: real sockets, and what is said of them."""

from __future__ import annotations

import os
import socket

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError, VesselError
from ansible_collections.vessel.host.plugins.module_utils._network import ports
from ansible_collections.vessel.host.plugins.module_utils._network.model import Port


@pytest.fixture
def listener():
    opened = []

    def listen(host: str, kind: int = socket.SOCK_STREAM) -> int:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
        opened.append(sock)
        sock.bind((host, 0))
        if kind == socket.SOCK_STREAM:
            sock.listen(1)
        return sock.getsockname()[1]

    yield listen
    for sock in opened:
        sock.close()


def refused(port: Port, others: dict[str, list[Port]] | None = None) -> str:
    with pytest.raises(OptionError) as caught:
        ports.check("published_ports", [port], others or {})
    return str(caught.value)


def test_port_in_use_is_refused_by_who_has_it(listener):
    number = listener("127.0.0.1")
    text = refused(Port("0.0.0.0", number, 80))
    assert text.startswith(f"published_ports: '0.0.0.0:{number}:80/tcp' names port {number}/tcp, which is in use by ")
    assert f"(pid {os.getpid()}); choose another host port" in text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::1"])
def test_wherever_it_listens_it_is_in_the_way_of_a_port_on_every_address(listener, host):
    assert "in use by" in refused(Port("0.0.0.0", listener(host), 80))


def test_a_socket_on_another_address_is_in_nobodys_way(listener):
    number = listener("127.0.0.1")
    ports.check("published_ports", [Port("127.0.0.2", number, 80), Port("0.0.0.0", number, 80, "udp")], {})
    assert "in use by" in refused(Port("127.0.0.1", number, 80))


def test_datagram_sockets_count_too(listener):
    assert "/udp, which is in use by" in refused(Port("0.0.0.0", listener("0.0.0.0", socket.SOCK_DGRAM), 53, "udp"))


def test_port_of_another_container_is_refused_by_its_name():
    others = {"web": [Port("127.0.0.1", 28080, 80)]}
    assert "is published by the container web; choose another host port" in refused(Port("0.0.0.0", 28080, 1), others)
    ports.check("published_ports", [Port("127.0.0.2", 28080, 80), Port("0.0.0.0", 28080, 80, "udp")], others)


def test_addresses_as_the_kernel_prints_them():
    assert ports._address("0100007F") == "127.0.0.1"
    assert ports._address("0" * 32) == "::"
    assert ports._address("0000000000000000FFFF00000100007F") == "127.0.0.1"
    assert ports._address("B80D0120000000000000000001000000") == "2001:db8::1"


def test_free_port_is_chosen_once():
    taken: set[tuple[str, int]] = set()
    first, second = ports.choose("tcp", taken), ports.choose("tcp", taken)
    assert ports.FIRST <= first < second <= ports.LAST
    assert taken == {("tcp", first), ("tcp", second)}


def test_no_free_port_is_said(monkeypatch):
    everything = {("tcp", number): [("0.0.0.0", "1")] for number in range(1, 65536)}
    monkeypatch.setattr(ports, "listening", lambda: everything)
    with pytest.raises(VesselError, match="no free tcp port from 49153 to 65535 is left on this host"):
        ports.choose("tcp", set())
