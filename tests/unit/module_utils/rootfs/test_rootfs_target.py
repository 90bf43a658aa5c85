# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Places below a root that somebody else filled. No right of root's is needed to find them."""

from __future__ import annotations

import os
import stat

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError
from ansible_collections.vessel.host.plugins.module_utils._kernel.openat2 import open_root
from ansible_collections.vessel.host.plugins.module_utils._rootfs import copyup, target


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "victim").mkdir()
    fd = open_root(str(tmp_path / "root"))
    yield fd
    os.close(fd)
    assert os.listdir(tmp_path / "victim") == []
    assert sorted(os.listdir(tmp_path)) == ["root", "victim"]


def place(fd: int) -> str:
    path = os.readlink(f"/proc/self/fd/{fd}")
    os.close(fd)
    return path


def test_missing_directories_are_made(root, tmp_path):
    assert place(target.directory(root, "/a/b//c/")) == f"{tmp_path}/root/a/b/c"
    assert place(target.directory(root, "/a/b/c")) == f"{tmp_path}/root/a/b/c"
    assert stat.S_IMODE((tmp_path / "root" / "a").stat().st_mode) & 0o700 == 0o700


def test_missing_file_is_made_and_one_that_is_there_kept(root, tmp_path):
    assert place(target.file(root, "/etc/new")) == f"{tmp_path}/root/etc/new"
    (tmp_path / "root" / "etc" / "new").write_text("kept")
    os.close(target.file(root, "/etc/new"))
    assert (tmp_path / "root" / "etc" / "new").read_text() == "kept"


@pytest.mark.parametrize(
    "to", ["/", "..", "../../../..", "{victim}", "../victim", "/../../victim", "../../../..{victim}"]
)
@pytest.mark.parametrize("find", [target.directory, target.file])
def test_symlinks_stay_below(root, tmp_path, find, to):
    victim = tmp_path / "victim"
    (tmp_path / "root" / "link").symlink_to(to.format(victim=victim))
    path = place(find(root, "/link/x/y"))
    assert path.startswith(f"{tmp_path}/root/")
    assert path.endswith("/x/y")


@pytest.mark.parametrize(
    ("link", "to", "wanted", "found"),
    [
        ("link", "new", "/link", "new"),
        ("link", "/deep/new", "/link", "deep/new"),
        ("etc/resolv.conf", "../run/x/stub", "/etc/resolv.conf", "run/x/stub"),
        ("a/up", "../../../../top", "/a/up", "top"),
        ("link", "other/", "/link/x", "other/x"),
    ],
)
def test_dangling_symlinks_are_followed_by_making(root, tmp_path, link, to, wanted, found):
    path = tmp_path / "root" / link
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(to)
    assert place(target.file(root, wanted)) == f"{tmp_path}/root/{found}"
    assert path.is_symlink()


def test_symlinks_to_each_other(root, tmp_path):
    (tmp_path / "root" / "a").symlink_to("b")
    (tmp_path / "root" / "b").symlink_to("a")
    for find in (target.directory, target.file, target.ordinary_directory):
        with pytest.raises(KernelError, match="ELOOP"):
            find(root, "/a")


def test_endless_dangling_symlinks(root, tmp_path):
    """Each leads to one that is not there yet, deeper each time."""
    (tmp_path / "root" / "a").symlink_to("a/x/../../b/c")
    with pytest.raises(KernelError, match=r"ELOOP|ENOENT"):
        target.file(root, "/a")


def test_ordinary_directory_is_no_symlink(root, tmp_path):
    (tmp_path / "root" / "proc").symlink_to("sys")
    (tmp_path / "root" / "up").symlink_to(".")
    for path in ("/proc", "/up/new"):
        with pytest.raises(KernelError, match=r"ELOOP\] \(it must be an ordinary directory of the image\)"):
            target.ordinary_directory(root, path)
    assert place(target.ordinary_directory(root, "/new")) == f"{tmp_path}/root/new"


def test_kind_is_that_of_the_source(root, tmp_path):
    directory, file = os.open(tmp_path, os.O_PATH), os.open(__file__, os.O_PATH)
    assert os.path.isdir(place(target.like_fd(root, "/d", directory)))
    assert os.path.isfile(place(target.like_fd(root, "/f", file)))
    assert os.path.isfile(place(target.like(root, "/g", __file__)))
    with pytest.raises(KernelError, match="ENOTDIR"):
        target.like_fd(root, "/f", directory)
    with pytest.raises(KernelError, match="ENOTDIR"):
        target.file(root, "/f/below")
    os.close(directory)
    os.close(file)


def test_optional(root, tmp_path):
    (tmp_path / "root" / "there").touch()
    (tmp_path / "root" / "loop").symlink_to("loop")
    assert place(target.optional(root, "/there")) == f"{tmp_path}/root/there"
    assert [target.optional(root, path) for path in ("/none", "/there/below", "/loop")] == [-1, -1, -1]


def test_copied_tree_is_the_same(root, tmp_path):
    source, copy = tmp_path / "root" / "source", tmp_path / "root" / "copy"
    (source / "sub").mkdir(parents=True, mode=0o750)
    (source / "sub" / "file").write_bytes(b"\0content")
    (source / "sub" / "file").chmod(0o600)
    (source / "sub" / "link").symlink_to("/nowhere")
    os.mkfifo(source / "fifo")
    copy.mkdir()
    from_fd, to_fd = (os.open(path, os.O_PATH) for path in (source, copy))
    copyup.fill(to_fd, copyup.read_tree(from_fd))
    os.close(from_fd)
    os.close(to_fd)
    assert os.listdir(copy) == ["sub"]
    assert (copy / "sub" / "file").read_bytes() == b"\0content"
    assert stat.S_IMODE((copy / "sub" / "file").stat().st_mode) == 0o600
    assert os.readlink(copy / "sub" / "link") == "/nowhere"
