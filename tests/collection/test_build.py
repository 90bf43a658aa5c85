# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user gets: the collection is built, installed into an empty path, and used from there."""

from __future__ import annotations

import json
import subprocess
import tarfile
from fnmatch import fnmatch

import pytest

from .gates import CHECKOUT, MODULES, check, environment

PROJECTS = "tests/integration/compose/"  # as others have them, with files such as .env
FORBIDDEN = [
    "collection/*",
    ".*",
    "*/.*",
    "*.pyc",
    "*__pycache__*",
    "tests/output/*",
    "Makefile",
    "pyproject.toml",
    "molecule/*",
]
PLAY = """\
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - vessel.host.host_info:
      register: result
    - ansible.builtin.copy:
        dest: "{{ playbook_dir }}/result.json"
        content: "{{ result | to_json }}"
        mode: "0600"
"""


@pytest.fixture(scope="module")
def tarball(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tarball")
    check("ansible-galaxy", "collection", "build", "--output-path", str(directory))
    (path,) = directory.glob("vessel-host-*.tar.gz")
    return path


@pytest.fixture(scope="module")
def installed(tarball, tmp_path_factory):
    """An empty collections path with nothing but ours in it, and the surroundings to use it."""
    path = tmp_path_factory.mktemp("installed")
    check("ansible-galaxy", "collection", "install", "--offline", "-p", str(path), str(tarball), cwd=path)
    return path, environment(ANSIBLE_COLLECTIONS_PATH=str(path), ANSIBLE_INVENTORY_UNPARSED_WARNING="false")


def test_the_tarball_holds_what_it_should(tarball):
    with tarfile.open(tarball) as file:
        names = file.getnames()
        assert not [member.name for member in file if member.issym() or member.islnk()]
    own = [name for name in names if not name.startswith(PROJECTS)]
    assert not [name for name in own if any(fnmatch(name, pattern) for pattern in FORBIDDEN)]
    tracked = subprocess.run(
        [
            "git",
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "plugins",
            "meta",
            "docs",
            "LICENSE",
            "README.md",
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert sorted(set(tracked) - set(names)) == []


def test_every_module_is_documented(installed):
    path, env = installed
    names = [f"vessel.host.{module}" for module in MODULES]
    done = check("ansible-doc", "--json", "--type", "module", *names, cwd=path, env=env)
    found = json.loads(done.stdout)
    assert sorted(found) == sorted(names)
    for name, entry in found.items():
        assert entry["doc"]["short_description"], name
        assert f"{name}:" in entry["examples"], name
        assert entry["return"], name


@pytest.mark.root
def test_a_play_runs_from_there(installed, tmp_path):
    dummy, env = installed
    (tmp_path / "play.yml").write_text(PLAY)
    # Discovery would take a version manager's shim for a Python.
    interpreter = "ansible_python_interpreter=/usr/bin/python3"
    check("ansible-playbook", "-i", "localhost,", "-e", interpreter, "play.yml", cwd=tmp_path, env=env)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["changed"] is False
    assert result.get("failed", False) is False
