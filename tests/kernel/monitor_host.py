# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An installation of its own in a directory, with a supervisor of its own and bundles as the converger makes them."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._cgroup.manager import open_manager
from ansible_collections.vessel.host.plugins.module_utils._monitor.client import Client, connect
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
from ansible_collections.vessel.host.plugins.module_utils._runtime import state as states

COLLECTIONS = Path(__file__).parents[2] / "collection"
_PATH = "import os, sys; sys.path.insert(0, sys.argv[1])"
_PROGRAM = """
from ansible_collections.vessel.host.plugins.module_utils._monitor.server import main
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
main(Paths.at(sys.argv[2]), version="test", idle_exit=2 * (len(sys.argv) > 3), ready=lambda: os.write(1, b"ready"))
"""
APPLETS = ("sh", "sleep", "cat", "true", "false", "echo", "kill", "test", "rm", "touch", "usleep", "yes", "head", "dd")


def wait_for(condition: Any, timeout: float = 10.0, pause: float = 0.005) -> Any:
    """The condition's first true value; an AssertionError when there is none in time."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(pause)


class Site:
    """One installation: ``bundle`` makes a container's bundle, ``supervise`` starts the supervisor."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = Paths.at(str(root))
        self.process: subprocess.Popen[bytes] | None = None
        self.names: list[str] = []
        self.clients: list[Client] = []
        self.rootfs = root / "layer"
        (self.rootfs / "bin").mkdir(parents=True)
        shutil.copy("/bin/busybox", self.rootfs / "bin" / "busybox")
        for applet in APPLETS:
            (self.rootfs / "bin" / applet).symlink_to("busybox")
        for directory in ("proc", "sys", "dev", "tmp", "etc", "run"):
            (self.rootfs / directory).mkdir()

    def bundle(self, name: str, command: Any, **monitor: Any) -> str:
        """``command`` is a list, or a shell's text; ``monitor`` overrides keys of monitor.json."""
        self.names.append(name)
        config = monitor.pop("config", {})
        directory = Path(self.paths.bundle(name))
        home = Path(self.paths.resource("containers", name))
        for made in (directory / "rootfs", home / "upper", home / "work"):
            made.mkdir(parents=True, exist_ok=True)
        (directory / "config.json").write_text(json.dumps(self.config(name, home, command, **config)))
        self.settings(name, **monitor)
        return str(directory)

    def settings(self, name: str, **monitor: Any) -> None:
        log = {"driver": "file", "path": self.paths.log(name), "max_size": 0, "max_file": 1, "tag": name}
        data = {
            "restart": {"policy": "no", "retries": 0},
            "health": None,
            "stop": {"signal": 15, "timeout": 10.0},
            **monitor,
            "log": {**log, **monitor.get("log", {})},
        }
        Path(self.paths.bundle(name), "monitor.json").write_text(json.dumps(data))

    def config(self, name: str, home: Path, command: Any, **changes: Any) -> dict[str, Any]:
        args = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        overlay = [f"lowerdir={self.rootfs}", f"upperdir={home}/upper", f"workdir={home}/work"]
        caps = ["CAP_KILL", "CAP_CHOWN"]
        mounts = [
            {"destination": "/", "type": "overlay", "source": "overlay", "options": overlay},
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", "size=65536k"]},
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["newinstance", "ptmxmode=0666", "mode=0620"],
            },
        ]
        namespaces = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network", "cgroup")]
        result = {
            "ociVersion": "1.0.2",
            "process": {
                "terminal": False,
                "user": {"uid": 0, "gid": 0},
                "args": args,
                "env": ["PATH=/bin"],
                "cwd": "/",
                "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
                "noNewPrivileges": True,
            },
            "root": {"path": "rootfs", "readonly": False},
            "hostname": name,
            "mounts": mounts,
            "linux": {"namespaces": namespaces, "cgroupsPath": self.paths.cgroup(name), "resources": {}},
        }
        for key, value in changes.items():
            result[key] = {**result.get(key, {}), **value} if isinstance(value, dict) else value
        return result

    def supervise(self, *, idle_exit: bool = False, first: str = "") -> Client:
        """Start the supervisor; a client of it. ``first`` is Python that its process runs before."""
        os.makedirs(self.paths.run, exist_ok=True)
        more = ["idle"] if idle_exit else []
        with open(f"{self.paths.run}/monitor.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", f"{_PATH}\n{first}{_PROGRAM}", str(COLLECTIONS), str(self.root), *more],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], 20)[0], self.log()
        assert os.read(self.process.stdout.fileno(), 5) == b"ready", self.log()
        self.process.stdout.close()
        return self.connect()

    def connect(self) -> Client:
        client = connect(self.paths)
        client.settimeout(60)
        self.clients.append(client)
        return client

    def kill_supervisor(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def log(self) -> str:
        return Path(self.paths.run, "monitor.log").read_text()

    def status(self, name: str) -> dict[str, Any]:
        return dict(json.loads(Path(self.paths.status(name)).read_text()))

    def output(self, name: str) -> str:
        return Path(self.paths.log(name)).read_text()

    def until(self, name: str, timeout: float = 10.0, **wanted: Any) -> dict[str, Any]:
        """Wait for the status file to have these values."""

        def look() -> dict[str, Any] | None:
            try:
                status = self.status(name)
            except (FileNotFoundError, json.JSONDecodeError):
                return None
            return status if all(status[key] == value for key, value in wanted.items()) else None

        try:
            return dict(wait_for(look, timeout))
        except AssertionError:
            raise AssertionError(f"{name} is not {wanted}: {self.status(name)}\n{self.log()}") from None

    def groups(self) -> list[str]:
        """Our cgroup directories that are there."""
        found = []
        for name in [*self.names, ""]:
            manager = open_manager(self.paths.cgroup(name).rstrip("/"))
            found += [path for path in manager.directories() if os.path.isdir(path)]
        return found

    def close(self) -> None:
        """End all, and prove that nothing is left."""
        if os.path.exists(f"{self.paths.run}/monitor.log"):
            print("monitor.log:", self.log())  # pytest shows it when the test failed
        for client in self.clients:
            client.close()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
        for name in self.names:
            manager = open_manager(self.paths.cgroup(name))
            if manager.exists():
                if manager.frozen():
                    manager.freeze(False)
                manager.kill()
                manager.remove()
        mounts = Path("/proc/self/mountinfo").read_text()
        assert str(self.root) not in mounts, "a mount is left on the host"
        shutil.rmtree(self.root)

    def assert_clean(self) -> None:
        """No container, no group, no state of the runtime is left."""
        assert states.ids(self.paths.runtime) == []
        assert self.groups() == []


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def zombies(pid: int) -> list[int]:
    found = []
    for child in children(pid):
        stat = Path(f"/proc/{child}/stat").read_text()
        if stat[stat.rindex(")") + 2] == "Z":
            found.append(child)
    return found


def start_ready(site: Site, client: Client, name: str = "a") -> None:
    """A command that has set its traps: until then the kernel ignores signals for a namespace's init."""
    before = site.output(name).count("ready") if os.path.exists(site.paths.log(name)) else 0
    client.call("start", name=name)
    wait_for(lambda: site.output(name).count("ready") > before)
