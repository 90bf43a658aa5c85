# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option of exec, copy, logs, prune and the modules that tell, and of what a task says about a container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import prune

from . import cgroup_words
from .options_actions import ACTS, Act
from .options_box import Box, until
from .warm import WarmPlace

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file and a link to it on the target."""
    files = tmp_path_factory.mktemp("files")
    (files / "file").write_text("from a file")
    (files / "file").chmod(0o751)
    (files / "link").symlink_to("file")
    return files


@pytest.mark.parametrize("row", ACTS, ids=str)
def test_act(shared: WarmPlace, box: Box, files: Path, row: Act) -> None:
    shared.files = files
    box.make(command=["sh", "-c", "echo one; echo two; trap 'exit 0' TERM; sleep 100000 & wait"])
    until(lambda: len(shared.home("containers", "box").joinpath("log").read_text().splitlines()) == 2)
    box.path("/kept").write_text("inside")
    box.path("/link").symlink_to("target")
    process = box.process
    args = {key: placed(value, files) for key, value in row.args.items()}
    results = shared.quartet(row.module, args, row.changes)
    assert row.answer(results[1], box) == row.wanted
    assert box.process == process


def placed(value: Any, files: Path) -> Any:
    return value.replace("{files}", str(files)) if isinstance(value, str) else value


def test_exec_detached_is_detached_and_check_mode_starts_nothing(shared: WarmPlace, box: Box) -> None:
    box.make()
    shared.task("container_exec", check=True, container="box", command="touch /x")
    assert not box.path("/x").exists()


# what a task says of a container


def test_state(shared: WarmPlace, box: Box) -> None:
    shared.quartet("container", {"name": "box", "image": "bb", "networks": [], "state": "present"})
    assert not cgroup_words.where("pids", shared.paths.cgroup("box")).exists()
    assert shared.home("containers", "box").exists()
    shared.quartet("container", {"name": "box", "state": "started"})
    assert box.read("/proc/1/comm") == "sh\n"
    process = box.process
    shared.quartet("container", {"name": "box", "state": "present"}, "nnnn")
    assert box.process == process
    check = {"test": "test -e /well", "interval": "100ms"}
    shared.task("container", name="box", healthcheck=check)
    result = shared.task("container", name="box", state="healthy", healthy_wait_timeout="300ms", fails=True)
    assert "healthy" in result["msg"]
    box.path("/well").touch()
    shared.task("container", name="box", state="healthy")
    assert box.status["health"]["status"] == "healthy"
    shared.quartet("container", {"name": "box", "state": "stopped"})
    assert box.pid == 0
    assert not Path(f"/proc/{process[0]}").exists()
    shared.quartet("container", {"name": "box", "state": "absent"})
    assert not shared.home("containers", "box").exists()


def test_paused(shared: WarmPlace, box: Box) -> None:
    box.make()
    process = box.process
    shared.quartet("container", {"name": "box", "paused": True})
    assert box.limit("freezer", "freezer.state") == "FROZEN"
    shared.quartet("container", {"name": "box", "paused": False})
    assert box.limit("freezer", "freezer.state") == "THAWED"
    assert box.process == process


@pytest.mark.parametrize("option", ["restart", "recreate"])
def test_made_anew_each_time(shared: WarmPlace, box: Box, option: str) -> None:
    """Asked for, it is done, however often; the writable layer goes with recreate alone."""
    box.make()
    box.path("/written").touch()
    process = box.process
    results = shared.quartet("container", {"name": "box", option: True}, "CCCC")
    assert results[0]["actions"] == [f"container box: {option} ({option})"]
    assert box.process != process
    assert box.path("/written").exists() == (option == "restart")
    shared.quartet("container", {"name": "box", option: False}, "nnnn")


@pytest.mark.parametrize(
    ("allowed", "args", "refused"),
    [
        ("live", {"memory": "32m"}, ""),
        ("live", {"env": {"A": "1"}}, "env"),
        ("live", {"image": "marked"}, "image"),
        ("signal", {"env": {"A": "1"}}, "env"),
        ("restart", {"env": {"A": "1"}}, ""),
        ("restart", {"image": "marked"}, "image"),
        ("recreate", {"image": "marked"}, ""),
    ],
)
def test_max_disruption(shared: WarmPlace, box: Box, allowed: str, args: dict[str, Any], refused: str) -> None:
    box.make()
    process = box.process
    if not refused:
        shared.quartet("container", {"name": "box", "max_disruption": allowed, **args})
        return
    for check in (True, False):
        result = shared.task(
            "container", check=check, fails=True, name="box", memory="48m", max_disruption=allowed, **args
        )
        assert result["msg"].startswith(f"{refused}: ")
        assert f"max_disruption allows {allowed} at the most" in result["msg"]
    assert box.process == process
    assert box.limit("memory", "memory.limit_in_bytes") != str(48 << 20)
    assert not shared.task("container", check=True, name="box")["changed"]


# prune, in an installation of its own


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPlace]:
    place = WarmPlace(str(tmp_path_factory.mktemp("small") / "vessel"))
    try:
        yield place
    finally:
        place.remove()


def test_engine(tmp_path: Path) -> None:
    """On a host that has nothing of ours yet."""
    bare = WarmPlace(str(tmp_path / "vessel"))
    try:
        bare.quartet("engine", {})
        assert (tmp_path / "vessel/bin/vessel").exists()
        bare.quartet("engine", {"state": "absent"})
        assert not (tmp_path / "vessel/bin").exists()
    finally:
        bare.remove()


@pytest.mark.parametrize("kind", prune.KINDS)
def test_prune(small: WarmPlace, kind: str) -> None:
    """One kind goes, and only that of which nobody has anything."""
    for name in ("used", "unused"):
        small.task("network", name=name)
        small.task("volume", name=name)
        small.task(
            "image", name=name, source="template", template="busybox", cmd=["sleep", "1000"], labels={"of": name}
        )
    small.task("image", name="layered", **{"from": "used", "layers": [{"run": "touch /x"}]})
    small.task("image", name="layered", state="absent")
    used = {"image": "used", "networks": [{"name": "used"}], "volumes": ["used:/v"], "stop_timeout": 0.1}
    small.task("container", name="used", **used)
    small.task("container", name="unused", state="present", **used)
    before = inventory(small)
    small.quartet("prune", {kind: True})
    gone = {key: sorted(set(before[key]) - set(left)) for key, left in inventory(small).items()}
    expected = {"images": ["unused:latest"], "build_cache": []}.get(kind, ["unused"])
    assert gone.pop(kind) == expected
    assert not any(gone[other] for other in prune.KINDS if other not in (kind, "build_cache"))
    layers = {"build_cache": 1}.get(kind, 0)
    assert len(gone["layers"]) >= layers


def inventory(place: WarmPlace) -> dict[str, list[str]]:
    found = {}
    for kind in ("containers", "images", "volumes", "networks"):
        found[kind] = [entry["name"] for entry in place.task(f"{kind.removesuffix('s')}_info")[kind]]
    layers = Path(place.paths.layers)
    found["layers"] = sorted(path.name for path in layers.iterdir() if not path.name.startswith("."))
    found["build_cache"] = []
    return found
