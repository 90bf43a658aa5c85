# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers between tar and overlayfs's own form (image-spec, layer.md). A tar is hostile: nothing leaves the layer."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tarfile
from typing import IO, Any, Optional

from .._errors import KernelError, StoreError
from .._kernel.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
_XATTR = "SCHILY.xattr."
_OVERLAY = "trusted.overlay."
_CHUNK = 1 << 20


class Hashing:
    """A stream that is read or written once, and its digest and length."""

    def __init__(self, stream: Optional[IO[bytes]] = None) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.length = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size) if self._stream else b""
        self._count(data)
        return data

    def write(self, data: bytes) -> int:
        self._count(data)
        return self._stream.write(data) if self._stream else len(data)

    def _count(self, data: bytes) -> None:
        self._hash.update(data)
        self.length += len(data)

    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def unpack(stream: Any, destination: str, *, limit: int = 0) -> tuple[str, int]:
    """Unpack an uncompressed tar into the directory: (diff_id, bytes of its files).

    ``limit`` is the most bytes that its files may have, 0 for any.
    """
    source = Hashing(stream)
    root = os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    unpacker = _Unpacker(root, limit)
    try:
        with tarfile.open(fileobj=source, mode="r|", errors="surrogateescape") as tar:  # type: ignore[call-overload]
            for member in tar:
                unpacker.member(tar, member)
        # What lies behind the end mark is part of the digest.
        while source.read(_CHUNK):
            pass
        unpacker.finish()
    except tarfile.TarError as error:
        raise StoreError(f"the layer is not a tar archive, or it is cut short: {error}") from None
    finally:
        os.close(root)
    return source.digest(), unpacker.size


class _Unpacker:
    def __init__(self, root: int, limit: int) -> None:
        self.root = root
        self.limit = limit
        self.size = 0
        self.directories: list[tuple[str, float]] = []

    def member(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = _parts(member.name)
        if not parts:
            self._directory_metadata(self.root, member)
            return
        parent = self._parent(parts[:-1], member.name)
        try:
            self._entry(tar, member, parent, parts[-1])
        except OSError as error:
            raise KernelError("unpack", member.name, error.errno or 0) from None
        finally:
            os.close(parent)

    def _parent(self, parts: list[str], name: str) -> int:
        """The entry's directory, reached without following any symlink: that is how a tar gets out."""
        fd = os.dup(self.root)
        for part in parts:
            try:
                step = openat2(fd, part, os.O_RDONLY | os.O_DIRECTORY, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
            except KernelError as error:
                if error.errno != errno.ENOENT:
                    os.close(fd)
                    raise StoreError(
                        f"the layer's entry {name!r} leads through {part!r}, which is no directory"
                    ) from None
                os.mkdir(part, 0o755, dir_fd=fd)
                step = openat2(fd, part, os.O_RDONLY | os.O_DIRECTORY, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
            os.close(fd)
            fd = step
        return fd

    def _entry(self, tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        if name == OPAQUE:
            os.setxattr(f"/proc/self/fd/{parent}", f"{_OVERLAY}opaque", b"y")
            return
        if name.startswith(WHITEOUT):
            hidden = name[len(WHITEOUT) :]
            if hidden in ("", ".", ".."):
                raise StoreError(f"the layer's whiteout {member.name!r} names no file")
            _clear(parent, hidden)
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)
            return
        if member.isdir():
            self._directory(member, parent, name)
            return
        _clear(parent, name)
        if member.islnk():
            self._hardlink(member, parent, name)
            return
        self._make(tar, member, parent, name)
        _metadata(parent, name, member)

    def _make(self, tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        if member.isreg():
            self._file(tar, member, parent, name)
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=parent)
        elif member.ischr() or member.isblk():
            raise StoreError(
                f"the layer holds the device {member.name!r}", hint="give containers devices with the option devices"
            )
        else:
            raise StoreError(f"the layer's entry {member.name!r} is of an unknown kind {member.type!r}")

    def _file(self, tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        self.size += member.size
        if self.limit and self.size > self.limit:
            raise StoreError(f"the layer's files have more than {self.limit} bytes")
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
        source = tar.extractfile(member)
        with os.fdopen(fd, "wb") as file:
            while source is not None:
                data = source.read(_CHUNK)
                if not data:
                    break
                file.write(data)

    def _directory(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                _clear(parent, name)
                os.mkdir(name, 0o755, dir_fd=parent)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            self._directory_metadata(fd, member)
        finally:
            os.close(fd)

    def _directory_metadata(self, fd: int, member: tarfile.TarInfo) -> None:
        os.fchown(fd, member.uid, member.gid)
        os.fchmod(fd, member.mode & 0o7777)
        _xattrs(f"/proc/self/fd/{fd}", member)
        # Its time changes with every entry that is made in it, so it is set at the end.
        self.directories.append(("/".join(_parts(member.name)), member.mtime))

    def _hardlink(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        parts = _parts(member.linkname)
        if not parts:
            raise StoreError(f"the layer's hard link {member.name!r} leads nowhere")
        source = self._parent(parts[:-1], member.linkname)
        try:
            os.link(parts[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def finish(self) -> None:
        for path, mtime in reversed(self.directories):
            try:
                how = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
                fd = openat2(self.root, path or ".", os.O_RDONLY | os.O_DIRECTORY, resolve=how)
            except KernelError:
                continue  # a later entry replaced it
            os.utime(fd, (mtime, mtime))
            os.close(fd)


def _parts(name: str) -> list[str]:
    """A path below the layer, as its components; one that climbs is refused."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise StoreError(f"the layer's entry {name!r} climbs out of the layer")
    return parts


def _clear(parent: int, name: str) -> None:
    """Of two entries with one name the later counts."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError):
        from .._kernel.file import remove_tree

        remove_tree(os.path.join(os.readlink(f"/proc/self/fd/{parent}"), name))


def _metadata(parent: int, name: str, member: tarfile.TarInfo) -> None:
    # The order matters: chown takes setuid and file capabilities away.
    os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
    path = f"/proc/self/fd/{parent}/{name}"
    if not member.issym():
        os.chmod(path, member.mode & 0o7777)
        _xattrs(path, member)
    os.utime(name, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)


def _xattrs(path: str, member: tarfile.TarInfo) -> None:
    for key, value in member.pax_headers.items():
        name = key[len(_XATTR) :]
        # overlayfs's own say how layers are put together; only we write those.
        if key.startswith(_XATTR) and not name.startswith(_OVERLAY):
            try:
                os.setxattr(path, name, value.encode("utf-8", "surrogateescape"))
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EOPNOTSUPP):
                    raise


def pack(directory: str, out: Any) -> None:
    """The directory as a tar in which nothing depends on when or in which order it was written."""
    seen: dict[tuple[int, int], str] = {}
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        _pack(tar, directory, "", seen)


def measure(directory: str) -> tuple[str, int]:
    """(diff_id, bytes) of the directory as a layer."""
    out = Hashing()
    pack(directory, out)
    return out.digest(), out.length


def _pack(tar: tarfile.TarFile, base: str, path: str, seen: dict[tuple[int, int], str]) -> None:
    for entry in sorted(os.scandir(os.path.join(base, path) if path else base), key=lambda item: item.name):
        name = f"{path}/{entry.name}" if path else entry.name
        info = entry.stat(follow_symlinks=False)
        if stat.S_ISSOCK(info.st_mode):
            continue  # a tar has no sockets
        if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
            tar.addfile(_plain(f"{path}/{WHITEOUT}{entry.name}" if path else f"{WHITEOUT}{entry.name}"))
            continue
        _pack_entry(tar, entry.path, name, info, seen)
        if stat.S_ISDIR(info.st_mode):
            if _xattr(entry.path, f"{_OVERLAY}opaque") == b"y":
                tar.addfile(_plain(f"{name}/{OPAQUE}"))
            _pack(tar, base, name, seen)


def _plain(name: str) -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


def _pack_entry(
    tar: tarfile.TarFile, path: str, name: str, info: os.stat_result, seen: dict[tuple[int, int], str]
) -> None:
    member = tarfile.TarInfo(name)
    member.mode, member.uid, member.gid = stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid
    member.mtime = int(info.st_mtime)
    member.pax_headers = _pax_xattrs(path)
    if stat.S_ISDIR(info.st_mode):
        member.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(info.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif stat.S_ISFIFO(info.st_mode):
        member.type = tarfile.FIFOTYPE
    elif stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        member.type = tarfile.CHRTYPE if stat.S_ISCHR(info.st_mode) else tarfile.BLKTYPE
        member.devmajor, member.devminor = os.major(info.st_rdev), os.minor(info.st_rdev)
    elif (info.st_dev, info.st_ino) in seen:
        member.type, member.linkname = tarfile.LNKTYPE, seen[info.st_dev, info.st_ino]
    else:
        if info.st_nlink > 1:
            seen[info.st_dev, info.st_ino] = name
        member.size = info.st_size
        with open(path, "rb") as file:
            tar.addfile(member, file)
        return
    tar.addfile(member)


def _pax_xattrs(path: str) -> dict[str, str]:
    found = {}
    for name in os.listxattr(path, follow_symlinks=False):
        if not name.startswith((_OVERLAY, "security.selinux")):
            value = os.getxattr(path, name, follow_symlinks=False)
            found[f"{_XATTR}{name}"] = value.decode("utf-8", "surrogateescape")
    return found


def _xattr(path: str, name: str) -> bytes:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return b""
