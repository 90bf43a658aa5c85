# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image of one layer, from a root file system that lies on the target as a tar or as a directory."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat

from .._errors import KernelError
from .._kernel.file import remove_tree
from . import layer
from .archive import decompressed
from .store import Store


def key(path: str) -> str:
    """What the image is made from, without reading it all: a second run must see cheaply that nothing changed."""
    try:
        info = os.stat(path)
    except OSError as error:
        raise KernelError("read", path, error.errno or 0) from None
    digest = hashlib.sha256(f"rootfs {os.path.realpath(path)}".encode())
    if stat.S_ISDIR(info.st_mode):
        for directory, names, files in os.walk(path):
            names.sort()
            for name in sorted([*names, *files]):
                _add(digest, os.path.join(directory, name))
    else:
        _add(digest, path)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, path: str) -> None:
    info = os.lstat(path)
    what = (path, info.st_mode, info.st_uid, info.st_gid, info.st_size, info.st_mtime_ns, info.st_ino)
    digest.update(repr(what).encode("utf-8", "surrogateescape"))


def load(store: Store, path: str, *, limit: int = 0) -> str:
    """Store the layer; its diff_id."""
    directory = store.temporary()
    try:
        if os.path.isdir(path):
            shutil.copytree(path, directory, symlinks=True, copy_function=_copy, dirs_exist_ok=True)
            _owners(path, directory)
            empty_dev(directory)
            diff_id, size = layer.measure(directory)
        else:
            with open(path, "rb") as file, decompressed(file, path) as stream:
                diff_id, size = layer.unpack(stream, directory, limit=limit)
        store.adopt_layer(directory, diff_id, size)
        return diff_id
    except BaseException:
        remove_tree(directory)
        raise


def _copy(source: str, target: str) -> None:
    shutil.copy2(source, target, follow_symlinks=False)


def _owners(source: str, target: str) -> None:
    for directory, names, files in os.walk(source):
        for name in [*names, *files]:
            path = os.path.join(directory, name)
            info, copied = os.lstat(path), target + path[len(source) :]
            if not os.path.lexists(copied):
                continue
            os.chown(copied, info.st_uid, info.st_gid, follow_symlinks=False)
            if not stat.S_ISLNK(info.st_mode):
                os.chmod(copied, stat.S_IMODE(info.st_mode))


def empty_dev(directory: str) -> None:
    """Devices come with the container, never with its image."""
    dev = f"{directory}/dev"
    if os.path.isdir(dev) and not os.path.islink(dev):
        for name in os.listdir(dev):
            remove_tree(f"{dev}/{name}")
