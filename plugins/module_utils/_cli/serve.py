# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The other side of ask.py: a process that stays for a while, as ssh's ControlPersist does, and forks for each verb.

It has two sockets, both root's alone: one for callers on this host (callers.py), and one, whose name all versions
share, for those who are at the other end of a stream (streaming.py). Who logs in as another user and becomes root has
a process apart, of which the second is that user's: whether they may have it is asked where they become root, as of
``vessel session``.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Sequence

from .._errors import StateError, VesselError
from .._kernel import process
from .._kernel.file import locked, make_directories
from .._paths import ROOT_ENV, Paths
from . import ask, version
from .callers import Caller, Passing
from .streaming import Streaming

STREAM = "warm.sock"
_PACKETS = socket.SOCK_SEQPACKET
_LONGEST = (1 << 31) - 1  # milliseconds, of poll(2)
_GRANTED = 600.0  # seconds after which who lets users become root is asked again: it may have changed its mind
_GRACE = 1.0  # seconds that quit() waits
_DESCRIPTORS = 8  # that a caller may need, with those that it has while its verb is forked


def start(paths: Paths, seconds: float) -> None:
    """See to it that one is there; whoever comes next may ask it. Without one nothing is lost but time."""
    name = _installed(paths)
    if name:
        with contextlib.suppress(OSError), locked(f"{paths.run}/locks/warm"):
            _see_to(paths, name, f"{paths.run}/{STREAM}", 0, seconds)


def session(paths: Paths, seconds: float, uid: int) -> str:
    """As start(), for a user of this host; the path of the socket that is theirs. StateError where no engine is."""
    name = _installed(paths)
    if not name:
        raise StateError("session: the engine is not installed here", hint="vessel.host.engine, or any task, does that")
    path = f"{paths.callers}/{uid}.sock"
    with locked(f"{paths.run}/locks/warm"):  # quit() takes the directory away
        _make_callers(paths.callers)
        _see_to(paths, f"{name}-{uid}", path, uid, seconds)
    return path


def _make_callers(path: str) -> None:
    make_directories(path, 0o711)
    if not version.trusted(path):  # by no symlink, either: a root may lie below another user's directory
        hint = "remove it, or choose a root below which nobody else may write"
        raise VesselError(f"session: others may write to {path}", hint=hint)
    os.chmod(path, 0o711)  # whatever the umask is


def _remove_callers(path: str) -> None:
    """What is ours: where a root was there before us, a directory of that name may be somebody's."""
    with contextlib.suppress(OSError):  # others have something there, or it is gone
        if version.trusted(path):
            for name in os.listdir(path):
                if name.endswith(".sock") and name[:-5].isdigit():
                    os.unlink(f"{path}/{name}")
            os.rmdir(path)


def _installed(paths: Paths) -> str:
    """Our version; empty where there is no engine that runs."""
    return os.path.basename(version.installed()) if os.path.isdir(paths.run) else ""


def _see_to(paths: Paths, name: str, stream: str, uid: int, seconds: float) -> None:
    """For who holds the lock."""
    seats = [_Seat(ask.address(paths.run, name), _PACKETS), _Seat(stream, socket.SOCK_STREAM, uid)]
    try:
        if seats[0].answers():
            if seats[1].answers():
                return
            with contextlib.suppress(OSError):
                seats[0].quit()  # nobody would find it any more
        for seat in seats:
            seat.take()
        pid = os.fork()
        if pid == 0:
            _become_daemon(seats, seconds, paths.root)
        os.waitpid(pid, 0)
    finally:
        for seat in seats:
            seat.close()


def quit(paths: Paths) -> None:
    """End those of all versions; what they are running goes on."""
    if not os.path.isdir(paths.run):
        return
    with locked(f"{paths.run}/locks/warm"):
        for name in os.listdir(paths.run):
            if name == STREAM or (name.startswith("warm-") and name.endswith(".sock")):
                seat = _Seat(f"{paths.run}/{name}", _PACKETS)
                with contextlib.suppress(OSError):
                    seat.quit()
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{paths.run}/{name}")
                seat.close()
        _remove_callers(paths.callers)


class _Seat:
    """Where callers come to: a socket by its name in a directory, for the path itself may be longer than an address."""

    def __init__(self, path: str, kind: int, uid: int = 0) -> None:
        directory, name = os.path.split(path)
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
        self.uid = uid
        self._kind = kind
        self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._address = f"/proc/self/fd/{self._directory}/{name}"
        self._inode = 0

    def answers(self) -> bool:
        with self._new() as sock:
            return sock.connect_ex(self._address) == 0

    def take(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)  # of one that was killed
        before = os.umask(0o177)
        try:
            self.listener.bind(self._address)
        finally:
            os.umask(before)
        os.chown(self._address, self.uid, -1, follow_symlinks=False)
        self.listener.listen(64)
        self._inode = os.stat(self.path).st_ino

    def leave(self) -> None:
        """Unless another process has taken it meanwhile."""
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)

    def quit(self) -> None:
        with self._new() as sock:
            sock.settimeout(_GRACE)
            sock.connect(self._address)
            sock.send(ask.QUIT)
            sock.recv(64)

    def close(self) -> None:
        self.listener.close()
        os.close(self._directory)

    def _new(self) -> socket.socket:
        return socket.socket(socket.AF_UNIX, self._kind | socket.SOCK_CLOEXEC)


def _become_daemon(seats: Sequence[_Seat], seconds: float, root: str) -> None:
    """Forked twice, as any daemon. Nothing stays open of who started it: ssh waits until its streams are closed."""
    code = 1
    try:
        os.setsid()
        if os.fork() == 0:
            os.chdir("/")
            null = os.open("/dev/null", os.O_RDWR)
            for fd in range(3):
                os.dup2(null, fd)
            process.close_all_but({0, 1, 2, *(seat.listener.fileno() for seat in seats)})
            process.reset_signals()
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as any Python has it: who has gone is an OSError
            os.environ[ROOT_ENV] = root  # of all who come to these sockets, whatever names it where they do
            _warm()
            Server(seats, seconds).run()
        code = 0
    finally:
        os._exit(code)


def _warm() -> None:
    """A lock on our version, as main.py has it, and all that a verb imports, where no collection of garbage goes
    through it: each page that it touches in a fork is copied."""
    import gc
    import hashlib  # noqa: F401  of a root that was moved

    from .._cgroup.manager import open_manager
    from .._converge import processes  # noqa: F401
    from . import cp, main, show, terminal, vessel  # noqa: F401

    main.hold_version()
    open_manager("/vessel")
    gc.collect()
    gc.freeze()


class Server:
    def __init__(self, seats: Sequence[_Seat], seconds: float) -> None:
        self._seats = seats
        self._patience = min(seconds * 1000, _LONGEST)
        self._granted = _GRANTED if any(seat.uid for seat in seats) else math.inf
        self._until = time.monotonic() + self._granted
        self._most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _DESCRIPTORS
        self._poll = select.poll()
        self._callers: dict[int, Caller] = {}  # by the descriptors that are polled
        self._fresh: set[int] = set()  # those that came after what is told of their numbers
        self._kinds = dict(zip((seat.listener.fileno() for seat in seats), (self._passing, Streaming)))
        for fd in self._kinds:
            self._poll.register(fd, select.POLLIN)

    def run(self) -> None:
        while self._callers or self._kinds:
            ready = self._poll.poll(None if self._callers else self._patience)
            if not ready:
                for seat in self._seats:
                    seat.leave()
                return
            self._fresh.clear()
            for fd, event in ready:
                if fd in self._kinds:
                    self._accept(fd)
                elif fd in self._callers and fd not in self._fresh:
                    self._tell(self._callers[fd], fd, event)

    def _accept(self, fd: int) -> None:
        listener = next(seat.listener for seat in self._seats if seat.listener.fileno() == fd)
        sock = listener.accept()[0]
        kind, now = self._kinds[fd], time.monotonic()
        if kind != Streaming:
            self._until = now + self._granted  # who gets to this one is root, as session() is
        if now < self._until and len(set(self._callers.values())) < self._most:
            self._watch(kind(sock))
        else:
            sock.close()  # who is not heard goes another way

    def _passing(self, sock: socket.socket) -> Caller:
        return Passing(sock, self._stop)

    def _stop(self) -> None:
        """What runs goes on. Who has come and was not heard yet is let go, for another way."""
        for fd in self._kinds:
            self._poll.unregister(fd)
        self._kinds = {}
        for seat in self._seats:
            seat.listener.close()

    def _tell(self, caller: Caller, fd: int, event: int) -> None:
        before = caller.wants()
        caller.ready(fd, event)
        for gone in before.keys() - self._watch(caller).keys():
            del self._callers[gone]
            self._poll.unregister(gone)

    def _watch(self, caller: Caller) -> dict[int, int]:
        """What it wants now."""
        wanted = caller.wants()
        for fd, mask in wanted.items():
            if fd not in self._callers:
                self._fresh.add(fd)
            self._callers[fd] = caller
            self._poll.register(fd, mask)
        return wanted
