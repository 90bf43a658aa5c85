#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: stack
version_added: 0.1.0
short_description: Declare a host's images, networks, volumes and containers in one task
description:
  - Declares what belongs together and makes it in the order that it needs, as much at once as can be.
  - A stack is declared whole. An option that is left out has its default, unlike with M(vessel.host.container).
  - When a part fails, what this task had made before is undone.
options:
  name:
    description: Name of the stack.
    type: str
    required: true
  state:
    description:
      - V(present) makes everything as declared, and starts the containers.
      - V(stopped) stops the containers.
      - V(absent) removes containers and networks, what depends on others first. Volumes and images stay.
      - What another stack declares too, and a network that other containers are on, stays, also with O(prune).
    type: str
    choices: [present, stopped, absent]
    default: present
  images:
    description: Images by name, each with the options of M(vessel.host.image).
    type: dict
  networks:
    description: Networks by name, each with the options of M(vessel.host.network).
    type: dict
  volumes:
    description: Volumes by name, each with the options of M(vessel.host.volume).
    type: dict
  containers:
    description:
      - Containers by name, each with the options of M(vessel.host.container) but those that speak of the task.
      - C(depends_on) is a list of names, or a mapping from names to V(started), V(healthy) or V(completed), on which
        its start waits.
      - A container that others await as V(completed), and that ended with 0, is run again when it is changed or the
        host was booted anew.
    type: dict
  prune:
    description: Whether containers and networks go that the stack declared before and does not any more.
    type: bool
    default: false
  recreate:
    description: Make every container anew even when nothing changed.
    type: bool
    default: false
  max_disruption:
    description: The most that a change may cost a running container, as with M(vessel.host.container).
    type: str
    choices: [live, signal, restart, recreate]
    default: recreate
  wait_timeout:
    description:
      - How long a container may take to become what others wait for, in seconds or as V(1m30s).
      - The default is 300 seconds.
    type: str
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.installation.network
  - vessel.host.attributes
  - vessel.host.attributes.converge
seealso:
  - module: vessel.host.container
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: A database, and an application that waits for it
  vessel.host.stack:
    name: shop
    networks:
      shop:
        subnet: 10.89.0.0/24
    volumes:
      data: {}
    containers:
      db:
        image: mariadb
        networks: [{name: shop}]
        volumes: ["data:/var/lib/mysql"]
        healthcheck:
          test: [CMD, mariadb-admin, ping]
      app:
        image: app
        networks: [{name: shop}]
        published_ports: ["8080:80"]
        depends_on:
          db: healthy

- name: Remove it; the volume stays
  vessel.host.stack:
    name: shop
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, each with its cost.
  type: list
  elements: str
  returned: always
  sample: ["network shop: create", "container db: create", "container db: start"]
containers:
  description: State, pid, health and addresses of each container of the stack, by name.
  type: dict
  returned: always
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.engine import prepare_engine, stack_facts
from ansible_collections.vessel.host.plugins.module_utils._ansible.module import Facts, VesselModule, run
from ansible_collections.vessel.host.plugins.module_utils._converge import stacks
from ansible_collections.vessel.host.plugins.module_utils._converge.plan import Plan
from ansible_collections.vessel.host.plugins.module_utils._converge.stack_options import OPTIONS


def converge(module: VesselModule) -> tuple[Plan, Facts]:
    prepare_engine(module)
    desired = {**module.desired, "images": module.sent.into_all(module.desired.get("images") or {})}
    return stacks.plan(module.paths, desired, module.progress), lambda: stack_facts(module)


def main() -> None:
    run(OPTIONS, converge, locks=stacks.locks)


if __name__ == "__main__":
    main()
