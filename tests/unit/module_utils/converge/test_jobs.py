# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which jobs are done; here those that need no supervisor."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import jobs
from ansible_collections.vessel.host.plugins.module_utils._converge.jobs import Call, Job
from ansible_collections.vessel.host.plugins.module_utils._errors import VesselError, WaitError

HOST = SimpleNamespace(client=lambda: None)


def order_of(**needs: list[str]) -> list[str]:
    done: list[str] = []
    made = [
        Job(name, [Call(before=lambda name=name: done.append(name))], [(other, "done") for other in others])
        for name, others in needs.items()
    ]
    jobs.run(HOST, made, 1.0)
    return done


def test_what_others_need_goes_first_and_ends_at_once():
    assert order_of(a=["b"], b=["c"], c=[], d=[]) == ["c", "d", "b", "a"]


def test_a_circle_is_told():
    with pytest.raises(WaitError, match="wait for one another: a, b"):
        order_of(a=["b"], b=["a"])


def test_nothing_new_begins_after_a_failure():
    done: list[str] = []

    def fail() -> None:
        raise VesselError("no")

    made = [
        Job("a", [Call(before=fail)]),
        Job("b", [Call(before=lambda: done.append("b"))]),
        Job("c", [Call(before=lambda: done.append("c"))], [("a", "done")]),
    ]
    with pytest.raises(VesselError, match="no"):
        jobs.run(HOST, made, 1.0)
    assert done == []
