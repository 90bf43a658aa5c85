# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are found old or new, never half written, and locks that the kernel takes back: rename(2), flock(2)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator

from .._errors import KernelError

TURNS = 100  # how often a directory may be taken away as an empty one while we put something in it


def write_atomic(path: str, data: bytes, *, mode: int = 0o644, durable: bool = True) -> None:
    """Replace the file as a whole; ``durable`` also across a power cut."""
    new = f"{path}.{os.getpid()}.new"
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(new, path)
        if durable:
            fsync_directory(os.path.dirname(path))
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise KernelError("write", path, error.errno or 0) from None


def holds(path: str, data: bytes) -> bool:
    """Is that what is in the file?"""
    try:
        with open(path, "rb") as file:
            return file.read(len(data) + 1) == data
    except (FileNotFoundError, NotADirectoryError):
        return False


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def fsync_directory(path: str) -> None:
    """A rename is on the disk when its directory is."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directories(path: str, mode: int) -> None:
    """As os.makedirs() with exist_ok, where other processes take empty directories away, of the path and above it."""
    for turn in range(TURNS):
        try:
            return os.makedirs(path, mode, exist_ok=True)
        except (FileExistsError, FileNotFoundError):
            # What mkdir() found was gone before it was looked at; or it is no directory, or a symlink to nowhere.
            if turn == TURNS - 1:
                raise


def make_like(path: str, model: str) -> None:
    """Give a directory the owner, mode, ACLs and time of another: the topmost layer's top is the union's."""
    info = os.stat(model)
    os.chown(path, info.st_uid, info.st_gid)
    os.chmod(path, stat.S_IMODE(info.st_mode))
    for name in os.listxattr(model):
        if name.startswith(("system.posix_acl_", "user.")):
            os.setxattr(path, name, os.getxattr(model, name))
    os.utime(path, ns=(info.st_mtime_ns, info.st_mtime_ns))


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the exclusive lock of a file, made where it is missing. It ends with the process, however that ends."""
    fd = take_lock(path)
    try:
        yield
    finally:
        os.close(fd)


def take_lock(path: str) -> int:
    """The file whose exclusive lock is ours for as long as the descriptor is open."""
    while True:
        make_directories(os.path.dirname(path), 0o700)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            continue  # another one has left, and took the empty directory along
        fcntl.flock(fd, fcntl.LOCK_EX)
        if has_name(fd, path):
            return fd
        os.close(fd)


def has_name(fd: int, path: str) -> bool:
    """Is the file that was locked the one that has the name now? A cleaner may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def remove_tree(path: str) -> None:
    """Remove a directory with all in it; refuses to cross into a mount, which may be somebody's data."""
    try:
        device = os.lstat(path).st_dev
    except FileNotFoundError:
        return
    if os.path.ismount(path):
        raise KernelError("remove", path, errno.EBUSY, hint="a file system is mounted there")
    parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _remove(parent, os.path.basename(path), device, path)
    except OSError as error:
        raise KernelError("remove", path, error.errno or 0) from None
    finally:
        os.close(parent)


def _remove(parent: int, name: str, device: int, shown: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
        return
    except IsADirectoryError:
        pass
    except FileNotFoundError:
        return
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if os.fstat(fd).st_dev != device:
            raise KernelError("remove", shown, errno.EBUSY, hint=f"a file system is mounted on {name} in it")
        for child in os.listdir(fd):
            _remove(fd, child, device, f"{shown}/{child}")
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)
