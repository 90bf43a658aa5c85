# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-test sanity: every test of it, on every Python that is there, with no ignore file."""

from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .gates import CACHE, CHECKOUT, check, copy_tree, environment, interpreters

# ansible-test would download get-pip.py from a host that many machines cannot reach; what venv brings does as well.
HOME = CACHE / "home"
GET_PIP = """\
import subprocess, sys
subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
packages = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *packages]).returncode)
"""


@pytest.fixture(scope="module")
def home():
    """A home directory for ansible-test's own environments, kept from run to run."""
    from ansible_test._internal import python_requirements

    version = re.search(r"pip='([\d.]+)'", Path(python_requirements.__file__).read_text())
    assert version, "ansible-test no longer names the version of pip that it starts from"
    script = HOME / ".ansible/test/cache" / f"get_pip_{version[1].replace('.', '_')}.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(GET_PIP)
    return HOME


def test_there_is_no_ignore_file():
    assert not list((CHECKOUT / "tests/sanity").glob("ignore*"))


def sanity(tree, *arguments):
    ours = Path(sys.executable).parent
    # No version manager's shims: they exist, and fail when they are run.
    pythons = [str(path.parent) for path in interpreters().values()]
    system = ["/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    path = ":".join([str(ours), *pythons, *system])
    env = environment(HOME=str(HOME), PATH=path)
    done = check("ansible-test", "sanity", "--color", "no", *arguments, cwd=tree, env=env)
    return done.stdout + done.stderr


@pytest.mark.usefixtures("home")
def test_sanity(tmp_path):
    # pylint takes as long as all the others together.
    runs = [("--test", "pylint"), ("--skip-test", "pylint")]
    trees = [copy_tree(tmp_path / run[0].strip("-")) for run in runs]
    with ThreadPoolExecutor() as pool:
        shown = "".join(pool.map(lambda tree, run: sanity(tree, *run), trees, runs))
    for name in ("validate-modules", "pylint", "pep8", "symlinks", "changelog", "ansible-doc"):
        assert f'Running sanity test "{name}"' in shown
    assert f'Running sanity test "import" on Python {sys.version_info[0]}.{sys.version_info[1]}' in shown
