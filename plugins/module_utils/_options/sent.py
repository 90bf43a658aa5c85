# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the action plugin tells a module beside its options, and the module's answer where it needs more than that."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .._errors import OptionError
from .parse import parse_word

PROGRESS = "_vessel_progress"  # the name of the file that is followed
CONTENTS = "_vessel_contents"  # files of the controller's: what the option says, to {"key", "path"}
ASKING = "_vessel_asking"  # nothing is to be done but to say what is needed
WANTED = "vessel_wanted"  # the answer: what of CONTENTS can't be done without


class Content(NamedTuple):
    """A file of the controller's, that an image is made from.

    ``name`` is what the option says; ``key`` is the digest of its bytes as rootfs.key() has it, empty where no action
    plugin has read it; ``path`` is where it is on the target, empty until it was sent.
    """

    name: str
    key: str = ""
    path: str = ""

    def known(self) -> str:
        """The key; OptionError where nobody knows it."""
        if not self.key:
            problem = "is on the controller, where only the action plugin of vessel.host.image and stack reads it"
            raise OptionError("src", self.name, problem, hint="give path, of a file on the target")
        return self.key


class Sent(NamedTuple):
    """``token`` is empty where nobody follows; ``contents`` are by what the option says."""

    token: str = ""
    contents: Mapping[str, Content] = {}
    asking: bool = False

    def into(self, image: dict[str, Any]) -> dict[str, Any]:
        """An image's options, with what is known of the file that they name."""
        src = image.get("src")
        return image if src is None else {**image, "src": self.contents.get(src.name, src)}

    def into_all(self, images: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {name: self.into(image) for name, image in images.items()}


def parse_src(value: Any, option: str) -> Content:
    return Content(parse_word(value, option))


def take(params: dict[str, Any]) -> Sent:
    """Take it out of a module's parameters; what the plugin would not have written stays, and belongs to no option."""
    token = _taken(params, PROGRESS, lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{32}", value))
    contents = _taken(params, CONTENTS, lambda value: isinstance(value, dict) and all(map(_is_content, value.values())))
    asking = _taken(params, ASKING, lambda value: value is True)
    known = {name: Content(name, found["key"], found["path"]) for name, found in (contents or {}).items()}
    return Sent(token or "", known, bool(asking))


def _taken(params: dict[str, Any], name: str, is_ours: Callable[[Any], Any]) -> Any:
    return params.pop(name) if name in params and is_ours(params[name]) else None


def _is_content(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and sorted(value) == ["key", "path"]
        and all(isinstance(found, str) for found in value.values())
        and bool(re.fullmatch("[0-9a-f]{64}", value["key"]))
    )
