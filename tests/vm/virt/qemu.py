# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's command line, and its start."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from . import programs
from .errors import VmError
from .qmp import Monitor
from .variants import VARIANTS

WIRE = "wire.sock"
_SOCKET_LENGTH = 107  # unix(7)
PROGRAM = "qemu-system-x86_64"
START_TIMEOUT = 120.0
_ACCELERATORS = {
    "kvm": ["-accel", "kvm", "-cpu", "host"],
    # Not "max": with what QEMU 7.2 emulates there, Linux 6.1.0-56 boots into a system where fsync(2) of a file says
    # EINVAL and mounts say EBUSY. The one with random numbers, so that no boot waits for some.
    "tcg": ["-accel", "tcg,thread=multi", "-cpu", "Nehalem,+rdrand,+rdseed"],
}
# One NUMA node, no laptop's hardware, nothing random in where the kernel lies: what a snapshot loads anyway.
_KERNEL = ("console=ttyS0", "root=/dev/vda", "rw", "quiet", "panic=-1", "net.ifnames=0", "mitigations=off", "nokaslr")


@dataclass
class Hardware:
    """All that a snapshot depends on."""

    image: str  # the image's directory
    variant: str
    accelerator: str
    memory: int  # MiB
    cpus: int
    kernel: tuple[str, ...] = ()  # more words for its command line
    wire: bool = False  # a second network card


@dataclass
class Wires:
    """What may differ from one start to the next: ports of 127.0.0.1, by the guest's port, and the machine that a
    second network card leads to."""

    ports: dict[int, int] = field(default_factory=dict)  # 0: any that is free
    offline: bool = False
    peer: str = ""


def version() -> str:
    programs.need(PROGRAM)
    return programs.run(PROGRAM, "--version", timeout=30).splitlines()[0]


def kernel(hardware: Hardware) -> list[str]:
    """Options for the processor, memory and kernel; the probe of the accelerator needs no more."""
    image = Path(hardware.image)
    words = [*_KERNEL, *VARIANTS[hardware.variant].kernel, *hardware.kernel]
    argv = [PROGRAM, "-M", "q35", *_ACCELERATORS[hardware.accelerator]]
    argv += ["-smp", str(hardware.cpus), "-m", str(hardware.memory), "-display", "none", "-nodefaults"]
    argv += ["-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd")]
    return [*argv, "-append", " ".join(words)]


def command(directory: Path, hardware: Hardware, wires: Wires, load: Optional[str] = None) -> list[str]:
    """A whole machine. Without -no-reboot, so that a guest's reboot is one."""
    forwards = "".join(f",hostfwd=tcp:127.0.0.1:{port}-:{guest}" for guest, port in wires.ports.items())
    argv = kernel(hardware)
    argv += ["-name", directory.name, "-daemonize", "-pidfile", str(directory / "qemu.pid")]
    argv += ["-qmp", "unix:qmp.sock,server=on,wait=off", "-serial", "file:serial.log"]
    # QEMU's end loses nothing that the guest has flushed, only this host's would; so no fsync is waited for.
    argv += ["-drive", "if=none,id=disk,file=disk.qcow2,format=qcow2,cache=unsafe,discard=unmap"]
    argv += ["-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"]
    argv += ["-netdev", f"user,id=net{',restrict=on' if wires.offline else ''}{forwards}"]
    argv += ["-device", "virtio-net-pci,netdev=net,romfile="]
    if hardware.wire:
        argv += wire(directory, wires.peer)
    return [*argv, *(["-loadvm", load] if load else [])]


def wire(directory: Path, peer: str) -> list[str]:
    """A network card whose packets the machine ``peer`` gets, and the other way round: a datagram socket at each end.

    While the other one is off its socket is not there, and packets are lost, as on a wire whose other end is unplugged.
    Without a peer the card leads nowhere.
    """
    ours, theirs = directory / WIRE, directory.parent / peer / WIRE
    for path in (ours, theirs):
        if peer and len(str(path)) > _SOCKET_LENGTH:
            raise VmError(f"{path} is too long for a socket's name; use a shorter VESSEL_VM_CACHE")
    ends = f"dgram,id=wire,local.type=unix,local.path={ours},remote.type=unix,remote.path={theirs}"
    card = f"virtio-net-pci,netdev=wire,mac={address(directory.name)},romfile="
    return ["-netdev", ends if peer else "hubport,id=wire,hubid=0", "-device", card]


def address(name: str) -> str:
    """Of the card on a wire. Two on one must not have the same, and QEMU gives all the same."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return ":".join(["52:54:00", *(digest[at : at + 2] for at in (0, 2, 4))])


def start(directory: Path, hardware: Hardware, wires: Wires, load: Optional[str] = None) -> None:
    """Return when it runs (and, with ``load``, has loaded). ``wires`` then has the ports that it listens at."""
    programs.need(PROGRAM)
    argv = command(directory, hardware, wires, load)
    programs.run(*argv, timeout=START_TIMEOUT, cwd=directory)
    with Monitor(directory) as monitor:
        wires.ports = forwarded(monitor.human("info usernet"))


def forwarded(table: str) -> dict[int, int]:
    """Host's port by guest's port, from lines like "TCP[HOST_FORWARD] 12 127.0.0.1 40123 10.0.2.15 22 0 0"."""
    found = re.findall(r"TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+\S+\s+(\d+)", table)
    return {int(guest): int(port) for port, guest in found}


def new_disk(path: Path, base: Path) -> None:
    """A disk that begins as ``base`` is, and takes the place of what is written only."""
    programs.need("qemu-img")
    programs.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base), str(path), timeout=60)
