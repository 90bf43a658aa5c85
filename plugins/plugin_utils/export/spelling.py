# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Canonical values as text that these tools read: sizes, durations, signals, capabilities."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any, Union

from ansible_collections.vessel.host.plugins.module_utils._converge.container.security import DEFAULT_CAPS

# What docker gives (moby, oci/caps/defaults.go), and containerd by the CRI.
DOCKER_CAPS = frozenset((*DEFAULT_CAPS, "CAP_MKNOD", "CAP_NET_RAW"))
# What podman gives at the least; distributions add to it (containers.conf(5), default_capabilities).
PODMAN_CAPS = frozenset(DEFAULT_CAPS) - {"CAP_AUDIT_WRITE"}


def size(value: int) -> Union[int, str]:
    """Bytes with the largest unit that leaves a whole number."""
    for shift, unit in ((30, "g"), (20, "m"), (10, "k")):
        if value > 0 and not value % (1 << shift):
            return f"{value >> shift}{unit}"
    return value


def duration(seconds: float) -> str:
    """As compose and podman read it: 90s, 500ms."""
    if seconds == int(seconds):
        return f"{int(seconds)}s"
    return f"{round(seconds * 1000)}ms" if seconds >= 0.001 else f"{round(seconds * 1e6)}us"


def number(value: float) -> Union[int, float]:
    return int(value) if value == int(value) else value


def signal_name(value: int) -> str:
    """By name; a real-time signal by its number, for not all know their names."""
    try:
        return signal.Signals(value).name
    except ValueError:
        return str(value)


def tmpfs(text: str) -> str:
    """What is not noexec says exec, for docker and podman add noexec unasked."""
    path, dummy, options = text.partition(":")
    words = [word for word in options.split(",") if word]
    return ":".join([path, ",".join(words if "noexec" in words or "exec" in words else [*words, "exec"])])


def tmpfs_options(volume: Mapping[str, Any]) -> str:
    """Of a volume in memory, as mount(8) has them; owners that are names are left out."""
    words = [f"size={volume['size']}"] if volume.get("size") else []
    for name, word in (("owner", "uid"), ("group", "gid")):
        if isinstance(volume.get(name), int):
            words.append(f"{word}={volume[name]}")
    return ",".join([*words, f"mode={mode(volume.get('mode') or 0o755)}"])


def qualified(image: str) -> str:
    """With the registry that docker means by a short name; other tools ask their own configuration for it."""
    domain, slash, dummy = image.partition("/")
    if slash and (domain == "localhost" or set(domain) & set(".:")):
        return image
    return f"docker.io/{image}" if slash else f"docker.io/library/{image}"


def mode(value: int) -> str:
    return f"{value:04o}"


def capabilities(spec: Mapping[str, Any], least: frozenset[str]) -> tuple[list[str], list[str]]:
    """(added, dropped) that make what the container has here of a default set between ``least`` and docker's; without
    the prefix CAP_."""
    added, dropped = set(spec.get("capabilities") or ()), set(spec.get("cap_drop") or ())
    if "ALL" in dropped or "ALL" in added:
        plus, minus = added - dropped, dropped
    else:
        wanted = (set(DEFAULT_CAPS) | added) - dropped
        plus, minus = wanted - least, set(DOCKER_CAPS) - wanted
    return _short(plus), _short(minus)


def _short(names: set[str]) -> list[str]:
    return sorted(name.removeprefix("CAP_") for name in names)


def mounted(volume: Mapping[str, Any]) -> str:
    """The options of a volume that is mounted, as mount(8) has them."""
    return ",".join(volume.get("options") or ())
