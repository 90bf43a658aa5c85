# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a registry is asked for (distribution-spec), and what of its answers can be believed."""

from __future__ import annotations

import contextlib
import hashlib
import urllib.parse
from typing import Callable, NamedTuple, TypeVar

from ..._errors import NetworkError, RegistryError, VesselError
from ..manifest import TYPES
from ..reference import Reference
from .auth import clean
from .endpoint import Endpoint, endpoints
from .session import PULL, PUSH, Session, Settings
from .transport import Body, Response

__all__ = ["Answer", "Client", "Settings"]

_ACCEPT = ", ".join(TYPES)

T = TypeVar("T")


class Answer(NamedTuple):
    """A manifest as it came: ``digest`` is that of ``data``, ``endpoint`` who had it."""

    data: bytes
    media_type: str
    digest: str
    endpoint: Endpoint


class Client(Session):
    """One for a task."""

    # what a pull asks
    def manifest(self, name: Reference, *, digest: str = "") -> Answer:
        """The manifest or index that a name leads to, or the one with the digest in its repository."""
        return self.first(name, lambda endpoint: self.manifest_at(endpoint, digest or name.digest or name.tag))

    def manifest_at(self, endpoint: Endpoint, which: str) -> Answer:
        what = f"manifest {which} of {endpoint.repository}"
        headers = {"Accept": _ACCEPT}
        response, data = self.whole(
            lambda: self.request("GET", endpoint, f"manifests/{which}", what, headers=headers), endpoint.host, what
        )
        media_type = response.headers.get("content-type", "").partition(";")[0].strip()
        _check_kind(data, media_type, f"{endpoint.host}: {what}")
        # A tag's digest is what the registry says it is; what was asked for by digest must have it.
        said = which if ":" in which else response.headers.get("docker-content-digest", "")
        digest = _verified(data, said, f"{endpoint.host}: {what}")
        return Answer(data, media_type, digest, endpoint)

    def digest(self, name: Reference) -> str:
        """What a name leads to now, without what it holds where the registry tells so."""
        return self.first(name, lambda endpoint: self.digest_at(endpoint, name.digest or name.tag))

    def digest_at(self, endpoint: Endpoint, which: str) -> str:
        what = f"manifest {which} of {endpoint.repository}"
        response = self.request("HEAD", endpoint, f"manifests/{which}", what, headers={"Accept": _ACCEPT})
        response.close()
        said = response.headers.get("docker-content-digest", "")
        return said if _is_digest(said) else self.manifest_at(endpoint, which).digest

    def blob(self, endpoint: Endpoint, digest: str, offset: int = 0) -> Response:
        """Its bytes from ``offset`` on where the answer's status is 206, else from the first. To be closed."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        what = f"blob {digest} of {endpoint.repository}"
        return self.request("GET", endpoint, f"blobs/{digest}", what, headers=headers, expected=(200, 206))

    def small_blob(self, endpoint: Endpoint, digest: str, size: int) -> bytes:
        """One that fits in memory, verified."""
        what = f"blob {digest} of {endpoint.repository}"
        dummy, data = self.whole(lambda: self.blob(endpoint, digest), endpoint.host, what)
        if len(data) != size:
            raise RegistryError(f"{endpoint.host}: {what} has {len(data)} bytes, and it should have {size}")
        _verified(data, digest, f"{endpoint.host}: {what}")
        return data

    # what a push asks
    def has_blob(self, endpoint: Endpoint, digest: str) -> bool:
        what = f"blob {digest} of {endpoint.repository}"
        response = self.request("HEAD", endpoint, f"blobs/{digest}", what, action=PUSH, expected=(200, 404))
        response.close()
        return response.status == 200

    def mount(self, endpoint: Endpoint, digest: str, source: str) -> bool:
        """Let the repository have a blob that another of the registry's has; nothing is sent."""
        what = f"mount of {digest} from {source}"
        query = urllib.parse.urlencode({"mount": digest, "from": source})
        scopes = (f"repository:{source}:{PULL}",)
        response = self.request(
            "POST", endpoint, f"blobs/uploads/?{query}", what, body=b"", action=PUSH, more_scopes=scopes,
            expected=(201, 202, 400, 403, 404, 405),
        )  # fmt: skip
        response.close()
        if response.status == 202:  # it would rather have it uploaded
            self._cancel(endpoint, response)
        return response.status == 201

    def _cancel(self, endpoint: Endpoint, response: Response) -> None:
        where = response.headers.get("location", "")
        if where:
            what = f"upload to {endpoint.repository}"
            gone = (200, 202, 204, 404, 405, 501)
            with contextlib.suppress(NetworkError, RegistryError):
                self.request("DELETE", endpoint, self._there(endpoint, where), what, action=PUSH, expected=gone).close()

    def upload(self, endpoint: Endpoint, digest: str, size: int, body: Body) -> None:
        """A blob in one piece. ``body`` is sent once."""
        what = f"upload of {digest} to {endpoint.repository}"
        started = self.request("POST", endpoint, "blobs/uploads/", what, body=b"", action=PUSH, expected=(202,))
        started.close()
        where = self._there(endpoint, started.headers.get("location", ""))
        joined = "&" if urllib.parse.urlsplit(where).query else "?"
        url = f"{where}{joined}{urllib.parse.urlencode({'digest': digest})}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        self.request("PUT", endpoint, url, what, headers=headers, body=body, action=PUSH, expected=(201, 204)).close()

    def _there(self, endpoint: Endpoint, location: str) -> str:
        """An address of the answer; one without host is below the registry's."""
        if not location:
            raise RegistryError(f"{endpoint.host}: it does not say where an upload goes")
        return urllib.parse.urljoin(self.spoken(f"https://{endpoint.host}/"), location)

    def put_manifest(self, endpoint: Endpoint, which: str, data: bytes, media_type: str) -> str:
        """The digest, which the registry confirms where it says one."""
        what = f"manifest {which} of {endpoint.repository}"
        response = self.request(
            "PUT", endpoint, f"manifests/{which}", what, headers={"Content-Type": media_type}, body=data, action=PUSH,
            expected=(201, 200, 202),
        )  # fmt: skip
        response.close()
        said = response.headers.get("docker-content-digest", "")
        return _verified(data, said if _is_digest(said) else "", f"{endpoint.host}: {what}")

    def first(self, name: Reference, ask: Callable[[Endpoint], T]) -> T:
        """Of the mirrors and the registry, the first that answers; when none does, what the registry says."""
        failed: list[VesselError] = []
        *mirrors, own = endpoints(name, self.settings.mirrors)
        for endpoint in mirrors:
            try:
                return ask(endpoint)
            except (NetworkError, RegistryError) as error:
                failed.append(error)
        try:
            return ask(own)
        except (NetworkError, RegistryError) as error:
            error.hint = "; ".join([*filter(None, [error.hint]), *(f"mirror {other}" for other in failed)])
            raise


def _check_kind(data: bytes, media_type: str, where: str) -> None:
    if media_type in TYPES or "json" in media_type or data[:1] == b"{":
        return
    kind = clean(media_type or "nothing", 60)
    raise RegistryError(f"{where}: it answers with {kind} instead of a manifest", hint="is it a registry?")


def _verified(data: bytes, said: str, where: str) -> str:
    """The digest; that which was said, if any was, must be the data's."""
    algorithm = said.partition(":")[0] if _is_digest(said) else "sha256"
    digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    if said and digest != said:
        raise RegistryError(f"{where} has the digest {digest}, and it should have {clean(said)}")
    return digest


def _is_digest(text: str) -> bool:
    algorithm, dummy, digits = text.partition(":")
    return (algorithm, len(digits)) in (("sha256", 64), ("sha512", 128)) and not set(digits) - set("0123456789abcdef")
