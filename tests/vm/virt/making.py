# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From nothing to a machine that is logged in to: cold, or from the memory of one that has booted before."""

from __future__ import annotations

import shutil
import time
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Optional

from . import cache, process, programs, qemu, ssh
from .errors import VmError
from .machine import SSH, Machine

READY = "ready"  # the name of the state in a snapshot's disk


def start(
    directory: Path, hardware: qemu.Hardware, wires: qemu.Wires, owner: Optional[process.Identity], cold: bool
) -> Machine:
    """A new machine, with a name, a machine-id, a host key and a clock of its own. About 2 seconds, cold 10 to 20."""
    machine = Machine(directory, hardware, wires, owner)
    frozen = None if cold else _frozen(hardware)
    directory.mkdir()
    try:
        machine.save()
        ssh.trust(directory, machine.name, Path(hardware.image, "host_key"))
        if frozen:
            # A copy, since a state can be loaded only from the very disk that it was saved in.
            programs.run("cp", "--reflink=auto", str(frozen / "disk.qcow2"), str(directory), timeout=120)
            machine.power_on(READY)
        else:
            qemu.new_disk(directory / "disk.qcow2", Path(hardware.image, "root.img"))
            machine.power_on()
        _make_its_own(machine)
        machine.settle()
    except BaseException:
        _keep_console(machine)
        machine.remove()
        raise
    return machine


def _keep_console(machine: Machine) -> None:
    """The last words of one that did not come up, for whoever looks into it."""
    console = machine.directory / "serial.log"
    if console.exists():
        shutil.copy(console, cache.directory() / "failed-console.log")


def _frozen(hardware: qemu.Hardware) -> Path:
    """The snapshot for this hardware; made when the cache has none."""
    target = cache.directory("snapshots") / cache.digest([asdict(hardware), qemu.version()])
    return cache.made(target, lambda new: _freeze(new, hardware))


def _freeze(new: Path, hardware: qemu.Hardware) -> None:
    machine = Machine(new, hardware, qemu.Wires({SSH: 0}))
    ssh.trust(new, machine.name, Path(hardware.image, "host_key"))
    qemu.new_disk(new / "disk.qcow2", Path(hardware.image, "root.img"))
    try:
        machine.power_on()
        machine.settle()
        machine.snapshot(READY)
    finally:
        machine.cut_power()
    for path in new.iterdir():
        if path.name != "disk.qcow2":
            path.unlink()


def _make_its_own(machine: Machine) -> None:
    """Else it is a clone: the clock stands where the snapshot was taken, and two machines have one identity."""
    key = ssh.host_key(machine.directory)
    private, public = key.read_text(), key.with_suffix(".pub").read_text()
    machine.shell(_OWN.format(now=time.time(), name=machine.name, id=uuid.uuid4().hex, private=private, public=public))
    ssh.trust(machine.directory, machine.name, key)
    if machine.hardware.wire:
        machine.shell(f"ip link set eth1 address {qemu.address(machine.name)}")
    if machine.shell("hostname").strip() != machine.name:
        raise VmError(f"{machine.name} did not take its name")


_OWN = """\
set -e
date -u -s @{now:.3f} >/dev/null
echo {name} >/etc/hostname
hostname {name}
echo 127.0.1.1 {name} >>/etc/hosts
echo {id} >/etc/machine-id
umask 077
cat >/etc/ssh/ssh_host_ed25519_key <<'END'
{private}
END
echo '{public}' >/etc/ssh/ssh_host_ed25519_key.pub
systemctl restart systemd-journald  # its directory is named after the machine-id
systemctl restart ssh  # a reload returns while nobody listens
"""
