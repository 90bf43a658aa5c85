# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Relative paths in a model: those of a file elsewhere, as they are from the project's own directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

Model = dict[str, Any]


def moved(model: Model, there: str, here: str) -> Model:
    """Paths that start at ``there``, as paths that start at ``here``."""
    if os.path.normpath(there) == os.path.normpath(here):
        return model

    def move(path: Any) -> Any:
        if not isinstance(path, str) or not is_relative(path):
            return path
        found = os.path.relpath(os.path.join(there, path), here)
        return found if found.startswith("..") else f"./{found}"

    services = {name: _service(body, move) for name, body in (model.get("services") or {}).items()}
    result = {**model, **({"services": services} if services else {})}
    for kind in ("secrets", "configs"):
        if model.get(kind):
            result[kind] = {name: _with(body, "file", move) for name, body in model[kind].items()}
    return result


def is_relative(path: str) -> bool:
    """Not one from the root, from a home, or an address."""
    return not path.startswith(("/", "~")) and "://" not in path and not path.startswith("git@")


def is_place(source: str) -> bool:
    """Is the source of a mount a path, and no volume's name?"""
    return source.startswith((".", "/", "~"))


def _with(body: Any, name: str, move: Callable[[Any], Any]) -> Any:
    return {**body, name: move(body[name])} if isinstance(body, dict) and name in body else body


def _service(body: Any, move: Callable[[Any], Any]) -> Any:
    if not isinstance(body, dict):
        return body
    result = dict(body)
    if "build" in body:
        build = body["build"]
        result["build"] = move(build) if isinstance(build, str) else _with(build, "context", move)
    for name in ("env_file", "label_file"):
        if name in body:
            found = body[name]
            result[name] = [_file(item, move) for item in found] if isinstance(found, list) else move(found)
    if isinstance(body.get("volumes"), list):
        result["volumes"] = [_volume(item, move) for item in body["volumes"]]
    return result


def _file(item: Any, move: Callable[[Any], Any]) -> Any:
    return _with(item, "path", move) if isinstance(item, dict) else move(item)


def _volume(item: Any, move: Callable[[Any], Any]) -> Any:
    if isinstance(item, dict):
        return _with(item, "source", move) if item.get("type") == "bind" else item
    source, colon, rest = str(item).partition(":")
    return f"{move(source)}{colon}{rest}" if colon and is_place(source) else item
