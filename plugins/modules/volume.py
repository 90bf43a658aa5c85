#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: volume
version_added: 0.1.0
short_description: Declare a volume for containers
description:
  - Declares data that outlives the containers that use it.
  - What is in a volume is removed by O(state=absent) on the volume itself, and by nothing else.
options:
  name:
    description: Name of the volume.
    type: str
    required: true
  state:
    description:
      - V(present) makes the volume as declared. Options that are not given stay as they are.
      - V(absent) removes it with its data. It is refused while a container's declaration names the volume.
    type: str
    choices: [present, absent]
    default: present
  driver:
    description:
      - V(directory) is a directory on the host's disk.
      - V(tmpfs) is memory. It is shared by all who mount it and survives their restarts, but no reboot.
      - A V(tmpfs) that somebody has unmounted is mounted again by a task that has it or starts a container with it,
        from a container that runs with it where there is one. Without it no container is started.
      - The default is V(directory). The driver of a volume can't change.
    type: str
    choices: [directory, tmpfs]
  size:
    description:
      - The most that a V(tmpfs) volume holds, in bytes or with a unit, such as V(64m).
      - The default is V(0), for half of the host's memory.
    type: str
  owner:
    description:
      - Owner of the volume's top directory, as a number, or as a name of the host's.
      - An image may have another number for the same name, so a number is the safer choice.
      - Without it a new volume is root's, and an existing one stays as it is.
    type: str
  group:
    description:
      - Group of the volume's top directory, as a number, or as a name of the host's.
      - Without it a new volume is root's, and an existing one stays as it is.
    type: str
  mode:
    description:
      - Permission bits of the volume's top directory, as an octal string in quotes.
      - Without it a new volume has V('0755'), and an existing one stays as it is.
    type: str
  labels:
    description:
      - Words of your own about the volume. All labels are replaced by those given.
    type: dict
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.attributes
  - vessel.host.attributes.converge
seealso:
  - module: vessel.host.volume_info
  - module: vessel.host.container
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: A place for a database
  vessel.host.volume:
    name: shop-db
    owner: "999"
    group: "999"
    mode: "0700"

- name: Memory that two containers share
  vessel.host.volume:
    name: sockets
    driver: tmpfs
    size: 1m

- name: No such volume, and no such data
  vessel.host.volume:
    name: shop-db
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order.
  returned: always
  type: list
  elements: str
  sample: ["volume shop-db: set mode (live)"]
volume:
  description: The volume as it is now; empty when there is none.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the volume.
      type: str
      returned: always
      sample: shop-db
    driver:
      description: The driver.
      type: str
      returned: always
      sample: directory
    size:
      description: The most bytes that it holds; 0 for no limit of its own.
      type: int
      returned: always
      sample: 0
    owner:
      description: User id of the owner.
      type: int
      returned: always
      sample: 999
    group:
      description: Group id.
      type: int
      returned: always
      sample: 999
    mode:
      description: Permission bits.
      type: str
      returned: always
      sample: "0700"
    labels:
      description: The labels.
      type: dict
      returned: always
    mountpoint:
      description: Where the data is on the host.
      type: str
      returned: always
      sample: /var/lib/vessel/volumes/shop-db/data
    present:
      description: Whether the host has it; a V(tmpfs) volume is gone after a reboot until it is put back.
      type: bool
      returned: always
    containers:
      description: Names of the containers whose declaration has the volume.
      type: list
      elements: str
      returned: always
      sample: [db]
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.module import Facts, VesselModule, run
from ansible_collections.vessel.host.plugins.module_utils._converge import store, volumes
from ansible_collections.vessel.host.plugins.module_utils._converge.plan import Plan
from ansible_collections.vessel.host.plugins.module_utils._converge.volume_options import DIRECTIVES, OPTIONS


def converge(module: VesselModule) -> tuple[Plan, Facts]:
    paths, name = module.paths, module.desired["name"]

    def facts() -> dict:
        declared = store.read_spec(paths, volumes.KIND, name) is not None
        return {"volume": volumes.info(paths, name) if declared else {}}

    return volumes.plan(paths, module.desired), facts


def main() -> None:
    run((*DIRECTIVES, *OPTIONS), converge, locks=lambda desired: [(volumes.KIND, desired["name"])])


if __name__ == "__main__":
    main()
