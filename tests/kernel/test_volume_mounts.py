# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes that are a mounted file system, of a file or of something that is there already: as tasks declare them,
judged by mountinfo, statvfs and /sys/block."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import prune, volumes
from ansible_collections.vessel.host.plugins.module_utils._converge.plan import Plan
from ansible_collections.vessel.host.plugins.module_utils._errors import (
    DependencyError,
    KernelError,
    OptionError,
    StateError,
    VesselError,
)
from ansible_collections.vessel.host.plugins.module_utils._kernel import errand, loop, mount
from ansible_collections.vessel.host.plugins.module_utils._options.record import parse_options
from ansible_collections.vessel.host.plugins.module_utils._options.volume import DIRECTIVES, OPTIONS
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
from ansible_collections.vessel.host.plugins.module_utils._volume import filesystem

from .module_runner import quartet, run_module

pytestmark = pytest.mark.root
MEGA = 1 << 20


@pytest.fixture
def root(tmp_path):
    yield str(tmp_path / "vessel")
    unmount(tmp_path)


def unmount(tmp_path):
    for entry in [*tmp_path.glob("vessel/lib/volumes/*/data"), tmp_path / "seen"]:
        while mount.mounted(str(entry)):
            mount.umount2(str(entry), mount.MNT_DETACH)
    for path in tmp_path.rglob("image"):
        wait_detached(str(path))


def wait_detached(path):
    """The kernel lets go of a device a moment after its last mount."""
    until = time.monotonic() + 5
    while loop.device_of(path):
        assert time.monotonic() < until, f"{path} is {loop.device_of(path)} still"
        time.sleep(0.01)


@pytest.fixture
def disk(tmp_path):
    """A block device with an ext4 that has a row in it."""
    path = str(tmp_path / "disk")
    (tmp_path / "top").mkdir()
    (tmp_path / "top/row").write_text("there before")
    subprocess.run(["mkfs.ext4", "-q", "-F", "-L", "vslrows", "-d", tmp_path / "top", path, "8m"], check=True)
    device, fd = loop.attach(path)
    yield device
    unmount(tmp_path)
    os.close(fd)
    wait_detached(path)


def image(root, name="data"):
    return f"{root}/lib/volumes/{name}/image"


def data(root, name="data"):
    return f"{root}/lib/volumes/{name}/data"


def words(root):
    return [word for word in mount.mount_at(data(root)).words if word not in ("rw", "relatime")]


def volume(root, **options):
    return {"root": root, "name": "data", **options}


def converge(root, **options):
    """As the module does, in this process: what was done."""
    desired = parse_options((*DIRECTIVES, *OPTIONS), {"name": "data", **options})
    result = volumes.plan(Paths.at(root), desired)
    result.apply()
    return result.describe()


# loop
# The least that each of them can be, and what it takes of that for itself.
FILE_SYSTEMS = [("ext4", 8, 4), ("xfs", 304, 70), ("btrfs", 128, 40)]


@pytest.mark.parametrize(("fstype", "least", "own"), FILE_SYSTEMS)
def test_a_loop_is_made_grows_comes_back_and_goes(root, fstype, least, own):
    size, more = least * MEGA, 2 * least * MEGA
    last = quartet("volume", volume(root, driver="loop", fstype=fstype, size=f"{least}m", mode="0700"))[-1]["volume"]
    assert (last["fstype"], last["size"], last["present"]) == (fstype, size, True)
    found = mount.mount_at(data(root))
    assert (found.fstype, found.source) == (fstype, loop.device_of(image(root)))
    assert os.listdir(data(root)) == []
    assert os.stat(image(root)).st_blocks * 512 < own * MEGA  # sparse
    with open(f"/sys/block/{os.path.basename(found.source)}/loop/autoclear") as file:
        assert file.read() == "1\n"
    Path(data(root), "row").write_text("kept")
    with pytest.raises(OSError, match="No space left"):
        fill(f"{data(root)}/big", size + 2 * MEGA)
    os.unlink(f"{data(root)}/big")

    assert converge(root, size=str(more)) == ["volume data: set size (live)"]
    assert converge(root) == []
    assert os.listdir(data(root)) == ["row"]
    info = os.statvfs(data(root))
    assert more - own * MEGA < info.f_blocks * info.f_frsize <= more
    fill(f"{data(root)}/big", size)
    with pytest.raises(OptionError, match=f"size: {size} is less than what it has, {more}"):
        converge(root, size=str(size))

    mount.umount2(data(root))
    assert converge(root) == ["volume data: mend loop (live)"]
    assert Path(data(root), "row").read_text() == "kept"
    assert run_module("volume_info", {"root": root, "usage": True})["volumes"][0]["usage"] >= size
    converge(root, state="absent")
    wait_detached(image(root))
    assert not os.path.exists(image(root))


def fill(path, size):
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def test_room_for_all_of_a_loop_is_kept_where_that_is_asked_for(root):
    converge(root, driver="loop", size="8m")
    converge(root, preallocate=True)
    assert converge(root, preallocate=True) == []
    assert os.stat(image(root)).st_blocks * 512 >= 8 * MEGA
    assert converge(root, preallocate=False) == ["volume data: set preallocate (live)"]
    assert converge(root) == []


def test_one_file_is_never_two_devices(root, tmp_path):
    """As long as a container has it, a file system that was unmounted on the host is still in use."""
    converge(root, driver="loop", size="8m")
    (tmp_path / "seen").mkdir()
    device = loop.device_of(image(root))
    mount.mount(data(root), str(tmp_path / "seen"), None, mount.MS_BIND)
    mount.umount2(data(root))
    converge(root)
    assert mount.mount_at(data(root)).source == device
    Path(data(root), "row").write_text("one")
    assert Path(tmp_path, "seen/row").read_text() == "one"


def test_a_crash_is_mended_and_a_ruin_is_not_mounted(root):
    converge(root, driver="loop", size="8m")
    mount.umount2(data(root))
    wait_detached(image(root))
    subprocess.run(["debugfs", "-w", "-R", "ssv state 0", image(root)], check=True, capture_output=True)
    converge(root)
    mount.umount2(data(root))
    wait_detached(image(root))
    with open(image(root), "r+b") as file:
        file.write(bytes(64 << 10))
    with pytest.raises(StateError, match="volume data: its file system is damaged: e2fsck ended with 8:") as caught:
        converge(root)
    assert f"repair it by hand: e2fsck {image(root)}" in str(caught.value)
    assert not mount.mounted(data(root))


@pytest.mark.parametrize(("fstype", "least", "own"), FILE_SYSTEMS)
def test_a_growth_that_was_killed_half_way_goes_on(root, fstype, least, own):
    converge(root, driver="loop", fstype=fstype, size=f"{least}m")
    os.truncate(image(root), 2 * least * MEGA)  # as the growth begins
    spec = Path(root, "lib/volumes/data/spec.json")
    spec.write_text(spec.read_text().replace(str(least * MEGA), str(2 * least * MEGA)))
    assert converge(root) == ["volume data: mend size (live)"]
    assert converge(root) == []
    info = os.statvfs(data(root))
    assert info.f_blocks * info.f_frsize > (2 * least - own) * MEGA


@pytest.mark.parametrize("rest", [1, 1024, 20480, 30000, 700000])
@pytest.mark.parametrize(("fstype", "least"), [row[:2] for row in FILE_SYSTEMS])
def test_a_size_that_ends_in_the_middle_of_something_is_as_declared(root, rest, fstype, least):
    """Tools take whole pages, and leave what is too little for one more group of blocks."""
    converge(root, driver="loop", fstype=fstype, size=str(least * MEGA + rest))
    assert converge(root) == []
    converge(root, size=str(2 * least * MEGA + rest))
    assert converge(root) == []


@pytest.mark.parametrize(
    ("fstype", "sentence"), [("xfs", "Filesystem must be larger than 300MB."), ("btrfs", "is too small")]
)
def test_what_is_too_small_for_its_type_is_told_in_its_makers_words(root, fstype, sentence):
    with pytest.raises(VesselError) as caught:
        converge(root, driver="loop", fstype=fstype, size="32m")
    assert str(caught.value).startswith(f"volume data: mkfs.{fstype} ended with 1: ")
    assert sentence in str(caught.value)
    assert "usage" not in str(caught.value).lower()
    assert not os.path.exists(f"{root}/lib/volumes/data")


def test_a_file_that_was_removed_takes_nothing_along(root):
    """What was in it is there for as long as it is mounted, and the word for that is not: unmount it."""
    converge(root, driver="loop", size="8m")
    Path(data(root), "row").write_text("kept")
    os.unlink(image(root))
    told = f"{image(root)} was removed; what was in it is at {data(root)} until that is unmounted.*copy it away"
    with pytest.raises(StateError, match=told):
        converge(root)
    assert Path(data(root), "row").read_text() == "kept"


def test_room_that_the_disk_lacks_is_not_tried_for(root):
    converge(root, driver="loop", size="8m")
    size = os.statvfs(root).f_bfree * os.statvfs(root).f_frsize + 64 * MEGA
    free = os.statvfs(root).f_bfree
    for given in ({"size": str(size), "preallocate": True}, {"name": "more", "size": str(size), "preallocate": True}):
        with pytest.raises(OptionError, match="more than the host's disk has room for, and preallocate: true takes"):
            converge(root, driver="loop", **given)
    assert abs(os.statvfs(root).f_bfree - free) < free / 2
    assert converge(root) == []


# A program that takes its time, and tells when it begins and ends.
SLOW = """#!/bin/sh
echo begin >>{said}
echo $$ >{pid}
{program} "$@"
code=$?
test -e {quick} || sleep 2
echo end >>{said}
exit $code
"""


@pytest.mark.parametrize("name", ["mkfs.ext4", "e2fsck"])
def test_a_program_that_a_killed_task_has_left_ends_before_the_next_begins(root, tmp_path, monkeypatch, name):
    """Two of them at one file would be its ruin."""
    said, pid, quick, slow = (tmp_path / word for word in ("said", "pid", "quick", name))
    program = filesystem.find_program(name)
    if name == "e2fsck":
        converge(root, driver="loop", size="8m")
        mount.umount2(data(root))
        wait_detached(image(root))
    slow.write_text(SLOW.format(said=said, pid=pid, quick=quick, program=program))
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    child = os.fork()
    if child == 0:
        converge(root, driver="loop", size="8m")
        os._exit(0)
    until = time.monotonic() + 10
    while not (pid.exists() and pid.read_text()):
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    quick.touch()
    try:
        converge(root, driver="loop", size="8m")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGKILL)
    words = said.read_text().split()
    assert words == ["begin", "end"] * (len(words) // 2)
    assert len(words) > 2
    assert converge(root) == []


# mount
def test_a_block_device_is_mounted_and_left_as_it_is(root, disk):
    given = volume(root, driver="mount", device=disk, fstype="ext4", options="noatime,noexec")
    quartet("volume", given)
    assert Path(data(root), "row").read_text() == "there before"
    assert words(root) == ["nosuid", "nodev", "noexec", "noatime"]
    assert converge(root, options=["suid", "commit=11"]) == ["volume data: set options (live)"]
    assert words(root) == ["nodev"]
    with open("/proc/self/mounts") as file:
        assert "commit=11" in next(line for line in file if data(root) in line)

    mount.mount("none", data(root), None, mount.MS_REMOUNT | mount.MS_NOEXEC | mount.MS_NODEV)
    assert run_module("volume", volume(root))["diff"] == {
        "before": {"volume data": {"options (live)": ["nodev", "noexec"]}},
        "after": {"volume data": {"options (live)": ["nodev"]}},
    }
    mount.umount2(data(root))
    assert converge(root) == ["volume data: mend mount (live)"]
    assert converge(root) == []
    Path(data(root), "more").write_text("kept")
    converge(root, state="absent")
    assert not os.path.exists(data(root))
    converge(root, driver="mount", device="LABEL=vslrows", fstype="ext4")
    assert sorted(os.listdir(data(root))) == ["lost+found", "more", "row"]


def test_a_directory_of_the_host_is_bound(root, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/row").write_text("there before")
    given = {"driver": "mount", "device": str(tmp_path / "shared"), "fstype": "none", "options": ["bind", "ro"]}
    converge(root, **given)
    assert words(root) == ["ro", "nosuid", "nodev"]
    with pytest.raises(OSError, match="Read-only"):
        Path(data(root), "more").write_text("x")
    converge(root, options=["bind"], mode="0750")
    assert converge(root) == []
    Path(data(root), "more").write_text("kept")
    converge(root, state="absent")
    assert sorted(os.listdir(tmp_path / "shared")) == ["more", "row"]


HELPER = """#!/bin/sh
printf '%s\\n' "$0" "$@" >> {log}
case "$*" in
*absent*) echo 'mount.vsltest: no such export'; exit 32 ;;
*hangs*) exec sleep 60 ;;
*remount*) exit 0 ;;
esac
mount -t tmpfs -o nosuid,nodev "$1" "$2"
"""


@pytest.fixture
def helper(tmp_path):
    """A file system's helper in a directory of PATH, which tells how it was called."""
    (tmp_path / "bin").mkdir()
    program, log = tmp_path / "bin/mount.vsltest", tmp_path / "called"
    program.write_text(HELPER.format(log=log))
    program.chmod(0o755)
    return {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}, log


def test_a_type_with_a_helper_is_mounted_by_it(root, helper, tmp_path):
    environ, log = helper
    given = volume(root, driver="mount", device="filer:/export/a b", fstype="vsltest", options="vers=4,credentials=/c")
    result = run_module("volume", given, environ=environ)
    assert result["changed"]
    called = [f"{tmp_path}/bin/mount.vsltest", "filer:/export/a b", data(root), "-o"]
    assert log.read_text().splitlines() == [*called, "nosuid,nodev,vers=4,credentials=/c"]
    assert not run_module("volume", given, environ=environ)["changed"]
    log.unlink()
    mount.mount("none", data(root), None, mount.MS_REMOUNT | mount.MS_NODEV)
    assert run_module("volume", given, environ=environ)["actions"] == ["volume data: mend options (live)"]
    assert log.read_text().splitlines()[-1] == "remount,nosuid,nodev,vers=4,credentials=/c"


def test_a_helper_that_fails_leaves_nothing_and_says_what_it_said(root, helper):
    given = volume(root, driver="mount", device="filer:/absent", fstype="vsltest")
    failed = run_module("volume", given, environ=helper[0])
    assert failed["msg"] == (
        f"mount vsltest filer:/absent on {data(root)}: mount.vsltest ended with 32: mount.vsltest: no such export"
    )
    assert not os.path.exists(root) or os.listdir(root) == []


def test_a_helper_is_missing(root, monkeypatch):
    monkeypatch.setenv("PATH", "/none")
    monkeypatch.setattr(filesystem, "PATH", "/none")
    with pytest.raises(DependencyError) as caught:
        converge(root, driver="mount", device="filer:/export", fstype="nfs")
    assert str(caught.value) == (
        "a file system of the type nfs is mounted by mount.nfs, which is not installed"
        " (Debian's package nfs-common has it)"
    )
    assert not os.path.exists(root)


def test_nobody_waits_for_ever():
    """An errand that hangs is left behind in time, and keeps no descriptor of ours."""
    reader, writer = os.pipe()
    began = time.monotonic()
    with pytest.raises(KernelError) as caught:
        errand.bounded(lambda: time.sleep(60), 0.2, "look at", "/srv/gone")
    assert (caught.value.errno, time.monotonic() - began < 5) == (errno.ETIMEDOUT, True)
    os.close(writer)
    assert os.read(reader, 1) == b""  # its copy is closed, too
    os.close(reader)
    assert errand.bounded(lambda: [1, "a"], 5, "look at", "/") == [1, "a"]
    with pytest.raises(KernelError, match="umount /none/such: No such file"):
        errand.bounded(lambda: mount.umount2("/none/such"), 5, "look at", "/")


def test_a_server_that_does_not_answer_keeps_nobody(root, monkeypatch):
    """A FUSE whose server never says a word: whoever touches it waits, until a signal ends it."""
    monkeypatch.setattr(filesystem, "LOOK", 0.3)
    server = os.open("/dev/fuse", os.O_RDWR)
    converge(root)
    spec = Path(root, "lib/volumes/data/spec.json")
    declared = {**json.loads(spec.read_text()), "driver": "mount", "device": "filer:/x", "fstype": "fuse.vsl"}
    spec.write_text(json.dumps(declared))
    flags = mount.MS_NOSUID | mount.MS_NODEV
    mount.mount("filer:/x", data(root), "fuse", flags, f"fd={server},rootmode=40000,user_id=0,group_id=0")
    told = volumes.info(Paths.at(root), "data", usage=True)
    assert (told["present"], told["usage"]) == (False, 0)
    assert told["problem"] == (
        f"look at volume data at {data(root)}: Connection timed out [ETIMEDOUT] (its server does not answer)"
    )
    with pytest.raises(KernelError, match="ETIMEDOUT"):
        converge(root, mode="0700")
    assert volumes.lost(Paths.at(root), "data") == Plan()  # it is mounted, and is not asked
    converge(root, state="absent")
    os.close(server)
    assert not os.path.exists(data(root))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"driver": "loop"}, "size: is missing; the driver loop needs it"),
        ({"driver": "loop", "size": "64k"}, "size: 65536 is too small for a file system"),
        (
            {"driver": "loop", "size": "8m", "fstype": "nfs"},
            "fstype: 'nfs' is none that a loop can have",
        ),
        ({"driver": "loop", "size": "8m", "device": "/dev/sda"}, "device: '/dev/sda' can't be kept by the driver loop"),
        (
            {"driver": "loop", "size": "8m", "options": "bind"},
            "options: 'bind' binds a directory, and the",
        ),
        ({"size": "8m"}, "size: 8388608 can't be kept by the driver directory; use driver: tmpfs or loop"),
        ({"preallocate": True}, "preallocate: True can't be kept by the driver directory; use driver: loop"),
        ({"driver": "mount", "fstype": "nfs"}, "device: is missing; the driver mount needs it"),
        ({"driver": "mount", "device": "/dev/sda"}, "fstype: is missing; the driver mount needs it"),
        (
            {"driver": "mount", "device": "/d", "fstype": "none"},
            "fstype: 'none' is the type of a directory",
        ),
        (
            {"driver": "mount", "device": "/no/such", "fstype": "none", "options": "bind"},
            "device: '/no/such' is no directory of this host; make it first",
        ),
        (
            {"driver": "mount", "device": "/etc/passwd", "fstype": "none", "options": "bind"},
            "device: '/etc/passwd' is no directory of this host; make it first",
        ),
        ({"driver": "mount", "device": "x", "fstype": "proc"}, "fstype: 'proc' is no file system of a device"),
        ({"driver": "mount", "device": "x", "fstype": "tmpfs"}, "fstype: 'tmpfs' is a driver of its own"),
        ({"driver": "mount", "device": "a", "fstype": "../x"}, "fstype: '../x' is no type of a file system"),
        ({"driver": "mount", "device": "/srv", "fstype": "nfs"}, "device: '/srv' is no export of a server"),
        ({"driver": "mount", "device": "srv", "fstype": "cifs"}, "device: 'srv' is no share of a server"),
        ({"driver": "mount", "device": "/dev/no", "fstype": "ext4"}, "device: '/dev/no' is not on this host"),
        (
            {"driver": "mount", "device": "UUID=no", "fstype": "ext4"},
            "device: 'UUID=no' is no block device",
        ),
        (
            {"driver": "mount", "device": "//f/s", "fstype": "cifs", "options": ["password=hunter2"]},
            "options: 'password=(not shown)' would show in the process list",
        ),
        (
            {"driver": "mount", "device": "//u:hunter2@f/s", "fstype": "cifs"},
            "device: '(not shown)' may hold a password",
        ),
        ({"options": ["_netdev"]}, "options: '_netdev' is for /etc/fstab and says nothing here"),
        ({"options": "ro,rw"}, "options: 'ro,rw' has both ro and rw; give one"),
        ({"options": "ro,ro"}, "options: 'ro' stands there twice"),
        ({"options": "rshared"}, "options: 'rshared' is said where a container mounts the volume"),
        ({"driver": "tmpfs", "sharing": "onewriter"}, "sharing: 'onewriter' is for storage that several hosts have"),
        (
            {"driver": "mount", "device": "/dev/zero", "fstype": "ext4", "sharing": "onewriter"},
            "sharing: 'onewriter' is for storage that several hosts have mounted, and this volume is of the type ext4",
        ),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(root, options, sentence):
    with pytest.raises(OptionError) as caught:
        converge(root, **options)
    assert str(caught.value).startswith(sentence)
    assert "hunter2" not in str(caught.value)
    assert not os.path.exists(root) or os.listdir(root) == []


def test_prune_tells_what_comes_back_to_this_host(root, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/row").write_bytes(bytes(MEGA))
    converge(root, driver="mount", device=str(tmp_path / "shared"), fstype="none", options=["bind"])
    converge(root, name="own", driver="loop", size="8m", preallocate=True)
    result, going = prune.plan(Paths.at(root), ["volumes"])
    assert sorted(going["volumes"]) == ["data", "own"]
    assert 8 * MEGA <= going["space_reclaimed"] < 9 * MEGA
    result.apply()
    assert os.listdir(tmp_path / "shared") == ["row"]
    wait_detached(image(root, "own"))


def test_what_a_mount_is_can_not_change(root, disk):
    converge(root, driver="mount", device=disk, fstype="ext4")
    for change in ({"device": "/dev/zero"}, {"fstype": "xfs"}):
        with pytest.raises(OptionError, match=r"is not what the volume has.*what is on the device stays"):
            converge(root, **change)
