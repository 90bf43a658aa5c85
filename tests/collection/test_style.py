# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Style and types: what the linters say of the whole tree."""

from __future__ import annotations

from .gates import CHECKOUT, ENGINE, NAMESPACE, check

MODULE_UTILS = f"{NAMESPACE}.plugins.module_utils"


def test_ruff_check():
    check("ruff", "check", ".")


def test_ruff_format():
    check("ruff", "format", "--check", ".")


def test_mypy_strict_sees_every_file(tmp_path):
    done = check("mypy", "-p", MODULE_UTILS, "--linecount-report", str(tmp_path))
    assert "Success" in done.stdout
    # A package without __init__ files is easily passed over in silence; the report names what was really read.
    report = (tmp_path / "linecount.txt").read_text().splitlines()
    seen = {line.split()[-1] for line in report}
    files = {".".join([MODULE_UTILS, *path.relative_to(ENGINE).with_suffix("").parts]) for path in ENGINE.rglob("*.py")}
    assert len(files) > 20
    assert sorted(files - seen) == []


def test_yamllint():
    check("yamllint", "--strict", ".")


def test_ansible_lint():
    done = check("ansible-lint", "--offline", "--profile", "production", "--strict")
    assert "Profile 'production' was required, and it passed" in done.stdout + done.stderr


def test_every_source_names_its_licence():
    python = [*CHECKOUT.glob("plugins/**/*.py"), *CHECKOUT.glob("tests/**/*.py"), *CHECKOUT.glob("docs/*.py")]
    assert len(python) > 20
    for path in python:
        if "output" not in path.parts:
            head = path.read_text().splitlines()[:6]
            assert "# SPDX-License-Identifier: GPL-3.0-or-later" in head, path
