# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command sees beside its layers: caches, parts of a context, secrets. None of it gets into a layer."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Optional

from ..._errors import KernelError, VesselError
from ..._kernel.openat2 import open_in_root
from ..copy import Attributes, Writer
from ..housekeeping import CACHES
from ..store import Work, is_opaque
from .ignore import Ignore
from .plan import found
from .steps import Mount, Run, RunRequest
from .tree import Tree

# What a container's set-up makes in the layer so that it can mount there, when the image does not have it.
_MOUNT_POINTS = ("etc/hosts", "etc/resolv.conf", "etc/hostname", "usr/sbin/policy-rc.d", "proc", "sys", "dev")


def place(root: int, path: str) -> tuple[str, list[str]]:
    """Where ``path`` is below ``root``, symlinks of the image followed; and which part of it is missing, the deepest
    first."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    there, rest = "", parts
    for count in range(len(parts), -1, -1):
        with contextlib.suppress(KernelError):
            fd = open_in_root(root, "/".join(parts[:count]))
            there, rest = os.readlink(f"/proc/self/fd/{fd}").rstrip("/"), parts[count:]
            os.close(fd)
            break
    missing = ["/".join([there, *rest[:count]]).lstrip("/") for count in range(len(rest), 0, -1)]
    return "/".join([there, *rest]) or "/", missing


def secrets(mounts: Sequence[Mount], contents: Mapping[str, bytes]) -> tuple[tuple[Mount, bytes], ...]:
    """Those that are there; a step that needs another was refused before."""
    return tuple((mount, contents[mount.id]) for mount in mounts if mount.kind == "secret" and mount.id in contents)


@contextlib.contextmanager
def hinting(step: Run, request: RunRequest, contents: Collection[str]) -> Iterator[None]:
    """A command that fails may have missed a secret: one that nobody gave, or that the step itself does not ask for."""
    try:
        yield
    except VesselError as error:
        error.hint = error.hint or _hint(step, request, contents)
        raise


def _hint(step: Run, request: RunRequest, contents: Collection[str]) -> str:
    asked = [mount.id for mount in step.mounts if mount.kind == "secret"]
    missing = [name for name in asked if name not in contents]
    if missing:
        return f"it ran without the secret {', '.join(missing)}; give it in secrets"
    text = " ".join([*request.command, *(text for dummy, text in request.scripts)])
    unasked = [name for name in contents if name not in asked and f"/run/secrets/{name}" in text]
    return f"the step itself has to ask for the secret {', '.join(unasked)}" if unasked else ""


@contextlib.contextmanager
def cache(work: Work, mount: Mount, tree: Optional[Tree]) -> Iterator[str]:
    """A directory that outlives the build, until prune takes it with the build cache. What is in ``tree`` is there at
    its beginning. Steps share it, wait for it (locked), or get one of their own while another has it (private)."""
    path = f"{work.store.layers}/{CACHES}/{hashlib.sha256(mount.id.encode()).hexdigest()}"
    with work.store.locked():
        is_new = not os.path.isdir(path)
        os.makedirs(path, exist_ok=True)
        # Shared, so that nobody removes it; its own lock says who may write.
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(held, fcntl.LOCK_SH)
    with contextlib.ExitStack() as inner:
        inner.callback(os.close, held)
        if is_new:
            _begin(path, mount, tree)
        if not inner.enter_context(_turn(f"{path}.lock", mount.sharing)):
            path = work.directory()
            _begin(path, mount, tree)
        yield path


def _begin(path: str, mount: Mount, tree: Optional[Tree]) -> None:
    if tree is not None:
        _copy(tree, mount.source, path, Attributes(keep=True))
    os.chown(path, mount.uid, mount.gid)
    os.chmod(path, mount.mode)


@contextlib.contextmanager
def _turn(path: str, sharing: str) -> Iterator[bool]:
    """Whether it is the step's turn to use a cache."""
    if sharing == "shared":
        yield True
        return
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (fcntl.LOCK_NB if sharing == "private" else 0))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def bound(work: Work, mount: Mount, tree: Tree) -> str:
    """A copy of what is mounted: it is as COPY would have it, without what is ignored, and what is written is lost."""
    directory = work.directory()
    like = Attributes(keep=True) if mount.origin is not tree else Attributes()
    name = _copy(tree, mount.source, directory, like)
    return f"{directory}/{name}" if name else directory


def _copy(tree: Tree, pattern: str, directory: str, like: Attributes) -> str:
    """The name of the file below the directory; empty when a directory's content was copied."""
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        (name, *dummy) = found(tree, pattern)
        is_directory = stat.S_ISDIR(next(tree.walk(name)).info.st_mode)
        writer = Writer(root)
        writer.tree(tree, name, "" if is_directory else "file", like, Ignore())
        return "" if is_directory else "file"
    finally:
        os.close(root)


def clean(upper: str, lower: Sequence[str], points: Collection[str] = ()) -> None:
    """Take mount points that only the set-up made out of the layer, and directories that it only passed through.

    ``points`` are more of them, relative to the top, a directory behind what is in it.
    """
    for path in (*points, *_MOUNT_POINTS):
        own = f"{upper}/{path}"
        if not os.path.lexists(own) or any(os.path.lexists(f"{layer_dir}/{path}") for layer_dir in lower):
            continue
        info = os.lstat(own)
        if stat.S_ISDIR(info.st_mode) and not os.listdir(own):
            _without_a_trace(own, os.rmdir)
        elif stat.S_ISREG(info.st_mode) and not info.st_size:
            _without_a_trace(own, os.unlink)
        _forget_passed(upper, os.path.dirname(path), lower)


def _without_a_trace(path: str, remove: Callable[[str], None]) -> None:
    """The directory that it was in keeps its time: the same writable layer is the same image, whenever it is made."""
    directory = os.path.dirname(path)
    before = os.stat(directory)
    remove(path)
    os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))


def _forget_passed(upper: str, path: str, lower: Sequence[str]) -> None:
    """overlayfs copied the directory up when something was made in it; empty, it says what the one below says."""
    own = f"{upper}/{path}"
    below = next((f"{layer}/{path}" for layer in reversed(lower) if os.path.lexists(f"{layer}/{path}")), "")
    if not path or not below or os.listdir(own) or is_opaque(own):
        return
    one, other = os.lstat(own), os.lstat(below)
    if (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid):
        _without_a_trace(own, os.rmdir)
        _forget_passed(upper, os.path.dirname(path), lower)
