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
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.tests.image_tars import entry, folder, tar
from ansible_collections.vessel.host.tests.patience import patient

from .place import Place
from .ssh_host import ssh_host

pytestmark = pytest.mark.root

CHECKOUT = Path(__file__).parents[2]
LOCAL = "near ansible_connection=local ansible_python_interpreter=/usr/bin/python3"
Task = dict[str, Any]


class Play:
    """Plays of one directory, with files/ beside them, against one installation; ``sent`` counts transfers of files."""

    def __init__(self, directory: Path, inventory: str, remote_tmp: Path) -> None:
        self.directory = directory
        self.place = Place(str(directory / "vessel"))
        self.remote_tmp = remote_tmp
        self.words: dict[str, Any] = {}
        self.said = ""
        (directory / "files").mkdir()
        (directory / "inventory").write_text(f"{inventory} ansible_remote_tmp={remote_tmp}\n")
        self.write("one")

    def write(self, word: str, name: str = "one.tar") -> Path:
        """A root file system with the word in it."""
        path = self.directory / "files" / name
        path.write_bytes(tar(folder("."), entry("word", data=word.encode())))
        return path

    def run(self, *tasks: Task, options: tuple[str, ...] = (), fails: bool = False, **environ: str) -> list[str]:
        """What became of each task: ok, changed or fatal."""
        for task in tasks:
            for name in ("vessel.host.image", "vessel.host.stack"):
                if name in task:
                    task[name].setdefault("root", self.place.root)
        book = [{"hosts": "all", "gather_facts": False, "tasks": list(tasks), **self.words}]
        (self.directory / "play.yml").write_text(json.dumps(book))
        settings = {
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "collection"),
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            **environ,
        }
        program = f"{Path(sys.executable).parent}/ansible-playbook"
        done = subprocess.run(
            [program, "-vvv", "-i", "inventory", "play.yml", *options],
            capture_output=True,
            text=True,
            timeout=patient(300),
            check=False,
            cwd=self.directory,
            env={**os.environ, **settings},
        )
        self.said = done.stdout
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return re.findall(r"^(ok|changed|fatal): ", done.stdout, re.MULTILINE)

    def sent(self, name: str = "one.tar") -> int:
        return len(re.findall(rf"PUT \S*/{re.escape(name)} TO ", self.said))

    def left(self) -> list[str]:
        """Files in Ansible's directories on the target."""
        return [name for dummy, dummy, names in os.walk(self.remote_tmp) for name in names]

    def word(self, name: str = "app") -> str:
        store = Store(self.place.paths)
        return (Path(store.directories(store.need(f"{name}:latest"))[0]) / "word").read_text()


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    """The host itself, as root."""
    play = Play(tmp_path, LOCAL, tmp_path / "remote")
    yield play
    play.place.remove()


@pytest.fixture(scope="module")
def far() -> Iterator[tuple[Path, str]]:
    with ssh_host() as (home, inventory):
        yield home, inventory


@pytest.fixture
def remote(far: tuple[Path, str], tmp_path: Path) -> Iterator[Play]:
    """The host as a user reaches it who has to become root."""
    play = Play(tmp_path, far[1], far[0] / ".ansible/tmp")
    play.words["become"] = True
    yield play
    play.place.remove()


def image(name: str = "app", src: str = "one.tar", **options: Any) -> Task:
    return {"vessel.host.image": {"name": name, "source": "rootfs", "src": src, **options}}


def test_a_file_is_sent_once(play: Play) -> None:
    assert play.run(image()) == ["changed"]
    assert (play.sent(), play.left(), play.word()) == (1, [], "one")
    assert play.run(image()) == ["ok"]
    assert play.sent() == 0


def test_what_counts_is_the_content(play: Play) -> None:
    play.run(image())
    shutil.copy(play.directory / "files/one.tar", play.directory / "two.tar")
    assert play.run(image(src=str(play.directory / "two.tar"))) == ["ok"]
    assert play.sent("two.tar") == 0
    assert play.run(
        {"vessel.host.image": {"name": "app", "source": "rootfs", "path": f"{play.directory}/two.tar"}}
    ) == ["ok"]
    play.write("changed")
    assert play.run(image()) == ["changed"]
    assert (play.sent(), play.word()) == (1, "changed")


def test_check_mode_predicts_and_sends_nothing(play: Play) -> None:
    assert play.run(image(), options=("--check", "--diff")) == ["changed"]
    assert "import one.tar" in play.said
    assert (play.sent(), os.path.exists(play.place.paths.layers)) == (0, False)
    play.run(image())
    assert play.run(image(), options=("--check",)) == ["ok"]


def test_a_loop_sends_the_same_once(play: Play) -> None:
    assert play.run({**image("{{ item }}"), "loop": ["a", "b", "a"]}) == ["changed", "changed", "ok"]
    assert (play.sent(), play.word("a"), play.word("b")) == (1, "one", "one")
    assert play.run(
        image("c", cmd=["ls"]), image("c", cmd=["ls"], layers=[{"copy": {"content": "", "dest": "/x"}}])
    ) == [
        "changed",
        "changed",
    ]
    assert play.sent() == 0


def test_an_archive(play: Play) -> None:
    """What was loaded from it under one name is not sent for another; what is built on it is."""
    play.run(image("base"))
    store = Store(play.place.paths)
    from ansible_collections.vessel.host.plugins.module_utils._image.archive import save

    save(store, store.need("base:latest"), str(play.directory / "files/saved.tar"))
    given = {"source": "archive", "src": "saved.tar"}
    assert play.run(image(**given), image(**given), image("other", **given)) == ["changed", "ok", "changed"]
    assert play.sent("saved.tar") == 1
    assert play.run(image("more", **given, labels={"a": "b"}), image("more", **given, labels={"a": "b"})) == [
        "changed",
        "ok",
    ]
    assert play.sent("saved.tar") == 1
    assert play.left() == []


def test_force_sends_it_again(play: Play) -> None:
    assert play.run(image(), image(force=True)) == ["changed", "changed"]
    assert play.sent() == 2


def test_a_role_has_its_own(play: Play) -> None:
    role = play.directory / "roles/web"
    for name in ("tasks", "files"):
        (role / name).mkdir(parents=True)
    (role / "tasks/main.yml").write_text(json.dumps([image(root=play.place.root)]))
    play.write("the role's", "role.tar").rename(role / "files/one.tar")
    play.words["roles"] = ["web"]
    assert play.run() == ["changed"]
    assert play.word() == "the role's"


def test_with_the_engine_that_is_installed(play: Play) -> None:
    play.place.task("engine")
    assert play.run(image(), image()) == ["changed", "ok"]
    assert (play.sent(), play.left(), play.word()) == (1, [], "one")


def test_in_the_background(play: Play) -> None:
    """The job is asked before it is started, and takes away what was sent for it."""
    task = {**image(), "async": 60, "poll": 1}
    assert play.run(task, task) == ["changed", "ok"]
    assert (play.sent(), play.word()) == (1, "one")
    deadline = time.monotonic() + patient(30)
    while play.left() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert play.left() == []
    assert play.run({**image(src="no.tar"), "async": 60, "poll": 1}, fails=True) == ["fatal"]


@pytest.mark.parametrize("pipelining", ["0", "1"])
def test_over_ssh_as_a_user_who_becomes_root(remote: Play, pipelining: str) -> None:
    given = {"ANSIBLE_PIPELINING": pipelining}
    assert remote.run(image(), image(), **given) == ["changed", "ok"]
    assert (remote.sent(), remote.left(), remote.word()) == (1, [], "one")


def test_a_failure_leaves_nothing(remote: Play) -> None:
    (remote.directory / "files/no.tar").write_text("this is no tar" * 1000)
    assert remote.run(image(source="archive", src="no.tar"), fails=True) == ["fatal"]
    assert re.search(r"0-no\.tar is not a tar archive", remote.said)
    assert (remote.sent("no.tar"), remote.left()) == (1, [])
    assert Store(remote.place.paths).names() == []


def test_a_stacks_images(play: Play) -> None:
    play.write("two", "two.tar")
    images = {name: {"source": "rootfs", "src": f"{name}.tar"} for name in ("one", "two")}
    stack = {"vessel.host.stack": {"name": "s", "images": images}}
    assert play.run(stack, stack) == ["changed", "ok"]
    assert (play.sent("one.tar"), play.sent("two.tar"), play.word("two")) == (1, 1, "two")
    play.write("other", "two.tar")
    assert play.run(stack) == ["changed"]
    assert (play.sent("one.tar"), play.sent("two.tar"), play.word("two")) == (0, 1, "other")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"src": "no.tar"}, "src: 'no.tar' is not on the controller; it was looked for as {}/files/no.tar, {}/no.tar"),
        ({"src": "/no/such.tar"}, "src: '/no/such.tar' is not on the controller; it was looked for as /no/such.tar"),
        ({"src": "{}/files"}, "src: '{}/files' is a directory; give a tar file"),
        ({"path": "/a.tar"}, "src: 'one.tar' can't be with path"),
        ({"source": "template", "template": "busybox"}, "src: 'one.tar' can't be with source: template"),
        ({"source": "rootfs", "archive_name": "x"}, "archive_name: 'x' can't be with source: rootfs"),
    ],
)
def test_bad_input(play: Play, given: dict[str, str], sentence: str) -> None:
    here = str(play.directory)
    given = {key: value.replace("{}", here) for key, value in given.items()}
    assert play.run(image(**given), fails=True) == ["fatal"]
    assert sentence.replace("{}", here) in play.said
    assert play.left() == []


def test_an_image_that_goes_needs_no_file(play: Play) -> None:
    play.run(image())
    os.unlink(play.directory / "files/one.tar")
    assert play.run(image(state="absent")) == ["changed"]


def test_a_module_that_is_run_without_the_plugin_says_so(play: Play) -> None:
    result = play.place.task("image", name="app", source="rootfs", src="one.tar", fails=True)
    assert result["msg"].startswith("src: 'one.tar' is on the controller, where only the action plugin of")
