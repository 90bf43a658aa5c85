# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a long pull, and who may read it."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._image import progress
from ansible_collections.vessel.host.plugins.module_utils._image.progress import ProgressFile, Told
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

TOKEN = "0" * 32


@pytest.fixture
def paths(tmp_path):
    return Paths.at(str(tmp_path / "vessel"))


@pytest.fixture
def told(paths):
    told = ProgressFile(paths, TOKEN, lambda text: text.replace("hunter2", "***"))
    yield told
    told.close()


def lines(told):
    return [json.loads(line) for line in Path(told.path).read_bytes().splitlines()]


def test_lines(told):
    told.blob("sha256:a", 5, 10)
    told.say("step 1", "Reading package lists…")
    assert lines(told) == [
        {"what": "sha256:a", "done": 5, "total": 10},
        {"what": "step 1", "text": "Reading package lists…"},
    ]


def test_root_alone_may_read_it(told):
    assert stat.S_IMODE(os.stat(told.path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(told.path)).st_mode) == 0o700


def test_a_layer_is_told_of_a_few_times_a_second_and_at_its_end(told):
    for done in range(1, 10001):
        told.blob("a", done, 10000)
        told.blob("b", done, 0)
    for what, last in (("a", 10000), ("b", None)):
        found = [line["done"] for line in lines(told) if line["what"] == what]
        assert found[0] == 1
        assert len(found) < 10
        assert last is None or found[-1] == last
    told.blob("a", 10000, 10000)
    assert [line["done"] for line in lines(told)].count(10000) == 1


def test_no_secret_is_told(told):
    told.say("step 1", "the password is hunter2")
    assert lines(told)[0]["text"] == "the password is ***"


def test_the_file_stays_small(told):
    for number in range(2000):
        told.say("step 1", f"{number} {'x' * 5000}")
    assert os.stat(told.path).st_size <= progress.LIMIT + 2000
    assert lines(told)[-1]["text"].startswith("1999 x")


def test_children_tell_too(told):
    children = []
    for number in range(4):
        child = os.fork()
        if not child:
            for line in range(100):
                told.say(str(number), f"{line} {'x' * 200}")
            os._exit(0)
        children.append(child)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    for number in range(4):
        found = [line["text"].split()[0] for line in lines(told) if line["what"] == str(number)]
        assert found == [str(line) for line in range(100)]


def test_it_goes_with_its_directory(told):
    told.close()
    assert not os.path.exists(os.path.dirname(told.path))
    told.say("nothing", "is told any more")
    told.close()


def test_what_a_killed_process_left_is_swept_and_what_is_written_is_not(paths, told):
    child = os.fork()
    if not child:
        ProgressFile(paths, "1" * 32)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    directory = progress.directory(paths)
    assert sorted(os.listdir(directory)) == [TOKEN, "1" * 32]
    other = ProgressFile(paths, "2" * 32)
    assert sorted(os.listdir(directory)) == [TOKEN, "2" * 32]
    other.close()
    assert os.listdir(directory) == [TOKEN]


def test_where_nothing_can_be_written_nothing_fails(tmp_path):
    (tmp_path / "run").write_text("a file")
    told = ProgressFile(Paths.at(str(tmp_path)), TOKEN)
    told.blob("a", 1, 2)
    told.say("a", "b")
    told.close()


def test_a_stream_tells_how_much_of_it_was_read(told):
    stream = Told(io.BytesIO(b"x" * 100), told, "layer", 100)
    assert stream.read(40) + stream.read(100) == b"x" * 100
    assert [(line["done"], line["total"]) for line in lines(told)] == [(40, 100), (100, 100)]
