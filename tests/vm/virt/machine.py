# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine: a directory machines/NAME with its disk, its keys, and ``record.json``.

The record is written before QEMU starts and removed after it ended, so that whatever dies in between, ``list`` finds
the machine and ``destroy`` takes it away.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from . import cache, process, qemu, ssh
from .errors import VmError
from .qmp import Monitor

SSH = 22
BOOT_TIMEOUT = 600.0  # seconds: without KVM, on a machine that has other things to do
STOP_TIMEOUT = 120.0


@dataclass
class Machine:
    directory: Path
    hardware: qemu.Hardware
    wires: qemu.Wires
    #: who wants it; when that process is gone, the machine is an orphan
    owner: Optional[process.Identity] = None
    process: Optional[process.Identity] = None
    created: float = field(default_factory=time.time)

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def port(self) -> int:
        return self.wires.ports[SSH]

    def save(self) -> None:
        record = {key: value for key, value in asdict(self).items() if key != "directory"}
        new = self.directory / ".record.new"
        new.write_text(json.dumps(record, indent=1))
        new.rename(self.directory / "record.json")

    def running(self) -> Optional[process.Identity]:
        """QEMU's process. By the pid file where the record was not written any more."""
        identity = self.process or _of_pidfile(self.directory)
        return identity if identity and process.is_alive(identity) else None

    def is_orphan(self) -> bool:
        return self.owner is not None and not process.is_alive(self.owner)

    def monitor(self) -> Monitor:
        if not self.running():
            raise VmError(f"{self.name} does not run")
        return Monitor(self.directory)

    def shell(self, script: str, **options: Any) -> str:
        return ssh.run(self.directory, script, **options)

    def power_on(self, load: Optional[str] = None) -> None:
        """Return when sshd answers. Ports that it had before it has again, so that an inventory stays true."""
        self.save()
        qemu.start(self.directory, self.hardware, self.wires, load)
        self.process = _of_pidfile(self.directory)
        self.save()
        ssh.configure(self.directory, self.name, self.port)
        self.wait()

    def wait(self) -> None:
        try:
            ssh.wait(self.port, time.monotonic() + BOOT_TIMEOUT)
        except VmError as error:
            console = (self.directory / "serial.log").read_text(errors="replace").splitlines()[-15:]
            raise VmError("\n".join([f"{self.name}: {error}; its console:", *console])) from None

    def settle(self) -> None:
        """Until systemd has started all that it starts. That something failed is for the caller to find."""
        self.shell("systemctl is-system-running --wait || true", timeout=BOOT_TIMEOUT)

    def power_off(self) -> None:
        """As the power button does."""
        with self.monitor() as monitor:
            monitor.execute("system_powerdown")
        identity = self.running()
        if identity and not process.wait(identity, STOP_TIMEOUT):
            raise VmError(f"{self.name} did not switch itself off within {STOP_TIMEOUT:g} s")
        self._is_off()

    def cut_power(self) -> None:
        """What the guest has flushed stays, and nothing else."""
        identity = self.running()
        if identity:
            process.kill(identity)
        self._is_off()

    def _is_off(self) -> None:
        self.process = None
        ssh.forget(self.directory)
        for name in ("qemu.pid", "qmp.sock", qemu.WIRE):
            (self.directory / name).unlink(missing_ok=True)
        self.save()

    def reboot(self) -> None:
        """As an administrator does; return when the new boot's sshd answers and systemd is done."""
        with self.monitor() as monitor:
            # Later, so that this connection's end is no failure.
            ssh.forget(self.directory)
            self.shell("systemd-run --quiet --on-active=100ms --timer-property=AccuracySec=1ms systemctl reboot")
            # Not until sshd greets again: the old one may do so for a while.
            monitor.wait("RESET", STOP_TIMEOUT)
        self.wait()
        self.settle()

    def snapshot(self, tag: str) -> None:
        """Disk and memory, as they are now."""
        self.shell("sync")
        with self.monitor() as monitor:
            _must_be_silent(monitor.human(f"savevm {tag}"))

    def restore(self, tag: str) -> None:
        ssh.forget(self.directory)
        with self.monitor() as monitor:
            _must_be_silent(monitor.human(f"loadvm {tag}"))
        self.wait()
        self.set_clock()

    def set_clock(self) -> None:
        self.shell(f"date -u -s @{time.time():.3f} >/dev/null")

    def remove(self) -> None:
        self.cut_power()
        shutil.rmtree(self.directory)


def _must_be_silent(printed: str) -> None:
    if printed.strip():
        raise VmError(f"QEMU said: {printed.strip()}")


def _of_pidfile(directory: Path) -> Optional[process.Identity]:
    """A number in a file may be another's by now; QEMU for this directory was told so."""
    path = directory / "qemu.pid"
    try:
        pid = int(path.read_text())
    except (OSError, ValueError):
        return None
    return process.identify(pid) if process.has_argument(pid, str(path)) else None


def place(name: str) -> Path:
    """The machine's directory, there or not."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name):
        raise VmError(f"{name} is no host's name: lower-case letters, digits and hyphens, at most 31")
    return cache.directory("machines") / name


def find(name: str) -> Machine:
    directory = place(name)
    try:
        record = json.loads((directory / "record.json").read_text())
    except FileNotFoundError:
        raise VmError(f"there is no machine {name}") from None
    wires = record.pop("wires")
    wires["ports"] = {int(guest): port for guest, port in wires["ports"].items()}
    for key in ("owner", "process"):
        record[key] = tuple(record[key]) if record[key] else None
    hardware = qemu.Hardware(**record.pop("hardware"))
    return Machine(directory=directory, hardware=hardware, wires=qemu.Wires(**wires), **record)


def all_of_them() -> list[Machine]:
    records = sorted(cache.directory("machines").glob("*/record.json"))
    return [find(path.parent.name) for path in records]
