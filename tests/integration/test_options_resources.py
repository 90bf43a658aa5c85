# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option of volumes, networks and images twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import options_build, options_image, options_resources  # noqa: F401 # pylint: disable=unused-import # they fill the table
from .options_box import Box
from .options_image import environment, real
from .options_table import ROWS, Row
from .warm import WarmPlace

pytestmark = pytest.mark.root


@pytest.fixture
def place(shared: WarmPlace) -> Iterator[WarmPlace]:
    """Afterwards thing is gone, whatever it was."""
    yield shared
    shared.environ = {}
    for kind in ("image", "network", "volume"):
        shared.task(kind, name="thing", state="absent")


def twice(place: WarmPlace, row: Row) -> None:
    """Each value; what it comes to must be as the row says, and no other spelling of it is a change."""
    for given in row.given:
        before = row.ask(place)
        assert given.alike or before != given.answer, "the kernel can't tell the values apart"
        place.quartet(row.module, {"name": "thing", **real(place, given.args)})
        assert row.ask(place) == given.answer
        for same in given.same:
            result = place.task(row.module, check=True, **{"name": "thing", **real(place, same)})
            assert not result["changed"], (same, result["diff"])


@pytest.mark.parametrize("row", ROWS["volume"], ids=str)
def test_volume(place: WarmPlace, row: Row) -> None:
    if row.made:
        place.task("volume", name="thing", **row.base)
    twice(place, row)


@pytest.mark.parametrize("row", ROWS["network"], ids=str)
def test_network(place: WarmPlace, peer: Box, box: Box, row: Row) -> None:
    if not row.made or row.option == "state":
        if row.made:
            place.task("network", name="thing", **row.base)
        twice(place, row)
        return
    place.task("network", name="thing", **row.base)
    box.make(networks=[{"name": "thing"}])
    process = box.process
    twice(place, row)
    assert box.process == process
    box.remove()


@pytest.mark.parametrize("row", ROWS["image"], ids=str)
def test_image(place: WarmPlace, box: Box, row: Row) -> None:
    place.environ = environment(place)
    if row.made:
        place.task("image", name="thing", **real(place, row.base))
    twice(place, row)
    box.remove()
