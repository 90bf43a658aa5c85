# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vessel`` and ``vessel-runtime``: one file under two names. Imports little: most of a short command is its start."""

from __future__ import annotations

import fcntl
import os
import sys

from . import ask, version

TYPE_CHECKING = False  # typing and collections are a third of what is imported before the second start
if TYPE_CHECKING:
    from collections.abc import Sequence

# Verbs with which a process of ours, or one that was, comes to be in a container: see _kernel/exe.py.
_INSIDE = {"vessel": ("exec", "monitor", "restore", "session"), "vessel-runtime": ("create", "run", "exec", "restore")}
_MARK = "VESSEL_REEXECUTED"


def main(argv: Sequence[str], *, root: str = "") -> int:
    """``root`` is the installation that the command belongs to; --root and $VESSEL_ROOT name another."""
    name, args = os.path.basename(argv[0]), list(argv[1:])
    if ask.OPTION in args and name == "vessel":
        code = ask.ask(args, root, os.path.basename(version.installed()))
        if code is not None:
            return code
    hold_version()
    if name == "vessel" and args[:1] == ["runtime"]:
        name, args = "vessel-runtime", args[1:]
    inside = _INSIDE.get(name, ())
    if any(arg in inside for arg in args) and "--ready-fd" not in args:
        _protect(argv)
    if name == "vessel-runtime":
        from .runtime import main as runtime_main

        return int(runtime_main(args) or 0)
    from .vessel import main as vessel_main

    return vessel_main(args, root=root)


def hold_version() -> None:
    """A lock that lasts as long as we do: a version that somebody runs from is not removed."""
    directory = version.installed()
    if directory:
        fcntl.flock(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), fcntl.LOCK_SH)


def _protect(argv: Sequence[str]) -> None:
    """Once more, through a read-only copy of the interpreter's mount. The mark keeps us from trying for ever."""
    from .._kernel import exe

    if os.environ.pop(_MARK, "") == str(os.getpid()) or exe.protection() != exe.PLAIN:
        return
    if os.path.isfile(argv[0]):
        exe.execute(sys.executable, [sys.executable, "-IS", *argv], {**os.environ, _MARK: str(os.getpid())})
