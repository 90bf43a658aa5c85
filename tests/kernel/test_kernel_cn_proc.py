# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ends of processes as the kernel's process events tell them, against what wait(2) says."""

from __future__ import annotations

import os
import select
import signal
import socket
import time

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError
from ansible_collections.vessel.host.plugins.module_utils._kernel import namespaces, probe, process
from ansible_collections.vessel.host.plugins.module_utils._kernel.cn_proc import ExitEvents
from ansible_collections.vessel.host.plugins.module_utils._kernel.pidfd import tells_exit_codes

pytestmark = pytest.mark.root


def spawn(code: int, by: int = 0) -> tuple[int, int]:
    """(pid, what to write to for its end)."""
    reader, writer = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        process.end_with(parent)
        os.read(reader, 1)
        if by:
            os.kill(os.getpid(), by)
        os._exit(code)
    os.close(reader)
    return pid, writer


def end(pid: int, writer: int) -> None:
    os.write(writer, b"x")
    os.close(writer)
    os.waitpid(pid, 0)


def heard(events: ExitEvents, count: int) -> dict[int, int]:
    found: dict[int, int] = {}
    until = time.monotonic() + 5
    while len(found) < count and select.select([events], [], [], max(0, until - time.monotonic()))[0]:
        found.update(events.read())
    return found


def test_the_ends_of_those_that_were_named():
    ends = [(0, 0), (7, 0), (255, 0), (0, signal.SIGTERM), (0, signal.SIGKILL)]
    spawned = [spawn(*end) for end in ends]
    other = spawn(9)
    events = ExitEvents([pid for pid, dummy in spawned])
    try:
        assert events.read() == {}
        end(*other)
        expected = {}
        for (pid, writer), (code, by) in zip(spawned, ends):
            end(pid, writer)
            expected[pid] = 128 + by if by else code
        assert heard(events, len(ends)) == expected  # and nothing of the other, which ended before
    finally:
        events.close()


def test_more_than_a_filter_holds():
    """All ends are let through, and an overflow loses some of them, and no more."""
    last = spawn(3)
    events = ExitEvents(range(last[0], last[0] + 300))
    try:
        with socket.socket(fileno=os.dup(events.fileno())) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        others = [spawn(1) for dummy in range(50)]
        for other in others:
            end(*other)
        found = events.read()
        assert len([pid for pid, dummy in others if pid in found]) < 50
        end(*last)
        assert heard(events, 1)[last[0]] == 3
    finally:
        events.close()


def test_outside_of_the_first_network_namespace():
    def listen() -> str:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        try:
            ExitEvents([1])
        except KernelError as error:
            return str(error)
        return "it listens"

    done, text = probe.in_child(listen)
    assert done
    assert text.startswith("listen to process events: ")


def test_outside_of_the_first_pid_namespace():
    """There the kernel does not even refuse."""

    def listen() -> str:
        namespaces.unshare(namespaces.CLONE_NEWPID)
        return probe.in_child(lambda: ExitEvents([1]))[1]

    done, text = probe.in_child(listen)
    assert done
    assert "initial namespaces" in text


def test_whether_pidfds_tell_is_known_by_trying():
    assert tells_exit_codes() == (probe.version() >= (6, 15))
