# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of images, as docker writes them: [DOMAIN[:PORT]/]PATH[:TAG][@DIGEST]."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .._errors import OptionError

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::\d+)?"
_REFERENCE = re.compile(
    rf"^(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    rf"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?(?:@(?P<digest>[a-z0-9]+:[0-9a-f]+))?$"
)
_DIGESTS = {"sha256": 64, "sha512": 128}


@dataclass(frozen=True)
class Reference:
    """``str()`` is the canonical form: a tag is always there unless a digest is."""

    path: str
    domain: str = ""
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        name = f"{self.domain}/{self.path}" if self.domain else self.path
        return name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str, option: str) -> Reference:
    """Raises OptionError when the text names no image."""
    match = _REFERENCE.match(text)
    if not match or len(text) > 512:
        hint = (
            "names of images are lower case" if text != text.lower() else "write NAME, NAME:TAG or NAME@sha256:DIGEST"
        )
        raise OptionError(option, text, "is not the name of an image", hint=hint)
    domain, path = match["domain"] or "", match["path"]
    # The first part is a domain only where it can't be a path: a dot, a port, or localhost.
    if domain and not ("." in domain or ":" in domain or domain == "localhost"):
        domain, path = "", f"{domain}/{path}"
    digest = match["digest"] or ""
    if digest:
        algorithm, _, hexes = digest.partition(":")
        if _DIGESTS.get(algorithm) != len(hexes):
            raise OptionError(option, text, f"has the digest {digest}, which is not sha256 or sha512")
    return Reference(path, domain, match["tag"] or ("" if digest else "latest"), digest)
