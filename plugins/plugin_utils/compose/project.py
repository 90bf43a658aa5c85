# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A compose project as the options of a stack: what is enabled, how it is called, and what of it is declared."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError
from ansible_collections.vessel.host.plugins.module_utils._options.parse import parse_name
from ansible_collections.vessel.host.plugins.module_utils._options.record import Option

from . import form
from .attributes import SERVICE, TOP, Fate
from .errors import NOTHING, ComposeError, raise_all
from .interpolate import Variables, substitute
from .load import INLINE, Files, Loader, Model, Read, project_name
from .merge import as_list, as_names
from .values import is_true

_REFUSED = [attribute.name for attribute in TOP if attribute.fate is Fate.refused]
_BELOW = {attribute.name: attribute.below for attribute in TOP}


@dataclass(frozen=True)
class Given:
    """The options of a task that speak of compose files; ``base`` is where its own relative paths start."""

    compose: Any
    base: str
    name: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    env_files: Sequence[str] = ()
    profiles: Sequence[str] | None = None
    project_directory: str = ""
    target_directory: str = ""


class Project:
    """``services`` are those that are enabled. What it becomes is in stack(), see stacks.py."""

    def __init__(self, given: Given, read: Read) -> None:
        self.files = Files(read)
        self.target_directory = given.target_directory
        files = [_placed(one, given.base) for one in as_list(given.compose)]
        self.directory = _directory(given, files)
        known = self.files.variables(
            [os.path.join(given.base, name) for name in given.env_files],
            self.directory,
            Variables(given.variables),
            "compose_env_files",
        )
        self.name = given.name or known.get("COMPOSE_PROJECT_NAME") or self._own_name(files, known)
        self.variables = Variables({**known.values, "COMPOSE_PROJECT_NAME": self.name}, known.missing)
        self.model = Loader(self.files, self.directory, self.variables).load(files)
        self.services = self._enabled(self._profiles(given))

    def _own_name(self, files: list[Any], known: Variables) -> str:
        """What the last file says that names one; else that of the directory. Others can be made of it by variables."""
        name = ""
        for one in files:
            file = one if isinstance(one, str) else INLINE
            for found in self.files.documents(one, one, "", INLINE) if isinstance(one, str) else [one]:
                if isinstance(found.get("name"), str) and found["name"]:
                    name = _checked_name(substitute(found["name"], known, file, "name"), file)
        name = name or project_name(os.path.basename(self.directory))
        if not name:
            problem = "is a directory of whose name no project's can be made"
            raise ComposeError("", "name", self.directory, problem, "give name")
        return name

    def at(self, *path: str | int) -> At:
        return At(self.files, path)

    def resources(self, kind: str) -> dict[str, Any]:
        return dict(self.model.get(kind) or {})

    # what is enabled

    def _profiles(self, given: Given) -> set[str]:
        if given.profiles is not None:
            return set(given.profiles)
        words = (self.variables.get("COMPOSE_PROFILES") or "").split(",")
        return {word.strip() for word in words if word.strip()}

    def _enabled(self, active: set[str]) -> dict[str, Model]:
        every = self.resources("services")
        if not every:
            raise self.at().error(NOTHING, "has no services")
        result = {}
        for name, body in every.items():
            profiles = set(body.get("profiles") or ())
            if not profiles or "*" in active or profiles & active:
                result[name] = body
        refused = self._refused({name: self.model[name] for name in _REFUSED if name in self.model}, TOP)
        for name, body in result.items():
            refused += self._refused(body, SERVICE, "services", name)
        raise_all(refused)
        for name, body in result.items():
            self._check(name, body, every, result)
        return result

    def _check(self, name: str, body: Model, every: Model, enabled: Model) -> None:
        at = self.at("services", name)
        if not body.get("image") and not body.get("build"):
            raise at.error(NOTHING, "has neither image nor build; a container is made from one of them")
        for other in self.dependencies(body):
            if other not in enabled:
                hint = f"it is in the profiles {', '.join(every[other]['profiles'])}" if other in every else ""
                problem = "names no service" if other not in every else "names a service that is not enabled"
                raise at.below("depends_on").error(other, problem, hint)

    def _refused(self, body: Any, attributes: Any, *place: str) -> list[ComposeError]:
        """Of each thing in it that there is not here."""
        at = self.at(*place)
        return [
            at.below(*path.replace("[", ".[").split(".")).error(value, reason)
            for path, value, reason in form.refusals(body, attributes, "")
        ]

    def dependencies(self, body: Model) -> list[str]:
        """Names of services that it needs; one that it does without is not among them."""
        return [
            name for name, how in as_names(body.get("depends_on")).items() if is_true((how or {}).get("required", True))
        ]

    def declared(self, kind: str, name: str, at: At) -> Model:
        """A network, volume, secret or config of the model, by the name that a service has for it."""
        resources = self.resources(kind)
        if name not in resources:
            there = ", ".join(sorted(resources)) or "none"
            raise at.error(name, f"is not declared in {kind}; there are {there}")
        body = resources[name] or {}
        raise_all(self._refused(body, _BELOW[kind], kind, name))
        return body


@dataclass(frozen=True)
class At:
    """A place in the model, by which an error finds its file."""

    files: Files
    path: tuple[str | int, ...]

    def below(self, *path: str | int) -> At:
        return At(self.files, (*self.path, *path))

    @property
    def text(self) -> str:
        return "".join(_step(part) for part in self.path).removeprefix(".")

    def error(self, value: Any, problem: str, hint: str = "") -> ComposeError:
        names = [part for part in self.path if isinstance(part, str) and not part.startswith("[")]
        return ComposeError(self.files.origin(names), self.text, value, problem, hint)

    def checked(self, option: Option, value: Any) -> Any:
        """The value, which the option takes; what it would say of another one is said of the attribute."""
        try:
            option.parse(value, self.text)
        except OptionError as error:
            file = self.error(NOTHING, "").file
            raise ComposeError(file, error.option, error.value, error.problem, error.hint) from None
        return value

    def item(self, option: Option, value: Any) -> None:
        """As checked(), of one element of a list that the option takes."""
        try:
            option.parse([value], self.text)
        except OptionError as error:
            path = self.text + error.option.removeprefix(f"{self.text}[0]")
            raise ComposeError(self.error(NOTHING, "").file, path, error.value, error.problem, error.hint) from None

    def name(self, value: str) -> str:
        return str(self.checked(_NAME, value))


_NAME = Option("name", parse_name)


def _step(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return part if part.startswith("[") else f".{part}"


def _checked_name(name: str, file: str) -> str:
    if name != project_name(name):
        problem = "is no project's name; use lower-case letters, digits, - and _, a letter or digit first"
        raise ComposeError(file, "name", name, problem)
    return name


def _placed(one: Any, base: str) -> Any:
    if isinstance(one, Mapping):
        return one
    if not isinstance(one, str) or not one.strip():
        raise ComposeError("", INLINE, one, "is neither a file's path nor a mapping, nor a list of these")
    return os.path.join(base, os.path.expanduser(one))


def _directory(given: Given, files: list[Any]) -> str:
    """Where relative paths of the project start."""
    if given.project_directory:
        return os.path.normpath(os.path.join(given.base, os.path.expanduser(given.project_directory)))
    first = files[0] if files else None
    return os.path.dirname(os.path.normpath(first)) if isinstance(first, str) else given.base
