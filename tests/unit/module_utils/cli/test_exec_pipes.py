# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vessel exec`` by way of pipes: every word arrives, and nobody waits for what a command leaves behind."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cli import terminal


@pytest.fixture
def sinks(tmp_path):
    """Two files in place of our stdout and stderr, by descriptor."""
    fds = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in ("out", "error")]
    yield fds
    for fd in fds:
        os.close(fd)


def collect(sinks, script):
    out, error = os.pipe(), os.pipe()
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.DEVNULL, stdout=out[1], stderr=error[1]) as child:
        os.close(out[1])
        os.close(error[1])
        pidfd = os.pidfd_open(child.pid)
        try:
            terminal._collect({out[0]: sinks[0], error[0]: sinks[1]}, pidfd)
        finally:
            os.close(pidfd)
    return [os.pread(fd, 1 << 24, 0) for fd in sinks]


def test_each_stream_goes_its_way(sinks):
    assert collect(sinks, "echo out; echo error >&2") == [b"out\n", b"error\n"]


def test_more_than_a_pipe_holds_arrives_whole(sinks):
    assert collect(sinks, "head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&2") == [
        bytes(3000000),
        bytes(2000000),
    ]


def test_one_that_closes_its_streams_is_waited_for_no_longer(sinks):
    assert collect(sinks, "echo last; exec >&- 2>&-; sleep 0.1") == [b"last\n", b""]


def test_what_is_left_behind_is_not_waited_for(sinks, tmp_path):
    began = time.monotonic()
    assert collect(sinks, f"sleep 20 & echo $! > {tmp_path}/pid; echo done")[0] == b"done\n"
    assert time.monotonic() - began < 10
    os.kill(int((tmp_path / "pid").read_text()), 9)


def test_without_a_word_for_it_there_is_an_end():
    reader, writer = os.pipe()
    terminal._feed(writer, False)
    assert os.read(reader, 1) == b""
    os.close(reader)
