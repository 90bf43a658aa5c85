# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A layer's tar into overlayfs's own form (image-spec, layer.md). The tar is hostile: nothing leaves the layer.

Deleted files are 0/0 character devices, directories that hide what is below them have trusted.overlay.opaque=y.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile

from .._errors import KernelError, StoreError
from .._kernel.file import remove_tree
from .._kernel.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from .tarstream import Forward, Readable, members, mtime_ns, refuse_size, stretches

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
# Other names that begin so are the bookkeeping of aufs.
_AUFS = ".wh..wh."
OVERLAY = "trusted.overlay."
XATTR = "SCHILY.xattr."
# What may be set of a tar's xattrs. Labels and hashes (security.selinux, security.ima) are the host's business.
_XATTRS = ("user.", "trusted.", "security.capability", "system.posix_acl_access", "system.posix_acl_default")
_PATH_MAX = 4095
_DEPTH_MAX = 256
_ID_MAX = 2**32 - 2
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_BELOW = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_NO_DIRECTORY = (errno.ENOTDIR, errno.ELOOP)

REFUSE, SKIP, MAKE = "refuse", "skip", "make"


def unpack(
    stream: Readable, destination: str, *, expected: str = "", limit: int = 0, devices: str = REFUSE
) -> tuple[str, int]:
    """Unpack an uncompressed tar into an empty directory: (diff_id, bytes of its files on the disk).

    ``expected`` is the diff_id it must have; ``limit`` the most bytes that it may come to, 0 for any number;
    ``devices`` says what becomes of device nodes: REFUSE, SKIP or MAKE. What was unpacked when it fails stays there:
    the caller throws the directory away.
    """
    source = Forward(stream, limit)
    root = os.open(destination, _DIRECTORY | os.O_CLOEXEC)
    unpacker = _Unpacker(source, root, limit, devices)
    try:
        for member in members(source, marked=not expected):
            unpacker.member(member)
        unpacker.finish()
        source.drain()
    finally:
        unpacker.close()
        os.close(root)
    if expected and source.digest() != expected:
        raise StoreError(f"the layer has the digest {source.digest()}, and it should have {expected}")
    return source.digest(), unpacker.disk


def is_whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


class _Unpacker:
    def __init__(self, source: Forward, root: int, limit: int, devices: str) -> None:
        self.source = source
        self.root = root
        self.limit = limit
        self.devices = devices
        self.size = 0  # as the files say, with their holes
        self.disk = 0
        # What a directory is to be is set at the end: every entry made in it changes its time, and inherits its ACL.
        self.directories: dict[tuple[str, ...], tarfile.TarInfo] = {}
        # Entries of one directory follow one another.
        self.parent: tuple[str, ...] = ()
        self.parent_fd = os.dup(root)

    def close(self) -> None:
        os.close(self.parent_fd)

    def member(self, member: tarfile.TarInfo) -> None:
        path = parts(member.name)
        try:
            if not path:
                self._top(member)
            elif path[-1] == OPAQUE:
                self._opaque(self._directory_of(path, member.name))
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
        self.directories[()] = member

    # where
    def _directory_of(self, path: tuple[str, ...], name: str) -> int:
        """The entry's directory, reached without following any symlink: that is how a tar gets out."""
        parent = path[:-1]
        if parent != self.parent:
            fd = self._open(parent, name)
            os.close(self.parent_fd)
            self.parent, self.parent_fd = parent, fd
        return self.parent_fd

    def _open(self, path: tuple[str, ...], name: str) -> int:
        try:
            return openat2(self.root, "/".join(path) or ".", _DIRECTORY, resolve=_BELOW)
        except KernelError as error:
            if error.errno not in (errno.ENOENT, *_NO_DIRECTORY):
                raise
        fd = os.dup(self.root)
        for part in path:
            try:
                step = self._step(fd, part, name)
            finally:
                os.close(fd)
            fd = step
        return fd

    def _step(self, fd: int, part: str, name: str) -> int:
        """One directory further; one that the tar does not have is made, as root's."""
        try:
            return openat2(fd, part, _DIRECTORY, resolve=_BELOW)
        except KernelError as error:
            if error.errno in _NO_DIRECTORY and not is_whiteout(os.lstat(_encode(part), dir_fd=fd)):
                raise StoreError(f"the layer's entry {name!r} leads through {part!r}, which is no directory") from None
            if error.errno not in (errno.ENOENT, *_NO_DIRECTORY):
                raise
        self._mkdir(fd, part)
        step = openat2(fd, part, _DIRECTORY, resolve=_BELOW)
        os.fchown(step, 0, 0)
        os.fchmod(step, 0o755)
        return step

    def _mkdir(self, parent: int, name: str) -> None:
        """What has the name goes; it hid what is below, so that the directory has to."""
        replaced = self._clear(parent, name)
        os.mkdir(_encode(name), 0o755, dir_fd=parent)
        if replaced:
            os.setxattr(_proc(parent, name), f"{OVERLAY}opaque", b"y", follow_symlinks=False)

    def _clear(self, parent: int, name: str) -> bool:
        """Of two entries with one name the later counts. Was there one?"""
        try:
            os.unlink(_encode(name), dir_fd=parent)
        except FileNotFoundError:
            return False
        except (IsADirectoryError, PermissionError):
            remove_tree(os.path.join(os.readlink(f"/proc/self/fd/{parent}"), name))
            self._forget_parent()
        return True

    def _forget_parent(self) -> None:
        """It may be below what was removed."""
        os.close(self.parent_fd)
        self.parent, self.parent_fd = (), os.dup(self.root)

    # what is not there
    def _opaque(self, fd: int) -> None:
        os.setxattr(fd, f"{OVERLAY}opaque", b"y")

    def _whiteout(self, path: tuple[str, ...], name: str) -> None:
        """It hides what is in the layers below; what this layer has of that name stays, in whichever order."""
        if path[-1].startswith(_AUFS):
            return
        hidden = path[-1][len(WHITEOUT) :]
        if hidden in ("", ".", ".."):
            raise StoreError(f"the layer's whiteout {name!r} names no file")
        parent = self._directory_of(path, name)
        try:
            os.mknod(_encode(hidden), stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(_encode(hidden), dir_fd=parent).st_mode):
                os.setxattr(_proc(parent, hidden), f"{OVERLAY}opaque", b"y", follow_symlinks=False)

    # what is there
    def _entry(self, member: tarfile.TarInfo, path: tuple[str, ...]) -> None:
        parent, name = self._directory_of(path, member.name), path[-1]
        if member.isdir():
            self._directory(member, parent, path)
        elif member.islnk():
            self._hardlink(member, path)
        elif member.isreg():
            self._file(member, parent, name)
        elif member.ischr() or member.isblk():
            self._device(member, parent, name)
        elif member.issym() or member.isfifo():
            self._clear_for(parent, name, path)
            self._special(member, self._directory_of(path, member.name), name)
        else:
            raise StoreError(f"the layer's entry {member.name!r} is of an unknown kind {member.type!r}")

    def _clear_for(self, parent: int, name: str, path: tuple[str, ...]) -> int:
        self._clear(parent, name)
        return self._directory_of(path, name)

    def _directory(self, member: tarfile.TarInfo, parent: int, path: tuple[str, ...]) -> None:
        try:
            os.mkdir(_encode(path[-1]), 0o755, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(_encode(path[-1]), dir_fd=parent).st_mode):
                self._mkdir(parent, path[-1])
        self.directories.pop(path, None)
        self.directories[path] = member

    def _file(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        self.size += member.size
        if self.limit and self.size > self.limit:
            refuse_size(self.limit)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(_encode(name), flags, 0o600, dir_fd=parent)
        except FileExistsError:
            where = (*self.parent, name)
            fd = os.open(_encode(name), flags, 0o600, dir_fd=self._clear_for(parent, name, where))
        try:
            self._content(fd, member)
            os.fchown(fd, *_owner(member))
            os.fchmod(fd, member.mode & 0o7777)
            _set_xattrs(fd, member)
            os.utime(fd, ns=_times(member))
            self.disk += os.fstat(fd).st_blocks * 512
        finally:
            os.close(fd)

    def _content(self, fd: int, member: tarfile.TarInfo) -> None:
        end = 0
        for offset, length in stretches(member):
            if offset != end:
                os.lseek(fd, offset, os.SEEK_SET)
            for data in self.source.chunks(length):
                written = os.write(fd, data)
                while written < len(data):
                    written += os.write(fd, data[written:])
            end = offset + length
        if end != member.size:
            os.ftruncate(fd, member.size)

    def _hardlink(self, member: tarfile.TarInfo, path: tuple[str, ...]) -> None:
        target = parts(member.linkname.lstrip("/"))  # some write them as seen from the container's root
        if target == path:
            return
        try:
            where = openat2(self.root, "/".join(target[:-1]) or ".", _DIRECTORY, resolve=_BELOW)
        except KernelError:
            raise self._no_target(member) from None
        try:
            info = os.lstat(_encode(target[-1]), dir_fd=where) if target else None
            if info is None or stat.S_ISDIR(info.st_mode) or is_whiteout(info):
                raise self._no_target(member)
            parent = self._clear_for(self._directory_of(path, member.name), path[-1], path)
            link = _encode(target[-1]), _encode(path[-1])
            os.link(*link, src_dir_fd=where, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            raise self._no_target(member) from None
        finally:
            os.close(where)

    @staticmethod
    def _no_target(member: tarfile.TarInfo) -> StoreError:
        return StoreError(f"the layer's hard link {member.name!r} leads to {member.linkname!r}, which is no file in it")

    def _device(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        if self.devices == SKIP:
            return
        if self.devices == REFUSE or not (member.devmajor or member.devminor):
            hint = "give containers devices with the option devices"
            raise StoreError(f"the layer holds the device {member.name!r}", hint=hint)
        parent = self._clear_for(parent, name, (*self.parent, name))
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        os.mknod(_encode(name), kind | 0o600, os.makedev(member.devmajor, member.devminor), dir_fd=parent)
        self._metadata(member, parent, name)

    def _special(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        if member.issym():
            os.symlink(_encode(member.linkname), _encode(name), dir_fd=parent)
        else:
            os.mkfifo(_encode(name), 0o600, dir_fd=parent)
        self._metadata(member, parent, name)

    @staticmethod
    def _metadata(member: tarfile.TarInfo, parent: int, name: str) -> None:
        """The order matters: chown takes setuid and file capabilities away."""
        path = _encode(name)
        os.chown(path, *_owner(member), dir_fd=parent, follow_symlinks=False)
        if not member.issym():
            os.chmod(path, member.mode & 0o7777, dir_fd=parent)
        _set_xattrs(_proc(parent, name), member)
        os.utime(path, ns=_times(member), dir_fd=parent, follow_symlinks=False)

    def finish(self) -> None:
        """Directories, the deepest first."""
        for path, member in sorted(self.directories.items(), key=lambda item: -len(item[0])):
            try:
                fd = openat2(self.root, "/".join(path) or ".", _DIRECTORY, resolve=_BELOW)
            except KernelError as error:
                if error.errno in (errno.ENOENT, *_NO_DIRECTORY):
                    continue  # a later entry replaced it
                raise
            try:
                os.fchown(fd, *_owner(member))
                os.fchmod(fd, member.mode & 0o7777)
                _set_xattrs(fd, member)
                os.utime(fd, ns=_times(member))
            except OverflowError:
                raise StoreError(f"the layer's entry {member.name!r} has a time that can't be") from None
            finally:
                os.close(fd)


def parts(name: str) -> tuple[str, ...]:
    """A path below the layer, as its components; none for the layer's top. One that leads elsewhere is refused."""
    found = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in found:
        raise StoreError(f"the layer's entry {name!r} climbs out of the layer")
    if "\0" in name:
        raise StoreError(f"the layer's entry {name[:60]!r} has a NUL byte in its name")
    if name.startswith("/") and found:
        raise StoreError(f"the layer's entry {name!r} has an absolute name")
    if len(name) > _PATH_MAX or len(found) > _DEPTH_MAX:
        raise StoreError(f"the layer's entry {name[:60]!r}… has {len(name)} characters in {len(found)} parts")
    return found


def _encode(name: str) -> bytes:
    """File names are bytes, whatever the locale."""
    return name.encode("utf-8", "surrogateescape")


def _proc(parent: int, name: str) -> bytes:
    """xattr calls take no directory descriptor."""
    return b"/proc/self/fd/%d/%s" % (parent, _encode(name))


def _owner(member: tarfile.TarInfo) -> tuple[int, int]:
    if not 0 <= member.uid <= _ID_MAX or not 0 <= member.gid <= _ID_MAX:
        raise StoreError(f"the layer's entry {member.name!r} has the owner {member.uid}:{member.gid}, which can't be")
    return member.uid, member.gid


def _times(member: tarfile.TarInfo) -> tuple[int, int]:
    time = mtime_ns(member)
    return time, time


def _set_xattrs(target: int | bytes, member: tarfile.TarInfo) -> None:
    """``target`` is a descriptor or a path, which is not followed."""
    for key, value in member.pax_headers.items():
        name = key[len(XATTR) :]
        # overlayfs's own say how layers are put together; only we write those.
        if not key.startswith(XATTR) or not name.startswith(_XATTRS) or name.startswith(OVERLAY):
            continue
        if member.issym() and name.startswith("user."):
            continue  # xattr(7): only files and directories have those
        try:
            data = value.encode("utf-8", "surrogateescape")
            os.setxattr(target, name, data, follow_symlinks=isinstance(target, int))
        except OSError as error:
            # A file system without them is the host's choice; file capabilities are what the program needs to work.
            if error.errno != errno.ENOTSUP or name == "security.capability":
                raise
