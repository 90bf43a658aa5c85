# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When an ended container is started again, and how long that waits. Pure."""

from __future__ import annotations

from typing import Optional

from .._errors import VesselError

NO, ALWAYS, ON_FAILURE, UNLESS_STOPPED = "no", "always", "on-failure", "unless-stopped"
POLICIES = (NO, ALWAYS, ON_FAILURE, UNLESS_STOPPED)

FIRST_DELAY = 0.1
LONGEST_DELAY = 60.0
# A container that ran this long has left its trouble behind: the next delay is the first again.
STABLE_AFTER = 10.0


class Policy:
    """``retries`` counts for on-failure only; 0 is without end."""

    def __init__(self, policy: str = NO, retries: int = 0) -> None:
        if policy not in POLICIES:
            raise VesselError(f"restart policy {policy!r} is none of {', '.join(POLICIES)}")
        self.policy = policy
        self.retries = retries

    def restarts(self, exit_code: Optional[int], done: int) -> bool:
        """Start again after ``exit_code``, with ``done`` restarts behind?

        An unknown exit code (the container ended while no supervisor was there) counts as a failure: to run a job
        twice is what on-failure must expect anyway, to leave a service down is not.
        """
        if self.policy == ON_FAILURE:
            return exit_code != 0 and (self.retries <= 0 or done < self.retries)
        return self.policy in (ALWAYS, UNLESS_STOPPED)


def next_delay(last: float, ran_for: float) -> float:
    """The delay after one of ``last`` seconds (0 for none yet) and a life of ``ran_for``."""
    if last <= 0 or ran_for >= STABLE_AFTER:
        return FIRST_DELAY
    return min(last * 2, LONGEST_DELAY)
