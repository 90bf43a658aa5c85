#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: network
version_added: 0.1.0
short_description: Declare a network for containers
description:
  - Declares a network that containers of this host are attached to, and makes it in the kernel.
  - The network is compared with the kernel each time. A bridge that was deleted, an address that was removed or rules
    that were flushed are put back.
  - Changing a network keeps the containers on it running.
options:
  name:
    description: Name of the network.
    type: str
    required: true
  state:
    description:
      - V(present) makes the network as declared. Options that are not given stay as they are.
      - V(absent) removes it. It is refused while a container is attached, unless O(force=true).
    type: str
    choices: [present, absent]
    default: present
  driver:
    description:
      - V(bridge) is a bridge on the host. Containers reach the world through the host's addresses.
      - V(vxlan) is such a bridge on each of several hosts, and a link by VXLAN from each to all others. It needs
        O(vni), O(subnet), O(peers), and of each host O(ip_range) or its entry of O(peers). The same task serves all
        hosts.
      - The default is V(bridge).
    type: str
    choices: [bridge, vxlan]
  subnet:
    description:
      - IPv4 subnet in CIDR notation.
      - When it is not given for a new network, a free one is chosen, and stays with the network.
      - It must not overlap another network of ours nor one that the host itself is on.
      - When it changes, the containers on the network get new addresses while they run.
    type: str
  gateway:
    description:
      - The host's own address on the network.
      - The default is the first address of O(subnet), or of O(ip_range) with O(driver=vxlan), where each host has one
        of its own, which can't be in the part of another.
    type: str
  ip_range:
    description:
      - Part of O(subnet) from which containers that name no address get theirs.
      - The default is the whole subnet, or with O(driver=vxlan) what O(peers) says of this host.
      - With O(driver=vxlan) the parts of the hosts must not overlap, for no host asks another whether an address is
        free.
    type: str
  ipv6:
    description:
      - Whether the network has IPv6 too.
      - The default is V(false), or V(true) when O(subnet6) is given.
    type: bool
  subnet6:
    description:
      - IPv6 subnet in CIDR notation.
      - When it is not given and O(ipv6=true), a unique local one that follows from the network's name is used.
      - With O(driver=vxlan) a container's IPv6 address ends in its IPv4 address, so a C(/96) or larger is needed.
    type: str
  gateway6:
    description:
      - The host's own IPv6 address on the network.
      - The default is the first address of O(subnet6), or the one that ends in O(gateway) with O(driver=vxlan).
    type: str
  internal:
    description:
      - Whether the network is cut off from the world; its containers reach each other and the host's address on it.
      - The default is V(false).
    type: bool
  isolate:
    description:
      - Whether the network is cut off from the other networks of this host.
      - The default is V(false).
    type: bool
  mtu:
    description:
      - The largest packet, in bytes.
      - The default is V(1500). With O(driver=vxlan) it is the MTU of the link that leads to the other hosts, less the
        50 bytes that VXLAN adds, or 70 where the hosts reach each other by IPv6; what is larger is refused.
    type: int
  vni:
    description:
      - Number of the network among those between the same hosts, up to 16777215. For O(driver=vxlan), which needs it.
    type: int
  peers:
    description:
      - The hosts of the network with O(driver=vxlan). The host itself may be among them, and all hosts be given the
        same.
      - Either a list of the addresses at which the hosts reach each other, or a mapping of their names, each with such
        an address, or with RV(ignore:address) and RV(ignore:ip_range), the host's part of O(subnet).
      - What is for everybody is sent to each of them; there is no multicast. Packets of the network that others send
        are dropped.
      - Hosts can be added and removed while containers talk. All peers are replaced by those given.
    type: raw
  port:
    description:
      - UDP port of O(driver=vxlan), which the host's own firewall must let in from the peers.
      - The default is V(4789).
    type: int
  local:
    description:
      - The host's own address that the others have in O(peers).
      - The default is the one of O(peers) that this host has.
    type: str
  device:
    description:
      - The link that leads to the other hosts with O(driver=vxlan).
      - When it is not given, packets go as the host's routes say.
    type: str
  names:
    description:
      - What else is on the network, so that its containers find it by name, and O(allow) knows it. Such as the
        containers of other hosts; RV(network.members) is what a host has to tell the others.
      - Each name has an address, or a list of addresses, or a mapping of RV(ignore:addresses) and RV(ignore:labels).
      - A container of this host is found where it is, whatever is said of its name here.
      - All names are replaced by those given.
    type: dict
  allow:
    description:
      - Who on the network may talk to whom. Without it everybody may; with it nobody else may, nor across from another
        network of this host, nor by a port that is published. An empty list allows nothing.
      - What answers is let through. A connection that is not allowed any more is cut.
      - The host of the receiver decides; that of the sender sees to it that a container sends from its own addresses.
        Give all hosts of a network the same.
      - The host reaches all containers, and they reach the gateway and the world as before.
      - All entries are replaced by those given. To let everybody talk again, give one that says nothing, V([{}]).
    type: list
    elements: dict
    suboptions:
      from:
        description:
          - Who may begin. A mapping of labels, all of which a container must have; or a name of a container, an alias,
            one of O(names), an address or a subnet, or a list of those.
          - Without it, everybody on the network.
        type: raw
      to:
        description:
          - Whom they may talk to, in the same words.
          - Without it, everybody on the network.
        type: raw
      ports:
        description:
          - Ports of the receiver, or ranges such as V(8000-8010).
          - Without it, all.
        type: list
        elements: str
      protocol:
        description:
          - V(icmp) is echo alone, for both families. What tells of a packet that was not delivered passes always.
          - The default is V(tcp) when there are O(allow[].ports), else all of these.
        type: str
        choices: [tcp, udp, sctp, icmp]
  labels:
    description:
      - Words of your own about the network. All labels are replaced by those given.
    type: dict
  force:
    description:
      - With O(state=absent), detach the containers that are on the network instead of refusing.
    type: bool
    default: false
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.installation.network
  - vessel.host.attributes
  - vessel.host.attributes.converge
seealso:
  - module: vessel.host.network_info
  - module: vessel.host.container
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: A network whose subnet is chosen
  vessel.host.network:
    name: shop

- name: A network with addresses of its own choice, for IPv6 too
  vessel.host.network:
    name: shop
    subnet: 10.90.0.0/24
    gateway: 10.90.0.254
    ip_range: 10.90.0.128/26
    ipv6: true

- name: Cut it off from the world while its containers run
  vessel.host.network:
    name: shop
    internal: true

- name: One network across the hosts of the play, the same task on each
  vessel.host.network:
    name: shop
    driver: vxlan
    vni: 90
    subnet: 10.90.0.0/16
    ipv6: true
    peers:
      alpha: {address: 192.0.2.11, ip_range: 10.90.1.0/24}
      beta: {address: 192.0.2.12, ip_range: 10.90.2.0/24}

- name: The same from the inventory, where each host has a number of its own
  vessel.host.network:
    name: shop
    driver: vxlan
    vni: 90
    subnet: 10.90.0.0/16
    ip_range: "10.90.{{ shop_number }}.0/24"
    peers: "{{ groups['shop'] | map('extract', hostvars, 'ansible_host') }}"

- name: Only the web servers may ask the database, and they are open to everybody
  vessel.host.network:
    name: shop
    allow:
      - {from: {role: web}, to: db, ports: [5432]}
      - {to: {role: web}, ports: [80, 443]}

- name: What each host has on the network
  vessel.host.network_info:
    name: shop
  register: shop

- name: Names of the others' containers, on each host
  vessel.host.network:
    name: shop
    names: >-
      {{ ansible_play_hosts | map('extract', hostvars, ['shop', 'networks', 0, 'members'])
         | combine(recursive=true, list_merge='append_rp') }}

- name: No such network, whoever is on it
  vessel.host.network:
    name: shop
    state: absent
    force: true
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order.
  returned: always
  type: list
  elements: str
  sample: ["network shop: set mtu (live)"]
network:
  description: The network as it is now; empty when there is none.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the network.
      type: str
      returned: always
      sample: shop
    driver:
      description: The driver.
      type: str
      returned: always
      sample: bridge
    subnet:
      description: IPv4 subnet.
      type: str
      returned: always
      sample: 10.90.0.0/24
    gateway:
      description: The host's address on it.
      type: str
      returned: always
      sample: 10.90.0.1
    ip_range:
      description: Where the addresses of this host's containers come from; empty for the whole subnet.
      type: str
      returned: always
      sample: ""
    ipv6:
      description: Whether it has IPv6.
      type: bool
      returned: always
    subnet6:
      description: IPv6 subnet; empty without IPv6.
      type: str
      returned: always
      sample: ""
    gateway6:
      description: The host's IPv6 address on it; empty without IPv6.
      type: str
      returned: always
      sample: ""
    internal:
      description: Whether it is cut off from the world.
      type: bool
      returned: always
    isolate:
      description: Whether it is cut off from other networks of this host.
      type: bool
      returned: always
    mtu:
      description: The largest packet.
      type: int
      returned: always
      sample: 1500
    vni:
      description: Number of the network between hosts; null with another driver.
      type: int
      returned: always
    peers:
      description: The hosts of the network by name, each with RV(ignore:address) and RV(ignore:ip_range).
      type: dict
      returned: always
    port:
      description: UDP port of VXLAN; null with another driver.
      type: int
      returned: always
    local:
      description: This host's address among those of the hosts; null with another driver.
      type: str
      returned: always
    device:
      description: The link that leads to the other hosts, where one is named.
      type: str
      returned: always
    names:
      description: What else is on the network, each name with RV(ignore:addresses) and RV(ignore:labels).
      type: dict
      returned: always
    allow:
      description: Who may talk to whom; null when everybody may.
      type: list
      elements: dict
      returned: always
    members:
      description: The containers of this host that are on the network and their aliases, as O(names) takes them on
        other hosts.
      type: dict
      returned: always
      sample: {db: {addresses: [10.90.1.2], labels: {role: db}}}
    labels:
      description: The labels.
      type: dict
      returned: always
    bridge:
      description: Name of the bridge in the kernel.
      type: str
      returned: always
      sample: vslbr-shop
    present:
      description: Whether the kernel has the bridge.
      type: bool
      returned: always
    up:
      description: Whether the bridge is up.
      type: bool
      returned: always
    addresses:
      description: Addresses that the kernel shows on the bridge.
      type: list
      elements: str
      returned: always
      sample: [10.90.0.1/24]
    containers:
      description: The containers that are attached, each with RV(ignore:name), RV(ignore:ipv4_address),
        RV(ignore:ipv6_address), RV(ignore:mac_address), RV(ignore:interface) and RV(ignore:aliases).
      type: list
      elements: dict
      returned: always
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.engine import prepare_engine
from ansible_collections.vessel.host.plugins.module_utils._ansible.module import Facts, VesselModule, run
from ansible_collections.vessel.host.plugins.module_utils._converge import firewall, networks, store
from ansible_collections.vessel.host.plugins.module_utils._converge.plan import Plan
from ansible_collections.vessel.host.plugins.module_utils._options.network import DIRECTIVES, OPTIONS


def converge(module: VesselModule) -> tuple[Plan, Facts]:
    prepare_engine(module)
    paths, name = module.paths, module.desired["name"]
    planned = firewall.networks(paths)
    plan = networks.plan(paths, module.desired, others=planned)
    plan.extend(firewall.plan(paths, planned=planned))

    def facts() -> dict:
        declared = store.read_spec(paths, networks.KIND, name) is not None
        return {"network": networks.info(paths, name) if declared else {}}

    return plan, facts


def main() -> None:
    run((*DIRECTIVES, *OPTIONS), converge, locks=lambda paths, desired: [(networks.KIND, desired["name"])])


if __name__ == "__main__":
    main()
