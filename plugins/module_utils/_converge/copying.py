# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One file into a container or out of it, as a plan."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Callable, Optional

from .._errors import NotFoundError
from .._paths import Paths
from .placing import Entry, Place, host_place, in_memory, inside, owner, read, same, write
from .plan import Plan, Step

_SHOWN_MAX = 100 * 1024

Opener = Callable[[], "contextlib.AbstractContextManager[Place]"]
Source = Callable[[], "contextlib.AbstractContextManager[Entry]"]


def plan(target: str, where: Opener, option: str, wanted: Source, force: Optional[bool]) -> tuple[Plan, dict[str, Any]]:
    """One step when what is there is not what is wanted, and the diff of the contents."""

    def put() -> None:
        with wanted() as entry, where() as found:
            write(found, entry)

    with wanted() as entry, where() as found, read(found, option) as present:
        kept = present is not None and force is False
        if kept or (present is not None and not force and same(present, entry)):
            return Plan(), {}
        before, action = (present.shown(), "replace") if present else (None, "create")
        step = Step(target, action, put, before=before, after=entry.shown())
        return Plan([step]), text_diff(target, present, entry)


def text_diff(target: str, present: Optional[Entry], wanted: Entry) -> dict[str, Any]:
    """Ansible's diff of two contents; what is long or no text is told by its size."""
    sides = {"before": present, "after": wanted}
    return {
        **{side: _text(entry) for side, entry in sides.items()},
        **{f"{side}_header": target for side in sides},
    }


def _text(entry: Optional[Entry]) -> str:
    if entry is None:
        return ""
    head = f"[{'link' if entry.link else 'mode'} {entry.mode:04o} owner {entry.uid} group {entry.gid}]\n"
    if entry.size > _SHOWN_MAX:
        return f"{head}[{entry.size} bytes]\n"
    try:
        return head + (entry.link or os.pread(entry.fd, entry.size, 0)).decode()
    except UnicodeDecodeError:
        return f"{head}[{entry.size} bytes, not text]\n"


def into(paths: Paths, desired: dict[str, Any]) -> tuple[Plan, dict[str, Any]]:
    """The plan for a file into the container, and the diff of the contents."""
    name, path = desired["container"], desired["container_path"]

    def where() -> contextlib.AbstractContextManager[Place]:
        return inside(paths, name, path, follow=desired["follow"])

    def wanted() -> contextlib.AbstractContextManager[Entry]:
        return _given(paths, name, desired)

    return plan(f"container {name} {path}", where, "container_path", wanted, desired.get("force"))


@contextlib.contextmanager
def _given(paths: Paths, name: str, desired: dict[str, Any]) -> Iterator[Entry]:
    """What is to be in the container."""
    uid, gid = owner(paths, name)
    uid, gid = desired.get("owner_id", uid), desired.get("group_id", gid)
    if "content" in desired:
        data = desired["content"].encode()
        with in_memory(data) as fd:
            yield Entry(desired["mode"], uid, gid, len(data), fd)
        return
    follow = desired["local_follow"]
    with host_place(desired["path"], follow=follow, option="path") as found, read(found, "path") as entry:
        if entry is None:
            raise NotFoundError("file on the target", desired["path"])
        yield entry._replace(mode=entry.mode if entry.link else desired.get("mode", entry.mode), uid=uid, gid=gid)


def out(paths: Paths, desired: dict[str, Any]) -> tuple[Plan, dict[str, Any]]:
    """The plan for a file of the container onto the target, and the diff of the contents."""

    def where() -> contextlib.AbstractContextManager[Place]:
        return host_place(desired["path"], follow=desired["local_follow"], option="path")

    return plan(desired["path"], where, "path", lambda: _taken(paths, desired), desired.get("force"))


@contextlib.contextmanager
def _taken(paths: Paths, desired: dict[str, Any]) -> Iterator[Entry]:
    """What is to be on the target."""
    name, path = desired["container"], desired["container_path"]
    uid, gid = desired.get("owner_id", os.geteuid()), desired.get("group_id", os.getegid())
    with inside(paths, name, path, follow=desired["follow"]) as found, read(found, "container_path") as entry:
        if entry is None:
            raise NotFoundError(f"file in the container {name}", path)
        # A set-uid file of a container's must not become one of the host's unasked.
        mode = entry.mode if entry.link else desired.get("mode", entry.mode & 0o777)
        yield entry._replace(mode=mode, uid=uid, gid=gid)
