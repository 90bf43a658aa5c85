# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables in values: every form that the specification has, and what is none."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.plugin_utils.compose.errors import ComposeError
from ansible_collections.vessel.host.plugins.plugin_utils.compose.interpolate import Variables, interpolate

SET = {"SET": "value", "EMPTY": "", "_2": "two", "DOLLAR": "$SET ${SET}"}
FORMS = [
    ("$SET", "value"),
    ("${SET}", "value"),
    ("a${SET}b$_2-", "avaluebtwo-"),
    ("$$SET $${SET} $$$SET", "$SET ${SET} $value"),
    ("$UNSET|${UNSET}|$EMPTY", "||"),
    ("${SET:-x} ${EMPTY:-x} ${UNSET:-x}", "value x x"),
    ("${SET-x} ${EMPTY-x} ${UNSET-x}", "value  x"),
    ("${SET:+x} ${EMPTY:+x} ${UNSET:+x}", "x  "),
    ("${SET+x} ${EMPTY+x} ${UNSET+x}", "x x "),
    ("${SET:?no} ${SET?no}${EMPTY?no}", "value value"),
    ("${UNSET:-${SET}}", "value"),
    ("${UNSET:-${OTHER:-${SET}!}?}", "value!?"),
    ("${UNSET:-a:b-c?d+e}", "a:b-c?d+e"),
    ("${UNSET:-$$x}", "$x"),
    ("${UNSET:-{a}", "{a"),
    ("${SET}}", "value}"),
    ("$DOLLAR", "$SET ${SET}"),
    ("{{ SET }} {% SET %} %SET", "{{ SET }} {% SET %} %SET"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "expected"), FORMS)
def test_forms(text: str, expected: str) -> None:
    assert interpolate(text, Variables(SET), "f") == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "${SET",
            "f: a[0]: '${SET' has a ${ that is not closed; write $NAME or ${NAME}, and $$ for a dollar sign itself",
        ),
        ("5$", "f: a[0]: '5$' has a dollar sign that begins no variable, before ''"),
        ("$5", "has a dollar sign that begins no variable, before '5'"),
        ("${5}", "has ${5}, which names no variable"),
        ("${}", "has ${}, which names no variable"),
        ("${SET!x}", "has ${SET!x}; after the name may come :- :? :+ - ? +"),
        ("${SET:x}", "after the name may come"),
        ("${UNSET?}", "f: a[0]: the variable UNSET must be set; set it in compose_env, or in an env file"),
        ("${EMPTY:?give $SET}", "f: a[0]: the variable EMPTY must be set: give value; set it"),
        ("${UNSET:-${EMPTY:?inner}}", "the variable EMPTY must be set: inner"),
    ],
)
def test_what_is_none(text: str, sentence: str) -> None:
    with pytest.raises(ComposeError) as caught:
        interpolate({"a": [text]}, Variables(SET), "f")
    assert sentence in str(caught.value)


def test_names_stay_and_so_do_other_values() -> None:
    value = {"$SET": ["$SET", 5, None, True, {"x": "${SET}"}]}
    assert interpolate(value, Variables(SET), "f") == {"$SET": ["value", 5, None, True, {"x": "value"}]}


def test_what_was_missing_is_known() -> None:
    variables = Variables(SET)
    interpolate("$ONE ${TWO} ${THREE:-x} ${FOUR+x} $EMPTY", variables, "f")
    assert variables.missing == {"ONE", "TWO"}
