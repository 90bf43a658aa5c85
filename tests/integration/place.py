# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An installation of a test's own, and the questions that tests ask of it: through modules, and of the kernel."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._cli import install
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
from ansible_collections.vessel.host.tests.kernel.module_runner import run_module
from ansible_collections.vessel.host.tests.patience import patient


class Place:
    """``root`` is where the installation lies."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.paths = Paths.at(root)

    def task(self, module: str, *, check: bool = False, fails: bool = False, **args: Any) -> dict[str, Any]:
        """The module's result; what failed and should not have is an AssertionError."""
        result = run_module(module, {"root": self.root, **args}, check=check, timeout=120)
        assert bool(result.get("failed")) == fails, result.get("msg")
        return result

    def busybox(self, name: str = "bb") -> None:
        self.task("image", name=name, source="template", template="busybox", cmd=["sleep", "100000"])

    def facts(self, name: str) -> dict[str, Any]:
        return dict(self.task("container_info", name=name)["containers"][0])

    def process(self, name: str) -> tuple[int, str]:
        """(pid, start time): the same pair is the same process."""
        pid = self.facts(name)["pid"]
        return pid, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]

    def inside(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container; its end, with output."""
        runtime = [f"{self.paths.bin}/vessel", "exec", name, *command]
        return subprocess.run(runtime, capture_output=True, text=True, timeout=patient(60), check=False)

    def sh(self, name: str, script: str) -> str:
        """What a script in the container says; it must succeed."""
        done = self.inside(name, "sh", "-c", script)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def remove(self) -> None:
        """Take away all that was declared here, and the engine."""
        for kind in ("container", "network", "volume", "image"):
            for found in self.task(f"{kind}_info")[f"{kind}s"]:
                self.task(kind, name=found["name"], state="absent")
        install.remove(self.paths)
        assert self.root not in Path("/proc/self/mountinfo").read_text()
