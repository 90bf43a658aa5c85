# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words of an instruction: quotes, escapes, and variables where a Containerfile expands them."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?!$-]")
_BLANK = " \t\n"


class ExpandError(ValueError):
    """What is wrong with the words, as a sentence's end."""


def raw_words(text: str, escape: str) -> list[str]:
    """Split at blanks outside of quotes; quotes, escapes and variables stay as they are."""
    words, word, quote, at = [], "", "", 0
    while at < len(text):
        char = text[at]
        if char == escape and quote != "'" and at + 1 < len(text):
            word += text[at : at + 2]
            at += 2
            continue
        if char in _BLANK and not quote:
            words.append(word)
            word = ""
        else:
            word += char
            if quote == char:
                quote = ""
            elif not quote and char in "\"'":
                quote = char
        at += 1
    return [word for word in [*words, word] if word]


def expand(text: str, variables: Mapping[str, str], escape: str) -> str:
    """One word: quotes and escapes taken away, variables replaced; blanks stay."""
    return "".join(_Expansion(text, variables, escape, split=False).words)


def expand_words(text: str, variables: Mapping[str, str], escape: str) -> list[str]:
    """Split at blanks outside of quotes, those in the value of a variable too."""
    return _Expansion(text, variables, escape, split=True).words


class _Expansion:
    def __init__(self, text: str, variables: Mapping[str, str], escape: str, *, split: bool) -> None:
        self.text = text
        self.variables = variables
        self.escape = escape
        self.at = 0
        words = [""]
        while self.at < len(text):
            if split and text[self.at] in _BLANK:
                self.at += 1
                words.append("")
                continue
            piece, bare = self._piece()
            first, *rest = re.split(r"\s+", piece) if split and bare else [piece]
            words[-1] += first
            words += rest
        self.words = [word for word in words if word]

    def _piece(self) -> tuple[str, bool]:
        """(the next piece, expanded; is it a variable outside of quotes?)"""
        char = self.text[self.at]
        if char == "'":
            return self._single(), False
        if char == '"':
            return self._double(), False
        if char == "$":
            return self._variable(), True
        if char == self.escape and self.at + 1 < len(self.text):
            self.at += 1
        self.at += 1
        return self.text[self.at - 1], False

    def _single(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise ExpandError(f"{self.text!r} has a ' that is not closed")
        found = self.text[self.at + 1 : end]
        self.at = end + 1
        return found

    def _double(self) -> str:
        self.at += 1
        found = ""
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == '"':
                self.at += 1
                return found
            if char == "$":
                found += self._variable()
                continue
            if char == self.escape and self.text[self.at + 1 : self.at + 2] in ('"', "$", self.escape):
                self.at += 1
            found += self.text[self.at]
            self.at += 1
        raise ExpandError(f'{self.text!r} has a " that is not closed')

    def _variable(self) -> str:
        self.at += 1
        if self.text[self.at : self.at + 1] == "{":
            self.at += 1
            return self._braces()
        match = _NAME.match(self.text, self.at)
        if not match:
            return "$"
        self.at = match.end()
        return self.variables.get(match[0], "")

    def _braces(self) -> str:
        match = _NAME.match(self.text, self.at)
        if not match:
            raise ExpandError(f"{self.text!r} has a ${{ without a variable's name")
        self.at = match.end()
        name = match[0]
        operator = re.compile(r":[-+?]|[-+?]|##?|%%?|//?|").match(self.text, self.at)
        kind = operator[0] if operator else ""
        self.at += len(kind)
        if kind in ("/", "//"):
            return self._replaced(name, kind)
        word = self._until("}")
        if not kind and word:
            raise ExpandError(f"{self.text!r} has an unknown modifier after {name}")
        return self._modified(name, kind, word)

    def _replaced(self, name: str, kind: str) -> str:
        """${name/pattern/new}, all of them with //; new may be missing."""
        pattern = _pattern(self._until("/}"))
        new = self._until("}") if self.text[self.at - 1] == "/" else ""
        return re.sub(pattern, lambda dummy: new, self.variables.get(name, ""), count=len(kind) % 2)

    def _until(self, ends: str) -> str:
        """To the first of the ends that is no part of a word, expanded; it is passed."""
        found = ""
        while self.at < len(self.text):
            if self.text[self.at] in ends:
                self.at += 1
                return found
            found += self._piece()[0]
        raise ExpandError(f"{self.text!r} has a ${{ that is not closed")

    def _modified(self, name: str, kind: str, word: str) -> str:
        value = self.variables.get(name)
        there = bool(value) if kind.startswith(":") else value is not None
        if kind.endswith("-"):
            return value or "" if there else word
        if kind.endswith("+"):
            return word if there else ""
        if kind.endswith("?") and not there:
            raise ExpandError(f"{name} is not set{': ' if word else ''}{word}")
        if kind[:1] in ("#", "%"):
            return _trimmed(value or "", kind, word)
        return value or ""


def _trimmed(value: str, kind: str, pattern: str) -> str:
    """Without the shortest (# %) or longest (## %%) beginning or end that the pattern fits."""
    ends = range(len(value) + 1)
    at_front = kind[0] == "#"
    longest_first = len(kind) == 2
    cuts = sorted(ends, reverse=longest_first == at_front)
    for cut in cuts:
        part, rest = (value[:cut], value[cut:]) if at_front else (value[cut:], value[:cut])
        if re.fullmatch(_pattern(pattern), part, re.DOTALL):
            return rest
    return value


def _pattern(text: str) -> str:
    return "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in text)
