# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a build step prints, wherever the pieces end in which it is read: no part of a secret is told."""

from __future__ import annotations

import random

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge.image.steps import _LINE_MAX, _Words
from ansible_collections.vessel.host.plugins.module_utils._image.build.steps import Mount, RunRequest
from ansible_collections.vessel.host.plugins.module_utils._image.progress import Progress

HIDDEN = "********"


class Told(Progress):
    def __init__(self):
        self.lines = []

    def say(self, what, text):
        self.lines.append(text)


def said(pieces, *secrets):
    """All lines that are told of a step which has the secrets, and its last words."""
    told = Told()
    given = tuple(("/secret", Mount("secret", "/secret"), secret) for secret in secrets)
    request = RunRequest(1, "layers[0]", ["x"], "run x", {}, [], "", "", secrets=given)
    words = _Words(request, told)
    for piece in pieces:
        words.take(piece)
    words.end()
    return told.lines, words.last()


def test_lines():
    lines, last = said([b"one\ntw", b"o\r\n\nthree 50%\rthree 100%"])
    assert lines == ["one", "two", "three 50%", "three 100%"]
    assert last == "one | two | three 50% | three 100%"


def test_a_long_line_is_cut():
    lines, _last = said([b"x" * 5000, b"y" * 5000, b"z\n"])
    assert [len(line) for line in lines] == [5000, 5000, 1]


@pytest.mark.parametrize("at", [1, 7, 15])
@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_secret_across_the_cut(at, end):
    secret = b"0123456789abcdef"
    begin = b"x" * _LINE_MAX
    lines, last = said([begin + secret[:at], secret[at:] + b"more" + end], secret)
    assert "".join(lines) == begin.decode() + HIDDEN + "more"
    assert last.endswith(f"{HIDDEN}more")


def test_what_only_began_like_a_secret_is_told():
    begin = b"x" * _LINE_MAX
    lines, _last = said([begin + b"0123", b"nothing"], b"0123456789")
    assert "".join(lines) == begin.decode() + "0123nothing"


def test_a_secret_longer_than_a_line_may_be():
    secret = bytes(random.Random(1).choices(b"abcdef", k=3 * _LINE_MAX))
    pieces = [secret[at : at + 1000] for at in range(0, len(secret), 1000)]
    lines, _last = said([b"it is:", *pieces, b" indeed"], secret)
    assert "".join(lines) == f"it is:{HIDDEN} indeed"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"AAAABBBBCCCC", HIDDEN),  # one that holds the other
        (b"AAAABBBB", "AAAA" + HIDDEN),
        (b"XAAAA1234", HIDDEN + "1234"),  # one that ends as the other begins
    ],
)
def test_secrets_in_one_another(text, shown):
    secrets = (b"AAAABBBBCCCC", b"BBBB", b"XAAAA")
    begin = b"x" * _LINE_MAX
    for at in range(len(text) + 1):
        lines, _last = said([begin + text[:at], text[at:]], *secrets)
        assert "".join(lines) == begin.decode() + shown, at


@pytest.mark.parametrize("seed", range(20))
def test_pieces_of_any_length(seed):
    """Whatever is told has nothing of a secret's but what the text has of its bytes elsewhere."""
    chance = random.Random(seed)
    secrets = [bytes(chance.choices(b"ab", k=chance.randrange(4, 30))) for _number in range(3)]
    plain = [bytes(chance.choices(b"XYZ ", k=chance.randrange(1, 3000))) for _number in range(9)]
    text = b"|".join(chance.choice([*secrets, *plain]) for _turn in range(80))
    pieces = []
    while text:
        size = chance.randrange(1, 6000)
        pieces.append(text[:size])
        text = text[size:]
    lines, last = said(pieces, *secrets)
    assert not set("".join(lines) + last) & set("ab")
