# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory in overlayfs's own form as a layer's tar (image-spec, layer.md) in which nothing depends on when or in
which order it was written: the same content is the same digest.

tar(5)'s ustar, with PAX records for what that has no room for.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import struct
from collections.abc import Collection, Iterator
from typing import Optional, Protocol, Union

from .._errors import StoreError
from .attributes import XATTR
from .tree import OPAQUE, OVERLAY, WHITEOUT, is_whiteout, proc

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_BLOCK = 512
_CHUNK = 1 << 20
# Holes of less are written as zeros: reading them is cheaper than describing them.
_HOLES_MIN = 1 << 20
_OCTAL7 = 0o7777777
_OCTAL11 = 0o77777777777
# Labels are the host's, not the image's; overlayfs's own are whiteouts and opaque marks, which a tar spells as files.
_NOT_PACKED = (OVERLAY, "security.selinux", "security.ima", "security.evm")
# With these a layer holds a part of a file only, or is not where its name is.
_UNFINISHED = (f"{OVERLAY}metacopy", f"{OVERLAY}redirect")


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What a name leads to when it has become something else.
_CHANGED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL)


class _Gone(Exception):
    """What was to be packed is not there any more."""


class Writable(Protocol):
    """All that is asked of what a tar is written to."""

    def write(self, data: bytes, /) -> object: ...


class Digesting:
    """Written to it is hashed and counted, and goes on to ``out`` where there is one."""

    def __init__(self, out: Optional[Writable] = None) -> None:
        self._out = out
        self._hash = hashlib.sha256()
        self.length = 0

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self.length += len(data)
        if self._out is not None:
            self._out.write(data)

    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def measure(directory: str) -> tuple[str, int]:
    """(diff_id, bytes of its files on the disk) of the directory as a layer."""
    out = Digesting()
    disk = pack(directory, out)
    return out.digest(), disk


def pack(
    directory: str, out: Writable, *, empty: Collection[str] = (), devices: bool = True, busy: bool = False
) -> int:
    """Write the directory as a tar; the bytes of its files on the disk.

    Of the directories in ``empty`` (paths from the top), and of those where another file system is mounted, only the
    directory itself is written. Device nodes are left out without ``devices``. A ``busy`` directory may be changed
    meanwhile, by somebody hostile too: what has gone when it is its turn is left out, and where a file was cut off
    while it was read there are zeros.
    """
    packer = _Packer(out, {os.fsencode(path) for path in empty}, devices, busy)
    packer.top(directory)
    out.write(bytes(2 * _BLOCK))
    return packer.disk


class _Packer:
    """No path of more than one part is opened: another part may have become a symlink since it was looked at."""

    def __init__(self, out: Writable, empty: Collection[bytes], devices: bool, busy: bool) -> None:
        self.out = out
        self.empty = empty
        self.busy = busy
        self.skipped = {stat.S_IFSOCK} if devices else {stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK}
        self.device = -1
        self.disk = 0
        self.links: dict[int, bytes] = {}

    def top(self, directory: str) -> None:
        fd = os.open(directory, _DIRECTORY & ~os.O_NOFOLLOW)
        try:
            self.device = os.fstat(fd).st_dev
            self._directory(fd, b"")
        finally:
            os.close(fd)

    def _directory(self, fd: int, path: bytes) -> None:
        """The directory with all that is in it; ``path`` is empty for the top."""
        info = os.fstat(fd)
        self.out.write(header(path + b"/" if path else b"./", info, b"5", xattrs=_xattrs(fd, path)))
        if info.st_dev != self.device or path in self.empty:
            return
        if path and _opaque(fd):
            self._mark(b"%s/%s" % (path, OPAQUE.encode()))
        with os.scandir(fd) as entries:
            found = sorted(((os.fsencode(entry.name), entry) for entry in entries), key=lambda item: item[0])
        for name, entry in found:
            below = b"%s/%s" % (path, name) if path else name
            try:
                with self._as_it_was():
                    info = entry.stat(follow_symlinks=False)
                self._entry(fd, name, below, info)
            except _Gone:
                self.links = {number: first for number, first in self.links.items() if first != below}

    def _entry(self, parent: int, name: bytes, path: bytes, info: os.stat_result) -> None:
        kind = stat.S_IFMT(info.st_mode)
        if name.startswith(WHITEOUT.encode()):
            raise StoreError(f"{os.fsdecode(path)} can't be in an image: names that begin with .wh. mark deletions")
        if kind == stat.S_IFDIR:
            fd = self._open(parent, name, _DIRECTORY)
            try:
                self._directory(fd, path)
            finally:
                os.close(fd)
        elif is_whiteout(info):
            self._mark(b"%s%s%s" % (path[: len(path) - len(name)], WHITEOUT.encode(), name))
        elif kind not in self.skipped:  # a tar has no sockets: their listeners make them
            self._node(parent, name, path, info, kind)

    def _mark(self, path: bytes) -> None:
        self.out.write(header(path, None, b"0"))

    def _node(self, parent: int, name: bytes, path: bytes, info: os.stat_result, kind: int) -> None:
        if info.st_nlink > 1:
            first = self.links.setdefault(info.st_ino, path)
            if first != path:
                self.out.write(header(path, info, b"1", link=first))
                return
        if kind == stat.S_IFREG:
            self._file(parent, name, path)
            return
        link, flag = b"", {stat.S_IFLNK: b"2", stat.S_IFCHR: b"3", stat.S_IFBLK: b"4", stat.S_IFIFO: b"6"}[kind]
        with self._as_it_was():
            if kind == stat.S_IFLNK:
                link = os.readlink(name, dir_fd=parent)
            xattrs = _xattrs(proc(parent, os.fsdecode(name)), path)
        self.out.write(header(path, info, flag, link=link, xattrs=xattrs))

    def _open(self, parent: int, name: bytes, flags: int) -> int:
        with self._as_it_was():
            if not self.busy or flags & os.O_DIRECTORY:
                return os.open(name, flags, dir_fd=parent)
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:  # who opens a FIFO waits, and a device does what devices do
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise _Gone
                return os.open(f"/proc/self/fd/{fd}", flags & ~os.O_NOFOLLOW)
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def _as_it_was(self) -> Iterator[None]:
        """Within, errors of what is not there any more, or is something else, are _Gone where that is no wonder."""
        try:
            yield
        except OSError as error:
            if self.busy and error.errno in _CHANGED:
                raise _Gone from None
            raise

    def _file(self, parent: int, name: bytes, path: bytes) -> None:
        fd = self._open(parent, name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            info = os.fstat(fd)
            self.disk += info.st_blocks * 512
            xattrs = _xattrs(fd, path)
            if info.st_size - info.st_blocks * 512 >= _HOLES_MIN:
                self._sparse(fd, path, info, xattrs)
                return
            self.out.write(header(path, info, b"0", size=info.st_size, xattrs=xattrs))
            self._content(fd, 0, info.st_size, path)
            self._pad(info.st_size)
        finally:
            os.close(fd)

    def _content(self, fd: int, offset: int, length: int, path: bytes) -> None:
        while length:
            data = os.pread(fd, min(length, _CHUNK), offset)
            if not data and not self.busy:
                raise StoreError(f"{os.fsdecode(path)} became shorter while it was read")
            data = data or bytes(min(length, _CHUNK))
            self.out.write(data)
            offset += len(data)
            length -= len(data)

    def _pad(self, length: int) -> None:
        if length % _BLOCK:
            self.out.write(bytes(_BLOCK - length % _BLOCK))

    def _sparse(self, fd: int, path: bytes, info: os.stat_result, xattrs: dict[bytes, bytes]) -> None:
        """GNU tar's sparse format 1.0: a list of stretches before the content."""
        stretches = list(_stretches(fd, info.st_size))
        numbers = [len(stretches), *(number for stretch in stretches for number in stretch)]
        table = b"".join(b"%d\n" % number for number in numbers)
        table += bytes(-len(table) % _BLOCK)
        records = {
            b"GNU.sparse.major": b"1",
            b"GNU.sparse.minor": b"0",
            b"GNU.sparse.name": path,
            b"GNU.sparse.realsize": b"%d" % info.st_size,
        }
        head, dummy, last = path.rpartition(b"/")
        stored = b"%s/GNUSparseFile.0/%s" % (head, last) if head else b"GNUSparseFile.0/" + last
        size = len(table) + sum(length for dummy, length in stretches)
        self.out.write(header(stored, info, b"0", size=size, xattrs=xattrs, records=records))
        self.out.write(table)
        for offset, length in stretches:
            self._content(fd, offset, length, path)
        self._pad(size)


def _stretches(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Where data is; the last one ends where the file does, as GNU tar has it."""
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
            if start >= size:
                break  # it has grown since
            end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        yield start, end - start
    if end != size:
        yield size, 0


def header(
    path: bytes,
    info: Optional[os.stat_result],
    flag: bytes,
    *,
    size: int = 0,
    link: bytes = b"",
    xattrs: Optional[dict[bytes, bytes]] = None,
    records: Optional[dict[bytes, bytes]] = None,
) -> bytes:
    """An entry's header, with a PAX header before it where ustar is too small; without ``info`` it is root's."""
    uid, gid, mtime = (info.st_uid, info.st_gid, int(info.st_mtime)) if info else (0, 0, 0)
    pax = dict(records or {})
    for key, value, room in ((b"path", path, 100), (b"linkpath", link, 100)):
        if len(value) > room or not value.isascii():
            pax[key] = value
    for key, number, most in ((b"uid", uid, _OCTAL7), (b"gid", gid, _OCTAL7), (b"size", size, _OCTAL11)):
        if number > most:
            pax[key] = b"%d" % number
    if not 0 <= mtime <= _OCTAL11:
        pax[b"mtime"] = b"%d" % mtime
    for name, value in (xattrs or {}).items():
        pax[XATTR.encode() + name] = value
    device = (os.major(info.st_rdev), os.minor(info.st_rdev)) if info and flag in (b"3", b"4") else (0, 0)
    mode = stat.S_IMODE(info.st_mode) if info else 0o644
    plain = _ustar(path, mode, uid, gid, size, mtime, flag, link, device)
    return _pax(path, pax) + plain if pax else plain


def _pax(path: bytes, records: dict[bytes, bytes]) -> bytes:
    body = b"".join(_record(key, value) for key, value in sorted(records.items()))
    name = b"PaxHeaders.0/" + path.rstrip(b"/").rpartition(b"/")[2]
    return _ustar(name, 0o644, 0, 0, len(body), 0, b"x", b"", (0, 0)) + body + bytes(-len(body) % _BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    """Its length comes first, and counts itself."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest)
    while length != len(rest) + len(b"%d" % length):
        length = len(rest) + len(b"%d" % length)
    return b"%d%s" % (length, rest)


def _ustar(
    path: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, flag: bytes, link: bytes, device: tuple[int, int]
) -> bytes:
    block = _HEADER.pack(
        path[:100],
        b"%07o\0" % mode,
        b"%07o\0" % min(uid, _OCTAL7),
        b"%07o\0" % min(gid, _OCTAL7),
        b"%011o\0" % min(size, _OCTAL11),
        b"%011o\0" % min(max(mtime, 0), _OCTAL11),
        b"        ",
        flag,
        link[:100],
        b"ustar\x0000",
        b"",
        b"",
        b"%07o\0" % device[0],
        b"%07o\0" % device[1],
        b"",
    )
    return b"%s%06o\0 %s" % (block[:148], sum(block), block[156:])


def _xattrs(where: Union[int, bytes], path: bytes) -> dict[bytes, bytes]:
    """``where`` is a descriptor, or a path of whose last part no symlink is followed; ``path`` is for errors."""
    found = {}
    follow = isinstance(where, int)
    for name in os.listxattr(where, follow_symlinks=follow):
        if name in _UNFINISHED:
            hint = "mount the step's overlay with redirect_dir=off,metacopy=off"
            raise StoreError(f"{os.fsdecode(path)} is in parts in other layers", hint=hint)
        if not name.startswith(_NOT_PACKED):
            with _unless(errno.ENODATA):  # taken away meanwhile
                found[os.fsencode(name)] = os.getxattr(where, name, follow_symlinks=follow)
    return found


def _opaque(fd: int) -> bool:
    with _unless(errno.ENODATA, errno.ENOTSUP):
        return os.getxattr(fd, f"{OVERLAY}opaque") == b"y"
    return False


@contextlib.contextmanager
def _unless(*numbers: int) -> Iterator[None]:
    """Within, these errors are none."""
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise
