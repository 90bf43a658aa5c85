# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kernels before 5.12 get instead of mount_setattr(2) gives a tree of mounts the same flags."""

from __future__ import annotations

import errno
import os

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError
from ansible_collections.vessel.host.plugins.module_utils._kernel import mount as m
from ansible_collections.vessel.host.plugins.module_utils._kernel import probe
from ansible_collections.vessel.host.plugins.module_utils._rootfs import ops, remount
from ansible_collections.vessel.host.plugins.module_utils._rootfs.options import parse

pytestmark = pytest.mark.root

CASES = [
    ([], False),
    (["ro"], False),
    (["ro"], True),
    (["ro", "nosuid", "nodev", "noexec"], True),
    (["noatime"], False),
    (["rw"], False),
    (["exec"], True),
    (["rslave"], True),
    (["shared"], False),
]


def attached(work, options, *, recursive, old):
    """What proc_pid_mountinfo(5) says, in a child, of a copy of a tree that was attached with the options."""

    def child():
        probe.private_mounts()
        for name in ("tree", "place"):
            os.mkdir(f"{work}/{name}")
        m.mount("tmpfs", f"{work}/tree", "tmpfs", m.MS_NOSUID | m.MS_NOEXEC)
        os.mkdir(f"{work}/tree/a b")
        m.mount("tmpfs", f"{work}/tree/a b", "tmpfs", m.MS_NODEV)
        m.mount("none", f"{work}/tree", None, m.MS_SHARED | m.MS_REC)
        if old:
            ops.m = Before512()
        tree = m.open_tree(f"{work}/tree", m.OPEN_TREE_CLONE | (m.AT_RECURSIVE if recursive else 0))
        place = os.open(f"{work}/place", os.O_PATH)
        ops.attach(tree, place, options, recursive=recursive)
        with open("/proc/self/mountinfo") as file:
            found = [line.split() for line in file if f"{work}/place" in line]
        shown = [(fields[4], fields[5], _propagation(fields)) for fields in found]
        return repr(shown)

    done, text = probe.in_child(child)
    assert done, text
    for name in ("tree", "place"):
        os.rmdir(f"{work}/{name}")
    return text


def _propagation(fields):
    """Peer groups have numbers of their own each time."""
    return sorted(field.partition(":")[0] for field in fields[6 : fields.index("-")])


class Before512:
    """The calls of mount.py on a kernel that has all but one."""

    def __getattr__(self, name):
        return getattr(m, name)

    @staticmethod
    def mount_setattr(fd, **attributes):
        raise KernelError("mount_setattr", f"fd {fd}", errno.ENOSYS)


@pytest.mark.parametrize(("words", "recursive"), CASES, ids=str)
def test_both_ways_end_alike(tmp_path, words, recursive):
    if not probe.calls()["mount_setattr"]:
        pytest.skip("this kernel has no mount_setattr(2) to compare with")
    options = parse(words)
    new, old = (attached(tmp_path, options, recursive=recursive, old=old) for old in (False, True))
    assert old == new
    assert new.count("/place") == (2 if recursive else 1)


def test_what_cannot_be_done_is_said(tmp_path):
    with pytest.raises(AssertionError, match=r"recursive mount options before Linux 5\.12"):
        attached(tmp_path, parse(["rro"]), recursive=True, old=True)


def test_places_are_found_as_they_are_called(tmp_path):
    def child():
        probe.private_mounts()
        os.mkdir(f"{tmp_path}/a b")
        m.mount("tmpfs", f"{tmp_path}/a b", "tmpfs", m.MS_NODEV | m.MS_NOATIME)
        return remount.below(str(tmp_path))

    done, text = probe.in_child(child)
    assert done, text
    assert text == repr([(f"{tmp_path}/a b", m.MS_NODEV | m.MS_NOATIME)])
