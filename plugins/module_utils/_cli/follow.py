# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vessel logs``: a container's log with what rotation made of it, and what is still to come."""

from __future__ import annotations

import itertools
import os
import sys
import time
from typing import Callable, Optional

from .._errors import NotFoundError, VesselError
from .._monitor.rotation import older_files
from .._paths import Paths
from . import show

PAUSE = 0.2
_BLOCK = 1 << 16


def logs(paths: Paths, name: str, lines: Optional[int], *, follow: bool) -> int:
    show.known(paths, name)
    log = show.read_json(f"{paths.bundle(name)}/monitor.json").get("log") or {}
    driver = log.get("driver") or show.spec(paths, name).get("log_driver") or "file"
    if driver == "journald":
        _journal(log.get("tag") or f"{paths.prefix}-{name}", lines, follow=follow)
    if driver == "none":
        raise VesselError(f"container {name} keeps no log", hint="its log_driver is none")
    path = log.get("path") or paths.log(name)
    if not os.path.exists(path):
        if os.path.exists(f"{paths.bundle(name)}/config.json"):
            return 0  # it has not been started yet
        raise NotFoundError("log", path)
    end = os.stat(path).st_size
    _write_out(path, end, lines)
    if follow:
        Follower(path, end).run(lambda: show.status(paths, name).get("pid"))
    return 0


def _journal(tag: str, lines: Optional[int], *, follow: bool) -> None:
    """journalctl takes our place."""
    command = ["journalctl", "--no-pager", "--output=cat", f"--identifier={tag}"]
    command += [f"--lines={lines}"] if lines is not None else []
    command += ["--follow"] if follow else []
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        raise VesselError("the program journalctl is missing on this host") from None


def _write_out(path: str, end: int, lines: Optional[int]) -> None:
    """All files, oldest first; of the current one up to ``end``, where following goes on."""
    files = [(file, os.stat(file).st_size) for file in older_files(path)] + [(path, end)]
    start = (0, 0) if lines is None else _from_end(files, lines)
    for index, (file, length) in enumerate(files):
        if index >= start[0]:
            copy(file, start[1] if index == start[0] else 0, length)


def _from_end(files: list[tuple[str, int]], lines: int) -> tuple[int, int]:
    """(index of the file, offset in it) at which the last lines begin."""
    if lines <= 0:
        return len(files), 0
    left = lines
    first = True
    for index in range(len(files) - 1, -1, -1):
        file, position = files[index]
        with open(file, "rb") as stream:
            while position > 0:
                length = min(_BLOCK, position)
                position -= length
                stream.seek(position)
                block = stream.read(length)
                if first and block.endswith(b"\n"):
                    left += 1  # the end of the last line begins no other
                first = False
                place = _nth_newline_from_end(block, left)
                if place >= 0:
                    return index, position + place + 1
                left -= block.count(b"\n")
    return 0, 0


def _nth_newline_from_end(block: bytes, count: int) -> int:
    place = len(block)
    for dummy in range(count):
        place = block.rfind(b"\n", 0, place)
        if place < 0:
            return -1
    return place


def copy(source: str | int, start: int, end: int) -> int:
    """From a path or a descriptor to stdout; how far it came."""
    with open(source, "rb", closefd=isinstance(source, str)) as file:
        file.seek(start)
        while start < end:
            data = file.read(min(_BLOCK, end - start))
            if not data:
                break
            sys.stdout.buffer.write(data)
            start += len(data)
    sys.stdout.buffer.flush()
    return start


class Follower:
    """The file's growth. Rotation takes its head off: what was the head is then the file beside it, path.1."""

    def __init__(self, path: str, position: int) -> None:
        self._path = path
        self._position = position
        self._last = -1  # the newest of the older files; it stays open, so that no other can get its inode
        self._remember(self._newer())

    def run(self, lives: Callable[[], object]) -> None:
        """Until the container has ended and all it said is told."""
        while True:
            going = bool(lives())
            if not self.step() and not going:
                return
            time.sleep(PAUSE)

    def step(self) -> bool:
        """Tell what is new; was there any?"""
        before = self._position
        newer = self._newer()
        for fd in newer:
            self._skip_head(fd)
        self._remember(newer)
        length = os.stat(self._path).st_size
        if length < self._position:
            self._position = 0  # rotated with no file kept
        if length > self._position:
            self._position = copy(self._path, self._position, length)
        return self._position != before

    def _newer(self) -> list[int]:
        """Descriptors of the older files that rotation has made since the last look, the oldest first."""
        found: list[int] = []
        for number in itertools.count(1):
            try:
                fd = os.open(f"{self._path}.{number}", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                break
            if _same(fd, self._last):
                os.close(fd)
                break
            if found and _same(fd, found[-1]):
                os.close(fd)  # all have got the next number meanwhile
            else:
                found.append(fd)
        return found[::-1]

    def _remember(self, newer: list[int]) -> None:
        if newer:
            for fd in filter(lambda fd: fd >= 0, [self._last, *newer[:-1]]):
                os.close(fd)
            self._last = newer[-1]

    def _skip_head(self, fd: int) -> None:
        head = os.fstat(fd).st_size
        if self._position < head:
            copy(fd, self._position, head)
        self._position = max(0, self._position - head)


def _same(one: int, other: int) -> bool:
    return other >= 0 and os.path.samestat(os.fstat(one), os.fstat(other))
