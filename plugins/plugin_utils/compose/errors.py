# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a compose file, as a user reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NOTHING = object()  # no value is to be shown


class ComposeError(Exception):
    """``file`` is the compose file, ``path`` the attribute in it (``services.web.ports[0]``), each may be empty."""

    others: Sequence[ComposeError] = ()  # what is wrong beside it

    def __init__(self, file: str, path: str, value: Any, problem: str, hint: str = "") -> None:
        self.file, self.path, self.value, self.problem, self.hint = file, path, value, problem, hint
        super().__init__(file, path, problem)

    def __str__(self) -> str:
        """A line for each."""
        what = self.problem if self.value is NOTHING else f"{_shown(self.value)} {self.problem}"
        line = ": ".join(part for part in (self.file, self.path, what) if part)
        told = f"{line}; {self.hint}" if self.hint else line
        return "\n".join((told, *map(str, self.others)))


def raise_all(errors: Sequence[ComposeError]) -> None:
    """As one, where there is any: nobody has to mend the first to hear of the second."""
    if errors:
        errors[0].others = errors[1:]
        raise errors[0]


def _shown(value: Any) -> str:
    """As it is in Python, but not longer than anybody reads."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
