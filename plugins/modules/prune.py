#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prune
version_added: 0.1.0
short_description: Remove what nobody uses
description:
  - Removes stopped containers, and images, volumes, networks and cached layers that nothing uses.
  - Nothing is removed but the kinds that are asked for, and a task that names none of them fails. What would go is what
    check mode returns.
  - The kinds are taken in the order of the options, so that what a container used can go with it.
options:
  containers:
    description:
      - Containers that do not run and that their restart policy will not start again.
      - Their declaration and their writable layer go with them.
    type: bool
    default: false
  images:
    description:
      - Images that no container names.
    type: bool
    default: false
  volumes:
    description:
      - Volumes that no container names. Their data goes with them.
    type: bool
    default: false
  networks:
    description:
      - Networks that no container is on.
    type: bool
    default: false
  build_cache:
    description:
      - Layers of builds and templates that no image has. The next build makes them anew.
    type: bool
    default: false
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.installation.network
  - vessel.host.attributes
  - vessel.host.attributes.converge
seealso:
  - module: vessel.host.image
  - module: vessel.host.volume
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: What would go
  vessel.host.prune:
    containers: true
    images: true
    build_cache: true
  check_mode: true
  register: result

- name: Remove images that nobody uses, and what was cached for them
  vessel.host.prune:
    images: true
    build_cache: true
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order.
  returned: always
  type: list
  elements: str
  sample: ["image debian:latest: remove"]
containers:
  description: Names of the containers that went.
  returned: success
  type: list
  elements: str
images:
  description: Names of the images that went.
  returned: success
  type: list
  elements: str
volumes:
  description: Names of the volumes that went.
  returned: success
  type: list
  elements: str
networks:
  description: Names of the networks that went.
  returned: success
  type: list
  elements: str
layers:
  description: Digests of the layers that went, with images and from the cache.
  returned: success
  type: list
  elements: str
space_reclaimed:
  description: Bytes of these layers and volumes.
  returned: success
  type: int
  sample: 143654912
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.engine import prepare_engine
from ansible_collections.vessel.host.plugins.module_utils._ansible.module import Facts, VesselModule, run
from ansible_collections.vessel.host.plugins.module_utils._converge import prune
from ansible_collections.vessel.host.plugins.module_utils._converge.plan import Plan


def converge(module: VesselModule) -> tuple[Plan, Facts]:
    kinds = prune.asked(module.raw, module.desired)
    prepare_engine(module)
    plan, going = prune.plan(module.paths, kinds)
    return plan, lambda: going


def main() -> None:
    run(prune.OPTIONS, converge)


if __name__ == "__main__":
    main()
