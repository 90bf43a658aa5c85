# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container of a test's own, and what can be asked of the kernel about it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.vessel.host.tests.patience import patient

from . import cgroup_words
from .warm import WarmPlace

PATIENCE = 20.0  # seconds, where a processor is its own


def until(true: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """What ``true`` returns once it is true; an AssertionError when it never is."""
    deadline = time.monotonic() + patient(patience)
    while not (found := true()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.03)
    return found


class Box:
    """The container ``name``; ``pid`` is asked each time."""

    def __init__(self, place: WarmPlace, name: str = "box") -> None:
        self.place = place
        self.name = name

    def make(self, **args: Any) -> None:
        self.place.task("container", name=self.name, **{"image": "bb", "networks": [], **args})

    def remove(self) -> None:
        self.place.task("container", name=self.name, state="absent")

    @property
    def status(self) -> dict[str, Any]:
        """The supervisor's word, without a module between."""
        return dict(json.loads(Path(self.place.paths.status(self.name)).read_text()))

    @property
    def pid(self) -> int:
        return int(self.status["pid"])

    @property
    def process(self) -> tuple[int, str]:
        """(pid, start time): the same pair is the same process."""
        return self.pid, self.proc("stat").rpartition(")")[2].split()[19]

    def proc(self, file: str) -> str:
        return Path(f"/proc/{self.pid}/{file}").read_text()

    def field(self, name: str) -> str:
        """A field of /proc/PID/status."""
        lines = dict(line.partition(":")[::2] for line in self.proc("status").splitlines())
        return " ".join(lines[name].split())

    def environ(self) -> dict[str, str]:
        return dict(item.partition("=")[::2] for item in self.proc("environ").split("\0") if item)

    def path(self, path: str) -> Path:
        """A path inside, looked at from outside."""
        return Path(f"/proc/{self.pid}/root{path}")

    def read(self, path: str) -> str:
        return self.path(path).read_text()

    def mount(self, target: str) -> list[str] | None:
        """The options of what is mounted there last, without those that say when a file was read."""
        found = None
        for line in self.proc("mountinfo").splitlines():
            words = line.split()
            if words[4] == target:
                found = sorted(word for word in words[5].split(",") if not word.endswith("atime"))
        return found

    def limit(self, controller: str, file: str) -> str:
        """What the kernel has, in the words of cgroup v1."""
        return cgroup_words.read(cgroup_words.where(controller, self.place.paths.cgroup(self.name)), file)

    def namespace(self, kind: str) -> str:
        """Whose it is: the host's, another box's by name, or its own."""
        inode = os.readlink(f"/proc/{self.pid}/ns/{kind}")
        if inode == os.readlink(f"/proc/self/ns/{kind}"):
            return "host"
        peer = Path(self.place.paths.status("peer"))
        others = [json.loads(peer.read_text())["pid"]] if peer.exists() and self.name != "peer" else []
        return "peer" if any(inode == os.readlink(f"/proc/{pid}/ns/{kind}") for pid in others) else "own"

    def outside(self, *command: str) -> str:
        """What a command of the host says in the container's network namespace."""
        words = ["nsenter", f"--net=/proc/{self.pid}/ns/net", *command]
        return subprocess.run(words, capture_output=True, text=True, timeout=patient(20), check=True).stdout

    def links(self) -> dict[str, dict[str, Any]]:
        return {
            link["ifname"]: link for link in json.loads(self.outside("ip", "-j", "address")) if link["ifname"] != "lo"
        }

    def addresses(self, family: str = "inet") -> list[str]:
        found = [entry for dummy, link in sorted(self.links().items()) for entry in link["addr_info"]]
        return [entry["local"] for entry in found if entry["family"] == family and entry["scope"] == "global"]

    def sh(self, script: str) -> str:
        return self.place.sh(self.name, script)

    def works(self, script: str) -> bool:
        return self.place.inside(self.name, "sh", "-c", script).returncode == 0

    def facts(self) -> dict[str, Any]:
        return self.place.facts(self.name)

    def ended(self) -> bool:
        return self.status["status"] == "exited"


def answers(port: int, address: str = "127.0.0.1") -> bool:
    """Does somebody accept there, and is it not only the kernel's queue? One byte of HTTP is enough."""
    try:
        with socket.create_connection((address, port), timeout=patient(2)) as peer:
            peer.settimeout(patient(2))
            peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return peer.recv(4) == b"HTTP"
    except OSError:
        return False
