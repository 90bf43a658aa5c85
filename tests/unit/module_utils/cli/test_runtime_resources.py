# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flags of update, as linux.resources."""

from __future__ import annotations

import io

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cli import resources
from ansible_collections.vessel.host.plugins.module_utils._cli.options import UsageError, parse
from ansible_collections.vessel.host.plugins.module_utils._errors import SpecError


def given(*words):
    return resources.from_flags(parse(words, {}, resources.FLAGS, interleaved=True).values)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["--memory", "64m"], {"memory": {"limit": 64 << 20}}),
        (["--memory=1G", "--memory-swap", "-1"], {"memory": {"limit": 1 << 30, "swap": -1}}),
        (["--memory-reservation", "4096"], {"memory": {"reservation": 4096}}),
        (["--cpu-share", "7", "--cpu-quota", "-1"], {"cpu": {"shares": 7, "quota": -1}}),
        (["--cpuset-cpus", "0-1", "--cpuset-mems", "0"], {"cpu": {"cpus": "0-1", "mems": "0"}}),
        (["--pids-limit", "5", "--blkio-weight", "300"], {"pids": {"limit": 5}, "blockIO": {"weight": 300}}),
        (["--pids-limit", "5", "--pids-limit", "6"], {"pids": {"limit": 6}}),
    ],
)
def test_flags(words, expected):
    assert given(*words) == expected


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--memory", "much"], "--memory: 'much' is no size"),
        (["--memory", ""], "--memory: '' is no size"),
        (["--memory", "m"], "--memory: 'm' is no size"),
        (["--pids-limit", "5m"], "--pids-limit: '5m' is no number"),
    ],
)
def test_no_numbers(words, problem):
    with pytest.raises(UsageError, match=problem):
        given(*words)


def test_file_and_standard_input(tmp_path, monkeypatch):
    path = tmp_path / "resources.json"
    path.write_text('{"pids": {"limit": 3}}')
    assert resources.read_object("linux.resources", str(path)) == {"pids": {"limit": 3}}
    monkeypatch.setattr("sys.stdin", io.StringIO('{"cpu": {"shares": 2}}'))
    assert resources.read_object("linux.resources", "-") == {"cpu": {"shares": 2}}
    for text, problem in (("{", "is not JSON"), ("[]", "is not an object")):
        path.write_text(text)
        with pytest.raises(SpecError, match=problem):
            resources.read_object("linux.resources", str(path))
