#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_logs
version_added: 0.1.0
short_description: Read what a container has said
description:
  - Returns what the container wrote to its standard output and standard error.
  - It can be read after the container ended as well.
options:
  container:
    description: Name of the container.
    type: str
    required: true
  tail:
    description:
      - How many lines of the end. Without it, all that are kept are returned.
    type: int
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.attributes
  - vessel.host.attributes.info_module
notes:
  - With the log driver V(file) both streams are one, in the order in which they were written, and lines carry no time.
seealso:
  - module: vessel.host.container
  - module: vessel.host.container_info
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: The last words
  vessel.host.container_logs:
    container: db
    tail: 20
  register: result

- name: Print them
  ansible.builtin.debug:
    var: result.lines
"""

RETURN = r"""
logs:
  description: The text.
  returned: success
  type: str
  sample: "ready for connections\n"
lines:
  description: The text as lines.
  returned: success
  type: list
  elements: str
  sample: [ready for connections]
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.module import VesselModule, report
from ansible_collections.vessel.host.plugins.module_utils._converge import logs
from ansible_collections.vessel.host.plugins.module_utils._options.parse import integer, parse_name
from ansible_collections.vessel.host.plugins.module_utils._options.record import Option

OPTIONS = (
    Option("container", parse_name, required=True),
    Option("tail", integer(0), "int"),
)


def gather(module: VesselModule) -> dict:
    text = logs.read(module.paths, module.desired["container"], module.desired.get("tail"))
    return {"logs": text, "lines": text.splitlines()}


def main() -> None:
    report(OPTIONS, gather)


if __name__ == "__main__":
    main()
