# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays as a controller runs them, each a whole ansible-playbook, here or over ssh, with a terminal or without."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.tests.image_tars import entry, folder, tar
from ansible_collections.vessel.host.tests.patience import patient

from .place import Place

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

    def run(
        self,
        *tasks: Task,
        options: tuple[str, ...] = ("-vvv",),
        fails: bool = False,
        terminal: bool = False,
        **environ: str,
    ) -> list[str]:
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
        command = [program, "-i", "inventory", "play.yml", *options]
        given = {"cwd": self.directory, "env": {**os.environ, **settings}, "timeout": patient(300)}
        code, self.said = in_terminal(command, **given) if terminal else piped(command, **given)
        assert (code != 0) == fails, self.said
        return re.findall(r"^(ok|changed|fatal): ", self.said, re.MULTILINE)

    def sent(self, name: str = "one.tar") -> int:
        return len(re.findall(rf"PUT \S*/{re.escape(name)} TO ", self.said))

    def left(self) -> list[str]:
        """Files in Ansible's directories on the target."""
        return [name for dummy, dummy, names in os.walk(self.remote_tmp) for name in names]

    def word(self, name: str = "app") -> str:
        store = Store(self.place.paths)
        return (Path(store.directories(store.need(f"{name}:latest"))[0]) / "word").read_text()


def piped(command: list[str], **given: Any) -> tuple[int, str]:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **given)
    return done.returncode, done.stdout


def in_terminal(command: list[str], **given: Any) -> tuple[int, str]:
    """The exit code, and what a terminal of its own was given."""
    ours, theirs = pty.openpty()
    said: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # nobody has the other side any more
            while data := os.read(ours, 1 << 16):
                said.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        done = subprocess.run(command, stdin=theirs, stdout=theirs, stderr=theirs, check=False, **given)
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
    return done.returncode, b"".join(said).decode().replace("\r\n", "\n")
