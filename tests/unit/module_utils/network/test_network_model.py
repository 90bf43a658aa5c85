# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of networks and ports: one canonical form, and what is refused."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError
from ansible_collections.vessel.host.plugins.module_utils._network import model
from ansible_collections.vessel.host.plugins.module_utils._network.model import Network, Port


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("80", ["0.0.0.0::80/tcp"]),
        ("8080:80", ["0.0.0.0:8080:80/tcp"]),
        ("0.0.0.0:8080:80/tcp", ["0.0.0.0:8080:80/tcp"]),
        ("8080:80/TCP", ["0.0.0.0:8080:80/tcp"]),
        ("127.0.0.1:8080:80/tcp", ["127.0.0.1:8080:80/tcp"]),
        ("127.0.0.1::80", ["127.0.0.1::80/tcp"]),
        ("0.0.0.0:53:53/udp", ["0.0.0.0:53:53/udp"]),
        ("[2001:db8::0:1]:80:80", ["[2001:db8::1]:80:80/tcp"]),
        ("[::]:132:132/sctp", ["[::]:132:132/sctp"]),
        ("8000-8001:9000-9001", ["0.0.0.0:8000:9000/tcp", "0.0.0.0:8001:9001/tcp"]),
        ("80-81", ["0.0.0.0::80/tcp", "0.0.0.0::81/tcp"]),
    ],
)
def test_port_has_one_canonical_form(text, canonical):
    assert [str(port) for port in model.parse_port(text, "published_ports[0]")] == canonical


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not a port"),
        ("http", "is not a port"),
        ("80:", "is not a port"),
        ("1:2:3:4", "is not a port"),
        ("-1:80", "is not a port"),
        ("8080:80/icmp", "has the protocol icmp; use tcp, udp, sctp"),
        ("0:80", "has the port 0; ports are 1 to 65535"),
        ("65536:80", "has the port 65536"),
        ("81-80", "has the range 81-80, which ends before it begins"),
        ("8000-8002:80-81", "has ranges of different lengths"),
        ("1-2000:1-2000", "is a range of more than 1024 ports"),
        ("1.2.3.999:80:80", "has the address 1.2.3.999, which is none"),
        ("[::g]:80:80", "is not a port"),
        ("[::1]:80:80", "can't be published on ::1; use 127.0.0.1"),
        ("[::ffff:127.0.0.1]:80:80", "has an IPv4 address in the words of IPv6; use 127.0.0.1"),
    ],
)
def test_port_that_is_none_is_refused_by_option_and_value(text, problem):
    with pytest.raises(OptionError) as caught:
        model.parse_port(text, "published_ports[3]")
    assert str(caught.value).startswith(f"published_ports[3]: {text!r} {problem}")


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (Port("0.0.0.0", 80, 1), Port("127.0.0.1", 80, 2), True),
        (Port("127.0.0.1", 80, 1), Port("127.0.0.1", 80, 1), True),
        (Port("127.0.0.1", 80, 1), Port("127.0.0.2", 80, 1), False),
        (Port("0.0.0.0", 80, 1), Port("0.0.0.0", 80, 1, "udp"), False),
        (Port("0.0.0.0", 0, 1), Port("0.0.0.0", 0, 1), False),
    ],
)
def test_ports_overlap_where_one_host_can_not_have_both(one, other, overlap):
    assert one.overlaps(other) is overlap
    assert other.overlaps(one) is overlap


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("ten", "is not a subnet such as 10.89.0.0/24"),
        ("10.89.0.0/33", "is not a subnet"),
        ("10.89.0.1/24", "is not a subnet such as 10.89.0.0/24 (the network itself is 10.89.0.0/24)"),
        ("fd00::1/64", "is not a subnet such as 10.89.0.0/24 (the network itself is fd00::/64)"),
        ("10.89.0.0/31", "is too small"),
        ("fd00::/127", "is too small"),
        ("127.0.0.0/24", "is not for hosts"),
        ("224.0.0.0/24", "is not for hosts"),
        ("169.254.0.0/16", "is not for hosts"),
        ("240.0.0.0/8", "is not for hosts"),
        ("0.0.0.0/0", "is not for hosts"),
        ("fe80::/64", "is not for hosts"),
        ("ff02::/64", "is not for hosts"),
    ],
)
def test_subnet_that_can_not_be_is_refused(value, problem):
    with pytest.raises(OptionError) as caught:
        model.parse_subnet(value, "subnet")
    assert str(caught.value).startswith(f"subnet: {value!r} {problem}")


@pytest.mark.parametrize("value", ["10.89.0.0/24", "10.0.0.0/8", "192.168.1.0/30", "fd00:1::/64"])
def test_subnet_for_hosts_is_taken_as_it_is(value):
    assert model.parse_subnet(value, "subnet") == value


@pytest.mark.parametrize(
    ("value", "subnet", "problem"),
    [
        ("999.1.1.1", "10.89.0.0/24", "is not an IP address"),
        ("10.90.0.1", "10.89.0.0/24", "is not in the subnet 10.89.0.0/24"),
        ("fd00::1", "10.89.0.0/24", "is not in the subnet 10.89.0.0/24"),
        ("10.89.0.0", "10.89.0.0/24", "is the network or broadcast address of 10.89.0.0/24"),
        ("10.89.0.255", "10.89.0.0/24", "is the network or broadcast address of 10.89.0.0/24"),
        ("fd00::", "fd00::/64", "is the network or broadcast address of fd00::/64"),
    ],
)
def test_address_that_no_host_can_have_is_refused(value, subnet, problem):
    with pytest.raises(OptionError, match=f"{problem}$"):
        model.parse_member(value, subnet, "gateway")


def test_addresses_have_one_spelling():
    assert model.parse_member("fd00:0::01", "fd00::/64", "gateway6") == "fd00::1"
    assert model.parse_member("10.89.0.9", "10.89.0.0/24", "ipv4_address") == "10.89.0.9"


def test_range_is_a_part_of_the_subnet():
    assert model.parse_ip_range("10.89.0.128/25", "10.89.0.0/24", "ip_range") == "10.89.0.128/25"
    for value in ("10.88.0.0/25", "10.88.0.0/15", "fd00::/64"):
        with pytest.raises(OptionError, match="is not in the subnet"):
            model.parse_ip_range(value, "10.89.0.0/24", "ip_range")


def test_bridge_has_the_gateways_in_the_subnets():
    network = Network("n", "br", subnet="10.89.0.0/24", gateway="10.89.0.1", subnet6="fd00::/64", gateway6="fd00::1")
    assert network.addresses() == ["10.89.0.1/24", "fd00::1/64"]
    assert Network("n", "br").addresses() == []
