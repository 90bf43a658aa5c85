#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_info
version_added: 0.1.0
short_description: Tell what stacks there are and what they were before
description:
  - Returns the stacks of this host, what belongs to them, and the revisions that the host can go back to.
options:
  name:
    description:
      - Only this stack; the list is empty when there is no such stack.
    type: str
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.attributes
  - vessel.host.attributes.info_module
seealso:
  - module: vessel.host.stack
  - module: vessel.host.container_info
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: All stacks
  vessel.host.stack_info:
  register: result

- name: When the present revision of each was made
  ansible.builtin.debug:
    msg: "{{ item.revisions | selectattr('revision', 'eq', item.revision) | map(attribute='created') | first }}"
  loop: "{{ result.stacks }}"
"""

RETURN = r"""
stacks:
  description: The stacks, sorted by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the stack.
      type: str
      returned: always
      sample: shop
    containers:
      description: Names of its containers.
      type: list
      elements: str
      returned: always
    networks:
      description: Names of its networks.
      type: list
      elements: str
      returned: always
    volumes:
      description: Names of its volumes.
      type: list
      elements: str
      returned: always
    revision:
      description: Number of the revision that the host has; 0 when none has been made whole.
      type: int
      returned: always
      sample: 4
    rolled_back:
      description: Whether the host has gone back to that revision.
      type: bool
      returned: always
    revisions:
      description: The revisions that are kept, the oldest first.
      type: list
      elements: dict
      returned: always
      contains:
        revision:
          description: Its number.
          type: int
          returned: always
          sample: 3
        created:
          description: When all of it had been made, in UTC.
          type: str
          returned: always
          sample: "2026-11-29T05:08:25.120Z"
        images:
          description: The image of each container, by the container's name, each with its C(name) and C(id).
          type: dict
          returned: always
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.module import VesselModule, report
from ansible_collections.vessel.host.plugins.module_utils._converge import stacks
from ansible_collections.vessel.host.plugins.module_utils._options.parse import parse_name
from ansible_collections.vessel.host.plugins.module_utils._options.record import Option


def gather(module: VesselModule) -> dict:
    return {"stacks": stacks.infos(module.paths, module.desired.get("name"))}


def main() -> None:
    report((Option("name", parse_name),), gather)


if __name__ == "__main__":
    main()
