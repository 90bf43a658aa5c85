# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of a progress file, and what of that is shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from ansible_collections.vessel.host.plugins.module_utils._image.progress import LIMIT, ProgressFile
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
from ansible_collections.vessel.host.plugins.plugin_utils import following, poll

TOKEN = "a" * 32


@pytest.fixture
def paths(tmp_path):
    return Paths.at(str(tmp_path / "vessel"))


@pytest.fixture
def told(paths):
    told = ProgressFile(paths, TOKEN)
    yield told
    told.close()


def look(root, at=0, patience=0, **env):
    """What the program says that is sent to a host."""
    command = [sys.executable, "-c", following.program(), root, TOKEN, str(at), str(patience)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, **env})
    return following.parse(done.stdout)


@pytest.mark.parametrize("root", ["", "/", "$BASE/one", "~/two", "/base/./three"])
def test_it_looks_where_the_module_writes(root, monkeypatch):
    monkeypatch.setenv("BASE", "/base")
    monkeypatch.setenv("HOME", "/home/somebody")
    for variable in ("", "/base/four"):
        monkeypatch.setenv("VESSEL_ROOT", variable)
        paths = Paths.at(os.path.expanduser(os.path.expandvars(root)))
        assert poll.where(root, TOKEN) == f"{paths.run}/progress/{TOKEN}"


def test_each_line_is_read_once(paths, told):
    told.say("one", "a")
    at, lines = look(paths.root)
    assert [line["what"] for line in lines] == ["one"]
    told.say("two", "b")
    after, lines = look(paths.root, at)
    assert [line["what"] for line in lines] == ["two"]
    assert look(paths.root, after) == (after, [])


def test_the_variable_of_the_target_names_the_installation_too(paths, told):
    told.say("one", "a")
    assert look("", VESSEL_ROOT=paths.root)[1][0]["what"] == "one"


def test_a_file_that_began_anew_is_read_from_its_beginning(paths, told):
    while os.stat(told.path).st_size <= LIMIT:
        told.say("long", "x" * 900)
    at, dummy = look(paths.root)
    told.say("short", "y")
    assert [line["what"] for line in look(paths.root, at)[1]] == ["short"]


def test_of_much_the_end_is_read(paths, told):
    for number in range(200):
        told.say(str(number), "x" * 900)
    dummy, lines = look(paths.root)
    assert 50 < len(lines) < 100
    assert lines[-1]["what"] == "199"


def test_a_look_waits_for_something_to_see(paths, told):
    timer = threading.Timer(0.5, told.say, ("late", "a"))
    timer.start()
    began = time.monotonic()
    assert look(paths.root, patience=30)[1][0]["what"] == "late"
    assert 0.4 < time.monotonic() - began < 20


def test_a_look_ends_with_the_task(paths, told):
    told.say("one", "a")
    at, dummy = look(paths.root)
    threading.Timer(0.3, told.close).start()
    assert look(paths.root, at, patience=30) == (-1, [])


def test_nobody_waits_for_who_was_killed(paths):
    child = os.fork()
    if not child:
        ProgressFile(paths, TOKEN)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert look(paths.root, patience=30) == (-1, [])


def test_what_a_terminal_adds_is_left_out():
    text = 'motd of a host\r\n17\r\n"total": 5}\r\n{"what": "a", "text": "b"}\r\n'
    assert following.parse(text) == (17, [{"what": "a", "text": "b"}])
    assert following.parse("sudo: a password is required\r\n") == (None, [])


def blob(what, done, total=0):
    return {"what": what, "done": done, "total": total}


def test_of_each_layer_the_last_word_is_shown_and_only_news():
    screen = following.Screen("web1")
    assert list(screen.texts([blob("a", 1000, 4000), blob("a", 2000, 4000), blob("b", 1234567890)])) == [
        "a: 2.0 kB of 4.0 kB, 50 %",
        "b: 1.2 GB",
    ]
    assert list(screen.texts([blob("a", 2000, 4000)])) == []
    assert list(screen.texts([blob("a", 4000, 4000)])) == ["a: 4.0 kB of 4.0 kB, 100 %"]


def test_of_much_that_is_said_the_end_is_shown():
    texts = list(following.Screen("web1").texts({"what": "step 1", "text": str(number)} for number in range(100)))
    assert texts[:2] == ["(80 lines more)", "step 1: 80"]
    assert texts[-1] == "step 1: 99"


def test_nothing_that_a_step_prints_commands_the_terminal():
    said = "\x1b]0;title\x07\x1b[31mred\x1b[0m\rbar\x08\x9b2J\x1bc\udc80"
    assert following.plain(said) == "redbar2J?"


def test_digests_are_short():
    assert following.plain(f"sha256:{'0123456789abcdef' * 4}") == "sha256:0123456789ab"


def test_what_is_told_is_believed_in_nothing():
    assert list(following.Screen("web1").texts([blob("a", "x", -5), blob("b", 7, 5)])) == [
        "a: 0 B",
        "b: 7 B of 5 B, 100 %",
    ]
    assert following.parse("1\n[]\n{}\n3\n") == (1, [])


@pytest.mark.parametrize(
    ("task", "variables", "wanted"),
    [
        ({}, {}, False),
        ({}, {"vessel_progress": True}, True),
        ({}, {"vessel_progress": "yes"}, True),
        ({"check_mode": True}, {"vessel_progress": True}, False),
        ({"no_log": True}, {"vessel_progress": True}, False),
        ({"async_val": 5}, {"vessel_progress": True}, False),
    ],
)
def test_who_wants_it(task, variables, wanted, monkeypatch):
    monkeypatch.setattr(following, "TERMINAL", False)
    monkeypatch.setattr(following.C, "ANSIBLE_FORCE_COLOR", False)
    defaults = {"check_mode": False, "no_log": False, "async_val": 0}
    templar = SimpleNamespace(template=lambda value: value)
    assert following.is_wanted(SimpleNamespace(**{**defaults, **task}), variables, templar) is wanted
    monkeypatch.setattr(following, "TERMINAL", True)
    assert not following.is_wanted(SimpleNamespace(**{**defaults, **task}), {"vessel_progress": False}, templar)


class Action:
    """A host on which a module writes that it has begun, and goes on until it is told to end."""

    def __init__(self, paths):
        self._task = SimpleNamespace(args={"root": paths.root}, delegate_to=None)
        self._used_interpreter = f"#!{sys.executable}"
        self.looks = 0

    def _compute_environment_string(self):
        return "LANG=C"

    def _low_level_execute_command(self, command):
        self.looks += 1
        done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
        return {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


@pytest.fixture
def action(paths, monkeypatch):
    """Its second connection is the first, and what is shown is kept."""
    action, action.shown = Action(paths), []
    monkeypatch.setattr(following, "DELAY", 0.2)
    monkeypatch.setattr(following, "PAUSE", 0.05)
    monkeypatch.setattr(following, "_second", lambda action: action)
    monkeypatch.setattr(following.display, "display", lambda text, **dummy: action.shown.append(text))
    return action


def test_what_is_soon_done_costs_nothing(action, paths):
    with following.Follower(action, {"inventory_hostname": "web1"}) as follower:
        ProgressFile(paths, follower.token).close()
    time.sleep(0.5)
    assert action.looks == 0


def test_what_is_told_is_shown_until_the_end(action, paths):
    with following.Follower(action, {"inventory_hostname": "web1"}) as follower:
        told = ProgressFile(paths, follower.token)
        for number in range(3):
            told.say("step 1", str(number))
            time.sleep(0.5)
        told.close()
    assert action.shown == [f"[web1] step 1: {number}" for number in range(3)]
    looks = action.looks
    time.sleep(0.3)
    assert action.looks == looks


def test_a_file_that_comes_late_is_waited_for(action, paths):
    with following.Follower(action, {"inventory_hostname": "web1"}) as follower:
        time.sleep(0.6)
        assert action.looks > 1
        told = ProgressFile(paths, follower.token)
        told.say("step 1", "late")
        time.sleep(0.6)
        told.close()
    assert action.shown == ["[web1] step 1: late"]


@pytest.mark.parametrize("interpreter", ["#!/no/such/python", "#!/bin/false"])
def test_where_nothing_can_be_read_the_task_goes_on(action, interpreter):
    action._used_interpreter = interpreter
    with following.Follower(action, {"inventory_hostname": "web1"}):
        time.sleep(0.6)
    assert (action.shown, action.looks) == ([], 1)


def test_the_program_is_short_enough_for_a_log():
    assert len(following.program()) < 1600
    assert json.dumps(following.program())
