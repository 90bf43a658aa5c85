# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images from files of the controller's, as plays make them: each file is sent when the target needs it, and not else.

Ansible tells of each file that it transfers, from where and whereto, when it is asked to be very verbose.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.module_utils._image.archive import save
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.tests.patience import patient

from .controller import Play, Task

pytestmark = pytest.mark.root


def image(name: str = "app", src: str = "one.tar", **options: Any) -> Task:
    return {"vessel.host.image": {"name": name, "source": "rootfs", "src": src, **options}}


def test_a_file_is_sent_once(near: Play) -> None:
    assert near.run(image()) == ["changed"]
    assert (near.sent(), near.left(), near.word()) == (1, [], "one")
    assert near.run(image()) == ["ok"]
    assert near.sent() == 0


def test_what_counts_is_the_content(near: Play) -> None:
    near.run(image())
    shutil.copy(near.directory / "files/one.tar", near.directory / "two.tar")
    assert near.run(image(src=str(near.directory / "two.tar"))) == ["ok"]
    assert near.sent("two.tar") == 0
    assert near.run(
        {"vessel.host.image": {"name": "app", "source": "rootfs", "path": f"{near.directory}/two.tar"}}
    ) == ["ok"]
    near.write("changed")
    assert near.run(image()) == ["changed"]
    assert (near.sent(), near.word()) == (1, "changed")


def test_check_mode_predicts_and_sends_nothing(near: Play) -> None:
    assert near.run(image(), options=("-vvv", "--check", "--diff")) == ["changed"]
    assert "import one.tar" in near.said
    assert (near.sent(), os.path.exists(near.place.paths.layers)) == (0, False)
    near.run(image())
    assert near.run(image(), options=("-vvv", "--check")) == ["ok"]


def test_a_loop_sends_the_same_once(near: Play) -> None:
    assert near.run({**image("{{ item }}"), "loop": ["a", "b", "a"]}) == ["changed", "changed", "ok"]
    assert (near.sent(), near.word("a"), near.word("b")) == (1, "one", "one")
    assert near.run(
        image("c", cmd=["ls"]), image("c", cmd=["ls"], layers=[{"copy": {"content": "", "dest": "/x"}}])
    ) == [
        "changed",
        "changed",
    ]
    assert near.sent() == 0


def test_an_archive(near: Play) -> None:
    """What was loaded from it under one name is not sent for another; what is built on it is."""
    near.run(image("base"))
    store = Store(near.place.paths)
    save(store, store.need("base:latest"), str(near.directory / "files/saved.tar"))
    given = {"source": "archive", "src": "saved.tar"}
    assert near.run(image(**given), image(**given), image("other", **given)) == ["changed", "ok", "changed"]
    assert near.sent("saved.tar") == 1
    assert near.run(image("more", **given, labels={"a": "b"}), image("more", **given, labels={"a": "b"})) == [
        "changed",
        "ok",
    ]
    assert near.sent("saved.tar") == 1
    assert near.left() == []


def test_force_sends_it_again(near: Play) -> None:
    assert near.run(image(), image(force=True)) == ["changed", "changed"]
    assert near.sent() == 2


def test_a_role_has_its_own(near: Play) -> None:
    role = near.directory / "roles/web"
    for name in ("tasks", "files"):
        (role / name).mkdir(parents=True)
    (role / "tasks/main.yml").write_text(json.dumps([image(root=near.place.root)]))
    near.write("the role's", "role.tar").rename(role / "files/one.tar")
    near.words["roles"] = ["web"]
    assert near.run() == ["changed"]
    assert near.word() == "the role's"


def test_with_the_engine_that_is_installed(near: Play) -> None:
    near.place.task("engine")
    assert near.run(image(), image()) == ["changed", "ok"]
    assert (near.sent(), near.left(), near.word()) == (1, [], "one")


def test_in_the_background(near: Play) -> None:
    """The job is asked before it is started, and takes away what was sent for it."""
    task = {**image(), "async": 60, "poll": 1}
    assert near.run(task, task) == ["changed", "ok"]
    assert (near.sent(), near.word()) == (1, "one")
    deadline = time.monotonic() + patient(30)
    while near.left() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert near.left() == []
    assert near.run({**image(src="no.tar"), "async": 60, "poll": 1}, fails=True) == ["fatal"]


@pytest.mark.parametrize("pipelining", ["0", "1"])
def test_over_ssh_as_a_user_who_becomes_root(far: Play, pipelining: str) -> None:
    given = {"ANSIBLE_PIPELINING": pipelining}
    assert far.run(image(), image(), **given) == ["changed", "ok"]
    assert (far.sent(), far.left(), far.word()) == (1, [], "one")


def test_a_failure_leaves_nothing(far: Play) -> None:
    (far.directory / "files/no.tar").write_text("this is no tar" * 1000)
    assert far.run(image(source="archive", src="no.tar"), fails=True) == ["fatal"]
    assert "Module failed: no.tar is not a tar archive" in far.said
    assert (far.sent("no.tar"), far.left()) == (1, [])
    assert Store(far.place.paths).names() == []


def test_a_context_is_sent_once(near: Play) -> None:
    """Its content counts, and not its times; what its ignore file leaves out is not sent."""
    near.run(image("base", cmd=["/word"]))
    store = Store(near.place.paths)
    context = near.directory / "files/context"
    (context / "deep").mkdir(parents=True)
    (context / "deep/word").write_text("deep")
    (context / "word").symlink_to("deep/word")
    (context / "noise.log").write_text("x" * 100)
    (context / ".dockerignore").write_text("*.log\nDockerfile\n")
    (context / "Dockerfile").write_text("FROM base\nCOPY deep/word /word\nCOPY . /all\n")
    task = {"vessel.host.image": {"name": "app", "src": "context", "containerfile": "Dockerfile"}}

    def sent() -> int:
        return len(re.findall(r"PUT \S*/vessel-context-\S*\.tar TO ", near.said))

    def word(name: str) -> str:
        layers = store.directories(store.need(f"{name}:latest"))
        return [path.read_text() for path in (Path(layer) / "word" for layer in layers) if path.exists()][-1]

    assert near.run(task, options=("-vvv", "--check", "--diff")) == ["changed"]
    assert sent() == 0
    assert near.run(task, task) == ["changed", "ok"]
    assert (sent(), near.left(), word("app")) == (1, [], "deep")
    top = Path(store.directories(store.need("app:latest"))[-1]) / "all"
    assert sorted(os.listdir(top)) == [".dockerignore", "deep", "word"]
    os.utime(context / "deep/word", (1, 1))
    (context / "noise.log").write_text("y")
    assert near.run(task) == ["ok"]
    (context / "deep/word").write_text("new!")
    assert near.run(task, task) == ["changed", "ok"]
    assert (sent(), word("app")) == (1, "new!")
    last = {"src": "context", "containerfile": "Dockerfile"}
    made = {**last, "target": "first"}
    same = {"vessel.host.stack": {"name": "s", "images": {"twin": made, "other": last}}}
    (context / "Dockerfile").write_text("FROM base AS first\nCOPY deep/word /word\nFROM base AS last\n")
    assert near.run(same) == ["changed"]
    assert (sent(), word("twin"), word("other")) == (1, "new!", "one")
    again = {"vessel.host.image": {"name": "twin3", **made}}
    assert near.run(again) == ["changed"]
    assert (sent(), word("twin3")) == (0, "new!")


def test_a_stacks_images(near: Play) -> None:
    near.write("two", "two.tar")
    images = {name: {"source": "rootfs", "src": f"{name}.tar"} for name in ("one", "two")}
    stack = {"vessel.host.stack": {"name": "s", "images": images}}
    assert near.run(stack, stack) == ["changed", "ok"]
    assert (near.sent("one.tar"), near.sent("two.tar"), near.word("two")) == (1, 1, "two")
    near.write("other", "two.tar")
    assert near.run(stack) == ["changed"]
    assert (near.sent("one.tar"), near.sent("two.tar"), near.word("two")) == (0, 1, "other")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"src": "no.tar"}, "src: 'no.tar' is not on the controller; it was looked for as {}/files/no.tar, {}/no.tar"),
        ({"src": "/no/such.tar"}, "src: '/no/such.tar' is not on the controller; it was looked for as /no/such.tar"),
        ({"src": "{}/files"}, "src: '{}/files' is a directory; give a tar file"),
        ({"containerfile": "x"}, "src: '{}/files/one.tar' is no directory; with containerfile it is the context"),
        (
            {"src": "{}/files", "containerfile": "x"},
            "containerfile: '{}/files/x' can't be read on the controller: No such file or directory",
        ),
        ({"path": "/a.tar"}, "src: 'one.tar' can't be with path"),
        ({"source": "template", "template": "busybox"}, "src: 'one.tar' can't be with source: template"),
        ({"source": "rootfs", "archive_name": "x"}, "archive_name: 'x' can't be with source: rootfs"),
    ],
)
def test_bad_input(near: Play, given: dict[str, str], sentence: str) -> None:
    here = str(near.directory)
    given = {key: value.replace("{}", here) for key, value in given.items()}
    assert near.run(image(**given), fails=True) == ["fatal"]
    assert sentence.replace("{}", here) in near.said
    assert near.left() == []


def test_an_image_that_goes_needs_no_file(near: Play) -> None:
    near.run(image())
    os.unlink(near.directory / "files/one.tar")
    assert near.run(image(state="absent")) == ["changed"]


def test_a_module_that_is_run_without_the_plugin_says_so(near: Play) -> None:
    result = near.place.task("image", name="app", source="rootfs", src="one.tar", fails=True)
    assert result["msg"].startswith("src: 'one.tar' is on the controller, where only the action plugin of")
