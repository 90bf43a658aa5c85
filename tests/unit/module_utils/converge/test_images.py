# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image is made from: which options go together, and what makes another image of it."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import building, builds, images, recipes
from ansible_collections.vessel.host.plugins.module_utils._converge.image_options import (
    DIRECTIVES,
    OPTIONS,
    parse_template_options,
)
from ansible_collections.vessel.host.plugins.module_utils._converge.options import parse_options
from ansible_collections.vessel.host.plugins.module_utils._errors import NotFoundError, OptionError
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths


@pytest.fixture
def paths(tmp_path):
    return Paths.at(str(tmp_path / "vessel"))


@pytest.fixture
def store(paths):
    """A store with an image ``base`` of one empty layer."""
    kept = Store(paths)
    diff_id = f"sha256:{'a' * 64}"
    with kept.work() as work:
        work.adopt(work.directory(), diff_id, 0)
    kept.put("base:latest", {"config": {}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}})
    return kept


def desired(**given):
    return parse_options((*DIRECTIVES, *OPTIONS), {"name": "app", **given})


def key(store, **given):
    with building.Source(store, "app") as files:
        return builds.key(recipes.recipe(store.paths, desired(**{"from": "base", **given})), files)


def test_the_same_is_the_same_however_it_is_spelled(store):
    assert key(store, cmd="sleep 10", exposed_ports=["80"]) == key(store, cmd=["sleep", "10"], exposed_ports=["80/tcp"])
    assert key(store, **{"from": "base:latest"}) == key(store, **{"from": "base"})


@pytest.mark.parametrize(
    "given",
    [
        {"cmd": "ls"},
        {"layers": [{"run": "ls"}]},
        {"layers": [{"run": "ls "}]},
        {"layers": [{"run": ["ls"]}]},
        {"layers": [{"env": {"A": "1"}}, {"run": "ls"}]},
        {"layers": [{"env": {"A": "2"}}, {"run": "ls"}]},
        {"layers": [{"copy": {"content": "a", "dest": "/a"}}]},
        {"layers": [{"copy": {"content": "a", "dest": "/a", "mode": "0600"}}]},
        {"layers": [{"copy": {"content": "a", "dest": "/a", "owner": 1}}]},
        {"labels": {"a": "b"}},
    ],
)
def test_what_differs_differs(store, given):
    copied = {"content": "a", "dest": "/a"}
    every = [
        {}, {"cmd": "ls"}, {"labels": {"a": "b"}},
        *({"layers": [{"run": run}]} for run in ("ls", "ls ", ["ls"])),
        *({"layers": [{"env": {"A": value}}, {"run": "ls"}]} for value in ("1", "2")),
        *({"layers": [{"copy": {**copied, **more}}]} for more in ({}, {"mode": "0600"}, {"owner": 1})),
    ]  # fmt: skip
    assert [other for other in every if key(store, **other) == key(store, **given)] == [given]


def test_a_copied_file_counts_by_its_content(store, tmp_path):
    file = tmp_path / "file"
    file.write_text("one")
    given = {"layers": [{"copy": {"src": str(file), "dest": "/file"}}]}
    before = key(store, **given)
    file.write_text("one")
    assert key(store, **given) == before
    file.write_text("two")
    assert key(store, **given) != before


def test_naming_a_default_of_a_template_is_no_change():
    assert parse_template_options("debian", {"suite": "bookworm", "packages": []}) == parse_template_options(
        "debian", {}
    )
    assert parse_template_options("debian", {"packages": ["b", "a"]})["packages"] == ["a", "b"]


def test_the_plan_says_what_is_built(paths, store):
    plan = images.plan(paths, desired(**{"from": "base"}, layers=[{"run": "ls"}, {"env": {"A": "b"}}]))
    assert plan.describe() == ["image app:latest: build from base:latest", "image app:latest: build layer: run ls"]
    assert store.get("app:latest") is None


def test_an_image_on_one_that_is_made_in_the_same_run(paths, store):
    planned = {"coming:latest"}
    plan = images.plan(paths, desired(**{"from": "coming"}, layers=[{"run": "ls"}]), planned=planned)
    assert len(plan.steps) == 2
    assert planned == {"coming:latest", "app:latest"}
    with pytest.raises(NotFoundError, match="such image: coming:latest"):
        images.plan(paths, desired(**{"from": "coming"}, pull="never"))


def test_a_base_that_the_host_lacks_is_fetched_first(paths, store):
    plan = images.plan(paths, desired(**{"from": "registry.example:5000/base"}, layers=[{"run": "ls"}]))
    assert plan.describe() == [
        "image registry.example:5000/base:latest: pull registry.example:5000/base:latest",
        "image app:latest: build from registry.example:5000/base:latest",
        "image app:latest: build layer: run ls",
    ]


def test_an_image_that_only_has_to_be_there(paths, store):
    assert not images.plan(paths, {**desired(), "name": "base:latest"})
    assert images.plan(paths, desired()).describe() == ["image app:latest: pull docker.io/library/app:latest"]
    with pytest.raises(NotFoundError, match="such image: app:latest"):
        images.plan(paths, desired(pull="never"))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"source": "archive"}, "path: None is missing; source: archive needs it"),
        ({"source": "rootfs", "path": "/x", "archive_name": "y"}, "archive_name: 'y' can't be with source: rootfs"),
        ({"template": "debian"}, "template: 'debian' needs source: template"),
        ({"name": f"x@sha256:{'a' * 64}", "from": "base"}, "name: 'x@sha256:aaaaaaaa"),
        ({"push": True}, "push: True has nothing to push"),
        ({"username": "me"}, "password: None is missing; username needs it"),
        ({"containerfile": "Dockerfile"}, "containerfile: 'Dockerfile' is relative to context, which is missing"),
        ({"name": "scratch", "from": "base"}, "name: 'scratch' stands for no image"),
        ({"name": "base", "from": "base", "layers": [{"run": "x"}]}, "from: 'base:latest' is the image itself"),
        ({"layers": [{"run": "x"}]}, "layers: [{'run': 'x'}] has no base; give from or source"),
        ({"labels": {"a": "b"}}, "labels: {'a': 'b'} has no base; give from or source"),
        ({"source": "template", "template": "busybox", "from": "x"}, "from: 'x:latest' can't be with source: template"),
    ],
)
def test_options_that_do_not_go_together(paths, given, sentence):
    with pytest.raises(OptionError) as caught:
        recipes.recipe(paths, desired(**given))
    assert str(caught.value).startswith(sentence)
