# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lease on storage that several hosts have mounted, as files on the storage itself.

In ``.vessel-lease`` at its top is a file a lease, named by a number; the highest counts. To take a lease is to make the
next number, which O_EXCL gives to one alone, however late the others come. A holder writes to its own file and to no
other: one that was held up and wakes too late writes to a file that nobody reads any more. No clock is compared with
another's: who waits sees by its own for how long the file has stayed the same. Each look opens the file anew, for that
is when a network's file system asks its server (close-to-open, nfs(5)).

Root in the container may put anything there, and what is done here is done by the host's: no symlink is followed, and
what is no file is not opened.

All of this may hang with the server, so it is for errands.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

from .._kernel.file import write_all

DIRECTORY = ".vessel-lease"
# Seconds: the shortest that is of use, and what counts where a file does not say.
SHORTEST, DEFAULT = 3.0, 30.0
_LONGEST = 3600.0
_LENGTH = 512  # of a file, always the same: no reader finds half of an older one behind a newer
_TRIES = 8
Record = dict[str, Any]


class Seen(NamedTuple):
    """The lease that counts. ``text`` is the file: another text is a sign of life."""

    number: int
    text: str

    @property
    def record(self) -> Record:
        """Empty while its holder has not written it yet."""
        with contextlib.suppress(ValueError):
            found = json.loads(self.text)
            return found if isinstance(found, dict) else {}
        return {}

    @property
    def released(self) -> bool:
        return bool(self.record.get("released"))

    @property
    def nonce(self) -> str:
        return self.word("nonce")

    def word(self, key: str) -> str:
        """What the file says of it, where that can be shown."""
        value = self.record.get(key)
        return value if isinstance(value, str) and value.isprintable() else "?"

    @property
    def duration(self) -> float:
        """For how long it lasts unrenewed, as its holder has it."""
        value = self.record.get("duration")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return DEFAULT
        return float(min(_LONGEST, max(SHORTEST, value)))  # in this order, for JSON's NaN is neither


def nonce() -> str:
    """By which a holder knows its own lease."""
    return os.urandom(16).hex()


def look(top: str) -> Optional[Seen]:
    for dummy in range(_TRIES):
        try:
            with _opened(top) as directory:
                number = _highest(directory)
                return Seen(number, _read(directory, number)) if number else None
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise  # else a newer one has been made, and this one taken away; or there is none
    return None


def claim(top: str, after: int, record: Record) -> bool:
    """Make the lease that follows ``after``; False when another one did."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(f"{top}/{DIRECTORY}", 0o700)
    with _opened(top) as directory:
        return _claim(directory, after + 1, record)


def _claim(directory: int, number: int, record: Record) -> bool:
    try:
        fd = _open(directory, number, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return False
    try:
        _write(fd, record)
    except OSError:
        _unlink(directory, number)
        raise
    finally:
        os.close(fd)
    # Whoever was held up before this may find that the numbers have gone on, and this one is free again.
    if _highest(directory) != number:
        _unlink(directory, number)
        return False
    for other in _numbers(directory):
        if other < number:
            _unlink(directory, other)
    return True


def renew(top: str, number: int, record: Record) -> bool:
    """Show that its holder is alive; False when the lease is not that holder's any more."""
    try:
        with _opened(top) as directory:
            return _is_file(directory, number) and _renew(directory, number, record)
    except FileNotFoundError:
        return False


def _renew(directory: int, number: int, record: Record) -> bool:
    fd = _open(directory, number, os.O_RDWR)
    try:
        held = Seen(number, os.pread(fd, _LENGTH, 0).decode(errors="replace"))
        if held.nonce != record["nonce"] or _highest(directory) != number:
            return False
        _write(fd, record)
        return True
    finally:
        os.close(fd)


def release(top: str, number: int, record: Record) -> bool:
    """Say that it is over. The file stays: to remove it might be to remove a successor's."""
    return renew(top, number, {**record, "released": True})


def revoke(top: str, number: int, record: Record) -> bool:
    """Take it from whoever has it, and have it not."""
    return claim(top, number, {**record, "released": True})


def _write(fd: int, record: Record) -> None:
    os.lseek(fd, 0, os.SEEK_SET)
    write_all(fd, json.dumps(record, sort_keys=True).ljust(_LENGTH).encode())
    os.fsync(fd)


def _read(directory: int, number: int) -> str:
    """Nothing of what is no file: it expires as a lease that nobody renews."""
    if not _is_file(directory, number):
        return ""
    fd = _open(directory, number, os.O_RDONLY)
    try:
        return os.read(fd, _LENGTH).decode(errors="replace")
    finally:
        os.close(fd)


@contextlib.contextmanager
def _opened(top: str) -> Iterator[int]:
    """The directory of the leases. Errors have the whole path."""
    path = f"{top}/{DIRECTORY}"
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield directory
        finally:
            os.close(directory)
    except OSError as error:
        number = error.filename if str(error.filename).isdecimal() and isinstance(error.filename, str) else ""
        raise OSError(error.errno, error.strerror, f"{path}/{number}".rstrip("/")) from None


def _is_file(directory: int, number: int) -> bool:
    return stat.S_ISREG(os.stat(str(number), dir_fd=directory, follow_symlinks=False).st_mode)


def _open(directory: int, number: int, flags: int) -> int:
    # Not to wait for the other end of a FIFO that came into its place.
    more = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    return os.open(str(number), flags | more, 0o600, dir_fd=directory)


def _unlink(directory: int, number: int) -> None:
    """What can't go, such as a directory, counts for nothing where a higher number is."""
    with contextlib.suppress(OSError):
        os.unlink(str(number), dir_fd=directory)


def _numbers(directory: int) -> list[int]:
    """Names as we make them: another one of the same number would be no file of ours."""
    names = [name for name in os.listdir(directory) if name.isascii() and name.isdecimal()]
    return [int(name) for name in names if not name.startswith("0")]


def _highest(directory: int) -> int:
    return max(_numbers(directory), default=0)
