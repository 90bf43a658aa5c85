#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
version_added: 0.1.0
short_description: Tell what this host can do for containers
description:
  - Says, before anything is changed, what the target's kernel and system can do, and what is missing for which option.
  - Each ability is found out by trying it, in a process that ends with it. Nothing stays.
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.attributes
  - vessel.host.attributes.info_module
notes:
  - Without root the module tells that root is missing, and what it can see else.
seealso:
  - module: vessel.host.container
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: Ask the host
  vessel.host.host_info:
  register: result

- name: Stop here when it can't have containers at all
  ansible.builtin.assert:
    that: result.host.ready
    fail_msg: "{{ result.host.missing | map(attribute='because') | join('; ') }}"
"""

RETURN = r"""
host:
  description: The host.
  returned: success
  type: dict
  contains:
    ready:
      description: Whether the modules can work here at all.
      type: bool
      returned: always
      sample: true
    missing:
      description:
        - What is missing, each with the RV(ignore:option) that asks for it, RV(ignore:because) and RV(ignore:remedy).
        - An option without a dot is a module that can do nothing here.
      type: list
      elements: dict
      returned: always
      sample:
        - option: container.init
          because: /usr/bin/tini-static is not installed
          remedy: install the package tini
    root:
      description: Whether the task runs as root.
      type: bool
      returned: always
    kernel:
      description: Release, version against the floor, and the system calls and features that the engine uses.
      type: dict
      returned: always
    namespaces:
      description: Each kind of namespace, whether one can be made, and the problem if not.
      type: dict
      returned: always
    cgroup:
      description: Version, layout and controllers.
      type: dict
      returned: always
    filesystems:
      description: overlayfs, idmapped mounts, and the file system of the store.
      type: dict
      returned: always
    network:
      description: Kinds of links, IPv6, nftables and pyroute2.
      type: dict
      returned: always
    security:
      description: Linux security modules, seccomp, and what the host gives no process.
      type: dict
      returned: always
    supervisor:
      description: The supervisor in use, and whether it runs.
      type: dict
      returned: always
    tools:
      description: Programs that some options need, and where they are; null for one that is missing.
      type: dict
      returned: always
    capacity:
      description: Cores, memory and disk.
      type: dict
      returned: always
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.module import VesselModule, report
from ansible_collections.vessel.host.plugins.module_utils._converge.host_info import host_info


def gather(module: VesselModule) -> dict:
    return {"host": host_info(module.paths)}


def main() -> None:
    report((), gather, needs_root=False)


if __name__ == "__main__":
    main()
