# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After all other tests: the host is as it was before the first of them."""

from __future__ import annotations

import time

import pytest
from ansible_collections.vessel.host.tests import leftovers

pytestmark = [pytest.mark.root, pytest.mark.alone]
PATIENCE = 10.0  # seconds: what was just killed takes a moment to be gone


def test_nothing_is_left(before):
    leftovers.restore_forwarding(before)
    deadline = time.monotonic() + PATIENCE
    while (found := leftovers.difference(before, leftovers.take())) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not found, "\n".join(found)
