# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A project as the options of vessel.host.stack, with what a task says beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import images, mounts, networks, services
from .load import Read
from .project import Given, Project

KINDS = ("networks", "volumes", "images", "containers")


def stack(given: Given, read: Read) -> tuple[dict[str, Any], set[str]]:
    """(options of the stack, variables that were not set and stood for nothing); ComposeError for what can't be."""
    project = Project(given, read)
    containers: dict[str, dict[str, Any]] = {}
    made: dict[str, dict[str, Any]] = {}
    for service in project.services:
        mounted: list[str] = []
        for replica in services.replicas(project, service):
            options = services.options(replica)
            name = replica.at.name(replica.name)
            if name in containers:
                raise replica.at.error(name, "is the name of another service's container too")
            mounted = [_target(mount) for mount in (*options.get("volumes", ()), *options.get("tmpfs", ()))]
            containers[name] = options
        image, declared = images.of(project, service, mounted)
        for name, body in declared.items():
            if made.setdefault(name, body) != body:
                raise project.at("services", service, "image").error(name, "is made in another way by another service")
        for replica in services.replicas(project, service):
            containers[replica.name].update(image)
    every = [mount for body in containers.values() for mount in body.get("volumes", ())]
    kinds = {
        "networks": networks.declared(project),
        "volumes": mounts.declared(project, every),
        "images": made,
        "containers": containers,
    }
    return {"name": project.name, **{kind: found for kind, found in kinds.items() if found}}, project.variables.missing


def _target(mount: str) -> str:
    """Of a mount, or of a directory in memory."""
    source, dummy, rest = mount.partition(":")
    return rest.partition(":")[0] if rest.startswith("/") else source


def beside(composed: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The task's own options over those from the files: of a container that both have, option by option."""
    result: dict[str, Any] = {**composed, **{name: value for name, value in given.items() if name not in KINDS}}
    for kind in KINDS:
        found: dict[str, Any] = {name: dict(body) for name, body in composed.get(kind, {}).items()}
        mine = given.get(kind)
        if mine is not None and not isinstance(mine, Mapping):
            result[kind] = mine  # for the module to refuse
            continue
        for name, body in (mine or {}).items():
            if isinstance(body, Mapping):
                found[name] = {**found.get(name, {}), **body}
            else:
                found.setdefault(name, body)
        if found:
            result[kind] = found
    return result
