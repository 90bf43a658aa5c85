# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first playbook of README.md, as a newcomer plays it: in check mode on a host that has nothing yet, then twice."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from .place import Place
from .warm import NET, PORT

pytestmark = pytest.mark.root

CHECKOUT = Path(__file__).parents[2]
ELSEWHERE = {
    "hosts: all": "hosts: localhost",
    "10.90.0.0/24": f"{NET}7.0/24",
    "8080:80": f"{PORT}:80",
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(str(tmp_path / "vessel"))
    yield place
    place.remove()


def test_the_first_playbook(place: Place) -> None:
    found = re.search(r"## A first playbook\n\n```yaml\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.DOTALL)
    assert found
    book = found[1]
    for ours, theirs in ELSEWHERE.items():
        assert ours in book
        book = book.replace(ours, theirs)
    file = Path(place.root).parent / "site.yml"
    file.write_text(book)

    def play(*arguments: str) -> str:
        interpreter = f"ansible_python_interpreter={sys.executable}"
        command = [f"{Path(sys.executable).parent}/ansible-playbook", str(file), "-i", "localhost,", "-c", "local"]
        env = {**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "VESSEL_ROOT": place.root}
        done = subprocess.run(
            [*command, "-e", interpreter, *arguments], capture_output=True, text=True, timeout=120, check=False, env=env
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "changed=1" in play("--check", "--diff")
    assert not os.path.exists(place.root)
    assert "changed=1" in play()
    process = place.process("web")
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=10) as page:
        assert re.match(rb"\w{3} \w{3} ", page.read())  # what date(1) said
    assert "changed=0" in play()
    file.write_text(book.replace("memory: 32m", "memory: 64m"))
    assert '"memory (live)": 67108864' in play("--check", "--diff")
    assert "changed=1" in play()
    assert place.process("web") == process
