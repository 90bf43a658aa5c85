# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of a container while it exists: a directory below the runtime's root, and what the kernel says of it."""

from __future__ import annotations

import json
import os
import re
from typing import Any, Optional

from .._cgroup.manager import Manager, open_manager
from .._errors import NotFoundError, StateError, VesselError
from .._kernel.process import alive
from . import gate

_ID = re.compile(r"[A-Za-z0-9_+.-]{1,1024}")
# What lies in a container's directory.
FILE, SECCOMP = "state.json", "seccomp.bpf"
FILES = (gate.NAME, gate.OPEN, SECCOMP, FILE, f"{FILE}.new")
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
    if not _ID.fullmatch(container) or container in (".", ".."):
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
        return f"{self.directory}/{gate.NAME}"

    def hooks(self, kind: str) -> list[dict[str, Any]]:
        """As they were declared at creation: the bundle may have changed since, or be gone."""
        return list((self.data.get("hooks") or {}).get(kind) or [])

    def seccomp(self) -> tuple[Optional[bytes], int]:
        """(program, flags) that the container has; exec gives them to its process too."""
        if "seccomp_flags" not in self.data:
            return None, 0
        with open(f"{self.directory}/{SECCOMP}", "rb", buffering=0) as file:
            return file.readall(), int(self.data["seccomp_flags"])

    def manager(self) -> Manager:
        return open_manager(self.cgroup)

    def alive(self) -> bool:
        return alive(self.pid, self.start_time)

    def pidfd(self) -> int:
        """A descriptor of the first process; -1 when it is gone. Looked at once it is held: pids are used again."""
        try:
            fd = os.pidfd_open(self.pid) if self.alive() else -1
        except ProcessLookupError:
            return -1
        if fd >= 0 and not self.alive():
            os.close(fd)
            return -1
        return fd

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

    def born(self, pid: int, start_time: int) -> None:
        self.pid, self.start_time = pid, start_time
        self.data.update(pid=pid, start_time=start_time)

    def save(self, program: Optional[bytes] = None) -> None:
        if program is not None:
            _write(f"{self.directory}/{SECCOMP}", program)
        path = f"{self.directory}/{FILE}"
        _write(f"{path}.new", json.dumps(self.data).encode())
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


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def load(root: str, container: str) -> State:
    path = f"{directory(root, container)}/{FILE}"
    try:
        with open(path, "rb", buffering=0) as file:
            return State(root, json.loads(file.readall()))
    except (FileNotFoundError, NotADirectoryError):
        # podman looks for these words
        raise NotFoundError("container", container, hint=f"it does not exist below {root}") from None


def ids(root: str) -> list[str]:
    """Containers that have a state, sorted."""
    names = os.listdir(root) if os.path.isdir(root) else []
    return sorted(name for name in names if os.path.exists(f"{root}/{name}/{FILE}"))
