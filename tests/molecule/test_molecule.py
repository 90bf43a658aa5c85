# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each Molecule scenario, whole: create, converge, idempotence, verify, destroy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
from ansible_collections.vessel.host.tests.collection.gates import CHECKOUT, check, environment
from ansible_collections.vessel.host.tests.sweeping import sweep

pytestmark = pytest.mark.root
SCENARIOS = sorted(path.parent.name for path in (CHECKOUT / "molecule").glob("*/molecule.yml"))
# Eight hosts take minutes: with the machines.
FLEETS = ("application", "fleet")
HERE = [
    pytest.param(name, marks=pytest.mark.vm) if name in FLEETS else name
    for name in SCENARIOS
    if not name.startswith("vm")
]
# One in a virtual machine is run with everything else, the others by make test-vm.
IN_MACHINES = [
    pytest.param(name, marks=pytest.mark.vm_always if name == "vm" else pytest.mark.vm)
    for name in SCENARIOS
    if name.startswith("vm")
]
VM = [sys.executable, str(CHECKOUT / "tests/vm/vm.py")]


@pytest.fixture
def root(tmp_path):
    """An installation for the scenario; destroy takes it away, and where it does not, we do."""
    path = tmp_path / "vessel"
    yield path
    sweep(Paths.at(str(path)))


@pytest.fixture
def machine():
    """The name of the scenario's machine, or what those of a pair begin with; destroy takes it away, and where it does
    not, we do."""
    name = f"molecule-{os.getpid()}"
    yield name
    subprocess.run([*VM, "destroy", name, f"{name}-alpha", f"{name}-beta"], check=True, timeout=120)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", HERE)
def test_scenario(scenario, root, tmp_path):
    play(scenario, tmp_path, VESSEL_MOLECULE_ROOT=str(root))
    assert not Path(root).exists(), "destroy left the installation"


@pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="QEMU is not installed")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", IN_MACHINES)
def test_scenario_in_a_machine(scenario, machine, tmp_path):
    play(scenario, tmp_path, VESSEL_VM_NAME=machine, VESSEL_VM_OWNER=str(os.getpid()))
    listed = subprocess.run([*VM, "list"], check=True, timeout=60, capture_output=True, text=True).stdout
    assert machine not in listed, "destroy left the machine"


def play(scenario: str, tmp_path: Path, **more: str) -> None:
    """The whole sequence; each of its runs of testinfra must have passed, and passed something."""
    env = environment(MOLECULE_EPHEMERAL_DIRECTORY=str(tmp_path / "molecule"), **more)
    done = check("molecule", "test", "--scenario-name", scenario, "--destroy", "always", env=env, timeout=1700)
    shown = done.stdout + done.stderr
    ended = re.findall(r"^=+ (.*) in [\d.]+s.* =+$", shown, re.MULTILINE)  # as pytest says it
    assert ended, shown
    assert all(re.fullmatch(r"\d+ passed(, \d+ warnings?)?", how) for how in ended), shown
