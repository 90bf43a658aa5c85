# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: batches
version_added: 0.1.0
short_description: Hosts in batches
description:
  - Divides a list as a play's C(serial) does, within a play.
options:
  _input:
    description: What is divided, such as C(ansible_play_hosts).
    type: list
    elements: str
    required: true
  sizes:
    description:
      - How many are in each batch, as a number, or as a percentage of all such as V(25%), which is at least one.
      - The last is that of all batches that follow.
    type: list
    elements: raw
    required: true
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: One host first, then a quarter of them at a time
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts | vessel.host.batches([1, '25%']) }}"
"""

RETURN = r"""
_value:
  description: The batches.
  type: list
  elements: list
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.vessel.host.plugins.plugin_utils import rollout


def batches(hosts: list[str], sizes: list[int | str]) -> list[list[str]]:
    try:
        return rollout.batches(hosts, sizes)
    except ValueError as error:
        raise AnsibleFilterError(f"vessel.host.batches: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"batches": batches}
