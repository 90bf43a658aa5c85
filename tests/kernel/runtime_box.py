# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles, and containers made of them by the engine itself; judged from inside, and nothing of them left."""

from __future__ import annotations

import copy
import functools
import json
import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._cgroup.manager import open_manager
from ansible_collections.vessel.host.plugins.module_utils._kernel.process import exit_code
from ansible_collections.vessel.host.plugins.module_utils._runtime import create, delete, start
from ansible_collections.vessel.host.plugins.module_utils._runtime import exec as runtime_exec
from ansible_collections.vessel.host.plugins.module_utils._runtime.state import State, ids

Config = dict[str, Any]
NAMESPACES = ("mount", "pid", "network", "ipc", "uts", "cgroup")
MAPPING = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def mount(destination: str, kind: str, *options: str, source: str = "") -> Config:
    return {"destination": destination, "type": kind, "source": source or kind, "options": list(options)}


PROC, DEV = mount("/proc", "proc"), mount("/dev", "tmpfs", "nosuid", "mode=755")
PTS = mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")


@functools.cache
def applets() -> list[str]:
    listed = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split() if name != "busybox"]


def busybox(directory: Path) -> Path:
    """A root file system of nothing but busybox."""
    binaries = directory / "bin"
    binaries.mkdir(parents=True)
    shutil.copy("/bin/busybox", binaries / "busybox")
    for applet in applets():
        (binaries / applet).symlink_to("busybox")
    for name in ("proc", "sys", "dev", "tmp", "etc"):
        (directory / name).mkdir()
    return directory


class Box:
    """A runtime's root, and bundles in it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root = str(top / "state")
        self.group = f"/vessel-test-{os.getpid()}"
        self.count = 0

    @functools.cached_property
    def rootfs(self) -> Path:
        """One that a test may change."""
        return busybox(self.top / "rootfs")

    def config(self, command: str | list[str], *, namespaces: Any = NAMESPACES, **changes: Any) -> Config:
        """``command`` is a list, or a shell's text. A change's name a__b is config.json's a.b."""
        args = ["/bin/sh", "-c", command] if isinstance(command, str) else command
        config: Config = {
            "ociVersion": "1.0.2",
            "process": {"args": args, "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
            "root": {"path": str(self.rootfs), "readonly": False},
            "mounts": [PROC, DEV],
            "linux": {"namespaces": [{"type": each} if isinstance(each, str) else each for each in namespaces]},
        }
        for name, value in changes.items():
            *parents, last = name.split("__")
            place = config
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = copy.deepcopy(value)
        return config

    def bundle(self, config: Config) -> tuple[str, str]:
        """(id, directory) of a new bundle."""
        self.count += 1
        name = f"c{self.count}"
        config["linux"].setdefault("cgroupsPath", f"{self.group}/{name}")
        directory = self.top / name
        directory.mkdir()
        (directory / "config.json").write_text(json.dumps(config))
        return name, str(directory)

    @contextmanager
    def created(self, command: Any, *, options: Config | None = None, **changes: Any) -> Iterator[State]:
        """A container that waits for start."""
        name, directory = self.bundle(self.config(command, **changes))
        with open("/dev/null", "r+b") as null:
            fds = {"stdio": (null.fileno(),) * 3}
            state = create.create(self.root, name, directory, **{**fds, **(options or {})})
        try:
            yield state
        finally:
            delete.delete(self.root, name, force=True)

    @contextmanager
    def running(self, command: Any = "sleep 1000", **changes: Any) -> Iterator[State]:
        with self.created(command, **changes) as state:
            start.start(self.root, state.id)
            yield state

    def run(self, command: Any, **changes: Any) -> str:
        """What the command says on both its outputs; it must end with 0."""
        code, text = self.outcome(command, **changes)
        assert code == 0, text
        return text

    def outcome(self, command: Any, **changes: Any) -> tuple[int, str]:
        """(exit code, what it says on both its outputs)."""
        with self.streams() as fds:
            options = {**changes.pop("options", {}), "stdio": fds}
            with self.created(command, options=options, **changes) as state:
                start.start(self.root, state.id)
                code = exit_code(os.waitpid(state.pid, 0)[1])
            return code, self.said()

    def exec(self, state: State, command: Any, **changes: Any) -> tuple[int, str]:
        """The same of one more process in the container."""
        args = ["/bin/sh", "-c", command] if isinstance(command, str) else command
        spec = {"args": args, "env": ["PATH=/bin"], "cwd": "/", **changes}
        with self.streams() as fds:
            return runtime_exec.exec(self.root, state.id, spec, stdio=fds).wait(), self.said()

    @contextmanager
    def streams(self) -> Iterator[tuple[int, int, int]]:
        """Nothing to read, and a file to write to."""
        with open("/dev/null", "rb") as null, open(self.top / "output", "wb") as output:
            yield null.fileno(), output.fileno(), output.fileno()

    def said(self) -> str:
        return (self.top / "output").read_text()

    def assert_clean(self) -> None:
        """No container, no group, no mount, no process of it is left."""
        assert ids(self.root) == []
        assert not os.path.isdir(self.root) or os.listdir(self.root) == []
        assert [path for path in open_manager(self.group).directories() if os.path.isdir(path)] == []
        assert str(self.top) not in Path("/proc/self/mountinfo").read_text()


def status(text: str, *names: str) -> dict[str, str]:
    """Fields of /proc/PID/status."""
    pairs = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name: pairs[name].strip() for name in names}


def mountinfo(text: str) -> dict[str, tuple[str, str]]:
    """Mount point: (options, file system)."""
    found = {}
    for line in text.splitlines():
        if " - " not in line:
            continue
        fields = line.split()
        found[fields[4]] = (fields[5], fields[fields.index("-") + 1])
    return found


class ConsoleSocket:
    """Who waits for a terminal's master."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "console.sock")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.bind(self.path)
        self.sock.listen(1)
        self.sock.settimeout(10)

    def receive(self) -> tuple[int, str]:
        """(master, name of the slave)."""
        connection, dummy = self.sock.accept()
        with connection:
            name, ancillary, dummy, dummy = connection.recvmsg(4096, socket.CMSG_SPACE(4))
        return int(struct.unpack("i", ancillary[0][2])[0]), name.decode()

    def close(self) -> None:
        self.sock.close()
        os.unlink(self.path)


def read_until(fd: int, words: str, timeout: float = 10.0) -> str:
    """What a terminal says, up to the words."""
    text, deadline = "", time.monotonic() + timeout
    while words not in text:
        assert time.monotonic() < deadline, text
        try:
            text += os.read(fd, 4096).decode()
        except OSError:
            break
    return text
