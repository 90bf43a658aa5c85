# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gates have in common: the checkout, the tools beside this interpreter, a copy of the tree to work on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
CACHE = CHECKOUT / ".cache"
PLUGINS = CHECKOUT / "plugins"
ENGINE = PLUGINS / "module_utils"
MODULES = sorted(path.stem for path in (PLUGINS / "modules").glob("*.py"))
# Those that a target is sent; the others are an action on the controller.
SENT = [name for name in MODULES if "def main()" in (PLUGINS / f"modules/{name}.py").read_text()]
NAMESPACE = "ansible_collections.vessel.host"
TIMEOUT = 900


def tool(name: str) -> str:
    """The tool as ``make setup`` installed it. One that is missing fails the gate: a gate that skips guards nothing."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        pytest.fail(f"{name} is not installed beside {sys.executable}; run make setup", pytrace=False)
    return str(path)


def environment(**more: str) -> dict[str, str]:
    """The surroundings with our tools first and none of our caller's Ansible settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "MOLECULE_"))}
    bin_directory = str(Path(sys.executable).parent)
    return {**kept, "PATH": f"{bin_directory}:{kept['PATH']}", "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1", **more}


def interpreters() -> dict[str, Path]:
    """Python by version, the newest last: ours, the system's, those of a version manager. None is a shim."""
    found = {}
    managed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in range(9, 14):
        name = f"python3.{minor}"
        candidates = [
            Path("/usr/bin", name),
            Path("/usr/local/bin", name),
            *sorted(managed.glob(f"3.{minor}.*/bin/{name}")),
        ]
        for path in candidates:
            if path.exists():
                found[f"3.{minor}"] = path
                break
    return found


def check(
    *argv: str, cwd: Path = CHECKOUT, env: dict[str, str] | None = None, timeout: float = TIMEOUT
) -> subprocess.CompletedProcess[str]:
    """Run the tool; what it printed is the failure's message."""
    done = subprocess.run(
        [tool(argv[0]), *argv[1:]],
        cwd=cwd,
        env=env or environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{' '.join(argv)} ended with {done.returncode}\n{done.stdout}{done.stderr}", pytrace=False)
    return done


def sources() -> list[str]:
    """What a commit of everything here would hold, as paths below the checkout; the import root is left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    return [name for name in listed if name and not name.startswith("collection/") and (CHECKOUT / name).exists()]


def copy_tree(root: Path) -> Path:
    """The collection below ``root``, where its tools expect it: ansible_collections/vessel/host."""
    tree = root.joinpath(*NAMESPACE.split("."))
    for name in sources():
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, target, follow_symlinks=False)
    return tree
