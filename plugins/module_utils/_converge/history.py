# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stack was, revision by revision, so that it can be so again.

stacks/NAME/history/N.json        {"revision": N, "before": the one that it replaced, "created": time, "digest": …,
                                   "images": {container: id},
                                   "declaration": {"networks": …, "volumes": …, "containers": …}}
stacks/NAME/history/current.json  {"revision": N, "digest": …, "rolled_back": whether N was gone back to}

A revision is written when all of it has been made so. The images are told by their ids, for their names go to others;
they stay as long as a revision has them. What is in secrets is written nowhere: a revision has the contents of now.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import Any, Optional

from .._errors import OptionError
from .._image.store import Store
from .._kernel.file import remove_tree, write_atomic
from .._monitor.status import timestamp
from .._paths import Paths
from . import store
from .plan import Plan, Step

KIND = "stacks"
_PARTS = ("networks", "volumes", "containers")
_FETCHING = ("pull",)  # of a container's options those that are about the task
Document = dict[str, Any]


def revision(paths: Paths, stack: str) -> int:
    """The one that the host has now; 0 when none has been made whole."""
    return int(_current(paths, stack).get("revision", 0))


def revisions(paths: Paths, stack: str) -> list[int]:
    """Those that are kept, the oldest first."""
    with contextlib.suppress(FileNotFoundError):
        names = (name.partition(".") for name in os.listdir(_directory(paths, stack)))
        return sorted(int(number) for number, dummy, rest in names if number.isdigit() and rest == "json")
    return []


def info(paths: Paths, stack: str) -> Document:
    """For stack_info: what is there, and what there was."""
    documents = filter(None, (_read(paths, stack, str(number)) for number in revisions(paths, stack)))
    return {
        "revision": revision(paths, stack),
        "rolled_back": bool(_current(paths, stack).get("rolled_back")),
        "revisions": [_told(document) for document in documents],
    }


def _told(document: Document) -> Document:
    containers = document["declaration"]["containers"]
    images = {name: {"name": containers[name]["image"], "id": id} for name, id in document["images"].items()}
    return {"revision": document["revision"], "created": document["created"], "images": images}


def images(paths: Paths) -> set[str]:
    """Ids of the images that revisions of any stack have."""
    found: set[str] = set()
    for stack in store.names(paths, KIND):
        for number in revisions(paths, stack):
            found.update(((_read(paths, stack, str(number)) or {}).get("images") or {}).values())
    return found


# going back


def earlier(paths: Paths, desired: Mapping[str, Any]) -> Document:
    """What the stack is to be when it goes back: a declaration as a task's, with the ``image_id`` of each container.

    OptionError where there is nothing to go back to, or something of it is no longer on this host.
    """
    for part in ("images", *_PARTS):
        if desired.get(part):
            problem = "is told from the history of the host with state rolled_back; leave it out"
            raise OptionError(part, sorted(desired[part]), problem)
    document = _wanted(paths, desired)
    _check_images(paths, document)
    containers = {
        name: {**body, "image_id": document["images"][name], "secrets": _secrets(paths, name, body, document)}
        for name, body in document["declaration"]["containers"].items()
    }
    declaration = {**document["declaration"], "containers": containers}
    return {**desired, **declaration, "state": "present", "prune": True, "revision": document["revision"]}


def _wanted(paths: Paths, desired: Mapping[str, Any]) -> Document:
    stack, known = desired["name"], revisions(paths, desired["name"])
    if store.read_spec(paths, KIND, stack) is None:
        there = ", ".join(store.names(paths, KIND)) or "none"
        raise OptionError("name", stack, f"is no stack of this host, so that it can't go back; it has {there}")
    number = desired.get("revision") or _before(paths, stack, known)
    if number is None:
        problem = f"has nothing to go back to: stack {stack} has no revision before {revision(paths, stack) or 'one'}"
        raise OptionError("state", "rolled_back", problem)
    document = _read(paths, stack, str(number))
    if document is None:
        kept = ", ".join(map(str, known)) or "none"
        raise OptionError("revision", number, f"is no revision of stack {stack} that this host has; it has {kept}")
    return document


def _before(paths: Paths, stack: str, known: list[int]) -> Optional[int]:
    """Who has gone back is there, and goes no further by being told the same again."""
    current = _current(paths, stack)
    if current.get("rolled_back"):
        return int(current["revision"])
    number = int(current.get("revision", 0))
    before = _replaced(paths, stack, number)
    whole = (number for number in reversed(known) if _read(paths, stack, str(number)))
    return next((one for one in whole if one < number and (before is None or one <= before)), None)


def _replaced(paths: Paths, stack: str, number: int) -> Optional[int]:
    """The revision that was there when this one came; what had failed and was gone back from lies between them."""
    before = (_read(paths, stack, str(number)) or {}).get("before")
    return before if isinstance(before, int) else None


def _check_images(paths: Paths, document: Document) -> None:
    """By its name each would be whatever has that now."""
    images = Store(paths)
    for name, identity in document["images"].items():
        if identity and images.whole(identity) is None:
            problem = f"had the image {identity} of container {name}, which is not on this host any more"
            hint = "declare the stack as it was, with its images"
            raise OptionError("revision", document["revision"], problem, hint=hint)


def _secrets(paths: Paths, name: str, body: Mapping[str, Any], document: Document) -> list[Document]:
    spec = store.read_spec(paths, "containers", name) or {}
    present = {secret["name"]: secret for secret in spec.get("secrets") or []}
    for secret in body.get("secrets") or []:
        if secret["name"] not in present:
            problem = f"had the secret {secret['name']} of container {name}, whose content is nowhere on this host"
            hint = "contents of secrets are not kept; declare the stack as it was, with its secrets"
            raise OptionError("revision", document["revision"], problem, hint=hint)
    return [{**present[secret["name"]], **secret} for secret in body.get("secrets") or []]


# writing it


def step(paths: Paths, desired: Mapping[str, Any]) -> Plan:
    """Remember, once all is done, that this is what the host has."""

    def do() -> None:
        record(paths, desired)

    return Plan([Step(f"stack {desired['name']}", "remember the revision", do, hidden=True)])


def record(paths: Paths, desired: Mapping[str, Any]) -> None:
    """Write the present declaration as a new revision unless it is the one that is there; the oldest that are more than
    ``history_limit`` go."""
    stack = desired["name"]
    document, number = _document(paths, desired), desired.get("revision")
    if number is None:
        number = _numbered(paths, stack, document)
    current = {"revision": number, "digest": document["digest"], "rolled_back": desired.get("revision") is not None}
    if current != _current(paths, stack):
        _write(paths, stack, "current", current)
    _trim(paths, stack, number, int(desired.get("history_limit", 0)))


def _document(paths: Paths, desired: Mapping[str, Any]) -> Document:
    import hashlib

    declaration = {part: dict(desired.get(part) or {}) for part in _PARTS}
    specs = {name: store.read_spec(paths, "containers", name) or {} for name in declaration["containers"]}
    declaration["containers"] = {name: _kept(body) for name, body in declaration["containers"].items()}
    content = {
        "declaration": declaration,
        "images": {name: spec.get("image_id", "") for name, spec in specs.items()},
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return {**content, "digest": digest}


def _kept(body: Mapping[str, Any]) -> Document:
    kept = {key: value for key, value in body.items() if key not in (*_FETCHING, "image_id")}
    if kept.get("secrets"):
        about = ("name", "uid", "gid", "mode")
        kept["secrets"] = [{key: secret[key] for key in about} for secret in kept["secrets"]]
    elif "secrets" in kept:
        del kept["secrets"]
    return kept


def _numbered(paths: Paths, stack: str, document: Document) -> int:
    current = _current(paths, stack)
    if current.get("digest") == document["digest"]:
        return int(current["revision"])
    newest = max(revisions(paths, stack), default=0)
    if newest and (_read(paths, stack, str(newest)) or {}).get("digest") == document["digest"]:
        return newest  # declared again after going back, or we were killed before the next file
    number, before = newest + 1, int(current.get("revision", 0))
    _write(paths, stack, str(number), {**document, "revision": number, "before": before, "created": timestamp()})
    return number


def _trim(paths: Paths, stack: str, current: int, limit: int) -> None:
    before = _replaced(paths, stack, current)
    others = [number for number in revisions(paths, stack) if number != current]
    others.sort(key=lambda number: (number == before, number))  # what is gone back to stays longest
    for number in others[: max(len(others) - limit, 0)]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_path(paths, stack, str(number)))


def forget(paths: Paths, stack: str) -> None:
    remove_tree(_directory(paths, stack))


# files


def _directory(paths: Paths, stack: str) -> str:
    return f"{paths.resource(KIND, stack)}/history"


def _path(paths: Paths, stack: str, name: str) -> str:
    return f"{_directory(paths, stack)}/{name}.json"


def _current(paths: Paths, stack: str) -> Document:
    return _read(paths, stack, "current") or {}


def _read(paths: Paths, stack: str, name: str) -> Optional[Document]:
    """None where there is none, or one that is damaged: what is declared next does not hang on it."""
    try:
        with open(_path(paths, stack, name), encoding="utf-8") as file:
            found = json.load(file)
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(paths: Paths, stack: str, name: str, document: Document) -> None:
    directory = _directory(paths, stack)
    store.make_directory(paths, directory)
    write_atomic(f"{directory}/{name}.json", json.dumps(document, indent=1, sort_keys=True).encode(), mode=0o600)
