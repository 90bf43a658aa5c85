# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""exec: one more process in a running container."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
from collections.abc import Sequence
from typing import Any

from .._errors import KernelError, StartError, StateError, VesselError
from .._kernel import namespaces, process
from . import console, launch, stdio
from .channel import Channel, failure, raised
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

    def __init__(self, state: State, plan: launch.Plan, channel: Channel, between: int) -> None:
        self._state = state
        self._plan = plan
        self._channel = channel
        self._between = between
        self._pid = 0
        self._pidfd = -1
        self._killed = False

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
        if self._killed:
            raise StartError(f"exec in {self._state.id}: it was killed before it began")
        launch.raise_limits(self._plan, self._pid)
        launch.set_oom_score(self._plan, self._pid)
        self._channel.send(go=True)

    def _reap_between(self) -> None:
        if self._between:
            os.waitpid(self._between, 0)
            self._between = 0

    def kill(self) -> None:
        """Kill what was begun. ``fd`` is readable when it ended: soon, or when a frozen container is thawed.

        Not the process between: killed after its clone and before its word, it would leave a child of ours that nobody
        knows, nor reaps. Until that is reaped the container's init can't end (pid_namespaces(7)).
        """
        self._killed = True
        if self._pidfd >= 0:
            process.send(self._pidfd, 9)

    def abort(self) -> None:
        """Kill, and wait for the end."""
        self._killed = True
        if self._between:  # its word is still to come
            with contextlib.suppress(VesselError, OSError):
                self._born(self._channel.receive())
        self._reap_between()
        self.kill()
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


class Program:
    """What goes in: the plan of its end, and what it has open."""

    def __init__(self, spec: dict[str, Any], state: State, fds: tuple[int, int, int], preserve: Sequence[int]) -> None:
        own = {"capabilities": state.data["capabilities"]} if spec.get("capabilities") is None else {}
        self.plan = launch.Plan({**spec, **own}, *state.seccomp())
        self.fds = fds
        self.preserve = tuple(preserve)
        self.terminal = bool(spec.get("terminal"))
        size = spec.get("consoleSize") or {}
        self.window = (int(size.get("height") or 0), int(size.get("width") or 0))
        self.console = -1


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
    """Send ``spec``, an object as config.json's process, into the container's namespaces and its cgroup.

    Without capabilities of its own it has the container's.
    """
    check_process(spec)
    state = load(root, container)
    if not (paused and state.status() == "paused"):
        state.require("exec")
    program = Program(spec, state, stdio, preserve)
    if program.terminal:
        if not console_socket:
            raise StartError("process.terminal is true, and no console socket was given", hint="use --console-socket")
        program.console = console.connect(console_socket)
    try:
        return _start(state, program)
    finally:
        if program.console >= 0:
            os.close(program.console)


def _start(state: State, program: Program) -> Joining:
    ours, theirs = Channel.pair()
    target = state.pidfd()
    try:
        if target < 0:
            raise StateError(f"container {state.id} is stopped")
        between = os.fork()
        if between == 0:
            _between(state, program, theirs, target)
        return Joining(state, program.plan, ours, between)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        if target >= 0:
            os.close(target)


def _between(state: State, program: Program, channel: Channel, target: int) -> None:
    """Join, then clone: a process enters a pid namespace only by being born into it. CLONE_PARENT makes the new
    process a child of who called exec."""
    step = "exec"
    try:
        gc.disable()  # as in init.main
        process.set_dumpable(False)
        step = "label"
        launch.set_label(program.plan)
        step = "cgroup"
        _enter_cgroup(state)
        step = "namespaces"
        flags = _different(state.pid)
        namespaces.setns(target, flags)
        pid, dummy = namespaces.clone3(namespaces.CLONE_PARENT)
        if pid == 0:
            _inside(program, channel, user=bool(flags & namespaces.CLONE_NEWUSER))
        channel.send(pid=pid)
    except BaseException as error:
        channel.send(**failure(step, error))
    os._exit(0)


def _enter_cgroup(state: State) -> None:
    """The container's group; that of its first process where v2 lets nobody into the group itself, because the
    container has shared out its controllers (cgroups(7), "no internal processes")."""
    manager = state.manager()
    try:
        manager.add(os.getpid())
    except KernelError as error:
        if error.errno not in (errno.EBUSY, errno.EOPNOTSUPP) or not manager.unified():
            raise
        with open(f"/proc/{state.pid}/cgroup") as file:
            path = next(line[3:].strip() for line in file if line.startswith("0::"))
        type(manager)(path, manager.root).add(os.getpid())


def _different(pid: int) -> int:
    """Flags of the namespaces that are not ours already: joining one's own user namespace is refused."""
    flags = 0
    for kind, file in namespaces.FILES.items():
        theirs = process.namespace_id(pid, file)
        if theirs and theirs != process.namespace_id("self", file):
            flags |= namespaces.FLAGS[kind]
    return flags


def _inside(program: Program, channel: Channel, *, user: bool) -> None:
    """The new process, in the container."""
    step = "descriptors"
    try:
        own = {0, 1, 2, channel.fileno(), *program.preserve, *program.fds}
        if program.console >= 0:
            own.add(program.console)
        process.close_all_but(own)
        process.reset_signals()
        os.setsid()
        if channel.receive() is None:
            os._exit(1)
        step = "user"
        if user:
            process.setgroups([])
            os.setgid(0)
            os.setuid(0)
        launch.set_home(program.plan)
        step = "exec"
        path = launch.find(program.plan)
        step = "console"
        if program.terminal:
            _terminal(program)
        step = "stdio"
        stdio.install(program.fds, program.plan, terminal=program.terminal)
        step = "rlimits"
        launch.set_limits(program.plan)
        step = "user and capabilities"
        launch.become(program.plan)
        for fd in program.preserve:
            os.set_inheritable(fd, True)
        step = "exec"
        launch.execute(program.plan, path)
    except BaseException as error:
        try:
            channel.send(**failure(step, error))
        except OSError:
            pass
    os._exit(1)


def _terminal(program: Program) -> None:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    master, slave, name = console.open_pair(root, program.window)
    os.close(root)
    console.send(program.console, master, name)
    program.fds = (slave, slave, slave)
