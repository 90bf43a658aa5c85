# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as unused, kind by kind, and that a plan of removals does nothing by itself."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import prune, store
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

VOLUME = {"driver": "directory", "owner": 0, "group": 0, "mode": 0o755, "size": 0, "labels": {}}


@pytest.fixture
def paths(tmp_path):
    return Paths.at(str(tmp_path / "vessel"))


def layer(paths, letter, size):
    kept = Store(paths)
    diff_id = f"sha256:{letter * 64}"
    with kept.work() as work:
        work.adopt(work.directory(), diff_id, size)
    return diff_id


def image(paths, name, *layers):
    Store(paths).put(name, {"config": {}, "rootfs": {"type": "layers", "diff_ids": list(layers)}})


def test_nothing_is_taken_unasked(paths):
    image(paths, "a:latest", layer(paths, "a", 1))
    plan, going = prune.plan(paths, [])
    assert not plan
    assert going["space_reclaimed"] == 0


def test_images_that_no_container_names(paths):
    base, used, spare = (layer(paths, letter, size) for letter, size in (("a", 1), ("b", 20), ("c", 300)))
    image(paths, "used:latest", base, used)
    image(paths, "spare:latest", base, spare)
    store.write_spec(paths, "containers", "web", {"image": "used:latest"})
    plan, going = prune.plan(paths, ["images"])
    assert plan.describe() == ["image spare:latest: remove", "layers: remove 1"]
    assert (going["images"], going["layers"], going["space_reclaimed"]) == (["spare:latest"], [spare], 300)
    assert Store(paths).has_layer(spare)
    plan.apply()
    assert [Store(paths).has_layer(diff_id) for diff_id in (base, used, spare)] == [True, True, False]


def test_a_marker_that_a_power_cut_left_empty_keeps_nobody_from_looking(paths):
    spare = layer(paths, "a", 1)
    image(paths, "spare:latest", spare)
    os.makedirs(paths.resource("containers", "web"))
    with open(f"{paths.resource('containers', 'web')}/base.json", "w"):
        pass
    plan, going = prune.plan(paths, ["images"])
    assert (bool(plan), going["layers"]) == (True, [spare])


def test_the_layers_below_a_container_stay_though_its_image_moved_on(paths):
    old = layer(paths, "a", 1)
    os.makedirs(paths.resource("containers", "web"))
    with open(f"{paths.resource('containers', 'web')}/base.json", "w") as file:
        json.dump({"layers": [old]}, file)
    plan, going = prune.plan(paths, ["images", "build_cache"])
    assert not plan
    assert going["layers"] == []


def test_the_cache_goes_only_when_it_is_asked_for(paths):
    cached = layer(paths, "a", 7)
    Store(paths).set_key("k" * 64, cached)
    assert not prune.plan(paths, ["images"])[0]
    plan, going = prune.plan(paths, ["build_cache"])
    assert (going["layers"], going["space_reclaimed"]) == ([cached], 7)
    plan.apply()
    assert not Store(paths).has_layer(cached)
    assert not prune.plan(paths, ["build_cache"])[0]


def test_volumes_that_no_container_names(paths):
    for name in ("used", "spare"):
        store.write_spec(paths, "volumes", name, VOLUME)
        os.mkdir(f"{paths.resource('volumes', name)}/data")
    with open(f"{paths.resource('volumes', 'spare')}/data/file", "wb") as file:
        file.write(bytes(8192))
    store.write_spec(paths, "containers", "db", {"volumes": ["used:/data:rw"]})
    plan, going = prune.plan(paths, ["volumes"])
    assert plan.describe() == ["volume spare: remove"]
    assert (going["volumes"], going["space_reclaimed"]) == (["spare"], 8192)
    plan.apply()
    assert store.names(paths, "volumes") == ["used"]
    assert not os.path.exists(paths.resource("volumes", "spare"))


def test_what_a_container_used_can_go_with_it(paths):
    image(paths, "app:latest", layer(paths, "a", 5))
    store.write_spec(paths, "containers", "old", {"image": "app:latest", "volumes": ["data:/data:rw"]})
    store.write_spec(paths, "volumes", "data", VOLUME)
    going = prune.plan(paths, ["images", "volumes"])[1]
    assert (going["images"], going["volumes"]) == ([], [])
    going = prune.plan(paths, ["containers", "images", "volumes"])[1]
    assert (going["containers"], going["images"], going["volumes"]) == (["old"], ["app:latest"], ["data"])
