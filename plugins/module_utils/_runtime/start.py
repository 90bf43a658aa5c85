# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""start: let the created process go on to exec, and hear whether it could."""

from __future__ import annotations

import os
import socket

from .._errors import StateError
from . import hooks
from .bundle import load as load_bundle
from .channel import Channel, raised
from .create import DirectoryFd
from .state import State, load


def start(root: str, container: str) -> State:
    """Return when the user's process runs; StartError says why it does not."""
    state = load(root, container)
    state.require("start")
    connection = knock(state)
    try:
        hear(state, connection)
    finally:
        connection.close()
    if os.path.exists(f"{state.bundle}/config.json"):
        declared = load_bundle(state.bundle).get("hooks") or {}
        hooks.run_all(state.to_oci(), declared.get("poststart") or [], "poststart")
    return state


def knock(state: State) -> Channel:
    """Open the gate. The channel is readable when the process has become the user's, or could not."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        with DirectoryFd(state.directory) as fd:
            sock.connect(f"/proc/self/fd/{fd}/gate")
        os.unlink(state.gate)
    except (ConnectionRefusedError, FileNotFoundError):
        sock.close()
        raise StateError(f"container {state.id} is not waiting to be started") from None
    return Channel(sock)


def hear(state: State, channel: Channel) -> None:
    """The child's end closes on exec: silence is success."""
    message = channel.receive()
    if message is not None:
        raise raised(message)
