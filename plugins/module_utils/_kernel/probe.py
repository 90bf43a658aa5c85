# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this kernel can do, found out by trying. What is tried happens in a child, in namespaces that end with it.

A try never loads a module that is not loaded: where one would, ``module`` is asked whether there is one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import signal
import socket
import struct
from collections.abc import Callable

from .._errors import KernelError
from . import libc, mount, namespaces

# Numbers of calls since 5.0 are the same everywhere.
_LSM_LIST_MODULES = 461
_LSM_IDS = {
    100: "capability", 101: "selinux", 102: "smack", 103: "tomoyo", 104: "apparmor", 105: "yama", 106: "loadpin",
    107: "safesetid", 108: "lockdown", 109: "bpf", 110: "landlock", 111: "ima", 112: "evm", 113: "ipe",
}  # fmt: skip

_NLMSG_ERROR = 2
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_CREATE = 0x1, 0x4, 0x400
_RTM_NEWLINK = 16
_IFLA_LINKINFO, _IFLA_INFO_KIND = 18, 1
_NETLINK_ROUTE = 0


def version() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def in_child(work: Callable[[], object]) -> tuple[bool, str]:
    """(True, the result as text), or (False, why not). What ``work`` does to its process ends with that process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        done, text = False, "the child ended without a word"
        try:
            text = str(work())
            done = True
        except BaseException as error:
            text = str(error)
        finally:
            os.write(writer, (b"+" if done else b"-") + text.encode()[:60000])
            os._exit(0)
    os.close(writer)
    data = b""
    while chunk := os.read(reader, 65536):
        data += chunk
    os.close(reader)
    os.waitpid(pid, 0)
    return data[:1] == b"+", data[1:].decode(errors="replace") or "the child was killed"


# system calls: with arguments that can't be, a call that is there says so otherwise than ENOSYS


def calls() -> dict[str, bool]:
    """Which of the newer calls are there, and no filter hides them."""
    tries: dict[str, tuple[object, ...]] = {
        "pidfd_open": (-1, 0),
        "pidfd_send_signal": (-1, 0, None, 0),
        "clone3": (None, 0),
        "close_range": (2, 1, 0),
        "openat2": (-1, None, None, 0),
        "open_tree": (-1, None, 0),
        "move_mount": (-1, None, -1, None, 0),
        "fsopen": (None, 0),
        "mount_setattr": (-1, None, 0, None, 0),
        "seccomp": (0xFFFF, 0, None),
        "bpf": (0xFFFF, None, 0),
    }
    return {
        name: not (libc.syscall(name, *args) < 0 and ctypes.get_errno() == errno.ENOSYS) for name, args in tries.items()
    }


# namespaces


def namespace(kind: str) -> str:
    """Empty when one can be made, else why not; ``kind`` as in linux.namespaces."""
    if not os.path.exists(f"/proc/self/ns/{namespaces.FILES[kind]}"):
        return "this kernel was built without it"
    done, text = in_child(lambda: namespaces.unshare(namespaces.FLAGS[kind]))
    return "" if done else text


# file systems


def private_mounts() -> None:
    """A mount namespace of our own, from which nothing leads back."""
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mount.mount("none", "/", None, mount.MS_REC | mount.MS_PRIVATE)


def filesystems() -> set[str]:
    with open("/proc/filesystems") as file:
        return {line.split()[-1] for line in file}


def overlay() -> str:
    """Empty when one can be mounted and written through, else why not."""
    if "overlay" not in filesystems():
        return "" if module("overlay") else "this kernel was built without it"
    done, text = in_child(_overlay)
    return "" if done else text


def _overlay() -> None:
    private_mounts()
    top = "/proc"  # a directory that every host has; the tmpfs over it is seen by this child alone
    mount.mount("tmpfs", top, "tmpfs", 0, "mode=700")
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(f"{top}/{name}")
    options = f"lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work"
    mount.mount("overlay", f"{top}/merged", "overlay", 0, options)
    os.mkdir(f"{top}/merged/made")
    os.rmdir(f"{top}/merged/made")


def idmapped(path: str) -> str:
    """Empty when a mount of the file system at ``path`` can have other owners, else why not."""
    done, text = in_child(lambda: _idmapped(path))
    return "" if done else text


def _idmapped(path: str) -> None:
    namespaces.unshare(namespaces.CLONE_NEWNS)
    gate, opener = os.pipe()
    pid, pidfd = namespaces.clone3(namespaces.CLONE_NEWUSER)
    if pid == 0:
        os.close(opener)
        os.read(gate, 1)
        os._exit(0)
    try:
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write("0 100000 65536")
        user = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        tree = mount.open_tree(path, mount.OPEN_TREE_CLONE)
        mount.mount_setattr(tree, attr_set=mount.MOUNT_ATTR_IDMAP, userns_fd=user)
    finally:
        os.close(opener)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pidfd)


# network links


def link_kinds(kinds: tuple[str, ...]) -> dict[str, str]:
    """Kind: empty when rtnetlink knows it (in a network namespace of a child's own), else why not."""
    done, text = in_child(lambda: " ".join(_link_kinds(kinds)))
    if not done:
        return dict.fromkeys(kinds, text)
    unknown = set(text.split())
    reasons = {kind: "this kernel was built without it" for kind in unknown if not module(kind)}
    return {kind: reasons.get(kind, "") for kind in kinds}


def _link_kinds(kinds: tuple[str, ...]) -> list[str]:
    """Those that the kernel does not know: they get EOPNOTSUPP, the others are made or miss an argument."""
    namespaces.unshare(namespaces.CLONE_NEWNET)
    unknown = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as rtnl:
        for kind in kinds:
            if module(kind) == "loadable":
                continue
            rtnl.send(_new_link(kind))
            reply = rtnl.recv(65536)
            number, code = struct.unpack_from("=H", reply, 4)[0], struct.unpack_from("=i", reply, 16)[0]
            if number == _NLMSG_ERROR and code == -errno.EOPNOTSUPP:
                unknown.append(kind)
    return unknown


def _new_link(kind: str) -> bytes:
    """RTM_NEWLINK with nothing but the kind (rtnetlink(7))."""
    info = _attribute(_IFLA_LINKINFO, _attribute(_IFLA_INFO_KIND, kind.encode()))
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0) + info
    flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_CREATE
    return struct.pack("=IHHII", 16 + len(body), _RTM_NEWLINK, flags, 1, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    data = struct.pack("=HH", 4 + len(value), kind) + value
    return data + b"\0" * (-len(data) % 4)


def module(name: str) -> str:
    """builtin, loaded, loadable, or empty when this kernel has no such module."""
    name = name.replace("-", "_")
    if os.path.isdir(f"/sys/module/{name}"):
        return "loaded"
    for file, answer in (("modules.builtin", "builtin"), ("modules.dep", "loadable")):
        try:
            with open(f"/lib/modules/{os.uname().release}/{file}") as lines:
                for line in lines:
                    path = line.partition(":")[0].strip()
                    if path.rpartition("/")[2].partition(".")[0].replace("-", "_") == name:
                        return answer
        except OSError:
            continue
    return ""


# security


def security_modules() -> list[str]:
    """The LSMs in force: asked by lsm_list_modules(2) (Linux 6.8), else of securityfs, else by their traces."""
    ids, size = (ctypes.c_uint64 * 32)(), ctypes.c_uint32(256)
    count = libc.libc.syscall(ctypes.c_long(_LSM_LIST_MODULES), ids, ctypes.byref(size), ctypes.c_long(0))
    if count > 0:
        return [_LSM_IDS.get(number, str(number)) for number in ids[:count]]
    try:
        with open("/sys/kernel/security/lsm") as file:
            return file.read().split(",")
    except OSError:
        traces = {"selinux": "/sys/fs/selinux/enforce", "apparmor": "/sys/module/apparmor/parameters/enabled"}
        return [name for name, path in traces.items() if os.path.exists(path)]


def raised_limits() -> str:
    """Empty when a hard limit can be raised, else why not."""
    done, text = in_child(_raise_limits)
    return "" if done else text


def _raise_limits() -> None:
    import resource

    # Below what it is, then back: the second step is the one that asks for the capability.
    dummy, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (16, hard))
    except (ValueError, PermissionError):
        raise KernelError("setrlimit", "RLIMIT_NOFILE", errno.EPERM) from None


def lowered_oom_score() -> str:
    """Empty when a process can be made less likely to be killed when memory runs out, else why not."""
    done, text = in_child(_lower_oom_score)
    return "" if done else text


def _lower_oom_score() -> None:
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"-1000")
    except OSError as error:
        raise KernelError("lower", "/proc/self/oom_score_adj", error.errno or 0) from None
