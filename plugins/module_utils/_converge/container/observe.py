# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What container_info tells: of the supervisor's word, the kernel's figures, and the declaration."""

from __future__ import annotations

from typing import Any

from ..._cgroup.manager import open_manager
from ..._errors import KernelError, NotFoundError
from ..._options.container import revived, shown
from ..._paths import Paths
from .. import store
from ..host import Host
from . import labels, prepare


def facts(paths: Paths, names: list[str] | None = None) -> list[dict[str, Any]]:
    """One entry a container, sorted by name; NotFoundError for a name that is none."""
    host, stacks = Host(paths), _stacks(paths)
    found = []
    for name in sorted(store.names(paths, prepare.KIND) if names is None else names):
        try:
            found.append(_fact(host, name, stacks.get(name, [])))
        except NotFoundError:
            if names is not None:
                raise
            # It was removed after we had read its name.
    return found


def fact(paths: Paths, name: str) -> dict[str, Any]:
    """The container's facts; empty when there is none."""
    if not store.read_spec(paths, prepare.KIND, name):
        return {}
    return _fact(Host(paths), name, _stacks(paths).get(name, []))


def _stacks(paths: Paths) -> dict[str, list[str]]:
    """By container the stacks that have it."""
    found: dict[str, list[str]] = {}
    for stack in store.names(paths, "stacks"):
        for name in (store.read_spec(paths, "stacks", stack) or {}).get("containers", []):
            found.setdefault(name, []).append(stack)
    return found


def brief(paths: Paths, names: list[str]) -> dict[str, dict[str, Any]]:
    """A few words about each container that is there: enough to go on with, at a hundred containers too."""
    host = Host(paths)
    found = {}
    for name in names:
        present = prepare.look(paths, name)
        if present.spec is None:
            continue
        status = present.status
        found[name] = {
            "state": status.get("status", "created"),
            "pid": present.pid,
            "health": (status.get("health") or {}).get("status"),
            "addresses": [network["ipv4_address"] for network in _networks(host, name)],
        }
    return found


def _fact(host: Host, name: str, stacks: list[str]) -> dict[str, Any]:
    present = prepare.look(host.paths, name)
    spec, status = present.spec, present.status
    if spec is None:
        raise NotFoundError("container", name)
    pid = present.pid
    state = status.get("status", "created") if pid or status.get("status") != "running" else "exited"
    usage = _usage(host, name)
    return {
        "name": name,
        "state": state,
        "pid": pid,
        "started_at": status.get("started_at", ""),
        "finished_at": status.get("finished_at", ""),
        "exit_code": status.get("exit_code"),
        "oom_killed": bool(status.get("oom_killed")) or bool(usage.get("oom_kills")),
        "error": status.get("error", ""),
        "restarts": status.get("restarts", 0),
        "health": status.get("health"),
        "image": spec["image"],
        "image_id": spec.get("image_id", ""),
        "labels": spec["labels"],
        "stacks": stacks,
        "security": labels.shown(pid, labels.of(host.paths, name, revived(spec))),
        "networks": _networks(host, name),
        "published_ports": _ports(host, name),
        "limits": _limits(host, name),
        "usage": usage,
        "log_path": host.paths.log(name) if spec["log_driver"] == "file" else "",
        "config": shown(spec),
    }


def _networks(host: Host, name: str) -> list[dict[str, Any]]:
    attachment = host.attachments.get(name)
    return [
        {
            "name": endpoint.network,
            "interface": endpoint.ifname,
            "host_interface": endpoint.peer,
            "ipv4_address": endpoint.ipv4.partition("/")[0],
            "ipv6_address": endpoint.ipv6.partition("/")[0],
            "mac_address": endpoint.mac,
            "aliases": list(endpoint.aliases),
        }
        for endpoint in (attachment.endpoints if attachment else [])
    ]


def _ports(host: Host, name: str) -> list[str]:
    attachment = host.attachments.get(name)
    return [str(port) for port in attachment.ports] if attachment else []


def _limits(host: Host, name: str) -> dict[str, Any]:
    """What the kernel has now, empty when no process runs."""
    manager = open_manager(host.paths.cgroup(name))
    return manager.read() if manager.exists() else {}


def _usage(host: Host, name: str) -> dict[str, int]:
    manager = open_manager(host.paths.cgroup(name))
    try:
        return manager.stats() if manager.exists() else {}
    except KernelError:
        return {}  # it ended between the two
