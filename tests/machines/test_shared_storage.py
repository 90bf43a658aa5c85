# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of real servers, of nfs 4.2 and of cifs: one writer at a time, a server that goes away and comes back; and an
ext4 that grows under its container. The play says what must be so."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from .installed import on_the_controller
from .machine import machine

pytestmark = [
    pytest.mark.root,
    pytest.mark.vm,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="QEMU is not installed"),
]
PACKAGES = "nfs-kernel-server,nfs-common,cifs-utils,samba,busybox-static"


def test_storage_of_a_server(tmp_path):
    name = f"storage-{os.getpid()}"
    with machine(
        name, tmp_path, "--packages", PACKAGES, "--memory", "900", collections=on_the_controller(tmp_path)
    ) as host:
        print(host.play(Path(__file__).with_name("storage_in_machine.yml")))
