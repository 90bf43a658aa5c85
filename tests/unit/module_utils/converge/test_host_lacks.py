# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host lacks for which option: a host that has everything, then one thing less at a time."""

from __future__ import annotations

import copy
from functools import reduce

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import host_info, host_lacks
from ansible_collections.vessel.host.plugins.module_utils._options import container as container_options
from ansible_collections.vessel.host.plugins.module_utils._options import image as image_options
from ansible_collections.vessel.host.plugins.module_utils._options import network as network_options
from ansible_collections.vessel.host.plugins.module_utils._options import volume as volume_options

YES = {"available": True, "problem": ""}
NO = {"available": False, "problem": "no reason"}
WHOLE = {
    "root": True,
    "kernel": {
        "version": "6.12",
        "calls": {
            name: {"since": host_info.dotted(since), "available": True} for name, since in host_info.CALLS.items()
        },
    },
    "namespaces": dict.fromkeys(("user", "mount", "network", "pid", "ipc", "uts", "cgroup", "time"), YES),
    "cgroup": {
        "root": "/sys/fs/cgroup",
        "version": 2,
        "controllers": ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"],
        "writable": True,
        "swap": "memory.swap.max",
        "blkio_weight": "io.weight",
        "bfq": "",
    },
    "filesystems": {
        "overlay": YES,
        "tmpfs": True,
        "mountable": {
            fstype: {"kernel": True, "helper": f"/sbin/mount.{fstype}", "package": f"{fstype}-tools"}
            for fstype in ("nfs", "cifs")
        },
        "loop": {"available": True, "mkfs": "/sbin/mkfs.ext4"},
        "store": {"path": "/var/lib/vessel", "type": "ext4"},
    },
    "network": {
        "links": dict.fromkeys(host_info.LINKS, YES),
        "ipv6": True,
        "nftables": {**YES, "path": "/usr/sbin/nft", "bridge": YES},
        "pyroute2": "0.7.2",
    },
    "security": {
        "capabilities_lacking": [],
        "raise_hard_limits": YES,
        "lower_oom_score": YES,
        "seccomp": {"available": True, "libseccomp": "2.5.4"},
        "selinux": "enforcing",
        "selinux_container_types": True,
        "apparmor": True,
        "apparmor_parser": "/usr/sbin/apparmor_parser",
    },
    "tools": dict.fromkeys(("mmdebstrap", "debootstrap", "zstd", "tini", "journal"), "/usr/bin/x"),
}

IO = [f"container.{option}" for option in host_lacks._CONTROLLER_OPTIONS["blkio"]]
V2 = ["container.memory_high", "container.memory_min", "container.oom_group"]
CASES = [
    ("root", False, ["container", "image", "network", "volume"]),
    ("kernel.calls.openat2.available", False, ["container"]),
    ("kernel.calls.bpf.available", False, []),
    ("namespaces.mount", NO, ["container"]),
    ("namespaces.network", NO, ["container.network_mode"]),
    ("namespaces.cgroup", NO, ["container.cgroupns_mode"]),
    ("namespaces.time", NO, []),
    ("cgroup.version", None, ["container"]),
    ("cgroup.writable", False, ["container"]),
    ("cgroup.controllers", ["cpu", "cpuset", "hugetlb", "io", "memory"], ["container.pids_limit"]),
    ("cgroup.controllers", ["cpu", "cpuset", "io", "memory", "pids"], ["container.hugepage_limits"]),
    ("cgroup.controllers", ["cpu", "cpuset", "hugetlb", "memory", "pids"], IO),
    ("cgroup.blkio_weight", "", ["container.blkio_weight"]),
    ("cgroup.blkio_weight", None, []),
    ("cgroup.swap", "", ["container.memory_swap"]),
    ("filesystems.overlay", NO, ["container"]),
    ("filesystems.tmpfs", False, ["container", "volume.driver"]),
    ("filesystems.mountable.nfs.kernel", False, ["volume.fstype=nfs"]),
    ("filesystems.mountable.cifs.helper", None, ["volume.fstype=cifs"]),
    ("filesystems.loop.available", False, ["volume.driver=loop"]),
    ("filesystems.loop.mkfs", None, ["volume.driver=loop"]),
    ("filesystems.store.type", "nfs4", ["container"]),
    ("filesystems.store.type", "fuse.sshfs", ["container"]),
    ("network.pyroute2", None, ["network"]),
    ("network.pyroute2", "0.5.14", ["network"]),
    ("network.pyroute2", "0.7.10", []),
    ("network.pyroute2", "unknown", []),
    ("network.nftables.available", False, ["network"]),
    ("network.nftables.bridge", NO, ["network.allow"]),
    ("network.links.veth", NO, ["network"]),
    ("network.links.ipvlan", NO, []),
    ("network.links.vxlan", NO, ["network.driver=vxlan"]),
    ("network.ipv6", False, ["network.subnet6", "container.networks.ipv6_address"]),
    ("security.selinux_container_types", False, ["container.security_opts"]),
    ("security.apparmor_parser", None, ["container.security_opts"]),
    ("security.capabilities_lacking", ["CAP_SYS_RESOURCE"], ["container.capabilities"]),
    ("security.capabilities_lacking", ["CAP_SYS_ADMIN"], ["container", "container.capabilities"]),
    ("security.raise_hard_limits", NO, ["container.ulimits"]),
    ("security.lower_oom_score", NO, ["container.oom_score_adj"]),
    ("security.seccomp.available", False, ["container"]),
    ("security.seccomp.libseccomp", None, ["container"]),
    ("tools.mmdebstrap", None, []),
    ("tools.zstd", None, ["image.path"]),
    ("tools.tini", None, ["container.init"]),
    ("tools.journal", None, ["container.log_driver=journald"]),
]


@pytest.mark.parametrize(
    ("version", "bfq", "remedy"),
    [
        (1, "loadable", "load the kernel module bfq: modprobe bfq"),
        (1, "", "use a kernel with CONFIG_BFQ_GROUP_IOSCHED; or boot with cgroup v2"),
        (2, "", "use a kernel with CONFIG_BFQ_GROUP_IOSCHED"),
    ],
)
def test_a_weight_that_nothing_gives_names_what_would(version, bfq, remedy):
    controllers = ["blkio", "cpu", "cpuset", "devices", "freezer", "io", "memory", "pids"]
    cgroup = (("cgroup.version", version), ("cgroup.controllers", controllers), ("cgroup.bfq", bfq))
    found = less(*cgroup, ("cgroup.blkio_weight", ""))
    (lack,) = (lack for lack in found if lack["option"] == "container.blkio_weight")
    assert lack["remedy"] == remedy
    assert ("cgroup v1 has nothing else" in lack["because"]) == (version == 1)


def less(*changes):
    facts = copy.deepcopy(WHOLE)
    for path, value in changes:
        *parents, last = path.split(".")
        reduce(dict.__getitem__, parents, facts)[last] = value
    return host_lacks.lacks(facts)


def test_a_host_with_everything_lacks_nothing():
    assert less() == []


@pytest.mark.parametrize(("path", "value", "options"), CASES, ids=[f"{case[0]}={case[1]}" for case in CASES])
def test_one_thing_less(path, value, options):
    found = less((path, value))
    assert [lack["option"] for lack in found] == options
    for lack in found:
        assert set(lack) == {"option", "because", "remedy"}
        assert all(lack.values())
        assert not lack["because"].endswith(".")
        assert not lack["remedy"].endswith(".")


def test_neither_bootstrap_program():
    assert [lack["option"] for lack in less(("tools.mmdebstrap", None), ("tools.debootstrap", None))] == [
        "image.template"
    ]


def test_version_1_calls_the_controller_of_block_devices_blkio():
    v1 = ["blkio", "cpu", "cpuset", "hugetlb", "devices", "freezer", "memory", "pids"]
    assert [lack["option"] for lack in less(("cgroup.version", 1), ("cgroup.controllers", v1))] == V2
    assert [lack["option"] for lack in less(("cgroup.version", 1), ("cgroup.controllers", v1[:-4]))] == [
        "container.memory", "container.memory_reservation", "container.memory_swap", "container.pids_limit",
        "container.paused", "container.devices", *V2,
    ]  # fmt: skip


MODULES = {
    "container": container_options,
    "image": image_options,
    "network": network_options,
    "volume": volume_options,
}


def test_only_options_that_there_are_are_named():
    every = [option for case in CASES for option in case[2]] + [
        f"container.{option}" for options in host_lacks._CONTROLLER_OPTIONS.values() for option in options
    ]
    for text in every:
        module, dummy, rest = text.partition(".")
        option = rest.partition(".")[0].partition("=")[0]
        records = MODULES[module]
        names = {record.name for record in (*records.OPTIONS, *records.DIRECTIVES)}
        assert not option or option in names, text


def test_without_root_only_root_is_missing():
    hidden = [(f"namespaces.{kind}", NO) for kind in WHOLE["namespaces"]] + [("filesystems.overlay", NO)]
    assert [lack["option"] for lack in less(("root", False), *hidden)] == list(host_lacks.MODULES)
