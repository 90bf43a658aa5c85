# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option of a container twice, with what the change costs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.module_utils._options.container import BY_NAME
from ansible_collections.vessel.host.plugins.module_utils._options.record import Cost

from . import options_container  # noqa: F401 # pylint: disable=unused-import # it fills the table
from .options_box import Box
from .options_container import DISK
from .options_table import ROWS, Given, Row
from .warm import WarmPlace

pytestmark = pytest.mark.root
SET = re.compile(r"container box: set (\w+) \((\w+)\)")


@pytest.mark.parametrize("row", ROWS["container"], ids=str)
def test_option(shared: WarmPlace, peer: Box, box: Box, row: Row) -> None:
    box.make(**row.base)
    if row.lacks:
        refused(box, row)
        return
    for given in row.given:
        before = row.ask(box)
        assert given.alike or before != given.answer, "the kernel can't tell the values apart"
        change(box, given)
        assert row.ask(box) == given.answer
        for same in given.same:
            result = shared.task("container", check=True, name="box", **same)
            assert not result["changed"], (same, result["diff"])
        result = shared.task("container", check=True, name="box", **given.args)
        assert not result["changed"], result["diff"]


def test_a_disk_by_two_names_is_refused(box: Box, tmp_path: Path) -> None:
    (tmp_path / "disk").symlink_to(DISK)
    box.make()
    rates = [{"path": path, "rate": "1m"} for path in (DISK, str(tmp_path / "disk"))]
    result = box.place.task("container", fails=True, name="box", device_read_bps=rates)
    assert f"device_read_bps[1].path: '{tmp_path}/disk' is the same disk as {DISK}" in result["msg"]


def refused(box: Box, row: Row) -> None:
    """What this host does not have is told before anything is done, by check mode too."""
    process = box.process
    for check in (True, False):
        result = box.place.task("container", check=check, fails=True, name="box", hostname="lion", **row.given[0].args)
        assert result["msg"].startswith(row.option)
        assert row.lacks in result["msg"]
    assert box.process == process
    assert box.sh("hostname") == "box"
    assert not box.place.task("container", check=True, name="box")["changed"]


def change(box: Box, given: Given) -> None:
    """Told beforehand with its cost, and costing no more."""
    upper = Path(box.place.paths.home("box"), "upper")
    (upper / "written").touch()
    process = box.process
    told = box.place.quartet("container", {"name": "box", **given.args})[0]
    changes = [SET.fullmatch(action) for action in told["actions"]]
    costs = {match[1]: Cost[match[2]] for match in changes if match}
    assert set(costs) & set(given.args), told["actions"]
    for option, cost in costs.items():
        assert cost is BY_NAME[option].cost
        assert shown(told, "after", option, cost) != shown(told, "before", option, cost)
    worst = max(costs.values())
    assert (box.process == process) == (worst is Cost.live)
    assert (upper / "written").exists() == (worst is not Cost.recreate)


def shown(result: dict[str, Any], side: str, option: str, cost: Cost) -> Any:
    return result["diff"][side]["container box"][f"{option} ({cost.name})"]
