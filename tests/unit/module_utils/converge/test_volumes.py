# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes' options and plans; data is never in a plan that was not asked for."""

from __future__ import annotations

import os

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import store, volumes
from ansible_collections.vessel.host.plugins.module_utils._errors import InUseError, NotFoundError, OptionError
from ansible_collections.vessel.host.plugins.module_utils._options.record import parse_options
from ansible_collections.vessel.host.plugins.module_utils._options.volume import OPTIONS, parse_owner
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths


@pytest.fixture
def paths(tmp_path):
    return Paths.at(str(tmp_path))


def declare(paths, **given):
    spec = {option.name: option.default for option in OPTIONS}
    spec.update({"owner": os.getuid(), "group": os.getgid(), **parse_options(OPTIONS, given)})
    store.write_spec(paths, "volumes", "data", spec)
    os.mkdir(f"{paths.resource('volumes', 'data')}/data", 0o755)


def plan(paths, *, whole=False, **given):
    return volumes.plan(paths, {"name": "data", **parse_options(OPTIONS, given)}, whole=whole)


def test_a_plan_does_nothing(paths, tmp_path):
    made = plan(paths, mode="0700")
    assert made.describe() == ["volume data: create"]
    assert made.diff()["after"]["volume data"]["create"]["mode"] == "0700"
    assert list(tmp_path.iterdir()) == []


def test_what_is_as_declared_is_no_plan(paths):
    declare(paths, labels={"a": "b"})
    assert not plan(paths, labels={"a": "b"})
    assert not plan(paths)


def test_a_whole_declaration_goes_back_to_the_defaults(paths):
    declare(paths, labels={"a": "b"})
    told = plan(paths, whole=True, owner=os.getuid(), group=os.getgid())
    assert told.describe() == ["volume data: set labels (live)"]


def test_permission_bits_are_shown_as_people_write_them(paths):
    declare(paths)
    diff = plan(paths, mode="1777").diff()
    assert diff["before"]["volume data"] == {"mode (live)": "0755"}
    assert diff["after"]["volume data"] == {"mode (live)": "1777"}


def test_an_owner_that_nobody_declared_is_no_drift_and_no_change_when_it_is_declared_so(paths):
    declare(paths)
    os.chmod(f"{paths.resource('volumes', 'data')}/data", 0o700)
    assert not plan(paths)
    told = plan(paths, mode="0700")
    assert not told
    told.apply()
    assert store.read_spec(paths, "volumes", "data")["mode"] == 0o700


def test_drift_is_told_beside_changes(paths):
    declare(paths, mode="0755")
    os.chmod(f"{paths.resource('volumes', 'data')}/data", 0o700)
    assert plan(paths, labels={"a": "b"}).describe() == [
        "volume data: set labels (live)",
        "volume data: mend mode (live)",
    ]


def test_no_default_costs_data(paths):
    declare(paths, driver="tmpfs", size="1m")
    told = plan(paths, whole=True, size="1m", owner=os.getuid(), group=os.getgid())
    assert "volume data: set driver" not in told.describe()


def test_the_driver_can_not_change(paths):
    declare(paths)
    with pytest.raises(OptionError, match="driver: 'tmpfs' is not what the volume has, directory"):
        plan(paths, driver="tmpfs")


def test_a_used_volume_stays(paths):
    declare(paths)
    store.write_spec(paths, "containers", "db", {"volumes": ["data:/var/lib:rw", "/srv/data:/srv:ro"]})
    with pytest.raises(InUseError, match="volume data is in use by db"):
        volumes.plan(paths, {"name": "data", "state": "absent"})


def test_undoing_a_creation_leaves_what_was_there(paths):
    home = paths.resource("volumes", "data")
    os.makedirs(f"{home}/data")
    made = plan(paths, owner=os.getuid(), group=os.getgid())
    made.apply()
    made.steps[0].undo()
    assert os.listdir(home) == ["data"]


def test_the_source_of_what_is_not_declared(paths):
    with pytest.raises(NotFoundError, match="no such volume: data"):
        volumes.source(paths, "data")


@pytest.mark.parametrize(("value", "uid"), [("0", 0), (7, 7), ("root", 0)])
def test_owners(value, uid):
    assert parse_owner(value, "owner") == uid


@pytest.mark.parametrize("value", ["nobodyofthatname", True, 1.5, -1, 2**32 - 1, "", ["root"]])
def test_owners_that_are_none(value):
    with pytest.raises(OptionError, match=r"^owner: "):
        parse_owner(value, "owner")
