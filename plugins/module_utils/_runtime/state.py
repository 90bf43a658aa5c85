# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of a container while it exists: a directory below the runtime's root, and what the kernel says of it."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from .._cgroup.manager import Manager, open_manager
from .._errors import NotFoundError, StateError, VesselError
from .._kernel.process import alive

_ID = re.compile(r"^[A-Za-z0-9_+.-]{1,1024}$")
CREATED, RUNNING, PAUSED, STOPPED = "created", "running", "paused", "stopped"

# Which verbs the life cycle allows in which state (runtime-spec, runtime.md).
LEGAL = {
    "start": (CREATED,),
    "kill": (CREATED, RUNNING, PAUSED),
    "delete": (STOPPED,),
    "exec": (RUNNING,),
    "pause": (RUNNING, CREATED),
    "resume": (PAUSED,),
    "update": (CREATED, RUNNING, PAUSED),
}


def directory(root: str, container: str) -> str:
    """The container's directory; the id must be one path component."""
    if not _ID.match(container) or container in (".", ".."):
        raise VesselError(f"{container!r} is not a container id; use letters, digits, _ + - and .")
    return f"{root}/{container}"


class State:
    """state.json of one container, and questions to the kernel."""

    def __init__(self, root: str, data: dict[str, Any]) -> None:
        self.root = root
        self.data = data
        self.id: str = data["id"]
        self.pid: int = data["pid"]
        self.start_time: int = data["start_time"]
        self.bundle: str = data["bundle"]
        self.created: str = data["created"]
        self.cgroup: str = data["cgroup"]

    @property
    def directory(self) -> str:
        return directory(self.root, self.id)

    @property
    def gate(self) -> str:
        """The socket at which a created container waits for start; it is gone from then on."""
        return f"{self.directory}/gate"

    def manager(self) -> Manager:
        return open_manager(self.cgroup)

    def alive(self) -> bool:
        return alive(self.pid, self.start_time)

    def status(self) -> str:
        if not self.alive():
            return STOPPED
        if os.path.exists(self.gate):
            return CREATED
        return PAUSED if self.manager().frozen() else RUNNING

    def require(self, verb: str) -> None:
        """Raise StateError when the life cycle does not allow the verb now."""
        status = self.status()
        if status not in LEGAL[verb]:
            raise StateError(f"container {self.id} is {status}; {verb} needs it {' or '.join(LEGAL[verb])}")

    def save(self) -> None:
        path = f"{self.directory}/state.json"
        with open(f"{path}.new", "w") as file:
            json.dump(self.data, file)
        os.rename(f"{path}.new", path)

    def to_oci(self) -> dict[str, Any]:
        """The state as hooks and ``state`` give it (runtime-spec, runtime.md)."""
        status = self.status()
        return {
            "ociVersion": "1.0.2",
            "id": self.id,
            "pid": 0 if status == STOPPED else self.pid,
            "status": status,
            "bundle": self.bundle,
            "rootfs": self.data["rootfs"],
            "created": self.created,
            "owner": "",
            "annotations": self.data["annotations"],
        }


def load(root: str, container: str) -> State:
    path = f"{directory(root, container)}/state.json"
    try:
        with open(path, "rb") as file:
            return State(root, json.load(file))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError("container", container) from None


def ids(root: str) -> list[str]:
    """Containers that have a state, sorted."""
    names = os.listdir(root) if os.path.isdir(root) else []
    return sorted(name for name in names if os.path.exists(f"{root}/{name}/state.json"))
