# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A name that goes to another image: a container keeps its own until a task that names the image replaces it."""

from __future__ import annotations

from pathlib import Path
from subprocess import run

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cli import install
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from .module_runner import run_module

pytestmark = pytest.mark.root


@pytest.fixture
def root(tmp_path):
    """Two images with a file that says which is which, and the name ``app`` on the first."""
    top = str(tmp_path / "vessel")
    run_module("image", {"root": top, "name": "bb", "source": "template", "template": "busybox", "cmd": "sleep 1000"})
    release(top, "one")
    yield top
    for container in run_module("container_info", {"root": top})["containers"]:
        run_module("container", {"root": top, "name": container["name"], "state": "absent"})
    install.remove(Paths.at(top))
    assert top not in Path("/proc/self/mountinfo").read_text()


def release(root, version, **more):
    layers = [{"run": f"echo {version} > /version"}]
    result = run_module("image", {"root": root, "name": "app", "from": "bb", "layers": layers, **more})
    assert not result.get("failed"), result["msg"]


def container(root, **args):
    return run_module("container", {"root": root, "name": "web", "network_mode": "none", **args})


def inside(root, path):
    (found,) = run_module("container_info", {"root": root, "name": "web"})["containers"]
    return Path(f"/proc/{found['pid']}/root{path}").read_text().strip()


def start(root):
    result = container(root, image="app", hostname="web")
    assert not result.get("failed"), result["msg"]
    pid = result["container"]["pid"]
    Path(f"/proc/{pid}/root/mine").write_text("kept")


def test_a_task_without_the_image_does_not_replace_it(root):
    start(root)
    release(root, "two")
    result = container(root, memory="64m")
    assert result["actions"] == ["container web: set memory (live)"]
    assert (inside(root, "/version"), inside(root, "/mine")) == ("one", "kept")


def test_a_task_with_the_image_does(root):
    start(root)
    release(root, "two")
    assert container(root, image="app", hostname="web")["actions"] == ["container web: set image (recreate)"]
    assert inside(root, "/version") == "two"
    assert not container(root, image="app", hostname="web")["changed"]


@pytest.mark.parametrize("how", ["stopped and started", "restarted", "booted"])
def test_its_next_process_has_the_same_files(root, how):
    start(root)
    release(root, "two")
    if how == "restarted":
        assert container(root, restart=True)["actions"] == ["container web: restart (restart)"]
    else:
        container(root, state="stopped")
        if how == "booted":
            container(root, state="present")
            (Path(root) / "lib/containers/web/stopped").unlink()
            run([f"{root}/bin/vessel", "restore"], check=True)
        else:
            assert container(root)["actions"] == ["container web: start"]
    assert (inside(root, "/version"), inside(root, "/mine")) == ("one", "kept")


@pytest.mark.parametrize("removal", ["prune", "absent"])
def test_its_image_stays_as_long_as_it(root, removal):
    start(root)
    release(root, "two")
    if removal == "prune":
        run_module("prune", {"root": root, "images": True, "build_cache": True})
    else:
        run_module("image", {"root": root, "name": "app", "state": "absent", "force": True})
    container(root, restart=True)
    assert (inside(root, "/version"), inside(root, "/mine")) == ("one", "kept")
    if removal == "absent":  # nothing has the name, and the container is as declared
        assert not container(root, image="app", hostname="web")["changed"]
    container(root, state="absent")
    run_module("prune", {"root": root, "images": True, "build_cache": True})
    assert not list((Path(root) / "lib").glob("images/*/config.json"))


def test_the_old_one_comes_back_whole_when_the_new_one_does_not_start(root):
    start(root)
    release(root, "two", cmd="/nowhere")
    result = container(root, image="app", hostname="web")
    assert result["failed"]
    assert "/nowhere" in result["msg"]
    assert (inside(root, "/version"), inside(root, "/mine")) == ("one", "kept")
