# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Straight to the process that ``vessel exec --persist`` leaves on a host: no ssh, shell or Python is started for a
command.

Its socket is brought here by ssh, as a forwarding of the connection that ssh's ControlPersist keeps, so it is there for
as long as that and needs no other login. It is root's alone on the host; who logs in as another user and becomes root
gets one of their own, if that is allowed them. While the process is not there, everybody goes the long way.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import selectors
import socket
import stat
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.common.text.converters import to_bytes
from ansible.utils.path import unfrackpath

_SOCKET = "warm.sock"
_HERE, _OUT, _ERR, _END = b"h", b"1", b"2", b"x"  # see module_utils/_cli/streaming.py
_PROTOCOL = b"1"
_HEADER = 5
_MOST = 1 << 17  # of a request
_CHUNK = 1 << 16
_PATIENCE = 10  # seconds for what ssh answers by itself
_REFUSED = 600  # seconds after which we try again where a host did not let us
# What says where ssh goes, and as whom.
_OPTIONS = (
    "host", "port", "remote_user", "ssh_executable", "ssh_args", "ssh_common_args", "ssh_extra_args",
    "private_key_file", "control_path", "control_path_dir",
)  # fmt: skip


def there(root: str) -> str:
    """The socket on the host, as _paths.py has it."""
    return f"{root.rstrip('/')}/run/{_SOCKET}" if root.rstrip("/") else f"/run/vessel/{_SOCKET}"


def here(link: Any, become: str, path: str) -> str:
    """Where the socket of that host is brought to, for who becomes root there by these words."""
    words = [become, path, *(str(link.get_option(name)) for name in _OPTIONS)]
    name = hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return os.path.join(unfrackpath(link.get_option("control_path_dir")), f"vessel-{name}")


def bring(link: Any, target: str, ask: Callable[[], str]) -> None:
    """Have the ssh that is connected bring the host's socket here, where nothing is in its place that can be reached.
    ``ask`` sees to it that it is there and gives its path, or raises. Without it nothing is lost but time."""
    with contextlib.suppress(OSError, AnsibleError):
        if _is_taken(target) or not all(link._persistence_controls(_command(link))):
            return
        with _claimed(f"{target}.new") as claim:
            # Another task may have brought it while ours was run, or been refused.
            if claim and not _is_taken(target) and not _is_heard(target):
                _bring(link, target, ask, claim)


def _bring(link: Any, target: str, ask: Callable[[], str], claim: str) -> None:
    try:
        path = ask()
        if not _is_heard(target):
            _forward(link, target, path)
            if not _is_heard(target):  # as where the host's sshd forwards nothing, or the user does not get there
                raise ConnectionRefusedError(path)
    # The last is of words from the host that are no word of a command.
    except (OSError, subprocess.SubprocessError, AnsibleError, ValueError):
        os.utime(claim)
        os.rename(claim, target)


@contextlib.contextmanager
def _claimed(path: str) -> Iterator[str]:
    """A file that one task has while it asks, for all that a play runs at once would have the same answer; empty for
    the others. Who can't make it does not ask: what is asked for would not get a place either."""
    with contextlib.suppress(FileNotFoundError):
        if not _is_younger(os.lstat(path), _PATIENCE * 3):  # of one that was killed
            os.unlink(path)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        yield ""
        return
    try:
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _forward(link: Any, target: str, path: str) -> None:
    # Under another name first: what is there may be that of a connection that has ended, and two may do this. It is
    # shorter than what ssh makes in that directory, for a socket's address has 108 bytes.
    fresh = f"{os.path.dirname(target)}/vessel-{secrets.token_hex(8)}"
    words = _command(link, "-O", "forward", "-L", f"{fresh}:{path}")
    quiet = subprocess.DEVNULL
    try:
        subprocess.run(words, stdin=quiet, stdout=quiet, stderr=quiet, timeout=_PATIENCE, check=True)
        os.rename(fresh, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)


def _command(link: Any, *words: str) -> list[bytes]:
    """ssh's own, without a sshpass: nobody logs in."""
    program = link.get_option("ssh_executable")
    built = link._build_command(program, "ssh", *words, link.host)
    for fd in link.sshpass_pipe or ():
        os.close(fd)
    return list(built[built.index(to_bytes(program)) :])


def _is_heard(path: str) -> bool:
    sock = _connected(path)
    if sock is None:
        return False
    with sock:
        return _Call(sock).is_heard()


def _is_taken(target: str) -> bool:
    """Whether the socket's place is not for us, or a host has lately not let us: then an empty file is there, for hosts
    write into their logs what they refuse."""
    try:
        info = os.lstat(target)
    except FileNotFoundError:
        return False
    ours = info.st_uid == os.geteuid()
    if stat.S_ISDIR(info.st_mode) or not (ours or os.geteuid() == 0):  # rename(2) would not replace it
        return True
    return ours and stat.S_ISREG(info.st_mode) and _is_younger(info, _REFUSED)


def _is_younger(info: os.stat_result, seconds: float) -> bool:
    """Not what is of the future: a clock was wrong, or is now."""
    return 0 <= time.time() - info.st_mtime < seconds


def _connected(path: str) -> socket.socket | None:
    """None where nobody listens, or somebody else does: others may write to the directory that a user has chosen."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with contextlib.suppress(OSError):
        sock.connect(path)
        dummy, uid, dummy = struct.unpack("3I", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid == os.geteuid():
            return sock
    sock.close()
    return None


def run(
    path: str, root: str, words: Sequence[str], in_data: bytes | None, stdin: str = "", stdout: str = "", mask: str = ""
) -> tuple[int, bytes, bytes] | None:
    """Exit code, stdout and stderr of the words; None when nothing was begun. ``stdin`` and ``stdout`` are files of
    ours instead of ``in_data`` and of what is returned; without a ``mask`` it is the umask of who listens."""
    request = "\0".join(["/", root, mask, *words]).encode("utf-8", "surrogateescape")
    # A word with a NUL would be two; as an argument of a command it is refused.
    fits = len(request) <= _MOST and request.count(0) == len(words) + 2
    sock = _connected(path) if fits else None
    if sock is None:
        return None
    with sock, contextlib.ExitStack() as files:
        call = _Call(sock)
        if not call.is_heard():
            return None
        source = files.enter_context(open(stdin, "rb")) if stdin else None
        sink = files.enter_context(open(stdout, "wb")) if stdout else None
        return call.run(b"%08x" % len(request) + request + (in_data or b""), source, sink)


def umask() -> str:
    """Ours, as who listens here takes it."""
    mask = os.umask(0)
    os.umask(mask)
    return str(mask)


class _Call:
    """What is sent, and what frames come back."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._came = bytearray()
        self._waiting = memoryview(b"")
        self._source: IO[bytes] | None = None
        self._all_sent = True

    def is_heard(self) -> bool:
        """Whether somebody is there. ssh accepts whoever comes, and hangs up when nobody is at the other end."""
        try:
            return self._frame() == (_HERE, _PROTOCOL)
        except OSError:
            return False

    def run(self, first: bytes, source: IO[bytes] | None, sink: IO[bytes] | None) -> tuple[int, bytes, bytes]:
        self._waiting, self._source, self._all_sent = memoryview(first), source, False
        said: dict[bytes, list[bytes]] = {_OUT: [], _ERR: []}
        while True:
            try:
                kind, data = self._frame()
            except OSError as error:
                raise AnsibleConnectionFailure(f"the connection ended before the command did: {error}") from error
            if kind == _END:
                return int(data), b"".join(said[_OUT]), b"".join(said[_ERR])
            if kind == _OUT and sink is not None:
                sink.write(data)
            else:
                said[kind].append(data)

    def _frame(self) -> tuple[bytes, bytes]:
        head = self._take(_HEADER)
        return head[:1], self._take(int.from_bytes(head[1:], "big"))

    def _take(self, size: int) -> bytes:
        while len(self._came) < size:
            self._move()
        found = bytes(self._came[:size])
        del self._came[:size]
        return found

    def _move(self) -> None:
        """Send what can be sent, until something has come."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ | (0 if self._all_sent else selectors.EVENT_WRITE))
            while True:
                event = selector.select()[0][1]
                if event & selectors.EVENT_READ:
                    break
                self._send()
                if self._all_sent:
                    selector.modify(self._sock, selectors.EVENT_READ)
        data = self._sock.recv(_CHUNK)
        if not data:
            raise ConnectionResetError("it was closed")
        self._came += data

    def _send(self) -> None:
        if not self._waiting and self._source is not None:
            self._waiting = memoryview(self._source.read(_CHUNK))
        try:
            if self._waiting:
                self._waiting = self._waiting[self._sock.send(self._waiting, socket.MSG_DONTWAIT) :]
            else:
                self._sock.shutdown(socket.SHUT_WR)
                self._all_sent = True
        except (BrokenPipeError, ConnectionResetError):  # the end has come: nobody reads more, and it can be read
            self._all_sent = True
