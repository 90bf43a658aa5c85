# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images out of archives and layouts into the store, and back: docker-save's form and the OCI image layout."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Collection, Iterator
from functools import partial

from .._errors import KernelError, OptionError, StoreError
from .._kernel.file import fsync_directory, has_name, remove_tree
from .._kernel.syncfs import syncfs
from . import layer, writers
from .apply import apply
from .directory import Directory
from .layout import Layout
from .manifest import checked_config
from .progress import QUIET, Progress
from .record import canonical, is_half_written, listdir
from .store import Image, Store
from .tarball import Archive

_MADE, _PARTS = "layout", ("blobs", "oci-layout", "index.json")
OCI_ARCHIVE, DOCKER_ARCHIVE, OCI = FORMS = ("oci-archive", "docker-archive", "oci")


def load(
    store: Store,
    path: str,
    name: str,
    wanted: str = "",
    *,
    limit: int = 0,
    devices: str = layer.REFUSE,
    below: Collection[str] = (),
    key: str = "",
    progress: Progress = QUIET,
) -> Image:
    """Store the image of an archive, or of a directory with an OCI image layout, under ``name``.

    ``wanted`` chooses among several by the name that they have there; ``limit`` is the most bytes that a layer may
    unpack to, and that a compressed archive may, 0 for any number; ``devices`` what becomes of device nodes: see
    layer.unpack(); ``below`` are the layers below containers.
    """
    with store.work() as work, contextlib.closing(opened(path, work.path, progress, limit=limit)) as source:
        found = source.find(wanted, name)
        for blob, diff_id in zip(found.layers, checked_config(found.config, len(found.layers), path)):
            stream, where = partial(source.layer, blob, diff_id), f"{path}: {blob.member}"
            apply(work, diff_id, stream, where, limit=limit, devices=devices, below=below, progress=progress)
        return store.put(name, found.config, key, manifest=found.manifest)


def opened(path: str, scratch: str, progress: Progress = QUIET, *, limit: int = 0) -> Layout:
    """To be closed. A compressed archive is unpacked to a file without a name in the directory ``scratch``, if it has
    no more than ``limit`` bytes."""
    return Directory(path, progress) if os.path.isdir(path) else Archive(path, scratch, progress, limit=limit)


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
    with _beside(path, _make_file) as new:
        with open(new, "wb") as out:
            tar = writers.Tar(out)
            _write(writers.Docker(tar) if form == DOCKER_ARCHIVE else writers.Oci(tar, gzip=gzip), store, image)
            tar.end()
            out.flush()
            os.fsync(out.fileno())
        os.rename(new, path)
        fsync_directory(os.path.dirname(new))


def _save_directory(store: Store, image: Image, path: str, gzip: bool) -> None:
    path = os.path.realpath(path)  # no directory replaces a symlink
    if os.path.isdir(path) and not is_free(path):
        _add(store, image, path, gzip)
        return
    # Nobody can rename to a mount point: what is made is made in it then, and moves up, the index as the last.
    mounted = os.path.ismount(path)
    with _beside(f"{path}/{_MADE}" if mounted else path, os.mkdir) as new:
        _write(writers.Oci(writers.Folder(new), gzip=gzip), store, image)
        syncfs(new)
        for name in _PARTS if mounted else ():
            remove_tree(f"{path}/{name}")
            os.rename(f"{new}/{name}", f"{path}/{name}")
        if not mounted:
            os.rename(new, path)
        fsync_directory(os.path.dirname(new))


def is_free(path: str) -> bool:
    """Would nothing be lost if an image came in this place? Nothing is there, an empty file or directory; or in a mount
    point nothing but what its file system brings, and what a killed export left of a layout: one without an index."""
    if not os.path.isdir(path):
        return not os.path.lexists(path) or (os.path.isfile(path) and os.path.getsize(path) == 0)
    found = set(os.listdir(path))
    if os.path.ismount(path):
        found -= {"lost+found", *_PARTS[:-1], *filter(re.compile(rf"{_MADE}\.\d+\.new").fullmatch, found)}
    return not found


def _make_file(path: str) -> None:
    with open(path, "xb"):
        pass


@contextlib.contextmanager
def _beside(path: str, make: Callable[[str], None]) -> Iterator[str]:
    """The path of something new that is to be renamed to ``path``, and goes where it is not. It is locked meanwhile:
    one without a lock is what a killed process left, and goes with the next export."""
    path = os.path.abspath(path)
    _sweep(path)
    new = f"{path}.{os.getpid()}.new"
    while True:
        make(new)
        with contextlib.suppress(FileNotFoundError):  # another export's sweep may come before our lock
            fd = os.open(new, os.O_RDONLY | os.O_CLOEXEC)
            with contextlib.suppress(OSError):  # a file system that has no locks
                fcntl.flock(fd, fcntl.LOCK_EX)
            if has_name(fd, new):
                break
            os.close(fd)
    try:
        yield new
    finally:
        remove_tree(new)
        os.close(fd)


def _sweep(path: str) -> None:
    """Remove what killed exports left beside ``path``."""
    directory, name = os.path.split(path)
    left = re.compile(rf"{re.escape(name)}\.\d+\.new")
    for found in filter(left.fullmatch, listdir(directory)):
        with contextlib.suppress(OSError):  # somebody writes to it, or it is not ours
            fd = os.open(f"{directory}/{found}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_tree(f"{directory}/{found}")
            finally:
                os.close(fd)


def _add(store: Store, image: Image, path: str, gzip: bool) -> None:
    """To a layout that is there, of which the index is replaced at the end; what else is in it stays."""
    with contextlib.closing(Directory(path)) as into:
        fcntl.flock(into.root, fcntl.LOCK_EX)
        for directory in (path, f"{path}/blobs", f"{path}/blobs/sha256"):
            for name in filter(is_half_written, listdir(directory)):  # what a killed export left
                os.unlink(f"{directory}/{name}")
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
