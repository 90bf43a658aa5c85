# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container's first process, from clone to exec: numbered steps, in an order that matters.

It runs in the child, which has copied the parent's memory and imports nothing any more. Each failed step is reported
through the channel as step, object and errno.
"""

from __future__ import annotations

import errno
import gc
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from .._errors import KernelError
from .._kernel import mount as m
from .._kernel import namespaces, netdevice, process
from .._rootfs.ops import Context, Operation
from . import console, launch, stdio
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
        self.root_propagation = 0
        self.joins: Sequence[tuple[str, int]] = ()  # (namespace, descriptor)
        self.mapped = False  # in a user namespace that is not the caller's
        self.new_cgroup = False
        self.new_network = False
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
    # A collection could close descriptors of the parent's objects whose numbers are ours by then.
    gc.disable()
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
    before = os.umask(0)  # what is made has the mode that it is made with
    # 2. The parent has put us into the cgroup and mapped our users when this arrives.
    child.step = "wait for the parent"
    if child.channel.receive() is None:
        os._exit(1)
    child.step = "namespaces"
    for kind, fd in child.joins:
        namespaces.setns(fd, namespaces.FLAGS[kind])
        os.close(fd)
    # 3. What lies on the host is opened while we are the host's user.
    context = Context(child.rootfs, mknod=not child.mapped)
    for operation in child.operations:
        child.step = operation.describe()
        operation.prepare(context)
    if child.mapped:
        child.step = "root of the user namespace"
        process.setgroups([])
        os.setgid(0)
        os.setuid(0)
    # 4. Only now, as a cgroup namespace shows the group in which it was made as its root.
    if child.new_cgroup:
        child.step = "cgroup namespace"
        namespaces.unshare(namespaces.CLONE_NEWCGROUP)
    _names(child)
    # 5. Through the host's /proc, while it is there: sysctls follow the namespaces of who opens them.
    for name, value in child.sysctls.items():
        child.step = f"sysctls.{name}"  # as the option is called of who declares containers
        _sysctl(name, value)
    # 6. The root file system.
    _run(child, child.operations, context)
    if child.terminal:
        child.step = "console"
        _terminal(child, context)
    if child.run_hooks:
        child.step = "hooks"
        child.channel.send(hooks=True)
        if child.channel.receive() is None:
            os._exit(1)
        child.run_hooks(child.hooks_inside, "createContainer")
    # 7. Masks last: what they hide was needed until now.
    _run(child, child.protections, context)
    child.step = "label"
    launch.set_label(child.plan)
    child.step = "pivot_root"
    _pivot(context, child)
    if child.root_propagation:
        child.step = "rootfsPropagation"
        m.mount("none", "/", None, child.root_propagation)
    os.umask(before)
    child.step = "cwd"
    launch.make_cwd(child.plan)
    if child.readonly:
        child.step = "root.readonly"
        m.mount("none", "/", None, m.MS_REMOUNT | m.MS_BIND | m.MS_RDONLY | _root_flags())
    # 8. What can be known of the command before start is told to who created it.
    launch.set_home(child.plan)
    child.step = "exec"
    path = launch.find(child.plan)
    child.step = "stdio"
    stdio.install(child.stdio, child.plan, terminal=child.terminal)
    # Limits are the container's, and may be less than what has been needed up to here.
    child.step = "rlimits"
    launch.set_limits(child.plan)
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


def _names(child: Child) -> None:
    if child.keyring:
        child.step = "keyring"
        launch.set_key_label(child.plan)
        process.join_session_keyring()
    if child.new_network:
        child.step = "loopback"  # as runc and crun have it: who has no network talks to itself
        netdevice.set_up("lo")
    if child.hostname:
        child.step = "hostname"
        namespaces.sethostname(child.hostname)
    if child.domainname:
        child.step = "domainname"
        namespaces.setdomainname(child.domainname)


def _sysctl(name: str, value: str) -> None:
    path = "/proc/sys/" + (name if "/" in name else name.replace(".", "/"))
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        hint = "a namespace of its own has fewer of them than the host" if error.errno == errno.ENOENT else ""
        raise KernelError("write", value, error.errno or 0, hint=hint) from None


def _pivot(context: Context, child: Child) -> None:
    os.fchdir(context.root)
    if child.pivot:
        # pivot_root(2): with both the same, the old root lies over the new one until it is taken off
        old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        m.pivot_root(".", ".")
        os.fchdir(old)
        # Taking off a mount that the host shares would take off the host's.
        m.mount("none", ".", None, m.MS_SLAVE | m.MS_REC)
        m.umount2(".", m.MNT_DETACH)
        os.close(old)
    else:
        # An initramfs is no mount that could be pivoted away; moving over it is what switch_root does.
        m.mount(".", "/", None, m.MS_MOVE)
        os.chroot(".")
    os.chdir("/")
    os.close(context.root)
    context.root = -1


def _root_flags() -> int:
    """Flags that the root's mount has must be given again, or in a user namespace the kernel refuses."""
    flags = os.statvfs("/").f_flag
    return flags & (m.MS_NOSUID | m.MS_NODEV | m.MS_NOEXEC)


def _terminal(child: Child, context: Context) -> None:
    master, slave, name = console.open_pair(context.root, child.window)
    console.bind(context.root, slave)
    console.send(child.console, master, name)
    child.stdio = (slave, slave, slave)


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
