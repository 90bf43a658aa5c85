# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes an installation away by force, whatever state it is in: for what must leave nothing although it failed.

It asks the kernel and the file system alone, so that it also works where the product does not.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

PATIENCE = 10.0


def sweep(paths: Paths) -> None:
    """Processes first, for they hold the rest. Only for an installation with a root of its own."""
    if not paths.tag:
        raise ValueError("the host's own installation is not for sweeping")
    _kill(paths)
    _unmount(paths)
    for name in Path(paths.state, "networks").glob("*"):
        _quietly("ip", "link", "delete", paths.link("br", name.name))
    for pin in Path("/run/netns").glob(f"{paths.prefix}-*"):
        _quietly("ip", "netns", "delete", pin.name)
    _quietly("nft", "delete", "table", "inet", paths.nft_table)
    remove_cgroups(f"/{paths.prefix}")
    shutil.rmtree(paths.root, ignore_errors=True)


def remove_cgroups(word: str) -> None:
    """Those with the word in their path, where nothing runs any more."""
    for directory, _children, _files in os.walk("/sys/fs/cgroup", topdown=False):
        if word in directory:
            with suppress(OSError):
                os.rmdir(directory)


def processes(paths: Paths) -> Iterator[int]:
    """The supervisor and its helpers by their command line, containers by their cgroup."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            cgroup = Path(f"/proc/{pid}/cgroup").read_text()
            if f"{paths.libexec}/" in line or f"/{paths.prefix}/" in cgroup:
                yield int(pid)


def _kill(paths: Paths) -> None:
    deadline = time.monotonic() + PATIENCE
    while (pids := list(processes(paths))) and time.monotonic() < deadline:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _unmount(paths: Paths) -> None:
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        target = line.split()[4]
        if target.startswith(f"{paths.root}/"):
            _quietly("umount", "--lazy", target)


def _quietly(*argv: str) -> None:
    subprocess.run(argv, capture_output=True, check=False, timeout=60)
