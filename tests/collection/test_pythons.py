# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Pythons of target hosts: 3.9 is the oldest."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from .gates import CHECKOUT, ENGINE, NAMESPACE, PLUGINS, interpreters

# What of the engine needs no Ansible; pyroute2 may be missing where it is only imported.
NAMES = sorted(
    ".".join(path.relative_to(ENGINE).with_suffix("").parts)
    for path in ENGINE.rglob("*.py")
    if path.relative_to(ENGINE).parts[0] != "_ansible"
)
PROGRAM = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
for name in json.loads(sys.argv[3]):
    importlib.import_module(f"{sys.argv[2]}.{name}")
prefix = sys.argv[2] + "."
files = [n for n, m in sys.modules.items() if n.startswith(prefix) and getattr(m, "__file__", None)]
print(len(files))
"""


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("*.py")), ids=lambda path: str(path.relative_to(PLUGINS)))
def test_syntax_of_python_3_9(path):
    ast.parse(path.read_text(), filename=str(path), feature_version=(3, 9))


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_the_engine_is_imported(version):
    python = interpreters().get(version)
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        python = Path(sys.executable)
    if python is None:
        pytest.skip(f"this machine has no Python {version}")
    argv = [str(python), "-I", "-B", "-W", "error", "-c", PROGRAM]
    argv += [str(CHECKOUT / "collection"), f"{NAMESPACE}.plugins.module_utils", json.dumps(NAMES)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(NAMES)
