# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sd_notify(3): a word to the service manager that started us. The protocol is a datagram, as its page says."""

from __future__ import annotations

import os
import socket

ENV = "NOTIFY_SOCKET"


def sd_notify(state: str) -> None:
    """Send ``state`` (READY=1 …); nobody hears where no service manager started us."""
    address = os.environ.get(ENV, "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
