#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: volume_info
version_added: 0.1.0
short_description: Tell what volumes for containers there are
description:
  - Returns the declared volumes of this host, where their data is and who uses them.
options:
  name:
    description:
      - Only this volume; the list is empty when there is no such volume.
    type: str
  usage:
    description:
      - Whether to count the bytes in each volume. It takes a walk over its files.
    type: bool
    default: false
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.attributes
  - vessel.host.attributes.info_module
seealso:
  - module: vessel.host.volume
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: All volumes, and how full they are
  vessel.host.volume_info:
    usage: true
  register: result

- name: Those that nobody uses
  ansible.builtin.debug:
    msg: "{{ result.volumes | rejectattr('containers') | map(attribute='name') }}"
"""

RETURN = r"""
volumes:
  description:
    - The volumes, sorted by name.
    - Each is as RV(vessel.host.volume#module:volume) describes it, and with O(usage=true) it has RV(ignore:usage), the
      bytes in it.
  returned: success
  type: list
  elements: dict
  sample:
    - name: shop-db
      driver: directory
      mode: "0700"
      mountpoint: /var/lib/vessel/volumes/shop-db/data
      containers: [db]
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.module import VesselModule, report
from ansible_collections.vessel.host.plugins.module_utils._converge import store, volumes
from ansible_collections.vessel.host.plugins.module_utils._options.parse import parse_bool, parse_name
from ansible_collections.vessel.host.plugins.module_utils._options.record import Option

OPTIONS = (
    Option("name", parse_name),
    Option("usage", parse_bool, "bool", default=False, shown_default=False),
)


def gather(module: VesselModule) -> dict:
    wanted, usage = module.desired.get("name"), module.desired["usage"]
    names = [name for name in store.names(module.paths, volumes.KIND) if wanted in (None, name)]
    return {"volumes": [volumes.info(module.paths, name, usage=usage) for name in names]}


def main() -> None:
    report(OPTIONS, gather)


if __name__ == "__main__":
    main()
