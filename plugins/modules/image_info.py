#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_info
version_added: 0.1.0
short_description: Tell what images for containers there are
description:
  - Returns the images of this host, with their layers, and who uses them.
options:
  name:
    description:
      - Only this image; the list is empty when there is no such image.
    type: str
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.attributes
  - vessel.host.attributes.info_module
seealso:
  - module: vessel.host.image
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: All images
  vessel.host.image_info:
  register: result

- name: What Debian takes on the disk
  vessel.host.image_info:
    name: debian
  register: result
"""

RETURN = r"""
images:
  description:
    - The images, sorted by name.
    - Each is as RV(vessel.host.image#module:image) describes it.
  returned: success
  type: list
  elements: dict
  sample:
    - name: debian:latest
      architecture: amd64
      size: 143654912
      containers: []
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.module import VesselModule, report
from ansible_collections.vessel.host.plugins.module_utils._converge.image.facts import Facts
from ansible_collections.vessel.host.plugins.module_utils._options.container import parse_image
from ansible_collections.vessel.host.plugins.module_utils._options.record import Option


def gather(module: VesselModule) -> dict:
    wanted, facts = module.desired.get("name"), Facts(module.paths)
    return {"images": [facts.of(name) for name in facts.names() if wanted in (None, name)]}


def main() -> None:
    report((Option("name", parse_image),), gather)


if __name__ == "__main__":
    main()
