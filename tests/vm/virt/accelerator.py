# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does KVM boot our kernel here? Asked by booting it: a /dev/kvm that opens says too little.

(Inside some clouds there is one, of PVM, that runs only kernels made for it.)
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

from . import cache, initrd, qemu

_PATIENCE = 5.0  # seconds; where it works, it is one


def choose(hardware: qemu.Hardware) -> str:
    """``kvm`` or ``tcg``. The answer is kept as long as this host runs and QEMU and the kernel stay the same."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    asked = cache.digest([boot, qemu.version(), hardware.image])
    kept = cache.directory() / "accelerator.json"
    with cache.locked(kept):
        answers: dict[str, str] = json.loads(kept.read_text()) if kept.exists() else {}
        if asked not in answers:
            answers = {asked: "kvm" if _boots(hardware) else "tcg"}
            kept.write_text(json.dumps(answers))
    return answers[asked]


def _boots(hardware: qemu.Hardware) -> bool:
    """Does the kernel reach the initrd, which says so and ends the machine at once?"""
    probe = replace(hardware, accelerator="kvm", memory=256, cpus=1, kernel=(initrd.PROBE,))
    argv = [*qemu.kernel(probe), "-no-reboot", "-serial", "stdio"]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return False
    return initrd.BOOTED.encode() in done.stdout
