# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor: one process a host, one loop, the parent of the containers."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
from typing import Callable, Optional

from .._errors import MonitorError, NotFoundError, StateError, VesselError
from .._kernel import process
from .._paths import Paths, container_of
from .._runtime.state import directory
from .adopt import adopt_all
from .connection import Connection, Reply, peer_uid
from .container import Container
from .host import Host
from .loop import Timer
from .protocol import Message, check_numbers
from .rotating import Rotator
from .starting import Failure
from .waiting import CONDITIONS, POLLED, Wait

IDLE_EXIT = 2.0
DRAIN_LIMIT = 10.0


class Server:
    """``idle_exit``: end when for so many seconds nobody was connected and no container ran or was to run; 0 is never.

    Their status files stay.
    """

    def __init__(self, paths: Paths, *, version: str = "", idle_exit: float = IDLE_EXIT) -> None:
        self.host = Host(paths, version)
        self.containers: dict[str, Container] = {}
        self._connections: set[Connection] = set()
        self._idle_exit = idle_exit
        self._idle: Optional[Timer] = None
        self.ended_idle = False
        self._quitting = False
        self._rotator = Rotator(self.host)
        self._sock: Optional[socket.socket] = None

    # its life
    def run(self, ready: Callable[[], None]) -> None:
        """Listen before anything else: clients wait for an answer rather than fail."""
        self._listen()
        self._take_signals()
        self.containers.update(adopt_all(self.host))
        for container in self.containers.values():
            container.listeners.append(self._changed)
            self._rotator.wake(container)
        self._look_idle()
        ready()
        self.host.loop.run()

    def _listen(self) -> None:
        path = self.host.paths.monitor_socket
        try:
            os.unlink(path)  # the lock is ours, so it is nobody's
        except FileNotFoundError:
            pass
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        fd = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.bind(f"/proc/self/fd/{fd}/{os.path.basename(path)}")  # an address has 108 bytes
        finally:
            os.close(fd)
            os.umask(before)
        sock.listen(128)
        self._sock = sock
        self.host.loop.watch(sock.fileno(), self._accept)

    def _accept(self) -> None:
        if self._sock is None:
            return
        try:
            sock, dummy = self._sock.accept()
        except OSError:
            return  # the client has given up meanwhile
        if peer_uid(sock) != 0:
            sock.close()
            return
        self._connections.add(Connection(self.host.loop, sock, self._request, self._closed))
        self._look_idle()

    def _closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._look_idle()

    def _take_signals(self) -> None:
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *dummy: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._wake_socks = (ours, theirs)

        def woken() -> None:
            ours.recv(512)
            self._quit(None)

        self.host.loop.watch(ours.fileno(), woken)

    def _look_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._idle_exit and not self._connections and all(c.settled for c in self.containers.values()):
            self._idle = self.host.loop.after(self._idle_exit, self._end_idle)

    def _end_idle(self) -> None:
        self.ended_idle = True
        self.host.loop.stop()

    # requests
    def _request(self, message: Message, reply: Reply) -> None:
        op = message.get("op")
        try:
            if op not in OPERATIONS:
                raise MonitorError(f"no such operation: {op!r}")
            check_numbers(message)
            OPERATIONS[op](self, message, reply)
        except (VesselError, OSError) as error:
            reply.error(error)
        except (TypeError, ValueError, KeyError) as error:
            reply.error(MonitorError(f"{op}: bad request: {type(error).__name__}: {error}"))

    def _find(self, message: Message) -> Container:
        name = str(message["name"])
        try:
            return self.containers[name]
        except KeyError:
            raise NotFoundError("container", container_of(name)) from None

    def ping(self, message: Message, reply: Reply) -> None:
        reply.ok(pid=os.getpid(), version=self.host.version, containers=len(self.containers))

    def start(self, message: Message, reply: Reply) -> None:
        if self._quitting:
            raise MonitorError("the supervisor is about to quit", hint="ask the next one")
        container = self._known(str(message["name"]))

        def done(error: Failure) -> None:
            if error is not None:
                reply.error(error)
            else:
                reply.ok(pid=container.status.pid, status=container.status.to_dict())

        container.start(done)

    def _known(self, name: str) -> Container:
        """The container, which is ours from its first start on."""
        if name not in self.containers:
            directory(self.host.paths.runtime, name)  # refuses what is no name
            bundle = self.host.paths.bundle(name)
            if not os.path.exists(f"{bundle}/config.json"):
                raise NotFoundError("container", container_of(name), hint=f"there is no bundle in {bundle}")
            container = self.containers[name] = Container(self.host, name)
            container.listeners.append(self._changed)
        return self.containers[name]

    def _changed(self, container: Container) -> None:
        self._rotator.wake(container)
        if not self._connections:
            self._look_idle()

    def stop(self, message: Message, reply: Reply) -> None:
        container = self._find(message)
        _when_settled(container, reply, lambda: reply.ok(status=container.status.to_dict()))
        container.stop(message.get("timeout"), message.get("signal"))

    def kill(self, message: Message, reply: Reply) -> None:
        self._find(message).kill(message["signal"])
        reply.ok()

    def restart(self, message: Message, reply: Reply) -> None:
        container = self._find(message)

        def done(error: Failure) -> None:
            reply.ok(status=container.status.to_dict()) if error is None else reply.error(error)

        _when_settled(container, reply, lambda: container.start(done))
        container.stop(message.get("timeout"), message.get("signal"))

    def remove(self, message: Message, reply: Reply) -> None:
        """What we do not know is removed already. Its process is stopped as ``stop`` does it."""
        container = self.containers.get(str(message["name"]))
        if container is None:
            reply.ok()
            return

        def gone() -> None:
            self.containers.pop(container.name, None)
            self._rotator.forget(container)
            container.forget()
            reply.ok()

        _when_settled(container, reply, gone)
        container.stop(message.get("timeout"))

    def pause(self, message: Message, reply: Reply) -> None:
        self._find(message).pause()
        reply.ok()

    def resume(self, message: Message, reply: Reply) -> None:
        self._find(message).resume()
        reply.ok()

    def reload(self, message: Message, reply: Reply) -> None:
        self._find(message).reload()
        reply.ok()

    def wait(self, message: Message, reply: Reply) -> None:
        until = message.get("until") or "exited"
        if until not in CONDITIONS and until not in POLLED:
            raise MonitorError(f"wait: until {until!r} is none of {', '.join([*CONDITIONS, *POLLED])}")
        if until == "idle" and message["name"] not in self.containers:
            reply.ok()  # nobody is connected to what does not run
            return
        ports = {int(port) for port in message.get("ports") or ()}
        Wait(self._find(message), until, message.get("timeout"), reply, ports)

    def list(self, message: Message, reply: Reply) -> None:
        reply.ok(containers={name: c.status.to_dict() for name, c in self.containers.items()})

    def status(self, message: Message, reply: Reply) -> None:
        reply.ok(status=self._find(message).status.to_dict())

    def quit(self, message: Message, reply: Reply) -> None:
        self._quit(reply)

    def _quit(self, reply: Optional[Reply]) -> None:
        """End, and leave all running. Starts under way are waited for: who asked for them gets the answer."""
        first, self._quitting = not self._quitting, True
        if first:
            self.host.loop.after(DRAIN_LIMIT, self.host.loop.stop)
        if any(container.busy for container in self.containers.values()):
            self.host.loop.after(0.01, lambda: self._quit(reply))
            return
        if reply is not None:
            reply.ok()
        self.host.loop.stop()


Operation = Callable[[Server, Message, Reply], None]
OPERATIONS: dict[str, Operation] = {
    "ping": Server.ping,
    "start": Server.start,
    "stop": Server.stop,
    "kill": Server.kill,
    "restart": Server.restart,
    "remove": Server.remove,
    "pause": Server.pause,
    "resume": Server.resume,
    "reload": Server.reload,
    "wait": Server.wait,
    "list": Server.list,
    "status": Server.status,
    "quit": Server.quit,
}


def _when_settled(container: Container, reply: Reply, call: Callable[[], None]) -> None:
    """Once, when the container has ended for good; an error when nothing can end it."""

    def look(container: Container) -> None:
        if container.settled:
            container.listeners.remove(look)
            call()
        elif container.stuck:
            container.listeners.remove(look)
            text = f"{container.title}: process {container.status.pid} does not end, even by SIGKILL"
            reply.error(StateError(text, hint="it waits for a device or a file system; /proc/PID/stack says where"))

    container.listeners.append(look)


def claim(paths: Paths) -> int:
    """The lock of the one supervisor. It is a lock of the process (fcntl(2)): no child that is killed late keeps it."""
    path = f"{paths.run}/monitor.lock"
    os.makedirs(paths.run, mode=0o700, exist_ok=True)
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        except FileNotFoundError:
            pass  # the one before has just removed it
        except OSError:
            os.close(fd)
            raise MonitorError(f"another supervisor runs for {paths.run}") from None
        os.close(fd)


def release(paths: Paths, lock: int, *, empty: bool) -> None:
    """Take our files away; the run directory too, when nothing else is in it."""
    for name in ("monitor.sock", *(("monitor.lock",) if empty else ())):
        try:
            os.unlink(f"{paths.run}/{name}")
        except FileNotFoundError:
            pass
    os.close(lock)


def main(
    paths: Paths, *, version: str = "", idle_exit: float = IDLE_EXIT, ready: Optional[Callable[[], None]] = None
) -> bool:
    """Supervise until told to quit. The containers go on without us. Was it because there was nothing to supervise?"""
    lock = claim(paths)
    process.set_dumpable(False)
    os.umask(0o022)
    server = Server(paths, version=version, idle_exit=idle_exit)
    server.host.raise_limits()
    try:
        server.run(ready or (lambda: None))
    finally:
        release(paths, lock, empty=not server.containers)
        sys.stderr.flush()
    return server.ended_idle
