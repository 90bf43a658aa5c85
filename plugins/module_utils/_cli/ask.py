# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``--persist``: have a verb run by a process that is warm (serve.py).

Starting Python and importing the engine is most of what a short command costs. This asks before anything is imported,
so it imports next to nothing itself.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # see main.py
if TYPE_CHECKING:
    from collections.abc import Sequence

OPTION = "--persist"
VERBS = ("exec", "cp")
BEGUN = b"begun"  # from here on it is theirs; before it, nothing has been done
QUIT = b"quit"
MOST = 1 << 17
_FORWARDED = (1, 2, 3, 15)  # SIGHUP, SIGINT, SIGQUIT, SIGTERM


def address(run: str, version: str) -> str:
    """The socket, in the directory that is root's alone."""
    return f"{run}/warm-{version}.sock"


def ask(args: Sequence[str], root: str, version: str) -> int | None:
    """The verb's exit code; None when nobody is there to run it, or it is not asked for."""
    words = list(args)
    root = os.environ.get("VESSEL_ROOT") or root
    if words[:1] == ["--root"] and len(words) > 1:
        root, words = words[1], words[2:]
    if words[1:2] != [OPTION] or words[0] not in VERBS or not version:
        return None
    request = "\0".join([os.getcwd(), root, str(_umask()), words[0], *words[3:]]).encode("utf-8", "surrogateescape")
    if len(request) > MOST:
        return None
    run = "/run/vessel" if root in ("", "/") else f"{os.path.realpath(root)}/run"  # as Paths.at() has it
    return _exchange(address(run, version), request)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _exchange(path: str, request: bytes) -> int | None:
    import _socket  # socket brings enum and selectors along
    from _signal import signal  # type: ignore[import-not-found]

    directory, name = os.path.split(path)
    fds = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        # By the descriptor: a socket's address has 108 bytes, and a path may have more.
        at = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        sock.connect(f"/proc/self/fd/{at}/{name}")
        sock.sendmsg([request], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)])
        if sock.recv(64) != BEGUN:
            return None
    except OSError:
        return None
    for number in _FORWARDED:
        signal(number, lambda number, dummy: sock.send(b"%d" % number))
    try:
        answer = sock.recv(64)
    except OSError:
        answer = b""
    if not answer:
        os.write(2, b"vessel: the process that ran it was killed\n")
        return 125
    return int(answer)
