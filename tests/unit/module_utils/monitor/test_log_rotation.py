# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotation of a file that stays open, where the head can be taken off and where it can't."""

from __future__ import annotations

import errno
import os

import pytest
from ansible_collections.vessel.host.plugins.module_utils._monitor import rotation
from ansible_collections.vessel.host.plugins.module_utils._monitor.rotation import Rotation, older_files


@pytest.fixture(params=["as the file system can", "copy and truncate"])
def log(tmp_path, request, monkeypatch):
    if request.param == "copy and truncate":
        monkeypatch.setattr(rotation, "collapse", lambda fd, length: False)
    path = str(tmp_path / "log")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    yield path, fd
    os.close(fd)


def fill(fd, first, count):
    for number in range(first, first + count):
        os.write(fd, b"line %07d\n" % number)


def rotate(path, files, piece=1 << 20):
    steps = Rotation(path, files, piece=piece)
    while not steps.step():
        pass


def content(path):
    return b"".join(open(file, "rb").read() for file in [*older_files(path), path])


def test_nothing_is_lost_and_the_writer_goes_on(log):
    path, fd = log
    fill(fd, 0, 5000)
    rotate(path, 5)
    fill(fd, 5000, 5000)
    rotate(path, 5)
    fill(fd, 10000, 10)
    assert content(path) == b"".join(b"line %07d\n" % number for number in range(10010))
    assert os.stat(path).st_size < 10000
    assert os.stat(f"{path}.1").st_mode & 0o777 == 0o640
    assert not os.path.exists(f"{path}.new")


def test_what_is_written_meanwhile_stays(log):
    path, fd = log
    fill(fd, 0, 3000)
    steps = Rotation(path, 3, piece=8192)
    number = 3000
    while not steps.step():
        fill(fd, number, 10)
        number += 10
    assert number > 3010
    assert content(path) == b"".join(b"line %07d\n" % n for n in range(number))


def test_so_many_files(log):
    path, fd = log
    for round_ in range(5):
        fill(fd, round_ * 2000, 2000)
        rotate(path, 3)
    assert older_files(path) == [f"{path}.2", f"{path}.1"]
    rotated = content(path)
    everything = b"".join(b"line %07d\n" % number for number in range(10000))
    assert everything.endswith(rotated)
    fill(fd, 10000, 2000)
    rotate(path, 2)
    assert older_files(path) == [f"{path}.1"]


def test_one_file_only(log):
    path, fd = log
    fill(fd, 0, 5000)
    rotate(path, 1)
    assert older_files(path) == []
    assert os.stat(path).st_size <= 4096


def test_less_than_a_block_is_left_alone(log):
    path, fd = log
    os.write(fd, b"short\n")
    rotate(path, 3)
    assert content(path) == b"short\n"


def lines(path):
    return [int(line.split()[1]) for line in content(path).splitlines() if len(line) == 12]


def test_a_log_that_has_grown_far_beyond_becomes_several_files(log):
    """As many as it would have become, of about that size; what would be too old is not copied."""
    path, fd = log
    fill(fd, 0, 20000)
    steps = Rotation(path, 4, max_size=32768)
    while not steps.step():
        pass
    sizes = [os.stat(file).st_size for file in older_files(path)]
    assert sizes[:2] == [32768] * 2
    assert 32768 <= sizes[2] <= 32768 + 4096  # with what comes at last, where the file is cut
    kept = lines(path)
    assert kept == list(range(kept[0], 20000))  # the end of it, without a gap


@pytest.mark.parametrize(("count", "files"), [(2800, 1), (3600, 1), (4500, 2), (9000, 3)])
def test_a_log_that_is_somewhat_above_loses_nothing(log, count, files):
    path, fd = log
    fill(fd, 0, count)
    steps = Rotation(path, 4, max_size=32768)
    while not steps.step():
        pass
    assert len(older_files(path)) == files
    assert content(path) == b"".join(b"line %07d\n" % number for number in range(count))


def test_with_no_room_for_older_files_the_log_is_cut(tmp_path, log, monkeypatch):
    path, fd = log
    fill(fd, 0, 5000)
    rotate(path, 3)
    before = content(path + ".1")

    def full(*dummy):
        raise OSError(errno.ENOSPC, "no room")

    fill(fd, 5000, 5000)
    monkeypatch.setattr(os, "sendfile", full)
    rotate(path, 3)
    assert os.stat(path).st_size <= 4096
    assert content(path + ".1") == before
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1"]
