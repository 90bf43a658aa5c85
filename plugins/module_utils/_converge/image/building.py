# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a build copies from on this host: the context with its ignore file, files of the target, images of the store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Optional

from ..._errors import ContainerfileError, KernelError, OptionError
from ..._image.build import ignore, known
from ..._image.build.layers import compiled
from ..._image.build.steps import Stage, Step
from ..._image.build.tree import Tree
from ..._image.config import architecture
from ..._image.containerfile.compile import bases, compile, unused
from ..._image.containerfile.outline import Base
from ..._image.reference import parse as parse_reference
from ..._image.store import Image, Store
from ..._kernel.openat2 import open_root
from ..._options.sent import Content

_NAMES = ("Containerfile", "Dockerfile")
_IGNORE = (".containerignore", ".dockerignore")
_INLINE = "containerfile"
_SECRET_MAX = 1 << 20


@dataclass(frozen=True)
class Containerfile:
    """``file`` is what errors call the text; ``path`` is empty for one that a task holds.

    ``sent`` is the context where that is on the controller; ``context`` is then empty until it was unpacked.
    """

    text: str
    file: str
    path: str
    context: str
    build_args: dict[str, str] = field(default_factory=dict)
    target: str = ""
    sent: Optional[Content] = None

    @classmethod
    def of(cls, desired: Mapping[str, Any]) -> Containerfile:
        """From a task's options. Raises OptionError for a file or a context that is not there."""
        given, context = desired.get("containerfile", ""), desired.get("context", "")
        sent = desired.get("src")
        if sent is not None:
            _check_sent(sent, given, context)
        if context and not os.path.isdir(context):
            raise OptionError("context", context, "is no directory on the target")
        rest = (context, dict(desired.get("build_args") or {}), desired.get("target", ""), sent)
        if "\n" in given:
            return cls(given, _INLINE, "", *rest)
        given = os.path.expanduser(given)
        if given and not context and not given.startswith("/"):
            raise OptionError("containerfile", given, "is relative to context, which is missing")
        path = os.path.join(context, given) if given else _default(context)
        return cls(_read(path), os.path.basename(path), path, *rest)

    def bases(self) -> list[Base]:
        """The images that it is made from: who pulls, pulls these before Source.stages()."""
        return bases(self.text, self.file, self.build_args, self.target)

    def unused(self) -> list[str]:
        """Names of build arguments that no ARG declares."""
        return unused(self.text, self.file, self.build_args)

    def ignored(self) -> ignore.Ignore:
        """As its own ignore file says, or the context's."""
        places = [f"{self.path}{name}" for name in _IGNORE] if self.path else []
        for path in (*places, *(f"{self.context}/{name}" for name in _IGNORE)):
            _check_file("context", path)
            try:
                with open(path, encoding="utf-8", errors="surrogateescape") as file:
                    return ignore.read(file.read())
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise KernelError("read", path, error.errno or 0) from None
            except ValueError as error:
                raise OptionError("context", path, f"is no ignore file: {error}") from None
        return ignore.Ignore()


def _check_sent(sent: Content, given: str, context: str) -> None:
    if context:
        raise OptionError("context", context, "can't be with src; that is on the controller, this not")
    if "\n" not in given:
        problem = "is in src on the controller, where only the action plugin of vessel.host.image and stack reads it"
        raise OptionError("containerfile", given, problem)


def _default(context: str) -> str:
    for name in _NAMES:
        if os.path.exists(f"{context}/{name}"):
            return f"{context}/{name}"
    raise OptionError("context", context, f"has neither {' nor '.join(_NAMES)}; name it in containerfile")


def _read(path: str) -> str:
    _check_file("containerfile", path)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except UnicodeDecodeError:
        raise OptionError("containerfile", path, "is no UTF-8 text") from None
    except OSError as error:
        raise OptionError("containerfile", path, f"can't be read: {os.strerror(error.errno or 0)}") from None


def _check_file(option: str, path: str) -> None:
    """Who opens a FIFO waits for a writer, and a device may have no end."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OptionError(option, path, "is no file")


def contents(secrets: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """The secrets by id. Raises OptionError for a file that can't be read."""
    return {secret["id"]: _content(secret, f"secrets[{index}].src") for index, secret in enumerate(secrets)}


def _content(secret: Mapping[str, Any], option: str) -> bytes:
    if "src" not in secret:
        return str(secret["value"]).encode("utf-8", "surrogateescape")
    _check_file(option, secret["src"])
    try:
        with open(secret["src"], "rb") as file:
            data = file.read(_SECRET_MAX + 1)
    except OSError as error:
        raise OptionError(option, secret["src"], f"can't be read: {os.strerror(error.errno or 0)}") from None
    if len(data) > _SECRET_MAX:
        raise OptionError(option, secret["src"], f"has more than {_SECRET_MAX} bytes")
    return data


class Source:
    """Opened for one image; what its last build knew of the files is known again, and remember() keeps what this one
    does."""

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.name = name
        self._trees: dict[str, Tree] = {}

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        for tree in self._trees.values():
            tree.close()

    def remember(self) -> None:
        for top, tree in self._trees.items():
            known.remember(self.store, self.name, top, tree)

    def steps(self, layers: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
        """Of the option ``layers``."""
        return compiled(layers, self._tree("/", ignore.Ignore()), self._image)

    def stages(self, made: Containerfile) -> list[Stage]:
        context = self._tree(made.context, made.ignored()) if made.context else None
        return list(compile(made.text, made.file, context, made.build_args, self._base, made.target))

    def _tree(self, top: str, ignored: ignore.Ignore) -> Tree:
        if top not in self._trees:
            digests = known.recall(self.store, self.name, top)
            self._trees[top] = Tree(open_root(top), ignored, digests)
        return self._trees[top]

    def _image(self, name: str, option: str) -> Image:
        image = self.store.get(name)
        if image is None:
            hint = "declare it with vessel.host.image first"
            raise OptionError(option, name, "is no such image on this host", hint=hint)
        return image

    def _base(self, base: Base) -> Image:
        """An image that a Containerfile names."""
        line = base.instruction
        try:
            name = str(parse_reference(base.name, line.verb))
        except OptionError as error:
            raise line.error(f"{base.name!r} {error.problem}") from None
        image = self.store.get(name)
        if image is None:
            raise line.error(f"{name} is no such image on this host", "declare it with vessel.host.image first")
        _check_platform(base, self.store.raw(image))
        return image


def _check_platform(base: Base, found: Mapping[str, Any]) -> None:
    wanted = base.platform.split("/")
    there = [str(found.get("os", "linux")), str(found.get("architecture", architecture()))]
    if base.platform and (wanted + there[1:])[:2] != there:
        raise _wrong_platform(base, "/".join(there))


def _wrong_platform(base: Base, there: str) -> ContainerfileError:
    return base.instruction.error(f"{base.name} is here for {there}, and not for {base.platform}")
