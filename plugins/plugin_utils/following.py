# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows how far a task has got while it runs: over a second connection, in a thread, from a file that the module
writes (_image/progress.py).

A task that ends soon costs nothing: no thread of its own has done anything by then.
"""

from __future__ import annotations

import ast
import contextvars
import copy
import json
import re
import secrets
import shlex
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.loader import become_loader, connection_loader
from ansible.utils.display import Display

from . import poll

VARIABLE = "vessel_progress"
DELAY = 1.5  # seconds before anybody looks
PAUSE = 2.0  # seconds between two looks
PATIENCE = 10.0  # seconds for which a look waits for something to see
LINES_MOST = 20  # of what steps print, a look
# Workers have no stdout of their own. The strategy loads the plugin before there are workers, and so this.
TERMINAL = sys.stdout is not None and sys.stdout.isatty()
# What terminals take as commands: escape sequences, and control characters.
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)|[\x00-\x1f\x7f-\x9f]")
_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")

display = Display()


def is_wanted(task: Any, variables: Mapping[str, Any], templar: Any) -> bool:
    """Does anybody look, and is there anything to be seen?"""
    if task.check_mode or task.no_log or task.async_val:
        return False
    said = variables.get(VARIABLE)
    if said is not None:
        return boolean(templar.template(said))
    return TERMINAL or C.ANSIBLE_FORCE_COLOR


def program() -> str:
    """poll.py for a command line, where sudo logs it: without comments and documentation."""
    tree = ast.parse(Path(poll.__file__).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, (ast.Module, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            del body[0]
    return ast.unparse(tree)


class Follower:
    """While it is entered, ``action`` runs a module that was given the token."""

    def __init__(self, action: Any, variables: Mapping[str, Any]) -> None:
        self.token = secrets.token_hex(16)
        self._action = action
        # Templates are for the main thread.
        self._environment = action._compute_environment_string()
        self._root = str(action._task.args.get("root") or "")
        self._over = threading.Event()
        host, other = variables.get("inventory_hostname"), action._task.delegate_to
        self._screen = Screen(f"{host} -> {other}" if other else str(host))
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._run,), daemon=True)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *dummy: object) -> None:
        self._over.set()
        # A look ends when the file goes; of a host that hangs nobody waits for an answer.
        self._thread.join(0.5)

    def _run(self) -> None:
        try:
            if not self._over.wait(DELAY):
                self._follow(_second(self._action))
        except Exception as error:  # whatever it is, the task goes on
            display.vvv(f"progress is not shown: {type(error).__name__}: {error}")

    def _follow(self, action: Any) -> None:
        at = 0
        while not self._over.is_set():
            if self._action._used_interpreter:  # else the module has not begun
                done = action._low_level_execute_command(self._command(at))
                found, lines = parse(done["stdout"])
                if done["rc"] or found is None:
                    raise ValueError(f"a look ended with {done['rc']}: {done['stderr'] or done['stdout']}")
                if found < 0 < at:
                    return
                at = max(found, 0)
                if not self._over.is_set():
                    self._screen.show(lines)
            self._over.wait(PAUSE)

    def _command(self, at: int) -> str:
        python = self._action._used_interpreter.removeprefix("#!").strip()
        words = ["-c", program(), self._root, self.token, str(at), str(PATIENCE)]
        return f"{self._environment} {python} {shlex.join(words)}".strip()


def _second(action: Any) -> Any:
    """The action with a connection of its own, like the first one: that one is busy, and is no thread's but its own."""
    first = action._connection
    made = connection_loader.get(
        first.ansible_name, action._play_context, task_uuid=action._task._uuid, ansible_playbook_pid=""
    )
    made.set_options(direct=first.get_options())
    made._shell.set_options(direct=first._shell.get_options())
    if first.become is not None:
        become = become_loader.get(first.become.ansible_name)
        become.set_options(direct=first.become.get_options())
        made.set_become_plugin(become)
    second = copy.copy(action)
    second._connection = made
    return second


def parse(text: str) -> tuple[int | None, list[dict[str, Any]]]:
    """(where to read on, lines); None where it is no answer. Terminals add a carriage return, shells a word before."""
    found, lines = None, []
    for line in text.splitlines():
        with_number = re.fullmatch(r"-?\d+", line.strip())
        if found is None:
            found = int(line) if with_number else None
            continue
        try:
            value = json.loads(line)
        except ValueError:
            continue  # the first may be the end of one
        if isinstance(value, dict) and "what" in value:
            lines.append(value)
    return found, lines


class Screen:
    """What was shown of one host's task."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._shown: dict[str, str] = {}

    def show(self, lines: Iterable[dict[str, Any]]) -> None:
        for text in self.texts(lines):
            display.display(f"[{self._host}] {text}", color=C.COLOR_VERBOSE, screen_only=True)

    def texts(self, lines: Iterable[dict[str, Any]]) -> Iterator[str]:
        """Of each layer the last word, where it is news; of what is said the last lines."""
        blobs: dict[str, str] = {}
        said = []
        for line in lines:
            what = plain(line["what"])
            if "text" in line:
                said.append(f"{what}: {plain(line['text'])}".rstrip())
            else:
                blobs[what] = amount(line.get("done"), line.get("total"))
        if len(said) > LINES_MOST:
            yield f"({len(said) - LINES_MOST} lines more)"
        yield from said[-LINES_MOST:]
        for what, text in blobs.items():
            if self._shown.get(what) != text:
                self._shown[what] = text
                yield f"{what}: {text}"


def plain(text: Any) -> str:
    """What a terminal may be given, whoever wrote it."""
    clean = _ESCAPES.sub("", str(text)).encode("utf-8", "replace").decode()
    return _DIGEST.sub(r"\1", clean)


def amount(done: Any, total: Any) -> str:
    done, total = (value if isinstance(value, int) and value > 0 else 0 for value in (done, total))
    if not total:
        return size(done)
    return f"{size(done)} of {size(total)}, {100 * min(done, total) // total} %"


def size(number: int) -> str:
    for power, unit in ((9, "GB"), (6, "MB"), (3, "kB")):
        if number >= 10**power:
            return f"{number / 10**power:.1f} {unit}"
    return f"{number} B"
