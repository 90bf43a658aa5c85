# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An installation that loses its host, as far as others see, and the boot after that."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from ansible_collections.vessel.host.plugins.module_utils._paths import Paths, booted_by_systemd
from ansible_collections.vessel.host.tests.patience import patient

from .cgroup_words import ROOT, UNIFIED
from .options_box import until
from .warm import WarmPlace


def supervisor(place: WarmPlace) -> int:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(place.paths.monitor_socket)
        peer.sendall(b'{"id": 1, "op": "ping"}\n')
        return int(json.loads(peer.makefile().readline())["pid"])


def die(place: WarmPlace) -> None:
    """The supervisor and all containers, by SIGKILL; until somebody asks for it there is no other supervisor."""
    _kill_for_good(place, supervisor(place))
    pids = {int(pid) for group in _groups(place.paths) for pid in (group / "cgroup.procs").read_text().split()}
    for pid in pids:
        with suppress(ProcessLookupError):  # a namespace's processes go with its first
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def reboot(place: WarmPlace) -> None:
    """What is left of an installation when the kernel begins anew: its store, and nothing of /run or of the kernel."""
    paths = place.paths
    die(place)
    for network in [entry["bridge"] for entry in place.task("network_info")["networks"]]:
        _run("ip", "link", "delete", network)
    _run("nft", "delete", "table", "inet", paths.nft_table)
    for point in _mounts(place):
        # Where /run is shared, as systemd has it, there are two of a pin, and both go with one of them.
        subprocess.run(["umount", "-l", point], capture_output=True, timeout=patient(20), check=False)
    assert _mounts(place) == []
    for pinned in Path("/run/netns").glob(f"{paths.prefix}-*"):
        pinned.unlink()
    _remove_groups(paths)
    _run("rm", "-rf", "--one-file-system", paths.run)


def restore(place: WarmPlace) -> subprocess.CompletedProcess[str]:
    """What a unit or an init script runs at boot."""
    return subprocess.run(
        [f"{place.paths.bin}/vessel", "restore"], capture_output=True, text=True, timeout=patient(120), check=False
    )


def _kill_for_good(place: WarmPlace, pid: int) -> None:
    if not booted_by_systemd():
        os.kill(pid, signal.SIGKILL)
        return
    unit = f"{place.paths.prefix}.service"
    settings = Path(f"/run/systemd/system/{unit}.d")
    settings.mkdir(parents=True)
    (settings / "dead.conf").write_text("[Service]\nRestart=no\n")
    _run("systemctl", "daemon-reload")
    os.kill(pid, signal.SIGKILL)
    until(lambda: subprocess.run(["systemctl", "is-failed", "--quiet", unit], check=False).returncode == 0)
    shutil.rmtree(settings)
    _run("systemctl", "daemon-reload")
    _run("systemctl", "reset-failed", unit)


def _mounts(place: WarmPlace) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    ours = (f"{place.root}/", f"/run/netns/{place.paths.prefix}-")
    return [point for point in points if point.startswith(ours)]


def _groups(paths: Paths) -> list[Path]:
    """Those below the group of all containers, and it; the deepest first."""
    tops = [ROOT] if UNIFIED else [path for path in ROOT.iterdir() if path.is_dir()]
    found = [path for top in tops for path in Path(f"{top}{paths.cgroups}").glob("**/")]
    return sorted(found, key=lambda path: -len(path.parts))


def _remove_groups(paths: Paths) -> None:
    if booted_by_systemd():  # it removes what it has made
        _run("systemctl", "stop", os.path.basename(paths.cgroups))
        until(lambda: not _groups(paths))
    for group in _groups(paths):
        until(lambda group=group: not (group / "cgroup.procs").read_text())
        group.rmdir()


def _run(*words: str) -> None:
    subprocess.run(words, check=True, timeout=patient(20))
