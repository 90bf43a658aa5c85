# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""proc_pid_net(5): the sockets of the network namespace that a process is in."""

from __future__ import annotations

from collections.abc import Iterator

LISTEN, UNCONNECTED = "0A", "07"  # include/net/tcp_states.h; the second is what UDP has in place of TCP_CLOSE
# Nobody can say anything more on these, or the kernel does it by itself.
_OVER = ("06", "07", LISTEN)  # TIME_WAIT, CLOSE


def rows(file: str, process: str = "thread-self") -> Iterator[list[str]]:
    """The fields of each line below the head; nothing where the kernel has no such file, or not any more."""
    try:
        with open(f"/proc/{process}/net/{file}") as lines:
            next(lines, "")
            yield from (line.split() for line in lines)
    except OSError:
        return


def tcp(pid: int) -> tuple[set[int], list[int]]:
    """(ports that are listened to, port of each connection that has come in by one of them and is not over)."""
    lines = [*rows("tcp", str(pid)), *rows("tcp6", str(pid))]
    found = [(int(fields[1].rpartition(":")[2], 16), fields[3]) for fields in lines]
    listened = {port for port, state in found if state == LISTEN}
    return listened, [port for port, state in found if port in listened and state not in _OVER]
