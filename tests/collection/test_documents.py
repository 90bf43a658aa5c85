# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation says what the code does: what can be generated is, and what can be compared is compared."""

from __future__ import annotations

import re

import yaml
from ansible_collections.vessel.host.docs import generate

from .gates import CHECKOUT, MODULES, check, copy_tree


def test_antsibull_docs(tmp_path):
    tree = copy_tree(tmp_path)
    check("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--validate-collection-refs", "all", ".", cwd=tree)


def test_changelog_fragments():
    check("antsibull-changelog", "lint")
    check("antsibull-changelog", "lint-changelog-yaml", "changelogs/changelog.yaml")


def test_the_tables_of_options_are_current():
    for target, render in generate.TARGETS.items():
        assert target.read_text() == render(), "run make docs"


def test_every_module_is_in_the_action_group():
    runtime = yaml.safe_load((CHECKOUT / "meta/runtime.yml").read_text())
    assert sorted(runtime["action_groups"]["all"]) == MODULES


def test_the_readme_lists_every_module_and_no_other():
    section = (CHECKOUT / "README.md").read_text().partition("\n## Modules\n")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == MODULES


def test_links_within_the_documents_lead_somewhere():
    documents = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *(CHECKOUT / "docs").glob("*.md")]
    links = [
        (document, target)
        for document in documents
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
        if "://" not in target
    ]
    assert links
    for document, target in links:
        assert (document.parent / target).exists(), f"{document.name}: {target}"
