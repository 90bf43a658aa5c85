# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A layer's tar into overlayfs's own form (image-spec, layer.md). The tar is hostile: nothing leaves the layer.

Deleted files are 0/0 character devices, directories that hide what is below them have trusted.overlay.opaque=y.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from typing import Optional

from .._errors import KernelError, StoreError
from .ahead import ahead
from .attributes import mode, owner, set_xattrs, times, xattrs
from .headers import Recorder
from .member import stretches
from .tarstream import Forward, Hashed, Readable, members, refuse_size
from .tree import OPAQUE, OVERLAY, WHITEOUT, Path, Tree, encode, is_whiteout, parts, proc, set_opaque

# Other names that begin so are the bookkeeping of aufs.
_AUFS = ".wh..wh."
_CREATE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
# File systems give space out in pages; to ask each file what it has takes longer than to count.
_PAGE = 4096

# Of a directory: uid, gid, mode, mtime in nanoseconds, xattrs.
_Directory = tuple[int, int, int, int, tuple[tuple[str, bytes], ...]]

REFUSE, SKIP, MAKE = "refuse", "skip", "make"


def unpack(
    stream: Readable,
    destination: str,
    *,
    expected: str = "",
    limit: int = 0,
    devices: str = REFUSE,
    headers: str = "",
    skipped: Optional[list[str]] = None,
) -> tuple[str, int]:
    """Unpack an uncompressed tar into an empty directory: (diff_id, bytes of its files on the disk).

    ``expected`` is the diff_id it must have; ``limit`` the most bytes that it may come to, 0 for any number;
    ``devices`` says what becomes of device nodes: REFUSE, SKIP or MAKE; ``skipped`` gets the name of the first that was
    left out. What was unpacked when it fails stays there: the caller throws the directory away.

    ``headers`` is a file that is made of what replay() needs to give the same tar back; there is none afterwards where
    a later entry replaced a file with content or a directory, or where more than 1 MiB is no file's.
    """
    with contextlib.ExitStack() as stack:
        # Hashed here and not by the reader: inflating is what takes longest.
        hashed = Hashed(stack.enter_context(ahead(stream)))
        tree = stack.enter_context(contextlib.closing(Tree(destination)))
        recorder = stack.enter_context(contextlib.closing(Recorder(headers))) if headers else None
        stack.enter_context(_umask(0))
        source = Forward(hashed, limit, recorder)
        unpacker = _Unpacker(tree, source, limit, devices, recorder, skipped)
        for member in members(source, marked=not expected):
            unpacker.member(member)
        unpacker.finish()
        source.drain()
        if recorder and not (recorder.finish() and not tree.lost):
            os.unlink(headers)
    if expected and hashed.digest() != expected:
        raise StoreError(f"the layer has the digest {hashed.digest()}, and it should have {expected}")
    return hashed.digest(), unpacker.disk


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _depth(path: str) -> int:
    return path.count("/") + 1 if path else 0


class _Unpacker:
    def __init__(
        self,
        tree: Tree,
        source: Forward,
        limit: int,
        devices: str,
        recorder: Optional[Recorder],
        skipped: Optional[list[str]],
    ) -> None:
        self.tree = tree
        self.source = source
        self.limit = limit
        self.devices = devices
        self.recorder = recorder
        self.skipped = skipped
        self.born = tree.owner()
        self.size = 0  # as the files say, with their holes
        self.disk = 0
        # What a directory is to be is set at the end: every entry made in it changes its time, and inherits its ACL.
        # A layer may have a million: by path, as few objects as will do.
        self.directories: dict[str, _Directory] = {}

    def member(self, member: tarfile.TarInfo) -> None:
        path = parts(member.name)
        try:
            if not path:
                self._top(member)
            elif path[-1] == OPAQUE:
                os.setxattr(self.tree.directory_of(path, member.name), f"{OVERLAY}opaque", b"y")
            elif path[-1].startswith(WHITEOUT):
                self._whiteout(path, member.name)
            else:
                self._entry(member, path)
        except OSError as error:
            raise KernelError("unpack", member.name, error.errno or 0) from None
        except (OverflowError, ValueError):
            raise StoreError(f"the layer's entry {member.name!r} has a time or a target that can't be") from None

    def _top(self, member: tarfile.TarInfo) -> None:
        if not member.isdir():
            raise StoreError(f"the layer's entry {member.name!r} would replace the layer's top")
        self._later(member, ())

    # what is not there
    def _whiteout(self, path: Path, name: str) -> None:
        """It hides what is in the layers below; what this layer has of that name stays, in whichever order."""
        if path[-1].startswith(_AUFS):
            return
        hidden = path[-1][len(WHITEOUT) :]
        if hidden in ("", ".", ".."):
            raise StoreError(f"the layer's whiteout {name!r} names no file")
        parent = self.tree.directory_of(path, name)
        try:
            os.mknod(encode(hidden), stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(encode(hidden), dir_fd=parent).st_mode):
                set_opaque(parent, hidden)

    # what is there
    def _entry(self, member: tarfile.TarInfo, path: Path) -> None:
        if member.isreg():
            self._file(member, path)
        elif member.isdir():
            self._directory(member, path)
        elif member.islnk():
            self._hardlink(member, path)
        elif member.ischr() or member.isblk():
            self._device(member, path)
        elif member.issym():
            self._make(member, path, lambda parent, name: os.symlink(encode(member.linkname), name, dir_fd=parent))
            self._metadata(member, path)
        elif member.isfifo():
            self._make(member, path, lambda parent, name: os.mkfifo(name, mode(member), dir_fd=parent))
            self._metadata(member, path)
        else:
            raise StoreError(f"the layer's entry {member.name!r} is of an unknown kind {member.type!r}")

    def _make(self, member: tarfile.TarInfo, path: Path, make: Callable[[int, bytes], None]) -> None:
        """``make`` a name in a directory, which takes the place of what has the name."""
        try:
            make(self.tree.directory_of(path, member.name), encode(path[-1]))
        except FileExistsError:
            make(self.tree.clear(path, member.name), encode(path[-1]))

    def _directory(self, member: tarfile.TarInfo, path: Path) -> None:
        parent, name = self.tree.directory_of(path, member.name), path[-1]
        try:
            os.mkdir(encode(name), 0o755, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(encode(name), dir_fd=parent).st_mode):
                self.tree.mkdir(parent, name)
        self._later(member, path)

    def _later(self, member: tarfile.TarInfo, path: Path) -> None:
        self.directories["/".join(path)] = (*owner(member), mode(member), times(member)[0], tuple(xattrs(member)))

    def _file(self, member: tarfile.TarInfo, path: Path) -> None:
        self.size += member.size
        if self.limit and self.size > self.limit:
            refuse_size("the archive", self.limit)
        name, permissions = encode(path[-1]), mode(member) & 0o777
        try:
            fd = os.open(name, _CREATE, permissions, dir_fd=self.tree.directory_of(path, member.name))
        except FileExistsError:
            fd = os.open(name, _CREATE, permissions, dir_fd=self.tree.clear(path, member.name))
        try:
            self._content(fd, member, path)
            self._owner_and_mode(fd, member)
            set_xattrs(fd, xattrs(member))
            os.utime(fd, ns=times(member))
        finally:
            os.close(fd)

    def _owner_and_mode(self, fd: int, member: tarfile.TarInfo) -> None:
        """What it was not made with. The order matters: chown takes setuid and file capabilities away."""
        if owner(member) != self.born:
            os.fchown(fd, *owner(member))
        if mode(member) & 0o7000:
            os.fchmod(fd, mode(member))

    def _content(self, fd: int, member: tarfile.TarInfo, path: Path) -> None:
        end = 0
        for offset, length in stretches(member):
            if self.recorder and length:
                self.recorder.content("/".join(path), offset, length)
            if offset != end:
                os.lseek(fd, offset, os.SEEK_SET)
            for data in self.source.chunks(length):
                written = os.write(fd, data)
                while written < len(data):
                    written += os.write(fd, data[written:])
            end = offset + length
            self.disk += -(-end // _PAGE) * _PAGE - offset // _PAGE * _PAGE
        if end != member.size:
            os.ftruncate(fd, member.size)

    def _hardlink(self, member: tarfile.TarInfo, path: Path) -> None:
        target = parts(member.linkname.lstrip("/"))  # some write them as seen from the container's root
        if target == path:
            return
        where = self.tree.find(target[:-1])
        if where < 0:
            raise self._no_target(member)
        try:
            info = os.lstat(encode(target[-1]), dir_fd=where) if target else None
            if info is None or stat.S_ISDIR(info.st_mode) or is_whiteout(info):
                raise self._no_target(member)

            def link(parent: int, name: bytes) -> None:
                os.link(encode(target[-1]), name, src_dir_fd=where, dst_dir_fd=parent, follow_symlinks=False)

            self._make(member, path, link)
        except FileNotFoundError:
            raise self._no_target(member) from None
        finally:
            os.close(where)

    @staticmethod
    def _no_target(member: tarfile.TarInfo) -> StoreError:
        return StoreError(f"the layer's hard link {member.name!r} leads to {member.linkname!r}, which is no file in it")

    def _device(self, member: tarfile.TarInfo, path: Path) -> None:
        if self.devices == SKIP:
            if self.skipped == []:
                self.skipped.append(member.name)
            return
        if self.devices == REFUSE or not (member.devmajor or member.devminor):
            hint = "device_nodes: skip leaves it out, make makes it; containers get devices by their option devices"
            raise StoreError(f"the layer holds the device {member.name!r}", hint=hint)
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        device = os.makedev(member.devmajor, member.devminor)
        self._make(member, path, lambda parent, name: os.mknod(name, kind | mode(member), device, dir_fd=parent))
        self._metadata(member, path)

    def _metadata(self, member: tarfile.TarInfo, path: Path) -> None:
        """Of what can't be opened. The order matters here too."""
        parent, name = self.tree.directory_of(path, member.name), encode(path[-1])
        if owner(member) != self.born:
            os.chown(name, *owner(member), dir_fd=parent, follow_symlinks=False)
        if not member.issym() and mode(member) & 0o7000:
            os.chmod(name, mode(member), dir_fd=parent)
        set_xattrs(proc(parent, path[-1]), xattrs(member))
        os.utime(name, ns=times(member), dir_fd=parent, follow_symlinks=False)

    def finish(self) -> None:
        """Directories, the deepest first."""
        for path in sorted(self.directories, key=_depth, reverse=True):
            uid, gid, permissions, time, extended = self.directories[path]
            fd = self.tree.find(parts(path))
            if fd < 0:
                continue  # a later entry replaced it
            try:
                os.fchown(fd, uid, gid)
                os.fchmod(fd, permissions)
                set_xattrs(fd, extended)
                os.utime(fd, ns=(time, time))
            except OverflowError:
                raise StoreError(f"the layer's entry {path!r} has a time that can't be") from None
            except OSError as error:
                raise KernelError("unpack", path, error.errno or 0) from None
            finally:
                os.close(fd)
