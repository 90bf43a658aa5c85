# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount options: words as flags, and the later of two that contradict each other."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.module_utils._kernel import mount as m
from ansible_collections.vessel.host.plugins.module_utils._rootfs.options import PROPAGATION, MountOptions, known, parse


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], MountOptions()),
        (["ro", "nosuid"], MountOptions(m.MS_RDONLY | m.MS_NOSUID)),
        (["ro", "rw"], MountOptions(0, m.MS_RDONLY)),
        (["rw", "ro"], MountOptions(m.MS_RDONLY)),
        (["dev", "nodev", "exec"], MountOptions(m.MS_NODEV, m.MS_NOEXEC)),
        (["rbind"], MountOptions(m.MS_BIND | m.MS_REC)),
        (["rslave", "shared"], MountOptions(propagation=(m.MS_SLAVE | m.MS_REC, m.MS_SHARED))),
        (["size=64m", "ro", "mode=755"], MountOptions(m.MS_RDONLY, data="size=64m,mode=755")),
        (["tmpcopyup"], MountOptions(copy_up=True)),
        (["rro"], MountOptions(recursive_set=m.MOUNT_ATTR_RDONLY)),
        (["rro", "rrw"], MountOptions(recursive_clear=m.MOUNT_ATTR_RDONLY)),
        (["ro", "rrw"], MountOptions(recursive_clear=m.MOUNT_ATTR_RDONLY)),
        (["rrw", "ro"], MountOptions(m.MS_RDONLY, recursive_clear=m.MOUNT_ATTR_RDONLY)),
        (["rnosuid", "rnodev"], MountOptions(recursive_set=m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NODEV)),
        (["rnoatime"], MountOptions(recursive_set=0x10, recursive_clear=0x70)),
        (["rrelatime"], MountOptions(recursive_clear=0x70)),
        (["userxattr"], MountOptions(data="userxattr")),
    ],
)
def test_words(words, expected):
    assert parse(words) == expected


def test_without_read_only():
    options = parse(["ro", "noexec", "size=1", "rslave", "tmpcopyup"])
    assert options.writable() == parse(["noexec", "size=1", "rslave", "tmpcopyup"])


def test_every_known_word_means_something():
    plain = MountOptions()
    empty = {"defaults"}
    assert [word for word in [*known(), *PROPAGATION] if parse([word]) == plain] == sorted(empty)
    assert all(parse([word]).data == "" for word in [*known(), *PROPAGATION])
