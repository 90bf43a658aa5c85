# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible has marked is made Python's own, which jmespath's functions ask for."""

from __future__ import annotations

import jmespath
from ansible.template import trust_as_template
from ansible_collections.vessel.host.plugins.plugin_utils.plain import plain


def test_marked_words_are_strings():
    word = trust_as_template("ssd")
    assert [type(word)] != [str]
    found = plain({word: [word, 1, 1.5, True, None, (word,)]})
    assert found == {"ssd": ["ssd", 1, 1.5, True, None, ["ssd"]]}
    assert [type(item) for item in found["ssd"][:5]] == [str, int, float, bool, type(None)]
    assert [type(key) for key in found] == [str]
    assert jmespath.search("starts_with(disk, 's')", plain({"disk": word})) is True
