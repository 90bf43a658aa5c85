# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles say in several places is the same in all of them, and what they pass on is there."""

from __future__ import annotations

import re

import pytest
import yaml
from ansible_collections.vessel.host.plugins.module_utils._options import stack as stack_options
from ansible_collections.vessel.host.tests.collection.gates import CHECKOUT

ROLES = sorted(path.name for path in (CHECKOUT / "roles").iterdir())


def read(role, name):
    return yaml.safe_load((CHECKOUT / "roles" / role / name).read_text())


def options(role):
    return read(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]


@pytest.mark.parametrize("role", ROLES)
def test_documented_defaults_are_the_defaults(role):
    documented = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert documented == read(role, "defaults/main.yml")


@pytest.mark.parametrize("role", ROLES)
def test_each_variable_is_in_the_readme_and_begins_with_the_role_s_name(role):
    text = (CHECKOUT / "roles" / role / "README.md").read_text()
    assert [name for name in options(role) if f"`{name}`" not in text or not name.startswith(f"{role}_")] == []


def test_the_role_stack_passes_on_all_that_the_module_declares():
    """But for what goes back, which is the role rollout's, and the state, of which it has two."""
    task = (CHECKOUT / "roles/stack/tasks/declare.yml").read_text()
    passed = set(re.findall(r"^    ([a-z_]+): ", task, re.MULTILINE)) - {"stack_result", "_stack_well"}
    assert passed == {option.name for option in stack_options.OPTIONS} - {"state", "revision"}
