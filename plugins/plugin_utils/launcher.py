# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is sent to a host instead of a module's payload, after _paths.py and _cli/version.py: see installed.py.

It runs on the host, on its Python.
"""

from __future__ import annotations

import json
import os
import sys

ABSENT = "vessel_engine_is_absent"


def launch(*, module: str, source: str, engine: str, border: str, root: str, params: bytes, profile: str) -> None:
    """Run a module's ``source`` with the installed engine; where that is not there, say so as the module's result."""
    paths = globals()["Paths"].at(os.path.expanduser(os.path.expandvars(root)))  # as the module itself will read it
    directory = os.path.join(paths.libexec, globals()["name"](engine, border))  # name() is version.py's
    scope = {"__name__": "vessel_module", "__file__": module}
    try:
        if not hold(directory):
            raise ImportError(directory)
        sys.path.insert(0, directory)
        from ansible.module_utils import basic

        # As the loader of AnsiballZ does it.
        basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = params, profile
        exec(compile(source, module, "exec"), scope)
    except ImportError:  # also where somebody removed a part of it; nothing has been done yet
        print(json.dumps({"changed": False, ABSENT: True}))
        return
    scope["main"]()


def hold(directory: str) -> bool:
    """Is it there? Then it stays as long as we do: whoever installs another version asks for this lock."""
    import fcntl

    try:
        fcntl.flock(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), fcntl.LOCK_SH)
    except OSError:
        return False
    trusted: bool = globals()["trusted"](directory)  # version.py's
    return trusted and os.path.isfile(f"{directory}/vessel")
