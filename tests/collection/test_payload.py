# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each module ships to a target, as Ansible itself packs it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest

from .gates import CHECKOUT, ENGINE, SENT, environment

PREFIX = "ansible_collections/vessel/host/plugins/module_utils/"
PROGRAM = """
import datetime, io, json, sys, zipfile
from pathlib import Path
from ansible._internal._ansiballz._builder import ExtensionManager
from ansible.executor.module_common import recursive_finder
from ansible.plugins.loader import init_plugin_loader

root, *names = sys.argv[1:]
init_plugin_loader([root])
shipped = {}
for name in names:
    package = "ansible_collections.vessel.host.plugins.modules"
    source = Path(root, *package.split("."), name + ".py").read_bytes()
    payload = zipfile.ZipFile(io.BytesIO(), "w")
    recursive_finder(name, f"{package}.{name}", source, payload, datetime.datetime.now(), ExtensionManager())
    shipped[name] = payload.namelist()
print(json.dumps(shipped))
"""


@pytest.fixture(scope="module")
def shipped():
    """Our files in the payload, by module."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(CHECKOUT / "collection"), *SENT],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    payloads = json.loads(done.stdout)
    return {
        module: sorted(
            name[len(PREFIX) :]
            for name in names
            if name.startswith(PREFIX) and not name.endswith("/__init__.py") and name != f"{PREFIX}__init__.py"
        )
        for module, names in payloads.items()
    }


def test_only_the_border_imports_ansible(shipped):
    for name in {name for files in shipped.values() for name in files}:
        if name.startswith("_ansible/"):
            continue
        for node in ast.walk(ast.parse((ENGINE / name).read_text())):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                found = [node.module or ""]
            assert not [word for word in found if word.split(".")[0] == "ansible"], name


def test_every_file_of_the_engine_is_shipped_by_something(shipped):
    ours = {str(path.relative_to(ENGINE)) for path in ENGINE.rglob("*.py")}
    assert sorted(ours - {name for files in shipped.values() for name in files}) == []


def test_whoever_installs_the_engine_ships_the_same_engine(shipped):
    # The installed version is the hash of what was shipped: two modules that ship different sets would replace each
    # other's supervisor at every turn.
    engines = {
        module: [name for name in files if not name.startswith("_ansible/")]
        for module, files in shipped.items()
        if "_cli/install.py" in files
    }
    assert engines
    first, *others = engines
    for module in others:
        assert engines[module] == engines[first], f"{module} ships another engine than {first}"
