# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: short_of
version_added: 0.1.0
short_description: Which services have too few containers that are well
description:
  - Counts over all hosts, as a disruption budget of Kubernetes does.
options:
  _input:
    description: By host and service the names of containers, as C(placement.hosts) of M(vessel.host.place) has them.
    type: dict
    required: true
  well:
    description: By host the names of containers that are well there.
    type: dict
    required: true
  minimums:
    description: By service how many must be, as a number, or as a percentage such as V(50%), rounded up. The default
      is all of them.
    type: dict
    default: {}
seealso:
  - plugin: vessel.host.unwell
    plugin_type: filter
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: See that there are enough
  ansible.builtin.assert:
    that: placed.placement.hosts | vessel.host.short_of(well, least) | length == 0
  vars:
    well: {h1: [web-1], h2: [web-2]}
    least: {web: "50%"}
"""

RETURN = r"""
_value:
  description: A few words about each service that has too few; empty when none has.
  type: list
  elements: str
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.vessel.host.plugins.plugin_utils import rollout


def short_of(
    placed: Mapping[str, Mapping[str, Sequence[str]]],
    well: Mapping[str, Sequence[str]],
    minimums: Mapping[str, int | str] | None = None,
) -> list[str]:
    try:
        return rollout.short_of(placed, well, minimums)
    except ValueError as error:
        raise AnsibleFilterError(f"vessel.host.short_of: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"short_of": short_of}
