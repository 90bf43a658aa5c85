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


class Joining:
    """A process on its way into a container. Call ``advance`` whenever ``fd`` is readable, until it gives the process:
    between two calls the caller is free, however long the container's file system or its freezer makes it wait."""

    def __init__(self, state: State, channel: Channel, between: int) -> None:
        self._state = state
        self._channel = channel
        self._between = between
        self._pid = 0
        self._pidfd = -1

    @property
    def fd(self) -> int:
        return self._channel.fileno()

    def advance(self) -> Exec | None:
        """The started process; None when it is to be called again; StartError, and nothing left, when it failed."""
        try:
            message = self._channel.receive()
            if not self._pid:
                self._born(message)
                return None
            if message is not None:
                raise raised(message)
        except BaseException:
            self.abort()
            raise
        # The child's end closed on exec: silence is success.
        self._channel.close()
        return Exec(self._pid, self._pidfd)

    def _born(self, message: dict[str, Any] | None) -> None:
        """The pid comes first, from the process between."""
        self._reap_between()
        if message is None:
            raise StartError(f"exec in {self._state.id}: the child ended without a word")
        if "pid" not in message:
            raise raised(message)
        self._pid = message["pid"]
        self._pidfd = process.pidfd_open(self._pid)
        self._channel.send(go=True)

    def _reap_between(self) -> None:
        if self._between:
            os.waitpid(self._between, 0)
            self._between = 0

    def kill(self) -> None:
        """Kill what was begun. ``fd`` is readable when it ended: soon, or when a frozen container is thawed."""
        if self._between:
            os.kill(self._between, 9)
        if self._pidfd >= 0:
            process.send(self._pidfd, 9)

    def abort(self) -> None:
        """Kill, and wait for the end."""
        self.kill()
        self._reap_between()
        if self._pidfd >= 0:
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
            os.close(self._pidfd)
            self._pidfd = -1
        self._channel.close()


def exec(root: str, container: str, spec: dict[str, Any], **options: Any) -> Exec:
    """Start ``spec`` in the container, and wait until it is its own program."""
    joining = begin(root, container, spec, **options)
    while True:
        started = joining.advance()
        if started is not None:
            return started


def begin(
    root: str,
    container: str,
    spec: dict[str, Any],
    *,
    stdio: tuple[int, int, int] = (0, 1, 2),
    console_socket: str = "",
    preserve: Sequence[int] = (),
    paused: bool = False,
) -> Joining:
    """Send ``spec``, an object as config.json's process, into the container's namespaces and its cgroup."""
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


def _start(state: State, child: init.Child) -> Joining:
    ours, child.channel = Channel.pair()
    target = process.pidfd_open(state.pid)
    try:
        if not state.alive():  # the pid was given to another between the look and the open
            raise StateError(f"container {state.id} is stopped")
        between = os.fork()
        if between == 0:
            _between(state, child, target)
        return Joining(state, ours, between)
    except BaseException:
        ours.close()
        raise
    finally:
        child.channel.close()
        os.close(target)


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
        pid, dummy = namespaces.clone3(namespaces.CLONE_PARENT)
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
        launch.set_home(child.plan)
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
