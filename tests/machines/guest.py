# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual machine of a test's own: tests/vm/vm.py, asked as anybody asks it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, Optional

from ansible_collections.vessel.host.tests.collection.gates import CHECKOUT

VM = [sys.executable, str(CHECKOUT / "tests/vm/vm.py")]
START_TIMEOUT = 1200.0  # seconds: an image and a snapshot may have to be made first
COPY_TIMEOUT = 600.0


class Guest:
    """``facts`` are what ``vm.py start`` says of the machine. It goes with this process, and before that by destroy."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.facts: dict[str, Any] = {}

    def start(self, *words: str) -> None:
        self.facts = json.loads(_vm("start", self.name, "--owner", str(os.getpid()), *words, timeout=START_TIMEOUT))

    @property
    def emulated(self) -> bool:
        return self.facts["accelerator"] == "tcg"

    def put(self, local: Path, remote: str) -> None:
        _vm("put", self.name, str(local), remote, timeout=COPY_TIMEOUT)

    def get(self, remote: str, local: Path) -> None:
        _vm("get", self.name, remote, str(local), timeout=COPY_TIMEOUT)

    def shell(self, script: str, *, timeout: float) -> str:
        """What a script says that must end well; an AssertionError with all that it said when it does not."""
        return _vm("ssh", self.name, script, timeout=timeout)

    def stream(self, script: str, log: IO[str], *, timeout: float) -> Optional[int]:
        """The exit code of a script that writes to ``log`` as it goes on; None when it did not end in time."""
        try:
            words = [*VM, "ssh", self.name, script]
            return subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, timeout=timeout, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            return None

    def destroy(self) -> None:
        _vm("destroy", self.name, timeout=120)


def _vm(*words: str, timeout: float) -> str:
    done = subprocess.run(
        [*VM, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"vm.py {' '.join(words[:2])}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout
