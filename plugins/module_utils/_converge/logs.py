# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container has said: the log driver's store, read from its end."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import BinaryIO, Optional

from .._errors import DependencyError, NotFoundError, StateError
from .._paths import Paths
from . import store

_BLOCK = 64 * 1024


def read(paths: Paths, name: str, tail: Optional[int]) -> str:
    """The last ``tail`` lines, or all there are."""
    spec = store.read_spec(paths, "containers", name)
    if spec is None:
        raise NotFoundError("container", name)
    driver = spec.get("log_driver") or "file"
    if driver == "none":
        raise StateError(f"container {name} keeps no log", hint="its log_driver is none")
    if driver == "journald":
        return _journal(f"{paths.prefix}-{name}", tail)
    data = _from_end(paths.log(name), tail) if tail is not None else b"".join(_all(paths.log(name)))
    return data.decode("utf-8", "replace")


def files(path: str) -> list[str]:
    """The log and what rotation made of it, the newest first."""
    found, number = [path], 1
    while os.path.exists(f"{path}.{number}"):
        found.append(f"{path}.{number}")
        number += 1
    return [file for file in found if os.path.exists(file)]


def _all(path: str) -> Iterator[bytes]:
    for file in reversed(files(path)):
        with _open(file) as stream:
            yield stream.read()


def _open(path: str) -> BinaryIO:
    return open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")


def _from_end(path: str, tail: int) -> bytes:
    """Blocks from the end until there are lines enough."""
    blocks: list[bytes] = []
    ends = 0
    for file in files(path):
        with _open(file) as stream:
            position = stream.seek(0, os.SEEK_END)
            while position > 0 and ends <= tail:
                length = min(_BLOCK, position)
                position -= length
                stream.seek(position)
                blocks.append(stream.read(length))
                ends += blocks[-1].count(b"\n")
        if ends > tail:
            break
    lines = b"".join(reversed(blocks)).splitlines(keepends=True)
    return b"".join(lines[-tail:]) if tail else b""


def _journal(tag: str, tail: Optional[int]) -> str:
    program = shutil.which("journalctl")
    if program is None:
        raise DependencyError("the program journalctl is missing", hint="install systemd, or use log_driver: file")
    command = [program, "--no-pager", "--output=cat", f"--identifier={tag}"]
    command += [f"--lines={tail}"] if tail is not None else []
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise StateError(f"journalctl: {done.stderr.strip() or done.returncode}")
    return done.stdout
