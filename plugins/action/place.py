# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action place: once for the play, on the controller, with what is known of its hosts."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError, VesselError
from ansible_collections.vessel.host.plugins.module_utils._options.parse import choice, parse_bool
from ansible_collections.vessel.host.plugins.plugin_utils.place import gather, placement
from ansible_collections.vessel.host.plugins.plugin_utils.plain import plain


class ActionModule(ActionBase):
    BYPASS_HOST_LOOP = True
    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(("services", "hosts", "strategy", "lost_hosts", "partial", "root"))

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            found = self._place(plain(self._task.args), task_vars or {})
        except VesselError as error:
            raise AnsibleActionFail(str(error)) from None
        partial = found.pop("partial")
        result.update(changed=False, placement=found)
        if found["unplaced"] and not partial:
            result.update(failed=True, msg=_complaint(found["unplaced"]))
        return result

    def _place(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        if args.get("services") is None:
            raise OptionError("services", None, "is missing; the option is required")
        partial = parse_bool(args.get("partial", False), "partial")
        lost = choice("fail", "forget")(args.get("lost_hosts", "fail"), "lost_hosts")
        everyone = variables.get("ansible_play_hosts_all") or []
        # Without it the others of the play would be told nothing.
        if not self._task.run_once and len(everyone) > 1:
            raise OptionError("run_once", False, "is not set for this task; one placement is for all hosts of the play")
        hosts = args.get("hosts")
        if hosts is None:
            hosts = self._hosts(everyone, variables, lost, facts="facts" in str(args["services"]))
        found = placement.place(args["services"], hosts, args.get("strategy", "spread"))
        return {**found, "partial": partial}

    def _hosts(self, everyone: list[str], variables: dict[str, Any], lost: str, *, facts: bool) -> dict[str, Any]:
        limit = variables.get("ansible_limit")
        if limit:
            problem = "is the play's limit, and all would be placed on what is left; run without it, or give hosts"
            raise OptionError("--limit", limit, problem)
        there = [name for name in everyone if name in variables["ansible_play_hosts"]]
        gone = sorted(set(everyone) - set(there))
        if gone and lost == "fail":
            problem = "have failed or can't be reached, and what runs there would be placed elsewhere"
            raise OptionError("hosts", gone, problem, hint="lost_hosts: forget says that they are gone for good")
        return plain(gather.hosts(there, variables["hostvars"], facts=facts))


def _complaint(unplaced: list[dict[str, Any]]) -> str:
    """Of each service the first one; the others have the same reason."""
    firsts = {one["service"]: one for one in reversed(unplaced)}
    numbers = {name: sum(1 for one in unplaced if one["service"] == name) for name in firsts}
    told = [f"{one['replica']}{_more(numbers[name] - 1)}: {one['reason']}" for name, one in sorted(firsts.items())]
    return f"no host for {len(unplaced)} containers: {'; '.join(told)}"


def _more(number: int) -> str:
    return f" and {number} more" if number else ""
