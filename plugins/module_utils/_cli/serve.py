# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The other side of ask.py: a process that stays for a while, as ssh's ControlPersist does, and forks for each verb.

A verb's process is a fork that has imported everything, with the caller's streams, directory and umask, and runs the
verb as any other would. When the caller goes, it is told as by a terminal that hangs up.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys

from .._kernel import process
from .._kernel.file import locked
from .._paths import ROOT_ENV, Paths
from . import ask, version

_GRACE = 1.0  # seconds that quit() waits


def start(paths: Paths, seconds: float) -> None:
    """See to it that one is there; whoever comes next may ask it. Without one nothing is lost but time."""
    name = os.path.basename(version.installed())
    if not name or not os.path.isdir(paths.run):
        return
    with contextlib.suppress(OSError), locked(f"{paths.run}/locks/warm"):
        path = ask.address(paths.run, name)
        with _Socket(path) as sock:
            if sock.answers():
                return
            listener = sock.bind()
        pid = os.fork()
        if pid == 0:
            _become_daemon(paths, path, listener, seconds)
        listener.close()
        os.waitpid(pid, 0)


def quit(paths: Paths) -> None:
    """End those of all versions; what they are running goes on."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(paths.run):
            if name.startswith("warm-") and name.endswith(".sock"):
                with _Socket(f"{paths.run}/{name}") as sock, contextlib.suppress(OSError):
                    sock.quit()
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{paths.run}/{name}")


class _Socket:
    """One by its name in a directory: the path itself may be longer than an address."""

    def __init__(self, path: str) -> None:
        directory, name = os.path.split(path)
        self._path = path
        self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._address = f"/proc/self/fd/{self._directory}/{name}"

    def __enter__(self) -> _Socket:
        return self

    def __exit__(self, *dummy: object) -> None:
        os.close(self._directory)

    def answers(self) -> bool:
        with _new() as sock:
            return sock.connect_ex(self._address) == 0

    def bind(self) -> socket.socket:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)  # of one that was killed
        sock = _new()
        before = os.umask(0o177)
        try:
            sock.bind(self._address)
        finally:
            os.umask(before)
        sock.listen(64)
        return sock

    def quit(self) -> None:
        with _new() as sock:
            sock.settimeout(_GRACE)
            sock.connect(self._address)
            sock.send(ask.QUIT)
            sock.recv(64)


def _new() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def _become_daemon(paths: Paths, path: str, listener: socket.socket, seconds: float) -> None:
    """Forked twice, as any daemon. Nothing stays open of who started it: ssh waits until its streams are closed."""
    code = 1
    try:
        os.setsid()
        if os.fork() == 0:
            os.chdir("/")
            null = os.open("/dev/null", os.O_RDWR)
            for fd in range(3):
                os.dup2(null, fd)
            process.close_all_but({0, 1, 2, listener.fileno()})
            process.reset_signals()
            os.environ.pop(ROOT_ENV, None)  # each caller says its own
            _warm()
            Server(paths, path, listener, seconds).run()
        code = 0
    finally:
        os._exit(code)


def _warm() -> None:
    """A lock on our version, as main.py has it, and all that a verb imports."""
    from .._cgroup.manager import open_manager
    from . import cp, main, show, terminal, vessel  # noqa: F401

    main.hold_version()
    open_manager("/vessel")


class Caller:
    """One end of a connection; ``pid`` is the verb's process."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pid = 0
        self.pidfd = -1


class Server:
    def __init__(self, paths: Paths, path: str, listener: socket.socket, seconds: float) -> None:
        self._paths = paths
        self._path = path
        self._listener = listener
        self._patience = seconds * 1000
        self._poll = select.poll()
        self._callers: dict[int, Caller] = {}  # by the descriptors that are polled
        self._poll.register(listener, select.POLLIN)
        self._over = False

    def run(self) -> None:
        while self._callers or not self._over:
            ready = self._poll.poll(None if self._callers else self._patience)
            if not ready:
                os.unlink(self._path)
                return
            for fd, _event in ready:
                if fd == self._listener.fileno():
                    self._add(Caller(self._listener.accept()[0]))
                elif fd in self._callers:
                    self._hear(self._callers[fd], fd)

    def _add(self, caller: Caller) -> None:
        self._callers[caller.sock.fileno()] = caller
        self._poll.register(caller.sock, select.POLLIN)

    def _hear(self, caller: Caller, fd: int) -> None:
        if fd == caller.pidfd:
            self._ended(caller)
        elif caller.pid:
            self._signal(caller)
        else:
            self._begin(caller)

    def _begin(self, caller: Caller) -> None:
        data, fds = _request(caller.sock)
        if len(fds) == 3:
            caller.pid = os.fork()
            if caller.pid == 0:
                _run(data, fds)
            caller.pidfd = process.pidfd_open(caller.pid)
            self._callers[caller.pidfd] = caller
            self._poll.register(caller.pidfd, select.POLLIN)
        else:
            if data == ask.QUIT:
                self._stop()
            self._drop(caller.sock.fileno())
            caller.sock.close()
        for fd in fds:
            os.close(fd)

    def _stop(self) -> None:
        self._over = True
        self._poll.unregister(self._listener)

    def _signal(self, caller: Caller) -> None:
        """What the caller was sent; SIGHUP when it is gone."""
        try:
            data = caller.sock.recv(64)
        except OSError:
            data = b""
        process.send(caller.pidfd, int(data) if data else signal.SIGHUP)
        if not data:
            self._drop(caller.sock.fileno())

    def _ended(self, caller: Caller) -> None:
        code = process.exit_code(os.waitpid(caller.pid, 0)[1])
        with contextlib.suppress(OSError):
            caller.sock.send(b"%d" % code)
        self._drop(caller.pidfd)
        self._drop(caller.sock.fileno())
        os.close(caller.pidfd)
        caller.sock.close()

    def _drop(self, fd: int) -> None:
        if self._callers.pop(fd, None) is not None:
            self._poll.unregister(fd)


def _request(sock: socket.socket) -> tuple[bytes, list[int]]:
    """A request and the caller's streams; none where the caller went before it was told that we begin."""
    data, fds = b"", list[int]()
    try:
        data, fds, _flags, _address = socket.recv_fds(sock, ask.MOST, 3)
        if len(fds) == 3:
            sock.send(ask.BEGUN)
    except OSError:
        for fd in fds:
            os.close(fd)
        return b"", []
    return data, fds


def _run(request: bytes, fds: list[int]) -> None:
    """The verb's process, from its birth to its end."""
    code = 125
    try:
        for target, fd in enumerate(fds):
            os.dup2(fd, target)
        process.close_all_but({0, 1, 2})
        cwd, root, mask, *args = request.decode("utf-8", "surrogateescape").split("\0")
        os.umask(int(mask))
        with contextlib.suppress(OSError):
            os.chdir(cwd)
        from .vessel import main

        code = main(args, root=root)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
