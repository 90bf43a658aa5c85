# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stack's options as they were written, in the engine's canonical form, read where its host is not at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Union

from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError
from ansible_collections.vessel.host.plugins.module_utils._options import image as image_options
from ansible_collections.vessel.host.plugins.module_utils._options import stack as stack_options
from ansible_collections.vessel.host.plugins.module_utils._options.container import parse_image
from ansible_collections.vessel.host.plugins.module_utils._options.parse import listing, parse_word
from ansible_collections.vessel.host.plugins.module_utils._options.record import (
    Option,
    group,
    parse_options,
    secret_texts,
)
from ansible_collections.vessel.host.plugins.module_utils._options.sent import parse_src
from ansible_collections.vessel.host.plugins.plugin_utils.plain import plain

KINDS = ("networks", "volumes", "images", "containers")
_JOINING = ("network_mode", "pid_mode", "ipc_mode")
# States of a container that does not run.
STOPPED = ("present", "stopped")
# A stack's own options that say how a task works.
# What the task reads on the controller; what that declares is known to the task alone.
READ_BY_TASK = tuple(option.name for option in stack_options.OPTIONS if option.name.startswith("compose"))
DIRECTIVES = ("revision", "history_limit", "prune", "recreate", "max_disruption", "wait_timeout")


@dataclass(frozen=True)
class Stack:
    """Each of the four is a mapping from a name to the options that were given, canonical and in the order written."""

    name: str
    networks: dict[str, dict[str, Any]]
    volumes: dict[str, dict[str, Any]]
    images: dict[str, dict[str, Any]]
    containers: dict[str, dict[str, Any]]

    def attached(self, container: str) -> list[dict[str, Any]]:
        """The networks that a container is on; the network "default" where it names none, and no other mode."""
        body = self.containers[container]
        if body.get("network_mode"):
            return []
        networks = body.get("networks")
        return [{"name": "default", "aliases": []}] if networks is None else list(networks)

    def joined(self, value: str) -> str:
        """The container of the stack whose namespace ``container:NAME`` means, or empty."""
        kind, dummy, name = value.partition(":")
        return name if kind == "container" and name in self.containers else ""

    def awaited(self, container: str) -> set[str]:
        """The conditions in which others wait for it."""
        found = {body.get("depends_on", {}).get(container) for body in self.containers.values()}
        return {condition for condition in found if condition}


def _account(value: Any, option: str) -> Union[int, str]:
    """A number; a name is the target's, and can't be looked up here."""
    text = parse_word(value, option)
    return int(text) if text.isdecimal() else text


def _path_of_target(value: Any, option: str) -> str:
    """As it was written: ~ and variables are the target's."""
    return parse_word(value, option)


def _elsewhere(option: Option) -> Option:
    """The record without what asks the host on which it is parsed."""
    if option.name in ("owner", "group"):
        return replace(option, parse=_account)
    if option.parse in (image_options.parse_target_path, parse_src):
        return replace(option, parse=_path_of_target)
    if option.name == "secrets" and option.options == image_options.SECRET:
        parts = tuple(map(_elsewhere, option.options))
        return replace(option, parse=listing(group(*parts)), options=parts)
    return option


def _records() -> dict[str, Option]:
    records = {option.name: option for option in stack_options.OPTIONS}
    for kind in KINDS:
        each = tuple(map(_elsewhere, records[kind].each))
        parse = stack_options.named(each, key=parse_image) if kind == "images" else stack_options.named(each)
        records[kind] = replace(records[kind], parse=parse, each=each)
    records["name"] = replace(records["name"], required=False)
    return {name: records[name] for name in ("name", "state", *KINDS, *DIRECTIVES, *READ_BY_TASK)}


RECORDS = _records()
OPTIONS = {kind: RECORDS[kind].each for kind in KINDS}
_WORDS = {"string": str, "list": (list, tuple)}  # Ansible's own types have names that say nothing


def read(given: Any) -> Stack:
    """Raises OptionError for what a stack's task would refuse as well."""
    if not isinstance(given, Mapping):
        kind = next((word for word, types in _WORDS.items() if isinstance(given, types)), type(given).__name__)
        raise OptionError("stack", kind, "is not a mapping; give the options of a stack's task")
    options = parse_options(tuple(RECORDS.values()), plain(given))
    state = options.get("state")
    if state in ("absent", "rolled_back"):
        raise OptionError("state", state, "declares nothing that could be given; use present or stopped")
    parts = {kind: options.get(kind, {}) for kind in KINDS}
    there = {name: body for name, body in parts["containers"].items() if body.get("state") != "absent"}
    stack = Stack(options.get("name", ""), **{**parts, "containers": there})
    for name, body in stack.containers.items():
        if not body.get("image"):
            raise OptionError(f"containers.{name}.image", body.get("image"), "is missing; give the image")
        if state == "stopped":
            body["state"] = "stopped"
        _check_needs(stack, name, body)
    return stack


def _check_needs(stack: Stack, name: str, body: dict[str, Any]) -> None:
    """Who is waited for is of the stack; who joins another's namespace waits for it, too (together.with_implied)."""
    needs = dict(body.get("depends_on") or {})
    for other in needs:
        if other not in stack.containers:
            problem = f"names {other}, which is no container of the stack"
            raise OptionError(f"containers.{name}.depends_on", list(needs), problem)
    for option in _JOINING:
        other = stack.joined(body.get(option) or "")
        if other:
            needs.setdefault(other, "started")
    body["depends_on"] = needs


def hidden(given: Any, text: str) -> str:
    """The text without any secret of the declaration."""
    for secret in sorted(secret_texts(tuple(RECORDS.values()), plain(given)), key=len, reverse=True):
        text = text.replace(secret, "********")
    return text
