# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Kubernetes' documentation decides is decided alike."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.plugin_utils.place.placement import place

from .kube_cases import CASES


@pytest.mark.parametrize("case", CASES, ids=str)
def test_as_kube_scheduler(case):
    result = place(case.services, case.hosts)
    found = {name: body["host"] for told in result["why"].values() for name, body in told["replicas"].items()}
    assert set(found) == set(case.lands)
    for name, hosts in case.lands.items():
        assert found[name] in (hosts or {None}), result["why"]
    assert {move["replica"] for move in result["moves"]} == case.moves


def test_each_page_has_cases():
    assert len({case.page for case in CASES}) == 10
    assert len({str(case) for case in CASES}) == len(CASES)
