# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a zstd stream holds, by the target's own program: Python has no zstd before 3.14."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import IO, Optional, cast

from .._errors import StoreError
from .tarstream import CHUNK, Readable


@contextlib.contextmanager
def decompressed(stream: Readable, name: str) -> Iterator[Readable]:
    """A thread feeds the program while its output is read, so that nothing is kept whole.

    What ``stream`` raises is raised again by who reads; StoreError where the program is missing, or refuses.
    """
    program = shutil.which("zstd")
    if program is None:
        raise StoreError(f"{name} is compressed with zstd", hint="install zstd on the target, or save it with gzip")
    pipe = subprocess.PIPE
    command = [program, "--decompress", "--stdout", "--quiet"]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0) as process:
        output = _Output(process, stream, name)
        try:
            yield output
        finally:
            output.close()


class _Output:
    def __init__(self, process: subprocess.Popen[bytes], stream: Readable, name: str) -> None:
        self._process = process
        self._stdout = cast(IO[bytes], process.stdout)
        self._name = name
        self._error: Optional[BaseException] = None
        self._feeder = threading.Thread(target=self._feed, args=(stream, process.stdin), name="zstd", daemon=True)
        self._feeder.start()

    def _feed(self, stream: Readable, stdin: IO[bytes]) -> None:
        try:
            with stdin:
                for block in iter(lambda: stream.read(CHUNK), b""):
                    view = memoryview(block)
                    while view:
                        view = view[stdin.write(view) :]
        except BrokenPipeError:
            pass  # it has refused what it got, or nobody wants the rest
        except BaseException as error:  # it is raised again by read()
            self._error = error

    def read(self, size: int = -1, /) -> bytes:
        """Its end counts only when all was read, and the program ended well."""
        data = self._stdout.read(CHUNK if size < 0 else size)
        if not data and size:
            self._feeder.join()
            if self._error is not None:
                raise self._error
            if self._process.wait():
                raise StoreError(f"{self._name} is damaged, or cut short")
        return data

    def close(self) -> None:
        """The program gets SIGPIPE when somebody lost interest; the stream is its owner's again."""
        self._stdout.close()
        self._feeder.join()
        self._process.wait()
