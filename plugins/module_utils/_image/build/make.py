# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layered builds: stages of steps on a base, each step's layer cached (see plan.py), the last stage an image."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Optional, Union, cast

from ..._errors import ContainerfileError, KernelError, NetworkError, StoreError
from ..._kernel.file import make_like
from ..._kernel.overlay import open_overlay
from .. import config as configs
from .. import pack
from ..copy import OVERLAY_OPTIONS, Attributes, Writer
from ..progress import QUIET, Progress
from ..record import canonical, digest_of
from ..store import Image, Store, Work
from . import mounts, unpack
from .ignore import Ignore
from .plan import State, apply, found, key, place
from .steps import Config, Copy, Mount, Origin, Run, RunRequest, Stage, Step, Workdir
from .tree import Tree

# Puts what is at an address, and has the sha256 digest, into a new file of that path (see fetch.py).
Fetch = Callable[[str, str, str], None]
Runner = Callable[[RunRequest], None]


def build(
    store: Store,
    name: str,
    stages: Sequence[Stage],
    options: Mapping[str, Any],
    run: Runner,
    key: str = "",
    *,
    secrets: Optional[Mapping[str, bytes]] = None,
    fetch: Optional[Fetch] = None,
    bases: Optional[Mapping[str, str]] = None,
    fresh: bool = False,
    progress: Progress = QUIET,
) -> Image:
    """Build what is not cached, or all when it is to be ``fresh``, and store the last stage as the image with
    ``options`` over its configuration.

    ``run`` executes a command as a container would (see _converge/image/steps.py). ``secrets`` are contents by id;
    plan.py's check_secrets() says beforehand whether one is missing. What is raised ends the build; the layers of the
    steps before stay in the cache.
    """
    with store.work() as work:
        builder = _Builder(work, run, secrets or {}, fetch, progress, fresh=fresh)
        return store.put(name, builder.document(stages, options), key, bases=bases or {})


def foreseen(store: Store, stages: Sequence[Stage], options: Mapping[str, Any]) -> str:
    """The id of the image that build() would give; empty where a step is to be done, and nobody knows yet."""
    try:
        return digest_of(canonical(_Walk(store).document(stages, options)))
    except Uncached:
        return ""


class Uncached(LookupError):
    """No layer was made of this yet."""


class _Walk:
    """Goes through a build's steps by what is in the cache; makes nothing."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.states: list[State] = []
        self.histories: list[list[dict[str, Any]]] = []

    def document(self, stages: Sequence[Stage], options: Mapping[str, Any]) -> dict[str, Any]:
        """The image's configuration, with ``options`` over what the last stage has come to."""
        for stage in stages:
            self.stage(stage)
        state, history = self.states[-1], self.histories[-1]
        state.configure(options)
        return configs.document(state.config, state.layers, history, state.author)

    def stage(self, stage: Stage) -> None:
        if isinstance(stage.base, int):
            base: Union[Image, State] = self.states[stage.base]
            history = list(self.histories[stage.base])
        else:
            base, history = stage.base, _history(self.store, stage.base)
            self.begin(stage.base)
        state = State.of(base)
        if isinstance(base, Image) and base.id:
            state.author = self.store.raw(base).get("author") or ""
        for step in stage.steps:
            history.append(self.step(state, step))
        self.states.append(state)
        self.histories.append(history)

    def step(self, state: State, step: Step) -> dict[str, Any]:
        """Take it into the state; the history's entry."""
        if isinstance(step, Config):
            apply(state, step)
            return {"created_by": step.created_by, "empty_layer": True}
        before, told = len(state.layers), _created_by(state, step)
        apply(state, step, self.layer(state, step))
        return {"created_by": told, **({} if len(state.layers) > before else {"empty_layer": True})}

    def begin(self, image: Image) -> None:
        """Something is built on the image."""

    def layer(self, state: State, step: Step) -> str:
        """The step's."""
        found = self.store.layer_for(key(state, step, self.layers))
        if not found:
            raise Uncached
        return found

    def layers(self, origin: Union[Image, int]) -> list[str]:
        return list(self.states[origin].layers if isinstance(origin, int) else origin.layers)


class _Builder(_Walk):
    def __init__(
        self, work: Work, run: Runner, secrets: Mapping[str, bytes], fetch: Optional[Fetch], progress: Progress, *,
        fresh: bool,
    ) -> None:  # fmt: skip
        super().__init__(work.store)
        self.work = work
        self.run = run
        self.secrets = secrets
        self.fetch = fetch
        self.progress = progress
        self.fresh = fresh
        self.number = 0

    def begin(self, image: Image) -> None:
        for layer in image.layers:
            if not self.work.pin(layer):
                hint = "make it again with force"
                raise StoreError(f"image {image.name}: its layer {layer} is not in the store", hint=hint)

    def step(self, state: State, step: Step) -> dict[str, Any]:
        self.number += 1
        return super().step(state, step)

    def layer(self, state: State, step: Step) -> str:
        what = f"step {self.number}"
        self.progress.say(what, step.shown)
        digest = key(state, step, self.layers)
        layer = self._cached(digest)
        if layer:
            self.progress.say(what, "cached")
            return layer
        with self.store.once(digest):
            # Whoever was before us may have made it meanwhile.
            layer = self._cached(digest) or self._make(state, step)
            self.store.set_key(digest, layer)
        return layer

    def _cached(self, digest: str) -> str:
        layer = "" if self.fresh else self.store.layer_for(digest)
        return layer if layer and self.work.pin(layer) else ""

    def _make(self, state: State, step: Step) -> str:
        upper, scratch = self.work.directory(), self.work.directory()
        lower = self._lower(state.layers)
        make_like(upper, lower[-1])
        if isinstance(step, Run):
            self._run(state, step, lower, upper, scratch)
        else:
            self._write(state, step, lower, upper, scratch)
        if isinstance(step, Workdir) and state.layers and not os.listdir(upper):
            return state.layers[-1]  # the directory was there
        diff_id, size = pack.measure(upper)
        self.work.adopt(upper, diff_id, size)
        return diff_id

    def _lower(self, layers: Sequence[str]) -> list[str]:
        """The directories below. overlayfs wants one; an image that is made from nothing has none."""
        found = self.store.directories(Image("", "", tuple(layers)))
        if not found:
            found = [self.work.directory()]
            os.utime(found[0], (0, 0))
        return found

    # what is written by us
    def _write(self, state: State, step: Step, lower: list[str], upper: str, scratch: str) -> None:
        with _overlay(lower, upper, scratch) as root, _doing(self.number, step):
            writer = Writer(root)
            if isinstance(step, Workdir):
                user, dummy, group = (state.config.get("User") or "0").partition(":")
                writer.directory(state.path(step.path), Attributes(*writer.owner(user or "0", group or None)))
            else:
                step = cast(Copy, step)
                self._copy(writer, step, state.path(step.dest))
            writer.finish()

    def _copy(self, writer: Writer, step: Copy, dest: str) -> None:
        uid, gid = writer.owner(step.user, step.group)
        like = Attributes(uid, gid, step.mode, step.directory_mode, step.keep)
        into = dest.endswith("/") or writer.is_directory(dest)
        with self._tree(step.origin) as tree:
            names = [name for pattern in step.sources if tree for name in found(tree, pattern)]
            if len(names) + len(step.inline) + len(step.urls) > 1 and not into:
                raise StoreError(f"several files go to {step.dest}, which is no directory; end it with /")
            for name in names:
                self._source(writer, step, cast(Tree, tree), name, dest, into, like)
        for name, text in step.inline:
            path = _into(dest, name) if into and name else dest
            writer.content(path, text.encode("utf-8", "surrogateescape"), like)
        for url, digest in step.urls:
            self._url(writer, url, digest, dest, into, like)

    def _source(
        self, writer: Writer, step: Copy, tree: Tree, name: str, dest: str, into: bool, like: Attributes
    ) -> None:
        info, excluded = next(tree.walk(name)).info, Ignore(step.excluded)
        if stat.S_ISDIR(info.st_mode):
            writer.tree(tree, name, dest, like, excluded)
        elif not (step.unpack and stat.S_ISREG(info.st_mode) and self._unpacked(writer, tree, name, dest, like)):
            writer.tree(tree, name, _into(dest, os.path.basename(name)) if into else dest, like, excluded)

    def _unpacked(self, writer: Writer, tree: Tree, name: str, dest: str, like: Attributes) -> bool:
        """False when the file is no archive."""
        fd = tree.open(tree.real(name))
        try:
            if not unpack.is_archive(fd):
                return False
            directory = self.work.directory()
            unpack.unpack(fd, directory, name)
        finally:
            os.close(fd)
        with _tree_of(directory) as content:
            writer.tree(content, "", dest, Attributes(like.uid, like.gid, keep=True), Ignore())
        return True

    def _url(self, writer: Writer, url: str, digest: str, dest: str, into: bool, like: Attributes) -> None:
        if self.fetch is None:
            raise StoreError(f"{url} can't be fetched here", hint="put the file where the build can copy it from")
        directory, name = self.work.directory(), os.path.basename(url.partition("?")[0]) or "index"
        self.fetch(url, digest, f"{directory}/{name}")
        os.chmod(f"{directory}/{name}", 0o600)
        os.utime(f"{directory}/{name}", (0, 0))
        with _tree_of(directory) as tree:
            writer.tree(tree, name, _into(dest, name) if into else dest, like, Ignore())

    # what is written by a command
    def _run(self, state: State, step: Run, lower: list[str], upper: str, scratch: str) -> None:
        with contextlib.ExitStack() as held:
            binds = [self._bind(held, state, step, mount) for mount in step.mounts if mount.kind in ("bind", "cache")]
            tmpfs = [mount for mount in step.mounts if mount.kind == "tmpfs"]
            secrets = mounts.secrets(step.mounts, self.secrets)
            places, points = {}, []
            with _overlay(lower, upper, scratch) as root:
                for mount in step.mounts:
                    places[mount.target], missing = mounts.place(root, state.path(mount.target))
                    points += missing if mount.target else []
            request = RunRequest(
                self.number,
                step.where if place(step) else f"step {self.number}",
                state.command(step),
                step.shown,
                {**step.hidden, **state.env(step)},
                lower,
                upper,
                scratch,
                user=state.config.get("User") or "",
                cwd=state.config.get("WorkingDir") or "/",
                network=step.network,
                binds=tuple((places[target], path, readonly) for target, path, readonly in binds),
                tmpfs=tuple((places[mount.target], mount) for mount in tmpfs),
                secrets=tuple((places[mount.target], mount, content) for mount, content in secrets),
                scripts=step.scripts,
            )
            with mounts.hinting(step, request, self.secrets):
                self.run(request)
            mounts.clean(upper, lower, points)

    def _bind(self, held: contextlib.ExitStack, state: State, step: Run, mount: Mount) -> tuple[str, str, bool]:
        """(target, path on the host, readonly)"""
        tree = held.enter_context(self._tree(mount.origin))
        with _doing(self.number, step):
            if mount.kind == "cache":
                path = held.enter_context(mounts.cache(self.work, mount, tree))
            else:
                path = mounts.bound(self.work, mount, cast(Tree, tree))
        return mount.target, path, mount.readonly

    @contextlib.contextmanager
    def _tree(self, origin: Optional[Origin]) -> Iterator[Optional[Tree]]:
        if origin is None or isinstance(origin, Tree):
            yield origin
            return
        if isinstance(origin, Image):
            self.begin(origin)
        lower = self._lower(self.layers(origin))
        with _overlay(lower, self.work.directory(), self.work.directory()) as root:
            tree = Tree(os.dup(root))
            try:
                yield tree
            finally:
                tree.close()


@contextlib.contextmanager
def _overlay(lower: Sequence[str], upper: str, work: str) -> Iterator[int]:
    root = open_overlay(lower[::-1], upper, work, OVERLAY_OPTIONS)
    try:
        yield root
    finally:
        os.close(root)


@contextlib.contextmanager
def _tree_of(directory: str) -> Iterator[Tree]:
    tree = Tree(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    try:
        yield tree
    finally:
        tree.close()


@contextlib.contextmanager
def _doing(number: int, step: Step) -> Iterator[None]:
    """What goes wrong within is said of the step."""
    try:
        yield
    except OSError as error:
        problem, hint = f"{error.filename or ''}: {os.strerror(error.errno or 0)}".lstrip(": "), ""
    except (KernelError, NetworkError, StoreError) as error:
        problem, hint = error.message, error.hint
    else:
        return
    where = place(step)
    if where:
        raise ContainerfileError(*where, f"{step.shown}: {problem}", hint=hint)
    raise StoreError(f"step {number}: {step.shown}: {problem}", hint=hint)


def _into(directory: str, name: str) -> str:
    return f"{directory.rstrip('/')}/{name}"


def _history(store: Store, base: Image) -> list[dict[str, Any]]:
    """The base's own where it fits its layers; else a line for each of them."""
    history = (store.raw(base).get("history") or []) if base.id else []
    if len([entry for entry in history if not entry.get("empty_layer")]) == len(base.layers):
        return list(history)
    return [{"created_by": f"from {base.name}"} for dummy in base.layers]


def _created_by(state: State, step: Step) -> str:
    """As docker's history has it."""
    if isinstance(step, Run):
        args = [f"{name}={value}" for name, value in step.args.items()]
        return " ".join(["RUN", *([f"|{len(args)}", *args] if args else []), *state.command(step)])
    if isinstance(step, Workdir):
        return f"WORKDIR {state.path(step.path)}"
    step = cast(Copy, step)
    sources = [*step.sources, *(name or "content" for name, dummy in step.inline), *(url for url, dummy in step.urls)]
    return f"{step.verb} {' '.join(sources)} {state.path(step.dest)}"
