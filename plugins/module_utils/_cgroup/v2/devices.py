# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices by a BPF program of type BPF_PROG_TYPE_CGROUP_DEVICE: v2 has no files for them."""

from __future__ import annotations

import os
from typing import Any

from ..._kernel import bpf
from ..devices import default_rules, kind


def apply(directory: str, resources: dict[str, Any]) -> None:
    rules = resources.get("devices")
    if rules is None:
        return
    normal = [{**rule, "type": kind(rule)} for rule in [*rules, *default_rules(rules)]]
    group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        bpf.replace_device_program(group, bpf.device_program(normal))
    finally:
        os.close(group)


def read(directory: str) -> dict[str, Any]:
    return {}
