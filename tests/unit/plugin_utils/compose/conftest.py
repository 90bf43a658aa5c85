# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Projects of a test's own, as the options of a stack."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.module_utils._options.record import parse_options
from ansible_collections.vessel.host.plugins.module_utils._options.stack import OPTIONS
from ansible_collections.vessel.host.plugins.plugin_utils.compose.errors import ComposeError
from ansible_collections.vessel.host.plugins.plugin_utils.compose.project import Given
from ansible_collections.vessel.host.plugins.plugin_utils.compose.stacks import stack


class Directory:
    """Files on the controller; compose.yaml is the project's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.missing: set[str] = set()

    def write(self, name: str, content: str) -> str:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content))
        return str(path)

    def stack(self, content: str = "", *files: str, **options: Any) -> dict[str, Any]:
        """What a file of that content becomes; the options are such as the module takes."""
        if content:
            self.write("compose.yaml", content)
        chosen = [str(self.path / name) for name in files or ("compose.yaml",)]
        given = Given(options.pop("compose", chosen), str(self.path), **options)
        result, self.missing = stack(given, lambda path: Path(path).read_bytes())
        parse_options(OPTIONS, result)
        return result

    def service(self, content: str, **options: Any) -> dict[str, Any]:
        """The options of a service's only container, beside those that each has."""
        self.write(
            "compose.yaml",
            f"name: p\nservices:\n  one:\n    image: bb\n{textwrap.indent(textwrap.dedent(content), '    ')}",
        )
        made = self.stack(**options)["containers"]["p-one-1"]
        same = {"image": "bb", "networks": [{"name": "p_default", "aliases": ["one"]}]}
        return {name: value for name, value in made.items() if same.get(name) != value}

    def refused(self, content: str, *files: str, **options: Any) -> str:
        """The sentence, with this directory as a dot."""
        with pytest.raises(ComposeError) as caught:
            self.stack(content, *files, **options)
        return str(caught.value).replace(str(self.path), ".")


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    path = tmp_path / "Some Shop.1"
    path.mkdir()
    return Directory(path)
