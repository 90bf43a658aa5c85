# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module run as a task runs it, without a playbook: in a process of its own, options in, the result's JSON out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils import _errors
from ansible_collections.vessel.host.tests.patience import patient

# Where the collection was imported from: the link in a checkout, or a path that it is installed in.
COLLECTIONS = Path(_errors.__file__).parents[5]
PLUGINS = COLLECTIONS / "ansible_collections/vessel/host/plugins"
_PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from importlib import import_module
from ansible.module_utils import basic
basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": json.load(sys.stdin)}).encode()
basic._ANSIBLE_PROFILE = "legacy"
import_module("ansible_collections.vessel.host.plugins.modules." + sys.argv[2]).main()
"""
# The bytecode of a checkout is kept, apart from it: compiling is half of what a module takes.
_ENVIRON = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(__file__).parents[2] / ".cache/bytecode")}
_ENVIRON.pop("PYTHONDONTWRITEBYTECODE", None)


def run_module(
    name: str,
    args: dict[str, Any],
    check: bool = False,
    diff: bool = True,
    *,
    environ: dict[str, str] | None = None,
    timeout: float = 300.0,
) -> dict[str, Any]:
    """The module's result; one that failed has ``failed`` in it. What is no result is an AssertionError."""
    given = {**args, "_ansible_check_mode": check, "_ansible_diff": diff, "_ansible_module_name": f"vessel.host.{name}"}
    process = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(COLLECTIONS), name],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=patient(timeout),
        env={**_ENVIRON, **(environ or {})},
        check=False,
    )
    lines = process.stdout.strip().splitlines()
    assert lines, f"{name} gave no result (exit code {process.returncode}): {process.stderr}"
    result = json.loads(lines[-1])
    result.pop("invocation", None)
    assert process.returncode == (1 if result.get("failed") else 0), process.stderr
    assert process.stderr == ""
    return dict(result)


def starting(name: str, args: dict[str, Any], **options: Any) -> subprocess.Popen[Any]:
    """The module's process, for who looks at it while it runs; ``options`` are of Popen."""
    given = {**args, "_ansible_module_name": f"vessel.host.{name}"}
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(COLLECTIONS), name], stdin=subprocess.PIPE, **options
    )
    with process.stdin as stdin:
        stdin.write(json.dumps(given))
    return process


def quartet(name: str, args: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    """Check, apply, apply, check; what must be changed, changed, not, not."""
    results = [run_module(name, args, check=check, **options) for check in (True, False, False, True)]
    for result in results:
        assert not result.get("failed"), result.get("msg")
    assert [result["changed"] for result in results] == [True, True, False, False], results
    assert results[0].get("actions") == results[1].get("actions")
    return results
