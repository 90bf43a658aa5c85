# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An overlay's options taken apart for fsconfig(2)."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.module_utils._rootfs import ops


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("lowerdir=/a:/b,upperdir=/u", ["lowerdir=/a:/b", "upperdir=/u"]),
        ('upperdir=/u,context="u:r:t:s0:c1,c2",xino=on', ["upperdir=/u", 'context="u:r:t:s0:c1,c2"', "xino=on"]),
        ("userxattr", ["userxattr"]),
    ],
)
def test_commas_in_quotes_part_nothing(data, words):
    assert ops._split(data) == words
