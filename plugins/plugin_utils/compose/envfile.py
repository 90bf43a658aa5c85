# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of variables: the specification's section on env_file, and the file .env.

A line is NAME=VALUE, or NAME alone, which takes the value that is known. What is not in single quotes may hold
variables; double quotes have the shell's escapes; both may go on over lines.
"""

from __future__ import annotations

import re

from .errors import NOTHING, ComposeError
from .interpolate import Lookup, Variables, substitute

_NAME = re.compile(r"(?:export[ \t]+)?([\w.\-\[\]]+)[ \t]*(?:([=:])|(?=#|$))", re.MULTILINE)
_BLANK = re.compile(r"(?:\s+|#[^\n]*)+")
_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    '"': '"',
    "\\": "\\",
    "$": "$$",
}
_ESCAPE = re.compile(r"\\(?:([abfnrtv\"\\$])|0([0-7]{1,3}))", re.DOTALL)


def parse(text: str, file: str, known: Lookup) -> dict[str, str]:
    """Values by name; ``known`` are values from elsewhere, which come before those of the file itself."""
    return _File(text.removeprefix("\ufeff").replace("\r\n", "\n"), file, known).values()


def parse_raw(text: str, file: str) -> dict[str, str]:
    """As docker's own --env-file has it: what is after = is the value, quotes and all."""
    result = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.lstrip().partition("=")
        if not equals or not name.strip():
            raise ComposeError(f"{file}:{number}", "", line, "is not NAME=VALUE")
        result[name.strip()] = value
    return result


class _File:
    def __init__(self, text: str, file: str, known: Lookup) -> None:
        self.text, self.file, self.known, self.at = text, file, known, 0
        self.found: dict[str, str] = {}

    def values(self) -> dict[str, str]:
        while self._skip():
            name = _NAME.match(self.text, self.at)
            if not name:
                line = self.text[self.at :].partition("\n")[0]
                raise self._error(NOTHING, f"{line!r} is not NAME=VALUE")
            self.at = name.end()
            if name[2]:
                self.found[name[1]] = self._value()
            elif (value := self.known(name[1])) is not None:
                self.found[name[1]] = value
        return self.found

    def _skip(self) -> bool:
        """Pass over blanks and comments; is there more?"""
        blank = _BLANK.match(self.text, self.at)
        self.at = blank.end() if blank else self.at
        return self.at < len(self.text)

    def _value(self) -> str:
        line = self.text[self.at :].partition("\n")[0]
        start = line.lstrip(" \t")
        quote = start[:1]
        if quote in ("'", '"'):
            self.at += len(line) - len(start)
        if quote == "'":
            return self._quoted("'").replace("\\'", "'")
        if quote == '"':
            return self._expanded(_ESCAPE.sub(_unescaped, self._quoted('"')))
        self.at += len(line)
        return self._expanded(re.split(r"\s#", line, maxsplit=1)[0].strip())

    def _quoted(self, quote: str) -> str:
        """What is in the quotes, as it was written."""
        match = re.compile(rf"{quote}((?:[^{quote}\\]|\\.)*){quote}", re.DOTALL).match(self.text, self.at)
        if not match:
            raise self._error(NOTHING, f"the quote {quote} is not closed")
        self.at = match.end()
        return match[1]

    def _expanded(self, text: str) -> str:
        values = Variables({})
        values.get = lambda name: known if (known := self.known(name)) is not None else self.found.get(name)  # type: ignore[method-assign]
        return substitute(text, values, f"{self.file}:{self._line()}", "")

    def _line(self) -> int:
        return self.text.count("\n", 0, self.at) + 1

    def _error(self, value: object, problem: str) -> ComposeError:
        return ComposeError(f"{self.file}:{self._line()}", "", value, problem)


def _unescaped(match: re.Match[str]) -> str:
    return _ESCAPES[match[1]] if match[1] else chr(int(match[2], 8))
