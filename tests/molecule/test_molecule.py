# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each Molecule scenario, whole: create, converge, idempotence, verify, destroy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
from ansible_collections.vessel.host.tests.collection.gates import CHECKOUT, check, environment
from ansible_collections.vessel.host.tests.sweeping import sweep

pytestmark = pytest.mark.root
SCENARIOS = sorted(path.parent.name for path in (CHECKOUT / "molecule").glob("*/molecule.yml"))


@pytest.fixture
def root(tmp_path):
    """An installation for the scenario; destroy takes it away, and where it does not, we do."""
    path = tmp_path / "vessel"
    yield path
    sweep(Paths.at(str(path)))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario, root, tmp_path):
    env = environment(VESSEL_MOLECULE_ROOT=str(root), MOLECULE_EPHEMERAL_DIRECTORY=str(tmp_path / "molecule"))
    done = check("molecule", "test", "--scenario-name", scenario, "--destroy", "always", env=env)
    shown = done.stdout + done.stderr
    assert re.search(r"\b\d+ passed\b", shown), shown
    assert not re.search(r"\b\d+ (failed|skipped|errors?)\b", shown), shown
    assert not Path(root).exists(), "destroy left the installation"
