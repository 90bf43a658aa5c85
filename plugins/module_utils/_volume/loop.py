# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop driver: a file system of a fixed size in a file, so that what fills it fills no other."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from typing import Optional

from .._errors import KernelError, StateError, VesselError
from .._kernel import ext4, fallocate, xfs
from .._kernel import loop as devices
from .._kernel import mount as m
from .._kernel.file import fsync_directory
from . import filesystem
from .filesystem import remount, source
from .model import Difference, Volume

__all__ = ["remount", "source"]
# Type: (what makes one, its package, its words, how long its label may be).
_MAKERS = {
    # Nothing is kept back for root, nor written to what is not used yet.
    "ext4": ("mkfs.ext4", "e2fsprogs", ("-q", "-F", "-m", "0", "-E"), 16),
    "xfs": ("mkfs.xfs", "xfsprogs", ("-q", "-f", "-K"), 12),
    "btrfs": ("mkfs.btrfs", "btrfs-progs", ("-q", "-f", "-K"), 255),
}
FSTYPES = tuple(_MAKERS)
# From e2fsck(8): what it has not mended by itself.
_FSCK_ERRORS = ~0b11
_DETACHING = 1.0
# Seconds for a program that a killed task has left.
_PATIENCE = 60.0


def image(volume: Volume) -> str:
    return f"{volume.home}/image"


def mounted_type(volume: Volume) -> Optional[str]:
    return volume.fstype


def differences(volume: Volume) -> list[Difference]:
    found = m.mount_at(source(volume))
    if found is None or not os.path.exists(image(volume)):
        return [Difference("loop", "absent", image(volume))]
    if not _is_ours(volume, found):
        return [Difference("loop", f"{found.fstype} of {found.source}", image(volume))]
    info, length = os.stat(image(volume)), _length(volume, found.source)
    result = [] if length >= volume.size else [Difference("size", length, volume.size)]
    if volume.preallocate and info.st_blocks * 512 < info.st_size:
        result.append(Difference("preallocate", False, True))
    return [*result, *filesystem.differences(volume, found)]


def _is_ours(volume: Volume, found: m.Mounted) -> bool:
    return found.fstype == volume.fstype and found.source == devices.device_of(image(volume))


def _size(volume: Volume) -> int:
    """Of the file: whole pages, for what makes and grows a file system leaves the rest of one."""
    page = os.sysconf("SC_PAGE_SIZE")
    return -(-volume.size // page) * page


def _length(volume: Volume, device: str) -> int:
    """Bytes of the file, or of the file system where a growth was interrupted between the two."""
    length, path = os.stat(image(volume)).st_size, source(volume)
    if volume.fstype == "ext4":
        return ext4.reach(device, length)
    if volume.fstype == "xfs":
        return xfs.reach(path, length)
    info = os.statvfs(path)  # btrfs tells all that it has, and leaves less than a block
    size = info.f_blocks * info.f_frsize
    return length if length - size < info.f_bsize else size


def ensure(volume: Volume) -> None:
    """Make it, mount it, grow it, or give it the declared words, owner and mode. What is in it stays."""
    path = source(volume)
    os.makedirs(path, exist_ok=True)
    made = not os.path.exists(image(volume))
    found = m.mount_at(path)
    if found is not None and made and found.source == devices.device_of(f"{image(volume)} (deleted)"):
        text = f"volume {volume.name}: {image(volume)} was removed; what was in it is at {path} until that is unmounted"
        raise StateError(text, hint="copy it away, then unmount it, and try again: a new volume is empty")
    if found is not None and (made or not _is_ours(volume, found)):
        text = f"volume {volume.name}: {path} has {found.fstype} of {found.source} mounted on it"
        raise StateError(text, hint="unmount it, and try again")
    if made:
        _make(volume)
    if found is None:
        _mount(volume)
    for item in differences(volume):
        if item.what == "size":
            _grow(volume)
        elif item.what == "preallocate":
            _allocate(image(volume), _size(volume))
        elif item.what == "options":
            remount(volume)
    filesystem.settle(volume)


def _make(volume: Volume) -> None:
    """Beside, and renamed in: a file of that name has a whole file system in it."""
    maker, package, words, longest = _MAKERS[volume.fstype]
    program = filesystem.program(maker, package, f"a volume with {volume.fstype}")
    new = f"{image(volume)}.new"
    if volume.fstype == "ext4":
        # What is put off, the kernel does later by holes in the file.
        words = (*words, "nodiscard" + ",lazy_itable_init=0" * volume.preallocate)
    try:
        with _alone(volume) as lock:
            fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(fd, _size(volume))
                code, said = filesystem.call([program, *words, "-L", volume.name[:longest], new], keep=lock)
                if code:
                    raise VesselError(f"volume {volume.name}: {maker} ended with {code}: {said}")
                os.fsync(fd)
            finally:
                os.close(fd)
        if volume.preallocate:
            _allocate(new, _size(volume))
        os.rename(new, image(volume))
        fsync_directory(volume.home)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(new)
        if isinstance(error, OSError):
            raise KernelError("make", image(volume), error.errno or 0) from None
        raise


@contextlib.contextmanager
def _alone(volume: Volume) -> Iterator[int]:
    """A lock for a program that writes to the file, which is to keep it: the program goes on when the task that runs it
    is killed, and two at one file are its ruin."""
    fd = os.open(volume.home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + _PATIENCE
        while not _locked(fd):
            if time.monotonic() >= until:
                text = f"volume {volume.name}: a program that a killed task has left is still at {image(volume)}"
                raise StateError(
                    text, hint="it has the directory open, as fuser tells; run the task again when it has ended"
                )
            time.sleep(0.05)
        yield fd
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _allocate(path: str, length: int) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fallocate.allocate(fd, length)
    except KernelError as error:
        raise KernelError(f"allocate {length} bytes for", path, error.errno) from None
    finally:
        os.close(fd)


def _mount(volume: Volume) -> None:
    options = filesystem.flags(volume)
    device, fd = devices.device_of(image(volume)), -1
    if not device:  # else a container has it still: two devices of one file would be its ruin
        _check(volume)
        device, fd = devices.attach(image(volume))
    try:
        m.mount(device, source(volume), volume.fstype, options.flags, options.data or None)
    finally:
        if fd >= 0:
            os.close(fd)  # from now on the mount keeps it, or nothing does
    with contextlib.suppress(OSError):
        os.rmdir(f"{source(volume)}/lost+found")  # databases want an empty volume; e2fsck makes it when it needs it


def _check(volume: Volume) -> None:
    """What a crash left is mended as far as that needs no decision; the others do so when they are mounted."""
    if volume.fstype != "ext4":
        return
    _run_fsck(volume, "-p")


def _run_fsck(volume: Volume, *words: str) -> None:
    program = filesystem.program("e2fsck", "e2fsprogs", "a volume with ext4")
    with _alone(volume) as lock:
        code, said = filesystem.call([program, *words, image(volume)], keep=lock)
    if code & _FSCK_ERRORS:
        hint = f"repair it by hand: e2fsck {image(volume)}"
        raise StateError(
            f"volume {volume.name}: its file system is damaged: e2fsck ended with {code}: {said}", hint=hint
        )


def _grow(volume: Volume) -> None:
    """While it is in use: the file, the device, the file system."""
    device, before = devices.device_of(image(volume)), os.stat(image(volume)).st_size
    try:
        if before < _size(volume):
            os.truncate(image(volume), _size(volume))
        if volume.preallocate:
            _allocate(image(volume), _size(volume))
        devices.set_capacity(device)
        _grow_filesystem(volume, device)
    except (VesselError, OSError):
        _cut(volume, before)
        raise


def _cut(volume: Volume, length: int) -> None:
    """What the file system did not take is given back."""
    if volume.fstype == "ext4":
        blocks, block = ext4.size(image(volume))
        length = max(length, blocks * block)
    os.truncate(image(volume), min(length, os.stat(image(volume)).st_size))
    device = devices.device_of(image(volume))
    if device:
        devices.set_capacity(device)


def _grow_filesystem(volume: Volume, device: str) -> None:
    path = source(volume)
    if volume.fstype == "ext4":
        _grow_ext4(volume, device)
        return
    name, package, words = {
        "xfs": ("xfs_growfs", "xfsprogs", [path]),
        "btrfs": ("btrfs", "btrfs-progs", ["filesystem", "resize", "max", path]),
    }[volume.fstype]
    code, said = filesystem.call([filesystem.program(name, package, f"growing {volume.fstype}"), *words])
    if code:
        raise VesselError(f"volume {volume.name}: {name} ended with {code}: {said}")


def _grow_ext4(volume: Volume, device: str) -> None:
    """By the kernel, which asks for CAP_SYS_RESOURCE; without, where nobody uses it, by resize2fs."""
    try:
        ext4.grow(source(volume), device, _size(volume))
    except KernelError as error:
        if error.errno != errno.EPERM:
            raise
        _grow_unmounted(volume)


def _grow_unmounted(volume: Volume) -> None:
    filesystem.unmount(volume)
    try:
        if _is_detached(volume):
            resize2fs = filesystem.program("resize2fs", "e2fsprogs", "growing ext4")
            _run_fsck(volume, "-f", "-p")
            with _alone(volume) as lock:
                code, said = filesystem.call([resize2fs, image(volume)], keep=lock)
            if code:
                raise VesselError(f"volume {volume.name}: resize2fs ended with {code}: {said}")
            return
    finally:
        _mount(volume)
    hint = "stop its containers; to grow under them takes CAP_SYS_RESOURCE, which root lacks here"
    raise StateError(f"volume {volume.name}: it can't grow while it is used", hint=hint)


def _is_detached(volume: Volume) -> bool:
    """Has nobody the device any more? The kernel lets go of it a moment after the last mount."""
    until = time.monotonic() + _DETACHING
    while devices.device_of(image(volume)):
        if time.monotonic() >= until:
            return False
        time.sleep(0.01)
    return True


def on_disk(volume: Volume) -> int:
    """Bytes that the file takes; a sparse one takes less than its size."""
    with contextlib.suppress(FileNotFoundError):
        return os.stat(image(volume)).st_blocks * 512
    return 0


def lacking(volume: Volume) -> int:
    """Bytes of the disk that ``preallocate`` would need and that are not free. To try would leave nobody any."""
    if not volume.preallocate:
        return 0
    place = volume.home
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    disk = os.statvfs(place)
    return max(0, _size(volume) - on_disk(volume) - disk.f_bfree * disk.f_frsize)


def usage(volume: Volume) -> int:
    """Bytes of the file system that are taken, its own tables with them."""
    return filesystem.statistics(volume)[1]


def remove(volume: Volume) -> None:
    """The data goes with it."""
    filesystem.remove(volume)
    for path in (image(volume), f"{image(volume)}.new"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
