# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of a context a build does not see: .containerignore, .dockerignore, COPY --exclude. Globs of COPY."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from typing import NamedTuple


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    negated: bool


class Ignore:
    """Patterns as filepath.Match of Go has them, and ** for any number of directories. The last one that fits a path,
    or a directory above it, decides; with ! before it the path is seen after all."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._rules = [_rule(pattern) for pattern in patterns]
        # Below a directory that is ignored something may be seen after all.
        self.has_exceptions = any(rule.negated for rule in self._rules)

    def __call__(self, path: str) -> bool:
        """Is the path, which is relative to the context, ignored?"""
        if not self._rules or not path:
            return False
        above = [path[: match.start()] for match in re.finditer("/", path)]
        ignored = False
        for pattern, negated in self._rules:
            if ignored == negated and any(pattern.fullmatch(part) for part in (path, *above)):
                ignored = not negated
        return ignored


def read(text: str) -> Ignore:
    """The content of an ignore file. Raises ValueError for a pattern that can't be."""
    lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines() if not line.startswith("#"))
    return Ignore([line for line in lines if line])


def _rule(pattern: str) -> _Rule:
    negated = pattern.startswith("!")
    text = pattern[negated:].strip()
    if not text:
        raise ValueError(f"{pattern!r} is no pattern")
    path = posixpath.normpath(text).lstrip("/")
    return _Rule(re.compile(".*" if path == "." else glob(path), re.DOTALL), negated)


def glob(pattern: str) -> str:
    """The regular expression of a pattern. Raises ValueError for a bracket that is not closed."""
    found, at = "", 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            found, at = found + "(?:.*/)?", at + 3
        elif pattern.startswith("**", at):
            found, at = found + ".*", at + 2
        elif pattern[at] == "[":
            text, at = _bracket(pattern, at)
            found += text
        elif pattern[at] == "\\" and at + 1 < len(pattern):
            found, at = found + re.escape(pattern[at + 1]), at + 2
        else:
            found += {"*": "[^/]*", "?": "[^/]"}.get(pattern[at], re.escape(pattern[at]))
            at += 1
    return found


def _bracket(pattern: str, at: int) -> tuple[str, int]:
    """(the regular expression of a bracket, where it ends)"""
    match = re.compile(r"\[(\^?)((?:\\.|[^\]\\])+)\]").match(pattern, at)
    if not match:
        raise ValueError(f"{pattern!r} has a [ that is not closed")
    inner = re.sub(r"\\(.)|([\[\]&~|^])", lambda m: re.escape(m[1] or m[2]), match[2])
    return f"(?!/)[{match[1]}{inner}]", match.end()


def has_glob(text: str) -> bool:
    return any(char in text for char in "*?[\\")


def literal(path: str) -> str:
    """A pattern that is only this path."""
    return re.sub(r"([*?\[\\])", r"\\\1", path)
