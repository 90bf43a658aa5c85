# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the kernel's tests: containers that must not leave anything."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .runtime_box import Box


@pytest.fixture
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """Bundles and containers, of which nothing is left."""
    box = Box(tmp_path_factory.mktemp("box"))
    files = set(os.listdir("/proc/self/fd"))
    yield box
    box.assert_clean()
    assert set(os.listdir("/proc/self/fd")) == files, "a descriptor is left open"
    with pytest.raises(ChildProcessError):  # nobody of ours is left, alive or not
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
