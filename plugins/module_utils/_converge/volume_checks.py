# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a volume's options goes together: each driver takes some of them, and some of these it needs."""

from __future__ import annotations

import os
from typing import Any, Optional

from .._errors import OptionError, StateError
from .._options.volume import ALL, DEFAULT_LEASE, ONE_WRITER
from .._volume import loop, mount

Spec = dict[str, Any]
# Option: the drivers that keep it.
_KEPT_BY = {
    "size": ("tmpfs", "loop"),
    "device": ("mount",),
    "fstype": ("mount", "loop"),
    "options": ("mount", "loop"),
    "preallocate": ("loop",),
}
_NEEDED = {"loop": ("size",), "mount": ("device", "fstype")}
_LOOP_MIN = 1 << 20
# File systems that the kernel makes, not a device or a server.
_NO_DEVICE = ("proc", "sysfs", "cgroup", "cgroup2", "devpts", "devtmpfs", "mqueue", "overlay", "ramfs", "securityfs",
              "debugfs", "tracefs", "bpf", "pstore", "hugetlbfs", "autofs")  # fmt: skip


def check(spec: Spec, stored: Optional[Spec]) -> None:
    """Fills in the type of a loop's file system; OptionError for what can't be."""
    driver = spec["driver"]
    if driver == "loop" and not spec["fstype"]:
        spec["fstype"] = (stored or {}).get("fstype") or "ext4"
    _fixed(spec, stored, ("driver",))
    for option, drivers in _KEPT_BY.items():
        if spec[option] and driver not in drivers:
            others = " or ".join(drivers)
            raise OptionError(option, spec[option], f"can't be kept by the driver {driver}; use driver: {others}")
    for option in _NEEDED.get(driver, ()):
        if not spec[option]:
            raise OptionError(option, None, f"is missing; the driver {driver} needs it")
    _fixed(spec, stored, ("device", "fstype"))
    if driver == "loop":
        _loop(spec, stored)
    elif driver == "mount":
        _mount(spec, stored)
    if spec["sharing"] == ONE_WRITER:
        _one_writer(spec)
    elif spec["lease_duration"] != DEFAULT_LEASE:
        problem = f"is for leases, and sharing is {spec['sharing']}; use sharing: {ONE_WRITER}"
        raise OptionError("lease_duration", spec["lease_duration"], problem)


def _fixed(spec: Spec, stored: Optional[Spec], options: tuple[str, ...]) -> None:
    for option in options:
        before = (stored or {}).get(option)
        if before and spec[option] != before:
            stays = "what is on the device stays" if spec["driver"] == "mount" else "its data goes with it"
            problem = f"is not what the volume has, {before}"
            raise OptionError(option, spec[option], problem, hint=f"remove the volume first; {stays}")


def _loop(spec: Spec, stored: Optional[Spec]) -> None:
    if spec["fstype"] not in loop.FSTYPES:
        raise OptionError("fstype", spec["fstype"], f"is none that a loop can have; use {', '.join(loop.FSTYPES)}")
    if spec["size"] < _LOOP_MIN:
        raise OptionError("size", spec["size"], f"is too small for a file system; use {_LOOP_MIN} bytes or more")
    before = (stored or {}).get("size") or 0
    if spec["size"] < before:
        hint = "a loop only grows; make another volume and copy what is in this one"
        raise OptionError("size", spec["size"], f"is less than what it has, {before} bytes", hint=hint)
    _no_bind(spec)


def _mount(spec: Spec, stored: Optional[Spec]) -> None:
    fstype, device = spec["fstype"], spec["device"]
    if fstype == "tmpfs":
        raise OptionError("fstype", fstype, "is a driver of its own; use driver: tmpfs")
    if fstype in _NO_DEVICE:
        raise OptionError("fstype", fstype, "is no file system of a device or a server")
    if fstype == mount.BIND:
        _bind(spec)
        if stored is None and not os.path.isdir(device):
            raise OptionError("device", device, "is no directory of this host; make it first")
        return
    _no_bind(spec)
    if fstype in ("nfs", "nfs4") and (":" not in device or device.startswith(":")):
        raise OptionError("device", device, "is no export of a server; write it as SERVER:/PATH")
    if fstype in ("cifs", "smb3") and not device.startswith("//"):
        raise OptionError("device", device, "is no share of a server; write it as //SERVER/SHARE")
    if stored is None and not mount.helper(fstype):
        _block(device)


def _bind(spec: Spec) -> None:
    if not {"bind", "rbind"} & set(spec["options"]):
        problem = "is the type of a directory that is bound; give options: [bind], or the type of the file system"
        raise OptionError("fstype", spec["fstype"], problem)
    if not spec["device"].startswith("/"):
        raise OptionError("device", spec["device"], "is no absolute path of this host")


def _no_bind(spec: Spec) -> None:
    for word in ("bind", "rbind"):
        if word in spec["options"]:
            raise OptionError("options", word, f"binds a directory, and the type is {spec['fstype']}; use fstype: none")


def _block(device: str) -> None:
    """What the kernel alone mounts is a block device, but for 9p and virtiofs, whose device is a tag."""
    try:
        path = mount.locate(device)
    except StateError as error:
        raise OptionError("device", device, "is no block device of this host", hint=error.hint) from None
    if path.startswith("/") and not os.path.exists(path):
        raise OptionError("device", device, "is not on this host")


def _one_writer(spec: Spec) -> None:
    """A lease is a file that all hosts see; a file system that one host alone may mount can't tell another of it."""
    driver, fstype = spec["driver"], spec["fstype"]
    alone = driver in ("tmpfs", "loop") or (driver == "mount" and fstype in mount.LOCAL)
    if not alone:
        return
    what = (
        f"of the type {fstype}, which one host at a time may mount" if driver == "mount" else f"of the driver {driver}"
    )
    hint = "ext4 has its own guard against that, mmp (mke2fs -O mmp)" if fstype == "ext4" and driver == "mount" else ""
    problem = f"is for storage that several hosts have mounted, and this volume is {what}; use {ALL}"
    raise OptionError("sharing", ONE_WRITER, problem, hint=hint)
