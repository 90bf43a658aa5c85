# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every rung of the tests shares: their order, who may run them, and what the host looked like before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.vessel.host.tests import leftovers

TESTS = Path(__file__).parent
# From what needs least to what needs most; what proves that nothing was left comes after all.
RUNGS = ("unit", "kernel", "integration", "molecule", "machines", "collection")
LAST = "test_zz_nothing_left.py"
BEFORE = pytest.StashKey[leftovers.Snapshot]()


def rung(item: pytest.Item) -> int:
    first = item.path.relative_to(TESTS).parts[0]
    if first == LAST:
        return len(RUNGS) + 1
    return RUNGS.index(first) if first in RUNGS else len(RUNGS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=rung)  # a stable sort: within a rung the order stays


def pytest_collection_finish(session: pytest.Session) -> None:
    if any(item.path.name == LAST for item in session.items) and os.geteuid() == 0:
        session.config.stash[BEFORE] = leftovers.take()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid():
        if os.environ.get("CI"):
            pytest.fail("CI runs every test, and this one needs root", pytrace=False)
        pytest.skip("needs root")


@pytest.fixture
def before(request: pytest.FixtureRequest) -> leftovers.Snapshot:
    """The host as it was before the first test."""
    return request.config.stash[BEFORE]
