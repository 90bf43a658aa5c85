# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a stack: a mapping of each kind, each with the options of the module of that kind."""

from __future__ import annotations

from typing import Any

from .._errors import OptionError
from . import container, image, network, volume
from .parse import Parser, choice, integer, parse_bool, parse_duration, parse_name
from .record import Cost, Option, parse_options

STATES = ("present", "stopped", "absent", "rolled_back")
CONDITIONS = ("started", "healthy", "completed")
_CONTAINER = (
    *container.OPTIONS,
    *(option for option in container.DIRECTIVES if option.name in ("state", "paused", "pull")),
)


def parse_depends_on(value: Any, option: str) -> dict[str, str]:
    """A list of names, or a mapping name: condition; compose's service_healthy and the like are understood."""
    if isinstance(value, (list, tuple)):
        value = dict.fromkeys(value, "started")
    if not isinstance(value, dict):
        raise OptionError(option, value, "is not a list of names, nor a mapping name: condition")
    return {parse_name(name, option): _condition(text, f"{option}.{name}") for name, text in sorted(value.items())}


def _condition(value: Any, option: str) -> str:
    if isinstance(value, dict):
        value = value.get("condition", "started")
    text = str(value).removeprefix("service_").replace("completed_successfully", "completed")
    return str(choice(*CONDITIONS)(text, option))


DEPENDS_ON = Option("depends_on", parse_depends_on, "raw", default={}, cost=Cost.live)


def named(options: tuple[Option, ...], *, key: Parser = parse_name) -> Parser:
    """A parser of a mapping name: options of that kind."""

    def parse(value: Any, option: str) -> dict[str, dict[str, Any]]:
        if not isinstance(value, dict):
            raise OptionError(option, value, "is not a mapping; write the name, a colon, and below it its options")
        result = {}
        for name, body in value.items():
            where = f"{option}.{name}"
            if body is not None and not isinstance(body, dict):
                raise OptionError(where, body, "is not a mapping of options")
            result[key(name, where)] = parse_options(options, body or {}, where)
        return result

    return parse


def _without(options: tuple[Option, ...], *names: str) -> tuple[Option, ...]:
    return tuple(option for option in options if option.name not in ("name", "state", *names))


def _named(name: str, options: tuple[Option, ...], *, key: Parser = parse_name) -> Option:
    return Option(name, named(options, key=key), "dict", default={}, each=options)


def on_controller(value: Any, option: str) -> Any:
    """What the action plugin makes the other options of, before the module sees any."""
    problem = "is of the controller's, where only the action plugin of vessel.host.stack reads it"
    raise OptionError(option, value, problem, hint="give networks, volumes, images and containers")


_COMPOSE = (
    Option("compose", on_controller, "raw"),
    Option("compose_env", on_controller, "dict"),
    Option("compose_env_files", on_controller, "list", elements="path"),
    Option("compose_profiles", on_controller, "list", elements="str"),
    Option("compose_project_directory", on_controller, "path"),
    Option("compose_target_directory", on_controller, "path"),
)
COMPOSE = tuple(option.name for option in _COMPOSE)
OPTIONS: tuple[Option, ...] = (
    Option("name", parse_name),
    Option(
        "state",
        choice(*STATES),
        choices=STATES,
        default="present",
        shown_default="present",
    ),
    _named("networks", _without(network.OPTIONS, "force")),
    _named("volumes", _without(volume.OPTIONS)),
    _named("images", _without(image.OPTIONS), key=container.parse_image),
    _named("containers", (*_CONTAINER, DEPENDS_ON)),
    Option("revision", integer(1), "int"),
    Option("history_limit", integer(0, 1000), "int", default=3, shown_default=3),
    Option("prune", parse_bool, "bool", default=False, shown_default=False),
    Option("recreate", parse_bool, "bool", default=False, shown_default=False),
    next(option for option in container.DIRECTIVES if option.name == "max_disruption"),
    Option("wait_timeout", parse_duration, "str", default=300.0),
    *_COMPOSE,
)
