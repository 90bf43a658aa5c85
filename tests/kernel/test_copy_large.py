# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are larger than memory should be: copied and compared in little of it, holes and all, or not at all."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cli import install
from ansible_collections.vessel.host.plugins.module_utils._converge import copying
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError
from ansible_collections.vessel.host.plugins.module_utils._kernel import mount
from ansible_collections.vessel.host.plugins.module_utils._kernel.copy_file_range import copy_content, same_content
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from .module_runner import COLLECTIONS, quartet, run_module

pytestmark = pytest.mark.root

SIZE = 300 << 20
# More than Python and the engine need, and less than the file.
MEMORY = 120 << 20
_PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.vessel.host.plugins.module_utils._converge import copying
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
desired = json.loads(sys.argv[3])
copy = copying.into if desired["direction"] == "in" else copying.out
plan, diff = copy(Paths.at(sys.argv[2]), desired)
plan.apply()
# Not getrusage(2): its maximum is inherited from who started us, which may be large.
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(bool(plan), int(peak) * 1024)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """An installation with a container that runs; all of it goes at the end."""
    top = str(tmp_path_factory.mktemp("large") / "vessel")
    run_module("image", {"root": top, "name": "bb", "source": "template", "template": "busybox", "cmd": "sleep 1000"})
    for name, state in (("web", "started"), ("halted", "present")):
        made = run_module("container", {"root": top, "name": name, "image": "bb", "network_mode": "none",
                                        "state": state})  # fmt: skip
        assert not made.get("failed"), made["msg"]
    yield top
    for name in ("web", "halted"):
        run_module("container", {"root": top, "name": name, "state": "absent"})
    install.remove(Paths.at(top))
    assert top not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "large"
    block = os.urandom(1 << 20)
    with open(path, "wb") as file:
        for number in range(SIZE >> 20):
            file.write(number.to_bytes(8, "big") + block[8:])
    yield path
    path.unlink()


def upper(root, name="web"):
    return Path(Paths.at(root).resource("containers", name), "upper")


def copied(root, **desired):
    """(changed, the most memory that it took) of a copy by a process of its own."""
    given = json.dumps({"follow": False, "local_follow": True, **desired})
    command = [sys.executable, "-c", _PROGRAM, str(COLLECTIONS), root, given]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.split()
    return said[0] == "True", int(said[1])


@pytest.mark.parametrize("name", ["web", "halted"])
def test_large_files_go_through_little_memory(root, large, tmp_path, name):
    inward = {"direction": "in", "container": name, "path": str(large), "container_path": "/large"}
    outward = {"direction": "out", "container": name, "path": str(tmp_path / "out"), "container_path": "/large"}
    for desired in (inward, outward):
        for expected in (True, False):  # copied, then compared
            changed, memory = copied(root, **desired)
            assert changed is expected
            assert memory < MEMORY
    assert subprocess.run(["cmp", large, tmp_path / "out"], check=False, timeout=60).returncode == 0
    with open(tmp_path / "out", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\0" if file.read(1) != b"\0" else b"\1")
    changed, memory = copied(root, **outward)
    assert (changed, memory < MEMORY) == (True, True)
    (upper(root, name) / "large").unlink()


def test_holes_stay_holes(root, tmp_path):
    """A sparse file of a terabyte is as large as what is in it, and as soon compared."""
    size = 1 << 40
    with open(tmp_path / "sparse", "wb") as file:
        file.write(b"first")
        file.seek(size >> 1)
        file.write(b"middle")
        file.truncate(size)
    args = {"root": root, "container": "web", "path": f"{tmp_path}/sparse", "container_path": "/sparse"}
    begin = time.monotonic()
    results = quartet("container_copy", args)
    assert results[0]["diff"]["after"].endswith(f"[{size} bytes]\n")
    assert time.monotonic() - begin < 30
    info = (upper(root) / "sparse").stat()
    assert (info.st_size, info.st_blocks * 512 < 1 << 20) == (size, True)
    with open(upper(root) / "sparse", "rb") as file:
        assert os.pread(file.fileno(), 5, 0) == b"first"
        assert os.pread(file.fileno(), 8, size >> 1) == b"middle\0\0"
    (upper(root) / "sparse").unlink()


@pytest.mark.parametrize(
    ("content", "same"),
    [
        ([(0, b"x"), (4 << 20, b"y")], True),
        ([(0, b"x"), (4 << 20, b"z")], False),
        ([(0, b"x"), (4 << 20, b"y"), (2 << 20, b"more")], False),
        ([(0, b"x"), (4 << 20, b"y"), (2 << 20, bytes(5000))], True),
        ([(4 << 20, b"y")], False),
        ([], False),
    ],
)
def test_content_is_compared_whatever_its_holes(tmp_path, content, same):
    def made(name, pieces):
        fd = os.open(tmp_path / name, os.O_RDWR | os.O_CREAT)
        for offset, data in pieces:
            os.pwrite(fd, data, offset)
        os.ftruncate(fd, 8 << 20)
        return fd

    one, other = made("one", [(0, b"x"), (4 << 20, b"y")]), made("other", content)
    try:
        for pair in ((one, other), (other, one)):
            assert same_content(*pair) is same
    finally:
        os.close(one)
        os.close(other)


def test_a_source_that_grows_or_shrinks_is_no_trap(tmp_path):
    """Its size is that at the beginning, or less: a log that never ends is copied to an end."""
    source, target = (os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in ("source", "target"))
    try:
        os.pwrite(source, b"x" * 10000, 0)
        copy_content(source, target, 6000)
        assert os.pread(target, 20000, 0) == b"x" * 6000
        os.ftruncate(source, 4000)
        copy_content(source, target, 6000)
        assert os.pread(target, 20000, 0) == b"x" * 4000
    finally:
        os.close(source)
        os.close(target)


def test_a_file_of_proc_is_copied_though_it_says_that_it_is_empty(root, tmp_path):
    args = {"root": root, "container": "web", "container_path": "/proc/version", "direction": "out"}
    quartet("container_copy", {**args, "path": f"{tmp_path}/version"})
    assert (tmp_path / "version").read_text() == Path("/proc/version").read_text()


def test_killed_in_the_middle_it_leaves_the_old_file_and_nothing_else(root, large):
    """The first is there whole; a second copy is killed when it has begun."""
    run_module("container_copy", {"root": root, "container": "web", "container_path": "/victim", "content": "old",
                                  "mode": "0644"})  # fmt: skip
    desired = {"follow": False, "local_follow": True, "direction": "in", "container": "web", "path": str(large),
               "container_path": "/victim"}  # fmt: skip
    blocks = os.statvfs(upper(root)).f_bfree
    child = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(COLLECTIONS), root, json.dumps(desired)])
    deadline = time.monotonic() + 20
    while os.statvfs(upper(root)).f_bfree > blocks - (20 << 20) // 4096 and time.monotonic() < deadline:
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    assert child.wait(20) == -signal.SIGKILL
    assert (upper(root) / "victim").read_text() == "old"
    assert [entry for entry in os.listdir(upper(root)) if entry.startswith(".victim")] == []


def test_a_full_disk_leaves_what_is_mounted_as_it_was(tmp_path):
    """A file that others have mounted is written in place; room for all of it is asked for before."""
    (tmp_path / "small").mkdir()
    mount.mount("small", str(tmp_path / "small"), "tmpfs", 0, "size=1m")
    try:
        (tmp_path / "small" / "file").write_text("as it was")
        (tmp_path / "place").touch()
        mount.mount(str(tmp_path / "small" / "file"), str(tmp_path / "place"), None, mount.MS_BIND)
        data = b"y" * (2 << 20)
        with copying.host_place(str(tmp_path / "place"), follow=False, option="path") as where:
            with copying.in_memory(data) as fd:
                with pytest.raises(KernelError) as caught:
                    copying.write(where, copying.Entry(0o644, 0, 0, len(data), fd))
                assert caught.value.errno == errno.ENOSPC
                assert (tmp_path / "place").read_text() == "as it was"
                copying.write(where, copying.Entry(0o640, 0, 0, 5000, fd))
            assert (tmp_path / "small" / "file").read_text() == "y" * 5000
            with copying.in_memory(b"short") as fd:
                copying.write(where, copying.Entry(0o640, 0, 0, 5, fd))
            assert (tmp_path / "small" / "file").read_text() == "short"
    finally:
        mount.umount2(str(tmp_path / "place"))
        mount.umount2(str(tmp_path / "small"))
