# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of images, as docker writes them: [DOMAIN[:PORT]/]PATH[:TAG][@DIGEST]."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .._errors import OptionError

_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?"
_REFERENCE = re.compile(
    rf"(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>[A-Za-z0-9+._-]+:[^@]*))?"
)
_DIGESTS = {"sha256": 64, "sha512": 128}
_HEX = set("0123456789abcdef")
_NAME_MAX = 255  # of domain and path together, as registries have it


@dataclass(frozen=True)
class Reference:
    """``str()`` is the canonical form: a tag is always there unless a digest is."""

    path: str
    domain: str = ""
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Without tag and digest."""
        return f"{self.domain}/{self.path}" if self.domain else self.path

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str, option: str) -> Reference:
    """Raises OptionError when the text names no image."""
    match = _REFERENCE.fullmatch(text)
    if not match:
        raise OptionError(option, text, "is not the name of an image", hint=_hint(text))
    domain, path = match["domain"] or "", match["path"]
    # The first part is a domain only where it can't be a path: a dot, a port, or localhost.
    if domain and domain != "localhost" and not set(domain) & set(".:"):
        if domain != domain.lower():
            raise OptionError(option, text, "is not the name of an image", hint=_hint(text))
        domain, path = "", f"{domain}/{path}"
    digest = match["digest"] or ""
    if digest:
        _check_digest(text, digest, option)
    found = Reference(path, domain, match["tag"] or ("" if digest else "latest"), digest)
    _check_name(text, found, option)
    return found


def _hint(text: str) -> str:
    if any(char.isspace() for char in text):
        return "take the white space out"
    head, dummy, last = text.partition("@")[0].rpartition("/")
    name = head + last.partition(":")[0]
    return "names of images are lower case" if name != name.lower() else "write NAME, NAME:TAG or NAME@sha256:DIGEST"


def _check_digest(text: str, digest: str, option: str) -> None:
    algorithm, dummy, hexes = digest.partition(":")
    if algorithm not in _DIGESTS:
        raise OptionError(option, text, f"has a digest by {algorithm}; sha256 and sha512 are known")
    if len(hexes) != _DIGESTS[algorithm] or set(hexes) - _HEX:
        raise OptionError(
            option, text, f"has a bad digest; {algorithm} has {_DIGESTS[algorithm]} hexadecimal digits in lower case"
        )


def _check_name(text: str, found: Reference, option: str) -> None:
    if len(found.name) > _NAME_MAX:
        raise OptionError(option, text, f"is too long; the name has {len(found.name)} characters of {_NAME_MAX}")
    if len(found.name) == 64 and not set(found.name) - _HEX:
        raise OptionError(option, text, "looks like a digest, not a name", hint="write sha256:DIGEST for an image's id")


def same(one: str, other: str) -> bool:
    """Do both texts name the same image? Other tools write names short or long as they like."""
    return _familiar(one) == _familiar(other)


def _familiar(text: str) -> str:
    try:
        name = str(parse(text, ""))
    except OptionError:
        return text
    for prefix in ("docker.io/library/", "docker.io/"):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name
