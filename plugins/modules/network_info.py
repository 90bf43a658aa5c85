#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: network_info
version_added: 0.1.0
short_description: Tell what networks for containers there are
description:
  - Returns the declared networks of this host, and what the kernel shows of them.
options:
  name:
    description:
      - Only this network; the list is empty when there is no such network.
    type: str
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.installation.network
  - vessel.host.attributes
  - vessel.host.attributes.info_module
seealso:
  - module: vessel.host.network
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: All networks
  vessel.host.network_info:
  register: result

- name: Who is on the network shop
  vessel.host.network_info:
    name: shop
  register: result

- name: Print it
  ansible.builtin.debug:
    msg: "{{ result.networks | map(attribute='containers') | flatten }}"
"""

RETURN = r"""
networks:
  description:
    - The networks, sorted by name.
    - Each is as RV(vessel.host.network#module:network) describes it.
  returned: success
  type: list
  elements: dict
  sample:
    - name: shop
      driver: bridge
      subnet: 10.90.0.0/24
      gateway: 10.90.0.1
      present: true
      up: true
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.module import VesselModule, report
from ansible_collections.vessel.host.plugins.module_utils._converge import networks, store
from ansible_collections.vessel.host.plugins.module_utils._options.parse import parse_name
from ansible_collections.vessel.host.plugins.module_utils._options.record import Option


def gather(module: VesselModule) -> dict:
    names = store.names(module.paths, networks.KIND)
    wanted = module.desired.get("name")
    return {"networks": networks.infos(module.paths, [name for name in names if wanted in (None, name)])}


def main() -> None:
    report((Option("name", parse_name),), gather)


if __name__ == "__main__":
    main()
