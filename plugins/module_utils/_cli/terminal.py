# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vessel exec``: one more process in a container, at our own terminal or without one."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
import sys
import termios
from typing import Any

from .._kernel import process as kernel
from .._kernel.file import write_all
from .._paths import Paths
from .._runtime import exec as runtime_exec

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def run(paths: Paths, name: str, spec: dict[str, Any], *, interactive: bool, tty: bool) -> int:
    """The command's exit code."""
    if tty:
        return _at_terminal(paths, name, spec, interactive=interactive)
    if spec.get("selinuxLabel"):
        return _through_pipes(paths, name, spec, interactive=interactive)
    # Until it is known where to, a signal waits; the new process has an empty mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        started = runtime_exec.exec(paths.runtime, paths.instance(name), spec, stdio=(0 if interactive else null, 1, 2))
        _forward(started.pidfd)
    finally:
        os.close(null)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    return started.wait()


def _through_pipes(paths: Paths, name: str, spec: dict[str, Any], *, interactive: bool) -> int:
    """A container's label lets it use pipes of ours; what our streams are, sshd's or a file of root's, it doesn't."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    theirs, ours = zip(os.pipe2(os.O_CLOEXEC), *(os.pipe2(os.O_CLOEXEC)[::-1] for dummy in range(2)))
    try:
        started = runtime_exec.exec(paths.runtime, paths.instance(name), spec, stdio=theirs)
        _forward(started.pidfd)
    finally:
        for fd in theirs:
            os.close(fd)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    from threading import Thread

    feeder = Thread(target=_feed, args=(ours[0], interactive), daemon=True)
    feeder.start()
    _collect({ours[1]: 1, ours[2]: 2}, started.pidfd)
    return started.wait()


def _feed(sink: int, interactive: bool) -> None:
    """Our stdin, until it or its reader ends; in a thread, as a command that does not read has something to say too."""
    try:
        while interactive:
            data = os.read(0, 1 << 16)
            if not data:
                break
            write_all(sink, data)
    except OSError:
        pass
    os.close(sink)


def _collect(sources: dict[int, int], pidfd: int) -> None:
    """Until the command has ended and what it said is written, or nobody is left who could say more: what it left
    behind may have its pipes for longer, and nobody waits for that."""
    while sources:
        ready = select.select([*sources, pidfd], [], [])[0]
        said = [fd for fd in ready if fd != pidfd]
        if not said:
            return
        for fd in said:
            data = os.read(fd, 1 << 16)
            if data:
                write_all(sources[fd], data)
            else:
                del sources[fd]
                os.close(fd)


def _forward(pidfd: int) -> None:
    """It has a session of its own, so the terminal's ^C reaches us alone."""
    for number in _FORWARDED:
        signal.signal(number, lambda number, dummy: kernel.send(pidfd, number))


def _at_terminal(paths: Paths, name: str, spec: dict[str, Any], *, interactive: bool) -> int:
    rows, columns = window(0)
    spec = {**spec, "terminal": True, "consoleSize": {"height": rows, "width": columns}}
    with Console(paths.run) as console:
        started = runtime_exec.exec(paths.runtime, paths.instance(name), spec, console_socket=console.address)
        master = console.receive()
    attend(master, interactive=interactive)
    return started.wait()


def attend(master: int, *, interactive: bool) -> None:
    """Connect our terminal with the container's until that one has no user left."""
    signal.signal(signal.SIGWINCH, lambda *dummy: _resize(0, master))
    with _Raw(0 if interactive else -1):
        _relay(master, interactive=interactive)
    os.close(master)


class Console:
    """A socket at which the container's end delivers the terminal's master (--console-socket of runc)."""

    def __init__(self, directory: str) -> None:
        self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._name = f"console-{os.getpid()}"
        # By the descriptor: a socket's address has 108 bytes, and a path may have more.
        self.address = f"/proc/self/fd/{self._directory}/{self._name}"
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)

    def __enter__(self) -> Console:
        before = os.umask(0o177)
        try:
            self._sock.bind(self.address)
        finally:
            os.umask(before)
        self._sock.listen(1)
        return self

    def receive(self) -> int:
        connection, dummy = self._sock.accept()
        with connection:
            space = socket.CMSG_SPACE(struct.calcsize("i"))
            dummy, ancillary, dummy, dummy = connection.recvmsg(4096, space, socket.MSG_CMSG_CLOEXEC)
        return int(struct.unpack("i", ancillary[0][2])[0])

    def __exit__(self, *error: object) -> None:
        self._sock.close()
        os.unlink(self._name, dir_fd=self._directory)
        os.close(self._directory)


class _Raw:
    """Our terminal passes every key on while this lasts; -1 for no terminal."""

    def __init__(self, fd: int) -> None:
        self._fd = fd if fd >= 0 and os.isatty(fd) else -1

    def __enter__(self) -> None:
        if self._fd >= 0:
            import tty

            self._before = termios.tcgetattr(self._fd)
            tty.setraw(self._fd)

    def __exit__(self, *error: object) -> None:
        if self._fd >= 0:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)


def window(fd: int) -> tuple[int, int]:
    """(rows, columns); zeros when it is no terminal."""
    try:
        rows, columns, dummy, dummy = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
    except OSError:
        return 0, 0
    return rows, columns


def _resize(source: int, master: int) -> None:
    rows, columns = window(source)
    if rows:
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _relay(master: int, *, interactive: bool) -> None:
    """Until the terminal's last user is gone, which reads as EIO."""
    sources = [master, 0] if interactive else [master]
    while True:
        for fd in select.select(sources, [], [])[0]:
            try:
                data = os.read(fd, 1 << 14)
            except OSError:
                data = b""
            if fd == master:
                if not data:
                    return
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            elif data:
                os.write(master, data)
            else:
                sources.remove(0)
                os.write(master, b"\x04")  # end of file, as a terminal says it
