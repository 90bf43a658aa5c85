# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What update is given, as linux.resources: flags, or a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from .._errors import SpecError
from .options import UsageError, last

FLAGS = {
    "--memory": "memory.limit",
    "--memory-reservation": "memory.reservation",
    "--memory-swap": "memory.swap",
    "--cpu-period": "cpu.period",
    "--cpu-quota": "cpu.quota",
    "--cpu-share": "cpu.shares",
    "--cpu-shares": "cpu.shares",
    "--cpu-rt-period": "cpu.realtimePeriod",
    "--cpu-rt-runtime": "cpu.realtimeRuntime",
    "--cpuset-cpus": "cpu.cpus",
    "--cpuset-mems": "cpu.mems",
    "--pids-limit": "pids.limit",
    "--blkio-weight": "blockIO.weight",
}
_TEXTS = ("cpu.cpus", "cpu.mems")
_SIZES = ("memory.limit", "memory.reservation", "memory.swap")
_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def from_flags(values: Mapping[str, Any]) -> dict[str, Any]:
    """Only what was given is there."""
    found: dict[str, Any] = {}
    for flag, name in FLAGS.items():
        if values[name]:
            group, dummy, key = name.partition(".")
            found.setdefault(group, {})[key] = _value(flag, name, last(values[name]))
    return found


def _value(flag: str, name: str, text: str) -> Any:
    if name in _TEXTS:
        return text
    unit = _UNITS.get(text[-1:].lower(), 0) if name in _SIZES else 0
    try:
        return int(text[:-1]) * unit if unit else int(text)
    except ValueError:
        raise UsageError(f"{flag}: {text!r} is no {'size' if name in _SIZES else 'number'}") from None


def read_object(what: str, path: str) -> dict[str, Any]:
    """A file with a JSON object, of which ``what`` is the name in config.json; - is standard input."""
    try:
        if path == "-":
            body = json.load(sys.stdin)
        else:
            with open(path, "rb") as file:
                body = json.load(file)
    except ValueError as error:
        raise SpecError(what, f"{path} is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise SpecError(what, f"{path} is not an object")
    return body
