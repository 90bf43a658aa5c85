# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The installation that the tests of options, limits and changes share: images, networks, volumes, and a neighbour; and
plays on this host, and over ssh."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .controller import LOCAL, Play
from .options_box import Box
from .ssh_host import ssh_host
from .warm import WarmPlace


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPlace]:
    place = WarmPlace(str(tmp_path_factory.mktemp("shared") / "vessel"))
    try:
        place.furnish()
        yield place
    finally:
        place.remove()


@pytest.fixture
def box(shared: WarmPlace) -> Iterator[Box]:
    """A container that is not there yet, and is gone afterwards."""
    box = Box(shared)
    yield box
    box.remove()


@pytest.fixture
def peer(shared: WarmPlace) -> Iterator[Box]:
    """A neighbour on network one."""
    peer = Box(shared, "peer")
    peer.make(networks=[{"name": "one"}], ipc_mode="shareable")
    yield peer
    peer.remove()


@pytest.fixture
def near(tmp_path: Path) -> Iterator[Play]:
    """The host itself, as root."""
    play = Play(tmp_path, LOCAL, tmp_path / "remote")
    yield play
    play.place.remove()


@pytest.fixture(scope="module")
def ssh() -> Iterator[tuple[Path, str]]:
    with ssh_host() as (home, inventory):
        yield home, inventory


@pytest.fixture
def far(ssh: tuple[Path, str], tmp_path: Path) -> Iterator[Play]:
    """The host as a user reaches it who has to become root."""
    play = Play(tmp_path, ssh[1], ssh[0] / ".ansible/tmp")
    play.words["become"] = True
    yield play
    play.place.remove()
