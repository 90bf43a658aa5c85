# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""start: let the created process go on to exec, and hear whether it could."""

from __future__ import annotations

from . import gate, hooks
from .channel import Channel, raised
from .delete import end
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
    try:
        poststart(state)
    except BaseException:
        end(state, state.manager())  # what is left is stopped, and to be deleted
        raise
    return state


def poststart(state: State) -> None:
    """The hooks once the user's process runs. One that fails is an error, and who hears of it stops the container
    (runtime-spec 1.3.0, runtime.md, "Lifecycle", step 9; before it was a warning)."""
    hooks.run_all(state.to_oci(), state.hooks("poststart"), "poststart")


def knock(state: State) -> Channel:
    """Open the gate. The channel is readable when the process has become the user's, or could not."""
    return gate.knock(state.directory, state.id)


def hear(state: State, channel: Channel) -> None:
    """The child's end closes on exec: silence is success."""
    message = channel.receive()
    if message is not None:
        raise raised(message)
