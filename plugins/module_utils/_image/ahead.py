# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stream that a thread reads ahead of whoever uses it.

Inflating, hashing and waiting for a socket leave the interpreter's lock to others, so that they take no time from the
making of files.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Union

from .tarstream import CHUNK, Readable

# Pieces that are read and not yet used; memory stays flat whatever is faster.
_DEPTH = 8


class _Ahead:
    """Pieces as they come; an error of the stream is raised where it would have been."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._pieces: queue.Queue[Union[bytes, BaseException]] = queue.Queue(_DEPTH)
        self._last: Union[bytes, BaseException] = b"begun"
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            piece = b"begun"
            while piece and not self._closed:
                piece = self._stream.read(CHUNK)
                self._pieces.put(piece)
        except BaseException as error:  # it is raised again by read()
            self._pieces.put(error)

    def read(self, size: int = -1, /) -> bytes:
        """The next piece, however long; empty at the end, and for ever after."""
        if self._last and not isinstance(self._last, BaseException):
            self._last = self._pieces.get()
        if isinstance(self._last, BaseException):
            raise self._last
        return self._last

    def close(self) -> None:
        """Waits for the one read that is under way: the stream is its owner's again."""
        self._closed = True
        while self._thread.is_alive():
            try:
                self._pieces.get_nowait()
            except queue.Empty:
                self._thread.join(0.01)


@contextmanager
def ahead(stream: Readable) -> Iterator[Readable]:
    """The stream, read by a thread for as long as the context lasts."""
    reader = _Ahead(stream)
    try:
        yield reader
    finally:
        reader.close()
