# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a declaration says and the other form has no words for: collected, so that a user sees all of it at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._errors import VesselError

_SHOWN = 60  # characters of a value
Owner = tuple[str, str]  # kind and name, as ("containers", "web")


class ExportError(VesselError):
    """Part of the declaration can't be said in the other form."""


@dataclass(frozen=True)
class Loss:
    path: str
    value: Any
    reason: str
    owner: Owner

    def __str__(self) -> str:
        value = repr(self.value)
        return f"{self.path}: {value if len(value) <= _SHOWN else value[:_SHOWN] + '...'} {self.reason}"


@dataclass
class Losses:
    """``form`` is how the sentence goes on, for example "in a compose file"."""

    form: str
    found: list[Loss] = field(default_factory=list)

    def of(self, *owners: Owner) -> list[str]:
        return [str(loss) for loss in self.found if loss.owner in owners]

    def raise_all(self) -> None:
        if not self.found:
            return
        texts = "; ".join(map(str, self.found))
        head = "" if len(self.found) == 1 else f"{len(self.found)} options can't be said {self.form}: "
        raise ExportError(head + texts, hint="lossy=true leaves out what can't be said, and lists it")


@dataclass(frozen=True)
class Where:
    """The option that is being written: its path, and whose it is."""

    losses: Losses
    owner: Owner
    path: str = ""

    def at(self, name: str) -> Where:
        return Where(self.losses, self.owner, f"{self.path}.{name}" if self.path else name)

    def item(self, index: int) -> Where:
        return Where(self.losses, self.owner, f"{self.path}[{index}]")

    def lacks(self, value: Any, why: str) -> None:
        """Neither the value nor the reason may hold a secret."""
        self.losses.found.append(Loss(self.path, value, f"can't be said {self.losses.form}: {why}", self.owner))
