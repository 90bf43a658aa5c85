# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an image is asked for: the registry that its name says, and mirrors before it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ..._errors import OptionError
from ..reference import Reference

HUB = "docker.io"
_HUB_HOST = "registry-1.docker.io"
_HUB_NAMES = (HUB, "index.docker.io", _HUB_HOST)
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_MIRROR = re.compile(
    rf"(?P<host>(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?)(?:/(?P<prefix>[a-z0-9._/-]*[a-z0-9]))?"
)


class Endpoint(NamedTuple):
    """A repository at a host; ``domain`` is what credentials are kept under."""

    host: str
    repository: str
    domain: str
    is_mirror: bool = False

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}"


def endpoints(name: Reference, mirrors: Sequence[str] = ()) -> list[Endpoint]:
    """In the order in which they are tried, the registry itself last."""
    domain, path = home(name)
    found = [_mirror(text, path) for text in mirrors]
    host = _HUB_HOST if domain == HUB else domain
    return [*found, Endpoint(host, path, domain)]


def home(name: Reference) -> tuple[str, str]:
    """(domain, path) as docker has them: short names are those of its own registry."""
    domain, path = name.domain or HUB, name.path
    if domain in _HUB_NAMES:
        domain = HUB
        path = path if "/" in path else f"library/{path}"
    return domain, path


def repository(name: Reference) -> str:
    """The repository's whole name, without tag and digest."""
    return "/".join(home(name))


def parse_mirror(text: str, option: str) -> str:
    """HOST[:PORT][/PREFIX]; raises OptionError."""
    if not _MIRROR.fullmatch(text) or "//" in text:
        raise OptionError(option, text, "is no mirror; write HOST, HOST:PORT or HOST:PORT/PREFIX")
    return text


def _mirror(text: str, path: str) -> Endpoint:
    host, dummy, prefix = text.partition("/")
    return Endpoint(host, f"{prefix}/{path}" if prefix else path, host, True)
