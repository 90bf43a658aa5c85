#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: drain
version_added: 0.1.0
short_description: Take a host out of service, and back
description:
  - Marks the host, so that M(vessel.host.place) places nothing there, in this play and in all that follow, until it is
    undrained. M(vessel.host.host_info) tells of the mark.
  - Stops the containers that run there. Who is waited for stops after those who wait, as their stacks have it, each by
    its own signal and in its own time. No boot starts them.
  - The role C(vessel.host.drain) moves containers that are placed to other hosts before.
options:
  state:
    description:
      - V(drained) is a host that nothing is placed on, and what was placed there goes elsewhere.
      - V(cordoned) is one that nothing new comes to; what is there stays.
      - V(undrained) starts again what was stopped by V(drained), in order, and removes the mark. What was placed
        elsewhere meanwhile stays there.
    type: str
    choices: [drained, cordoned, undrained]
    default: drained
  stop:
    description:
      - With O(state=drained), whether what runs is stopped now, or the host is marked alone.
    type: bool
    default: true
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.attributes
  - vessel.host.attributes.converge
notes:
  - A task that declares a container as started on a host that is drained starts it.
  - A container that can't be stopped or started keeps only those from it that wait for that one. The task fails then
    and tells of each, and the next task goes on.
seealso:
  - module: vessel.host.place
  - module: vessel.host.host_info
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: Have nothing run while the host is repaired
  vessel.host.drain:

- name: Have again what ran
  vessel.host.drain:
    state: undrained
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order, each with its cost.
  returned: always
  type: list
  elements: str
  sample: ["host: be drained (live)", "container web: stop (restart)", "container db: stop (restart)"]
drain:
  description: The mark.
  returned: success
  type: dict
  contains:
    state:
      description: V(drained), V(cordoned) or V(undrained).
      returned: always
      type: str
      sample: drained
    stopped:
      description: Names of the containers that were stopped for it.
      returned: always
      type: list
      elements: str
      sample: [db, web]
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.engine import prepare_engine
from ansible_collections.vessel.host.plugins.module_utils._ansible.module import Facts, VesselModule, run
from ansible_collections.vessel.host.plugins.module_utils._converge import drain_mark, draining
from ansible_collections.vessel.host.plugins.module_utils._converge.plan import Plan


def converge(module: VesselModule) -> tuple[Plan, Facts]:
    prepare_engine(module)
    return draining.plan(module.paths, module.desired), lambda: {"drain": drain_mark.facts(module.paths)}


def main() -> None:
    run(draining.OPTIONS, converge, locks=draining.locks)


if __name__ == "__main__":
    main()
