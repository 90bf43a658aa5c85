# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mount driver: a file system that is somewhere already, of a server or a block device, or a directory of the host.

It is mounted and unmounted; what is in it is never made nor removed. Types that have a helper, /sbin/mount.TYPE as
mount(8) calls it, are mounted by that; the others by the kernel alone.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import Optional

from .._errors import DependencyError, StateError, VesselError
from .._kernel import mount as m
from .._kernel.errand import bounded
from . import filesystem
from .filesystem import source
from .model import Difference, Volume

BIND = "none"  # as mount(8) and docker call the type of a directory that is bound
# Types that the kernel does not mount without help: the package of Debian's that has it.
HELPERS = {
    "nfs": "nfs-common",
    "nfs4": "nfs-common",
    "cifs": "cifs-utils",
    "smb3": "cifs-utils",
    "glusterfs": "glusterfs-client",
    "ceph": "ceph-common",
    "fuse": "fuse3",
    "fuse.sshfs": "sshfs",
    "ntfs-3g": "ntfs-3g",
}
# Those that one host may mount at a time: each keeps its own idea of what is on the device.
LOCAL = ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs", "reiserfs", "vfat", "exfat", "ntfs3", "ntfs-3g")
_BY = {"UUID": "by-uuid", "LABEL": "by-label", "PARTUUID": "by-partuuid", "PARTLABEL": "by-partlabel"}
__all__ = ["source"]


def mounted_type(volume: Volume) -> Optional[str]:
    """Any: nfs is nfs4 where it is mounted, and a directory has the type of what it lies on."""
    return ""


def is_bind(volume: Volume) -> bool:
    return volume.fstype == BIND


def differences(volume: Volume) -> list[Difference]:
    found = m.mount_at(source(volume))
    if found is None:
        return [Difference("mount", "absent", volume.device)]
    if not _is_declared(volume, found):
        return [Difference("mount", f"{found.fstype} of {found.source}", volume.device)]
    return filesystem.differences(volume, found)


def _is_declared(volume: Volume, found: m.Mounted) -> bool:
    """Is it the declared device? What a server's mount is called is its helper's affair."""
    if is_bind(volume):
        ask = f"compare {volume.device} with"
        return bool(bounded(lambda: _same(volume.device, source(volume)), filesystem.LOOK, ask, source(volume)))
    device = locate(volume.device)
    if not device.startswith("/dev/"):
        return True
    return _same_device(device, found.source)


def _same(one: str, other: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(one), os.stat(other))
    return False


def _same_device(one: str, other: str) -> bool:
    with contextlib.suppress(OSError):
        return os.stat(one).st_rdev == os.stat(other).st_rdev
    return False


def locate(device: str) -> str:
    """The path of a block device that is named by its UUID or LABEL, as mount(8) has it; what is none stays."""
    tag, dummy, value = device.partition("=")
    if tag not in _BY:
        return device
    path = f"/dev/disk/{_BY[tag]}/{value}"
    if os.path.exists(path):
        return os.path.realpath(path)
    blkid = filesystem.find_program("blkid")  # where no udev keeps those links
    code, said = filesystem.call([blkid, "-t", f"{tag}={value}", "-o", "device"]) if blkid else (2, "")
    if code or not said:
        raise StateError(f"no block device of this host has {device}", hint="blkid lists what there is")
    return said.split(" | ")[0]


def helper(fstype: str) -> list[str]:
    """The program that mounts such a file system, and what it must be told of the type; empty for the kernel itself."""
    main = fstype.partition(".")[0]
    for name, words in ((f"mount.{fstype}", []), (f"mount.{main}", ["-t", fstype] if main != fstype else [])):
        found = filesystem.find_program(name)
        if found:
            return [found, *words]
    package = HELPERS.get(fstype) or HELPERS.get(main)
    if package:
        text = f"a file system of the type {fstype} is mounted by mount.{main}, which is not installed"
        raise DependencyError(text, hint=f"Debian's package {package} has it")
    return []


def ensure(volume: Volume) -> None:
    """Mount it, or give the mount that is there the declared words, owner and mode."""
    path = source(volume)
    found = m.mount_at(path)
    if found is None:
        _mount(volume)
    elif not _is_declared(volume, found):
        text = f"volume {volume.name}: {path} has {found.fstype} of {found.source} mounted on it"
        raise StateError(text, hint="unmount it, and try again")
    elif any(item.what == "options" for item in filesystem.differences(volume, found)):
        remount(volume)
    filesystem.settle(volume)


def _mount(volume: Volume) -> None:
    path = source(volume)
    made = not os.path.isdir(path)
    os.makedirs(path, exist_ok=True)
    try:
        if is_bind(volume):
            _bind(volume)
            return
        program = helper(volume.fstype)
        if program:
            _by_helper(volume, program, filesystem.words(volume))
        else:
            options = filesystem.flags(volume)
            m.mount(locate(volume.device), path, volume.fstype, options.flags, options.data or None)
    except (VesselError, OSError):
        if made:
            with contextlib.suppress(OSError):
                os.rmdir(path)
        raise


def _bind(volume: Volume) -> None:
    options, path = filesystem.flags(volume), source(volume)
    m.mount(volume.device, path, None, options.flags & (m.MS_BIND | m.MS_REC))
    try:
        remount(volume)  # a bind takes its flags in a second step only
    except (VesselError, OSError):
        m.umount2(path, m.UMOUNT_NOFOLLOW)
        raise


def _by_helper(volume: Volume, program: list[str], words: list[str]) -> None:
    path, (name, *rest) = source(volume), program
    what = f"mount {volume.fstype} {volume.device} on {path}"
    try:
        code, said = filesystem.call(
            [name, locate(volume.device), path, *rest, "-o", ",".join(words)], seconds=filesystem.MOUNT
        )
    except subprocess.TimeoutExpired:
        raise VesselError(f"{what}: no answer within {filesystem.MOUNT:g} s", hint="is its server up?") from None
    if code:
        raise VesselError(f"{what}: {os.path.basename(name)} ended with {code}: {said or 'it said nothing'}")


def remount(volume: Volume) -> None:
    """Give the mount that is there the declared words."""
    if is_bind(volume):
        options = filesystem.flags(volume)
        m.mount("none", source(volume), None, (filesystem.anew(options) | m.MS_BIND) & ~m.MS_REC)
        return
    program = helper(volume.fstype)
    if not program:
        filesystem.remount(volume)
        return
    try:
        _by_helper(volume, program, ["remount", *filesystem.words(volume)])
    except VesselError as error:
        raise filesystem.not_live(volume, error) from None


def usage(volume: Volume) -> int:
    """Bytes on the file system, which others may share."""
    return filesystem.statistics(volume)[1]


def remove(volume: Volume) -> None:
    """It is unmounted; what is on it stays."""
    filesystem.remove(volume)
