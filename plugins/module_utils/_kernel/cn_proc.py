# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process events connector: how processes end that are not our children.

driver-api/connector.rst and linux/cn_proc.h of the kernel. It answers only who is in the initial user, pid and network
namespace, so the pids that it names are the caller's own.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Collection

from .libc import oserror
from .process import exit_code
from .seccomp import sock_fprog

NETLINK_CONNECTOR = 11
CN_IDX_PROC = CN_VAL_PROC = 1
PROC_CN_MCAST_LISTEN, PROC_CN_MCAST_IGNORE = 1, 2
PROC_EVENT_NONE, PROC_EVENT_EXIT = 0, 0x80000000
SO_ATTACH_FILTER = 26
_NLMSG_DONE = 3
_HEADERS = struct.Struct("=IHHIIIIIIHH")  # struct nlmsghdr, struct cn_msg
_EVENT = struct.Struct("=IIQ")  # what, cpu, timestamp_ns of struct proc_event
_ACK = 28  # offset of cn_msg's ack
_WHAT = _HEADERS.size
_DATA = _WHAT + _EVENT.size
# process_pid, process_tgid, exit_code of its exit_proc_event
_TGID, _STATUS, _END = _DATA + 4, _DATA + 8, _DATA + 12
# linux/bpf_common.h: load a word at an offset, jump when it equals a constant, return a constant
_LD, _JEQ, _RET = 0x20, 0x15, 0x06
_ALL, _NOTHING = 0xFFFFFFFF, 0
# A filter is charged to net.core.optmem_max, which was 20 KiB before Linux 6.8.
_MOST_PIDS = 256


class ExitEvents:
    """Owns the socket. KernelError where the connector is not to be had."""

    def __init__(self, pids: Collection[int]) -> None:
        """From here on the ends of these processes are heard, and maybe of others; an end before is not."""
        try:
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._sock = socket.socket(socket.AF_NETLINK, kind, NETLINK_CONNECTOR)
        except OSError as error:
            oserror("socket", "NETLINK_CONNECTOR", code=error.errno)
        try:
            self._sock.bind((0, CN_IDX_PROC))
            self._listen()
            fprog = _program(pids)
            self._sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(fprog))
        except OSError as error:
            self._sock.close()
            oserror("listen to", "process events", code=error.errno)
        except BaseException:
            self._sock.close()
            raise

    def _listen(self) -> None:
        """The kernel answers within the call that asks, to all who listen, or never. Its answer has our number + 1."""
        number = os.getpid()
        self._send(PROC_CN_MCAST_LISTEN, number)
        for data in self._packets():
            if _word(data, _WHAT) == PROC_EVENT_NONE and _word(data, _ACK) == number + 1:
                code = _word(data, _DATA)
                if code:
                    oserror("listen to", "process events", code=code)
                return
        hint = "it has no CONFIG_PROC_EVENTS, or we are not in its initial namespaces"
        oserror("listen to", "process events", code=errno.EOPNOTSUPP, hint=hint)

    def _send(self, operation: int, number: int) -> None:
        size = _HEADERS.size + 4
        headers = _HEADERS.pack(size, _NLMSG_DONE, 0, 0, 0, CN_IDX_PROC, CN_VAL_PROC, 0, number, 4, 0)
        self._sock.sendto(headers + struct.pack("=I", operation), (0, 0))

    def fileno(self) -> int:
        return self._sock.fileno()

    def read(self) -> dict[int, int]:
        """Process: exit code, of those that ended since the last call.

        Each thread's end is an event. The last is the one that counts: a first thread may end before the others.
        """
        found = {}
        for data in self._packets():
            if _word(data, _WHAT) == PROC_EVENT_EXIT:
                found[_word(data, _TGID)] = exit_code(_word(data, _STATUS))
        return found

    def _packets(self) -> list[bytes]:
        """What the kernel has sent. What did not fit into the socket's buffer is lost."""
        found: list[bytes] = []
        while True:
            try:
                data, sender = self._sock.recvfrom(512)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            if sender[0] == 0 and len(data) >= _END:
                found.append(data)

    def close(self) -> None:
        """The word goes first: before Linux 6.6 the kernel goes on making events for a socket that is closed."""
        try:
            self._send(PROC_CN_MCAST_IGNORE, 0)
        except OSError:
            pass
        self._sock.close()


def _word(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], sys.byteorder)


def _program(pids: Collection[int]) -> sock_fprog:
    """Let through the ends of these processes, or of all when they are too many; nobody is woken for the rest."""
    code = [(_LD, 0, 0, _WHAT), (_JEQ, 1, 0, _swapped(PROC_EVENT_EXIT)), (_RET, 0, 0, _NOTHING), (_LD, 0, 0, _TGID)]
    if len(pids) <= _MOST_PIDS:
        for pid in pids:
            code += [(_JEQ, 0, 1, _swapped(pid)), (_RET, 0, 0, _ALL)]
        code.append((_RET, 0, 0, _NOTHING))
    else:
        code.append((_RET, 0, 0, _ALL))
    return sock_fprog(len(code), b"".join(struct.pack("=HBBI", *each) for each in code))


def _swapped(value: int) -> int:
    """As a filter loads it: it takes what is in a packet for big-endian."""
    return int.from_bytes(struct.pack("=I", value), "big")
