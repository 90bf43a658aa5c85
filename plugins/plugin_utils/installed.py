# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module's payload that has the module alone in it, and runs with the engine that the host has installed.

AnsiballZ packs all of the engine and of Ansible's own files for every task, and the host compiles them anew for every
task. A host that has run a container has both with their bytecode, under a name made of their content.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.executor.module_common import _BuiltModule, _get_shebang
from ansible.module_utils.ansible_release import __version__
from ansible.module_utils.common.json import Direction, get_module_encoder

from ..module_utils import _paths
from ..module_utils._cli import version
from . import launcher

PLUGINS = Path(__file__).parents[1]
PROFILE = "legacy"  # how arguments and results are written, as for any module that does not say otherwise


def build(module_path: str, args: Mapping[str, Any], interpreter: tuple[Any, ...]) -> _BuiltModule:
    """The payload; ``interpreter`` is what _get_shebang takes after the name."""
    shebang = _get_shebang("/usr/bin/python", *interpreter)[0]
    encoder = get_module_encoder(PROFILE, Direction.CONTROLLER_TO_MODULE)
    given = {
        "module": module_path,
        "source": Path(module_path).read_text(encoding="utf-8"),
        "engine": version.digest(version.from_directory(str(PLUGINS / "module_utils"))),
        "border": __version__,
        "root": str(args.get("root") or ""),
        "params": json.dumps({"ANSIBLE_MODULE_ARGS": args}, cls=encoder).encode(),
        "profile": PROFILE,
    }
    texts = (Path(part.__file__).read_text(encoding="utf-8") for part in (_paths, version, launcher))
    # Each part begins by importing this from the future, which a file may do but at its beginning.
    future = "from __future__ import annotations\n"
    head = f"{shebang}\n{future}" + "".join(texts).replace(future, "")
    # A traceback shows the line that calls, and there may be secrets among the options.
    text = f"{head}\nGIVEN = {given!r}\nlaunch(**GIVEN)\n"
    return _BuiltModule(b_module_data=text.encode(), module_style="new", shebang=shebang, serialization_profile=PROFILE)
