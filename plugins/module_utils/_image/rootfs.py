# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image of one layer, from a root file system that lies on the target as a tar or as a directory."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from io import RawIOBase
from typing import NoReturn, Optional

from .._errors import KernelError, StoreError, about
from .._kernel.file import remove_tree, write_atomic
from . import layer, pack
from .compress import decompressed
from .housekeeping import FILE
from .progress import QUIET, Progress, Told
from .record import listdir
from .record import load as load_json
from .store import Store
from .tarstream import CHUNK

# Devices come with the container, never with its image.
_EMPTY = ("dev",)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def key(path: str, store: Optional[Store] = None) -> str:
    """The digest of what the image is made from: of a tar its bytes, of a directory what stat(2) says of all in it.

    ``store`` remembers a tar's digest by its times and size (see remember()), so that it is read once only.
    """
    try:
        info = os.stat(path)
        if stat.S_ISDIR(info.st_mode):
            return directory_key(path)
        known = load_json(_known(store, path)) if store else None
        if known and known["stat"] == _identity(info):
            return str(known["key"])
        return _file_key(path)
    except OSError as error:
        raise KernelError("read", path, error.errno or 0) from None


def remember(store: Store, path: str) -> str:
    """The key, which key() then finds without reading the file."""
    info = os.stat(path)
    found = key(path, store)
    if stat.S_ISREG(info.st_mode):
        with store.locked():
            write_atomic(_known(store, path), json.dumps({"stat": _identity(info), "key": found}).encode())
    return found


def _known(store: Store, path: str) -> str:
    return f"{store.keys_dir}/{hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()}{FILE}"


def _identity(info: os.stat_result) -> list[int]:
    """The time of change can't be set by anybody, so that this says: the same bytes."""
    return [info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns]


def _file_key(path: str) -> str:
    digest = hashlib.sha256(b"tar\0")
    with open(path, "rb", buffering=0) as file:
        for block in iter(lambda: file.read(CHUNK), b""):
            digest.update(block)
    return digest.hexdigest()


def directory_key(path: str) -> str:
    """The digest of what stat(2) says of all in the directory, which may change meanwhile."""
    digest = hashlib.sha256(b"directory\0")
    top = os.open(path, _DIRECTORY & ~os.O_NOFOLLOW)
    try:
        for name, info in _walk(top, b"", os.fstat(top).st_dev):
            what = (name, info.st_mode, info.st_uid, info.st_gid, info.st_rdev)
            # What a directory takes depends on its history; what is in it comes next.
            rest = () if stat.S_ISDIR(info.st_mode) else (info.st_size, info.st_mtime_ns)
            digest.update(repr((*what, *rest)).encode())
    finally:
        os.close(top)
    return digest.hexdigest()


def _walk(fd: int, path: bytes, device: int) -> Iterator[tuple[bytes, os.stat_result]]:
    """What pack() packs."""
    info = os.fstat(fd)
    yield path, info
    if os.fsdecode(path) in _EMPTY or info.st_dev != device:
        return
    for name in sorted(map(os.fsencode, os.listdir(fd))):
        below = os.path.join(path, name)
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            child = os.open(name, _DIRECTORY, dir_fd=fd) if stat.S_ISDIR(found.st_mode) else -1
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                continue  # it has gone, or become something else
            raise
        if child >= 0:
            try:
                yield from _walk(child, below, device)
            finally:
                os.close(child)
        elif not stat.S_ISSOCK(found.st_mode):
            yield below, found


def load(store: Store, path: str, *, limit: int = 0, progress: Progress = QUIET) -> str:
    """Store the layer; its diff_id. ``limit`` is the most bytes that it may have, 0 for any number."""
    with store.work() as work, about(path):
        directory = work.directory()
        if os.path.isdir(path):
            diff_id, size = copy(path, directory, limit=limit)
        else:
            with open(path, "rb", buffering=0) as file, decompressed(Told.file(file, progress), path) as stream:
                layer.unpack(stream, directory, limit=limit, devices=layer.SKIP)
            # The layer is what is in it now, without devices: not the tar.
            empty_dev(directory)
            diff_id, size = pack.measure(directory)
        work.adopt(directory, diff_id, size)
    return diff_id


def copy(source: str, directory: str, *, limit: int = 0, busy: bool = False) -> tuple[str, int]:
    """Copy as layers are: a child packs and we unpack, so that links, holes, owners, xattrs and whiteouts come along.

    (diff_id, bytes of its files on the disk) of the copy, which has no devices. ``busy`` is as pack() has it.
    """
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    words, told = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.close(ours)
        _pack_and_exit(source, theirs, told, busy)
    os.close(theirs)
    os.close(told)
    with os.fdopen(ours, "rb", buffering=0) as stream, os.fdopen(words, "rb") as last_words:
        try:
            return layer.unpack(stream, directory, limit=limit)
        except StoreError:
            stream.close()
            reason = last_words.read().decode("utf-8", "replace")
            if reason:
                raise StoreError(f"{source} can't be read: {reason}") from None
            raise
        finally:
            stream.close()  # a child that still writes ends by it
            os.waitpid(child, 0)


def _pack_and_exit(source: str, fd: int, told: int, busy: bool) -> NoReturn:
    try:
        with os.fdopen(fd, "wb", buffering=0) as out:
            pack.pack(source, _All(out), empty=_EMPTY, devices=False, busy=busy)
        os._exit(0)
    except BrokenPipeError:
        os._exit(1)
    except BaseException as error:
        os.write(told, str(error).encode("utf-8", "surrogateescape")[:4096])
        os._exit(1)


class _All:
    """A pipe takes what it has room for."""

    def __init__(self, out: RawIOBase) -> None:
        self._out = out

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._out.write(view) :]


def empty_dev(directory: str) -> None:
    """Devices come with the container, never with its image."""
    for name in _EMPTY:
        path = f"{directory}/{name}"
        if os.path.isdir(path) and not os.path.islink(path):
            before = os.stat(path)
            for child in listdir(path):
                remove_tree(f"{path}/{child}")
            # The same tar is the same layer, whenever it came.
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
