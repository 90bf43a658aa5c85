# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host tells of itself, and nothing of ours is made by asking."""

from __future__ import annotations

import os

import pytest

from .module_runner import run_module

pytestmark = pytest.mark.root


@pytest.mark.parametrize("check", [False, True])
def test_the_host_is_asked_and_not_touched(tmp_path, check):
    result = run_module("host_info", {"root": str(tmp_path / "vessel")}, check=check)
    assert result["changed"] is False
    host = result["host"]
    assert host["root"] is True
    assert host["kernel"]["release"] == os.uname().release
    assert host["ready"] is True, host["missing"]
    assert set(host["namespaces"]) == {"user", "mount", "network", "pid", "ipc", "uts", "cgroup", "time"}
    assert all({"option", "because", "remedy"} == set(entry) for entry in host["missing"])
    assert os.listdir(tmp_path) == []
