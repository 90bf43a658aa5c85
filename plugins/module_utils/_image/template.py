# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates: a distribution installed into a root file system, as lxc-create does it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from .._errors import OptionError, StoreError
from . import child, debian, pack
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
        _fill(template, options, name, rootfs)
        empty_dev(rootfs)
        diff_id, size = pack.measure(rootfs)
        work.adopt(rootfs, diff_id, size)
        store.set_key(made, diff_id)
        return diff_id


def _fill(template: str, options: Mapping[str, Any], name: str, rootfs: str) -> None:
    if template == "busybox":
        make_busybox(rootfs)
    elif template == "debian":
        _run(*debian.command(rootfs, options), "debian")
        debian.clean(rootfs)
    else:
        env = {"LXC_ROOTFS": rootfs, "LXC_NAME": name, "VESSEL_ROOTFS": rootfs, "VESSEL_NAME": name}
        _run([template, *(f"--{option}={value}" for option, value in options.items())], env, template)
        if not os.listdir(rootfs):
            raise StoreError(f"template {template} left its root file system empty", hint="it is to fill $LXC_ROOTFS")


def _run(command: list[str], env: Mapping[str, str], template: str) -> None:
    own = {"PATH": _PATH, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    code, words = child.run(command, {**os.environ, **own, **env})
    if code:
        lines = [line.strip() for line in words.splitlines() if line.strip()][-_LINES:]
        said = " | ".join(lines) or "it said nothing"
        raise StoreError(f"template {template}: {command[0]} ended with {code}: {said}")
