# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate to pyroute2, as processes pass it: what is shipped, what the distribution has, what is too old."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from ansible_collections.vessel.host.plugins.module_utils._network import library
from ansible_collections.vessel.host.tests.collection.gates import CHECKOUT, NAMESPACE

PROGRAM = f"""
import json, sys
sys.path.insert(0, sys.argv[1])
from {NAMESPACE}.plugins.module_utils._network import library
library.LIBRARY, others = sys.argv[2], sys.argv[3:]
sys.path[:0] = others
found = library.version()
try:
    library.need()
    import pyroute2
    print(json.dumps([found, pyroute2.__file__]))
except library.DependencyError as error:
    print(json.dumps([found, str(error)]))
"""


@pytest.fixture
def place(tmp_path):
    """Make a directory that has a pyroute2 of a version."""

    def make(name, version):
        (tmp_path / name / "pyroute2").mkdir(parents=True)
        (tmp_path / name / "pyroute2/__init__.py").touch()
        (tmp_path / name / f"pyroute2-{version}.dist-info").mkdir()
        return str(tmp_path / name)

    return make


def passed(shipped, *others, flags="-I"):
    argv = [sys.executable, flags, "-c", PROGRAM, str(CHECKOUT / "collection"), shipped, *others]
    return json.loads(subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout)


def test_what_is_shipped_goes_first(place):
    shipped = place("shipped", "0.9.7")
    assert passed(shipped, place("old", "0.5.14")) == ["0.9.7", f"{shipped}/pyroute2/__init__.py"]


def test_what_the_distribution_has_will_do(place, tmp_path):
    own = place("own", "0.7.2")
    assert passed(str(tmp_path / "absent"), own) == ["0.7.2", f"{own}/pyroute2/__init__.py"]


def test_what_is_too_old_is_said_before_it_is_used(place, tmp_path):
    found, said = passed(str(tmp_path / "absent"), place("own", "0.5.14"))
    assert found == "0.5.14"
    assert said.startswith("the Python library pyroute2 is 0.5.14, and 0.7.2 or newer is needed (run the role")


def test_our_commands_start_without_what_lies_beside_python(tmp_path):
    """-S, as the script has it: the gate looks there when the library is needed, and not before."""
    found, said = passed(str(tmp_path / "absent"), flags="-IS")
    assert found is None
    assert said == passed(str(tmp_path / "absent"))[1]


@pytest.mark.parametrize(("text", "fits"), [("0.7.2", True), ("0.7.1", False), ("0.10", True), ("1.0", True)])
def test_versions_are_numbers(text, fits):
    assert (library.lacking(text) == "") is fits
