# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The other side: podman with runc, in directories of its own, and nothing of it left afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from playing import CHECKOUT, VENV, Ansible, Play, resident, run

sys.path.insert(0, str(CHECKOUT / "collection"))

from ansible_collections.vessel.host.tests import podman_settings

AARDVARK = "/usr/lib/podman/aardvark-dns"
# What podman and netavark make outside of the directories that can be configured.
ELSEWHERE = ("/run/containers", "/run/libpod", "/run/podman", "/var/lib/containers", "/var/lib/cni", "/etc/cni")


class Podman:
    def __init__(self, directory: Path) -> None:
        self.root = directory / "podman"
        self.root.mkdir()
        (site,) = VENV.glob("lib/python3*/site-packages")
        self.ansible = Ansible(self.root, site, **podman_settings.write(self.root))
        self._tables = tables()
        self._cgroups = cgroups()
        self._resolver = any(AARDVARK in line for dummy, line, dummy in processes())
        self._there = [path for path in ELSEWHERE if os.path.exists(path)]

    def podman(self, *words: str, check: bool = True) -> str:
        return run("podman", *words, env=self.ansible.env, check=check)

    def prepare(self) -> None:
        archive = self.root / "busybox.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add("/bin/busybox", "bin/busybox")
            for name in ("sh", "sleep"):
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        self.podman("import", "--quiet", str(archive), "localhost/busybox:latest")

    def up(self, count: int) -> Play:
        return self.ansible.play("podman.yml", count=count, timeout=30 + 2 * count)

    def running(self) -> int:
        return len(self.podman("ps", "--quiet").split())

    def resident(self) -> dict[str, int]:
        return resident("/usr/bin/conmon", AARDVARK)

    def down(self, count: int = 0) -> None:
        self.podman("rm", "--force", "--all", "--time", "0")

    def remove(self) -> None:
        """Whatever happened before: no process, mount, link, rule, cgroup or file of it stays."""
        with suppress(Exception):
            self.down()
        with suppress(Exception):
            self.podman("network", "rm", "--force", "bench")
        self._kill()
        for mount in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if mount.split()[4].startswith(f"{self.root}/"):
                run("umount", "--lazy", mount.split()[4], check=False)
        for table in tables() - self._tables:
            run("nft", "delete", "table", *table.split(), check=False)
        for directory in sorted(cgroups() - self._cgroups, reverse=True):
            with suppress(OSError):
                os.rmdir(directory)
        for path in ELSEWHERE:
            if path not in self._there:
                shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(self.root)

    def _kill(self) -> None:
        deadline = time.monotonic() + 10
        while (pids := self._pids()) and time.monotonic() < deadline:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)

    def _pids(self) -> list[int]:
        """conmon is known by its files, a container by its cgroup; aardvark-dns is ours when there was none before."""
        containers = [path.name for path in self.root.glob("graph/overlay-containers/*/")]
        words = [str(self.root), *([] if self._resolver else [AARDVARK])]
        return [
            pid
            for pid, line, cgroup in processes()
            if any(word in line for word in words) or any(name in cgroup for name in containers)
        ]


def tables() -> set[str]:
    return {line.removeprefix("table ") for line in run("nft", "list", "tables").splitlines()}


def cgroups() -> set[str]:
    return {directory for directory, dummy, dummy in os.walk("/sys/fs/cgroup") if "/libpod_parent" in directory}


def processes() -> Iterator[tuple[int, str, str]]:
    """Process id, command line and cgroups of every process but this one."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) != os.getpid():
            with suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
                yield int(pid), line, Path(f"/proc/{pid}/cgroup").read_text()
