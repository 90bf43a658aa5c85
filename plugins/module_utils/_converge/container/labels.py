# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which SELinux labels and which AppArmor profile a container has: of its options, and of what this host enforces.

Two containers differ in a pair of categories (MCS), which is a container's own for as long as it is declared.
"""

from __future__ import annotations

import os
import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from ..._errors import OptionError
from ..._kernel import apparmor, selinux
from ..._kernel.file import write_atomic
from ..._options.container import NEVER_RELABELLED, relabel_word, volume_parts
from ..._paths import Paths
from .. import store
from .security import APPARMOR_PROFILE, APPARMOR_TEXT

Spec = Mapping[str, Any]
KIND = "containers"
CATEGORIES = 1024  # of the policies that distributions ship
SHARED = "s0"
PRIVILEGED_TYPE = "spc_t"


@dataclass(frozen=True)
class Labels:
    """As config.json has them; empty is none."""

    process: str = ""  # SELinux, of its processes
    mount: str = ""  # SELinux, of its files
    apparmor: str = ""


UNLABELLED = Labels()


def contexts() -> Optional[tuple[str, str]]:
    """(of processes, of files) before anything is added; None where SELinux is off or its policy has no containers."""
    process, file = selinux.container_label("process"), selinux.container_label("file")
    return (process, file) if process and file else None


def of(paths: Paths, name: str, spec: Spec) -> Labels:
    process, mount = _selinux(paths, name, spec)
    return Labels(process, mount, _apparmor(spec))


def of_config(config: Mapping[str, Any]) -> Labels:
    """Those that config.json has."""
    process, linux = config.get("process") or {}, config.get("linux") or {}
    return Labels(
        process.get("selinuxLabel") or "", linux.get("mountLabel") or "", process.get("apparmorProfile") or ""
    )


def asked(spec: Spec, kind: str) -> dict[str, str]:
    """Of ``security_opts`` those of a kind, ``label`` or ``apparmor``: label=type:T is {"type": "T"}."""
    found = {}
    for entry in spec["security_opts"]:
        key, dummy, value = entry.partition("=")
        if key == kind:
            word, dummy, rest = value.partition(":")
            found[word] = rest
    return found


def _selinux(paths: Paths, name: str, spec: Spec) -> tuple[str, str]:
    base, wanted = contexts(), asked(spec, "label")
    if base is None or "disable" in wanted:
        return "", ""
    if spec["privileged"]:
        without = with_parts(base[0], {"type": PRIVILEGED_TYPE})
        return (without if selinux.valid(without) else ""), ""
    if "host" in (spec["pid_mode"], spec["ipc_mode"]):
        return "", ""  # as docker: it is to see what others have, with labels of their own
    level = {"level": wanted.get("level") or _level_of(paths, name, spec)}
    process = with_parts(base[0], {**wanted, **level})
    return process, with_parts(base[1], {"type": wanted.get("filetype", ""), **level})


def with_parts(context: str, parts: Mapping[str, str]) -> str:
    """A context with other parts, of user, role, type and level; an empty one stays as it is."""
    names = ("user", "role", "type", "level")
    own = dict(zip(names, context.split(":", 3)))
    return ":".join(parts.get(name) or own.get(name) or SHARED for name in names)


def _level_of(paths: Paths, name: str, spec: Spec) -> str:
    """Who joins the processes or the shared memory of another must have its categories."""
    for option in ("pid_mode", "ipc_mode"):
        kind, dummy, other = spec[option].partition(":")
        if kind == "container":
            return read_level(paths, other)
    return read_level(paths, name)


# the pair of categories


def _level_path(paths: Paths, name: str) -> str:
    return f"{paths.resource(KIND, name)}/level"


def read_level(paths: Paths, name: str) -> str:
    """``s0:c1,c2``; empty while it has none."""
    try:
        with open(_level_path(paths, name), encoding="ascii") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return ""


def assign_levels(paths: Paths, names: Iterable[str]) -> None:
    """Pairs that no other container of the installation has, kept until they are removed."""
    missing = [name for name in names if not read_level(paths, name)] if contexts() else []
    if not missing:
        return
    with store.lock(paths, "levels", "all"):
        taken = {read_level(paths, other) for other in store.names(paths, KIND)}
        for name in missing:
            level = free_level(taken)
            taken.add(level)
            # One that a power cut took is chosen anew, as nobody has run with it since.
            write_atomic(_level_path(paths, name), level.encode(), mode=0o600, durable=False)


def free_level(used: Collection[str]) -> str:
    """Of half a million pairs one that is not ``used``, in the order in which the kernel prints them."""
    while True:
        first, second = sorted(random.sample(range(CATEGORIES), 2))
        level = f"s0:c{first},c{second}"
        if level not in used:
            return level


# files


def volume_label(entry: str, labels: Labels, present: str) -> str:
    """What the top of a volume is to have, with what it has now; empty for as it is.

    A named volume is ours to label; one that has a label for containers by then keeps it, as somebody has asked for it.
    """
    source, dummy, words = volume_parts(entry)
    word = relabel_word(words)
    if not labels.mount:
        return ""
    if word == "Z":
        return labels.mount
    shared = with_parts(labels.mount, {"level": SHARED})
    if word == "z":
        return shared
    of_containers = present.split(":")[2:3] == shared.split(":")[2:3]
    return "" if source.startswith("/") or of_containers else shared


def wrong_volumes(spec: Spec, labels: Labels, sources: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(path, label that it has, label that it is to have) of volumes; ``sources`` are the named ones' directories."""
    found = []
    for entry in spec["volumes"] if labels.mount else []:
        source = volume_parts(entry)[0]
        path = source if source.startswith("/") else sources[source]
        present = selinux.file_label(path)
        wanted = volume_label(entry, labels, present)
        if wanted and wanted != present:
            found.append((path, present, wanted))
    return found


def label_volumes(spec: Spec, labels: Labels, sources: Mapping[str, str]) -> None:
    for path, dummy, wanted in wrong_volumes(spec, labels, sources):
        selinux.relabel(path, wanted)


def label_files(labels: Labels, *paths: str) -> None:
    """What we make and bind into the container; the directories first, so that what is made in them is labelled."""
    for path in paths if labels.mount else ():
        selinux.set_file_label(path, labels.mount)


# AppArmor


def _apparmor(spec: Spec) -> str:
    if not apparmor.enabled():
        return ""
    wanted = next(iter(asked(spec, "apparmor")), "")
    if wanted or spec["privileged"]:
        return wanted
    return APPARMOR_PROFILE if apparmor.parser() or APPARMOR_PROFILE in apparmor.profiles() else ""


def load_profile(labels: Labels) -> None:
    """Our own; a reboot unloads all."""
    if labels.apparmor == APPARMOR_PROFILE and APPARMOR_PROFILE not in apparmor.profiles():
        apparmor.load(APPARMOR_TEXT)


# before the first side effect


def check(paths: Paths, name: str, spec: Spec) -> None:
    """Raise OptionError for a label or a profile that this host does not have."""
    for index, entry in enumerate(spec["security_opts"]):
        _check_entry(f"security_opts[{index}]", entry)
    for index, entry in enumerate(spec["volumes"]):
        _check_volume(paths, f"volumes[{index}]", entry)
    labels = of(paths, name, spec)
    for label in (labels.process, labels.mount):
        if label and not selinux.valid(label):
            problem = f"comes to {label}, which the SELinux policy of this host does not know"
            raise OptionError("security_opts", spec["security_opts"], problem)


def _check_entry(option: str, entry: str) -> None:
    kind, dummy, value = entry.partition("=")
    if kind == "label" and value != "disable" and contexts() is None and selinux.enabled():
        hint = "the role vessel.host.setup loads one: semodule -i vessel.cil"
        raise OptionError(option, entry, "needs types for containers, which this host's policy lacks", hint=hint)
    if kind != "apparmor" or value == "unconfined":
        return
    if not apparmor.enabled():
        raise OptionError(option, entry, "names a profile, and this host has no AppArmor")
    known = apparmor.profiles()
    if value not in known and not (value == APPARMOR_PROFILE and apparmor.parser()):
        hint = f"apparmor_parser -r loads one from a file; there are {len(known)}, which aa-status lists"
        raise OptionError(option, entry, "names a profile that is not loaded on this host", hint=hint)


def _check_volume(paths: Paths, option: str, entry: str) -> None:
    """What a link leads to is what would be relabelled; the store has labels that are not one container's to give."""
    source, dummy, words = volume_parts(entry)
    word, place = relabel_word(words), os.path.realpath(source)
    if not word or not source.startswith("/"):
        return
    if place in NEVER_RELABELLED or f"{paths.state}/".startswith(f"{place}/"):
        problem = (
            f"would give all files below {place} a label for containers, and what needs the present ones loses them"
        )
        raise OptionError(option, entry, problem, hint=f"leave the {word} out")


def shown(pid: int, labels: Labels) -> dict[str, str]:
    """What container_info tells: what the process has, where one runs, and what its files are to have."""
    on = apparmor.enabled()
    return {
        "process_label": selinux.process_label(pid) if pid and selinux.enabled() else labels.process,
        "mount_label": labels.mount,
        "apparmor_profile": apparmor.process_profile(pid) if pid and on else labels.apparmor,
    }
