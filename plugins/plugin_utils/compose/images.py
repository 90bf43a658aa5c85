# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of a project: those that are built, those of another platform, and those with a service's configs."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._options.container import BY_NAME, PULL
from ansible_collections.vessel.host.plugins.module_utils._options.image import OPTIONS

from . import mounts
from .errors import NOTHING
from .merge import as_pairs
from .places import is_relative
from .project import At, Project
from .values import is_true, text, texts

Options = dict[str, Any]
_BY_NAME = {option.name: option for option in OPTIONS}
_FILES = ("Containerfile", "Dockerfile")
_PULL = {"if_not_present": "missing", "build": "missing"}


def of(project: Project, service: str, mounted: list[str]) -> tuple[Options, dict[str, Options]]:
    """(options of the service's containers, images by name that the stack declares for it)."""
    body, at = project.services[service], project.at("services", service)
    declared: dict[str, Options] = {}
    name = str(body.get("image") or f"{project.name}-{service}".lower())
    at.below("image").checked(BY_NAME["image"], name)
    policy = body.get("pull_policy")
    pull = _PULL.get(policy, policy) if policy else None
    if body.get("build"):
        declared.update(_built(project, name, body["build"], at.below("build")))
        pull = None
    if body.get("platform"):
        if name in declared:
            raise at.below("platform").error(
                body["platform"], "can't be with build; an image is built for the host that runs it"
            )
        platform = at.below("platform").checked(_BY_NAME["platform"], body["platform"])
        declared[name] = {"platform": platform, **({"pull": pull} if pull in PULL else {})}
    if body.get("configs"):
        derived = f"{project.name}-{service}-configs".lower()
        given = {"pull": pull} if pull and name not in declared else {}
        declared[derived] = {"from": name, "layers": _layers(project, service, mounted), **given}
        name, pull = derived, None
    return {"image": name, **({"pull": pull} if pull and name not in declared else {})}, declared


# build


def _built(project: Project, name: str, build: Any, at: At) -> dict[str, Options]:
    build = {"context": build} if isinstance(build, str) else build
    made: Options = {}
    if build.get("context") or not build.get("dockerfile_inline"):
        made["src"] = _context(project, build.get("context") or ".", at.below("context"))
    made["containerfile"] = _containerfile(project, build, made.get("src", ""), at)
    args = {key: value for key, value in _args(project, build.get("args")).items() if value is not None}
    made.update({"build_args": args} if args else {})
    made.update({"labels": texts(build["labels"])} if build.get("labels") else {})
    made.update({"target": build["target"]} if build.get("target") else {})
    made.update({"pull": "always"} if is_true(build.get("pull")) else {})
    secrets = [
        _secret(project, entry, at.below("secrets", index)) for index, entry in enumerate(build.get("secrets") or [])
    ]
    made.update({"secrets": secrets} if secrets else {})
    tags = {}
    for index, tag in enumerate(build.get("tags") or []):
        at.below("tags", index).checked(BY_NAME["image"], tag)
        if tag != name:
            tags[tag] = {"from": name}
    return {name: made, **tags}


def _context(project: Project, context: str, at: At) -> str:
    if not is_relative(context) and not context.startswith(("/", "~")):
        raise at.error(context, "is an address; give a directory on the controller")
    path = mounts.on_controller(project, context)
    if not os.path.isdir(path):
        raise at.error(context, f"is no directory on the controller, at {path}")
    return path


def _containerfile(project: Project, build: Options, context: str, at: At) -> str:
    """Its text, of more than one line, which says that it is no path."""
    if build.get("dockerfile_inline"):
        if build.get("dockerfile"):
            raise at.below("dockerfile").error(build["dockerfile"], "can't be with dockerfile_inline")
        return f"{build['dockerfile_inline']}\n"
    name = build.get("dockerfile") or next((name for name in _FILES if os.path.exists(os.path.join(context, name))), "")
    if not name:
        raise at.below("context").error(context, f"has neither {' nor '.join(_FILES)}; name it in dockerfile")
    path = os.path.join(context, name)
    where = at.below("dockerfile")
    for ignore in (f"{path}.dockerignore", f"{path}.containerignore"):
        if os.path.exists(ignore):
            raise where.error(
                name, f"has an ignore file of its own, {ignore}; there is one for the context, .dockerignore"
            )
    return project.files.text(path, name, at.error(name, "").file, where.text) + "\n"


def _args(project: Project, args: Any) -> dict[str, str | None]:
    return {key: project.variables.get(key) if value is None else text(value) for key, value in as_pairs(args).items()}


def _secret(project: Project, entry: Any, at: At) -> Options:
    entry = {"source": entry} if isinstance(entry, str) else entry
    return {
        "id": at.name(entry.get("target") or entry["source"]),
        "value": mounts.content_of(project, "secrets", entry["source"], at),
    }


# configs


def _layers(project: Project, service: str, mounted: list[str]) -> list[Options]:
    """A layer for each config: what it holds is part of the container's image, so a change makes the container anew."""
    at, found = project.at("services", service, "configs"), []
    for index, given in enumerate(project.services[service]["configs"]):
        here = at.below(index)
        entry = {"source": given} if isinstance(given, str) else given
        dest = str(entry.get("target") or f"/{entry['source']}")
        if not dest.startswith("/"):
            raise here.below("target").error(dest, "is not an absolute path; begin it with /")
        for mount in mounted:
            if dest == mount or dest.startswith(f"{mount.rstrip('/')}/"):
                raise here.below("target").error(dest, f"is below {mount}, over which something is mounted")
        copy = {
            "content": mounts.content_of(project, "configs", entry["source"], here),
            "dest": dest,
            "mode": mounts.mode(entry.get("mode", "0444"), here.below("mode")),
        }
        owners = {"owner": entry.get("uid"), "group": entry.get("gid")}
        copy.update({key: text(value) for key, value in owners.items() if value is not None})
        here.item(_BY_NAME["layers"], {"copy": copy})
        found.append({"copy": copy})
    if not found:
        raise at.error(NOTHING, "names no config")
    return found
