# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: to_quadlet
version_added: 0.1.0
short_description: A stack as podman's quadlets
description:
  - Gives what the options of M(vessel.host.stack) declare as the files from which podman makes systemd units, see
    C(podman-systemd.unit(5)). They are for podman 5.0 and newer, and for C(/etc/containers/systemd).
  - Where podman's own default is another one than ours, the files say what ours is.
  - C(docs/leaving.md) of the collection tells what becomes of each option.
positional: _input
options:
  _input:
    description:
      - "The options of a task with M(vessel.host.stack): C(name), C(networks), C(volumes), C(images) and
        C(containers). Those that say how the task works, such as C(prune), are passed over."
    type: dict
    required: true
  lossy:
    description:
      - Whether what a quadlet can't say is left out. Each file begins with comments that list what is missing in it
        then.
      - Otherwise the filter fails, and names each such option with its value and the reason.
    type: bool
    default: false
notes:
  - The names of all files, and those of networks, volumes and secrets in podman, begin with the stack's name, so that
    no unit of the host has the same. Containers have their own names.
  - The content of a secret is never written. Each is a secret of podman's, which C(podman secret create) makes.
  - Values are data. Systemd expands neither variables nor specifiers in them.
seealso:
  - plugin: vessel.host.to_compose
    plugin_type: filter
  - plugin: vessel.host.to_kubernetes
    plugin_type: filter
  - module: vessel.host.stack
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: The shop as quadlets
  ansible.builtin.copy:
    content: "{{ item.value }}"
    dest: "/etc/containers/systemd/{{ item.key }}"
    mode: "0644"
  loop: "{{ shop | vessel.host.to_quadlet(lossy=true) | ansible.builtin.dict2items }}"
  vars:
    shop:
      name: shop
      containers:
        web:
          image: nginx
          published_ports: ["8080:80"]
"""

RETURN = r"""
_value:
  description:
    - The text of each file, by its name. There are C(.container), C(.network) and C(.volume) files, C(.image) and
      C(.build) files for images that need them, and a C(.Containerfile) for each image that is built in steps.
  type: dict
  sample:
    shop-web.container: |
      [Unit]
      Description=Container web of the stack shop

      [Container]
      ContainerName=web
      Image=docker.io/library/nginx:latest
      HostName=web
      PublishPort=0.0.0.0:8080:80/tcp
      Network=shop-default.network
      PidsLimit=-1
      NoNewPrivileges=true
      AddCapability=CAP_AUDIT_WRITE
      DropCapability=CAP_MKNOD CAP_NET_RAW

      [Service]
      TimeoutStartSec=900

      [Install]
      WantedBy=multi-user.target default.target
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.vessel.host.plugins.plugin_utils.export.filtering import to_quadlet


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"to_quadlet": to_quadlet}
