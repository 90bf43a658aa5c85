# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container as it is now: what the supervisor wrote of it, and its files as its own processes see them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

from .._errors import NotFoundError, StateError
from .._kernel.openat2 import open_root
from .._kernel.overlay import open_overlay
from .._kernel.process import alive
from .._paths import Paths
from . import store


def status(paths: Paths, name: str) -> dict[str, Any]:
    """The supervisor's words, empty when it was never made; a process that is gone does not run, whatever they say."""
    if store.read_spec(paths, "containers", name) is None:
        raise NotFoundError("container", name, hint="declare it with vessel.host.container first")
    body = _load(paths.status(name))
    if body and not alive(body.get("pid") or 0, body.get("pid_start") or 0):
        body = {**body, "pid": 0, "status": "exited"}
    return body


def pid_of(paths: Paths, name: str) -> int:
    """The container's first process; StateError unless it runs."""
    body = status(paths, name)
    if not body.get("pid") or body["status"] != "running":
        state = body.get("status", "stopped")
        hint = "set paused: false for it" if state == "paused" else "start it first"
        raise StateError(f"container {name} is {state}", hint=hint)
    return int(body["pid"])


def config(paths: Paths, name: str) -> dict[str, Any]:
    """Its bundle's config.json."""
    body = _load(f"{paths.bundle(name)}/config.json")
    if not body:
        status(paths, name)  # that there is no such container is the better word
        raise StateError(f"container {name} was not made since the host started", hint="start it first")
    return body


def _load(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            body = json.load(file)
            return body if isinstance(body, dict) else {}
    except (FileNotFoundError, ValueError):
        return {}


@contextlib.contextmanager
def root(paths: Paths, name: str) -> Iterator[int]:
    """A descriptor of the container's root: that of its process, or of its overlay when none runs.

    The overlay is mounted for us alone and nowhere: it goes with the descriptor.
    """
    pid = status(paths, name).get("pid")
    fd = open_root(f"/proc/{pid}/root") if pid else _overlay(config(paths, name)["mounts"][0])
    try:
        yield fd
    finally:
        os.close(fd)


def _overlay(entry: dict[str, Any]) -> int:
    options = dict(word.partition("=")[::2] for word in entry["options"])
    lower, upper, work = (options.pop(f"{name}dir") for name in ("lower", "upper", "work"))
    return open_overlay(lower.split(":"), upper, work, [f"{key}={value}" for key, value in options.items()])


def covering(paths: Paths, name: str, path: str) -> str:
    """The mount (a volume, a tmpfs, /proc …) that hides ``path`` once the container runs; empty when none does."""
    targets = [entry["destination"] for entry in config(paths, name)["mounts"][1:]]
    return next((target for target in targets if f"{path}/".startswith(f"{target}/")), "")
