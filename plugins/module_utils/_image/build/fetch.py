# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ADD fetches. It is known by its digest, so that an unchanged build asks nobody, and nobody can give another."""

from __future__ import annotations

import hashlib
import os
from urllib.parse import urljoin, urlsplit

from ..._errors import NetworkError, StoreError
from ..._kernel.file import write_all
from ..progress import QUIET, Progress
from ..registry.transport import Response, Tls, Transport, content_length

_REDIRECTS = (301, 302, 303, 307, 308)
_REDIRECTS_MAX = 10
_TIMEOUT = 60.0  # seconds without a byte
_CHUNK = 1 << 20


def fetch(transport: Transport, url: str, digest: str, path: str, progress: Progress = QUIET) -> None:
    """Put it into a new file of that path; ``digest`` is sha256's, in hexadecimal. Raises NetworkError when it does
    not come, and StoreError when something else does."""
    response = _answer(transport, url)
    try:
        found = _save(response, path, url, progress)
    finally:
        response.close()
    if found != digest:
        raise StoreError(f"{url} has the digest sha256:{found}, and it should have sha256:{digest}")


def _answer(transport: Transport, url: str) -> Response:
    at = url
    for dummy in range(_REDIRECTS_MAX):
        if urlsplit(at).scheme not in ("http", "https"):
            raise StoreError(f"{url} leads to {at}, which is no address of http")
        response = transport.request("GET", at, {}, timeout=_TIMEOUT, tls=Tls())
        if response.status == 200:
            return response
        response.close()
        if response.status not in _REDIRECTS or "location" not in response.headers:
            raise NetworkError(urlsplit(at).netloc, f"GET {at} was answered with {response.status}")
        at = urljoin(at, response.headers["location"])
    raise NetworkError(urlsplit(url).netloc, f"{url} leads from one address to the next, {_REDIRECTS_MAX} times")


def _save(response: Response, path: str, url: str, progress: Progress) -> str:
    """The digest of what came."""
    hashed, done = hashlib.sha256(), 0
    total = max(content_length(response.headers), 0)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        for data in iter(lambda: response.read(_CHUNK), b""):
            hashed.update(data)
            write_all(fd, data)
            done += len(data)
            progress.blob(url, done, total)
    finally:
        os.close(fd)
    return hashed.hexdigest()
