# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container's first process, from clone to exec: numbered steps, in an order that matters.

It runs in the child, which has copied the parent's memory and imports nothing any more. Each failed step is reported
through the channel as step, object and errno.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from collections.abc import Mapping, Sequence
from typing import Any

from .._errors import KernelError
from .._kernel import mount as m
from .._kernel import namespaces, process
from .._kernel.openat2 import open_in_root
from .._rootfs.ops import Context, Operation
from . import launch
from .channel import Channel, failure


class Child:
    """What the parent worked out before clone."""

    def __init__(self) -> None:
        self.plan: launch.Plan
        self.channel: Channel
        self.gate: socket.socket
        self.rootfs = ""
        self.operations: Sequence[Operation] = ()
        self.protections: Sequence[Operation] = ()
        self.joins: Sequence[tuple[str, int]] = ()  # (namespace, descriptor), user first
        self.new_user = False
        self.new_cgroup = False
        self.hostname = ""
        self.domainname = ""
        self.sysctls: Mapping[str, str] = {}
        self.readonly = False
        self.pivot = True
        self.stdio: tuple[int, int, int] = (0, 1, 2)
        self.preserve: Sequence[int] = ()
        self.terminal = False
        self.console: int = -1  # a connected socket that wants the master
        self.window: tuple[int, int] = (0, 0)
        self.keyring = True
        self.hooks_inside: Sequence[dict[str, Any]] = ()
        self.start_hooks: Sequence[dict[str, Any]] = ()
        self.run_hooks: Any = None
        self.step = ""


def main(child: Child) -> None:
    """Never returns."""
    connection: socket.socket | None = None
    try:
        path = _prepare(child)
        child.channel.send(ready=True)
        child.channel.close()
        child.step = "start"
        connection, dummy = child.gate.accept()
        child.gate.close()
        _finish(child, path)
    except BaseException as error:
        _report(child, connection, failure(child.step, error))
    os._exit(1)


def _report(child: Child, connection: socket.socket | None, message: dict[str, Any]) -> None:
    try:
        (Channel(connection) if connection else child.channel).send(**message)
    except OSError:
        pass  # the parent is gone; so are we


def _prepare(child: Child) -> str:
    # 1. Nothing that belongs to the parent stays open: a client of the supervisor must see its end closed.
    child.step = "descriptors"
    process.set_dumpable(False)
    _keep_only_own(child)
    process.reset_signals()
    os.setsid()
    # 2. The parent has put us into the cgroup and mapped our users when this arrives.
    child.step = "wait for the parent"
    if child.channel.receive() is None:
        os._exit(1)
    # 3. The user namespace first: it decides what we may do in the others.
    child.step = "namespaces"
    for kind, fd in child.joins:
        namespaces.setns(fd, namespaces.FLAGS[kind])
        os.close(fd)
    if child.new_user:
        process.setgroups([])
        os.setgid(0)
        os.setuid(0)
    # 4. Only now, as a cgroup namespace shows the group in which it was made as its root.
    if child.new_cgroup:
        namespaces.unshare(namespaces.CLONE_NEWCGROUP)
    if child.keyring:
        process.join_session_keyring()
    if child.hostname:
        child.step = "hostname"
        namespaces.sethostname(child.hostname)
    if child.domainname:
        child.step = "domainname"
        namespaces.setdomainname(child.domainname)
    # 5. Through the host's /proc, while it is there: sysctls follow the namespaces of who opens them.
    child.step = "sysctl"
    for name, value in child.sysctls.items():
        _sysctl(name, value)
    child.step = "oomScoreAdj"
    launch.set_oom_score(child.plan)
    # 6. The root file system.
    context = Context(child.rootfs, mknod=not child.new_user and not any(kind == "user" for kind, dummy in child.joins))
    _run(child, child.operations, context)
    if child.terminal:
        child.step = "console"
        _console(child, context)
    if child.run_hooks:
        child.step = "hooks"
        child.channel.send(hooks=True)
        if child.channel.receive() is None:
            os._exit(1)
        child.run_hooks(child.hooks_inside, "createContainer")
    # 7. Masks last: what they hide was needed until now.
    _run(child, child.protections, context)
    child.step = "pivot_root"
    _pivot(context, child)
    if child.readonly:
        child.step = "root.readonly"
        m.mount("none", "/", None, m.MS_REMOUNT | m.MS_BIND | m.MS_RDONLY | _root_flags())
    child.step = "rlimits"
    launch.set_limits(child.plan)
    child.step = "cwd"
    if not child.readonly:
        launch.make_cwd(child.plan)
    child.step = "exec"
    launch.set_home(child.plan)
    path = launch.find(child.plan)
    child.step = "stdio"
    set_stdio(child)
    return path


def _run(child: Child, operations: Sequence[Operation], context: Context) -> None:
    for operation in operations:
        child.step = operation.describe()
        operation.execute(context)


def _keep_only_own(child: Child) -> None:
    own = {0, 1, 2, child.channel.fileno(), child.gate.fileno(), *child.preserve, *child.stdio}
    own.update(fd for dummy, fd in child.joins)
    if child.console >= 0:
        own.add(child.console)
    process.close_all_but(own)


def _sysctl(name: str, value: str) -> None:
    path = "/proc/sys/" + (name if "/" in name else name.replace(".", "/"))
    try:
        with open(path, "w") as file:
            file.write(value)
    except OSError as error:
        raise KernelError(f"write {value} to sysctl", name, error.errno or 0) from None


def _pivot(context: Context, child: Child) -> None:
    os.chdir(f"/proc/self/fd/{context.root}")
    if child.pivot:
        # pivot_root(2): with both the same, the old root lies over the new one until it is taken off
        m.pivot_root(".", ".")
        m.mount("none", ".", None, m.MS_SLAVE | m.MS_REC)
        m.umount2(".", m.MNT_DETACH)
    else:
        # An initramfs is no mount that could be pivoted away; moving over it is what switch_root does.
        m.mount(child.rootfs, "/", None, m.MS_MOVE)
        os.chroot(".")
    os.chdir("/")
    os.close(context.root)
    context.root = -1


def _root_flags() -> int:
    """Flags that the root's mount has must be given again, or in a user namespace the kernel refuses."""
    flags = os.statvfs("/").f_flag
    return flags & (m.MS_NOSUID | m.MS_NODEV | m.MS_NOEXEC)


def _console(child: Child, context: Context) -> None:
    """A terminal from the container's own devpts: the slave is /dev/console and stdio, the caller gets the master."""
    master, number = open_terminal(f"/proc/self/fd/{context.root}/dev/pts/ptmx", child.window)
    place = open_in_root(context.root, f"/dev/pts/{number}")
    slave = os.open(f"/proc/self/fd/{place}", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    os.close(place)
    os.fchown(slave, child.plan.uid, -1)
    _bind_console(context, number)
    send_fd(child.console, master, f"/dev/pts/{number}")
    os.close(master)
    os.close(child.console)
    child.stdio = (slave, slave, slave)


def open_terminal(ptmx: str, window: tuple[int, int]) -> tuple[int, int]:
    """(master, number of the slave); ``window`` is (rows, columns), zeros for unknown."""
    master = os.open(ptmx, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, 0x40045431, struct.pack("i", 0))  # TIOCSPTLCK: unlock
    number = struct.unpack("i", fcntl.ioctl(master, 0x80045430, struct.pack("i", 0)))[0]  # TIOCGPTN
    if window != (0, 0):
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", window[0], window[1], 0, 0))
    return master, number


def _bind_console(context: Context, number: int) -> None:
    from_fd = open_in_root(context.root, f"/dev/pts/{number}")
    try:
        os.close(os.open("console", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o620, dir_fd=_dev(context)))
    except OSError:
        pass  # it is there, as a device or a file: either can be mounted over
    tree = m.open_tree(f"/proc/self/fd/{from_fd}", m.OPEN_TREE_CLONE)
    place = open_in_root(context.root, "/dev/console")
    m.move_mount(tree, place)
    for fd in (from_fd, tree, place):
        os.close(fd)


def _dev(context: Context) -> int:
    return open_in_root(context.root, "/dev", os.O_PATH | os.O_DIRECTORY)


def send_fd(connected: int, fd: int, name: str) -> None:
    """SCM_RIGHTS over a connected socket, as --console-socket has it."""
    with socket.socket(fileno=os.dup(connected)) as sock:
        sock.sendmsg([name.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))])


def set_stdio(child: Child) -> None:
    # Duplicates above the three first: one of the sources may be one of the targets.
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 16) for fd in child.stdio]
    for number, fd in enumerate(copies):
        os.dup2(fd, number, inheritable=True)
        os.close(fd)
    for fd in set(child.stdio) - {0, 1, 2}:
        os.close(fd)
    if child.terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _finish(child: Child, path: str) -> None:
    if child.start_hooks:
        child.step = "startContainer hooks"
        child.run_hooks(child.start_hooks, "startContainer")
    child.step = "user and capabilities"
    launch.become(child.plan)
    for fd in child.preserve:
        os.set_inheritable(fd, True)
    child.step = "exec"
    launch.execute(child.plan, path)
