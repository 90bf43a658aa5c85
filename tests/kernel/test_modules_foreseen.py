# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stack's builds will give is known before they are done, where all of it is in the cache."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cli import install
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from .module_runner import run_module

pytestmark = pytest.mark.root
BUILD = {"from": "bb", "layers": [{"run": "echo one > /version"}], "cmd": "sleep 1000"}
SHOP = {"images": {"app": BUILD}, "containers": {"web": {"image": "app", "network_mode": "none"}}}


@pytest.fixture
def root(tmp_path):
    root = str(tmp_path / "vessel")
    run_module("image", {"root": root, "name": "bb", "source": "template", "template": "busybox"})
    yield root
    run_module("stack", {"root": root, "name": "shop", "state": "absent"})
    assert run_module("container_info", {"root": root})["containers"] == []
    install.remove(Paths.at(root))
    assert root not in Path("/proc/self/mountinfo").read_text()


def stack(root, check=False, **args):
    result = run_module("stack", {"root": root, "name": "shop", **SHOP, **args}, check=check)
    assert not result.get("failed"), result
    return result


def test_a_build_that_gives_the_image_that_a_container_has_disturbs_nobody(root):
    pid = stack(root)["containers"]["web"]["pid"]
    # The image's name goes, its container stays; the steps are in the cache.
    run_module("image", {"root": root, "name": "app", "state": "absent", "force": True})
    expected = ["image app:latest: build from bb:latest"]
    assert stack(root, check=True, max_disruption="live")["actions"] == expected
    result = stack(root, max_disruption="live")
    assert result["actions"] == expected
    assert result["containers"]["web"]["pid"] == pid
    assert not stack(root)["changed"]


def test_a_base_that_was_pruned_is_not_fetched_for_what_is_there(root):
    text = "FROM bb AS tools\nRUN echo one > /version\nFROM bb\nCOPY --from=tools /version /\n"
    images = {"app": BUILD, "copied": {"containerfile": text}}
    pid = stack(root, images=images)["containers"]["web"]["pid"]
    result = run_module("prune", {"root": root, "images": True, "build_cache": True})
    assert result["images"] == ["bb:latest"]
    for dummy in range(2):
        assert not stack(root, images=images)["changed"]
    for name, body in images.items():
        assert not run_module("image", {"root": root, "name": name, **body})["changed"]
    # What is to be made needs it.
    result = run_module("image", {"root": root, "name": "app", **BUILD, "labels": {"a": "b"}, "pull": "never"})
    assert result["msg"] == "no such image: bb:latest (pull: never forbids to fetch it)"
    assert run_module("container_info", {"root": root, "name": "web"})["containers"][0]["pid"] == pid


def test_a_program_that_is_not_there_is_told_with_its_container(root):
    missing = {"image": "app", "network_mode": "none", "command": ["/bin/nosuch"]}
    for name, args in (
        ("stack", {"name": "shop", **SHOP, "containers": {**SHOP["containers"], "worker": missing}}),
        ("container", {"name": "worker", **missing}),
    ):
        run_module("image", {"root": root, "name": "app", **BUILD})
        result = run_module(name, {"root": root, **args})
        assert result["msg"].startswith("container worker: exec /bin/nosuch: No such file or directory [ENOENT] (")


def test_a_build_that_gives_another_one_is_told_and_refused(root):
    pid = stack(root)["containers"]["web"]["pid"]
    layers = [{"run": "echo two > /version"}]
    images = {"app": {**BUILD, "layers": layers}}
    result = stack(root, check=True, images=images)
    assert "container web: set image (recreate)" in result["actions"]
    refused = run_module("stack", {"root": root, "name": "shop", **SHOP, "images": images, "max_disruption": "live"})
    assert "needs a recreate of container web" in refused["msg"]
    # One that was built before is as good as known, too: by its id.
    run_module("image", {"root": root, "name": "other", **images["app"]})
    result = stack(root, check=True, images=images)
    (before, after) = (result["diff"][side]["container web"]["image (recreate)"] for side in ("before", "after"))
    assert before != after == run_module("image_info", {"root": root, "name": "other"})["images"][0]["id"]
    assert run_module("container_info", {"root": root, "name": "web"})["containers"][0]["pid"] == pid
