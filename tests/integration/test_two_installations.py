# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two installations of one host: what is global to the kernel is one's or the other's, and who comes second is told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from .options_box import answers, until
from .warm import WarmPlace

pytestmark = pytest.mark.root
_RUN = os.getpid()
PORT = 27000 + _RUN % 400 * 2
SERVES = {"name": "web", "image": "bb", "command": "httpd -f -p 80", "networks": [{"name": "n"}], "stop_timeout": "1s"}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[WarmPlace]]:
    places = [WarmPlace(str(tmp_path_factory.mktemp(name) / "vessel")) for name in ("one", "two")]
    try:
        for number, place in enumerate(places):
            place.busybox()
            place.task("network", name="n", subnet=f"10.202.{240 + number * 4 + _RUN % 4}.0/24")
        yield places
    finally:
        for place in places:
            place.remove()


@pytest.fixture(autouse=True)
def nobody(places: list[WarmPlace]) -> Iterator[None]:
    yield
    for place in places:
        place.task("container", name="web", state="absent")


def web(place: WarmPlace, port: str, **more: Any) -> dict[str, Any]:
    return place.task("container", **{**SERVES, "published_ports": [port], **more})


@pytest.mark.parametrize("text", [f"{PORT}:80", f"127.0.0.1:{PORT}:80"], ids=["all", "one"])
def test_a_port_that_the_other_publishes(places: list[WarmPlace], text: str) -> None:
    one, two = places
    web(one, f"{PORT}:80")
    message = web(two, text, fails=True)["msg"]
    assert message.startswith("published_ports: ")
    assert f"names port {PORT}/tcp, which the installation at {one.root} publishes; choose another" in message
    assert two.task("container_info")["containers"] == []
    web(two, f"{PORT}:80/udp")
    web(two, f"{PORT + 1}:80")
    assert until(lambda: answers(PORT) and answers(PORT + 1))


def test_who_was_stopped_meanwhile_does_not_get_it_back(places: list[WarmPlace]) -> None:
    one, two = places
    web(one, f"{PORT}:80")
    one.task("container", name="web", state="stopped")
    web(two, f"{PORT}:80")
    assert not one.task("container", name="web", state="stopped")["changed"]
    assert f"the installation at {two.root}" in one.task("container", name="web", fails=True)["msg"]
    two.task("container", name="web", state="absent")
    assert one.task("container", name="web")["changed"]
    assert not one.task("container", name="web")["changed"]


def test_a_port_that_is_chosen_is_another_one(places: list[WarmPlace]) -> None:
    found = {web(place, "80")["container"]["published_ports"][0] for place in places}
    assert len(found) == 2
