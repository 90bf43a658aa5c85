# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a build sees of a context: ignore files, globs, symlinks and other hostile things in it."""

from __future__ import annotations

import os

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError, StoreError
from ansible_collections.vessel.host.plugins.module_utils._image.build import ignore, known
from ansible_collections.vessel.host.plugins.module_utils._image.build import tree as trees
from ansible_collections.vessel.host.plugins.module_utils._image.build.tree import Tree
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths


@pytest.mark.parametrize(
    ("patterns", "ignored", "seen"),
    [
        ("a", ["a", "a/b"], ["b/a", "ab"]),
        ("/a/", ["a", "a/b"], ["b/a"]),
        ("*.o", ["x.o"], ["d/x.o", "x.oo"]),
        ("**/*.o", ["x.o", "d/x.o", "d/e/x.o"], ["x.c"]),
        ("*/b", ["a/b"], ["b", "a/a/b"]),
        ("a/**", ["a/b", "a/b/c"], ["b"]),
        ("a?c", ["abc"], ["ac", "a/c"]),
        ("[a-c]x", ["ax", "cx/y"], ["dx"]),
        ("[^a]x", ["bx"], ["ax"]),
        ("\\*x", ["*x"], ["ax"]),
        ("*\n!b", ["a", "c/d"], ["b", "b/c"]),
        ("a\n!a/keep\na/keep/not", ["a/b", "a/keep/not"], ["a/keep", "a/keep/x"]),
        ("!a\na", ["a"], ["b"]),
        (".", ["a", "b/c"], []),
        ("# a\n\n  b  ", ["b"], ["a", "# a"]),
        ("a/../b", ["b"], ["a"]),
        ("\ufeffa", ["a"], ["b"]),
    ],
)
def test_what_an_ignore_file_ignores(patterns, ignored, seen):
    rules = ignore.read(patterns)
    assert [rules(path) for path in ignored] == [True] * len(ignored)
    assert [rules(path) for path in seen] == [False] * len(seen)


@pytest.mark.parametrize(("text", "problem"), [("!", "'!' is no pattern"), ("[a", "has a \\[ that is not closed")])
def test_a_pattern_that_can_not_be(text, problem):
    with pytest.raises(ValueError, match=problem):
        ignore.read(text)


@pytest.fixture
def context(tmp_path):
    base = tmp_path / "context"
    for path in ("a.txt", "b.txt", "d/c.txt", "d/e/f", "line\nbreak", "*"):
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_text(path)
    (base / "link").symlink_to("d/e")
    (base / "out").symlink_to("/etc")
    (base / "up").symlink_to("../../..")
    (tmp_path / "secret").write_text("not in the context")
    return base


@pytest.fixture
def tree(context):
    opened = []

    def of(patterns="", digests=None):
        root = os.open(context, os.O_RDONLY | os.O_DIRECTORY)
        opened.append(Tree(root, ignore.read(patterns), digests))
        return opened[-1]

    yield of
    for one in opened:
        one.close()


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.txt", ["a.txt"]),
        ("./d//e/f", ["d/e/f"]),
        ("/a.txt", ["a.txt"]),
        ("d/../a.txt", ["a.txt"]),
        (".", [""]),
        ("*.txt", ["a.txt", "b.txt"]),
        ("*/c*", ["d/c.txt"]),
        ("?.txt", ["a.txt", "b.txt"]),
        ("[b-z].txt", ["b.txt"]),
        ("\\*", ["*"]),
        ("line*", ["line\nbreak"]),
        ("link/f", ["link/f"]),
        ("link/*", ["link/f"]),
        ("none", []),
        ("none*", []),
        ("a.txt/x", []),
    ],
)
def test_names(tree, pattern, names):
    assert tree().find(pattern) == names


@pytest.mark.parametrize("pattern", ["../secret", "d/../../secret", "..", "*/../../secret"])
def test_no_name_leads_out(tree, pattern):
    with pytest.raises(StoreError, match="leads out of what is copied from"):
        tree().find(pattern)


def test_no_symlink_leads_out(tree, context):
    assert tree().find("out") == []  # as if / were the context: there is no etc
    assert tree().find("up/secret") == []
    (context / "etc").mkdir()
    (context / "etc/mine").write_text("")
    assert tree().real("out/mine") == "etc/mine"
    assert [entry.name for entry in tree().walk("out")] == ["", "mine"]
    assert tree().real("up") == ""


def test_what_is_ignored_is_not_there(tree):
    one = tree("d\n!d/e\n*.txt\nout\nup")
    assert one.find("d") == ["d"]
    assert one.find("*.txt") == []
    assert one.find("d/c.txt") == []
    assert [entry.path for entry in one.walk("")] == ["", "*", "d", "d/e", "d/e/f", "line\nbreak", "link"]
    assert tree("d").find("d") == []
    assert tree("d").find("link") == []  # where it leads to counts


def test_a_fifo_hangs_nobody(tree, context):
    os.mkfifo(context / "fifo")
    before = tree().digest("")
    os.unlink(context / "fifo")
    assert tree().digest("") != before
    os.mkfifo(context / "fifo2")
    os.close(tree().open("fifo2"))


def test_a_digest_is_of_what_is_seen(tree, context):
    before = tree("*.txt").digest("")
    (context / "a.txt").write_text("other")
    assert tree("*.txt").digest("") == before
    (context / "d/e/f").write_text("other")
    assert tree("*.txt").digest("") != before


def test_a_file_that_is_known_is_not_read_again(tree, context, tmp_path, monkeypatch):
    monkeypatch.setattr(trees, "_TICK_NS", -1)
    store = Store(Paths.at(str(tmp_path / "vessel")))
    first = tree()
    digest = first.digest("")
    known.remember(store, "app:1", str(context), first)
    found = known.recall(store, "app:1", str(context))
    assert known.recall(store, "other:1", str(context)) == {}
    again = tree(digests=found)
    monkeypatch.setattr(Tree, "_hash", None)
    assert again.digest("") == digest
    monkeypatch.undo()
    info = os.stat(context / "a.txt")
    (context / "a.txt").write_text("A.TXT")
    os.utime(context / "a.txt", ns=(info.st_atime_ns, info.st_mtime_ns))  # the time of change gives it away
    assert tree(digests=found).digest("") != digest


def test_a_file_that_just_changed_is_not_remembered(tree, context):
    (context / "a.txt").write_text("new")
    one = tree()
    one.digest("")
    assert "a.txt" not in one.seen


def test_a_directory_that_can_not_be_read_is_an_error(tree):
    with pytest.raises(KernelError):
        list(tree().walk("nothing"))
