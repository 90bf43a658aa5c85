# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks that run with the engine that the host has installed, and in the ordinary way where it has none.

Ansible says which file it uses for a module each time that it builds a payload: twice, where the host had no engine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cli.version import PACKAGE

from .place import Place

pytestmark = pytest.mark.root

CHECKOUT = Path(__file__).parents[2]
INVENTORY = "localhost ansible_connection=local ansible_python_interpreter=/usr/bin/python3\n"
SLEEPER = {"name": "a", "image": "bb", "command": ["sleep", "100000"], "network_mode": "none"}
ORDINARY, LIGHT = 2, 1  # payloads that are built for one task


@pytest.fixture
def place(tmp_path):
    place = Place(str(tmp_path / "vessel"))
    place.busybox()
    yield place
    place.remove()


def play(place, tasks, *arguments, collections=CHECKOUT / "collection", fails=False):
    """(what was said, the payloads built for each task) of a play with these tasks, whole processes."""
    directory = Path(place.root).parent
    (directory / "inventory").write_text(INVENTORY)
    for task in tasks:
        for name, options in task.items():
            if name.startswith("vessel.host."):
                options["root"] = place.root
    book = [{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]
    (directory / "play.yml").write_text(json.dumps(book))
    settings = {
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-vvv", "-i", "inventory", "play.yml", *arguments]
    env = {**os.environ, **settings}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=directory, env=env)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    texts = done.stdout.split("\nTASK [")[1:]
    return done.stdout, [text.count("Using module file") for text in texts]


def test_the_first_container_brings_the_engine_and_all_that_follow_use_it(place):
    tasks = [{"vessel.host.container": dict(SLEEPER)} for dummy in range(2)]
    tasks.append({"vessel.host.container_info": {"name": "a"}, "register": "found"})
    tasks.append({"assert": {"that": "found.containers[0].state == 'running'"}})
    said, built = play(place, tasks)
    assert built == [ORDINARY, LIGHT, LIGHT, 0]
    assert "changed=1" in said
    (version,) = os.listdir(place.paths.libexec)
    assert Path(place.paths.libexec, version, "ansible/module_utils/basic.py").exists()


def test_an_engine_that_others_may_write_to_is_not_run(place):
    play(place, [{"vessel.host.container": dict(SLEEPER)}])
    (version,) = os.listdir(place.paths.libexec)
    os.chmod(f"{place.paths.libexec}/{version}", 0o777)
    assert play(place, [{"vessel.host.container_info": {"name": "a"}}])[1] == [ORDINARY]
    os.chmod(f"{place.paths.libexec}/{version}", 0o755)


def test_check_mode_brings_nothing(place):
    assert play(place, [{"vessel.host.container": dict(SLEEPER)}], "--check")[1] == [ORDINARY]
    assert not os.path.exists(place.paths.libexec)


def test_errors_are_told_as_ever(place):
    play(place, [{"vessel.host.container": dict(SLEEPER)}])
    bad = {"vessel.host.container": {**SLEEPER, "memory": "much"}, "register": "result", "ignore_errors": True}
    sentence = {"assert": {"that": ["result is failed", "'memory: ' in result.msg"]}}
    assert play(place, [bad, sentence])[1] == [LIGHT, 0]


def test_in_the_background_it_is_ordinary(place):
    play(place, [{"vessel.host.container": dict(SLEEPER)}])
    task = {"vessel.host.container": dict(SLEEPER), "async": 60, "poll": 1}
    said, dummy = play(place, [task])
    assert "changed=0" in said


def test_another_version_of_the_collection_takes_the_place_of_the_first(place, tmp_path):
    """Also when nothing else is to change: else it would come anew with every task."""
    play(place, [{"vessel.host.container": dict(SLEEPER)}])
    process = place.process("a")
    copy = tmp_path / "newer/ansible_collections/vessel/host"
    shutil.copytree(CHECKOUT / "plugins", copy / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("meta", "galaxy.yml"):
        (shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copy)(CHECKOUT / name, copy / name)
    with open(copy / "plugins/module_utils/_errors.py", "a") as file:
        file.write("# newer\n")
    tasks = [{"vessel.host.container": dict(SLEEPER)} for dummy in range(2)]
    said, built = play(place, tasks, collections=tmp_path / "newer")
    assert "changed=0" in said
    assert built == [ORDINARY, LIGHT]
    assert place.process("a") == process


def test_secrets_are_not_in_what_is_shown(place):
    play(place, [{"vessel.host.container": dict(SLEEPER)}])
    secret = {"vessel.host.container": {**SLEEPER, "secrets": [{"name": "key", "content": "hunter2-hunter2"}]}}
    said, built = play(place, [secret], "--diff")
    assert built == [LIGHT]
    assert "hunter2" not in said


def test_nor_where_the_module_breaks_down(place):
    """A traceback shows the line that calls; with become the payload is a file, of which Python can tell its lines."""
    play(place, [{"vessel.host.container": dict(SLEEPER)}])
    (version,) = os.listdir(place.paths.libexec)
    utils = Path(place.paths.libexec, version, "ansible/module_utils")
    (utils / "basic.py").write_text("1 / 0")
    shutil.rmtree(utils / "__pycache__")  # which nobody would compare with it
    secret = {**SLEEPER, "secrets": [{"name": "key", "content": "hunter2-hunter2"}]}
    said, dummy = play(place, [{"vessel.host.container": secret, "become": True}], fails=True)
    assert "ZeroDivisionError" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("lost", ["vessel", "ansible", f"{PACKAGE}/_options/parse.py"])
def test_what_is_not_whole_is_mended_by_the_next_task(place, lost):
    play(place, [{"vessel.host.container": dict(SLEEPER)}])
    process = place.process("a")
    (version,) = os.listdir(place.paths.libexec)
    subprocess.run(["rm", "-r", f"{place.paths.libexec}/{version}/{lost}"], check=True)
    said, built = play(place, [{"vessel.host.container": dict(SLEEPER)} for dummy in range(2)])
    assert "changed=0" in said
    assert built == [ORDINARY, LIGHT]
    assert os.listdir(place.paths.libexec) == [version]
    assert subprocess.run([f"{place.paths.bin}/vessel", "version"], check=False).returncode == 0
    assert place.process("a") == process
