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
from .container import HEALTHCHECK, PULL, parse_env, parse_healthcheck, parse_image, parse_user
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
from .record import Option, check_each_once, group, parse_options
from .sent import parse_src

STATES = ("present", "absent")
SOURCES = ("registry", "archive", "layout", "rootfs", "template", "container")
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


def parse_account(value: Any, option: str) -> str:
    """The name of a user or a group, or its number."""
    text = parse_word(value, option)
    if text.isdecimal():
        return str(_ID(text, option))
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*\$?", text):
        raise OptionError(option, value, "is neither a name nor a number of an account")
    return text


def parse_sources(value: Any, option: str) -> list[str]:
    """One path or several; which they may be depends on where they are, see parse_copy()."""
    values = value if isinstance(value, (list, tuple)) else [value]
    if not values:
        raise OptionError(option, value, "is empty; give a path")
    return [parse_word(item, f"{option}[{index}]" if values is value else option) for index, item in enumerate(values)]


def parse_checksum(value: Any, option: str) -> str:
    """The digest's hexadecimal digits."""
    text = parse_word(value, option)
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", text):
        raise OptionError(option, value, "is not sha256: with 64 hexadecimal digits")
    return text.partition(":")[2]


_FILES = (
    Option("src", parse_sources, "raw"),
    Option("dest", parse_word, required=True),
    Option("owner", parse_account),
    Option("group", parse_account),
    Option("mode", parse_mode),
)
COPY = (*_FILES, Option("content", parse_str), Option("from", parse_image))
ADD = (Option("src", parse_sources, "raw", required=True), *_FILES[1:], Option("checksum", parse_checksum))


def parse_copy(value: Any, option: str) -> dict[str, Any]:
    """One of src and content is there. The slash at the end of dest, which stays, says that src goes into it."""
    copy = group(*COPY)(value, option)
    if ("src" in copy) == ("content" in copy):
        raise OptionError(option, sorted(copy), "needs one of src and content, and not both")
    copy["dest"] = _destination(copy["dest"], f"{option}.dest")
    if "content" in copy and "from" in copy:
        raise OptionError(f"{option}.from", copy["from"], "is an image to copy src from, and there is content")
    if copy["dest"].endswith("/") and "content" in copy:
        raise OptionError(f"{option}.dest", copy["dest"], "is a directory, and content needs a file's name")
    parse = parse_path if "from" in copy else parse_target_path
    return {**copy, **({"src": [parse(path, f"{option}.src") for path in copy["src"]]} if "src" in copy else {})}


def parse_add(value: Any, option: str) -> dict[str, Any]:
    """A checksum stands there for each address that is to be fetched, and for nothing else."""
    from .._image.build.layers import is_url

    add = group(*ADD)(value, option)
    urls = [source for source in add["src"] if is_url(source)]
    if urls and "checksum" not in add:
        raise OptionError(f"{option}.src", urls[0], "is fetched only when checksum says what has to come")
    if "checksum" in add and (not urls or len(add["src"]) > 1):
        raise OptionError(f"{option}.checksum", add["checksum"], "is of one address in src")
    paths = [path if path in urls else parse_target_path(path, f"{option}.src") for path in add["src"]]
    return {**add, "src": paths, "dest": _destination(add["dest"], f"{option}.dest")}


def _destination(value: str, option: str) -> str:
    """Absolute, or below the working directory so far."""
    slash = "/" if value.endswith(("/", "/.")) or value == "." else ""
    if value.startswith("/"):
        path: str = parse_path(value, option)
        return path if path == "/" else path + slash
    if ".." in value.split("/"):
        raise OptionError(option, value, "holds ..; write the path that is meant")
    return value.rstrip("/") + slash


def parse_workdir(value: Any, option: str) -> str:
    """Relative to the one before, or absolute."""
    return _destination(parse_word(value, option), option).rstrip("/") or "/"


def parse_mount(value: Any, option: str) -> dict[str, Any]:
    """As RUN --mount of a Containerfile."""
    from .._image.containerfile.mounts import parse

    text = parse_word(value, option)
    try:
        fields = parse(text)
    except ValueError as error:
        raise OptionError(option, text, f"is no mount: {error}", hint="for example type=cache,target=/cache") from None
    if fields["kind"] == "bind" and "from" not in fields:
        fields["source"] = parse_target_path(fields["source"], f"{option}.source")
    if "from" in fields:
        fields["from"] = parse_image(fields["from"], f"{option}.from")
    return fields


LAYER = (
    Option("run", parse_run, "raw"),
    Option("network", choice("host", "none"), choices=("host", "none")),
    Option("secrets", listing(parse_name, unique=True), "list", elements="str"),
    Option("mounts", listing(parse_mount), "list", elements="str"),
    Option("copy", parse_copy, "dict", options=COPY),
    Option("add", parse_add, "dict", options=ADD),
    Option("env", parse_env, "dict"),
    Option("workdir", parse_workdir),
    Option("user", parse_user),
    Option("expose", listing(parse_port, unique=True, ordered=False), "list", elements="str"),
    Option("label", mapping(parse_str), "dict"),
    Option("volume", listing(parse_path, unique=True, ordered=False), "list", elements="str"),
    Option("entrypoint", parse_command, "list", elements="str"),
    Option("cmd", parse_command, "raw"),
    Option("shell", parse_command, "list", elements="str"),
    Option("stop_signal", parse_signal_name),
    Option("healthcheck", parse_healthcheck, "dict", options=HEALTHCHECK),
)
_OF_RUN = ("network", "secrets", "mounts")


def parse_layer(value: Any, option: str) -> dict[str, Any]:
    """One directive, run with its own options."""
    step: dict[str, Any] = group(*LAYER)(value, option)
    directives = [name for name in step if name not in _OF_RUN]
    if len(directives) != 1:
        names = [entry.name for entry in LAYER if entry.name not in _OF_RUN]
        raise OptionError(option, sorted(step), f"needs one of {', '.join(names)}; write one item for each")
    for name in _OF_RUN:
        if name in step and "run" not in step:
            raise OptionError(f"{option}.{name}", step[name], f"belongs to run, and this is {directives[0]}")
    return step


def parse_containerfile(value: Any, option: str) -> str:
    """Text of several lines is the Containerfile itself; one line is a path, on the target or below the context."""
    text = parse_word(value, option)
    return text if "\n" in text else text.strip()


SECRET = (
    Option("id", parse_name, required=True),
    Option("src", parse_target_path, "path"),
    Option("value", parse_str, secret=True),
)


def parse_secret(value: Any, option: str) -> dict[str, Any]:
    secret: dict[str, Any] = group(*SECRET)(value, option)
    if ("src" in secret) == ("value" in secret):
        raise OptionError(option, sorted(secret), "needs one of src and value, and not both")
    return secret


def parse_build_secrets(value: Any, option: str) -> list[dict[str, Any]]:
    secrets: list[dict[str, Any]] = listing(parse_secret)(value, option)
    check_each_once(secrets, "id", option)
    return secrets


# A build from a Containerfile.
BUILD: tuple[Option, ...] = (
    Option("containerfile", parse_containerfile),
    Option("context", parse_target_path, "path"),
    Option("build_args", mapping(parse_str), "dict"),
    Option("target", parse_word),
)


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
    Option("public_key", parse_target_path, "path"),
    *ACCESS,
)
OPTIONS: tuple[Option, ...] = (
    Option("source", choice(*SOURCES), choices=SOURCES),
    *REGISTRY,
    Option("push", parse_bool, "bool", default=False, shown_default=False),
    Option("verify", parse_bool, "bool", default=False, shown_default=False),
    Option("path", parse_target_path, "path"),
    Option("src", parse_src, "path"),
    Option("archive_name", parse_word),
    Option("template", parse_word),
    Option("template_options", parse_any_mapping, "dict"),
    Option("from", parse_image),
    Option("container", parse_name),
    Option("max_size", size(1)),
    Option("device_nodes", choice(*DEVICE_NODES), choices=DEVICE_NODES),
    Option("layers", listing(parse_layer), "list", elements="dict", options=LAYER),
    *BUILD,
    Option("secrets", parse_build_secrets, "list", elements="dict", options=SECRET),
    *CONFIG,
)
DIRECTIVES: tuple[Option, ...] = (
    Option("name", parse_image, required=True),
    Option("state", choice(*STATES), choices=STATES, default="present", shown_default="present"),
    Option("force", parse_bool, "bool", default=False, shown_default=False),
)
