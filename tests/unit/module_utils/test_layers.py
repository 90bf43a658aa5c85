# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports go one way, and no package drags the others into a payload."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ENGINE = Path(__file__).parents[3] / "plugins" / "module_utils"
FLOOR = {"_errors", "_paths"}
BELOW = {
    "_kernel": FLOOR,
    "_rootfs": FLOOR | {"_kernel"},
    "_cgroup": FLOOR | {"_kernel"},
    **{name: FLOOR | {"_kernel", "_rootfs", "_cgroup"} for name in ("_network", "_image", "_volume", "_runtime")},
    "_monitor": FLOOR | {"_kernel", "_rootfs", "_cgroup", "_runtime"},
}
BELOW["_options"] = set(BELOW) | FLOOR
BELOW["_converge"] = BELOW["_options"] | {"_options"}
BELOW["_cli"] = BELOW["_converge"] | {"_converge"}
BELOW["_ansible"] = BELOW["_cli"] | {"_cli"}


def imported(path: Path):
    """(package of ours or top-level name, line) of every import in the file."""
    own = path.relative_to(ENGINE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0], node.lineno
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                yield node.module.split(".")[0], node.lineno
                continue
            base = own[: len(own) - node.level + 1]
            parts = [*base, *(node.module or "").split(".")]
            names = [parts[0]] if parts[0] else [alias.name for alias in node.names]
            for name in names:
                yield name, node.lineno


NETLINK = ("_network/rtnl.py", "_network/conntrack.py")
SOURCES = sorted(ENGINE.glob("*/*.py")) + sorted(ENGINE.glob("*/*/*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ENGINE)))
def test_imports_go_down_only(path):
    package = path.relative_to(ENGINE).parts[0]
    allowed = BELOW[package] | {package}
    for name, line in imported(path):
        if name.startswith("_") and name not in ("__future__", "_errno", "_thread", "_socket", "_signal"):
            assert name in allowed, f"{path}:{line}: {package} may not import {name}"
        if name == "ansible":
            assert package == "_ansible", f"{path}:{line}: only _ansible imports ansible"
        if name == "ctypes":
            assert package == "_kernel", f"{path}:{line}: only _kernel imports ctypes"
        if name == "pyroute2":
            assert str(path.relative_to(ENGINE)) in NETLINK, (
                f"{path}:{line}: only {' and '.join(NETLINK)} import pyroute2"
            )


def test_no_package_re_exports():
    assert not list(ENGINE.rglob("__init__.py"))
