# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vessel logs -f`` while the log is rotated as often as it likes: each line is told once."""

from __future__ import annotations

import os
import time

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cli.follow import Follower
from ansible_collections.vessel.host.plugins.module_utils._converge.logs import _from_end
from ansible_collections.vessel.host.plugins.module_utils._monitor.rotation import Rotation


class Log:
    """A log that is written to and rotated."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.count = 0

    def write(self, lines: int) -> None:
        for dummy in range(lines):
            os.write(self.fd, b"line %07d\n" % self.count)
            self.count += 1

    def rotate(self, files: int) -> None:
        rotation = Rotation(self.path, files)
        while not rotation.step():
            pass


@pytest.fixture
def log(tmp_path):
    log = Log(str(tmp_path / "log"))
    yield log
    os.close(log.fd)


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("between", [1, 2, 4])
def test_each_line_is_told_once(log, capfdbinary, before, between):
    for dummy in range(before):
        log.write(1000)
        log.rotate(9)
    follower, first = Follower(log.path, os.stat(log.path).st_size), log.count
    for dummy in range(3):
        for dummy in range(between):
            log.write(1000)
            log.rotate(9)
        log.write(10)
        assert follower.step()
        assert not follower.step()
    told = capfdbinary.readouterr().out
    assert told == b"".join(b"line %07d\n" % number for number in range(first, log.count))


def test_what_is_gone_can_not_be_told_and_the_rest_is(log, capfdbinary):
    follower = Follower(log.path, 0)
    for dummy in range(6):
        log.write(1000)
        log.rotate(3)
    follower.step()
    told = capfdbinary.readouterr().out
    everything = b"".join(b"line %07d\n" % number for number in range(log.count))
    assert everything.endswith(told)
    assert told.count(b"\n") > 2000


def test_the_end_of_a_log_without_lines_takes_no_age(tmp_path):
    """A hundred megabytes in one line: block by block in front of what is there would copy a hundred gigabytes."""
    path = tmp_path / "log"
    with open(path, "wb") as file:
        file.truncate(100 << 20)
    begin = time.monotonic()
    assert len(_from_end(str(path), 2)) == 100 << 20
    assert time.monotonic() - begin < 5
