# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container's protection is worth is what those above it have."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cgroup.v2 import protection


@pytest.fixture
def tree(tmp_path):
    """root/slice/{a,b}.scope/container, with no protection anywhere."""
    for path in ("slice", "slice/a.scope", "slice/a.scope/container", "slice/b.scope", "slice/b.scope/container"):
        (tmp_path / path).mkdir()
        for file in protection.FILES:
            (tmp_path / path / file).write_text("0\n")
    return tmp_path


def claim(tree, name, file, value, *, late=False):
    """As a container's limits are written; with ``late`` by systemd, which takes a moment."""
    written = {}
    (tree / f"slice/{name}.scope/container/{file}").write_text(f"{value}\n")

    def write(directory, values):
        for key, amount in values.items():
            written[directory[len(str(tree)) + 1 :], key] = amount
            if not late:
                (tree / directory / key).write_text("max\n" if amount < 0 else f"{amount}\n")

    protection.pass_up(str(tree / f"slice/{name}.scope/container"), str(tree), write)
    return written


@pytest.mark.parametrize("late", [False, True])
def test_all_above_have_it_too(tree, late):
    assert claim(tree, "a", "memory.low", 4096, late=late) == {
        ("slice/a.scope", "memory.low"): 4096,
        ("slice", "memory.low"): 4096,
    }


def test_those_of_many_add_up(tree):
    claim(tree, "a", "memory.low", 4096)
    claim(tree, "a", "memory.min", 8192)
    assert claim(tree, "b", "memory.low", 100) == {
        ("slice/b.scope", "memory.low"): 100,
        ("slice", "memory.low"): 4196,
    }
    assert claim(tree, "b", "memory.low", 100) == {}, "nothing changed"
    assert claim(tree, "a", "memory.low", 0) == {("slice/a.scope", "memory.low"): 0, ("slice", "memory.low"): 100}


def test_no_bound_is_no_bound_above(tree):
    assert set(claim(tree, "a", "memory.low", "max").values()) == {-1}
    assert claim(tree, "b", "memory.low", 100) == {("slice/b.scope", "memory.low"): 100}


def test_nothing_is_written_for_nothing(tree):
    assert claim(tree, "a", "memory.low", 0) == {}
