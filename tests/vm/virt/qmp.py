# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's monitor (docs/interop/qmp-spec): one command, one answer; events in between are passed over."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Optional

from .errors import VmError


class Monitor:
    """A connection to ``qmp.sock`` of a machine's directory. QEMU serves one client at a time."""

    def __init__(self, directory: Path, timeout: float = 60.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        # By a descriptor, because a socket's path is at most 107 bytes long, and a checkout's may be longer.
        handle = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        try:
            self._socket.connect(f"/proc/self/fd/{handle}/qmp.sock")
        except OSError as error:
            self._socket.close()
            raise VmError(f"the monitor of {directory.name} does not answer: {error.strerror}") from None
        finally:
            os.close(handle)
        self._file = self._socket.makefile("rw", encoding="utf-8")
        self._answer()  # the greeting
        self.execute("qmp_capabilities")

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], value: Any, trace: Optional[TracebackType]) -> None:
        self._file.close()
        self._socket.close()

    def execute(self, command: str, **arguments: Any) -> Any:
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        while "event" in (answer := self._answer()):
            pass
        if "error" in answer:
            raise VmError(f"QEMU refused {command}: {answer['error']['desc']}")
        return answer["return"]

    def human(self, line: str) -> str:
        """A command that has no other form; what it prints. Those of snapshots print nothing when all is well."""
        return str(self.execute("human-monitor-command", **{"command-line": line}))

    def wait(self, event: str, timeout: float) -> None:
        """Until QEMU tells of the event, from this connection's beginning on."""
        self._socket.settimeout(timeout)
        try:
            while self._answer().get("event") != event:
                pass
        except TimeoutError:
            raise VmError(f"there was no {event} within {timeout:g} s") from None

    def _answer(self) -> dict[str, Any]:
        line = self._file.readline()
        if not line:
            raise VmError("QEMU ended while it was asked something")
        return dict(json.loads(line))
