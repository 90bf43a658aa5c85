# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module is told beside its options, and images that are made from a file of the controller's."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge.image import images
from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError, StoreError
from ansible_collections.vessel.host.plugins.module_utils._image import rootfs
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._options.image import DIRECTIVES, OPTIONS
from ansible_collections.vessel.host.plugins.module_utils._options.record import parse_options
from ansible_collections.vessel.host.plugins.module_utils._options.sent import (
    ASKING,
    CONTENTS,
    PROGRESS,
    Content,
    Sent,
    take,
)
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
from ansible_collections.vessel.host.tests.image_tars import entry, folder, tar

KEY = "0123456789abcdef" * 4


@pytest.fixture
def paths(tmp_path):
    return Paths.at(str(tmp_path / "vessel"))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tree.tar"
    path.write_bytes(tar(folder("."), entry("word", data=b"one")))
    return path


def plan(paths, file, sent=False, name="app", **given):
    """Of an image that is made from a file of the controller's."""
    desired = parse_options((*DIRECTIVES, *OPTIONS), {"name": name, "source": "rootfs", "src": "tree.tar", **given})
    known = Sent("", {"tree.tar": Content("tree.tar", rootfs.key(str(file)), str(file) if sent else "")})
    return images.plan(paths, known.into(desired))


def test_what_the_plugin_says_is_taken_out_of_the_parameters():
    contents = {"a.tar": {"key": KEY, "path": ""}}
    params = {"name": "x", PROGRESS: "a" * 32, CONTENTS: contents, ASKING: True}
    assert take(params) == Sent("a" * 32, {"a.tar": Content("a.tar", KEY)}, True)
    assert params == {"name": "x"}
    assert take({"name": "x"}) == Sent()


@pytest.mark.parametrize(
    "given",
    [
        {PROGRESS: "../../etc/passwd"},
        {PROGRESS: "a" * 32 + "\n"},
        {PROGRESS: 5},
        {CONTENTS: "x"},
        {CONTENTS: {"a": {"key": "../x", "path": ""}}},
        {CONTENTS: {"a": {"key": KEY}}},
        {CONTENTS: {"a": {"key": KEY, "path": 7}}},
        {ASKING: "yes"},
    ],
)
def test_what_the_plugin_would_not_have_said_belongs_to_no_option(given):
    params = dict(given)
    assert take(params) == Sent()
    assert params == given


@pytest.mark.root
def test_a_file_is_needed_once(paths, file):
    assert plan(paths, file).needs() == ["tree.tar"]
    made = plan(paths, file, sent=True)
    assert made.describe() == ["image app:latest: import tree.tar"]
    assert made.needs() == []
    made.apply()
    assert not plan(paths, file)
    assert Store(paths).get("app:latest").key


@pytest.mark.root
def test_the_same_content_on_the_target_is_the_same(paths, file):
    plan(paths, file, sent=True).apply()
    desired = parse_options((*DIRECTIVES, *OPTIONS), {"name": "app", "source": "rootfs", "path": str(file)})
    assert not images.plan(paths, desired)


@pytest.mark.root
def test_another_content_is_needed(paths, file):
    plan(paths, file, sent=True).apply()
    file.write_bytes(tar(folder("."), entry("word", data=b"two")))
    assert plan(paths, file).needs() == ["tree.tar"]


@pytest.mark.root
def test_another_image_of_the_same_content_needs_nothing_sent(paths, file):
    plan(paths, file, sent=True, cmd="ls").apply()
    for given in ({"cmd": "ls"}, {"cmd": "sh"}):
        made = plan(paths, file, name="other", **given)
        assert made
        assert made.needs() == []
        made.apply()
        assert not plan(paths, file, name="other", **given)
    store = Store(paths)
    assert store.get("other:latest").layers == store.get("app:latest").layers
    assert plan(paths, file, cmd="ls", force=True).needs() == ["tree.tar"]


@pytest.mark.root
def test_what_was_changed_while_it_was_sent_is_refused(paths, file, tmp_path):
    made = plan(paths, file, sent=True)
    file.write_bytes(tar(folder("."), entry("word", data=b"two")))
    with pytest.raises(OptionError, match=r"src: 'tree\.tar' was changed on the controller while it was sent"):
        made.apply()
    assert Store(paths).names() == []


@pytest.mark.root
def test_nothing_is_remembered_of_where_it_was_sent_to(paths, file):
    plan(paths, file, sent=True).apply()
    assert [name for name in (file.parent / "vessel/lib/layers/keys").iterdir() if name.suffix == ".file"] == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"src": "a.tar"}, "src: 'a.tar' is on the controller, where only the action plugin of vessel.host.image"),
        ({"src": "a.tar", "path": "/a.tar"}, "src: 'a.tar' can't be with path"),
        ({}, "path: is missing; source: rootfs needs it, or src"),
        ({"source": "template", "template": "busybox", "src": "a.tar"}, "src: 'a.tar' can't be with source: template"),
        ({"src": ""}, "src: ''"),
    ],
)
def test_bad_input(paths, given, sentence):
    with pytest.raises(OptionError) as caught:
        images.plan(paths, parse_options((*DIRECTIVES, *OPTIONS), {"name": "app", "source": "rootfs", **given}))
    assert str(caught.value).startswith(sentence)


@pytest.mark.root
@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("rootfs", "tree.tar: the archive is damaged, cut short, or no tar: "),
        ("archive", "tree.tar is not a tar archive, or damaged: "),
    ],
)
def test_an_error_speaks_of_what_the_task_has(paths, file, source, sentence):
    file.write_bytes(b"no tar" * 1000)
    with pytest.raises(StoreError) as caught:
        plan(paths, file, sent=True, source=source).apply()
    assert str(caught.value).startswith(sentence)
    assert str(file.parent) not in str(caught.value)
