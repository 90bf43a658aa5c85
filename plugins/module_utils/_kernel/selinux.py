# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SELinux as the kernel shows it: selinuxfs, /proc/PID/attr and the xattr security.selinux; no libselinux is needed."""

from __future__ import annotations

import errno
import os
import stat
from functools import cache

from .._errors import KernelError

FS = "/sys/fs/selinux"
CONFIG = "/etc/selinux/config"
XATTR = "security.selinux"
# File systems without labels of files, and those that a mount has given one label for all (EOPNOTSUPP).
_NO_LABELS = (errno.EOPNOTSUPP, errno.EROFS)


def enabled() -> bool:
    """As is_selinux_enabled(3): selinuxfs is there, a policy is configured, and one is loaded."""
    if not os.path.exists(f"{FS}/enforce") or not os.path.exists(CONFIG):
        return False
    return process_label("self") not in ("", "kernel")


def process_label(pid: int | str) -> str:
    """The process's context; empty where it has none, or is gone."""
    try:
        with open(f"/proc/{pid}/attr/current", encoding="utf-8") as file:
            return file.read().rstrip("\0\n")
    except OSError:
        return ""


def valid(context: str) -> bool:
    """Does the loaded policy know the context?"""
    try:
        fd = os.open(f"{FS}/context", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(fd, context.encode())
        finally:
            os.close(fd)
    except OSError:
        return False
    return True


def lxc_contexts(config: str = CONFIG) -> dict[str, str]:
    """What the configured policy names for containers (selinux_lxc_contexts_path(3)): process, file, ro_file …"""
    kind = _assignments(config).get("SELINUXTYPE", "targeted")
    found = _assignments(f"{os.path.dirname(config)}/{kind}/contexts/lxc_contexts")
    return {key: value.strip('"') for key, value in found.items()}


# Where lxc_contexts says nothing: what they have been called since container-selinux.
_CONTAINER = {
    "process": "system_u:system_r:container_t:s0",
    "file": "system_u:object_r:container_file_t:s0",
    "ro_file": "system_u:object_r:container_ro_file_t:s0",
}


@cache
def container_label(key: str) -> str:
    """The policy's label for a container's ``process``, ``file`` or ``ro_file``, as it is before categories are added;
    empty where SELinux is off, or its policy has no such type."""
    if not enabled():
        return ""
    label = lxc_contexts().get(key) or _CONTAINER[key]
    return label if valid(label) else ""


def _assignments(path: str) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.partition("=") for line in file if "=" in line and not line.lstrip().startswith("#")]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, dummy, value in lines}


def file_label(path: str | int) -> str:
    """The context of a file, or of what a descriptor is of; empty where there is none."""
    try:
        return os.getxattr(_path(path), XATTR).rstrip(b"\0").decode()
    except OSError:
        return ""


def set_file_label(path: str | int, label: str) -> bool:
    """Whether it was another one before; a file system without labels has nothing to change."""
    if file_label(path) == label:
        return False
    try:
        os.setxattr(_path(path), XATTR, label.encode() + b"\0")
    except OSError as error:
        if error.errno in _NO_LABELS:
            return False
        what, code = f"{_shown(path)} {label}", error.errno or 0
        raise KernelError("label", what, code, hint=_HINTS.get(code, "")) from None
    return True


_HINTS = {errno.EINVAL: "the loaded policy does not know this label"}


def _path(path: str | int) -> str:
    """By way of /proc a descriptor that was opened with O_PATH will do, and a symlink is labelled itself."""
    return path if isinstance(path, str) else f"/proc/self/fd/{path}"


def _shown(path: str | int) -> str:
    return path if isinstance(path, str) else os.readlink(f"/proc/self/fd/{path}")


def relabel(path: str, label: str) -> None:
    """Give ``path`` and all below it the label, the top last: one that has it is known to be done.

    ``path`` itself may be a symlink; below it none is followed, whatever somebody puts there meanwhile.
    """
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        _relabel(fd, label)
    finally:
        os.close(fd)


def _relabel(fd: int, label: str) -> None:
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        inside = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in os.listdir(inside):
                _relabel_entry(inside, name, label)
        finally:
            os.close(inside)
    set_file_label(fd, label)


def _relabel_entry(directory: int, name: str, label: str) -> None:
    try:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return  # others work here meanwhile
    try:
        _relabel(fd, label)
    finally:
        os.close(fd)
