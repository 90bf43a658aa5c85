# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of an image, one record each, and the parsers that only images need."""

from __future__ import annotations

import re
import signal
from typing import Any

from .._errors import OptionError
from .._image.layer import MAKE, REFUSE, SKIP
from .._image.manifest import parse_platform
from .._image.registry.endpoint import parse_mirror
from .._image.template import DEBIAN_DEFAULTS, NAMES
from .container_options import (
    HEALTHCHECK,
    PULL,
    parse_env,
    parse_healthcheck,
    parse_image,
    parse_user,
)
from .options import Option, group, parse_options
from .parse import (
    choice,
    integer,
    listing,
    mapping,
    parse_bool,
    parse_command,
    parse_mode,
    parse_name,
    parse_path,
    parse_signal,
    parse_str,
    parse_word,
    size,
)

STATES = ("present", "absent")
SOURCES = ("registry", "archive", "rootfs", "template", "container")
DEVICE_NODES = (REFUSE, SKIP, MAKE)
_ID = integer(0, 2**32 - 2)


def parse_target_path(value: Any, option: str) -> str:
    """A path on the target, where ~ and $VARIABLES may stand."""
    import os

    return parse_path(os.path.expanduser(os.path.expandvars(value)) if isinstance(value, str) else value, option)


def parse_port(value: Any, option: str) -> str:
    """``80`` or ``53/udp``; canonical has the protocol."""
    text = parse_str(value, option)
    match = re.fullmatch(r"(\d{1,5})(?:/(tcp|udp|sctp))?", text)
    if not match or not 1 <= int(match[1]) <= 65535:
        raise OptionError(option, value, "is not a port such as 80 or 53/udp")
    return f"{int(match[1])}/{match[2] or 'tcp'}"


def parse_signal_name(value: Any, option: str) -> str:
    """A signal as images spell it."""
    number = parse_signal(value, option)
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def parse_platform_name(value: Any, option: str) -> str:
    """``linux/arm64`` or ``linux/arm/v7``, as image indexes have it."""
    return str(parse_platform(parse_word(value, option), option))


def parse_mirror_name(value: Any, option: str) -> str:
    return parse_mirror(parse_word(value, option), option)


def parse_run(value: Any, option: str) -> Any:
    """A string is for the shell, a list is a program and its arguments."""
    if isinstance(value, (list, tuple)):
        words = parse_command(value, option)
        if not words:
            raise OptionError(option, value, "is empty; give a command")
        return words
    return parse_word(value, option)


COPY = (
    Option("src", parse_target_path, "path"),
    Option("content", parse_str),
    Option("dest", parse_word, required=True),
    Option("owner", _ID, "int"),
    Option("group", _ID, "int"),
    Option("mode", parse_mode),
)


def parse_copy(value: Any, option: str) -> dict[str, Any]:
    """As the build takes it: uid and gid are numbers, and one of src and content is there."""
    copy = group(*COPY)(value, option)
    if ("src" in copy) == ("content" in copy):
        raise OptionError(option, sorted(copy), "needs one of src and content, and not both")
    directory = copy["dest"].endswith("/")
    if directory and "content" in copy:
        raise OptionError(f"{option}.dest", copy["dest"], "is a directory, and content needs a file's name")
    # The slash at the end says that src goes into the directory.
    result = {"dest": parse_path(copy["dest"], f"{option}.dest") + ("/" if directory else "")}
    names = {"src": "src", "content": "content", "owner": "uid", "group": "gid", "mode": "mode"}
    result.update({names[key]: item for key, item in copy.items() if key in names})
    return result


LAYER = (
    Option("run", parse_run, "raw"),
    Option("copy", parse_copy, "dict", options=COPY),
    Option("env", parse_env, "dict"),
)


def parse_layer(value: Any, option: str) -> dict[str, Any]:
    step: dict[str, Any] = group(*LAYER)(value, option)
    if len(step) != 1:
        raise OptionError(option, sorted(step), "needs one of run, copy and env; write one item for each")
    return step


TEMPLATE_OPTIONS = (
    Option("suite", parse_word),
    Option("variant", parse_word),
    Option("mirror", parse_str),
    Option("packages", listing(parse_word, unique=True, ordered=False), "list", elements="str"),
    Option("components", listing(parse_word, unique=True), "list", elements="str"),
    Option("architecture", parse_word),
    Option("docs", parse_bool, "bool"),
)


def parse_template_options(template: str, value: dict[str, Any]) -> dict[str, Any]:
    """What the template takes, with its defaults filled in, so that naming a default is no change."""
    if template == "debian":
        return {**DEBIAN_DEFAULTS, **parse_options(TEMPLATE_OPTIONS, value, "template_options")}
    if template in NAMES and value:
        raise OptionError("template_options", value, f"can't be: the template {template} has no options")
    options: dict[str, Any] = mapping(parse_str)(value, "template_options")
    return options


def parse_any_mapping(value: Any, option: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise OptionError(option, value, "is not a mapping; write name: value")
    return dict(value)


# What the image's configuration says, over what its base says.
CONFIG: tuple[Option, ...] = (
    Option("cmd", parse_command, "raw"),
    Option("entrypoint", parse_command, "list", elements="str"),
    Option("env", parse_env, "dict"),
    Option("user", parse_user),
    Option("working_dir", parse_path, "path"),
    Option("exposed_ports", listing(parse_port, unique=True, ordered=False), "list", elements="str"),
    Option("volumes", listing(parse_path, unique=True, ordered=False), "list", elements="str"),
    Option("labels", mapping(parse_str), "dict"),
    Option("stop_signal", parse_signal_name),
    Option("healthcheck", parse_healthcheck, "dict", options=HEALTHCHECK),
)
# How a registry is reached.
ACCESS: tuple[Option, ...] = (
    Option("mirrors", listing(parse_mirror_name, unique=True), "list", elements="str"),
    Option("tls_verify", parse_bool, "bool"),
    Option("ca_path", parse_target_path, "path"),
    Option("client_cert", parse_target_path, "path"),
    Option("client_key", parse_target_path, "path"),
    Option("auth_file", parse_target_path, "path"),
    Option("username", parse_str),
    Option("password", parse_str, secret=True),
)
REGISTRY: tuple[Option, ...] = (
    Option("pull", choice(*PULL), choices=PULL),
    Option("platform", parse_platform_name),
    *ACCESS,
)
OPTIONS: tuple[Option, ...] = (
    Option("source", choice(*SOURCES), choices=SOURCES),
    *REGISTRY,
    Option("path", parse_target_path, "path"),
    Option("archive_name", parse_word),
    Option("template", parse_word),
    Option("template_options", parse_any_mapping, "dict"),
    Option("from", parse_image),
    Option("container", parse_name),
    Option("max_size", size(1)),
    Option("device_nodes", choice(*DEVICE_NODES), choices=DEVICE_NODES),
    Option("layers", listing(parse_layer), "list", elements="dict", options=LAYER),
    *CONFIG,
)
DIRECTIVES: tuple[Option, ...] = (
    Option("name", parse_image, required=True),
    Option("state", choice(*STATES), choices=STATES, default="present", shown_default="present"),
    Option("force", parse_bool, "bool", default=False, shown_default=False),
)
