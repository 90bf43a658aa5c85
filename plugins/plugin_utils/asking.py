# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the hosts of an inventory by a task, while that inventory is still being read.

A play asks them, in this process: so the connections, their options, becoming root and the variables' files are
Ansible's own. Of that play nothing may be seen afterwards: it is not the one that the inventory is read for.
"""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleError
from ansible.executor.task_queue_manager import TaskQueueManager
from ansible.inventory.host import Host
from ansible.inventory.manager import InventoryManager
from ansible.playbook.play import Play
from ansible.plugins.callback import CallbackBase
from ansible.utils.context_objects import CLIArgs
from ansible.utils.display import Display
from ansible.vars.manager import VariableManager

# What a command line says of the play that it is for, and not of how hosts are reached.
OF_PLAYS = ("check", "diff", "flush_cache", "force_handlers", "skip_tags", "start_at_task", "step", "subset", "tags")

display = Display()


def reaching() -> dict[str, Any]:
    """What the command line says of how hosts are reached, or its defaults; that of ansible-inventory has neither."""
    defaults = {
        "connection": C.DEFAULT_TRANSPORT,
        "remote_user": C.DEFAULT_REMOTE_USER,
        "private_key_file": C.DEFAULT_PRIVATE_KEY_FILE,
        "become": C.DEFAULT_BECOME,
        "become_method": C.DEFAULT_BECOME_METHOD,
        "become_user": None,
        "forks": C.DEFAULT_FORKS,
    }
    return {name: context.CLIARGS.get(name, default) for name, default in defaults.items()}


class Hosts:
    """The hosts that an inventory has so far, as a play sees them."""

    def __init__(self, data: Any, loader: Any, source: str) -> None:
        """``data`` is what an inventory plugin is given, and stays as it is; ``source`` is that plugin's own."""
        self._loader = loader
        self._manager = InventoryManager(loader, sources=[*data.processed_sources, source], parse=False)
        # The plugin has a proxy of it; groups are not yet what reconciling makes of them.
        self._manager._inventory = copy.deepcopy(getattr(data, "__wrapped__", data))
        self._manager.reconcile_inventory()
        self._variables = VariableManager(loader=loader, inventory=self._manager)

    def matching(self, pattern: str) -> list[str]:
        return [host.name for host in self._manager.get_hosts(pattern)]

    def group(self, name: str) -> list[str]:
        group = self._manager.groups.get(name)
        return [host.name for host in group.get_hosts()] if group else []

    def variables(self, name: str) -> dict[str, Any]:
        """The host's variables, as they are written: templates are templates."""
        return self._of(self._manager.get_host(name))

    def variables_of_all(self) -> dict[str, Any]:
        """What every host has that comes to this inventory, of the group all and of its files."""
        nobody = Host("vessel nobody")  # which no inventory has
        nobody.add_group(self._manager.groups["all"])
        return self._of(nobody)

    def _of(self, host: Host) -> dict[str, Any]:
        return dict(self._variables.get_vars(host=host, include_hostvars=False, stage="all"))

    def ask(self, pattern: str, names: Sequence[str], task: Mapping[str, Any], forks: int) -> dict[str, Any]:
        """The task's result of each of these hosts, which match the pattern; of one that gave none nothing.

        A host that could not be reached has ``unreachable`` in its result, one where the task failed ``failed``.
        """
        play = {
            "name": "vessel.host.containers",
            "hosts": pattern,
            "gather_facts": False,
            "strategy": "ansible.builtin.linear",
            "any_errors_fatal": False,
            "tasks": [{**task, "check_mode": False, "debugger": "never"}],
        }
        before = _Process()
        results, queue = _Results(), None
        try:
            self._manager.restrict_to_hosts([self._manager.get_host(name) for name in names])
            queue = _Queue(results, self._manager, self._variables, self._loader, passwords={}, forks=forks)
            queue.run(Play.load(play, variable_manager=self._variables, loader=self._loader))
        except AnsibleError as error:  # as of a worker that was killed; others may have answered
            display.warning(f"vessel.host.containers: the hosts were not all asked: {error}")
        finally:
            try:
                if queue is not None:
                    queue.cleanup()
            finally:
                self._manager.remove_restriction()
                before.restore()
        return results.by_host


class _Results(CallbackBase):  # type: ignore[misc]
    """Keeps the result of each host."""

    def __init__(self) -> None:
        super().__init__()
        self.by_host: dict[str, Any] = {}
        self._init_callback_methods()

    def v2_runner_on_ok(self, result: Any) -> None:
        self.by_host[result.host.name] = result.result

    # What callbacks are given does not say itself whether it is good.
    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self.by_host[result.host.name] = {**result.result, "failed": True}

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self.by_host[result.host.name] = {**result.result, "unreachable": True}


class _Queue(TaskQueueManager):  # type: ignore[misc]
    """Tells of the play to nobody else: plugins that write reports would report a play that nobody has asked for."""

    def __init__(self, results: _Results, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._callback_plugins = [results]
        self._workers = _Workers()

    def load_callbacks(self) -> None:
        pass

    def cleanup(self) -> None:
        super().cleanup()
        self._workers.end_what_is_left()


class _Workers(list[Any]):
    """The workers' places, and who has ever had one.

    A task that is out of time leaves its ssh, which would wait for a host that hangs for as long as we live and longer.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sessions: set[int] = set()

    def __getitem__(self, place: Any) -> Any:
        """Who is looked at may have ended, and then another one gets the place."""
        worker = super().__getitem__(place)
        self._note(worker)
        return worker

    def _note(self, worker: Any) -> None:
        if worker is not None and worker.pid:
            self._sessions.add(worker.pid)

    def end_what_is_left(self) -> None:
        """A worker leads a session of its own, that its processes are in; the master of ssh's ControlPersist is not."""
        for worker in self:
            self._note(worker)
        for session in self._sessions:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(session, signal.SIGTERM)


class _Process:
    """What a play changes of the process that runs it, and of which the play to come has its own idea."""

    def __init__(self) -> None:
        self._signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self._inheritable = {fd: os.get_inheritable(fd) for fd in range(3) if _is_open(fd)}
        self._arguments = context.CLIARGS
        given = {name: value for name, value in self._arguments.items() if name not in OF_PLAYS}
        context.CLIARGS = CLIArgs({**reaching(), **given})

    def restore(self) -> None:
        context.CLIARGS = self._arguments
        for fd, inheritable in self._inheritable.items():
            os.set_inheritable(fd, inheritable)
        for number, handler in self._signals.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
