# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes _cli/shipped.py; run it when a file of the engine was added or removed: python tests/collection/ship.py"""

from __future__ import annotations

from pathlib import Path

ENGINE = Path(__file__).parents[2] / "plugins" / "module_utils"
SHIPPED = ENGINE / "_cli" / "shipped.py"
HEAD = '''\
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every file of the engine by name, so that a module brings all of them along. Written by tests/collection/ship.py."""

# ruff: noqa
# fmt: off
from __future__ import annotations


def ship() -> None:
    """Never called. Ansible sends the files that a module's code imports, wherever in it the import stands."""
'''


def render() -> str:
    packages: dict[str, list[str]] = {}
    for path in sorted(ENGINE.rglob("*.py")):
        parts = path.relative_to(ENGINE).parts
        if parts[0] != "_ansible" and path != SHIPPED:
            packages.setdefault(".".join(parts[:-1]), []).append(path.stem)
    lines = []
    for package, names in sorted(packages.items()):
        source = "." if package == "_cli" else f"..{package}"
        lines += [f"    from {source} import {name}" for name in names]
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    SHIPPED.write_text(render())
