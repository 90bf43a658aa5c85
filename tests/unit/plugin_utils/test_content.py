# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of the controller's: where they are found, and what their digest is."""

from __future__ import annotations

import os
import tarfile
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible_collections.vessel.host.plugins.module_utils._image import rootfs
from ansible_collections.vessel.host.plugins.plugin_utils import content


@pytest.fixture
def action(tmp_path):
    """As an action sees it whose play is in play/, in a role of that."""
    loader = DataLoader()
    loader.set_basedir(str(tmp_path / "play"))
    stack = [str(tmp_path / "play/roles/web"), str(tmp_path / "play")]
    (tmp_path / "play/roles/web/files").mkdir(parents=True)
    (tmp_path / "play/files").mkdir()

    def find(dirname, needle):
        return loader.path_dwim_relative_stack(stack, dirname, needle)

    return SimpleNamespace(_find_needle=find, _loader=loader)


def test_a_roles_files_come_before_the_plays(action, tmp_path):
    (tmp_path / "play/files/a.tar").write_text("the play's")
    assert content.find(action, "a.tar") == str(tmp_path / "play/files/a.tar")
    (tmp_path / "play/roles/web/files/a.tar").write_text("the role's")
    assert content.find(action, "a.tar") == str(tmp_path / "play/roles/web/files/a.tar")
    assert content.find(action, str(tmp_path / "play/files/a.tar")) == str(tmp_path / "play/files/a.tar")


def test_where_it_was_looked_for(action, tmp_path):
    with pytest.raises(AnsibleActionFail) as caught:
        content.find(action, "a.tar")
    said = str(caught.value)
    assert said.startswith("src: 'a.tar' is not on the controller; it was looked for as ")
    for place in ("roles/web/files/a.tar", "files/a.tar"):
        assert said.count(str(tmp_path / "play" / place)) == 1


def test_a_directory_is_no_tar(action, tmp_path):
    with pytest.raises(AnsibleActionFail, match=r"src: '.*/files' is a directory; give a tar file"):
        content.find(action, str(tmp_path / "play/files"))


@pytest.mark.root
def test_what_nobody_may_read(action):
    with tempfile.NamedTemporaryFile(dir="/tmp") as file:  # pytest's directories are root's alone
        assert _said_to_nobody(action, file.name) == (
            f"src: {file.name!r} can't be read on the controller: Permission denied"
        )


def _said_to_nobody(action, path):
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.seteuid(65534)
        try:
            content.find(action, path)
        except AnsibleActionFail as error:
            os.write(theirs, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(theirs)
    with open(ours) as pipe:
        return pipe.read()


def test_what_goes_meanwhile(tmp_path):
    with pytest.raises(AnsibleActionFail, match="can't be read on the controller: No such file or directory"):
        content.key(str(tmp_path / "gone"), str(tmp_path))


@pytest.mark.parametrize("data", [b"", b"x", b"x" * (content.CHUNK + 1)])
def test_the_digest_is_that_of_a_file_on_the_target(tmp_path, data):
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    assert content.digest(str(path)) == rootfs.key(str(path))


def test_a_file_is_read_once_while_it_is_the_same(tmp_path, monkeypatch):
    path, memory = tmp_path / "a.tar", tmp_path / "memory"
    memory.mkdir()
    path.write_text("one")
    read = []

    def digest(name):
        read.append(name)
        return Path(name).read_text()

    monkeypatch.setattr(content, "digest", digest)
    assert [content.key(str(path), str(memory)) for dummy in range(3)] == ["one"] * 3
    assert len(read) == 1
    path.write_text("two")
    assert content.key(str(path), str(memory)) == "two"


@pytest.fixture
def context(tmp_path):
    top = tmp_path / "context"
    (top / "deep/er").mkdir(parents=True)
    (top / "deep/er/file").write_text("file")
    (top / "deep/out.log").write_text("log")
    (top / "run.sh").write_text("#!/bin/sh")
    (top / "link").symlink_to("run.sh")
    os.mkfifo(top / "fifo")
    return top


def packed(context, tmp_path):
    path, digest = content.pack(str(context), str(tmp_path))
    with tarfile.open(path) as tar:
        members = {member.name: member for member in tar}
    os.unlink(path)
    return members, digest


def test_a_context_is_packed(context, tmp_path):
    members, dummy = packed(context, tmp_path)
    assert list(members) == ["deep", "deep/er", "deep/er/file", "deep/out.log", "link", "run.sh"]
    assert (members["link"].linkname, members["run.sh"].size) == ("run.sh", 9)
    assert {(member.uid, member.gid, member.uname) for member in members.values()} == {(0, 0, "")}


def test_what_a_contexts_digest_says(context, tmp_path):
    dummy, first = packed(context, tmp_path)
    os.utime(context / "run.sh", (1, 1))
    assert packed(context, tmp_path)[1] == first
    (context / "run.sh").chmod(0o755)
    dummy, second = packed(context, tmp_path)
    assert second != first
    (context / "run.sh").write_text("#!/bin/zz")
    dummy, third = packed(context, tmp_path)
    assert third not in (first, second)
    (context / "new").write_text("")
    assert packed(context, tmp_path)[1] not in (first, second, third)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("*.log\n**/*.log\nrun.sh", ["deep", "deep/er", "deep/er/file", "link"]),
        ("deep", ["link", "run.sh"]),
        ("*\n!deep/er", ["deep/er", "deep/er/file"]),
    ],
)
def test_an_ignore_file_is_held_to(context, tmp_path, text, left):
    (context / ".containerignore").write_text(f"{text}\n.containerignore\n")
    assert list(packed(context, tmp_path)[0]) == left


def test_a_context_that_cannot_be_packed_leaves_nothing(context, tmp_path):
    (context / ".dockerignore").write_text("[\n")
    with pytest.raises(AnsibleActionFail, match=r"dockerignore' is no ignore file"):
        content.pack(str(context), str(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["context"]
