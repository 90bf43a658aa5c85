# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compose files, with all that they include and extend, as one model: checked, its variables replaced, merged."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import document, envfile, form, places
from .attributes import SERVICE, TOP
from .errors import NOTHING, ComposeError
from .interpolate import Variables, interpolate
from .merge import as_list, merge, settled

# A file's content; OSError for one that can't be read.
Read = Callable[[str], bytes]
Model = dict[str, Any]
INLINE = "compose"  # what errors call content that is no file
_RESOURCES = ("services", "networks", "volumes", "secrets", "configs", "models")


class Files:
    """Reads files of one project; ``sources`` are the documents, the later ones over the earlier, by which an attribute
    of the model finds the file that it is from."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.sources: list[tuple[str, Model]] = []

    def text(self, path: str, named: str, file: str, where: str) -> str:
        """A file that the attribute ``where`` of ``file`` names so."""
        try:
            return self._read(path).decode("utf-8")
        except UnicodeDecodeError:
            raise ComposeError(file, where, named, f"is no UTF-8 text, on the controller at {path}") from None
        except OSError as error:
            problem = f"can't be read on the controller, at {path}: {error.strerror or error}"
            raise ComposeError(file, where, named, problem) from None

    def documents(self, path: str, named: str, file: str, where: str) -> list[Model]:
        """Those of a compose file."""
        return document.parse(self.text(path, named, file, where), path)

    def variables(
        self, names: Sequence[str], directory: str, known: Variables, where: str, file: str = ""
    ) -> Variables:
        """What is known, over what env files say; without names the file .env, if it is there."""
        chosen = list(names) or ([".env"] if os.path.isfile(os.path.join(directory, ".env")) else [])
        found: dict[str, str] = {}
        for name in chosen:
            path = os.path.join(directory, os.path.expanduser(name))
            looked = known.over(found)
            found.update(envfile.parse(self.text(path, name, file, where), path, looked.get))
        return known.over(found)

    def origin(self, path: Sequence[str]) -> str:
        """The file of the last document that says most of that path."""
        best, depth = "", 0
        for file, found in self.sources:
            reached = _depth(found, path)
            if reached >= max(depth, 1):
                best, depth = file, reached
        return best or (self.sources[-1][0] if self.sources else "")


def _depth(value: Any, path: Sequence[str]) -> int:
    for depth, name in enumerate(path):
        if isinstance(value, document.Override):
            value = value.content
        if not isinstance(value, dict) or name not in value:
            return depth
        value = value[name]
    return len(path)


class Loader:
    """``directory`` is where relative paths start; ``chain`` are the files that led here by include."""

    def __init__(self, files: Files, directory: str, variables: Variables, chain: tuple[str, ...] = ()) -> None:
        self.files, self.directory, self.variables, self.chain = files, directory, variables, chain

    def load(self, given: Sequence[str | Mapping[str, Any]], where: str = "compose", asker: str = "") -> Model:
        """Files and contents, the later over the earlier."""
        model: Model = {}
        for one in given:
            if isinstance(one, str):
                path = os.path.normpath(os.path.join(self.directory, os.path.expanduser(one)))
                if path in self.chain:
                    problem = f"includes itself: {' -> '.join((*self.chain, path))}"
                    raise ComposeError(asker, where, one, problem)
                documents = self.files.documents(path, one, asker, where)
                chain = (*self.chain, path)
            else:
                path, documents, chain = INLINE, [document.plain(one, INLINE)], self.chain
            for found in documents:
                model = merge(model, self._whole(found, path, model, chain), path)
        return model

    def _whole(self, found: Model, file: str, before: Model, chain: tuple[str, ...]) -> Model:
        """The document, with what it includes and extends."""
        found = self._checked(found, file)
        included = self._included(found.pop("include", None) or [], file, chain)
        extended = self._extended(found, file, {**before, **included})
        self.files.sources.append((file, found))
        for kind in _RESOURCES:
            for name in set(included.get(kind) or {}) & set(extended.get(kind) or {}):
                hint = "put what is to be over it into a file after that one, in include.path or after this one"
                raise ComposeError(file, f"{kind}.{name}", NOTHING, "is in an included file too", hint)
        return {**extended, **_joined(included, extended)} if included else extended

    def _checked(self, found: Model, file: str) -> Model:
        found = interpolate(found, self.variables, file)
        form.check(found, TOP, file)
        return found

    # include

    def _included(self, entries: Any, file: str, chain: tuple[str, ...]) -> Model:
        model: Model = {}
        for index, entry in enumerate(settled(entries)):
            where = f"include[{index}]"
            found = self._include({"path": entry} if isinstance(entry, str) else entry, file, where, chain)
            for kind in _RESOURCES:
                for name in set(model.get(kind) or {}) & set(found.get(kind) or {}):
                    if model[kind][name] != found[kind][name]:
                        raise ComposeError(
                            file, where, name, f"is in {kind} of another included file too, and not the same"
                        )
            model = {**model, **_joined(model, found)}
        return model

    def _include(self, entry: Model, file: str, where: str, chain: tuple[str, ...]) -> Model:
        paths = [os.path.join(self.directory, path) for path in as_list(entry["path"])]
        directory = os.path.dirname(os.path.normpath(paths[0]))
        if entry.get("project_directory"):
            directory = os.path.normpath(os.path.join(self.directory, entry["project_directory"]))
        names = [os.path.join(self.directory, name) for name in as_list(entry.get("env_file"))]
        variables = self.files.variables(names, directory, self.variables, f"{where}.env_file", file)
        loaded = Loader(self.files, directory, variables, chain).load(paths, f"{where}.path", file)
        return places.moved({kind: loaded[kind] for kind in _RESOURCES if kind in loaded}, directory, self.directory)

    # extends

    def _extended(self, found: Model, file: str, before: Model) -> Model:
        services = found.get("services")
        if not isinstance(services, dict):
            return found
        known = {**(before.get("services") or {}), **services}
        return {**found, "services": {name: self._service(name, known, file, ()) for name in services}}

    def _service(self, name: str, services: Mapping[str, Any], file: str, chain: tuple[str, ...]) -> Any:
        """The service over what it extends."""
        own = services[name]
        if not isinstance(own, dict) or not own.get("extends"):
            return own
        step = f"{name} in {file}"
        where = f"services.{name}.extends"
        if step in chain:
            raise ComposeError(file, where, NOTHING, f"is a cycle: {' -> '.join((*chain, step))}")
        extends = settled(own["extends"])
        extends = {"service": extends} if isinstance(extends, str) else extends
        form.check_required(extends, _EXTENDS, file, where)
        base, source = self._base(extends, services, file, where, (*chain, step))
        self.files.sources.append((source, {"services": {name: base}}))
        rest = {key: value for key, value in own.items() if key != "extends"}
        return merge(settled(base), rest, file, ("services", name))

    def _base(
        self, extends: Model, services: Mapping[str, Any], file: str, where: str, chain: tuple[str, ...]
    ) -> tuple[Any, str]:
        name, other = extends["service"], extends.get("file")
        path, directory = file, self.directory
        if other:
            path = os.path.normpath(os.path.join(self.directory, other))
            directory = os.path.dirname(path)
            services = {}
            for found in self.files.documents(path, other, file, f"{where}.file"):
                services = merge(services, self._checked(found, path).get("services"), path, ("services",))
        if name not in services:
            there = ", ".join(sorted(services)) or "none"
            raise ComposeError(file, f"{where}.service", name, f"is no service of {path}; there are {there}")
        inner = Loader(self.files, directory, self.variables, self.chain)
        base = inner._service(name, services, path, chain)
        return places.moved({"services": {name: base}}, directory, self.directory)["services"][name], path


_EXTENDS = next(attribute.below for attribute in SERVICE if attribute.name == "extends")


def _joined(one: Model, two: Model) -> Model:
    return {
        kind: {**(one.get(kind) or {}), **(two.get(kind) or {})} for kind in _RESOURCES if kind in one or kind in two
    }


def project_name(text: str) -> str:
    """As compose makes it of a directory's name."""
    return re.sub(r"^[_-]+", "", re.sub(r"[^a-z0-9_-]", "", text.lower()))
