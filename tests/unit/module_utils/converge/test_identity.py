# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a process is, by an image's own files, which may say anything."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge.container.identity import Identity, resolve
from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError

LONG = "9" * 5000
PASSWD = f"""root:x:0:0::/root:/bin/sh
joe:x:1000:100::/home/joe:/bin/sh
lost:x:{LONG}:0::/:
gone:x:1001:{LONG}::/:
minus:x:4294967295:0::/:
arab:x:٣:0::/:
short:x:5
"""
GROUP = f"""users:x:100:
wheel:x:10:joe,other
huge:x:{LONG}:joe
empty:x::joe
"""


@pytest.mark.parametrize(
    ("user", "extra", "found"),
    [
        ("", (), Identity(0, 0, (0,), "/root")),
        ("joe", (), Identity(1000, 100, (10, 100), "/home/joe")),
        ("1000", ("wheel", "7"), Identity(1000, 100, (7, 10, 100), "/home/joe")),
        ("joe:users", (), Identity(1000, 100, (100,), "/home/joe")),
        ("77:88", (), Identity(77, 88, (88,), "/")),
        ("4294967294", (), Identity(4294967294, 0, (0,), "/")),
    ],
)
def test_numbers_and_names(user, extra, found):
    assert resolve(user, extra, PASSWD, GROUP) == found


@pytest.mark.parametrize("user", ["lost", "gone", "minus", "arab", "short", "nobody", LONG, "4294967295", "٣"])
def test_what_is_no_user(user):
    with pytest.raises(OptionError, match=r"is no user in the image's /etc/passwd"):
        resolve(user, (), PASSWD, GROUP)


@pytest.mark.parametrize("group", ["huge", "empty", LONG, "4294967295", "x"])
def test_what_is_no_group(group):
    for user, extra in ((f"joe:{group}", ()), ("joe", (group,))):
        with pytest.raises(OptionError, match=r"is no group in the image's /etc/group"):
            resolve(user, extra, PASSWD, GROUP)
