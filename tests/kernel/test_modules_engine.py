# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vessel.host.engine where systemd is not: installed, mended, refused, removed. Where it is: molecule/vm_setup."""

from __future__ import annotations

import os
import subprocess

import pytest
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
from ansible_collections.vessel.host.tests.kernel.module_runner import quartet, run_module
from ansible_collections.vessel.host.tests.sweeping import sweep

pytestmark = pytest.mark.root


@pytest.fixture
def root(tmp_path):
    yield str(tmp_path / "vessel")
    sweep(Paths.at(str(tmp_path / "vessel")))


def test_there_and_away(root):
    check, made, dummy, dummy = quartet("engine", {"root": root})
    assert check["actions"] == made["actions"] == ["engine: install"]
    assert check["engine"] == {"version": "", "directory": ""}
    assert os.path.isfile(f"{made['engine']['directory']}/vessel")
    shown = subprocess.run([f"{root}/bin/vessel", "version"], capture_output=True, text=True, check=True, timeout=60)
    assert made["engine"]["version"] in shown.stdout
    check, gone, dummy, dummy = quartet("engine", {"root": root, "state": "absent"})
    assert check["actions"] == gone["actions"] == ["engine: remove"]
    assert gone["diff"]["before"] == {"engine": {"remove": made["engine"]["version"]}}
    assert not [path for path, dummy, files in os.walk(root) if files]


@pytest.mark.parametrize("name", ["vessel", "vessel-runtime"])
def test_a_command_that_leads_elsewhere_is_mended(root, name):
    run_module("engine", {"root": root})
    os.unlink(f"{root}/bin/{name}")
    os.symlink("/bin/true", f"{root}/bin/{name}")
    quartet("engine", {"root": root})
    assert os.path.realpath(f"{root}/bin/{name}").endswith("/vessel")


def test_no_supervisor_is_started_for_nothing(root):
    run_module("engine", {"root": root})
    assert run_module("host_info", {"root": root})["host"]["supervisor"]["running"] is False


def test_it_stays_while_something_is_declared(root):
    run_module("engine", {"root": root})
    made = run_module("network", {"root": root, "name": "n", "subnet": "10.94.1.0/24"})
    assert not made.get("failed"), made.get("msg")
    for check in (True, False):
        refused = run_module("engine", {"root": root, "state": "absent"}, check=check)
        assert refused["msg"] == "remove the engine: there are networks on this host: n (remove them first)"
    assert os.path.exists(f"{root}/bin/vessel")
    assert run_module("network", {"root": root, "name": "n", "state": "absent"})["changed"]
    assert run_module("engine", {"root": root, "state": "absent"})["changed"]
