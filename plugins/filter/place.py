# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter place: a placement of services on hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: place
version_added: 0.1.0
short_description: Place the containers of services on hosts
description:
  - Says which container goes to which host, from data alone. Nothing is asked of any host, and nothing is changed.
  - The same data give the same placement, in whatever order they are written.
  - The action M(vessel.host.place) does the same with what is known of the hosts of a play.
positional: _input
requirements:
  - jmespath on the controller, for constraints and preferences
options:
  _input:
    description:
      - The services by name. O(vessel.host.place#module:services) describes what each takes.
    type: dict
    required: true
  hosts:
    description:
      - The hosts by name. O(vessel.host.place#module:hosts) describes what each takes.
    type: dict
    required: true
  strategy:
    description:
      - For services that name none.
    type: str
    choices: [spread, pack]
    default: spread
seealso:
  - module: vessel.host.place
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: What would go where, if one of three hosts were drained
  ansible.builtin.debug:
    msg: "{{ (services | vessel.host.place(hosts)).hosts }}"
  vars:
    services:
      db: {memory: 2g, constraints: ["labels.disk == 'ssd'"]}
      web: {replicas: 2, cpus: 0.5, ports: [80]}
    hosts:
      h1: {cpus: 4, memory: 8g, labels: {disk: ssd}}
      h2: {cpus: 4, memory: 8g}
      h3: {cpus: 4, memory: 8g, drain: true, running: [web-1]}
"""

RETURN = r"""
_value:
  description: The placement. RV(vessel.host.place#module:placement) describes what is in it.
  type: dict
"""

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.vessel.host.plugins.module_utils._errors import VesselError
from ansible_collections.vessel.host.plugins.plugin_utils.place import placement
from ansible_collections.vessel.host.plugins.plugin_utils.plain import plain


def place(services: Any, hosts: Any, strategy: str = "spread") -> dict[str, Any]:
    try:
        return placement.place(plain(services), plain(hosts), plain(strategy))
    except VesselError as error:
        raise AnsibleFilterError(f"vessel.host.place: {error}") from None


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"place": place}
