# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates: a distribution installed into a root file system, as lxc-create does it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import IO, Any, Optional

from .._errors import OptionError, StoreError
from .._kernel.mount import mount
from . import child, debian, layer, pack
from .busybox import make as make_busybox
from .busybox import program as busybox
from .config import architecture
from .debian import DEFAULTS as DEBIAN_DEFAULTS
from .record import canonical
from .rootfs import empty_dev
from .store import Store

__all__ = ["DEBIAN_DEFAULTS", "NAMES", "build", "check", "key"]

NAMES = ("debian", "busybox")
_LINES = 6
_ROOM_MIN = 1 << 30
# As the kernel has it, and apt, which asks before.
_FULL = ("No space left on device", "enough free space")
# Each program that is looked for in the user's own directories first is looked for in vain, thousands of times.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def check(template: str, option: str) -> None:
    """Is there such a template? Raises OptionError or DependencyError."""
    if template == "busybox":
        busybox()
    elif template == "debian":
        debian.program()
    elif not template.startswith("/"):
        raise OptionError(option, template, f"is no template; use {', '.join(NAMES)} or the path of a script")
    elif not os.path.isfile(template) or not os.access(template, os.X_OK):
        raise OptionError(option, template, "is not an executable file on the target")


def key(template: str, options: Mapping[str, Any]) -> str:
    """What the image is made from: the template's name, options and, where it is a file, content."""
    what = {"template": template, "options": dict(options), "architecture": architecture()}
    if template != "debian":
        with open(busybox() if template == "busybox" else template, "rb") as file:
            what["content"] = hashlib.sha256(file.read()).hexdigest()
    return hashlib.sha256(canonical(what)).hexdigest()


def build(store: Store, template: str, options: Mapping[str, Any], name: str) -> str:
    """Run the template into a new layer; its diff_id. Of several processes that want the same, one does the work."""
    with store.work() as work, store.once(made := key(template, options)):
        rootfs = work.directory()
        diff_id, size = _fill(template, options, name, rootfs)
        work.adopt(rootfs, diff_id, size)
        store.set_key(made, diff_id)
        return diff_id


def _fill(template: str, options: Mapping[str, Any], name: str, rootfs: str) -> tuple[str, int]:
    """(diff_id, size) of what the template has made."""
    if template == "debian":
        return _debian(rootfs, options)
    if template == "busybox":
        make_busybox(rootfs)
    else:
        env = {"LXC_ROOTFS": rootfs, "LXC_NAME": name, "VESSEL_ROOTFS": rootfs, "VESSEL_NAME": name}
        command = [template, *(f"--{option}={value}" for option, value in options.items())]
        _check(template, command, *_run(command, env))
        if not os.listdir(rootfs):
            raise StoreError(f"template {template} left its root file system empty", hint="it is to fill $LXC_ROOTFS")
        empty_dev(rootfs)
    return pack.measure(rootfs)


def _debian(rootfs: str, options: Mapping[str, Any]) -> tuple[str, int]:
    """In memory where there is room, and from there to the disk."""
    command, env = debian.command(rootfs, options)
    memory = _room()
    if memory >= _ROOM_MIN:
        staged = _Staged(rootfs, memory)
        code, words = _run(command, env, staged)
        if code == 0 and staged.found:
            return staged.found
        if not any(sentence in words for sentence in _FULL):
            _check("debian", command, code, words)
    _check("debian", command, *_run(command, env))
    debian.clean(rootfs)
    empty_dev(rootfs)
    return pack.measure(rootfs)


class _Staged(child.Around):
    """A root file system in memory, packed there and unpacked to where it is to be.

    Package managers write each file twice, under another name and over another one, which keeps a disk busy for longer
    than the copy takes.
    """

    def __init__(self, rootfs: str, size: int) -> None:
        self.rootfs = rootfs
        self.size = size
        self.found: Optional[tuple[str, int]] = None

    def before(self) -> None:
        mount("vessel", self.rootfs, "tmpfs", 0, f"size={self.size},mode=755")

    def after(self, out: IO[bytes]) -> None:
        debian.clean(self.rootfs)
        pack.pack(self.rootfs, out, empty=("dev",), devices=False)

    def take(self, stream: IO[bytes]) -> None:
        self.found = layer.unpack(stream, self.rootfs)


def _room() -> int:
    """Half of the memory that is free; file(5) proc_meminfo."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            found = dict(line.split(":", 1) for line in file)
        return int(found["MemAvailable"].split()[0]) << 9
    except (OSError, KeyError, ValueError):
        return 0


def _run(command: list[str], env: Mapping[str, str], around: Optional[child.Around] = None) -> tuple[int, str]:
    own = {"PATH": _PATH, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    return child.run(command, {**os.environ, **own, **env}, around)


def _check(template: str, command: list[str], code: int, words: str) -> None:
    if code:
        lines = [line.strip() for line in words.splitlines() if line.strip()][-_LINES:]
        said = " | ".join(lines) or "it said nothing"
        raise StoreError(f"template {template}: {command[0]} ended with {code}: {said}")
