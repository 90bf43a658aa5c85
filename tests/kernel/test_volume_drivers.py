# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes by their drivers, judged by stat, statvfs and mountinfo."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError, StateError
from ansible_collections.vessel.host.plugins.module_utils._kernel import mount
from ansible_collections.vessel.host.plugins.module_utils._volume import directory, tmpfs
from ansible_collections.vessel.host.plugins.module_utils._volume.model import Difference, Volume

pytestmark = pytest.mark.root

DRIVERS = [directory, tmpfs]


@pytest.fixture
def home(tmp_path):
    path = tmp_path / "a volume's\thome"
    path.mkdir()
    yield str(path)
    while mount.mounted(f"{path}/data"):
        mount.umount2(f"{path}/data", mount.MNT_DETACH)


def seen(volume, driver):
    info = os.stat(driver.source(volume))
    return info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_volume_is_made_and_is_then_as_declared(home, driver):
    volume = Volume("v", home, uid=12, gid=34, mode=0o1750)
    missing = driver.differences(volume)
    assert [(item.what, item.before) for item in missing] in ([("directory", "absent")], [("tmpfs", "absent")])
    driver.ensure(volume)
    assert seen(volume, driver) == (12, 34, 0o1750)
    assert driver.differences(volume) == []
    driver.ensure(volume)
    driver.remove(volume)
    assert not os.path.exists(driver.source(volume))
    driver.remove(volume)


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_is_in_it_stays(home, driver):
    volume = Volume("v", home)
    driver.ensure(volume)
    path = Path(driver.source(volume))
    (path / "row").write_text("kept")
    (path / "row").chmod(0o600)
    for other in (Volume("v", home, uid=5), Volume("v", home, mode=0o700), Volume("v", home, gid=7)):
        driver.ensure(other)
    assert (path / "row").read_text() == "kept"
    assert (path / "row").stat().st_uid == 0
    assert seen(volume, driver) == (5, 7, 0o700)


@pytest.mark.parametrize("driver", DRIVERS)
def test_each_difference_is_named_and_mended(home, driver):
    volume = Volume("v", home, uid=1, gid=2, mode=0o700)
    driver.ensure(volume)
    os.chown(driver.source(volume), 3, 4)
    os.chmod(driver.source(volume), 0o755)
    assert driver.differences(volume) == [
        Difference("owner", 3, 1),
        Difference("group", 4, 2),
        Difference("mode", "0755", "0700"),
    ]
    driver.ensure(volume)
    assert driver.differences(volume) == []


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_owner_that_nobody_declared_is_whatever_it_is(home, driver):
    volume = Volume("v", home)
    driver.ensure(volume)
    os.chown(driver.source(volume), 3, 4)
    os.chmod(driver.source(volume), 0o711)
    assert driver.differences(volume) == []
    driver.ensure(volume)
    assert seen(volume, driver) == (3, 4, 0o711)


def test_usage_is_what_the_disk_holds(home):
    volume = Volume("v", home)
    directory.ensure(volume)
    path = Path(directory.source(volume))
    assert directory.usage(volume) == 0
    (path / "a").write_bytes(bytes(10000))
    os.link(path / "a", path / "b")
    with open(path / "hole", "wb") as file:
        file.truncate(1 << 30)
    (path / "dangling").symlink_to("nowhere")
    assert directory.usage(volume) == (path / "a").stat().st_blocks * 512


def test_removing_a_directory_that_holds_a_mount_is_refused(home):
    volume = Volume("v", home)
    directory.ensure(volume)
    Path(directory.source(volume), "sub").mkdir()
    mount.mount("x", f"{directory.source(volume)}/sub", "tmpfs", 0, "size=64k")
    try:
        Path(directory.source(volume), "sub/precious").write_text("kept")
        with pytest.raises(KernelError) as caught:
            directory.remove(volume)
        assert caught.value.errno == errno.EBUSY
        assert Path(directory.source(volume), "sub/precious").read_text() == "kept"
    finally:
        mount.umount2(f"{directory.source(volume)}/sub")


# tmpfs
def capacity(volume):
    info = os.statvfs(tmpfs.source(volume))
    return info.f_blocks * info.f_frsize


@pytest.mark.parametrize("size", [4096, 4097, 1 << 20, (1 << 20) + 1, 3 << 30])
def test_a_size_is_kept_by_the_kernel(home, size):
    volume = Volume("v", home, "tmpfs", size=size)
    tmpfs.ensure(volume)
    assert mount.mounted(tmpfs.source(volume)) == "tmpfs"
    assert size <= capacity(volume) < size + 4096
    assert tmpfs.differences(volume) == []


def test_the_kernel_refuses_more_than_the_size(home):
    volume = Volume("v", home, "tmpfs", size=1 << 20)
    tmpfs.ensure(volume)
    with pytest.raises(OSError, match="No space left"):
        Path(tmpfs.source(volume), "big").write_bytes(bytes(2 << 20))
    assert tmpfs.usage(volume) == 1 << 20


def test_a_size_changes_under_what_is_in_it(home):
    tmpfs.ensure(Volume("v", home, "tmpfs", size=1 << 20))
    volume = Volume("v", home, "tmpfs", size=2 << 20)
    Path(tmpfs.source(volume), "row").write_text("kept")
    assert tmpfs.differences(volume) == [Difference("size", 1 << 20, 2 << 20)]
    tmpfs.ensure(volume)
    assert (capacity(volume), tmpfs.differences(volume)) == (2 << 20, [])
    # Back to what it is without a word: half of the memory.
    plain = Volume("v", home, "tmpfs")
    assert [item.what for item in tmpfs.differences(plain)] == ["size"]
    tmpfs.ensure(plain)
    assert tmpfs.differences(plain) == []
    assert capacity(plain) > 2 << 20
    assert Path(tmpfs.source(volume), "row").read_text() == "kept"


def test_a_size_below_what_is_used_is_refused(home):
    volume = Volume("v", home, "tmpfs", size=1 << 20)
    tmpfs.ensure(volume)
    Path(tmpfs.source(volume), "half").write_bytes(bytes(1 << 19))
    with pytest.raises(KernelError) as caught:
        tmpfs.ensure(Volume("v", home, "tmpfs", size=1 << 18))
    assert str(caught.value).endswith("Invalid argument [EINVAL] (more than that is used)")
    assert tmpfs.differences(volume) == []


def test_what_is_no_tmpfs_is_not_taken_for_one(home):
    volume = Volume("v", home, "tmpfs")
    os.makedirs(tmpfs.source(volume))
    mount.mount("proc", tmpfs.source(volume), "proc")
    assert tmpfs.differences(volume) == [Difference("tmpfs", "proc", tmpfs.source(volume))]
    with pytest.raises(StateError, match="has proc mounted on it"):
        tmpfs.ensure(volume)
    assert mount.mounted(tmpfs.source(volume)) == "proc"


def test_memory_that_was_taken_away_is_named(home):
    volume = Volume("v", home, "tmpfs", size=1 << 20)
    tmpfs.ensure(volume)
    mount.umount2(tmpfs.source(volume))
    assert tmpfs.differences(volume) == [Difference("tmpfs", "absent", tmpfs.source(volume))]
    tmpfs.ensure(volume)
    assert tmpfs.differences(volume) == []


def test_set_uid_and_devices_do_not_work_in_it(home):
    volume = Volume("v", home, "tmpfs")
    tmpfs.ensure(volume)
    flags = os.statvfs(tmpfs.source(volume)).f_flag
    assert flags & os.ST_NOSUID
    assert flags & os.ST_NODEV
