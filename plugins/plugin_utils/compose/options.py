# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of vessel.host.stack that speak of compose files, as they are before the module sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError
from ansible_collections.vessel.host.plugins.module_utils._options.container import parse_env
from ansible_collections.vessel.host.plugins.module_utils._options.parse import parse_name, parse_path
from ansible_collections.vessel.host.plugins.module_utils._options.stack import COMPOSE

from .errors import ComposeError
from .merge import as_list
from .project import Given
from .values import text

__all__ = ("COMPOSE", "given_of")

# A path on the controller, of what an option names.
Find = Callable[[str, str], str]


def given_of(args: Mapping[str, Any], find: Find, base: str) -> Given:
    """Raises ComposeError for an option that can't be."""
    try:
        return _given_of(args, find, base)
    except OptionError as error:
        raise ComposeError("", error.option, error.value, error.problem, error.hint) from None


def _given_of(args: Mapping[str, Any], find: Find, base: str) -> Given:
    files = [find("compose", one) if _is_path(one) else one for one in as_list(args["compose"])]
    profiles = args.get("compose_profiles")
    directory = args.get("compose_project_directory")
    target = args.get("compose_target_directory")
    return Given(
        compose=files,
        base=base,
        name=parse_name(args["name"], "name") if args.get("name") else "",
        variables=parse_env(_texts(args.get("compose_env") or {}), "compose_env"),
        env_files=[
            find("compose_env_files", path) for path in _words(args.get("compose_env_files"), "compose_env_files")
        ],
        profiles=None if profiles is None else _words(profiles, "compose_profiles"),
        project_directory=find("compose_project_directory", directory) if directory else "",
        target_directory=parse_path(target, "compose_target_directory") if target else "",
    )


def _is_path(one: Any) -> bool:
    return isinstance(one, str) and bool(one.strip())


def _texts(value: Any) -> Any:
    """Whatever a play makes of a value is a word here: variables have no other kind."""
    return {key: text(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _words(value: Any, option: str) -> list[str]:
    words = [] if value is None else value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ComposeError("", option, value, "is not a list of words")
    return [word.strip() for word in words]
