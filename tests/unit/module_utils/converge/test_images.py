# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image is made from: which options go together, and what makes another image of it."""

from __future__ import annotations

import os

import pytest
from ansible_collections.vessel.host.plugins.module_utils._ansible.urls import Urls
from ansible_collections.vessel.host.plugins.module_utils._converge import stacks
from ansible_collections.vessel.host.plugins.module_utils._converge.image import (
    building,
    builds,
    images,
    recipes,
    registries,
)
from ansible_collections.vessel.host.plugins.module_utils._errors import (
    NotFoundError,
    OptionError,
    RegistryError,
)
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._options.image import (
    DIRECTIVES,
    OPTIONS,
    parse_template_options,
)
from ansible_collections.vessel.host.plugins.module_utils._options.record import parse_options
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from ....registry_server import serving


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
    planned = {"coming:latest": None}
    plan = images.plan(paths, desired(**{"from": "coming"}, layers=[{"run": "ls"}]), planned=planned)
    assert len(plan.steps) == 2
    assert planned == {"coming:latest": None, "app:latest": None}
    with pytest.raises(NotFoundError, match="such image: coming:latest"):
        images.plan(paths, desired(**{"from": "coming"}, pull="never"))


def test_what_a_cached_build_will_be_is_known_through_all_that_are_built_on_it(paths, store):
    """One base has lost its name, and what is made of both is what was there before."""
    declared = {
        name: parse_options((*DIRECTIVES, *OPTIONS), {"name": name, **given})
        for name, given in {
            "mid": {"from": "base", "labels": {"a": "b"}},
            "app": {"from": "mid", "env": {"A": "b"}},
            "alias": {"from": "app"},
        }.items()
    }
    for body in declared.values():
        images.plan(paths, body).apply()
    ids = {f"{name}:latest": store.need(f"{name}:latest").id for name in declared}
    assert len(set(ids.values())) == 2
    keep = set(ids.values())
    for name in ids:
        store.untag(name)
    store.collect(keep=keep)
    planned = {}
    assert all(images.plan(paths, body, planned=planned) for body in declared.values())
    assert planned == ids
    planned = {}
    images.plan(paths, {**declared["mid"], "labels": {"a": "c"}}, planned=planned)
    images.plan(paths, declared["app"], planned=planned)
    assert planned == {"mid:latest": None, "app:latest": None}


def test_other_words_for_the_same_image_change_nothing(paths, store):
    """A base whose configuration differs in what nothing takes over from it."""
    images.plan(paths, desired(**{"from": "base"}, labels={"a": "b"})).apply()
    store.put("base:latest", {**store.raw(store.need("base:latest")), "created": "2026-01-01T00:00:00Z"})
    plan = images.plan(paths, desired(**{"from": "base"}, labels={"a": "b"}))
    assert not plan
    key = store.need("app:latest").key
    plan.apply()
    assert store.need("app:latest").key != key
    assert images.plan(paths, desired(**{"from": "base"}, labels={"a": "c"}))


def test_diff_mode_shows_the_image_before_and_after(paths, store):
    images.plan(paths, desired(**{"from": "base"}, labels={"a": "b"}, env={"A": "1"})).apply()
    there = store.need("app:latest")
    first = {"id": there.id, "config": {"Env": ["A=1"], "Labels": {"a": "b"}}}

    def diff(**given):
        found = images.plan(paths, desired(**given)).diff()
        ((before,), (after,)) = (found[side]["image app:latest"].values() for side in ("before", "after"))
        return before, after

    before, after = diff(**{"from": "base"}, labels={"a": "c"})
    assert before == first
    images.plan(paths, desired(**{"from": "base"}, labels={"a": "c"})).apply()
    assert after == {"id": store.need("app:latest").id, "config": {"Labels": {"a": "c"}}, "layers": []}
    store.tag(there, "app:latest", there.key)
    # It is made again whatever is in the cache, and the id is known when it is.
    assert diff(**{"from": "base"}, cmd="x", force=True) == (first, {"config": {"Cmd": ["x"]}, "layers": []})
    assert diff(state="absent") == (first, None)
    store.put("app:latest", store.raw(there), origin={"repository": "r/app", "digest": "sha256:1", "manifest": "x"})
    assert diff(state="absent")[0] == {**first, "repo_digests": ["r/app@sha256:1"]}
    store.drop_layers(there.layers)  # it is there no less
    assert diff(state="absent")[0]["id"] == there.id


def test_diff_mode_shows_what_a_registry_has_before_a_push(paths, store, monkeypatch):
    monkeypatch.setattr(registries, "_transport", Urls)
    with serving() as server:
        name = f"{server.host}/app:1"
        body = {**desired(**{"from": "base"}, labels={"a": "b"}, push=True, tls_verify=False), "name": name}

        def shown():
            found = images.plan(paths, body).diff()
            return [found[side][f"image {name}"][f"push to {name}"] for side in ("before", "after")]

        assert shown() == [None, {"reference": name}]  # nobody is asked before there is something to push
        assert server.requests() == []
        images.plan(paths, {**body, "push": False}).apply()
        after = {"id": store.need(name).id}
        assert shown() == [{"repo_digests": []}, after]
        digest = server.put("app", "1", server.image("app", "1", [(b"", b"")]))
        there = {"repo_digests": [f"{server.host}/app@{digest}"]}
        assert shown() == [there, after]
        pulled = images.plan(paths, {"name": name, "pull": "always", "tls_verify": False}).diff()["after"]
        assert pulled[f"image {name}"][f"pull {name}"] == {"reference": name, **there}


@pytest.fixture
def parts(store):
    """Another image ``parts``, of a layer of its own."""
    with store.work() as work:
        work.adopt(work.directory(), f"sha256:{'b' * 64}", 0)
    store.put("parts:latest", {"config": {}, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{'b' * 64}"]}})


@pytest.mark.parametrize(
    "given",
    [
        {"from": "base", "labels": {"a": "b"}},
        {"from": "base"},
        {"containerfile": "FROM parts AS one\nFROM base\nENV A=b\n"},
        {"containerfile": "FROM parts AS one\nENV X=y\nFROM one\nENV A=b\n"},
    ],
)
def test_an_image_that_is_as_declared_needs_its_bases_no_more(paths, store, parts, given):
    images.plan(paths, desired(**given)).apply()
    made = store.need("app:latest")
    for name in ("base:latest", "parts:latest"):
        store.untag(name)
    store.collect(keep_cache=False)
    assert not images.plan(paths, desired(**given))
    assert not images.plan(paths, desired(**given, pull="never"))
    assert images.plan(paths, desired(**given, pull="always"))
    # No layer is kept for that, and the bases go with the last image that was made from them.
    assert all(store.has_layer(f"sha256:{letter * 64}") == (f"sha256:{letter * 64}" in made.layers) for letter in "ab")
    kept = {f"sha256:{name}" for name in os.listdir(store.images_dir) if name != "names"}
    assert kept == {made.id, *made.bases.values()}
    # Another image of the base's name is another base.
    for name in made.bases:
        rootfs = {"type": "layers", "diff_ids": list(made.layers)}
        store.put(name, {"config": {"Env": ["NEW=1"]}, "rootfs": rootfs})
    assert images.plan(paths, desired(**given))
    for name in ("app:latest", *made.bases):
        store.untag(name)
    store.collect(keep_cache=False)
    assert not os.path.exists(store.images_dir)


def test_a_base_that_is_gone_and_needed_is_told_of(paths, store, monkeypatch):
    images.plan(paths, desired(**{"from": "base"}, labels={"a": "b"})).apply()
    store.tag(store.need("base:latest"), "localhost:1/gone:1")
    images.plan(paths, desired(**{"from": "localhost:1/gone:1"}, labels={"a": "b"})).apply()
    store.untag("localhost:1/gone:1")
    changed = images.plan(paths, desired(**{"from": "localhost:1/gone:1"}, labels={"a": "c"}))
    assert changed.describe()[0] == "image localhost:1/gone:1: pull localhost:1/gone:1"
    monkeypatch.setattr(registries, "_transport", Urls)
    with pytest.raises(RegistryError, match=r"Connection refused \(app:latest is built from it\)$"):
        changed.apply()


def test_layers_on_a_context_are_told_of_by_the_option_that_was_given(paths, tmp_path):
    (tmp_path / "Containerfile").write_text("FROM base\n")
    with pytest.raises(OptionError) as caught:
        recipes.recipe(paths, desired(context=str(tmp_path), layers=[{"run": "x"}]))
    assert str(caught.value) == (
        "layers: [{'run': 'x'}] can't be with context (a Containerfile's steps are its own; layers are built on from)"
    )


def test_arguments_that_no_line_declares_are_told(paths, store):
    text = "ARG TAG=latest\nFROM base:$TAG\nARG ONE\nENV ONE=$ONE\n"
    given = {"containerfile": text, "build_args": {"ONE": "1", "TAG": "latest", "TWO": "2", "http_proxy": "x"}}
    for dummy in range(2):  # what has been built is told of as well
        plan = images.plan(paths, desired(**given))
        assert plan.warnings == ["image app:latest: build_args: no ARG of containerfile declares TWO"]
        plan.apply()
    base = store.raw(store.need("base:latest"))
    store.put("base:latest", {**base, "config": {"OnBuild": ["ARG TWO=1"]}})
    assert images.plan(paths, desired(**given)).warnings == []  # a trigger of the base declares it


def test_an_image_of_a_stack_is_told_of_by_its_path(paths, store):
    def refused(**body):
        images_of = {"app:latest": parse_options((*DIRECTIVES, *OPTIONS), {"name": "app", **body})}
        with pytest.raises(OptionError) as caught:
            stacks.plan(paths, {"name": "shop", "state": "present", "images": images_of}).apply()
        return str(caught.value)

    assert refused(source="archive") == "images.app.path: is missing; source: archive needs it, or src"
    assert refused(source="layout", path="/none").startswith("images.app.path: '/none' is no directory")
    copied = {"copy": {"src": "/none", "dest": "/"}}
    assert refused(**{"from": "base"}, layers=[copied]).startswith("images.app.layers[0].copy.src: '/none'")
    # What only doing finds.
    secret = {"secrets": [{"id": "x", "src": "/none"}]}
    assert refused(**{"from": "base"}, cmd="x", **secret).startswith("images.app.secrets[0].src: '/none'")


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
        ({"source": "archive"}, "path: is missing; source: archive needs it"),
        ({"source": "rootfs", "path": "/x", "archive_name": "y"}, "archive_name: 'y' can't be with source: rootfs"),
        ({"template": "debian"}, "template: 'debian' needs source: template"),
        ({"name": f"x@sha256:{'a' * 64}", "from": "base"}, "name: 'x@sha256:aaaaaaaa"),
        ({"push": True}, "push: True has nothing to push"),
        ({"username": "me"}, "password: is missing; username needs it"),
        ({"containerfile": "Dockerfile"}, "containerfile: 'Dockerfile' is relative to context, which is missing"),
        ({"name": "scratch", "from": "base"}, "name: 'scratch' stands for no image"),
        ({"name": "base", "from": "base", "layers": [{"run": "x"}]}, "from: 'base:latest' is the image itself"),
        ({"layers": [{"run": "x"}]}, "layers: [{'run': 'x'}] has no base; give from or source"),
        ({"containerfile": "FROM a\n", "layers": [{"run": "x"}]}, "layers: [{'run': 'x'}] can't be with containerfile"),
        ({"context": "/", "containerfile": "/dev/null", "device_nodes": "skip"}, "device_nodes: 'skip' can't be with"),
        ({"labels": {"a": "b"}}, "labels: {'a': 'b'} has no base; give from or source"),
        ({"source": "template", "template": "busybox", "from": "x"}, "from: 'x:latest' can't be with source: template"),
    ],
)
def test_options_that_do_not_go_together(paths, given, sentence):
    with pytest.raises(OptionError) as caught:
        recipes.recipe(paths, desired(**given))
    assert str(caught.value).startswith(sentence)
