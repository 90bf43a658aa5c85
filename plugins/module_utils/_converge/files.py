# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that an image is made from: on the target (``path``), or on the controller (``src``), whence it was sent."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Union

from .._errors import OptionError, VesselError
from .._image import rootfs
from .._image.store import Store
from .._options.sent import Content


@dataclass(frozen=True)
class OnTarget:
    """A file or directory on the target."""

    name: str

    def key(self, store: Store) -> str:
        """The digest of what is in it."""
        if not os.path.exists(self.name):
            raise OptionError("path", self.name, "is not on the target; copy it there first, or give src")
        if not os.path.isfile(self.name) and not os.path.isdir(self.name):
            raise OptionError("path", self.name, "is neither a file nor a directory")
        return rootfs.key(self.name, store)

    def lacks(self) -> str:
        """What has to be sent before it can be read: nothing."""
        return ""

    @contextmanager
    def opened(self) -> Iterator[str]:
        """Where it can be read."""
        yield self.name

    def remember(self, store: Store) -> None:
        """It was made from this: its key need not be made again while the file is what it is."""
        rootfs.remember(store, self.name)


@dataclass(frozen=True)
class OnController:
    """A file of the controller's. What its digest says was made of it need not be sent again."""

    content: Content

    @property
    def name(self) -> str:
        return self.content.name

    def key(self, store: Store) -> str:
        return self.content.known()

    def lacks(self) -> str:
        return "" if self.content.path else self.name

    @contextmanager
    def opened(self) -> Iterator[str]:
        """Errors speak of what the task has, and not of where that was sent."""
        if not self.content.path:
            problem = "was not sent, for what was made of it was there, and has gone meanwhile; run the task again"
            raise OptionError("src", self.name, problem)
        if rootfs.key(self.content.path) != self.content.known():
            raise OptionError("src", self.name, "was changed on the controller while it was sent; run the task again")
        try:
            yield self.content.path
        except VesselError as error:
            error.message = error.message.replace(self.content.path, self.name)
            raise

    def remember(self, store: Store) -> None:
        """It goes with the task."""


File = Union[OnTarget, OnController]


def file_of(desired: Mapping[str, Any]) -> File:
    """The one that ``path`` or ``src`` names; OptionError where both are given."""
    if "src" not in desired:
        return OnTarget(desired["path"])
    if "path" in desired:
        raise OptionError("src", desired["src"].name, "can't be with path; the one is on the controller, the other not")
    return OnController(desired["src"])
