# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in a directory: an OCI image layout, as skopeo, umoci and builders write it."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from typing import IO

from .._errors import KernelError, StoreError
from .._kernel.openat2 import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, openat2
from .layout import Blob, Found, Layout
from .manifest import host_platform, json_of
from .progress import QUIET, Progress

_BELOW = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
_OPEN = os.O_RDONLY | os.O_NONBLOCK  # whoever opens a FIFO otherwise waits for a writer


class Directory(Layout):
    """The directory; symlinks in it lead nowhere outside."""

    def __init__(self, path: str, progress: Progress = QUIET) -> None:
        super().__init__(path, progress)
        try:
            self.root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError("open", path, error.errno or 0) from None
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        if "oci-layout" not in self or "index.json" not in self:
            hint = "it lacks oci-layout or index.json; a root file system is source: rootfs"
            raise StoreError(f"{self.path} is no OCI image layout", hint=hint)
        value = json_of(self.read(Blob("oci-layout")), f"{self.path}: oci-layout")
        version = value.get("imageLayoutVersion") if isinstance(value, dict) else None
        if not str(version).startswith("1."):
            raise StoreError(f"{self.path} is an OCI image layout of the unknown version {version}")

    def close(self) -> None:
        os.close(self.root)

    def __contains__(self, name: str) -> bool:
        return os.access(name, os.F_OK, dir_fd=self.root)

    def open(self, name: str) -> IO[bytes]:
        try:
            fd = openat2(self.root, name, _OPEN, resolve=_BELOW)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                raise StoreError(f"{self.path} lacks {name}, which its index leads to") from None
            if error.errno in (errno.EXDEV, errno.ELOOP):
                raise StoreError(f"{self.path}: {name} is a symlink that leads out of the layout, or nowhere") from None
            raise KernelError("open", f"{self.path}/{name}", error.errno) from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise StoreError(f"{self.path}: {name} is no file")
        return os.fdopen(fd, "rb")

    def find(self, wanted: str, name: str) -> Found:
        return self._oci(wanted, name)


def key(path: str, wanted: str, name: str) -> str:
    """The digest of what load() would load: that of the image's manifest or index says all that is in it.

    Other images that come into the layout or go do not change it.
    """
    directory = Directory(path)
    try:
        entry = directory.named(wanted, name)
    finally:
        directory.close()
    return hashlib.sha256(f"layout {entry.get('digest')} {host_platform()}".encode()).hexdigest()
