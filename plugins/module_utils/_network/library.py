# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where pyroute2 comes from: the one gate, which everything that speaks to it passes before it imports it.

What the role ``setup`` has shipped goes before what the distribution has: it ships where that is missing or too old.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Optional

from .._errors import DependencyError
from .._paths import LIBRARY

FLOOR = (0, 7, 2)
# The version with which this process has passed the gate.
_passed: list[str] = []


def need() -> None:
    """After this ``import pyroute2`` gives a version that will do; DependencyError where there is none."""
    if _passed:
        return
    if sys.flags.no_site:
        import site

        site.main()  # our own commands start without what is installed beside Python, which nothing else needs
    if os.path.isdir(LIBRARY) and LIBRARY not in sys.path:
        sys.path.insert(0, LIBRARY)
    found = version()
    problem = lacking(found)
    if problem:
        raise DependencyError(problem, hint=REMEDY)
    _passed.append(str(found))


REMEDY = "run the role vessel.host.setup, or install python3-pyroute2 for the interpreter that Ansible uses on the host"


def lacking(found: Optional[str]) -> str:
    """Why what ``version`` found will not do; empty when it will."""
    if found is None:
        return "the Python library pyroute2 is missing"
    if _numbers(found) < FLOOR:
        return f"the Python library pyroute2 is {found}, and {'.'.join(map(str, FLOOR))} or newer is needed"
    return ""


def _numbers(text: str) -> tuple[int, ...]:
    """Of a version; one that nobody can tell is taken for new."""
    numbers = tuple(int(part) for part in text.split(".") if part.isdigit())
    return numbers or FLOOR


def version() -> Optional[str]:
    """Without importing it, nor importlib.metadata: both take longer than all the rest of a task."""
    for directory in _places():
        for name in _listdir(directory):
            package, dummy, rest = name.partition("-")
            if package == "pyroute2" and rest.endswith((".dist-info", ".egg-info")):
                return rest.rpartition(".")[0].partition("-")[0]
        if os.path.isdir(f"{directory}/pyroute2"):
            return "unknown"
    return None


def _places() -> Iterator[str]:
    """Where Python looks, in its order, once it has passed the gate."""
    if LIBRARY not in sys.path:
        yield LIBRARY
    yield from sys.path


def _listdir(directory: str) -> list[str]:
    try:
        return os.listdir(directory or ".")
    except OSError:
        return []
