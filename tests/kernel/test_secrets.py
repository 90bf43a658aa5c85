# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets lie in memory, and what is written down of them can be compared while they do, and by nobody else."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import secrets
from ansible_collections.vessel.host.plugins.module_utils._kernel import mount as m
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

pytestmark = pytest.mark.root


@pytest.fixture
def paths(tmp_path):
    paths = Paths.at(str(tmp_path))
    yield paths
    for name in ("a", "b"):
        secrets.remove(paths, name)
    assert not os.path.ismount(f"{paths.run}/secrets")


def secret(content, name="pin", **more):
    return {"name": name, "content": content, "uid": 0, "gid": 0, "mode": 0o400, **more}


def same(paths, declared, present, owner="a", *, running=True):
    return secrets.same(paths, owner, declared, present, running=running)


def test_what_is_written_down(paths):
    written = secrets.stored(paths, "a", [secret("1234")])
    assert "1234" not in str(written)
    assert "content" not in written[0]
    assert secrets.stored(paths, "a", [secret("1234")]) == written  # a spec that did not change is not written anew
    assert secrets.stored(paths, "b", [secret("1234")])[0]["digest"] != written[0]["digest"]
    assert secrets.stored(paths, "a", [secret("1234", "pun")])[0]["digest"] != written[0]["digest"]
    assert same(paths, [secret("1234")], written)
    for other in (secret("1235"), secret("1234", uid=1), secret("1234", mode=0o440), secret("1234", "pun")):
        assert not same(paths, [other], written)
    assert not same(paths, [], written)
    assert secrets.rotated(paths, "a", [secret("1235"), secret("x", "new")], written, running=True) == {"pin"}


def test_the_key_is_in_memory_and_goes_with_the_last_secret(paths):
    key = Path(f"{paths.run}/secrets/.key")
    for name in ("a", "b"):
        secrets.stored(paths, name, [secret("x")])
        secrets.write(paths, name, [secret("x")])
    assert (len(key.read_bytes()), key.stat().st_mode & 0o777, key.stat().st_uid) == (32, 0o600, 0)
    kind = subprocess.run(["stat", "-f", "-c", "%T", key], capture_output=True, text=True, timeout=9, check=True)
    assert kind.stdout.strip() == "tmpfs"
    secrets.remove(paths, "a")
    assert key.exists()
    secrets.remove(paths, "b")
    assert not os.path.lexists(key)


def test_what_a_killed_process_left_goes_with_the_next_that_looks(paths):
    secrets.stored(paths, "a", [secret("x")])
    os.rmdir(f"{paths.run}/secrets/a")
    secrets.remove(paths, "b")
    assert not os.path.lexists(f"{paths.run}/secrets")
    os.makedirs(f"{paths.run}/secrets")
    secrets.remove(paths, "b")
    assert not os.path.lexists(f"{paths.run}/secrets")


def test_without_the_key_nothing_is_known(paths):
    """As after a reboot: who runs gets what is declared, who does not run has nothing to be changed now."""
    written = secrets.stored(paths, "a", [secret("1234")])
    m.umount2(f"{paths.run}/secrets", m.MNT_DETACH)
    for content in ("1234", "1235"):
        assert not same(paths, [secret(content)], written)
        assert same(paths, [secret(content)], written, running=False)
    anew = secrets.stored(paths, "a", [secret("1234")])
    assert anew[0]["digest"] != written[0]["digest"]
    assert not same(paths, [secret("1234")], written)


def test_a_thousand_in_less_than_a_second(paths):
    many = [secret(f"word {number}", f"s{number:03}") for number in range(1000)]
    began = time.monotonic()
    written = secrets.stored(paths, "a", many)
    secrets.write(paths, "a", many)
    assert same(paths, many, written)
    assert not same(paths, [*many[:-1], secret("another", "s999")], written)
    assert time.monotonic() - began < 1


def test_contents_are_read_back(paths):
    secrets.write(paths, "a", [secret("one", "one"), secret("two\r\n", "two")])
    held = secrets.held(paths, "a", [secret("", "one"), secret("", "two")])
    assert [entry["content"] for entry in held] == ["one", "two\r\n"]
    assert same(paths, [secret("one", "one")], held[:1])
    secrets.write(paths, "a", [secret("three", "two", uid=7)])
    assert os.listdir(f"{paths.run}/secrets/a") == ["two"]
    assert os.stat(f"{paths.run}/secrets/a/two").st_uid == 7
