#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: engine
version_added: 0.1.0
short_description: Install what runs containers on a host, or remove it
description:
  - The engine is this collection's own code, its supervisor, and the commands C(vessel) and C(vessel-runtime). On a
    host with systemd the units C(vessel.service) and C(vessel-restore.service) are written and enabled too.
  - No other module needs this one, as each installs what it finds missing. It is for hosts that are prepared before
    anything is declared on them, and for those that shall have nothing of it any more.
options:
  state:
    description:
      - V(present) is the version that this collection carries, in place of another one. The supervisor is started when
        there is something to supervise.
      - V(absent) is refused while containers or networks are declared on the host. Images and volumes are files in
        C(/var/lib/vessel) and stay there; see M(vessel.host.prune).
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.attributes
  - vessel.host.attributes.converge
seealso:
  - module: vessel.host.host_info
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: Have the commands before there is a container
  vessel.host.engine:

- name: Have them no more
  vessel.host.engine:
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order.
  returned: always
  type: list
  elements: str
  sample: ["engine: install", "unit vessel.service: write and enable"]
engine:
  description: What the host has now.
  returned: success
  type: dict
  contains:
    version:
      description: Its version, a hash of what is in it; empty when it is not there.
      type: str
      returned: always
      sample: 8c1f5bd6a1e4d2f7
    directory:
      description: Where it lies; empty when it is not there.
      type: str
      returned: always
      sample: /usr/local/libexec/vessel/8c1f5bd6a1e4d2f7
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.engine import carry_engine
from ansible_collections.vessel.host.plugins.module_utils._ansible.module import Facts, VesselModule, run
from ansible_collections.vessel.host.plugins.module_utils._cli import presence
from ansible_collections.vessel.host.plugins.module_utils._converge.plan import Plan


def converge(module: VesselModule) -> tuple[Plan, Facts]:
    carry_engine()
    return presence.plan(module.paths, module.desired["state"]), lambda: {"engine": presence.facts(module.paths)}


def main() -> None:
    run(presence.OPTIONS, converge)


if __name__ == "__main__":
    main()
