# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An overlay by its descriptor, made in either of the two ways, with paths longer than one word of fsconfig."""

from __future__ import annotations

import os

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError
from ansible_collections.vessel.host.plugins.module_utils._kernel import overlay
from ansible_collections.vessel.host.plugins.module_utils._kernel.openat2 import open_in_root

pytestmark = pytest.mark.root


@pytest.fixture(params=["both", "mount"])
def opened(request, tmp_path, monkeypatch):
    """What gives a descriptor of an overlay with ten layers, whose paths are some thousand bytes."""
    if request.param == "mount":
        monkeypatch.setattr(overlay, "_by_fsconfig", refuse)
    base = tmp_path / ("x" * 100)
    layers = [base / f"layer{number}" for number in range(10)]
    for number, layer in enumerate(layers):
        layer.mkdir(parents=True)
        (layer / f"of{number}").write_text(str(number))
        (layer / "same").write_text(str(number))
    for name in ("upper", "work"):
        (base / name).mkdir()

    def call():
        return overlay.open_overlay([str(layer) for layer in layers], str(base / "upper"), str(base / "work"))

    call.upper = base / "upper"
    yield call
    with open("/proc/self/mountinfo") as file:
        assert str(tmp_path) not in file.read()


def refuse(lower, rest):
    raise KernelError("fsconfig", "lowerdir+", 22)


def test_the_union_is_read_and_written_through_the_descriptor(opened):
    root = opened()
    try:
        assert set(os.listdir(f"/proc/self/fd/{root}")) == {"same", *(f"of{number}" for number in range(10))}
        with os.fdopen(open_in_root(root, "/same", os.O_RDONLY)) as file:
            assert file.read() == "0"  # the first is the topmost
        os.close(open_in_root(root, "/new", os.O_WRONLY | os.O_CREAT, mode=0o600))
    finally:
        os.close(root)
    assert os.listdir(opened.upper) == ["new"]


def test_nothing_leaves_it(opened, tmp_path):
    root = opened()
    try:
        os.symlink(str(tmp_path), "way", dir_fd=root)
        with pytest.raises(KernelError, match="ENOENT"):
            open_in_root(root, "/way")
        with pytest.raises(KernelError, match="ENOENT"):
            open_in_root(root, f"/../../..{tmp_path}")
    finally:
        os.close(root)


def test_it_goes_with_the_descriptor(opened):
    os.close(opened())
    os.close(opened())  # upper and work are free again


@pytest.mark.parametrize("way", ["both", "mount"])
def test_what_the_kernel_refuses_is_told(tmp_path, monkeypatch, way):
    if way == "mount":
        monkeypatch.setattr(overlay, "_by_fsconfig", refuse)
    with pytest.raises(KernelError, match="ENOENT"):
        overlay.open_overlay([str(tmp_path / "none")], str(tmp_path / "upper"), str(tmp_path / "work"))
