# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""exec: one more process in a running container."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .._errors import StartError, StateError
from .._kernel import namespaces, process
from . import init, launch
from .bundle import load as load_bundle
from .channel import Channel, failure, raised
from .create import _connect
from .state import State, load
from .validate import check_process


class Exec:
    """The process that was started: ``pid`` and ``pidfd``; it is a child of the caller."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd

    def wait(self) -> int:
        """Its exit code."""
        code = process.exit_code(os.waitpid(self.pid, 0)[1])
        os.close(self.pidfd)
        return code


def exec(
    root: str,
    container: str,
    spec: dict[str, Any],
    *,
    stdio: tuple[int, int, int] = (0, 1, 2),
    console_socket: str = "",
    preserve: Sequence[int] = (),
    paused: bool = False,
) -> Exec:
    """Start ``spec``, an object as config.json's process, in the container's namespaces and its cgroup."""
    check_process(spec)
    state = load(root, container)
    if not (paused and state.status() == "paused"):
        state.require("exec")
    program, flags = launch.compile_seccomp(load_bundle(state.bundle))
    child = init.Child()
    child.plan = launch.Plan(spec, program, flags)
    child.stdio, child.preserve = stdio, tuple(preserve)
    child.terminal = bool(spec.get("terminal"))
    size = spec.get("consoleSize") or {}
    child.window = (int(size.get("height") or 0), int(size.get("width") or 0))
    if child.terminal:
        if not console_socket:
            raise StartError("process.terminal is true, and no console socket was given", hint="use --console-socket")
        child.console = _connect(console_socket)
    try:
        return _start(state, child)
    finally:
        if child.console >= 0:
            os.close(child.console)


def _start(state: State, child: init.Child) -> Exec:
    ours, child.channel = Channel.pair()
    target = process.pidfd_open(state.pid)
    try:
        if not state.alive():  # the pid was given to another between the look and the open
            raise StateError(f"container {state.id} is stopped")
        between = os.fork()
        if between == 0:
            _between(state, child, target)
        child.channel.close()
        return _hear(state, ours, between)
    finally:
        os.close(target)
        ours.close()


def _hear(state: State, channel: Channel, between: int) -> Exec:
    """The pid comes first, from the process between; then silence, when the child's end closed on exec."""
    message = channel.receive()
    os.waitpid(between, 0)
    if message is None:
        raise StartError(f"exec in {state.id}: the child ended without a word")
    if "pid" not in message:
        raise raised(message)
    pidfd = process.pidfd_open(message["pid"])
    channel.send(go=True)
    message = channel.receive()
    if message is None:
        return Exec(_pid_of(pidfd), pidfd)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    raise raised(message)


def _pid_of(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


def _between(state: State, child: init.Child, target: int) -> None:
    """Join, then clone: a process enters a pid namespace only by being born into it. CLONE_PARENT makes the new
    process a child of who called exec."""
    step = "exec"
    try:
        process.set_dumpable(False)
        step = "cgroup"
        state.manager().add(os.getpid())
        step = "namespaces"
        flags = _different(state.pid)
        namespaces.setns(target, flags)
        pid, _ = namespaces.clone3(namespaces.CLONE_PARENT)
        if pid == 0:
            _inside(child, user=bool(flags & namespaces.CLONE_NEWUSER))
        child.channel.send(pid=pid)
    except BaseException as error:
        child.channel.send(**failure(step, error))
    os._exit(0)


def _different(pid: int) -> int:
    """Flags of the namespaces that are not ours already: joining one's own user namespace is refused."""
    flags = 0
    for kind, file in namespaces.FILES.items():
        theirs = process.namespace_id(pid, file)
        if theirs and theirs != process.namespace_id("self", file):
            flags |= namespaces.FLAGS[kind]
    return flags


def _inside(child: init.Child, *, user: bool) -> None:
    """The new process, in the container."""
    child.step = "descriptors"
    try:
        own = {0, 1, 2, child.channel.fileno(), *child.preserve, *child.stdio}
        if child.console >= 0:
            own.add(child.console)
        process.close_all_but(own)
        process.reset_signals()
        os.setsid()
        if child.channel.receive() is None:
            os._exit(1)
        child.step = "user"
        if user:
            process.setgroups([])
            os.setgid(0)
            os.setuid(0)
        child.step = "rlimits"
        launch.set_limits(child.plan)
        launch.set_oom_score(child.plan)
        child.step = "exec"
        path = launch.find(child.plan)
        child.step = "console"
        if child.terminal:
            _terminal(child)
        child.step = "stdio"
        init.set_stdio(child)
        child.step = "user and capabilities"
        launch.become(child.plan)
        for fd in child.preserve:
            os.set_inheritable(fd, True)
        child.step = "exec"
        launch.execute(child.plan, path)
    except BaseException as error:
        try:
            child.channel.send(**failure(child.step, error))
        except OSError:
            pass
    os._exit(1)


def _terminal(child: init.Child) -> None:
    master, number = init.open_terminal("/dev/pts/ptmx", child.window)
    slave = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    os.fchown(slave, child.plan.uid, -1)
    init.send_fd(child.console, master, f"/dev/pts/{number}")
    os.close(master)
    child.stdio = (slave, slave, slave)
