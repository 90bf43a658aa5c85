# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What groups have is told of trees that are none of the kernel's, where a new directory is empty."""

from __future__ import annotations

import os

from ansible_collections.vessel.host.plugins.module_utils._cgroup.offers import offers


def test_v1_without_the_files(tmp_path):
    for name in ("blkio", "memory"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    assert offers("probe", root=str(tmp_path)) == {"swap": "", "blkio_weight": ""}
    assert sorted(os.listdir(tmp_path / "blkio")) == ["cgroup.procs"]


def test_v2_tells_of_shared_controllers_only(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("io memory")
    (tmp_path / "cgroup.subtree_control").write_text("io\n")
    assert offers("probe", root=str(tmp_path)) == {"swap": None, "blkio_weight": ""}


def test_a_name_that_is_taken_is_left_alone(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("io")
    (tmp_path / "probe").mkdir()
    assert offers("probe", "swap", root=str(tmp_path)) == {"swap": None}
    assert (tmp_path / "probe").is_dir()
