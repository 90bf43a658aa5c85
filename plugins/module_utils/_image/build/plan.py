# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would be built: each step's key, and its layer where that is cached. Nothing is made here.

A step's key is the digest of the layers below it and of all that goes into it, and of nothing else. What stands before
it goes in by what it made: after a step that ran again and made the same, the next one is cached.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union, cast

from ..._errors import ContainerfileError, KernelError, OptionError, StoreError, VesselError
from .. import config as configs
from ..record import canonical
from ..store import Image, Store
from .steps import SHELL, Config, Copy, Mount, Origin, Run, Stage, Step, Workdir
from .tree import Tree

# The digest of what is copied from another image or stage: of its layers, or of what makes them.
Whence = Callable[[Union[Image, int]], Any]


@dataclass
class State:
    """What a stage has come to: its configuration, and its layers (diff_ids, the base first)."""

    config: dict[str, Any]
    layers: list[str]
    author: str = ""
    has_cmd: bool = False  # a CMD of this stage outlives its ENTRYPOINT, the base's does not

    @classmethod
    def of(cls, base: Union[Image, State]) -> State:
        return cls(dict(base.config), list(base.layers))

    def configure(self, options: Mapping[str, Any]) -> None:
        self.author = options.get("author") or self.author
        self.has_cmd = self.has_cmd or options.get("cmd") is not None
        if options.get("working_dir") is not None:
            options = {**options, "working_dir": self.path(options["working_dir"]).rstrip("/") or "/"}
        self.config = configs.merge(self.config, options, keep_cmd=self.has_cmd)

    def path(self, path: str) -> str:
        """Absolute; a slash at its end stays."""
        whole = posixpath.join(self.config.get("WorkingDir") or "/", path)
        plain = "/" + posixpath.normpath(whole).lstrip("/")
        return f"{plain}/" if whole.endswith(("/", "/.")) and plain != "/" else plain

    def command(self, run: Run) -> list[str]:
        if isinstance(run.command, str):
            return [*(self.config.get("Shell") or SHELL), run.command]
        return list(run.command)

    def env(self, run: Run) -> dict[str, str]:
        """Of the command, without what is hidden: the image's variables come before arguments of the build."""
        return {**run.args, **dict(entry.partition("=")[::2] for entry in self.config.get("Env") or [])}


@dataclass(frozen=True)
class Planned:
    """A step that makes a layer. ``layer`` is the one in the cache, which may be the topmost below it: then the step
    changes nothing. Empty, when the step is to be done."""

    step: Step
    stage: int
    layer: str


def makes_layer(step: Step) -> bool:
    return not isinstance(step, Config)


def plan(store: Store, stages: Sequence[Stage]) -> list[Planned]:
    """The steps that make layers, in order. After one that has to be done, those behind it count as such as well."""
    states: list[Optional[State]] = []
    found = []
    for number, stage in enumerate(stages):
        base = states[stage.base] if isinstance(stage.base, int) else stage.base
        state = None if base is None else State.of(base)
        for step in stage.steps:
            if not makes_layer(step):
                if state:
                    apply(state, step)
                continue
            layer = _cached(store, state, step, states) if state else ""
            state = state if layer else None
            if state:
                apply(state, step, layer)
            found.append(Planned(step, number, layer))
        states.append(state)
    return found


def configured(stages: Sequence[Stage], options: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that the last stage comes to, with ``options`` over it: no layer says anything of that."""
    states: list[State] = []
    for stage in stages:
        state = State.of(states[stage.base] if isinstance(stage.base, int) else stage.base)
        for step in stage.steps:
            apply(state, step)
        states.append(state)
    states[-1].configure(options)
    return states[-1].config


def _cached(store: Store, state: State, step: Step, states: Sequence[Optional[State]]) -> str:
    def whence(origin: Union[Image, int]) -> Any:
        other = states[origin] if isinstance(origin, int) else origin
        if other is None:
            raise LookupError
        return list(other.layers)

    try:
        return store.layer_for(key(state, step, whence))
    except LookupError:
        return ""  # the stage that is copied from is to be made


def apply(state: State, step: Step, layer: str = "") -> None:
    """Take the step's configuration and its layer into the state."""
    if isinstance(step, Config):
        state.configure(step.options)
    elif isinstance(step, Workdir):
        state.configure({"working_dir": step.path})
    if layer and state.layers[-1:] != [layer]:
        state.layers.append(layer)


def key(state: State, step: Step, whence: Whence) -> str:
    what: list[Any] = [state.layers, inputs(step, whence)]
    if isinstance(step, Run):
        around = [state.config.get(name) or "" for name in ("User", "WorkingDir")]
        what += [state.command(step), state.env(step), around]
    elif isinstance(step, Workdir):
        what += [state.path(step.path), state.config.get("User") or ""]
    elif isinstance(step, Copy):
        what += [state.path(step.dest)]
    return hashlib.sha256(canonical(what)).hexdigest()


def fingerprint(stages: Sequence[Stage]) -> str:
    """The digest of all that an image is built from, but for a base that is none of the store's images yet."""
    what = [[_base(stage.base), [inputs(step, _base) for step in stage.steps]] for stage in stages]
    return hashlib.sha256(canonical(what)).hexdigest()


def _base(base: Union[Image, int]) -> Any:
    return base if isinstance(base, int) else [base.id, *base.layers]


def inputs(step: Step, whence: Whence) -> list[Any]:
    """All that goes into the step, apart from what is below it and around it."""
    if isinstance(step, Config):
        return ["config", dict(step.options)]
    if isinstance(step, Workdir):
        return ["workdir", step.path]
    if isinstance(step, Run):
        mounts = [_mount(step, mount, whence) for mount in step.mounts]
        return ["run", step.command, dict(step.args), step.network, mounts, step.scripts]
    step = cast(Copy, step)
    sources = [_source(step, step.origin, pattern, whence) for pattern in step.sources]
    plain = [step.inline, step.urls, step.excluded, step.user, step.group, step.mode, step.directory_mode, step.keep]
    return [step.verb, step.dest, sources, plain]


def _mount(step: Step, mount: Mount, whence: Whence) -> list[Any]:
    """A secret's content is no input, as docker has it: the layer must not tell of it."""
    shown = [mount.kind, mount.target, mount.id, mount.mode, mount.uid, mount.gid, mount.size, mount.env]
    if mount.origin is None or mount.kind == "cache":
        return shown
    return [*shown, mount.readonly, _source(step, mount.origin, mount.source, whence)]


def _source(step: Step, origin: Optional[Origin], pattern: str, whence: Whence) -> Any:
    """In a context these are digests of what is there; what comes out of layers is what the layers are."""
    if not isinstance(origin, Tree):
        return [pattern, whence(cast("Union[Image, int]", origin))]
    with reading(step, pattern):
        return [[os.path.basename(name), origin.digest(name)] for name in found(origin, pattern)]


def found(tree: Tree, pattern: str) -> list[str]:
    """What the pattern fits; an error when that is nothing."""
    try:
        names = tree.find(pattern)
    except ValueError as error:
        raise StoreError(str(error)) from None
    if not names:
        raise Missing("is not there, or ignored")
    return names


class Missing(StoreError):
    """Nothing has the name."""


@contextlib.contextmanager
def reading(step: Step, what: str) -> Iterator[None]:
    """What goes wrong within is said of the step and of what it reads."""
    try:
        yield
    except OSError as error:
        raise located(step, f"{what!r} can't be read: {os.strerror(error.errno or 0)}", what) from None
    except Missing as error:
        raise located(step, f"{what!r} {error.message}", what) from None
    except (KernelError, StoreError) as error:
        raise located(step, error.message, what, error.hint) from None


def place(step: Step) -> Optional[tuple[str, int]]:
    """The line of a Containerfile that the step is from; None for one of the option ``layers``."""
    file, colon, line = step.where.rpartition(":")
    return (file, int(line)) if colon and line.isdecimal() else None


def located(step: Step, problem: str, what: object = "", hint: str = "") -> VesselError:
    """The error at its place: an option's path, or a line of a Containerfile."""
    where = place(step)
    if where:
        return ContainerfileError(*where, f"{step.shown}: {problem}", hint=hint)
    option = f"{step.where}.{step.verb.lower()}.src" if isinstance(step, Copy) else step.where
    return OptionError(option, what, problem.removeprefix(f"{what!r} "), hint=hint)


def check_secrets(stages: Sequence[Stage], secrets: Collection[str]) -> None:
    """Refuse a step that needs a secret which is not there."""
    for stage in stages:
        for step in stage.steps:
            for mount in step.mounts if isinstance(step, Run) else ():
                if mount.kind == "secret" and mount.required and mount.id not in secrets:
                    raise located(step, f"needs the secret {mount.id!r}; give it in secrets", mount.id)
