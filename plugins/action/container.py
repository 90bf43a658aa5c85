# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs every module of the collection (meta/runtime.yml leads here) with the engine that is installed on the host, and
shows how far those have got that may take long.

Where no engine is, a module runs in the ordinary way, and every one works without this plugin too. It rests on what
ansible-core calls private; when any of that is not as it was, the ordinary way is taken.
"""

from __future__ import annotations

from typing import Any

from ansible import constants as C
from ansible.plugins.action.normal import ActionModule as NormalActionModule
from ansible.utils.collection_loader import resource_from_fqcr
from ansible.utils.display import Display
from ansible_collections.vessel.host.plugins.module_utils._options.sent import PROGRESS

try:
    from ansible_collections.vessel.host.plugins.plugin_utils import installed
except ImportError:
    installed = None
from ansible_collections.vessel.host.plugins.plugin_utils import following
from ansible_collections.vessel.host.plugins.plugin_utils.launcher import ABSENT

display = Display()
# Modules that tell how far they have got: images are fetched, loaded and built.
TELLING = ("container", "image", "stack")


class ActionModule(NormalActionModule):
    """As any module's, but for what is sent."""

    _light = False
    _absent = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._internal: dict[str, Any] = {}  # what the module is told beside its options

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        # What runs detached can't be asked whether it ran, and who keeps remote files wants to look into them.
        usable = installed is not None and not self._absent
        self._light = usable and not self._task.async_val and not C.DEFAULT_KEEP_REMOTE_FILES
        result = super().run(tmp, task_vars)
        if result.pop(ABSENT, False):
            self._absent, self._light = True, False
            result = super().run(tmp, task_vars)
        return result

    def _execute_module(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        variables = kwargs.get("task_vars") or {}
        telling = resource_from_fqcr(self._task.action) in TELLING
        if not telling or not following.is_wanted(self._task, variables, self._templar):
            return super()._execute_module(*args, **kwargs)
        with following.Follower(self, variables) as follower:
            self._internal[PROGRESS] = follower.token
            return super()._execute_module(*args, **kwargs)

    def _is_pipelining_enabled(self, module_style: str, wrap_async: bool = False) -> bool:
        # Ansible's default is off for sudo's requiretty alone; where nobody becomes another, nothing is against it.
        safe = self._light and self._connection.has_pipelining and self._connection.become is None
        return safe or super()._is_pipelining_enabled(module_style, wrap_async)

    def _configure_module(self, module_name: str, module_args: dict[str, Any], task_vars: dict[str, Any]) -> Any:
        if module_name == self._task.action:
            module_args = {**module_args, **self._internal}
        if self._light and module_name == self._task.action:
            try:
                return self._configure_light(module_name, module_args, task_vars)
            except Exception as error:  # an interpreter that is not known yet, or another ansible-core
                display.vvv(f"the installed engine is not used: {type(error).__name__}: {error}")
                self._light = False
        return super()._configure_module(module_name, module_args, task_vars)

    def _configure_light(self, name: str, args: dict[str, Any], task_vars: dict[str, Any]) -> tuple[Any, str]:
        path = self._shared_loader_obj.module_loader.find_plugin_with_context(name, ".py").plugin_resolved_path
        host = self._task.delegate_to
        variables = task_vars["ansible_delegated_vars"][host] if host else task_vars
        local = bool(getattr(self._connection, "_remote_is_local", False))
        return installed.build(path, args, (variables, self._templar, (), local)), path
