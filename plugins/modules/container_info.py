#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_info
version_added: 0.1.0
short_description: Tell what containers there are and how they are
description:
  - Returns the declared containers of this host, running or not, with what the kernel shows of them now.
options:
  name:
    description:
      - Only this container; the list is empty when there is no such container.
    type: str
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.attributes
  - vessel.host.attributes.info_module
seealso:
  - module: vessel.host.container
  - module: vessel.host.container_logs
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: All containers
  vessel.host.container_info:
  register: result

- name: Those that were killed for using too much memory
  ansible.builtin.debug:
    msg: "{{ result.containers | selectattr('oom_killed') | map(attribute='name') }}"
"""

RETURN = r"""
containers:
  description: The containers, sorted by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the container.
      type: str
      returned: always
      sample: web
    state:
      description: One of V(created), V(running), V(paused), V(restarting), V(stopping) and V(exited).
      type: str
      returned: always
      sample: running
    pid:
      description: Process id of its first process on the host; 0 when it does not run.
      type: int
      returned: always
      sample: 4711
    started_at:
      description: When it was started last.
      type: str
      returned: always
      sample: "2026-11-24T09:12:27Z"
    finished_at:
      description: When it ended last; empty while it runs for the first time.
      type: str
      returned: always
    exit_code:
      description:
        - The exit code, or 128 and the signal's number; null before it ended.
        - Also null where nobody was told it, as of a container that ended while its supervisor was replaced.
      type: int
      returned: always
    oom_killed:
      description: Whether a process of it was killed because of its memory limit.
      type: bool
      returned: always
    error:
      description: Why it could not start; empty when it could.
      type: str
      returned: always
    restarts:
      description: How often its restart policy started it again.
      type: int
      returned: always
    health:
      description: RV(ignore:status), RV(ignore:failing_streak) and the last RV(ignore:log) of its health check; null
        without one.
      type: dict
      returned: always
    image:
      description: Name of the image.
      type: str
      returned: always
      sample: shop/nginx:latest
    image_id:
      description: Digest of the image that it was made from.
      type: str
      returned: always
    labels:
      description: The labels.
      type: dict
      returned: always
    stacks:
      description: Names of the stacks that it belongs to.
      type: list
      elements: str
      returned: always
      sample: [shop]
    security:
      description: "RV(ignore:process_label) is the SELinux label of its process and RV(ignore:mount_label) that of its
        files, RV(ignore:apparmor_profile) is its AppArmor profile; each is empty where there is none. Of one that runs
        the process is asked."
      type: dict
      returned: always
    networks:
      description: Its attachments, each with RV(ignore:name), RV(ignore:interface), RV(ignore:host_interface),
        RV(ignore:ipv4_address), RV(ignore:ipv6_address), RV(ignore:mac_address) and RV(ignore:aliases).
      type: list
      elements: dict
      returned: always
    published_ports:
      description: Its published ports, with the host ports that were chosen.
      type: list
      elements: str
      returned: always
      sample: ["0.0.0.0:8080:80/tcp"]
    limits:
      description: What the kernel has now, as C(linux.resources) of the OCI runtime specification; empty when it does
        not run.
      type: dict
      returned: always
    usage:
      description:
        - What its processes use, such as RV(ignore:memory_usage) and RV(ignore:cpu_usage_ns); empty when it does not
          run.
        - RV(ignore:oom_kills) is how many of them were killed for want of memory, and RV(ignore:memory_high_exceeded)
          how often they were slowed down for it (cgroup v2).
        - RV(ignore:cpu_some_us), RV(ignore:memory_some_us) and RV(ignore:io_some_us) are the microseconds in which some
          of them waited for what they lacked, those with C(full) in which all did (pressure stall information).
      type: dict
      returned: always
    log_path:
      description: Its log file on the host; empty with another log driver.
      type: str
      returned: always
    config:
      description: The options that were declared and are not the default; of secrets the names.
      type: dict
      returned: always
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.module import VesselModule, report
from ansible_collections.vessel.host.plugins.module_utils._converge import store
from ansible_collections.vessel.host.plugins.module_utils._converge.container import observe
from ansible_collections.vessel.host.plugins.module_utils._options.parse import parse_name
from ansible_collections.vessel.host.plugins.module_utils._options.record import Option


def gather(module: VesselModule) -> dict:
    wanted = module.desired.get("name")
    names = [name for name in store.names(module.paths, "containers") if name == wanted] if wanted else None
    return {"containers": observe.facts(module.paths, names)}


def main() -> None:
    report((Option("name", parse_name),), gather)


if __name__ == "__main__":
    main()
