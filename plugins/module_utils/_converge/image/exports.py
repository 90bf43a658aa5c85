# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images as files: an archive or a layout that holds the image already is left as it is."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import Any, Optional

from ..._errors import KernelError, OptionError, StoreError
from ..._image import housekeeping
from ..._image.archive import DOCKER_ARCHIVE, FORMS, OCI, OCI_ARCHIVE, is_free, opened, save
from ..._image.record import digest_of
from ..._image.store import Image, Store
from ..._options.container import parse_image
from ..._options.image import parse_target_path
from ..._options.parse import choice, parse_bool
from ..._options.record import Option
from ..._paths import Paths
from ..plan import Plan, Step

_SCRATCH = "/var/tmp"  # a compressed archive is unpacked there to be looked into

OPTIONS: tuple[Option, ...] = (
    Option("name", parse_image, required=True),
    Option("path", parse_target_path, "path", required=True),
    Option("format", choice(*FORMS), choices=FORMS, default=OCI_ARCHIVE, shown_default=OCI_ARCHIVE),
    Option("compress", parse_bool, "bool", default=False, shown_default=False),
    Option("force", parse_bool, "bool", default=False, shown_default=False),
)


def plan(paths: Paths, desired: dict[str, Any]) -> Plan:
    """What writes the image to the path; nothing where it is there in that form."""
    store, path, form = Store(paths), desired["path"], desired["format"]
    if housekeeping.is_littered(store):
        store.sweep()
    image = store.need(desired["name"])
    if form == DOCKER_ARCHIVE and desired["compress"]:
        raise OptionError("compress", True, f"can't be with format: {DOCKER_ARCHIVE}; its layers are never compressed")
    directory = os.path.dirname(path) or "/"
    if not os.path.isdir(directory):
        raise OptionError("path", path, f"can't be written: there is no directory {directory}")
    if os.path.isdir(path) != (form == OCI) and os.path.lexists(path):
        raise OptionError("path", path, f"is {'a directory' if form != OCI else 'a file'}, and format is {form}")
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise OptionError("path", path, "is neither a file nor a directory, and is not replaced")
    present = _held(image, path, form)
    if present is None:
        _check_replaceable(path, force=desired["force"])
    if present == image.id and not desired["force"]:
        return Plan()
    do = partial(save, store, image, path, form, gzip=desired["compress"])
    before, after = {"id": present or None}, {"id": image.id, "format": form}
    return Plan([Step(f"image {image.name}", f"export to {path}", do, before=before, after=after)])


def _held(image: Image, path: str, form: str) -> Optional[str]:
    """The id of the image that has the name there; empty for none, or one in another form. None where what is there
    is nothing of images at all."""
    if is_free(path):
        return ""
    with contextlib.suppress(KernelError, StoreError), contextlib.closing(opened(path, _SCRATCH)) as source:
        if not source.holds_images():
            return None
        with contextlib.suppress(KernelError, StoreError):  # none of that name, or a damaged one: it is replaced
            if ("manifest.json" in source) == (form == DOCKER_ARCHIVE):
                return digest_of(source.find(image.name, image.name).config)
        return ""
    return None


def _check_replaceable(path: str, *, force: bool) -> None:
    """Refuse to take away what no export wrote. A directory's content is not ours to remove, whatever the task says."""
    if os.path.isdir(path):
        names = sorted(os.listdir(path))
        there = ", ".join([*names[:3], *(["…"] if len(names) > 3 else [])])
        problem = f"is a directory with other things in it than an OCI image layout: {there}"
        raise OptionError("path", path, problem, hint="choose an empty directory, or a new one")
    if not force:
        what = f"a file of {os.path.getsize(path)} bytes" if os.path.exists(path) else "a symlink that leads nowhere"
        hint = "choose another path, or set force: true"
        raise OptionError("path", path, f"is {what}, no archive of images, and is not replaced", hint=hint)
