# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""network_mode container:NAME leads to the network that NAME has, be it the host's or that of a third one."""

from __future__ import annotations

import os

import pytest

from .warm import WarmPlace

pytestmark = pytest.mark.root

PLAIN = {"image": "bb", "stop_timeout": "1s"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = WarmPlace(str(tmp_path_factory.mktemp("shared") / "vessel"))
    place.busybox()
    yield place
    for name in ("c", "b", "a"):
        place.task("container", name=name, state="absent")
    place.remove()


def namespace(place: WarmPlace, name: str) -> str:
    return os.readlink(f"/proc/{place.facts(name)['pid']}/ns/net")


def test_it_is_followed(place):
    for mode in ("none", "host"):
        place.task("container", name="a", network_mode=mode, **PLAIN)
        for name, other in (("b", "a"), ("c", "b")):
            args = {"name": name, "network_mode": f"container:{other}", **PLAIN}
            place.task("container", restart=True, **args)
            assert not place.task("container", **args)["changed"]
        assert namespace(place, "a") == namespace(place, "b") == namespace(place, "c")
    assert namespace(place, "c") == os.readlink("/proc/self/ns/net")


@pytest.mark.parametrize("mode", ["container:a", "container:c"])
def test_it_must_not_lead_back(place, mode):
    for check in (True, False):
        failed = place.task("container", fails=True, check=check, name="a", network_mode=mode)
        assert f"network_mode: '{mode}' leads to a again" in failed["msg"]
