# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files as docker-compose 1.29 reads them, which Debian has: what it makes of several, with their variables, is one
file, and of that we must make what we make of the several. It knows no tags, no nested variables and no include."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.module_utils._options.record import parse_options
from ansible_collections.vessel.host.plugins.module_utils._options.stack import OPTIONS

from .conftest import Directory
from .test_envfile import LINES
from .test_interpolate import FORMS, SET
from .test_projects import MERGED

PROGRAM = "/usr/bin/docker-compose"
PROJECTS = Path(__file__).parents[3] / "integration/compose"
pytestmark = pytest.mark.skipif(
    not os.path.exists(PROGRAM) and "CI" not in os.environ, reason="docker-compose is not there; make setup-tests"
)


def theirs(directory: Directory, *files: str, fails: bool = False, **variables: str) -> str:
    """The one file that docker-compose makes of them."""
    command = [PROGRAM, *(word for file in files for word in ("-f", file)), "config"]
    environ = {"PATH": os.environ["PATH"], "HOME": "/root", **variables}
    done = subprocess.run(
        command, cwd=directory.path, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done.stdout


def both(directory: Directory, *files: str, **variables: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what we make of the files, what we make of theirs), in canonical form."""
    ours = directory.stack("", *files, name="p", variables=variables)
    directory.write("theirs.yaml", theirs(directory, *files, **variables))
    other = directory.stack("", "theirs.yaml", name="p")
    return parse_options(OPTIONS, ours), parse_options(OPTIONS, other)


def services(bodies: list[str]) -> str:
    """One file, with a service for each; to start the program takes longer than what it does."""
    lines = [f"  s{number}: {{image: bb, {body}}}" for number, body in enumerate(bodies)]
    return "\n".join(['version: "3.9"', "services:", *lines, ""])


def test_merged(directory: Directory) -> None:
    # It has no tags, and takes ports and directories in memory that are there twice for two.
    unknown = ("ports: ['80:80/tcp'", "tmpfs", "restart:")
    pairs = [pair for *pair, dummy in MERGED if "!" not in pair[1] and not pair[1].startswith(unknown)]
    directory.write("a.yaml", services([base for base, dummy in pairs]))
    directory.write("b.yaml", services([over for dummy, over in pairs]))
    ours, other = both(directory, "a.yaml", "b.yaml")
    for number, pair in enumerate(pairs):
        assert ours["containers"][f"p-s{number}-1"] == other["containers"][f"p-s{number}-1"], pair
    assert len(pairs) > 15


def test_variables(directory: Directory) -> None:
    # What is after an operator it takes as it is, and + it does not know.
    texts = [text for text, dummy in FORMS if "+" not in text and not re.search(r"\{UNSET:-.*\$", text)]
    directory.write("a.yaml", services([f"environment: {{A: '{text}'}}" for text in texts]))
    ours, other = both(directory, "a.yaml", **SET)
    for number, text in enumerate(texts):
        assert ours["containers"][f"p-s{number}-1"] == other["containers"][f"p-s{number}-1"], text
    assert len(texts) > 10


def test_env_files(directory: Directory) -> None:
    # It has no variables in them, no colon, and neither octal escapes nor a comment where a value could be.
    texts = [text for text, dummy in LINES if "$" not in text and "A:" not in text and "F= #" not in text]
    for number, text in enumerate(texts):
        directory.write(f"{number}.env", text)
    directory.write("a.yaml", services([f"env_file: {number}.env" for number in range(len(texts))]))
    ours, other = both(directory, "a.yaml", HOME="/root", OVER="known")
    for number, text in enumerate(texts):
        assert ours["containers"][f"p-s{number}-1"] == other["containers"][f"p-s{number}-1"], text
    assert len(texts) > 12


@pytest.mark.parametrize("name", ["forge", "cloud", "balance"])
def test_projects(directory: Directory, name: str) -> None:
    shutil.copytree(PROJECTS / name, directory.path, dirs_exist_ok=True)
    ours, other = both(directory, "compose.yaml")
    assert ours == other
    assert ours["containers"]
