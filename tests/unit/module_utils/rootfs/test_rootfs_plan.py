# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""config.json as a list of operations: what comes before what."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.module_utils._kernel import mount as m
from ansible_collections.vessel.host.plugins.module_utils._rootfs import plan
from ansible_collections.vessel.host.plugins.module_utils._rootfs.devices import Node
from ansible_collections.vessel.host.plugins.module_utils._rootfs.ops import Bind, FileSystem, Remount, Root
from ansible_collections.vessel.host.plugins.module_utils._rootfs.options import MountOptions, parse


def described(config, groups=None):
    return [operation.describe() for operation in plan.operations(config, "/bundle", groups or {"pids": "/g/pids"})]


def mount(destination, kind, *options, source="src"):
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def test_order_is_that_of_the_mounts_with_devices_behind():
    config = {
        "mounts": [
            mount("/", "overlay", "lowerdir=/l"),
            mount("/proc", "proc"),
            mount("/dev", "tmpfs"),
            mount("/run", "tmpfs", "ro"),
            mount("/sys/fs/cgroup", "cgroup", "ro"),
            mount("/run/secrets", "bind", "rbind", "ro", source="/secrets"),
        ],
        "linux": {"devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]},
    }
    assert described(config) == [
        "set propagation of /",
        "mount overlay on /",
        "mount proc on /proc",
        "mount tmpfs on /dev",
        "mount tmpfs on /run",
        "mount cgroup on /sys/fs/cgroup",
        "bind /secrets on /run/secrets",
        "make the devices of /dev",
        "make device /dev/fuse",
        "remount /run",
        "remount /sys/fs/cgroup",
    ]


def test_read_only_tmpfs_is_written_to_first():
    operations = plan.operations({"mounts": [mount("/run", "tmpfs", "ro", "noexec", "size=1")]}, "/bundle", {})
    assert FileSystem("tmpfs", "src", "/run", parse(["noexec", "size=1"])) in operations
    assert operations[-1] == Remount("/run", m.MS_RDONLY | m.MS_NOEXEC)


def test_root_without_a_mount_is_the_directory():
    assert plan.operations({}, "/bundle", {})[1] == Root()


@pytest.mark.parametrize("destination", ["/dev", "/dev/", "//dev/."])
def test_bound_dev_gets_no_devices(destination):
    config = {"mounts": [mount(destination, "bind", "bind", source="/own")]}
    assert "make the devices of /dev" not in described(config)
    assert "make the devices of /dev" in described({"mounts": []})


def test_relative_source_is_the_bundles():
    operations = plan.operations({"mounts": [mount("/x", "bind", "bind", source="here")]}, "/bundle", {})
    assert Bind("/bundle/here", "/x", parse(["bind"])) in operations


@pytest.mark.parametrize(
    ("root", "words", "expected"),
    [
        (None, [], "set propagation of / to private"),
        ("rprivate", ["rprivate"], "set propagation of / to private"),
        ("rslave", [], "set propagation of / to slave"),
        ("shared", [], "set propagation of / to slave"),
        (None, ["rslave"], "set propagation of / to slave"),
        (None, ["slave", "rshared"], "make the mount below / private"),
    ],
)
def test_how_far_it_is_cut_off(root, words, expected):
    config = {"mounts": [mount("/v", "bind", "rbind", word) for word in words], "linux": {"rootfsPropagation": root}}
    first = plan.operations(config, "/bundle", {})[0]
    kinds = {m.MS_PRIVATE | m.MS_REC: " to private", m.MS_SLAVE | m.MS_REC: " to slave"}
    assert first.describe() + kinds.get(getattr(first, "flags", 0), "") == expected


@pytest.mark.parametrize(("word", "flags"), [("", 0), ("private", 0), ("rprivate", 0), ("shared", m.MS_SHARED)])
def test_root_propagation(word, flags):
    assert plan.root_propagation({"linux": {"rootfsPropagation": word}}) == flags


def test_hierarchies_of_v1_have_their_names_and_links():
    groups = {"cpu,cpuacct": "/h/cpu,cpuacct/x", "=systemd": "/h/systemd/x", "pids": "/h/pids/x"}
    cgroup = plan.operations({"mounts": [mount("/cg", "cgroup")]}, "/bundle", groups)[2]
    assert [bind.destination for bind in cgroup.binds] == ["/cg/cpu,cpuacct", "/cg/systemd", "/cg/pids"]
    assert [bind.source for bind in cgroup.binds] == list(groups.values())


@pytest.mark.parametrize("own", [True, False])
def test_unified_hierarchy(own):
    namespaces = [{"type": "cgroup"}] if own else []
    config = {"mounts": [mount("/cg", "cgroup", "ro")], "linux": {"namespaces": namespaces}}
    cgroup = plan.operations(config, "/bundle", {"": "/sys/fs/cgroup/x"})[2]
    assert cgroup.describe() == "mount cgroup2 on /cg"
    assert (cgroup.own, cgroup.bind.source) == (own, "/sys/fs/cgroup/x")
    assert cgroup.bind.options.flags & m.MS_RDONLY


def test_devices_have_what_is_declared():
    device = {"path": "/dev/x", "type": "b", "major": 8, "minor": 1, "fileMode": 0o100640, "uid": 3, "gid": 4}
    operations = plan.operations({"linux": {"devices": [device]}}, "/bundle", {})
    assert operations[-1] == Node("/dev/x", "b", 8, 1, 0o640, 3, 4)
    device = {"path": "/dev/x", "type": "p"}
    assert plan.operations({"linux": {"devices": [device]}}, "/bundle", {})[-1] == Node("/dev/x", "p", 0, 0, 0o666)


def test_label_of_a_mount():
    config = {"mounts": [mount("/t", "tmpfs"), mount("/p", "proc")], "linux": {"mountLabel": "a:b:c,d"}}
    operations = plan.operations(config, "/bundle", {})
    assert operations[2].options == MountOptions(data='context="a:b:c,d"')
    assert operations[3].options == MountOptions()


def test_protections_are_read_only_first():
    config = {"linux": {"maskedPaths": ["/m"], "readonlyPaths": ["/r"]}}
    assert [each.describe() for each in plan.protections(config)] == ["make /r read-only", "mask /m"]
    assert plan.protections({}) == []


def test_operations_are_values():
    assert Root() == Root()
    assert Root() != Root("overlay")
    assert Root() != Remount("/", 0)
    assert "overlay" in repr(Root("overlay"))


LABEL = "u:r:t:s0:c1,c2"


def test_the_root_has_the_label_too():
    config = {"mounts": [mount("/", "overlay", "lowerdir=/l")], "linux": {"mountLabel": LABEL}}
    assert plan.operations(config, "/bundle", {})[1] == Root(
        "overlay", "src", parse(["lowerdir=/l", f'context="{LABEL}"'])
    )


def test_a_bound_root_keeps_its_own():
    config = {"mounts": [mount("/", "bind", "rbind")], "linux": {"mountLabel": LABEL}}
    assert plan.operations(config, "/bundle", {})[1].options == parse(["rbind"])


def test_message_queues_are_labelled_once_they_are_mounted():
    config = {
        "mounts": [mount("/dev/mqueue", "mqueue", "nodev"), mount("/proc", "proc")],
        "linux": {"mountLabel": LABEL},
    }
    operations = plan.operations(config, "/bundle", {})
    assert FileSystem("mqueue", "src", "/dev/mqueue", parse(["nodev"]), LABEL) in operations
    assert FileSystem("proc", "src", "/proc", parse([])) in operations
