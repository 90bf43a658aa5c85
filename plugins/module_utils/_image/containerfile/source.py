# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Containerfile's text as instructions: parser directives, comments, lines that go on, heredocs.

PyPI has parsers of Dockerfiles, but targets have no pip, so that the little language is read here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from ..._errors import ContainerfileError
from .words import raw_words

DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9-]*)\s*=\s*(.*?)\s*")
_KNOWN_DIRECTIVES = ("syntax", "escape", "check")
_COMMENT = re.compile(r"\s*#")
_HEREDOC = re.compile(r"\d*<<(-?)(['\"]?)([A-Za-z0-9_.+-]+)\2")
_WITH_HEREDOCS = ("RUN", "COPY", "ADD")
_FLAG = re.compile(r"--([a-z][a-z-]*)(?:=(.*))?", re.DOTALL)
INSTRUCTIONS = ("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL",
                "MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")  # fmt: skip


@dataclass(frozen=True)
class Heredoc:
    """``content`` has its last line break. A ``literal`` one is that whose delimiter stands in quotes."""

    name: str
    content: str
    literal: bool
    chomp: bool

    def text(self) -> str:
        """Without the tabs that <<- takes away."""
        return re.sub(r"^\t+", "", self.content, flags=re.MULTILINE) if self.chomp else self.content

    def source(self) -> str:
        return f"{self.content}{self.name}\n"


@dataclass(frozen=True)
class Instruction:
    """``rest`` is what follows the verb, its lines joined. ``file`` and ``line`` are where it begins."""

    verb: str
    rest: str
    file: str
    line: int
    heredocs: tuple[Heredoc, ...] = ()

    def error(self, problem: str, hint: str = "") -> ContainerfileError:
        return ContainerfileError(self.file, self.line, f"{self.verb}: {problem}", hint=hint)

    def flags(self, *known: str) -> tuple[dict[str, list[str]], str]:
        """(values by flag, what follows the flags); a flag without a value has "true"."""
        found: dict[str, list[str]] = {}
        rest = self.rest
        while rest.startswith("--"):
            word = re.match(r"(?:[^\s\"']|\"[^\"]*\"|'[^']*')+", rest)
            match = _FLAG.fullmatch(word[0]) if word else None
            if not word or not match:
                raise self.error(f"{rest.split()[0]!r} is no flag")
            if match[1] not in known:
                there = f"there are {', '.join(f'--{flag}' for flag in known)}" if known else "it has none"
                raise self.error(f"unknown flag --{match[1]}; {there}")
            found.setdefault(match[1], []).append("true" if match[2] is None else match[2])
            rest = rest[word.end() :].lstrip()
        return found, rest

    def json(self, text: str) -> Optional[list[str]]:
        """The exec form's words; None when the text is no JSON list of strings, and so the shell form."""
        if not text.startswith("["):
            return None
        try:
            words = json.loads(text)
        except ValueError:
            return None
        return words if all(isinstance(word, str) for word in words) else None


@dataclass(frozen=True)
class Source:
    instructions: tuple[Instruction, ...]
    escape: str


def read(text: str, file: str) -> Source:
    """Raises ContainerfileError for what no Containerfile can say. Whether an instruction makes sense is not asked."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    escape = _escape(lines, file)
    found = tuple(_instructions(lines, file, escape))
    if not found:
        raise ContainerfileError(file, 1, "there is no instruction in it")
    return Source(found, escape)


def one(text: str, file: str, line: int, escape: str) -> Instruction:
    """A trigger of ONBUILD."""
    found = list(_instructions(text.split("\n"), file, escape))
    if len(found) != 1:
        raise ContainerfileError(file, line, f"{text!r} is not one instruction")
    return Instruction(found[0].verb, found[0].rest, file, line, found[0].heredocs)


def _escape(lines: list[str], file: str) -> str:
    """Directives stand before all else, each once; the first line that is none ends them."""
    seen: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = DIRECTIVE.fullmatch(line)
        if not match or match[1].lower() not in _KNOWN_DIRECTIVES:
            break
        if match[1].lower() in seen:
            raise ContainerfileError(file, number, f"the directive {match[1]} stands there twice")
        seen[match[1].lower()] = match[2]
        if seen.get("escape", "\\") not in ("\\", "`"):
            raise ContainerfileError(file, number, f"escape={match[2]!r} is neither \\ nor `")
    return seen.get("escape", "\\")


def _instructions(lines: list[str], file: str, escape: str) -> Iterator[Instruction]:
    at = 0
    while at < len(lines):
        first = at
        text, at = _joined(lines, at, escape)
        match = re.match(r"\s*(\S+)\s*", text)
        if not match:
            continue
        verb, rest = match[1].upper(), text[match.end() :].rstrip()
        heredocs, at = _heredocs(lines, at, verb, rest, file, first + 1, escape)
        yield _checked(Instruction(verb, rest, file, first + 1, heredocs))


def _joined(lines: list[str], at: int, escape: str) -> tuple[str, int]:
    """(a line with those that it goes on in, the line behind them); empty for a comment or an empty line. Within an
    instruction such lines are as if they were not there."""
    goes_on = re.compile(rf"(?<!{re.escape(escape)}){re.escape(escape)}[ \t]*$")
    text, more = "", True
    while more and at < len(lines):
        line = lines[at]
        at += 1
        if _COMMENT.match(line) or not line.strip():
            more = bool(text)
            continue
        match = goes_on.search(line)
        text += line[: match.start()] if match else line
        more = bool(match)
    return text, at


def _checked(instruction: Instruction) -> Instruction:
    if instruction.verb not in INSTRUCTIONS:
        raise ContainerfileError(instruction.file, instruction.line, f"unknown instruction {instruction.verb}")
    if not instruction.rest:
        raise instruction.error("nothing follows it")
    return instruction


def _heredocs(
    lines: list[str], at: int, verb: str, rest: str, file: str, line: int, escape: str
) -> tuple[tuple[Heredoc, ...], int]:
    """(the heredocs whose content begins at line ``at``, the line behind them)"""
    if verb == "ONBUILD" and rest.split():
        verb = rest.split(maxsplit=1)[0].upper()
    if verb not in _WITH_HEREDOCS or "<<" not in rest:
        return (), at
    found = []
    for word in raw_words(rest, escape):
        match = _HEREDOC.match(word)
        if match:
            heredoc, at = _heredoc(lines, at, match, file, line)
            found.append(heredoc)
    return tuple(found), at


def _heredoc(lines: list[str], at: int, match: re.Match[str], file: str, line: int) -> tuple[Heredoc, int]:
    content: list[str] = []
    while at < len(lines):
        text = lines[at]
        at += 1
        if (text.lstrip("\t") if match[1] else text) == match[3]:
            body = "".join(f"{text}\n" for text in content)
            return Heredoc(match[3], body, bool(match[2]), bool(match[1])), at
        content.append(text)
    raise ContainerfileError(file, line, f"the heredoc {match[3]} has no end; a line {match[3]} ends it")


def is_heredoc(word: str) -> str:
    """The name of the heredoc that the word stands for, else empty."""
    match = _HEREDOC.fullmatch(word)
    return match[3] if match else ""
