# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A group in a scope, against directories: what is systemd's is left alone. The scenario vm asks systemd itself."""

from __future__ import annotations

import os

import pytest
from ansible_collections.vessel.host.plugins.module_utils import _paths
from ansible_collections.vessel.host.plugins.module_utils._cgroup import manager as managers
from ansible_collections.vessel.host.plugins.module_utils._cgroup import systemd
from ansible_collections.vessel.host.plugins.module_utils._cgroup.manager import open_manager, scope_path
from ansible_collections.vessel.host.plugins.module_utils._errors import SpecError
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
from ansible_collections.vessel.host.tests.unit.module_utils.cgroup.test_cgroup_v2 import fill

SCOPE = "/vessel.slice/vessel-web.scope"


@pytest.fixture
def root(tmp_path):
    fill(tmp_path)
    fill(tmp_path / "vessel.slice")
    yield tmp_path
    managers._layouts.pop(str(tmp_path), None)


@pytest.fixture
def started(root, monkeypatch):
    """systemd as far as it matters here: it makes the scope's directory."""
    asked = []

    def start(scope, above, pid):
        asked.append((scope, above, pid))
        fill(root / above / scope)
        fill(root / above / scope / "container")  # where the kernel makes the files with the directory, we must before

    monkeypatch.setattr(systemd, "_start", start)
    monkeypatch.setattr(systemd, "_await", lambda path, scope, pid: asked.append(path))
    return asked


def test_nothing_is_made_before_there_is_a_process(root, started):
    manager = open_manager(f"{SCOPE}/container", root=str(root))
    manager.create()
    manager.apply({"memory": {"limit": 4096}})
    assert manager.clone_fd() is None
    assert not started
    assert not (root / SCOPE[1:]).exists()


def test_limits_are_written_below_the_scope(root, started):
    manager = open_manager(f"{SCOPE}/container", root=str(root))
    manager.create()
    manager.apply({"memory": {"limit": 4096}})
    manager.add(7)
    assert started == [("vessel-web.scope", "vessel.slice", 7), SCOPE]
    scope = root / SCOPE[1:]
    assert (scope / "container/memory.max").read_text() == "4096"
    assert (scope / "container/cgroup.procs").read_text() == "7"
    assert (scope / "memory.max").read_text() == "max\n"
    assert "+memory" in (scope / "cgroup.subtree_control").read_text()


def test_what_is_above_the_scope_is_not_written(root, started):
    before = {path: (root / path / "cgroup.subtree_control").read_text() for path in (".", "vessel.slice")}
    manager = open_manager(f"{SCOPE}/container", root=str(root))
    manager.create()
    manager.add(7)
    assert {path: (root / path / "cgroup.subtree_control").read_text() for path in before} == before


def test_the_scope_is_systemds_to_remove(root):
    os.makedirs(root / SCOPE[1:] / "container")
    open_manager(f"{SCOPE}/container", root=str(root)).remove()
    assert os.listdir(root / SCOPE[1:]) == []


def test_on_a_group_that_is_there_all_is_direct(root, started):
    fill(root / SCOPE[1:] / "container")
    manager = open_manager(f"{SCOPE}/container", root=str(root))
    manager.apply({"pids": {"limit": 5}})
    manager.add(9)
    assert (root / SCOPE[1:] / "container/pids.max").read_text() == "5"
    assert (root / SCOPE[1:] / "container/cgroup.procs").read_text() == "9"
    assert not started


@pytest.mark.parametrize(
    ("booted", "root", "expected"),
    [
        (True, "", "/vessel.slice/vessel-web.scope/container"),
        (True, "/srv/x", "/vessel.slice/vessel-{tag}.slice/vessel-{tag}-web.scope/container"),
        (False, "", "/vessel/web"),
        (False, "/srv/x", "/vessel-{tag}/web"),
    ],
)
def test_where_a_container_is(monkeypatch, booted, root, expected):
    monkeypatch.setattr(_paths, "booted_by_systemd", lambda: booted)
    paths = Paths.at(root)
    assert paths.cgroup("web") == expected.format(tag=paths.tag)
    assert paths.cgroup("web").startswith(f"{paths.cgroups}/")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("machine.slice:libpod:abc", "/machine.slice/libpod-abc.scope/container"),
        ("a-b-c.slice:p:x", "/a.slice/a-b.slice/a-b-c.slice/p-x.scope/container"),
        (":p:x", "/system.slice/p-x.scope/container"),
        ("-.slice:p:x", "/p-x.scope/container"),
        ("machine.slice::x", "/machine.slice/x.scope/container"),
    ],
)
def test_systemds_form_of_a_path(text, path):
    assert scope_path(text) == path


@pytest.mark.parametrize("text", ["/machine/abc", "machine.slice:abc", "a:b:", "a:b/c:d"])
def test_another_form_is_refused(text):
    with pytest.raises(SpecError, match=r"linux\.cgroupsPath: .* is not systemd's form, SLICE:PREFIX:NAME"):
        scope_path(text)
