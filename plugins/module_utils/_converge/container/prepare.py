# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies ready before a container's process is made: its directories, its bundle, its secrets."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..._errors import NotFoundError, OptionError, StateError
from ..._image.store import Image
from ..._kernel.file import fsync_directory, holds, make_like, remove_tree, write_atomic
from ..._kernel.process import alive
from ..._monitor.status import EXITED
from ..._options.container import volume_parts
from ..._paths import Paths, container_of
from .. import firewall, secrets, store, users
from ..host import Host
from . import compile, identity, labels

Spec = Mapping[str, Any]
KIND = "containers"
# Option: the namespaces of another container that it can join.
_JOINED = {"pid_mode": ("pid",), "ipc_mode": ("ipc",)}


@dataclass(frozen=True)
class Present:
    """What there is of a container: what was declared, what was last made so, what the supervisor says."""

    name: str
    declared: dict[str, Any] | None
    applied: dict[str, Any] | None
    status: dict[str, Any]

    @property
    def spec(self) -> dict[str, Any] | None:
        """What it is compared with: what was made so, where that is known."""
        return self.applied or self.declared

    @property
    def pid(self) -> int:
        """Its process, 0 when none runs; the kernel is asked."""
        pid = self.status.get("pid") or 0
        return pid if pid and alive(pid, self.status.get("pid_start") or 0) else 0

    @property
    def coming(self) -> bool:
        """Has it no process, and may have one at any moment? It is being started, or waits for its turn or a lease; or
        it has just ended, and its policy has not decided yet."""
        return not self.pid and self.status.get("status") not in (None, EXITED)


def look(paths: Paths, name: str) -> Present:
    bundle = paths.bundle(name)
    declared = store.read_spec(paths, KIND, name)
    applied = _load(f"{bundle}/applied.json")
    return Present(name, declared, applied, _load(f"{bundle}/status.json") or {})


def _load(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            return dict(json.load(file))
    except (FileNotFoundError, ValueError):
        return None


def find_image(host: Host, spec: Spec) -> Image | None:
    """The one that it was made from, as long as that is there; else the one that has the name now."""
    pinned = host.image(spec["image_id"]) if spec.get("image_id") else None
    return pinned or host.image(spec["image"])


def nameless_image(host: Host, name: str, image: str) -> str:
    """The id of the container's image where nothing has its name ``image`` any more: it is as declared, and is not
    fetched anew. Empty where there is no such thing."""
    if host.image(image) is not None:
        return ""
    spec = look(host.paths, name).spec or {}
    kept = str(spec.get("image_id") or "") if spec.get("image") == image else ""
    return kept if kept and host.image(kept) is not None else ""


def is_coming(host: Host, spec: Spec) -> bool:
    """Will a step before this one make its image, and nobody knows yet which that will be?"""
    return host.coming_images.get(spec.get("image") or "", "") is None and not spec.get("image_id")


def image_of(host: Host, spec: Spec) -> Image:
    image = find_image(host, spec)
    if image is None:
        raise OptionError(
            "image", spec["image"], "is no image of this host", hint="declare it with vessel.host.image first"
        )
    return image


def surroundings(host: Host, name: str, spec: Spec) -> compile.Surroundings:
    """What the declaration means on this host now; errors name the option."""
    image = image_of(host, spec)
    layers = host.store.directories(image)
    return compile.Surroundings(
        host.paths,
        name,
        image,
        layers,
        _identity(host.paths, name, spec, image, layers),
        _netns(host, name, spec),
        _joined(host, spec),
        _volumes(host, spec),
        _mounts(host.paths, spec),
        labels.of(host.paths, name, spec),
        leases(host.paths, spec),
    )


def _identity(paths: Paths, name: str, spec: Spec, image: Image, layers: list[str]) -> identity.Identity:
    user = spec["user"] or image.config.get("User") or ""
    plain = user in ("", "0", "root") and not spec["groups"]
    if plain:
        return identity.Identity()  # nothing to look up
    # The container may have added users of its own.
    tree = [f"{paths.home(name)}/upper", *reversed(layers)]
    passwd, group = identity.read_file(tree, "etc/passwd"), identity.read_file(tree, "etc/group")
    return identity.resolve(user, spec["groups"], passwd, group)


def _netns(host: Host, name: str, spec: Spec) -> str:
    mode = spec["network_mode"] or ""
    if mode == "host":
        return ""
    seen, owner, shared = {name}, name, mode
    while shared.startswith("container:"):
        owner = shared.partition(":")[2]
        _need_container(host, "network_mode", mode, owner)
        if owner in seen:
            raise OptionError("network_mode", mode, f"leads to {owner} again; name another container")
        seen.add(owner)
        shared = (store.read_spec(host.paths, KIND, owner) or {}).get("network_mode") or ""
    return "" if shared == "host" else host.paths.netns(owner)


def _need_container(host: Host, option: str, value: str, other: str) -> None:
    if store.read_spec(host.paths, KIND, other) is None and other not in host.coming_containers:
        raise OptionError(option, value, f"names {other}, which is no container of this host")


def _joined(host: Host, spec: Spec) -> dict[str, str]:
    found = {}
    for option, kinds in _JOINED.items():
        kind, dummy, other = spec[option].partition(":")
        if kind != "container":
            continue
        _need_container(host, option, spec[option], other)
        pid = look(host.paths, other).pid
        for namespace in kinds:
            found[namespace] = f"/proc/{pid}/ns/{namespace}" if pid else ""
    return found


def _volumes(host: Host, spec: Spec) -> dict[str, str]:
    from ..volumes import source

    found = {}
    for index, entry in enumerate(spec["volumes"]):
        name = volume_parts(entry)[0]
        if name.startswith("/"):
            if not os.path.exists(name):
                raise OptionError(f"volumes[{index}]", entry, f"binds {name}, which is not on this host; make it first")
            continue
        try:
            found[name] = source(host.paths, name)
        except NotFoundError:
            if name not in host.coming_volumes:
                hint = "declare it with vessel.host.volume first"
                raise OptionError(
                    f"volumes[{index}]", entry, f"names {name}, which is no volume of this host", hint=hint
                ) from None
            found[name] = f"{host.paths.resource('volumes', name)}/data"
    return found


def _mounts(paths: Paths, spec: Spec) -> dict[str, str]:
    from ..volumes import mounts

    found: dict[str, str] = {}
    for name in users.volumes_of(spec):
        found.update(mounts(paths, name))
    return found


def leases(paths: Paths, spec: Spec) -> dict[str, dict[str, Any]]:
    """What it needs to write to its volumes."""
    from ..volumes import lease
    from ..volumes import source as source_of

    names = {source for source, dummy, words in map(volume_parts, spec["volumes"]) if "ro" not in words}
    needed = {name: lease(paths, name) for name in names if not name.startswith("/")}
    return {source_of(paths, name): entry for name, entry in needed.items() if entry}


def home(host: Host, name: str, image: Image) -> None:
    """The writable layer; one that was made over another image's layers can't go on over these."""
    base = host.paths.home(name)
    store.make_directory(host.paths, base)
    marker, layers = f"{base}/base.json", {"layers": list(image.layers)}
    made = _load(marker) != layers
    if made:
        remove_tree(f"{base}/upper")
        remove_tree(f"{base}/work")
    os.makedirs(f"{base}/work", mode=0o755, exist_ok=True)
    if not os.path.isdir(f"{base}/upper"):
        os.mkdir(f"{base}/upper", 0o755)
        for layer in host.store.directories(image)[-1:]:
            make_like(f"{base}/upper", layer)
    if made:  # last: one that was half made is made again; an empty marker after a power cut would cost what is in it
        write_atomic(marker, json.dumps(layers).encode())


def place(paths: Paths, name: str) -> None:
    """The directories of its names and of its bundle, in this order: who sees the bundle may write the names."""
    os.makedirs(paths.etc(name), mode=0o755, exist_ok=True)
    os.makedirs(f"{paths.bundle(name)}/rootfs", mode=0o711, exist_ok=True)


def bundle(host: Host, name: str, spec: Spec) -> None:
    """config.json and monitor.json, and applied.json last: it says that all of it is as this spec has it."""
    around = surroundings(host, name, spec)
    for kind, path in around.joined.items():
        if not path:
            raise StateError(
                f"container {name} is to join the {kind} namespace of a container that does not run",
                hint="start it first",
            )
    directory = host.paths.bundle(name)
    place(host.paths, name)
    if spec["secrets"]:
        secrets.write(host.paths, name, spec["secrets"], around.labels)
    else:
        secrets.remove(host.paths, name)
    _label(host.paths, name, spec, around)
    _write(f"{directory}/config.json", compile.config(spec, around))
    _write(f"{directory}/monitor.json", compile.monitor(spec, around))
    applied(host.paths, name, {**spec, "image_id": around.image.id})


def _label(paths: Paths, name: str, spec: Spec, around: compile.Surroundings) -> None:
    """Files that processes with the container's label and profile will need: its names, its log, its volumes."""
    files = [(f"{paths.etc(name)}/{file}", 0o644) for file in compile.NAME_FILES]
    if around.labels.mount and spec["log_driver"] == "file":
        files.append((paths.log(name), 0o640))
    for path, mode in files:
        flags = os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        os.close(os.open(path, flags, mode))
    labels.label_files(around.labels, paths.etc(name), *(path for path, dummy in files))
    labels.label_volumes(spec, around.labels, around.volumes)
    labels.load_profile(around.labels)


def monitor(host: Host, name: str, spec: Spec) -> None:
    """monitor.json alone, for what only the supervisor has to know."""
    _write(f"{host.paths.bundle(name)}/monitor.json", compile.monitor(spec, surroundings(host, name, spec)))


def applied(paths: Paths, name: str, spec: Spec) -> None:
    _write(f"{paths.bundle(name)}/applied.json", stored(paths, name, spec))


def _write(path: str, data: Any) -> None:
    text = json.dumps(data, sort_keys=True).encode()
    if not holds(path, text):
        write_atomic(path, text, mode=0o600, durable=False)


def stored(paths: Paths, name: str, spec: Spec) -> dict[str, Any]:
    """The spec as it may lie on a disk; the same each time for the same spec."""
    return {**spec, "secrets": secrets.stored(paths, name, spec["secrets"])}


def remember_stopped(paths: Paths, name: str, stopped: bool) -> None:
    """Whether a reboot is to start it: a mark for those that are declared as not running."""
    mark = f"{paths.resource(KIND, name)}/stopped"
    if stopped:
        write_atomic(mark, b"", durable=False)
    elif os.path.lexists(mark):
        os.unlink(mark)


def is_stopped(paths: Paths, name: str) -> bool:
    return os.path.lexists(f"{paths.resource(KIND, name)}/stopped")


# What is an instance's own in its home; the rest of a container's directory is the container's.
_OF_INSTANCE = ("upper", "work", "previous", "base.json", "etc")


def has_other(host: Host, name: str) -> bool:
    """Is there anything of an instance that does not count? What is made first of one is looked for, and goes last."""
    paths = host.paths.seen_with(host.paths.other_instance(name))
    home = [f"{paths.home(name)}/{entry}" for entry in _OF_INSTANCE] if paths.chosen == name else [paths.home(name)]
    return firewall.other(name) in host.attachments or any(map(os.path.lexists, [*home, paths.bundle(name)]))


def take_over(paths: Paths, instance: str) -> None:
    """From now on its container's name stands for the instance. A kill leaves it with one of both."""
    name = container_of(instance)
    link = paths.instance_link(name)
    if instance == name:
        os.unlink(link)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{link}.new")
        os.symlink(instance, f"{link}.new")
        os.rename(f"{link}.new", link)
    fsync_directory(os.path.dirname(link))


def discard_instance(paths: Paths, name: str) -> None:
    """Everything of an instance that is stopped and off its networks."""
    secrets.remove(paths, name)
    remove_tree(paths.bundle(name))
    home = paths.home(name)
    for entry in _OF_INSTANCE:
        remove_tree(f"{home}/{entry}")
    if home != paths.resource(KIND, name):
        remove_tree(home)


def discard(paths: Paths, name: str) -> None:
    """Everything of a container that is stopped and off its networks."""
    base, other = paths.resource(KIND, name), paths.seen_with(paths.other_instance(name))
    if any(map(os.path.lexists, (other.bundle(name), other.home(name)))):
        discard_instance(other, name)
    secrets.remove(paths, name)
    remove_tree(paths.bundle(name))
    for entry in ("upper", "work"):
        remove_tree(f"{paths.home(name)}/{entry}")
    if paths.home(name) != base:
        remove_tree(paths.home(name))
    for entry in os.listdir(base) if os.path.isdir(base) else []:
        if entry != "spec.json":
            remove_tree(f"{base}/{entry}")
    store.remove_spec(paths, KIND, name)
    for directory in (f"{paths.run}/bundles", f"{paths.run}/endpoints", paths.runtime, paths.run):
        try:
            os.rmdir(directory)
        except OSError:
            pass  # others are there still
