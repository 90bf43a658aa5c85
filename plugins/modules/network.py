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
      - The default is V(bridge).
    type: str
    choices: [bridge]
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
      - The default is the first address of O(subnet).
    type: str
  ip_range:
    description:
      - Part of O(subnet) from which containers that name no address get theirs.
      - The default is the whole subnet.
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
    type: str
  gateway6:
    description:
      - The host's own IPv6 address on the network.
      - The default is the first address of O(subnet6).
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
      - The default is V(1500).
    type: int
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
      description: Where containers' addresses come from; empty for the whole subnet.
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
from ansible_collections.vessel.host.plugins.module_utils._converge.network_options import DIRECTIVES, OPTIONS
from ansible_collections.vessel.host.plugins.module_utils._converge.plan import Plan


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
    run((*DIRECTIVES, *OPTIONS), converge, locks=lambda desired: [(networks.KIND, desired["name"])])


if __name__ == "__main__":
    main()
