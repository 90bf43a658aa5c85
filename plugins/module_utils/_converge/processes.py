# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one more process in a running container is. ``vessel exec`` starts with this file, so it imports little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Optional

from .._paths import Paths
from . import running
from .container import identity


class Request(NamedTuple):
    """What is to run, and how; empty means as the container's own process."""

    argv: Sequence[str]
    user: str = ""
    chdir: str = ""
    env: Mapping[str, str] = MappingProxyType({})
    stdin: Optional[bytes] = None
    tty: bool = False
    detach: bool = False
    timeout: Optional[float] = None


def process(paths: Paths, name: str, request: Request) -> dict[str, Any]:
    """The request as config.json's ``process``."""
    base: dict[str, Any] = running.config(paths, name)["process"]
    env = dict(item.partition("=")[::2] for item in base.get("env", []))
    result = {**base, "args": list(request.argv), "terminal": request.tty, "cwd": request.chdir or base["cwd"]}
    if request.user:
        who = _identity(paths, name, request.user)
        result["user"] = {"uid": who.uid, "gid": who.gid, "additionalGids": list(who.groups)}
        env["HOME"] = who.home
        result["capabilities"] = _capabilities(base.get("capabilities", {}), root=who.uid == 0)
    result["env"] = [f"{key}={value}" for key, value in {**env, **request.env}.items()]
    return result


def _identity(paths: Paths, name: str, user: str) -> identity.Identity:
    root = [f"/proc/{running.pid_of(paths, name)}/root"]
    passwd, group = (identity.read_file(root, f"/etc/{file}") for file in ("passwd", "group"))
    return identity.resolve(user, (), passwd, group)


def _capabilities(base: Mapping[str, list[str]], *, root: bool) -> dict[str, list[str]]:
    """The container's bounding set; held from the start by root alone (capabilities(7))."""
    bounding = list(base.get("bounding", []))
    held = bounding if root else []
    return {"bounding": bounding, "effective": held, "permitted": held}
