# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong, drawn as a tree.

VesselError                 one sentence, lower case, no full stop; a hint may follow
+-- OptionError             an option of a task: its path, the value, what would be right
+-- ContainerfileError      an instruction of a Containerfile: the file, the line, what is wrong
+-- SpecError               a field of a bundle's config.json, by its path
+-- KernelError             a system call: operation, object, errno
+-- BusError                systemd, or the bus to it, refused a call: the error's name
+-- StartError              a container's child failed: step, object, errno
+-- NotFoundError           no such container, image, network, volume
+-- InUseError              it can't go, because others use it
+-- StateError              the life cycle does not allow the verb now
+-- StoreError              what lies in the store is damaged or hostile
+-- NetworkError            another host can't be reached, or stopped answering: host, reason
+-- RegistryError           a registry refused, or answered what can't be: the status and its own words
+-- SignatureError          an image is not signed as it must be
+-- MonitorError            the supervisor can't be reached or answered with an error
+-- WaitError               a time limit passed while waiting
+-- DependencyError         a program or library that the target lacks
"""

from __future__ import annotations

import errno as _errno
import os
from collections.abc import Iterator
from contextlib import contextmanager


class VesselError(Exception):
    """Base of all; ``str()`` is the sentence for the user, with the hint in parentheses."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        # What failed while undoing travels with the error that made the undoing necessary.
        self.undo_errors: list[BaseException] = []

    def __str__(self) -> str:
        text = f"{self.message} ({self.hint})" if self.hint else self.message
        # Undoing may fail of the same, a disk that is full for one; it is told once.
        others = [said for said in dict.fromkeys(map(str, self.undo_errors)) if said != text]
        if others:
            text += "; while undoing: " + "; ".join(others)
        elif self.undo_errors:
            text += "; undoing fails in the same way"
        return text


@contextmanager
def about(what: str, kinds: type[VesselError] | tuple[type[VesselError], ...] = VesselError) -> Iterator[None]:
    """Errors of these kinds begin with what they are about."""
    try:
        yield
    except kinds as error:
        if not error.message.startswith(what):
            error.message = f"{what}: {error.message}"
        raise


class OptionError(VesselError):
    """An option has a value that can't be: the option's path, the value, what would be right."""

    def __init__(self, option: str, value: object, problem: str, *, hint: str = "") -> None:
        # Of what is missing there is no value to tell.
        shown = "" if value is None and problem.startswith("is missing") else f"{value!r} "
        super().__init__(f"{option}: {shown}{problem}", hint=hint)
        self.option = option
        self.value = value
        self.problem = problem


@contextmanager
def below(path: str) -> Iterator[None]:
    """An option that is refused within is one below that path."""
    try:
        yield
    except OptionError as error:
        error.option, error.message = f"{path}.{error.option}", f"{path}.{error.message}"
        raise


class ContainerfileError(VesselError):
    """A Containerfile says what can't be: ``Containerfile:12: COPY: …``."""

    def __init__(self, file: str, line: int, problem: str, *, hint: str = "") -> None:
        super().__init__(f"{file}:{line}: {problem}", hint=hint)
        self.file = file
        self.line = line


class SpecError(VesselError):
    """A field of config.json is wrong, or asks for what this runtime does not have."""

    def __init__(self, field: str, problem: str, *, hint: str = "") -> None:
        super().__init__(f"config.json: {field}: {problem}", hint=hint)
        self.field = field


class KernelError(VesselError):
    """The kernel refused: ``mount proc on /proc: Operation not permitted (EPERM)``."""

    def __init__(self, operation: str, obj: object = "", errno: int = 0, *, hint: str = "") -> None:
        name = _errno.errorcode.get(errno, str(errno))
        where = f"{operation} {obj}" if obj != "" else operation
        super().__init__(f"{where}: {os.strerror(errno)} [{name}]", hint=hint)
        self.operation = operation
        self.obj = str(obj)
        self.errno = errno


class BusError(VesselError):
    """A method call over D-Bus failed; ``name`` is the error's, empty where no answer came."""

    def __init__(self, name: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"systemd: {message or name}", hint=hint)
        self.name = name


class StartError(VesselError):
    """A container's child could not get as far as its command; ``errno`` is 0 where no system call failed."""

    def __init__(self, message: str, *, step: str = "", errno: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.step = step
        self.errno = errno

    @property
    def exit_code(self) -> int:
        """As shells have it: 127 for a command that is not there, 126 for one that can't be executed."""
        return 127 if self.errno in (_errno.ENOENT, _errno.ENOTDIR) else 126


class NotFoundError(VesselError):
    """There is no such object."""

    def __init__(self, kind: str, name: str, *, hint: str = "") -> None:
        super().__init__(f"no such {kind}: {name}", hint=hint)
        self.kind = kind
        self.name = name


class InUseError(VesselError):
    """It is used, so it can't be removed or changed."""

    def __init__(self, kind: str, name: str, users: list[str], *, hint: str = "") -> None:
        super().__init__(f"{kind} {name} is in use by {', '.join(sorted(users))}", hint=hint)
        self.kind = kind
        self.name = name
        self.users = users


class StateError(VesselError):
    """The verb is not legal in the container's present state."""


class StoreError(VesselError):
    """The store, or an archive on its way into it, is not as it must be."""


class NetworkError(VesselError):
    """No whole answer came over the network.

    ``temporary``: another attempt may do better; ``timed_out``: no byte came in the time that was given; ``not_tls``:
    the other side speaks, and it is not TLS.
    """

    def __init__(
        self,
        host: str,
        reason: str,
        *,
        temporary: bool = False,
        timed_out: bool = False,
        not_tls: bool = False,
        hint: str = "",
    ) -> None:
        super().__init__(f"{host}: {reason}", hint=hint)
        self.host = host
        self.temporary = temporary
        self.timed_out = timed_out
        self.not_tls = not_tls


class RegistryError(VesselError):
    """A registry's answer is an error, or none that the distribution-spec has; ``status`` is HTTP's."""

    def __init__(self, message: str, *, status: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class SignatureError(VesselError):
    """No signature says that this is the image, by the key that was given."""


class MonitorError(VesselError):
    """The supervisor did not do as asked."""


class WaitError(VesselError):
    """What was waited for did not happen in time."""


class DependencyError(VesselError):
    """The target lacks a program or a library."""
