# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nft 0.9.8 (Debian 11) asks of rules: it was seen there, and newer ones take it as well."""

from __future__ import annotations

from ansible_collections.vessel.host.plugins.module_utils._network import nftables
from ansible_collections.vessel.host.plugins.module_utils._network.model import Network, Port

NETWORK = Network(name="n", link="vslbr-n", subnet="192.0.2.0/24", subnet6="2001:db8::/64")


def test_a_rule_that_leads_to_a_port_says_first_that_it_is_about_ports():
    """Else "transport protocol mapping is only valid after transport protocol match"."""
    commands = nftables.render("t", [NETWORK], [nftables.Target(Port("0.0.0.0", 80, 80), "192.0.2.2")])
    rules = [command["add"]["rule"]["expr"] for command in commands if "rule" in command.get("add", {})]
    leading = [rule for rule in rules if "dnat" in rule[-1]]
    assert len(leading) == 8  # two chains, two families, ports of one address and of any
    for rule in leading:
        assert rule[-2]["match"]["left"] == {"meta": {"key": "l4proto"}}
        assert rule[-2]["match"]["right"] == {"set": ["tcp", "udp"]}
