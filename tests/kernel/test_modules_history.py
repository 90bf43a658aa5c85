# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stack goes back to what it was, with the images that it had."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cli import install
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from .module_runner import quartet, run_module

pytestmark = pytest.mark.root
PLAIN = {"image": "app", "network_mode": "none"}


@pytest.fixture(scope="module")
def top(tmp_path_factory):
    top = str(tmp_path_factory.mktemp("history") / "vessel")
    run_module("image", {"root": top, "name": "bb", "source": "template", "template": "busybox", "cmd": "sleep 1000"})
    yield top
    install.remove(Paths.at(top))
    assert top not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def root(top):
    release(top, "one")
    yield top
    run_module("stack", {"root": top, "name": "shop", "state": "absent"})
    run_module("volume", {"root": top, "name": "data", "state": "absent"})
    assert run_module("container_info", {"root": top})["containers"] == []
    assert run_module("stack_info", {"root": top})["stacks"] == []
    run_module("image", {"root": top, "name": "app", "state": "absent"})
    images = run_module("image_info", {"root": top})["images"]
    run_module("prune", {"root": top, "build_cache": True})
    assert len(list(Path(top).glob("lib/images/*/config.json"))) == len(images) == 1


def release(root, version):
    layers = [{"run": f"echo {version} > /version"}]
    return run_module("image", {"root": root, "name": "app", "from": "bb", "layers": layers})["image"]["id"]


def stack(root, **args):
    return run_module("stack", {"root": root, "name": "shop", **args})


def declare(root, revision, **args):
    result = stack(root, **args)
    assert result.get("revision") == revision, result
    return result


def back(root, to, **args):
    """Gone back as a task does it: check mode tells what happens, and a second run changes nothing."""
    result = quartet("stack", {"root": root, "name": "shop", "state": "rolled_back", **args})[1]
    assert result["revision"] == to
    return result


def info(root):
    (found,) = run_module("stack_info", {"root": root, "name": "shop"})["stacks"]
    return found


def inside(root, name="web", path="/version"):
    (found,) = run_module("container_info", {"root": root, "name": name})["containers"]
    return Path(f"/proc/{found['pid']}/root{path}").read_text().strip()


def test_a_change_that_is_live_goes_back_live(root):
    declare(root, 1, containers={"web": {**PLAIN, "memory": "64m"}})
    result = declare(root, 2, containers={"web": {**PLAIN, "memory": "96m"}})
    pid = result["containers"]["web"]["pid"]
    result = back(root, 1)
    assert result["actions"] == ["container web: set memory (live)"]
    assert result["containers"]["web"]["pid"] == pid
    assert [found["revision"] for found in info(root)["revisions"]] == [1, 2]
    assert info(root)["rolled_back"]


def test_its_image_is_the_one_that_it_was_whatever_has_the_name(root):
    declare(root, 1, containers={"web": PLAIN})
    first, second = info(root)["revisions"][0]["images"]["web"]["id"], release(root, "two")
    declare(root, 2, containers={"web": PLAIN})
    run_module("prune", {"root": root, "build_cache": True})
    back(root, 1)
    assert inside(root) == "one"
    assert [one["images"]["web"] for one in info(root)["revisions"]] == [
        {"name": "app:latest", "id": first},
        {"name": "app:latest", "id": second},
    ]
    declare(root, 2, containers={"web": PLAIN})
    assert inside(root) == "two"


def test_what_was_added_goes_and_what_was_dropped_comes_but_no_volume_goes(root):
    declare(root, 1, containers={"web": PLAIN, "old": PLAIN})
    declare(
        root,
        2,
        containers={"web": PLAIN, "new": {**PLAIN, "volumes": ["data:/data"]}},
        volumes={"data": {}},
        prune=True,
    )
    result = back(root, 1)
    assert sorted(result["containers"]) == ["old", "web"]
    names = [found["name"] for found in run_module("container_info", {"root": root})["containers"]]
    assert names == ["old", "web"]
    assert [found["name"] for found in run_module("volume_info", {"root": root})["volumes"]] == ["data"]


def test_a_run_that_changes_nothing_is_no_revision_and_mended_drift_is_none(root):
    declare(root, 1, containers={"web": PLAIN})
    for dummy in range(2):
        assert not declare(root, 1, containers={"web": PLAIN})["changed"]
    run_module("container", {"root": root, "name": "web", "state": "stopped"})
    assert declare(root, 1, containers={"web": PLAIN})["changed"]
    assert len(info(root)["revisions"]) == 1


def test_one_that_was_not_made_whole_is_none(root):
    declare(root, 1, containers={"web": PLAIN})
    assert stack(root, containers={"web": PLAIN, "bad": {**PLAIN, "command": ["/nowhere"]}})["failed"]
    assert (info(root)["revision"], len(info(root)["revisions"])) == (1, 1)


def test_a_chosen_revision_and_the_limit(root):
    for number in range(1, 5):
        declare(root, number, containers={"web": {**PLAIN, "env": {"N": str(number)}}}, history_limit=2)
    assert [one["revision"] for one in info(root)["revisions"]] == [2, 3, 4]
    result = stack(root, state="rolled_back", revision=1)
    assert "is no revision of stack shop that this host has; it has 2, 3, 4" in result["msg"]
    back(root, 2, revision=2)
    back(root, 4, revision=4)
    assert back(root, 2, revision=2)["changed"]
    # Told without a number it is where it is; declared anew it is the newest.
    assert not stack(root, state="rolled_back")["changed"]
    declare(root, 5, containers={"web": {**PLAIN, "env": {"N": "5"}}}, history_limit=0)
    assert [one["revision"] for one in info(root)["revisions"]] == [5]


def test_what_was_gone_back_from_is_not_gone_back_to(root):
    def version(number, **more):
        return declare(root, number, containers={"web": {**PLAIN, "env": {"N": str(number)}}}, **more)

    version(1)
    version(2)
    back(root, 1)
    version(3, history_limit=1)
    assert [one["revision"] for one in info(root)["revisions"]] == [1, 3]
    back(root, 1)


def test_secrets_keep_their_present_contents(root):
    def web(content, number):
        return {"web": {**PLAIN, "env": {"N": number}, "secrets": [{"name": "key", "content": content}]}}

    declare(root, 1, containers=web("first-content", "1"))
    declare(root, 2, containers=web("second-content", "2"))
    back(root, 1)
    assert inside(root, path="/run/secrets/key") == "second-content"
    written = "".join(path.read_text(errors="replace") for path in Path(root).glob("lib/stacks/**/*.json"))
    assert "content" not in written
    declare(root, 3, containers={"web": PLAIN}, prune=True)
    result = stack(root, state="rolled_back", revision=1)
    assert "secret key of container web" in result["msg"]
    assert inside(root) == "one"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"state": "rolled_back"}, "name: 'shop' is no stack of this host, so that it can't go back; it has none"),
        ({"state": "rolled_back", "containers": {"web": PLAIN}}, "containers: ['web'] is told from the history"),
        ({"revision": 1, "containers": {"web": PLAIN}}, "revision: 1 is for state rolled_back alone"),
        ({"state": "rolled_back", "revision": 0}, "revision: 0 is out of range"),
    ],
)
def test_refused(root, args, words):
    result = stack(root, **args)
    assert result["failed"]
    assert words in result["msg"]


def test_the_stacks_that_there_are_are_told_to_who_names_another(root):
    declare(root, 1, containers={"web": PLAIN})
    for check in (False, True):
        result = run_module("stack", {"root": root, "name": "shp", "state": "rolled_back"}, check=check)
        assert result["msg"] == "name: 'shp' is no stack of this host, so that it can't go back; it has shop"
    assert stack(root, state="rolled_back")["msg"].startswith("state: 'rolled_back' has nothing to go back to")


def test_an_image_that_it_declares_is_used_though_no_container_has_it(root):
    layers = [{"run": "touch /base"}]
    images = {"middle": {"from": "bb", "layers": layers}, "app": {"from": "middle", "layers": [{"run": "touch /top"}]}}
    for memory in ("64m", "96m"):
        stack(root, images=images, containers={"web": {**PLAIN, "memory": memory}})
    for state in ({"state": "rolled_back"}, {"images": images, "containers": {"web": {**PLAIN, "memory": "64m"}}}):
        stack(root, **state)
        pruned = run_module("prune", {"root": root, "images": True}, check=True)
        assert "middle:latest" not in pruned["images"]
        assert "middle:latest" in [found["name"] for found in run_module("image_info", {"root": root})["images"]]
    assert not stack(root, images=images, containers={"web": {**PLAIN, "memory": "64m"}})["changed"]
    run_module("stack", {"root": root, "name": "shop", "state": "absent"})
    run_module("image", {"root": root, "name": "middle", "state": "absent"})


def test_an_image_that_is_gone_is_not_another_of_its_name(root):
    declare(root, 1, containers={"web": PLAIN})
    identity = info(root)["revisions"][0]["images"]["web"]["id"]
    release(root, "two")
    declare(root, 2, containers={"web": PLAIN})
    shutil.rmtree(Path(root) / "lib/images" / identity.removeprefix("sha256:"))
    result = stack(root, state="rolled_back")
    assert result["msg"].startswith(f"revision: 1 had the image {identity} of container web, which is not on this host")
    assert inside(root) == "two"


def test_a_damaged_history_hinders_nothing(root):
    declare(root, 1, containers={"web": PLAIN})
    for path in Path(root).glob("lib/stacks/shop/history/*.json"):
        path.write_text("{")
    result = declare(root, 2, containers={"web": {**PLAIN, "memory": "64m"}})
    assert result["changed"]
    assert stack(root, state="rolled_back")["msg"].startswith("state: 'rolled_back' has nothing to go back to")
    assert [one["revision"] for one in info(root)["revisions"]] == [2]
