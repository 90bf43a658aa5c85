# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layered builds: a base and steps, each step's layer cached by the digest of all that goes in."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._errors import OptionError, StoreError
from .._kernel.file import make_like
from . import config as configs
from . import pack
from .copy import copy
from .record import canonical
from .store import Image, Store, Work, is_opaque

Step = Mapping[str, Any]


@dataclass(frozen=True)
class RunRequest:
    """A command to be run over the layers, its writes going to ``upper``."""

    number: int
    command: list[str]
    env: dict[str, str]
    layers: list[str]
    upper: str
    work: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Planned:
    """A step, its key, and the layer where it is in the cache (steps without a layer have none)."""

    step: Step
    key: str
    layer: str
    describes: str


def describe(step: Step) -> str:
    if step.get("run") is not None:
        command = step["run"]
        return f"run {command if isinstance(command, str) else ' '.join(command)}"
    if step.get("copy") is not None:
        return f"copy {step['copy'].get('src') or 'content'} to {step['copy']['dest']}"
    return f"env {' '.join(sorted(step['env']))}"


def plan(store: Store, base: Image, steps: Sequence[Step]) -> list[Planned]:
    """What would be built; nothing is.

    After a step that has to run again, those behind it have to as well: their layers were made over another one.
    """
    parent = hashlib.sha256("\n".join(base.layers).encode()).hexdigest()
    around = {key: base.config.get(key) for key in ("Env", "User", "WorkingDir")}
    env: dict[str, str] = {}
    planned, whole = [], True
    for index, step in enumerate(steps):
        if step.get("env") is not None:
            env.update(step["env"])
            planned.append(Planned(step, parent, "", describe(step)))
            continue
        what = [parent, _inputs(step, f"layers[{index}]"), env, around]
        parent = hashlib.sha256(canonical(what)).hexdigest()
        layer = store.layer_for(parent) if whole else ""
        whole = bool(layer)
        planned.append(Planned(step, parent, layer, describe(step)))
    return planned


def _inputs(step: Step, option: str) -> list[Any]:
    """All that goes into the step, apart from what is below it."""
    if step.get("run") is not None:
        return ["run", step["run"]]
    given = dict(step["copy"])
    if given.get("src") is not None:
        given["src"] = [os.path.basename(given["src"]), _digest_of(given["src"], f"{option}.copy.src")]
    return ["copy", given]


def _digest_of(path: str, option: str) -> str:
    """Names, kinds, modes and contents of a file or directory on the target; times say nothing."""
    digest = hashlib.sha256()
    try:
        for name, full, info in _walk(os.fsencode(path)):
            digest.update(repr((name, info.st_mode)).encode())
            if stat.S_ISREG(info.st_mode):
                digest.update(_content(full))
            elif stat.S_ISLNK(info.st_mode):
                digest.update(repr(os.readlink(full)).encode())
    except OSError as error:
        raise OptionError(option, path, f"can't be read on the target: {os.strerror(error.errno or 0)}") from None
    return digest.hexdigest()


def _content(path: bytes) -> bytes:
    """A digest of the same length for any content, so that no file can be taken for the next one's name."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while True:
            block = file.read(1 << 20)
            if not block:
                return digest.digest()
            digest.update(block)


def _walk(path: bytes) -> Iterator[tuple[bytes, bytes, os.stat_result]]:
    """(name below the path, path, stat) of a file, or of all in a directory."""
    info = os.stat(path)
    yield b"", path, info
    todo = [b""] if stat.S_ISDIR(info.st_mode) else []
    while todo:
        directory = todo.pop()
        with os.scandir(os.path.join(path, directory)) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = os.path.join(directory, entry.name)
                yield name, entry.path, entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    todo.append(name)


def build(
    store: Store,
    name: str,
    base: Image,
    steps: Sequence[Step],
    options: Mapping[str, Any],
    run: Callable[[RunRequest], None],
    key: str = "",
) -> Image:
    """Build what is not cached and store the image. ``run`` executes a command as a container would.

    What it raises ends the build; the layers of the steps before stay in the cache.
    """
    with store.work() as work:
        layers = [_pinned(work, base, layer) for layer in base.layers]
        env: dict[str, str] = {}
        for number, planned in enumerate(plan(store, base, steps), 1):
            if planned.step.get("env") is not None:
                env.update(planned.step["env"])
            elif planned.layer and work.pin(planned.layer):
                layers.append(planned.layer)
            else:
                layers.append(_build_step(work, number, planned, layers, env, base, run))
        config = configs.merge(base.config, {**options, "env": {**env, **(options.get("env") or {})}})
        history = [f"from {base.name}", *(describe(step) for step in steps)]
        return store.put(name, configs.document(config, layers, history), key)


def _pinned(work: Work, base: Image, layer: str) -> str:
    if not work.pin(layer):
        raise StoreError(f"image {base.name}: its layer {layer} is not in the store", hint="make it again with force")
    return layer


def _build_step(
    work: Work,
    number: int,
    planned: Planned,
    layers: Sequence[str],
    env: Mapping[str, str],
    base: Image,
    run: Callable[[RunRequest], None],
) -> str:
    store, step = work.store, planned.step
    with store.once(planned.key):
        upper, scratch = work.directory(), work.directory()
        # overlayfs wants a layer below; an image that is made from nothing has none.
        lower = [store.layer_path(diff_id) for diff_id in layers] or [work.directory()]
        make_like(upper, lower[-1])
        if step.get("run") is not None:
            command = step["run"]
            argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
            run(RunRequest(number, argv, dict(env), lower, upper, scratch, base.config))
            clean(upper, lower)
        else:
            _copy(number, step, lower, upper, scratch)
        diff_id, size = pack.measure(upper)
        work.adopt(upper, diff_id, size)
        store.set_key(planned.key, diff_id)
        return diff_id


def _copy(number: int, step: Step, lower: Sequence[str], upper: str, scratch: str) -> None:
    try:
        copy(step["copy"], lower, upper, scratch)
    except StoreError as error:
        raise StoreError(f"step {number}: {describe(step)}: {error.message}", hint=error.hint) from None


# What a container's set-up makes in the layer so that it can mount there, when the image does not have it.
_MOUNT_POINTS = ("etc/hosts", "etc/resolv.conf", "etc/hostname", "usr/sbin/policy-rc.d", "proc", "sys", "dev")


def clean(upper: str, lower: Sequence[str]) -> None:
    """Take mount points that only the set-up made out of the layer, and directories that it only passed through."""
    for path in _MOUNT_POINTS:
        own = f"{upper}/{path}"
        if not os.path.lexists(own) or any(os.path.lexists(f"{layer_dir}/{path}") for layer_dir in lower):
            continue
        info = os.lstat(own)
        if stat.S_ISDIR(info.st_mode) and not os.listdir(own):
            os.rmdir(own)
        elif stat.S_ISREG(info.st_mode) and not info.st_size:
            os.unlink(own)
        _forget_passed(upper, os.path.dirname(path), lower)


def _forget_passed(upper: str, path: str, lower: Sequence[str]) -> None:
    """overlayfs copied the directory up when something was made in it; empty, it says what the one below says."""
    own = f"{upper}/{path}"
    below = next((f"{layer}/{path}" for layer in reversed(lower) if os.path.lexists(f"{layer}/{path}")), "")
    if not path or not below or os.listdir(own) or is_opaque(own):
        return
    one, other = os.lstat(own), os.lstat(below)
    if (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid):
        os.rmdir(own)
        _forget_passed(upper, os.path.dirname(path), lower)
