# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout decides: in which batches hosts come, and whether their containers are well."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_PERCENT = re.compile(r"([0-9]+)%")


def batches(hosts: Sequence[str], sizes: int | str | Sequence[int | str]) -> list[list[str]]:
    """The hosts in batches of these sizes, each a number or a percentage of all (``25%``, at least one host); the last
    size is that of all that follow, as with a play's ``serial``. ValueError for a size that is none.
    """
    sizes = [sizes] if isinstance(sizes, (int, str)) else sizes  # one alone, as ``serial`` may be
    counts = [_count(size, index, len(hosts)) for index, size in enumerate(sizes)]
    if not counts:
        raise ValueError("sizes: [] is empty; give at least one, such as 25%")
    found: list[list[str]] = []
    rest = list(hosts)
    while rest:
        count = counts[min(len(found), len(counts) - 1)]
        found.append(rest[:count])
        rest = rest[count:]
    return found


def _count(size: int | str, index: int, whole: int) -> int:
    what = "neither a number of hosts from 1 on nor a percentage such as 25%"
    problem = ValueError(f"sizes[{index}]: {size!r} is {what}")
    if isinstance(size, bool) or not isinstance(size, (int, str)):
        raise problem
    text = str(size).strip()
    percent = _PERCENT.fullmatch(text)
    if not percent and not text.isdecimal():
        raise problem
    number = int(percent[1]) if percent else int(text)
    if number < 1 or (percent and number > 100):
        raise problem
    return max(whole * number // 100, 1) if percent else number


def unwell(
    containers: Iterable[Mapping[str, Any]], names: Iterable[str], before: Iterable[Mapping[str, Any]] = ()
) -> list[str]:
    """What is wrong with the containers ``names``, each by its name (``web is restarting``); empty when all is well.

    ``containers`` are as container_info returns them, and ``before`` are those of an earlier moment: whose process is
    another one since is not well either.
    """
    present = {container["name"]: container for container in containers}
    earlier = {container["name"]: container for container in before}
    found = ((name, _problem(present.get(name), earlier.get(name))) for name in sorted(names))
    return [f"{name} {problem}" for name, problem in found if problem]


def _problem(now: Mapping[str, Any] | None, before: Mapping[str, Any] | None) -> str:
    if now is None:
        return "is not there"
    state, health = now["state"], (now.get("health") or {}).get("status")
    if state == "exited" and now["exit_code"] != 0:
        code = "a code that nobody knows" if now["exit_code"] is None else now["exit_code"]
        return f"ended with {code}" + (" for want of memory" if now.get("oom_killed") else "")
    if state not in ("running", "paused", "exited", "created"):
        return f"is {state}"
    if state == "running" and health not in (None, "", "none", "healthy"):
        return f"is {health}"
    if before and (before["pid"], before["restarts"]) != (now["pid"], now["restarts"]) and state != "exited":
        return "was started anew meanwhile"
    return ""


def short_of(
    placed: Mapping[str, Mapping[str, Sequence[str]]],
    well: Mapping[str, Sequence[str]],
    minimums: Mapping[str, int | str] | None = None,
) -> list[str]:
    """What services lack (``web: 1 of 3 is well, and 2 must be``); empty when each has what it needs.

    ``placed`` has by host and service the replicas that are to be there, ``well`` by host the names of those that are.
    A service that has no number or percentage in ``minimums`` needs all. ValueError for one that is neither.
    """
    counts: dict[str, list[int]] = {}
    for host, services in placed.items():
        for service, names in services.items():
            count = counts.setdefault(service, [0, 0])
            count[0] += len(names)
            count[1] += len(set(names) & set(well.get(host) or ()))
    found = []
    for service, (whole, those) in sorted(counts.items()):
        needed = _minimum((minimums or {}).get(service, whole), service, whole)
        if those < needed:
            found.append(f"{service}: {those} of {whole} {'is' if those == 1 else 'are'} well, and {needed} must be")
    return found


def _minimum(value: int | str, service: str, whole: int) -> int:
    """Rounded up, as a disruption budget's is; no more than there are."""
    percent = _PERCENT.fullmatch(str(value).strip())
    if percent and int(percent[1]) <= 100:
        return -(-whole * int(percent[1]) // 100)
    if isinstance(value, bool) or not str(value).strip().isdecimal():
        what = "neither a number of replicas nor a percentage such as 50%"
        raise ValueError(f"minimums.{service}: {value!r} is {what}")
    return min(int(value), whole)
