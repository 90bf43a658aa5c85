# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes as a task declares them, judged by what the kernel shows."""

from __future__ import annotations

import os
import stat

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import store
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from .module_runner import quartet, run_module

pytestmark = pytest.mark.root


@pytest.fixture
def root(tmp_path):
    yield str(tmp_path / "vessel")
    for entry in (tmp_path / "vessel/lib/volumes").glob("*/data"):
        if os.path.ismount(entry):
            os.system(f"umount {entry}")


def mode_of(path):
    info = os.stat(path)
    return info.st_uid, info.st_gid, f"{stat.S_IMODE(info.st_mode):04o}"


def capacity(path):
    info = os.statvfs(path)
    return info.f_blocks * info.f_frsize


def test_a_directory_is_made_once_and_goes(root):
    last = quartet("volume", {"root": root, "name": "data"})[-1]
    data = last["volume"]["mountpoint"]
    assert mode_of(data) == (0, 0, "0755")
    with open(f"{data}/row", "w") as file:
        file.write("kept")
    quartet("volume", {"root": root, "name": "data", "state": "absent"})
    assert not os.path.exists(root) or os.listdir(root) == []


@pytest.mark.parametrize(
    ("option", "value", "seen"),
    [
        ("owner", "1234", (1234, 0, "0755")),
        ("owner", 1234, (1234, 0, "0755")),
        ("owner", "nobody", (65534, 0, "0755")),
        ("group", "1234", (0, 1234, "0755")),
        ("mode", "0700", (0, 0, "0700")),
        ("mode", "1777", (0, 0, "1777")),
    ],
)
@pytest.mark.parametrize("driver", ["directory", "tmpfs"])
def test_an_option_of_an_existing_volume(root, driver, option, value, seen):
    data = run_module("volume", {"root": root, "name": "data", "driver": driver})["volume"]["mountpoint"]
    with open(f"{data}/row", "w") as file:
        file.write("kept")
    results = quartet("volume", {"root": root, "name": "data", option: value})
    assert results[0]["actions"] == [f"volume data: set {option} (live)"]
    assert mode_of(data) == seen
    assert os.listdir(data) == ["row"]


def test_labels(root):
    run_module("volume", {"root": root, "name": "data", "labels": {"a": "1"}})
    last = quartet("volume", {"root": root, "name": "data", "labels": {"tier": "db"}})[-1]
    assert last["volume"]["labels"] == {"tier": "db"}


def test_tmpfs_is_a_mount_of_the_declared_size_that_grows_live(root):
    args = {"root": root, "name": "mem", "driver": "tmpfs", "size": "1m"}
    data = quartet("volume", args)[-1]["volume"]["mountpoint"]
    assert os.path.ismount(data)
    assert capacity(data) == 1 << 20
    with open(f"{data}/row", "w") as file:
        file.write("kept")
    quartet("volume", {"root": root, "name": "mem", "size": 2097152})
    assert run_module("volume", {"root": root, "name": "mem", "size": "2m"})["changed"] is False
    assert capacity(data) == 2 << 20
    assert os.listdir(data) == ["row"]
    with open(f"{data}/rows", "wb") as file:
        file.write(bytes(1536 << 10))
    for check in (True, False):
        failed = run_module("volume", {"root": root, "name": "mem", "size": "1m"}, check=check)
        assert failed["msg"].startswith("size: 1048576 is less than what is in it, 15")
    assert capacity(data) == 2 << 20
    quartet("volume", {"root": root, "name": "mem", "state": "absent"})
    assert not os.path.exists(data)


def test_drift_is_named_and_mended(root):
    args = {"root": root, "name": "mem", "driver": "tmpfs", "size": "1m", "mode": "0700"}
    data = run_module("volume", args)["volume"]["mountpoint"]
    os.chmod(data, 0o777)
    results = quartet("volume", args)
    assert results[0]["actions"] == ["volume mem: mend mode (live)"]
    assert results[0]["diff"] == {
        "before": {"volume mem": {"mode (live)": "0777"}},
        "after": {"volume mem": {"mode (live)": "0700"}},
    }
    os.system(f"umount {data}")
    assert quartet("volume", args)[0]["actions"] == ["volume mem: mend tmpfs (live)"]
    assert os.path.ismount(data)
    assert mode_of(data) == (0, 0, "0700")


def test_a_used_volume_stays(root):
    run_module("volume", {"root": root, "name": "data"})
    store.write_spec(Paths.at(root), "containers", "db", {"volumes": ["data:/var/lib:rw"]})
    result = run_module("volume", {"root": root, "name": "data", "state": "absent"}, check=True)
    assert result["msg"] == ("volume data is in use by db (remove them first, or take the volume out of them)")
    assert run_module("volume_info", {"root": root})["volumes"][0]["containers"] == ["db"]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ({"name": "data", "driver": "tmpfs"}, "driver: 'tmpfs' is not what the volume has, directory"),
        ({"name": "data", "size": "1m"}, "size: 1048576 can't be kept by the driver directory"),
        ({"name": "new", "driver": "tmpfs", "size": -1}, "size: -1 is not a size"),
        ({"name": "new", "mode": 0o700}, "mode: 448 is a number; put the octal mode in quotes"),
        ({"name": "new", "owner": "nobody-of-that-name"}, "owner: 'nobody-of-that-name' is not in this host's"),
        ({"name": "../new"}, "name: '../new' is not a name"),
        ({"name": "new", "labels": {"a": True}}, "labels.a: True is a boolean"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(root, args, sentence):
    run_module("volume", {"root": root, "name": "data"})
    before = sorted(os.walk(root))
    result = run_module("volume", {"root": root, **args})
    assert result["msg"].startswith(sentence)
    assert sorted(os.walk(root)) == before


def test_info_of_none_of_one_and_of_all(root):
    assert run_module("volume_info", {"root": root})["volumes"] == []
    for name in ("b", "a"):
        run_module("volume", {"root": root, "name": name})
    found = run_module("volume_info", {"root": root, "usage": True})["volumes"]
    assert [(volume["name"], volume["usage"]) for volume in found] == [("a", 0), ("b", 0)]
    assert [volume["name"] for volume in run_module("volume_info", {"root": root, "name": "b"})["volumes"]] == ["b"]
    assert run_module("volume_info", {"root": root, "name": "c"})["volumes"] == []
