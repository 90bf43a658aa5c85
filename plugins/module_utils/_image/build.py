# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layered builds: a base and steps, each step's layer cached by the digest of all that goes in."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._errors import OptionError, StoreError
from .._kernel.file import remove_tree
from .._kernel.openat2 import mkdir_in_root, open_in_root, open_root
from . import config as configs
from . import layer
from .store import Image, Store

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
    """What would be built; nothing is."""
    parent = hashlib.sha256("\n".join(base.layers).encode()).hexdigest()
    env: dict[str, str] = {}
    planned = []
    for index, step in enumerate(steps):
        if step.get("env") is not None:
            env.update(step["env"])
            planned.append(Planned(step, parent, "", describe(step)))
            continue
        what = [parent, _canonical(step, f"layers[{index}]"), env, base.config.get("Env"), base.config.get("User")]
        parent = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        planned.append(Planned(step, parent, store.layer_for(parent), describe(step)))
    return planned


def _canonical(step: Step, option: str) -> Any:
    if step.get("run") is not None:
        return ["run", step["run"]]
    copy = dict(step["copy"])
    if copy.get("src"):
        copy["src"] = _digest_of(copy["src"], f"{option}.copy.src")
    return ["copy", copy]


def _digest_of(path: str, option: str) -> str:
    """Names, modes and contents of a file or directory on the target."""
    digest = hashlib.sha256()
    try:
        for name in _walk(path):
            info = os.lstat(name)
            digest.update(repr((name[len(path) :], info.st_mode)).encode())
            if stat.S_ISREG(info.st_mode):
                with open(name, "rb") as file:
                    for block in iter(lambda: file.read(1 << 20), b""):
                        digest.update(block)
            elif stat.S_ISLNK(info.st_mode):
                digest.update(os.readlink(os.fsencode(name)))
    except OSError as error:
        raise OptionError(option, path, f"can't be read on the target: {os.strerror(error.errno or 0)}") from None
    return digest.hexdigest()


def _walk(path: str) -> list[str]:
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        return [path]
    found = []
    for directory, names, files in os.walk(path):
        names.sort()
        found += [os.path.join(directory, name) for name in sorted([*names, *files])]
    return found


def build(
    store: Store,
    name: str,
    base: Image,
    steps: Sequence[Step],
    options: Mapping[str, Any],
    run: Callable[[RunRequest], None],
    key: str = "",
) -> Image:
    """Build what is not cached and store the image. ``run`` executes a command as a container would."""
    layers, env = list(base.layers), {}
    for number, planned in enumerate(plan(store, base, steps), 1):
        if planned.step.get("env") is not None:
            env.update(planned.step["env"])
            continue
        found = planned.layer or _build_step(store, number, planned, layers, env, base, run)
        layers.append(found)
    config = configs.merge(base.config, {**options, "env": {**env, **(options.get("env") or {})}})
    history = [f"from {base.name}", *(describe(step) for step in steps)]
    return store.put(name, configs.document(config, layers, history), key)


def _build_step(
    store: Store,
    number: int,
    planned: Planned,
    layers: Sequence[str],
    env: Mapping[str, str],
    base: Image,
    run: Callable[[RunRequest], None],
) -> str:
    directory = store.temporary()
    try:
        upper, work = f"{directory}/upper", f"{directory}/work"
        os.mkdir(upper, 0o755)
        os.mkdir(work, 0o755)
        lower = [store.layer_path(diff_id) for diff_id in layers]
        if planned.step.get("run") is not None:
            command = planned.step["run"]
            argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
            run(RunRequest(number, argv, dict(env), lower, upper, work, base.config))
            clean(upper, lower)
        else:
            _copy(planned.step["copy"], upper, lower)
        diff_id, size = layer.measure(upper)
        store.adopt_layer(upper, diff_id, size)
        store.set_key(planned.key, diff_id)
        return diff_id
    finally:
        remove_tree(directory)


# What a container's set-up makes in the layer so that it can mount there, when the image does not have it.
_MOUNT_POINTS = ("etc/hosts", "etc/resolv.conf", "etc/hostname", "usr/sbin/policy-rc.d", "proc", "sys", "dev")


def clean(upper: str, lower: Sequence[str]) -> None:
    """Take mount points that only the set-up made out of the layer."""
    for path in _MOUNT_POINTS:
        own = f"{upper}/{path}"
        if not os.path.lexists(own) or any(os.path.lexists(f"{layer_dir}/{path}") for layer_dir in lower):
            continue
        if os.path.isdir(own) and not os.path.islink(own):
            if not os.listdir(own):
                os.rmdir(own)
        elif os.path.getsize(own) == 0:
            os.unlink(own)


def _copy(copy: Mapping[str, Any], upper: str, lower: Sequence[str]) -> None:
    """Files into the layer; directories that are links below (/bin) are followed as the container would see them."""
    destination = copy["dest"]
    source = copy.get("src")
    into = destination.endswith("/") and source is not None
    target = os.path.join(destination, os.path.basename(source)) if into and source else destination
    parent = _real_parent(os.path.dirname(target), lower)
    root = open_root(upper)
    try:
        fd = _parents(root, parent, lower)
        try:
            _copy_to(copy, fd, os.path.basename(target))
        finally:
            os.close(fd)
    finally:
        os.close(root)


def _real_parent(path: str, lower: Sequence[str]) -> str:
    """The directory with symlinks of the layers followed, by the topmost layer that has each part."""
    done: list[str] = []
    todo = [part for part in path.split("/") if part]
    for _ in range(256):
        if not todo:
            return "/".join(done)
        part = todo.pop(0)
        if part == "..":
            done = done[:-1]
            continue
        link = next(
            (os.readlink(p) for p in (f"{d}/{'/'.join([*done, part])}" for d in reversed(lower)) if os.path.islink(p)),
            "",
        )
        if not link:
            done.append(part)
            continue
        if link.startswith("/"):
            done = []
        todo = [piece for piece in link.split("/") if piece not in ("", ".")] + todo
    raise StoreError(f"copy: {path} is a loop of symlinks in the image")


def _parents(root: int, path: str, lower: Sequence[str]) -> int:
    """Make the parents with the owners and modes that they have in the layers below."""
    done = ""
    for part in path.split("/") if path else []:
        done = f"{done}/{part}"
        missing = not os.path.lexists(f"/proc/self/fd/{root}{done}")
        os.close(mkdir_in_root(root, done))
        below = next((f"{d}{done}" for d in reversed(lower) if os.path.isdir(f"{d}{done}")), "")
        if missing and below:
            info = os.stat(below)
            os.chown(f"/proc/self/fd/{root}{done}", info.st_uid, info.st_gid)
            os.chmod(f"/proc/self/fd/{root}{done}", stat.S_IMODE(info.st_mode))
    return open_in_root(root, path or ".", os.O_RDONLY | os.O_DIRECTORY)


def _copy_to(copy: Mapping[str, Any], parent: int, name: str) -> None:
    import shutil

    target = f"/proc/self/fd/{parent}/{name}"
    source = copy.get("src")
    if source and os.path.isdir(source):
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    elif source:
        shutil.copyfile(source, target)
        shutil.copymode(source, target)
    else:
        with open(target, "w") as file:
            file.write(copy["content"])
        os.chmod(target, 0o644)
    for path in [target, *(_walk(target) if os.path.isdir(target) else [])]:
        os.chown(path, copy.get("uid") or 0, copy.get("gid") or 0, follow_symlinks=False)
        # Times of copying would make a new layer of the same content.
        os.utime(path, (0, 0), follow_symlinks=False)
    if copy.get("mode") is not None:
        os.chmod(target, copy["mode"])
