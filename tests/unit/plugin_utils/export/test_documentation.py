# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documented samples are what the documented examples give."""

from __future__ import annotations

import yaml
from ansible_collections.vessel.host.plugins.filter import to_compose, to_kubernetes, to_quadlet


def documented(module):
    """(what the filter gives for the example's stack, the sample of RETURN)."""
    (task,) = yaml.safe_load(module.EXAMPLES)
    (function,) = module.FilterModule().filters().values()
    return function(task["vars"]["shop"]), yaml.safe_load(module.RETURN)["_value"]["sample"]


def test_compose():
    found, sample = documented(to_compose)
    assert found == sample


def test_quadlet():
    found, sample = documented(to_quadlet)
    assert sample.items() <= found.items()


def test_kubernetes():
    found, sample = documented(to_kubernetes)
    assert found[: len(sample)] == sample
