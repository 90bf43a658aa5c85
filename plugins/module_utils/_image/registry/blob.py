# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A layer's blob as a stream: resumed where it broke, from another host if need be, and verified at its end."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Callable, Optional

from ..._errors import NetworkError, RegistryError, StoreError
from ..compress import decompressed
from ..manifest import Descriptor
from ..tarstream import CHUNK, Readable
from .client import Client
from .endpoint import Endpoint
from .session import back_off
from .transport import Response, content_length

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-", re.ASCII)


@contextlib.contextmanager
def opened(
    client: Client,
    endpoints: Sequence[Endpoint],
    descriptor: Descriptor,
    where: str,
    tell: Callable[[int], None],
) -> Iterator[Readable]:
    """What the blob holds, uncompressed. It is read ahead by a thread of the unpacker's, which takes none of its time.

    The end comes only when the blob has its size and digest. ``tell`` is called with the bytes received so far.
    """
    with contextlib.ExitStack() as inner:
        blob = inner.enter_context(contextlib.closing(Blob(client, endpoints, descriptor, where, tell)))
        yield _Whole(inner.enter_context(decompressed(blob, where)), blob)


class Blob:
    """The bytes as they are stored. The first of ``endpoints`` that has them gives them."""

    def __init__(
        self,
        client: Client,
        endpoints: Sequence[Endpoint],
        descriptor: Descriptor,
        where: str,
        tell: Callable[[int], None] = lambda done: None,
    ) -> None:
        self._client = client
        self._endpoints = list(endpoints)
        self._wanted = descriptor
        self._where = where
        self._tell = tell
        self._hash = hashlib.sha256()
        self._got = 0
        self._response: Optional[Response] = None
        self._failures = 0
        self._failed_at = 0

    def read(self, size: int = -1, /) -> bytes:
        while True:
            try:
                response = self._response or self._open()
                data = response.read(CHUNK if size < 0 else size)
                if not data and self._got < self._wanted.size:
                    reason = f"the blob ended after {self._got} of {self._wanted.size} bytes"
                    raise NetworkError(self._endpoints[0].host, reason, temporary=True)
            except NetworkError as error:
                self._broken(error)
                continue
            return self._take(data)

    def _take(self, data: bytes) -> bytes:
        self._got += len(data)
        if self._got > self._wanted.size:
            raise StoreError(f"{self._where} has more than the {self._wanted.size} bytes that it should have")
        self._hash.update(data)
        if data:
            self._tell(self._got)
        else:
            self._verify()
        return data

    def _verify(self) -> None:
        digest = f"sha256:{self._hash.hexdigest()}"
        if digest != self._wanted.digest:
            raise StoreError(f"{self._where} has the digest {digest}, and it should have {self._wanted.digest}")

    def drain(self) -> None:
        """All that is left, for it is part of the digest."""
        while self.read(CHUNK):
            pass

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _broken(self, error: NetworkError) -> None:
        """Go on where it broke. What came meanwhile is a new beginning; another host is one as well."""
        self.close()
        if self._got - self._failed_at >= CHUNK:
            self._failures = 0
        self._failures, self._failed_at = self._failures + 1, self._got
        if self._client.worth(error, self._failures):
            self._client.pause(back_off(self._failures))
        elif not self._next():
            raise error

    def _next(self) -> bool:
        if len(self._endpoints) < 2:
            return False
        del self._endpoints[0]
        self._failures = 0
        return True

    def _open(self) -> Response:
        while True:
            try:
                response = self._client.blob(self._endpoints[0], self._wanted.digest, self._got)
                break
            except RegistryError:
                if not self._next():
                    raise
        self._response = response
        self._skip(response, self._got - self._start(response))
        return response

    def _start(self, response: Response) -> int:
        """Where the answer begins: a server that knows no ranges sends everything."""
        length = content_length(response.headers)
        if response.status == 206:
            match = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
            if match is None or int(match[1]) != self._got:
                raise RegistryError(f"{self._where}: it was asked for from byte {self._got} on, and came from another")
            return self._got
        if length not in (-1, self._wanted.size):
            raise StoreError(f"{self._where} has {length} bytes, and it should have {self._wanted.size}")
        return 0

    @staticmethod
    def _skip(response: Response, size: int) -> None:
        while size:
            skipped = len(response.read(min(size, CHUNK)))
            if not skipped:
                return  # the next read finds the end as well
            size -= skipped


class _Whole:
    """The content; its end is none before the blob's own is reached and right.

    Where the content makes no sense, a blob that is not the one that was meant is the better word.
    """

    def __init__(self, plain: Readable, blob: Blob) -> None:
        self._plain = plain
        self._blob = blob

    def read(self, size: int, /) -> bytes:
        try:
            data = self._plain.read(size)
        except StoreError:
            self._blob.drain()
            raise
        if not data:
            self._blob.drain()
        return data
