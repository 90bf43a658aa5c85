# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What both sides of the comparison share: one Ansible, whole processes by the clock, resident memory by the kernel."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
CACHE = CHECKOUT / ".cache" / "bench"
VENV = CACHE / "venv"
INVENTORY = "localhost ansible_connection=local ansible_python_interpreter=/usr/bin/python3\n"


class Failed(Exception):
    """A command of the comparison did not do what it should."""


@dataclass
class Play:
    """A finished ansible-playbook: how long it took, from nothing to its end, and what it says it did."""

    seconds: float
    output: str

    @property
    def changed(self) -> int:
        return int(self.output.rpartition("changed=")[2].split()[0])


def run(
    *argv: str, env: dict[str, str] | None = None, input: str = "", timeout: float = 300, check: bool = True
) -> str:
    done = subprocess.run(argv, env=env, input=input, capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode:
        raise Failed(f"{' '.join(argv)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


@contextmanager
def file_system(place: Path) -> Iterator[Path]:
    """A new one, mounted at ``place``. On one that is in use, whoever comes later pays for what others removed: ext4
    passes over the inodes that were freed within the last minutes, one by one, for each new file."""
    image = place.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(16 << 30)
    run("mkfs.ext4", "-q", str(image))
    place.mkdir()
    run("mount", "-o", "loop", str(image), str(place))
    try:
        yield place
    finally:
        run("umount", str(place))
        place.rmdir()
        image.unlink()


class Ansible:
    """The ansible-playbook that both sides use, with no settings but its defaults."""

    def __init__(self, directory: Path, collections: Path, **more: str) -> None:
        self.inventory = directory / "inventory"
        self.inventory.write_text(INVENTORY)
        config = directory / "ansible.cfg"
        config.write_text("[defaults]\nnocows = true\n")
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        settings = {"ANSIBLE_CONFIG": str(config), "ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_NOCOLOR": "1"}
        self.env = {**kept, **settings, **more}

    def play(self, playbook: str, *, timeout: float = 300, **extra: object) -> Play:
        argv = [str(VENV / "bin/ansible-playbook"), "-i", str(self.inventory), str(HERE / playbook)]
        for name, value in extra.items():
            argv += ["-e", f"{name}={value}"]
        start = time.monotonic()
        output = run(*argv, env=self.env, timeout=timeout)
        return Play(time.monotonic() - start, output)


def resident(*commands: str) -> dict[str, int]:
    """Proportional set size in kB of the processes whose command line holds one of the words, by word."""
    found = dict.fromkeys(commands, 0)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            for word in commands:
                if word in line and int(pid) != os.getpid():
                    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                    found[word] += int(rollup.partition("\nPss:")[2].split()[0])
    return found


def prepare_venv() -> None:
    """ansible-core, and of the package ``ansible`` nothing but containers.podman."""
    marker = VENV / ".done"
    if marker.exists():
        return
    run("python3", "-m", "venv", "--clear", str(VENV))
    pip = str(VENV / "bin/pip")
    requirements = CHECKOUT / "playbooks/requirements.txt"
    run(pip, "install", "--quiet", "--requirement", str(requirements), timeout=600)
    wheels = CACHE / "wheel"
    package = "ansible>=12,<13"  # of the same ansible-core
    run(pip, "download", "--quiet", "--no-deps", "--only-binary", ":all:", "-d", str(wheels), package, timeout=600)
    (wheel,) = wheels.glob("ansible-*.whl")
    (site,) = VENV.glob("lib/python3*/site-packages")
    unpack = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); z.extractall(sys.argv[2], [n for n in z.namelist()"
    unpack += " if n.startswith('ansible_collections/containers/podman/')])"
    run(sys.executable, "-c", unpack, str(wheel), str(site))
    wheel.unlink()
    marker.touch()
