# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: unwell
version_added: 0.1.0
short_description: What is wrong with containers
description:
  - A container is well when it runs and is healthy, when it runs and has no health check, and when it has ended with 0.
options:
  _input:
    description: The containers, as M(vessel.host.container_info) returns them.
    type: list
    elements: dict
    required: true
  names:
    description: Names of those that are asked for.
    type: list
    elements: str
    required: true
  before:
    description: The same of an earlier moment; a container with another process since then is not well.
    type: list
    elements: dict
    default: []
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: Wait until the containers of a stack are well
  vessel.host.container_info:
  register: result
  until: result.containers | vessel.host.unwell(["db", "web"]) | length == 0
  retries: 30
  delay: 2
"""

RETURN = r"""
_value:
  description: A few words about each container that is not well, the name first; empty when all are.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.vessel.host.plugins.plugin_utils import rollout


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"unwell": rollout.unwell}
