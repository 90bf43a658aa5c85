# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images as files: an archive or a layout that holds the image already is left as it is."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import Any

from .._errors import KernelError, OptionError, StoreError
from .._image.archive import DOCKER_ARCHIVE, FORMS, OCI, OCI_ARCHIVE, opened, save
from .._image.record import digest_of
from .._image.store import Image, Store
from .._paths import Paths
from .container_options import parse_image
from .image_options import parse_target_path
from .options import Option
from .parse import choice, parse_bool
from .plan import Plan, Step

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
    image = store.need(desired["name"])
    if form == DOCKER_ARCHIVE and desired["compress"]:
        raise OptionError("compress", True, f"can't be with format: {DOCKER_ARCHIVE}; its layers are never compressed")
    directory = os.path.dirname(path) or "/"
    if not os.path.isdir(directory):
        raise OptionError("path", path, f"can't be written: there is no directory {directory}")
    if os.path.isdir(path) != (form == OCI) and os.path.lexists(path):
        raise OptionError("path", path, f"is {'a directory' if form != OCI else 'a file'}, and format is {form}")
    present = _held(image, path, form)
    if present == image.id and not desired["force"]:
        return Plan()
    do = partial(save, store, image, path, form, gzip=desired["compress"])
    before, after = {"id": present or None}, {"id": image.id, "format": form}
    return Plan([Step(f"image {image.name}", f"export to {path}", do, before=before, after=after)])


def _held(image: Image, path: str, form: str) -> str:
    """The id of the image that has the name there; empty for none, or one in another form."""
    if not os.path.lexists(path):
        return ""
    try:
        with contextlib.closing(opened(path, _SCRATCH)) as source:
            if ("manifest.json" in source) != (form == DOCKER_ARCHIVE):
                return ""
            return digest_of(source.find(image.name, image.name).config)
    except (KernelError, StoreError):
        return ""  # whatever it is, the image replaces it
