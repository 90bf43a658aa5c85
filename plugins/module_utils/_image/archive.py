# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images out of archives and layouts into the store, and back: docker-save's form and the OCI image layout."""

from __future__ import annotations

import contextlib
import fcntl
import os
from functools import partial

from .._errors import KernelError, OptionError, StoreError
from .._kernel.file import fsync_directory, remove_tree
from .._kernel.syncfs import syncfs
from . import layer, writers
from .apply import apply
from .directory import Directory
from .layout import Layout
from .manifest import checked_config
from .progress import QUIET, Progress
from .record import canonical
from .store import Image, Store
from .tarball import Archive

OCI_ARCHIVE, DOCKER_ARCHIVE, OCI = FORMS = ("oci-archive", "docker-archive", "oci")


def load(
    store: Store,
    path: str,
    name: str,
    wanted: str = "",
    *,
    limit: int = 0,
    devices: str = layer.REFUSE,
    key: str = "",
    progress: Progress = QUIET,
) -> Image:
    """Store the image of an archive, or of a directory with an OCI image layout, under ``name``.

    ``wanted`` chooses among several by the name that they have there; ``limit`` is the most bytes that a layer may
    unpack to, 0 for any number; ``devices`` what becomes of device nodes: see layer.unpack().
    """
    with store.work() as work, contextlib.closing(opened(path, work.path, progress)) as source:
        found = source.find(wanted, name)
        for blob, diff_id in zip(found.layers, checked_config(found.config, len(found.layers), path)):
            stream, where = partial(source.layer, blob, diff_id), f"{path}: {blob.member}"
            apply(work, diff_id, stream, where, limit=limit, devices=devices, progress=progress)
        return store.put(name, found.config, key, manifest=found.manifest)


def opened(path: str, scratch: str, progress: Progress = QUIET) -> Layout:
    """To be closed. A compressed archive is unpacked to a file without a name in the directory ``scratch``."""
    return Directory(path, progress) if os.path.isdir(path) else Archive(path, scratch, progress)


def save(store: Store, image: Image, path: str, form: str = OCI_ARCHIVE, *, gzip: bool = False) -> None:
    """Write the image; what is at ``path`` is there as it was, or with the image, and never half.

    The same image gives the same bytes. ``form`` is one of FORMS; an OCI layout that is at ``path`` gets the image in
    addition, in the place of one that has its name there. ``gzip`` compresses layers, but for docker's form.

    The image has the same id there, unless one of its layers came with a tar that can't be given back (see
    layer.unpack()). Then the configuration says what that is packed as, and the id is another one.
    """
    if form not in FORMS:
        raise OptionError("form", form, f"is not one of {', '.join(FORMS)}")
    with store.work() as work:
        for diff_id in image.layers:
            if not work.pin(diff_id):
                hint = "make it again with force"
                raise StoreError(f"image {image.name}: its layer {diff_id} is not in the store", hint=hint)
        try:
            if form == OCI:
                _save_directory(store, image, path, gzip)
            else:
                _save_archive(store, image, path, form, gzip)
        except OSError as error:
            raise KernelError("save", path, error.errno or 0) from None


def _save_archive(store: Store, image: Image, path: str, form: str, gzip: bool) -> None:
    new = f"{path}.{os.getpid()}.new"
    try:
        with open(new, "wb") as out:
            tar = writers.Tar(out)
            _write(writers.Docker(tar) if form == DOCKER_ARCHIVE else writers.Oci(tar, gzip=gzip), store, image)
            tar.end()
            out.flush()
            os.fsync(out.fileno())
        os.rename(new, path)
        fsync_directory(os.path.dirname(os.path.abspath(path)))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)


def _save_directory(store: Store, image: Image, path: str, gzip: bool) -> None:
    if os.path.isdir(path) and os.listdir(path):
        _add(store, image, path, gzip)
        return
    new = f"{os.path.abspath(path)}.{os.getpid()}.new"
    try:
        os.mkdir(new)
        _write(writers.Oci(writers.Folder(new), gzip=gzip), store, image)
        syncfs(new)
        os.rename(new, path)
        fsync_directory(os.path.dirname(new))
    finally:
        remove_tree(new)


def _add(store: Store, image: Image, path: str, gzip: bool) -> None:
    """To a layout that is there, of which the index is replaced at the end; what else is in it stays."""
    with contextlib.closing(Directory(path)) as into:
        fcntl.flock(into.root, fcntl.LOCK_EX)
        folder = writers.Folder(path)
        try:
            _write(writers.Oci(folder, gzip=gzip, into=into), store, image)
        except BaseException:
            for added in folder.added:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(added)
            raise
        syncfs(path)


def _write(form: writers.Oci | writers.Docker, store: Store, image: Image) -> None:
    packed = [store.packed(diff_id) for diff_id in image.layers]
    config = store.configuration(image)
    if packed != list(image.layers):
        value = store.raw(image)
        config = canonical({**value, "rootfs": {**value["rootfs"], "diff_ids": packed}})
    form.image(store, list(image.layers), config, image.name)
