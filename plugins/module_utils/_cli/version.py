# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a version of the engine consists of and what it is called, on the host and on the controller alike.

The controller asks for a version by its name before anything of ours is imported on the host, and sends this file
along to do so: it imports nothing of the engine.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # see main.py
if TYPE_CHECKING:
    from collections.abc import Mapping

# Where the engine lies below a version's directory: as in the collection, so that modules find it there too.
PACKAGE = "ansible_collections/vessel/host/plugins/module_utils"


def is_engine(path: str) -> bool:
    """Is it one of the engine's files? All private ones are; ``path`` is below module_utils."""
    return path.startswith("_") and path.endswith(".py") and path.rpartition("/")[2] != "__init__.py"


def from_directory(top: str) -> dict[str, bytes]:
    """Every file of the engine in a directory: path below it, content."""
    found = {}
    for directory, names, files in os.walk(top):
        names[:] = [name for name in names if name != "__pycache__"]
        for name in files:
            path = os.path.relpath(f"{directory}/{name}", top)
            if is_engine(path):
                with open(f"{directory}/{name}", "rb") as file:
                    found[path] = file.read()
    return found


def digest(files: Mapping[str, bytes]) -> str:
    """Of all that the engine is."""
    from hashlib import sha256

    result = sha256()
    for path, content in sorted(files.items()):
        result.update(f"{path}\0{len(content)}\0".encode() + content)
    return result.hexdigest()


def name(engine: str, border: str) -> str:
    """The version's name, from the engine's digest and the version of ansible-core whose module_utils lie beside it.

    The interpreter is part of it: bytecode and script name it. ``border`` is empty where Ansible is not there.
    """
    from hashlib import sha256

    text = "\0".join((str(sys.implementation.cache_tag), sys.executable, engine, border))
    return sha256(text.encode()).hexdigest()[:16]


def trusted(directory: str) -> bool:
    """Is it there, and may nobody write to it but who runs from it? A root may lie below another user's directory."""
    try:
        found = os.lstat(directory)
    except OSError:
        return False
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022


def installed() -> str:
    """The version's directory that the running code is part of; empty in a checkout and in a module's payload."""
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    home = top[: -len(PACKAGE) - 1]
    return home if os.path.isfile(f"{home}/vessel") else ""
