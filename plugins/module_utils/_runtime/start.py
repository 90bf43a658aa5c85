# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""start: let the created process go on to exec, and hear whether it could."""

from __future__ import annotations

from collections.abc import Callable

from . import gate, hooks
from .channel import Channel, raised
from .state import State, load


def start(root: str, container: str, *, warn: Callable[[str], None] = hooks.silent) -> State:
    """Return when the user's process runs; StartError says why it does not.

    A poststart hook that fails does not stop the container (runtime-spec, runtime.md, "Lifecycle"); ``warn`` is told.
    """
    state = load(root, container)
    state.require("start")
    connection = knock(state)
    try:
        hear(state, connection)
    finally:
        connection.close()
    hooks.run_after(state.to_oci(), state.hooks("poststart"), "poststart", warn)
    return state


def knock(state: State) -> Channel:
    """Open the gate. The channel is readable when the process has become the user's, or could not."""
    return gate.knock(state.directory, state.id)


def hear(state: State, channel: Channel) -> None:
    """The child's end closes on exec: silence is success."""
    message = channel.receive()
    if message is not None:
        raise raised(message)
