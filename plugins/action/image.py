# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action of image: a file of the controller's (``src``) is sent when the target needs it.

The module is given the file's digest, and answers that it needs the file, or does without. The plugin has its own name
for following.py's sake too: a strategy looks a task's plugin up by that before there are workers, and only then is a
terminal to be seen.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible_collections.vessel.host.plugins.action import container
from ansible_collections.vessel.host.plugins.module_utils._options.sent import ASKING, CONTENTS, WANTED
from ansible_collections.vessel.host.plugins.plugin_utils import content


class ActionModule(container.ActionModule):
    """As any of the collection's, with what it sends."""

    _keeps = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        files: dict[str, str] = {}
        packed: dict[str, str] = {}
        try:
            for body in self._images():
                self._take(body, files, packed)
            return self._run_with(files, packed, tmp, task_vars) if files else super().run(tmp, task_vars)
        finally:
            for name, path in files.items():
                if name in packed:
                    os.unlink(path)
                else:
                    self._loader.cleanup_tmp_file(path)

    def _images(self) -> Iterator[dict[str, Any]]:
        """Options of images; what is of another form is for the module to refuse."""
        if self._task.args.get("state") != "absent":
            yield self._task.args

    def _take(self, body: dict[str, Any], files: dict[str, str], packed: dict[str, str]) -> None:
        """What an image's options name on the controller. A context is packed, and its Containerfile read."""
        name, text = body.get("src"), body.get("containerfile")
        if not isinstance(name, str):
            return
        path = content.find(self, name, context=isinstance(text, str))
        if isinstance(text, str):
            body["containerfile"] = content.containerfile(path, text)
        if name in files:
            return
        if isinstance(text, str):
            path, packed[name] = content.pack(path, C.DEFAULT_LOCAL_TMP)
        files[name] = path

    def _run_with(
        self, files: dict[str, str], packed: dict[str, str], tmp: None, task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        keys = {name: packed.get(name) or content.key(path, C.DEFAULT_LOCAL_TMP) for name, path in files.items()}
        known = {name: {"key": key, "path": ""} for name, key in keys.items()}
        self._internal[CONTENTS] = known
        # A job in the background can't be answered: it is asked before whether it will need anything.
        result = self._ask(task_vars) if self._task.async_val else super().run(tmp, task_vars)
        wanted = result.pop(WANTED, None)
        if wanted is None or result.get("failed"):
            return result
        with self._tmp_path_kept():
            for number, name in enumerate(wanted):
                known[name]["path"] = self._send(files[name], _file_name(number, name))
            result = super().run(tmp, task_vars)
        if WANTED in result:
            raise AnsibleActionFail(f"src: {', '.join(wanted)} was sent, and is needed again; please report it")
        return result

    def _ask(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        self._internal[ASKING] = True
        try:
            return self._execute_module(task_vars=task_vars)
        finally:
            del self._internal[ASKING]

    @contextlib.contextmanager
    def _tmp_path_kept(self) -> Iterator[None]:
        """What was sent is there for as often as the module has to be run; a job in the background takes it away."""
        self._keeps = True
        try:
            yield
        finally:
            self._keeps = False
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _remove_tmp_path(self, tmp_path: str | None, force: bool = False) -> None:
        if not self._keeps:
            super()._remove_tmp_path(tmp_path, force)

    def _send(self, path: str, name: str) -> str:
        """Into Ansible's own directory on the target, which goes with the task; its path there."""
        shell = self._connection._shell
        if shell.tmpdir is None:
            self._make_tmp_path()
        there = shell.join_path(shell.tmpdir, name)
        self._transfer_file(path, there)
        self._fixup_perms2((shell.tmpdir, there), execute=False)
        return there


def _file_name(number: int, name: str) -> str:
    """What errors name must remind of what the option says, and pass through any shell."""
    return f"{number}-{re.sub('[^A-Za-z0-9._-]', '_', os.path.basename(name))}"
