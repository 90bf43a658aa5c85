# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and contexts of the controller's that images are made from: where they are, and the digest that says what is in
them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tarfile
import tempfile
from collections.abc import Iterator
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError, AnsibleFileNotFound
from ansible_collections.vessel.host.plugins.module_utils._image.build import ignore

CHUNK = 1 << 20


IGNORE = (".containerignore", ".dockerignore")


def find(action: Any, name: str, *, context: bool = False) -> str:
    """The file that ``src`` names, found as copy finds it, and decrypted where it is a vault; or the ``context``."""
    try:
        path = action._find_needle("files", name)
    except AnsibleFileNotFound as error:
        where = ", ".join(dict.fromkeys(map(str, error.paths or [name])))
        raise AnsibleActionFail(f"src: {name!r} is not on the controller; it was looked for as {where}") from None
    if context:
        if not os.path.isdir(path):
            raise AnsibleActionFail(f"src: {path!r} is no directory; with containerfile it is the context")
        return str(path)
    if os.path.isdir(path):
        raise AnsibleActionFail(f"src: {path!r} is a directory; give a tar file, or containerfile for a context")
    try:
        return str(action._loader.get_real_file(path))
    except AnsibleError as error:
        cause = error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) else error
        raise AnsibleActionFail(f"src: {path!r} can't be read on the controller: {reason}") from None


def key(path: str, memory: str) -> str:
    """The digest as an image's key has it (_image/rootfs.py).

    ``memory`` is a directory in which it is remembered, for as long as that is there: a play reads a file once for all
    hosts, and those who come meanwhile wait.
    """
    try:
        info = os.stat(path)
        what = repr((path, info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns))
        known = os.path.join(memory, f"vessel-{hashlib.sha256(what.encode('utf-8', 'surrogateescape')).hexdigest()}")
        with open(known, "a+", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            found = file.read()
            if not found:
                found = digest(path)
                file.write(found)
        return found
    except OSError as error:
        raise AnsibleActionFail(f"src: {path!r} can't be read on the controller: {error.strerror}") from None


def digest(path: str) -> str:
    result = hashlib.sha256(b"tar\0")
    with open(path, "rb", buffering=0) as file:
        while block := file.read(CHUNK):
            result.update(block)
    return result.hexdigest()


def containerfile(context: str, given: str) -> str:
    """The text itself: more than one line, which says that it is no path. A path is below the context, or absolute."""
    if "\n" in given:
        return given
    path = os.path.join(context, os.path.expanduser(given.strip()))
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return f"{file.read()}\n"
    except UnicodeDecodeError:
        raise AnsibleActionFail(f"containerfile: {path!r} is no UTF-8 text") from None
    except OSError as error:
        raise AnsibleActionFail(f"containerfile: {path!r} can't be read on the controller: {error.strerror}") from None


def pack(directory: str, memory: str) -> tuple[str, str]:
    """(a tar of the context, the digest of what is in it), without what its ignore file leaves out.

    A tar belongs to the caller. Owners are root's and times say nothing to the digest, as with docker: a checkout
    anywhere is the same context.
    """
    result = hashlib.sha256(b"context\0")
    handle, path = tempfile.mkstemp(prefix="vessel-context-", suffix=".tar", dir=memory)
    try:
        with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name in _walk(directory, _ignored(directory), ""):
                _add(tar, directory, name, result)
    except OSError as error:
        os.unlink(path)
        problem = f"{error.filename or directory!r} can't be read on the controller: {error.strerror or error}"
        raise AnsibleActionFail(f"src: {problem}") from None
    except BaseException:
        os.unlink(path)
        raise
    return path, result.hexdigest()


def _ignored(directory: str) -> ignore.Ignore:
    for name in IGNORE:
        path = os.path.join(directory, name)
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                return ignore.read(file.read())
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise AnsibleActionFail(f"src: {path!r} is no ignore file: {error}") from None
    return ignore.Ignore()


def _walk(top: str, ignored: ignore.Ignore, below: str) -> Iterator[str]:
    """Names in the order of a tar: a directory before what is in it. Sockets and the like are nobody's to copy."""
    with os.scandir(os.path.join(top, below)) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = f"{below}/{entry.name}" if below else entry.name
        out = ignored(name)
        if entry.is_dir(follow_symlinks=False):
            if not out:
                yield name
            if not out or ignored.has_exceptions:
                yield from _walk(top, ignored, name)
        elif not out and (entry.is_symlink() or entry.is_file(follow_symlinks=False)):
            yield name


def _add(tar: tarfile.TarFile, top: str, name: str, digest: Any) -> None:
    path = os.path.join(top, name)
    info = os.lstat(path)
    member = tarfile.TarInfo(name)
    member.mode, member.mtime = info.st_mode & 0o7777, info.st_mtime
    if os.path.islink(path):
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif os.path.isdir(path):
        member.type = tarfile.DIRTYPE
    else:
        member.size = info.st_size
    what = (name, member.type, member.mode, member.linkname, member.size)
    digest.update(repr(what).encode("utf-8", "surrogateescape"))
    if member.type != tarfile.REGTYPE:
        tar.addfile(member)
        return
    with open(path, "rb") as file:
        tar.addfile(member, _Told(file, digest))


class _Told:
    """A file whose bytes the digest is told as they are read."""

    def __init__(self, file: Any, digest: Any) -> None:
        self._file, self._digest = file, digest

    def read(self, size: int) -> bytes:
        data: bytes = self._file.read(size)
        self._digest.update(data)
        return data
