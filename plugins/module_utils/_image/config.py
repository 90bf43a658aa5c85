# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image's configuration (image-spec, config.md): what options say of it, over what its base has."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "loongarch64": "loong64"}
ARCHITECTURES.update(dict.fromkeys(("armv6l", "armv7l", "armv8l"), "arm"), **dict.fromkeys(("i586", "i686"), "386"))
# Option: key of the configuration.
_PLAIN = {
    "cmd": "Cmd",
    "entrypoint": "Entrypoint",
    "user": "User",
    "working_dir": "WorkingDir",
    "stop_signal": "StopSignal",
    "shell": "Shell",
    "onbuild": "OnBuild",
}
_SETS = {"exposed_ports": "ExposedPorts", "volumes": "Volumes"}


def architecture() -> str:
    """This machine's, as images name it."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)


def malformed(document: dict[str, Any]) -> str:
    """What of a configuration, which somebody else wrote, is not of the type that the specification says; else empty.
    What is null counts as absent."""
    config = {} if document.get("config") is None else document["config"]
    if not isinstance(config, dict):
        return "config is not a mapping"
    history = document.get("history") or []
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        return "history is not a list of mappings"
    checked = [("", _TOP_TYPES, document), ("", _TYPES, config)]
    checked += [("Healthcheck.", _HEALTH_TYPES, config.get("Healthcheck") or {})]
    checked += [("history: ", _HISTORY_TYPES, entry) for entry in history]
    for where, fields, value in checked:
        for key, (kind, words) in fields.items():
            found = value.get(key) if isinstance(value, dict) else None
            if found is not None and not (isinstance(found, kind) and _texts(found)):
                return f"{where}{key} is not {words}"
    return ""


def _texts(value: Any) -> bool:
    """Are all strings in it such as the kernel takes, and a list's elements strings?"""
    if isinstance(value, list):
        return all(isinstance(item, str) and "\0" not in item for item in value)
    return not isinstance(value, bool) and (not isinstance(value, str) or "\0" not in value)


_LIST = (list, "a list of strings")
_STRING = (str, "a string")
_MAPPING = (dict, "a mapping")
_NUMBER = (int, "a number")
_TOP_TYPES: dict[str, tuple[type, str]] = dict.fromkeys(("author", "created", "variant"), _STRING)
_HISTORY_TYPES: dict[str, tuple[type, str]] = dict.fromkeys(("author", "created", "created_by", "comment"), _STRING)
_TYPES: dict[str, tuple[type, str]] = {
    "Cmd": _LIST,
    "Entrypoint": _LIST,
    "Shell": _LIST,
    "OnBuild": _LIST,
    "Env": _LIST,
    "User": _STRING,
    "WorkingDir": _STRING,
    "StopSignal": _STRING,
    "ExposedPorts": _MAPPING,
    "Volumes": _MAPPING,
    "Labels": _MAPPING,
    "Healthcheck": _MAPPING,
}
_HEALTH_TYPES: dict[str, tuple[type, str]] = {
    "Test": _LIST,
    "Interval": _NUMBER,
    "Timeout": _NUMBER,
    "StartPeriod": _NUMBER,
    "StartInterval": _NUMBER,
    "Retries": _NUMBER,
}


def merge(base: Mapping[str, Any], options: Mapping[str, Any], *, keep_cmd: bool = False) -> dict[str, Any]:
    """The ``config`` object; what an option says replaces or, for mappings and sets, joins what the base has.

    An entrypoint drops the command of the base, unless ``keep_cmd`` says that it was given for this entrypoint.
    """
    config = dict(base)
    for option, key in _PLAIN.items():
        if options.get(option) is not None:
            config[key] = options[option]
    if options.get("entrypoint") is not None and options.get("cmd") is None and not keep_cmd:
        # As in a Dockerfile: the base's command was meant for the base's entrypoint.
        config.pop("Cmd", None)
    if options.get("env"):
        present = dict(entry.partition("=")[::2] for entry in base.get("Env") or [])
        config["Env"] = [f"{key}={value}" for key, value in {**present, **options["env"]}.items()]
    for option, key in _SETS.items():
        if options.get(option):
            config[key] = {**(base.get(key) or {}), **{str(item): {} for item in options[option]}}
    if options.get("onbuild") == []:
        config.pop("OnBuild", None)
    if options.get("labels"):
        config["Labels"] = {**(base.get("Labels") or {}), **options["labels"]}
    if options.get("healthcheck") is not None:
        config["Healthcheck"] = _healthcheck(options["healthcheck"])
    return config


def _healthcheck(check: Mapping[str, Any]) -> dict[str, Any]:
    """Times are nanoseconds in an image."""
    if not check:
        return {"Test": ["NONE"]}
    names = {
        "interval": "Interval",
        "timeout": "Timeout",
        "start_period": "StartPeriod",
        "start_interval": "StartInterval",
    }
    times = {key: int(check[name] * 1e9) for name, key in names.items() if check.get(name)}
    retries = {"Retries": check["retries"]} if check.get("retries") else {}
    return {"Test": check["test"], **retries, **times}


def document(
    config: Mapping[str, Any], diff_ids: Sequence[str], history: Sequence[Mapping[str, Any]], author: str = ""
) -> dict[str, Any]:
    """The whole configuration. There is no time in it, so that equal inputs make equal images. ``history`` is as in
    config.md: an entry that has no ``empty_layer`` for each layer."""
    return {
        "architecture": architecture(),
        "os": "linux",
        **({"author": author} if author else {}),
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": [dict(entry) for entry in history],
    }
