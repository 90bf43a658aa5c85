# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In the namespaces of a container that runs: acting there, and what is mounted there."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Optional

from .._errors import KernelError
from .._kernel import mount as m
from .._kernel import namespaces
from .._kernel.openat2 import open_in_root, open_root
from .._kernel.process import set_dumpable


def inside(pid: int, kinds: Iterable[str], action: Callable[[], None]) -> None:
    """Run the action in namespaces of the process, in a child of ours: joining leads nowhere back."""
    files = {kind: os.open(f"/proc/{pid}/ns/{namespaces.FILES[kind]}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds}
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            set_dumpable(False)
            for kind, fd in files.items():
                namespaces.setns(fd, namespaces.FLAGS[kind])
            action()
            code = 0
        except KernelError as error:
            os.write(writer, f"{error.errno} {error.operation}\0{error.obj}".encode())
        except OSError as error:
            os.write(writer, f"{error.errno or 0} change\0{error.filename}".encode())
        finally:
            os._exit(code)
    os.close(writer)
    for fd in files.values():
        os.close(fd)
    with os.fdopen(reader, "rb") as file:
        message = file.read().decode()
    if os.waitpid(child, 0)[1]:
        number, dummy, rest = message.partition(" ")
        operation, dummy, obj = rest.partition("\0")
        raise KernelError(operation or "join the namespaces of", obj or pid, int(number or 0))


@dataclass(frozen=True)
class Mounted:
    """What is mounted somewhere in a container: where that is once symlinks are followed, what of which file system
    is shown, and a descriptor of its top."""

    path: str
    shown: str
    fstype: str
    device: str
    fd: int


@contextlib.contextmanager
def mount_at(pid: int, target: str) -> Iterator[Optional[Mounted]]:
    """The mount at the target, symlinks followed as the container's own processes follow them; None when nothing is
    mounted there."""
    root = open_root(f"/proc/{pid}/root")
    try:
        fd = open_in_root(root, target)
    except KernelError:
        fd = -1
    finally:
        os.close(root)
    if fd < 0:
        yield None
        return
    try:
        yield _mount_of(pid, fd)
    finally:
        os.close(fd)


def _mount_of(pid: int, fd: int) -> Optional[Mounted]:
    with open(f"/proc/self/fdinfo/{fd}") as file:
        number = next(line.split()[1] for line in file if line.startswith("mnt_id:"))
    path = os.readlink(f"/proc/self/fd/{fd}")
    with open(f"/proc/{pid}/mountinfo") as file:
        for fields in map(str.split, file):
            if fields[0] == number and fields[4] == _escaped(path):
                fstype, device = fields[fields.index("-") + 1 :][:2]
                return Mounted(path, fields[3], fstype, device, fd)
    return None


def _escaped(path: str) -> str:
    """As /proc/PID/mountinfo writes it (proc_pid_mountinfo(5))."""
    return path.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")


def mounted_at(pid: int, target: str, source: str = "") -> str:
    """Where what is mounted at the target is in the container; empty when nothing is. With a source, only that
    source's mount counts, also when it is deleted by now."""
    with mount_at(pid, target) as found:
        if found is None:
            return ""
        known = not source or found.shown.endswith("//deleted") or _is_file(found.fd, source)
        return found.path if known else ""


def _is_file(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def copy_of_mount(pid: int, mounted: Mounted) -> int:
    """A descriptor of a detached copy of the container's mount; -1 when something else got in its way meanwhile."""
    ours, theirs = socket.socketpair()

    def act() -> None:
        socket.send_fds(theirs, [b"0"], [m.open_tree(mounted.path, m.OPEN_TREE_CLONE)])

    with ours, theirs:
        inside(pid, ["mount"], act)
        (tree,) = socket.recv_fds(ours, 1, 1)[1]
    os.set_inheritable(tree, False)
    if os.path.samestat(os.fstat(tree), os.fstat(mounted.fd)):
        return tree
    os.close(tree)
    return -1
