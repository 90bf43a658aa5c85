# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: to_compose
version_added: 0.1.0
short_description: A stack as a compose file
description:
  - Gives what the options of M(vessel.host.stack) declare as a mapping that is a file of the Compose Specification.
  - Where docker's own default is another one than ours, the file says what ours is. So containers have
    C(no-new-privileges), their names as host names, and none of the capabilities that docker gives beyond ours.
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
      - Whether what a compose file can't say is left out. The key C(x-left-out) lists it then.
      - Otherwise the filter fails, and names each such option with its value and the reason.
    type: bool
    default: false
notes:
  - The content of a secret is never written. Each is a file below C(secrets/) beside the compose file, by its name.
  - A V($) is written as V($$), so that compose takes no value for a variable.
seealso:
  - plugin: vessel.host.to_quadlet
    plugin_type: filter
  - plugin: vessel.host.to_kubernetes
    plugin_type: filter
  - module: vessel.host.stack
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: The shop as a compose file
  ansible.builtin.copy:
    content: "{{ shop | vessel.host.to_compose(lossy=true) | ansible.builtin.to_nice_yaml(sort_keys=false) }}"
    dest: /srv/shop/compose.yaml
    mode: "0644"
  vars:
    shop:
      name: shop
      containers:
        web:
          image: nginx
          published_ports: ["8080:80"]
          memory: 64m
"""

RETURN = r"""
_value:
  description: The compose file's content.
  type: dict
  sample:
    name: shop
    services:
      web:
        container_name: web
        hostname: web
        image: nginx:latest
        ports: ["0.0.0.0:8080:80/tcp"]
        mem_limit: 64m
        memswap_limit: -1
        security_opt: ["no-new-privileges:true"]
        cap_drop: [MKNOD, NET_RAW]
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.vessel.host.plugins.plugin_utils.export.filtering import to_compose


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"to_compose": to_compose}
