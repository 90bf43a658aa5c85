# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The difference between what is declared and what is there, as steps that can describe, do and undo themselves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from .._errors import VesselError
from .._options.record import Cost


@dataclass
class Step:
    """One change. ``before`` and ``after`` are what diff mode shows of ``option``; secrets never stand in them."""

    target: str  # "network shop", "container db"
    action: str  # "create", "remove", "set memory"
    do: Callable[[], Any]
    undo: Optional[Callable[[], Any]] = None
    cost: Cost = Cost.live
    option: str = ""
    before: Any = None
    after: Any = None
    # Neighbours with the same batch are handed to it together: a hundred containers are started at once.
    batch: Optional[Callable[[list[Step]], Any]] = None
    payload: Any = None  # what the batch needs of this step
    # Done with the others and told to nobody: it finishes what they changed, or only waits.
    hidden: bool = False
    needs: str = ""  # a file of the controller's, which must be sent before the step can be done
    manner: str = ""  # how the container is started anew, where not as ever

    def describe(self) -> str:
        return f"{self.target}: {self.action} ({self.price})" if self.option else f"{self.target}: {self.action}"

    @property
    def subject(self) -> str:
        """The target's name."""
        return self.target.partition(" ")[2]

    @property
    def price(self) -> str:
        """What it costs, in words."""
        return f"{self.cost.name}, {self.manner}" if self.manner else self.cost.name


@dataclass
class Plan:
    """Steps in the order in which they are done; empty when nothing is to change.

    ``left`` are those that stay done when another has failed: they can't be undone, or undoing failed. ``warnings``
    are what the user should know of the declaration, whatever is to be done.
    """

    steps: list[Step] = field(default_factory=list)
    left: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(self.shown())

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def shown(self) -> Iterator[Step]:
        """The steps that change something a user can name."""
        return (step for step in self.steps if not step.hidden)

    def add(self, step: Step) -> None:
        self.steps.append(step)

    def extend(self, other: Plan) -> None:
        self.steps.extend(other.steps)
        self.warnings.extend(other.warnings)

    def describe(self) -> list[str]:
        return [step.describe() for step in self.shown()]

    def describe_left(self) -> list[str]:
        return [step.describe() for step in self.left if not step.hidden]

    def needs(self) -> list[str]:
        """The files of the controller's that the steps can't be done without, each once."""
        return sorted({step.needs for step in self.steps if step.needs})

    def worst(self) -> Cost:
        return max((step.cost for step in self.steps), default=Cost.live)

    def diff(self) -> dict[str, Any]:
        """``before`` and ``after`` as Ansible's diff has them: target, then option, then the value."""
        before: dict[str, Any] = {}
        after: dict[str, Any] = {}
        for step in self.shown():
            name = f"{step.option} ({step.price})" if step.option else step.action
            before.setdefault(step.target, {})[name] = step.before
            after.setdefault(step.target, {})[name] = step.after
        return {"before": before, "after": after}

    def apply(self) -> None:
        """Do every step; when one fails, undo those before it, last first. What undoing failed at travels along."""
        done: list[Step] = []
        group: list[Step] = []
        try:
            for group in self.groups():
                if group[0].batch is not None:
                    group[0].batch(group)
                else:
                    group[0].do()
                done.extend(group)
        except BaseException as error:
            # The failed step undoes itself too: it may have been half done.
            half = self._undo([step for step in group if step.undo], error)
            self.left = self._undo(done, error) + half
            raise

    def groups(self) -> Iterator[list[Step]]:
        """Steps one by one, but neighbours of one batch together."""
        for batch, steps in itertools.groupby(self.steps, key=lambda step: step.batch):
            if batch is None:
                yield from ([step] for step in steps)
            else:
                yield list(steps)

    @staticmethod
    def _undo(done: list[Step], cause: BaseException) -> list[Step]:
        """Those that stay done."""
        left = []
        for step in reversed(done):
            try:
                if step.undo is None:
                    left.append(step)
                else:
                    step.undo()
            except Exception as error:
                left.append(step)
                if isinstance(cause, VesselError):
                    cause.undo_errors.append(error)
        return left[::-1]


class Staged(Plan):
    """Stages, each planned when the one before is done: what a container is made from must be there to be looked at.

    Until then ``steps`` hold what each stage is expected to do, which is what check mode shows.
    """

    def __init__(self, stages: list[Callable[[bool], Plan]]) -> None:
        """Each stage is a function of ``preview``."""
        self._stages = stages
        self._plans = [stage(True) for stage in stages]
        super().__init__([step for plan in self._plans for step in plan])
        self.warnings = [text for plan in self._plans for text in plan.warnings]

    def apply(self) -> None:
        done: list[Step] = []
        real: list[Plan] = []
        for stage, expected in zip(self._stages, self._plans):
            plan = Plan()
            try:
                plan = stage(False) if any(step for earlier in real for step in earlier) else expected
                real.append(plan)
                plan.apply()
            except BaseException as error:
                self.left = self._undo(done, error) + plan.left
                raise
            done.extend(plan.steps)
        self.steps = [step for plan in real for step in plan]
