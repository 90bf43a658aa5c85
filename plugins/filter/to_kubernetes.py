# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: to_kubernetes
version_added: 0.1.0
short_description: A stack as Kubernetes manifests
description:
  - Gives what the options of M(vessel.host.stack) declare as a list of manifests, each container as a pod of its own.
  - A container that has a volume to itself is a StatefulSet. One whose end others wait for, or that has the restart
    policy V(no) or V(on-failure) written down, is a Job. All others are Deployments.
  - Each is found by its name and by its aliases through a Service without ports. Published ports are a Service of the
    type LoadBalancer. Who is only on internal networks has a NetworkPolicy.
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
      - Whether what Kubernetes can't say is left out. The annotation C(vessel.host/left-out) of each workload lists
        what is missing in it then.
      - Otherwise the filter fails, and names each such option with its value and the reason.
    type: bool
    default: false
  storage:
    description:
      - What each claim of a volume asks for, such as V(10g); a volume here has no size of its own.
    type: str
    default: 1g
  secret_values:
    description:
      - Whether the contents of secrets are written, as a Secret for each container that has some. Keep them out of logs
        and repositories.
      - Otherwise the pods refer to a Secret by the name C(CONTAINER-secrets), and wait until you have made it.
    type: bool
    default: false
notes:
  - Each manifest passes the schema of the API; the names of what it refers to, such as the cluster's storage, are the
    cluster's.
seealso:
  - plugin: vessel.host.to_compose
    plugin_type: filter
  - plugin: vessel.host.to_quadlet
    plugin_type: filter
  - module: vessel.host.stack
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: The shop as manifests, in one file
  ansible.builtin.copy:
    content: |
      {% for manifest in shop | vessel.host.to_kubernetes(lossy=true, storage='10g') %}
      ---
      {{ manifest | ansible.builtin.to_nice_yaml(sort_keys=false) }}
      {% endfor %}
    dest: /srv/shop/shop.yaml
    mode: "0644"
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
  description: The manifests, what others need first.
  type: list
  elements: dict
  sample:
    - apiVersion: v1
      kind: Service
      metadata:
        name: web
        labels: {app.kubernetes.io/part-of: shop}
      spec:
        clusterIP: None
        publishNotReadyAddresses: true
        selector: {app.kubernetes.io/name: web, app.kubernetes.io/part-of: shop}
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.vessel.host.plugins.plugin_utils.export.filtering import to_kubernetes


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"to_kubernetes": to_kubernetes}
