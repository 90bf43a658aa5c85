# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a controller shows while an image takes its time: of a registry that is slow with one layer, of a step."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.vessel.host.tests.image_tars import digest, entry, folder, tar
from ansible_collections.vessel.host.tests.registry_server import Answer, Asked, Registry, serving

from .controller import Play, Task

pytestmark = pytest.mark.root

SMALL = tar(folder("."), entry("word", data=b"word"))
LARGE = tar(entry("large", data=os.urandom(3_000_000)))
SLOW = 6.0  # seconds: longer than the controller waits at first, and between two looks
# Of a layer, how many bytes of how many.
AMOUNT = re.compile(rf"^\[(near|far)\] {digest(LARGE)[:19]}: [0-9.]+ [kM]?B of 3\.0 MB, \d+ %$", re.MULTILINE)


@pytest.fixture
def registry() -> Iterator[Registry]:
    """It sends half of the large layer, and is long before it goes on."""
    with serving() as registry:
        registry.image("app", "1", [(SMALL, SMALL), (LARGE, LARGE)])

        def late(asked: Asked) -> None:
            time.sleep(SLOW)

        registry.rule(f"blobs/{digest(LARGE)}", Answer(200, LARGE, cut=len(LARGE) // 2), late)
        yield registry


def pull(registry: Registry, **options: Any) -> Task:
    return {"vessel.host.image": {"name": f"{registry.host}/app:1", "tls_verify": False, **options}}


def shown(play: Play) -> bool:
    """Was anything, before the task was told to be done?"""
    before, dummy, dummy = play.said.partition("changed: ")
    assert len(AMOUNT.findall(play.said)) == len(AMOUNT.findall(before))
    assert not os.path.exists(f"{play.place.paths.run}/progress")
    return bool(AMOUNT.search(before))


def test_on_a_terminal(near: Play, registry: Registry) -> None:
    assert near.run(pull(registry), options=(), terminal=True) == ["changed"]
    assert shown(near)


def test_over_ssh_as_a_user_who_becomes_root(far: Play, registry: Registry) -> None:
    assert far.run(pull(registry), options=(), terminal=True, ANSIBLE_PIPELINING="1") == ["changed"]
    assert shown(far)


def test_of_a_stacks_images(near: Play, registry: Registry) -> None:
    name = f"{registry.host}/app:1"
    stack = {"name": "s", "images": {name: {"tls_verify": False}}}
    assert near.run({"vessel.host.stack": stack}, options=(), terminal=True) == ["changed"]
    assert shown(near)


def test_of_what_a_builds_step_prints(near: Play) -> None:
    near.place.busybox()
    step = {"run": "for number in 1 2 3 4 5 6 7 8 9; do echo line $number; sleep 0.5; done"}
    build = {"name": "app", "from": "bb", "layers": [step]}
    assert near.run({"vessel.host.image": build}, options=(), terminal=True) == ["changed"]
    before, dummy, dummy = near.said.partition("changed: ")
    assert re.search(r"^\[near\] step 1: line 1$", before, re.MULTILINE)


@pytest.mark.parametrize(
    ("task", "environ", "wanted"),
    [
        ({}, {}, False),
        ({"vars": {"vessel_progress": True}}, {}, True),
        ({}, {"ANSIBLE_FORCE_COLOR": "1", "ANSIBLE_NOCOLOR": "0"}, True),
        ({"vars": {"vessel_progress": True}, "no_log": True}, {}, False),
    ],
)
def test_without_a_terminal(near: Play, registry: Registry, task: Task, environ: dict[str, str], wanted: bool) -> None:
    near.run({**pull(registry), **task}, options=(), **environ)
    near.said = re.sub(r"\x1b\[[0-9;]*m", "", near.said)
    assert shown(near) is wanted


def test_not_where_nobody_wants_it(near: Play, registry: Registry) -> None:
    task = {**pull(registry), "vars": {"vessel_progress": False}}
    assert near.run(task, options=(), terminal=True) == ["changed"]
    assert not shown(near)
