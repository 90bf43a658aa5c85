# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""podman with runc in namespaces of its own: with the box goes all that it made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible_collections.vessel.host.tests import podman_settings
from ansible_collections.vessel.host.tests.patience import patient

# What podman writes outside of the directories that can be configured.
ELSEWHERE = ("/run", "/var/lib/containers", "/var/lib/cni", "/etc/cni")
APPLETS = ("cat", "httpd", "ls", "sh", "sleep", "stat", "test", "true", "wget")


class PodmanBox:
    """``root`` is where it lies; ``run`` runs any program inside."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._groups = groups()
        self.env = {**os.environ, **podman_settings.write(root)}
        unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._holder = subprocess.Popen([*unshare, "sh", "-c", "echo; exec sleep infinity"], stdout=subprocess.PIPE)
        assert self._holder.stdout
        self._holder.stdout.readline()
        children = f"/proc/{self._holder.pid}/task/{self._holder.pid}/children"
        self._init = Path(children).read_text().split()[0]
        self.run("ip", "link", "set", "lo", "up")
        for path in ELSEWHERE:
            if os.path.isdir(path):
                self.run("mount", "-t", "tmpfs", "tmpfs", path)
        self._image()

    def _image(self) -> None:
        top = self.root / "image"
        (top / "bin").mkdir(parents=True)
        shutil.copy("/bin/busybox", top / "bin/busybox")
        for name in APPLETS:
            (top / "bin" / name).symlink_to("busybox")
        tar = self.root / "image.tar"
        subprocess.run(["tar", "-C", top, "-cf", tar, "."], check=True, timeout=60)
        self.podman("import", "--quiet", "--change", "CMD sleep 1000", str(tar), "docker.io/library/busybox:latest")

    def run(self, *command: str, check: bool = True, cwd: Path | None = None) -> str:
        enter = ["nsenter", "--target", self._init, "--mount", "--net", "--pid", f"--wd={cwd or self.root}"]
        done = subprocess.run(
            [*enter, *command], env=self.env, capture_output=True, text=True, timeout=patient(120), check=False
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def podman(self, *words: str, check: bool = True) -> str:
        return self.run("podman", *words, check=check)

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        return dict(json.loads(self.podman(kind, "inspect", name))[0])

    def remove(self) -> None:
        """All processes are below one; the mounts and links go with their namespaces, the groups are left."""
        os.kill(int(self._init), 9)
        self._holder.wait()
        for group in sorted(groups() - self._groups, reverse=True):
            deadline = time.monotonic() + patient(10)
            while os.path.isdir(group) and time.monotonic() < deadline:
                with suppress(OSError):
                    os.rmdir(group)
                time.sleep(0.02)


def groups() -> set[str]:
    return {directory for directory, dummy, dummy in os.walk("/sys/fs/cgroup") if "/libpod_parent" in directory}
