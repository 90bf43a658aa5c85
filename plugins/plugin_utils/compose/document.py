# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A compose file's text as data: YAML 1.2 as compose reads it, not 1.1 as Ansible does, with its two tags."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from .errors import NOTHING, ComposeError

# More is a file that unfolds itself: aliases of aliases.
NODES_MAX = 100_000


class Reset:
    """``!reset``: what the files before said is as if it had not been said."""


class Override:
    """``!override``: the value is instead of what the files before said, not merged with it."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def with_content(self, content: Any) -> Override:
        return Override(content)


class _Loader(yaml.SafeLoader):
    """Words and numbers as YAML 1.2 has them: yes and on are words, 22:22 is no number, and neither is a date."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key, dummy in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a name is not a word", key.start_mark)
            if key.value in seen and key.value != "<<":
                problem = f"{key.value!r} stands there twice, before in line {seen[key.value]}"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen[key.value] = key.start_mark.line + 1
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}


def _construct_map(loader: _Loader, node: yaml.MappingNode) -> Any:
    result: dict[Any, Any] = {}
    yield result
    result.update(loader.construct_mapping(node))


def _construct_override(loader: _Loader, node: yaml.Node) -> Override:
    if isinstance(node, yaml.MappingNode):
        return Override(loader.construct_mapping(node, deep=True))
    if isinstance(node, yaml.SequenceNode):
        return Override(loader.construct_sequence(node, deep=True))
    plain = yaml.ScalarNode(loader.resolve(yaml.ScalarNode, node.value, (True, False)), node.value)
    return Override(loader.construct_object(plain))


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = node.value.replace("_", "")
    sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text.lstrip("+"))
    if re.fullmatch("0[0-7]+", digits):
        return sign * int(digits, 8)
    return sign * int(digits, 0)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*|0[0-7]+|0o[0-7]+|0x[0-9a-fA-F]+|0b[01]+)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+",
        list("-+.0123456789"),
    ),
    ("merge", "<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:map", _construct_map)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("!reset", lambda loader, node: Reset())
_Loader.add_constructor("!override", _construct_override)


def parse(text: str, file: str) -> list[dict[str, Any]]:
    """The file's documents, which override each other as files do."""
    try:
        found = list(yaml.load_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}" if mark else file
        raise ComposeError(where, "", NOTHING, f"is no YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ComposeError(file, "", NOTHING, f"is no YAML: {error}") from None
    return [plain(document, file) for document in found if document is not None] or [{}]


def plain(value: Any, file: str) -> dict[str, Any]:
    """A copy that shares nothing, of plain types: whatever Ansible knows of a value stays behind."""
    if not isinstance(value, Mapping):
        # A text is not told of: a path that is a wrong one may be that of a key, and a vault is open by now.
        told = NOTHING if isinstance(value, str) else value
        raise ComposeError(file, "", told, "is no compose file; give a mapping with services")
    left = [NODES_MAX]
    return {str(key): _plain(item, file, left) for key, item in value.items()}


def _plain(value: Any, file: str, left: list[int]) -> Any:
    left[0] -= 1
    if left[0] < 0:
        raise ComposeError(file, "", NOTHING, f"has more than {NODES_MAX} values, with what its aliases stand for")
    if isinstance(value, Mapping):
        return {str(key): _plain(item, file, left) for key, item in value.items()}
    if isinstance(value, str):
        return "".join(value)
    if isinstance(value, Sequence):
        return [_plain(item, file, left) for item in value]
    if isinstance(value, Override):
        return Override(_plain(value.content, file, left))
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    if value is None or isinstance(value, Reset):
        return value
    raise ComposeError(file, "", value, "is of a kind that compose files do not have")
