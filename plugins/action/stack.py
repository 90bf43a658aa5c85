# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action of stack: compose files become its options here, for they are the controller's, and its images may be made
from files of the controller's, as image has it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError, AnsibleFileNotFound
from ansible.utils.display import Display
from ansible_collections.vessel.host.plugins.action import image
from ansible_collections.vessel.host.plugins.plugin_utils.compose.errors import ComposeError
from ansible_collections.vessel.host.plugins.plugin_utils.compose.options import COMPOSE, given_of
from ansible_collections.vessel.host.plugins.plugin_utils.compose.stacks import beside, stack

display = Display()


class ActionModule(image.ActionModule):
    """As image's, for each of the stack's."""

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        args = self._task.args
        alone = next((name for name in COMPOSE if args.get(name) is not None and args.get("compose") is None), "")
        if alone:
            raise AnsibleActionFail(f"{alone}: {args[alone]!r} says something of compose, which is missing")
        if args.get("compose") is not None:
            try:
                self._task.args = self._composed(args)
            except ComposeError as error:
                raise AnsibleActionFail(str(error)) from None
        return super().run(tmp, task_vars)

    def _images(self) -> Iterator[dict[str, Any]]:
        images = self._task.args.get("images")
        if self._task.args.get("state") != "absent" and isinstance(images, Mapping):
            yield from (body for body in images.values() if isinstance(body, dict))

    def _composed(self, args: dict[str, Any]) -> dict[str, Any]:
        """The task's options, with what the compose files say."""
        base = self._task.get_search_path()[0] if self._task._role else self._loader.get_basedir()
        given = given_of(args, self._found, base)
        composed, missing = stack(given, self._read)
        for name in sorted(missing):
            display.warning(f"compose: the variable {name} is not set, and stands for nothing")
        rest = {name: value for name, value in args.items() if name not in COMPOSE}
        # Who goes back is told what the host has kept, not what files say now.
        return {**rest, "name": composed["name"]} if args.get("state") == "rolled_back" else beside(composed, rest)

    def _found(self, option: str, name: str) -> str:
        """A path on the controller, as copy finds it."""
        try:
            return str(self._find_needle("files", name))
        except AnsibleFileNotFound as error:
            where = ", ".join(dict.fromkeys(map(str, error.paths or [name])))
            problem = f"is not on the controller; it was looked for as {where}"
            raise ComposeError("", option, name, problem) from None

    def _read(self, path: str) -> bytes:
        """A file of the controller's, decrypted where it is a vault."""
        os.stat(path)
        if not os.path.isfile(path):
            raise OSError(errno.EINVAL, "it is no file")
        try:
            real = self._loader.get_real_file(path)
        except AnsibleError as error:
            raise OSError(errno.EACCES, str(error)) from None
        try:
            with open(real, "rb") as file:
                return file.read()
        finally:
            self._loader.cleanup_tmp_file(real)
