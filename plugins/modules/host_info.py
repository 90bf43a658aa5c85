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
      description:
        - overlayfs, idmapped mounts, and the file system of the store.
        - RV(ignore:mountable) has types of file systems for O(vessel.host.volume#module:driver=mount), each with
          whether the RV(ignore:kernel) has it, the RV(ignore:helper) that mounts it, and the RV(ignore:package) that
          has that.
        - RV(ignore:loop) says whether O(vessel.host.volume#module:driver=loop) can be had.
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
    drain:
      description:
        - Whether the host is to have work, as M(vessel.host.drain) was told. RV(ignore:state) is V(undrained),
          V(cordoned) or V(drained), and RV(ignore:stopped) are the containers that were stopped for it.
        - M(vessel.host.place) places nothing on a host that is drained or cordoned.
      type: dict
      returned: always
      sample: {state: undrained, stopped: []}
    capacity:
      description: Cores, memory and disk, and what of it is taken. Bytes, where nothing else is said.
      type: dict
      returned: always
      contains:
        cpus:
          description: CPUs that the task may use.
          type: int
          returned: always
        idle_cpus:
          description: How many of them were idle while the module looked, a tenth of a second at least.
          type: float
          returned: always
        committed_cpus:
          description: The sum of O(vessel.host.container#module:cpus) of the containers that are declared here.
          type: float
          returned: always
        memory:
          description: Memory in all.
          type: int
          returned: always
        memory_available:
          description: What the kernel can give without swapping (C(MemAvailable)).
          type: int
          returned: always
        committed_memory:
          description: The sum of O(vessel.host.container#module:memory_reservation), or of
            O(vessel.host.container#module:memory) where that is not set, of the containers that are declared here.
          type: int
          returned: always
        swap:
          description: Swap in all.
          type: int
          returned: always
        store_size:
          description: Size of the file system that the store is on.
          type: int
          returned: always
        store_free:
          description: What is free of it.
          type: int
          returned: always
        ports:
          description: Ports that programs of the host listen on.
          type: list
          elements: str
          returned: always
          sample: ["0.0.0.0:22/tcp", "[::]:22/tcp"]
        devices:
          description: Devices of the host, but for those that all hosts have.
          type: list
          elements: str
          returned: always
          sample: [/dev/kvm, /dev/nvidia0]
        containers:
          description: The containers that are declared here, by name, each with the RV(ignore:cpus),
            RV(ignore:memory), RV(ignore:ports) and RV(ignore:devices) that it was promised, and its
            RV(ignore:labels).
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
