# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a host into a container: what is taken apart of a command, and what an end says."""

from __future__ import annotations

import shlex

import pytest
from ansible_collections.vessel.host.plugins.plugin_utils import hop


@pytest.mark.parametrize("script", ["id", "echo 'a b' \"$HOME\" && sleep 0", "", "printf '%s\n' \"it's\""])
def test_a_shells_command_is_taken_apart_exactly(script):
    command = f"/bin/sh -c {shlex.quote(script)}"
    assert hop.argv(command, "/bin/sh") == ["/bin/sh", "-c", script]


@pytest.mark.parametrize(
    "command",
    [
        "echo $HOME; id",
        "/bin/sh -c id > /tmp/file",  # the shell that it is for makes a file, and is no part of the words
        '/bin/sh -c "echo $HOME"',
        "/bin/sh -c 'unbalanced",
        "$SHELL -c id",
        "/bin/sh -c id; id",
    ],
)
def test_anything_else_is_for_a_shell_in_the_container(command):
    assert hop.argv(command, "/bin/bash") == ["/bin/bash", "-c", command]


def test_an_end_is_told_by_its_word_wherever_that_is():
    done = hop.ended("word", 0, b"out", b"no newline before itword 255\r\nleft behind\n")
    assert done == hop.Done(255, 0, b"out", b"no newline before itleft behind\n")


def test_without_the_word_nothing_was_run():
    done = hop.ended("word", 125, b"", b"a banner\nvessel: no such container: a\nConnection closed.\n")
    assert done.code is None
    assert done.said() == "no such container: a"
    assert hop.ended("word", 1, b"", b"sudo: a password is required\n").said() == ""
