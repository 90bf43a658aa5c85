# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of variables: quotes, escapes, comments, variables in them."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.plugin_utils.compose import envfile
from ansible_collections.vessel.host.plugins.plugin_utils.compose.errors import ComposeError

KNOWN = {"HOME": "/root", "OVER": "known"}
LINES = [
    ("A=1", {"A": "1"}),
    ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
    ("\ufeffA=1", {"A": "1"}),
    ("  A = two words  ", {"A": "two words"}),
    ("export A=1\nexport\tB=2", {"A": "1", "B": "2"}),
    ("A: yaml", {"A": "yaml"}),
    ("A=", {"A": ""}),
    ("A=\nB=1", {"A": "", "B": "1"}),
    ("# A=1\n\n   # B=2\nC=3 # c\nD=3#d\nE=#e\nF= # f", {"C": "3", "D": "3#d", "E": "#e", "F": ""}),
    ("A='$HOME ${B} \\n #'", {"A": "$HOME ${B} \\n #"}),
    ("A='it\\'s'", {"A": "it's"}),
    ('A="a\\tb\\nc\\\\d\\"e"', {"A": 'a\tb\nc\\d"e'}),
    ('A="\\0101\\$HOME \\x"', {"A": "A$HOME \\x"}),
    ('A="one\ntwo" # c\nB=2', {"A": "one\ntwo", "B": "2"}),
    ("A='one\ntwo'\nB=2", {"A": "one\ntwo", "B": "2"}),
    ('A=$HOME/x\nB=${A:-none}\nC="$B"', {"A": "/root/x", "B": "/root/x", "C": "/root/x"}),
    ("A=$$HOME", {"A": "$HOME"}),
    ("OVER=file\nB=$OVER", {"OVER": "file", "B": "known"}),
    ("HOME\nNONE\nA=1", {"HOME": "/root", "A": "1"}),
    ("A=1\nA=2", {"A": "2"}),
    ("a.b-c[0]=1", {"a.b-c[0]": "1"}),
    ("A={{ x }}", {"A": "{{ x }}"}),
    ("A=a=b:c", {"A": "a=b:c"}),
    ("", {}),
]


@pytest.mark.parametrize(("text", "expected"), LINES)
def test_values(text: str, expected: dict[str, str]) -> None:
    assert envfile.parse(text, "e", KNOWN.get) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("A=1\nB='x", "e:2: the quote ' is not closed"),
        ('A="x\\"', 'e:1: the quote " is not closed'),
        ("A b=1", "e:1: 'A b=1' is not NAME=VALUE"),
        ("=1", "e:1: '=1' is not NAME=VALUE"),
        ("\n\nA=${B:?is needed}", "e:3: the variable B must be set: is needed"),
        ("A=${", "e:1: '${' has a ${ that is not closed"),
    ],
)
def test_what_is_none(text: str, sentence: str) -> None:
    with pytest.raises(ComposeError) as caught:
        envfile.parse(text, "e", KNOWN.get)
    assert str(caught.value).startswith(sentence)


def test_raw_is_as_it_is() -> None:
    assert envfile.parse_raw("A='x' # c\n#no\n\nB=$HOME", "e") == {"A": "'x' # c", "B": "$HOME"}
    with pytest.raises(ComposeError, match=r"e:2: 'B' is not NAME=VALUE"):
        envfile.parse_raw("A=1\nB", "e")
