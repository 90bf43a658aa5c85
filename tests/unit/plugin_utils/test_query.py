# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a JMESPath expression means, and what is said where it means nothing."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleError
from ansible_collections.vessel.host.plugins.plugin_utils import query
from ansible_collections.vessel.host.plugins.plugin_utils.query import Query

WEB = {"state": "running", "restarts": 0, "labels": {"app": "web", "a/b": "c"}, "stacks": ["shop"], "health": None}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", True),
        ("state == 'running'", True),
        ("state != 'running'", False),
        ("restarts", True),  # a number is true, nought too
        ("restarts > `0`", False),
        ("health.status", False),
        ('labels."a/b"', True),
        ("contains(stacks, 'shop') && labels.app == 'web'", True),
        ("stacks[?@ == 'x']", False),
        ("labels", True),
        ("`{}`", False),
        ("''", False),
        ("`false`", False),
    ],
)
def test_truth(text, meant):
    assert Query("filter", text).means(WEB) is meant


@pytest.mark.parametrize("text", ["state ==", "[?", "state = 'running'", "nofunction(state)"])
def test_what_is_no_expression(text):
    with pytest.raises(AnsibleError, match=r"filter: "):
        Query("filter", text).means(WEB)


def test_a_function_of_what_is_null():
    with pytest.raises(AnsibleError, match=r"filter: .*starts_with"):
        Query("filter", "starts_with(labels.tier, 'f')").means(WEB)


def test_without_the_library(monkeypatch):
    monkeypatch.setattr(query, "jmespath", None)
    assert Query("filter", "").means(WEB)
    with pytest.raises(AnsibleError, match=r"filter: .*\(jmespath\)"):
        Query("filter", "state")
