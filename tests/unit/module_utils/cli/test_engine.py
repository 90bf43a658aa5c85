# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""_cli/engine.py names every file of the engine, so that every payload that installs it has all of it.

``python3 tests/unit/module_utils/cli/test_engine.py`` writes it anew.
"""

from __future__ import annotations

import ast
from pathlib import Path

ENGINE = Path(__file__).parents[4] / "plugins" / "module_utils"
FILE = ENGINE / "_cli" / "engine.py"
HEAD = '''\
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as a list of imports that are never made: AnsiballZ ships with a module what it finds imported.

Written by tests/unit/module_utils/cli/test_engine.py.
"""

# ruff: noqa: F401

from __future__ import annotations
'''


def on_disk() -> dict[str, list[str]]:
    """Package: its modules; the package of the floor is ""."""
    found: dict[str, list[str]] = {}
    for path in sorted(ENGINE.rglob("_*/**/*.py")) + sorted(ENGINE.glob("_*.py")):
        parts = path.relative_to(ENGINE).with_suffix("").parts
        if parts[0] != "_ansible":
            found.setdefault(".".join(parts[:-1]), []).append(parts[-1])
    return {package: sorted(set(modules)) for package, modules in sorted(found.items())}


def text() -> str:
    """A function for each package: in one, names would hide names."""
    blocks = [HEAD]
    for package, modules in on_disk().items():
        source = "." if package == "_cli" else f"..{package}"
        names = "".join(f"        {module},\n" for module in modules)
        name = package.replace(".", "_") or "_floor"
        blocks.append(f"\n\ndef {name}() -> None:\n    from {source} import (\n{names}    )\n")
    return "".join(blocks)


def test_every_file_is_named():
    named: dict[str, list[str]] = {}
    for node in ast.walk(ast.parse(FILE.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            package = "_cli" if node.level == 1 else node.module or ""
            named[package] = sorted(alias.name for alias in node.names)
    assert named == on_disk(), f"run python3 {Path(__file__).relative_to(ENGINE.parents[1])}"


if __name__ == "__main__":
    FILE.touch()
    FILE.write_text(text())
