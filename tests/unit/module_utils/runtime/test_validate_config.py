# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""config.json: what is refused, by the name of its field."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import SpecError
from ansible_collections.vessel.host.plugins.module_utils._runtime import spec, validate

GOOD = spec.template()


def changed(**changes):
    config = copy.deepcopy(GOOD)
    for name, value in changes.items():
        *parents, last = name.split("__")
        place = config
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return config


def test_template_is_good():
    validate.check(GOOD)


NEW_USER = [{"type": "mount"}, {"type": "user"}]
MAP = [{"containerID": 0, "hostID": 1, "size": 1}]
BAD = [
    ({"ociVersion": None}, "ociVersion"),
    ({"ociVersion": "2.0.0"}, "ociVersion"),
    ({"vm": {"x": 1}}, "vm"),
    ({"root": None}, "root.path"),
    ({"root__path": ""}, "root.path"),
    ({"root": "rootfs"}, "root"),
    ({"process": None}, "process"),
    ({"process__args": None}, "process.args"),
    ({"process__args": []}, "process.args"),
    ({"process__args": [1]}, "process.args"),
    ({"process__args": "sh"}, "process.args"),
    ({"process__args": ["a\0b"]}, "process.args"),
    ({"process__env": ["A=\0"]}, "process.env"),
    ({"process__env": [1]}, "process.env"),
    ({"process__cwd": None}, "process.cwd"),
    ({"process__cwd": "relative"}, "process.cwd"),
    ({"process__capabilities__bounding": ["CAP_NONE"]}, "process.capabilities.bounding"),
    ({"process__capabilities__none": []}, "process.capabilities.none"),
    ({"process__rlimits": [{"type": "RLIMIT_NONE", "soft": 1, "hard": 1}]}, "process.rlimits"),
    ({"process__rlimits": [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]}, "process.rlimits"),
    ({"process__rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2}, "process.rlimits"),
    ({"process__scheduler": {"policy": "SCHED_FIFO"}}, "process.scheduler"),
    ({"process__ioPriority": {"class": "IOPRIO_CLASS_IDLE"}}, "process.ioPriority"),
    ({"process__execCPUAffinity": {"initial": "1"}}, "process.execCPUAffinity"),
    ({"linux__namespaces": [{"type": "none"}]}, "linux.namespaces"),
    ({"linux__namespaces": [{"type": "mount"}, {"type": "mount"}]}, "linux.namespaces"),
    ({"linux__namespaces": [{"type": "pid"}]}, "linux.namespaces"),
    ({"linux__namespaces": [{"type": "mount"}, {"type": "pid", "path": "relative"}]}, "linux.namespaces"),
    ({"linux__namespaces": [{"type": "mount"}, {"type": "pid", "path": "/none"}]}, "linux.namespaces"),
    ({"linux__namespaces": [{"type": "mount", "path": "/proc/self/ns/mnt"}]}, "linux.namespaces"),
    ({"linux__namespaces": [{"type": "mount", "path": "/dev/null"}, {"type": "user"}]}, "linux.namespaces"),
    ({"linux__namespaces": NEW_USER}, "linux.uidMappings"),
    ({"linux__namespaces": NEW_USER, "linux__uidMappings": MAP}, "linux.uidMappings"),
    ({"linux__uidMappings": MAP}, "linux.uidMappings"),
    ({"linux__namespaces": [{"type": "mount"}]}, "hostname"),
    ({"linux__namespaces": [{"type": "mount"}], "hostname": None, "domainname": "x"}, "domainname"),
    ({"linux__sysctl": {"kernel.panic": "1"}}, "linux.sysctl"),
    ({"linux__sysctl": {"net/../kernel/panic": "1"}}, "linux.sysctl"),
    ({"linux__sysctl": {"vm.swappiness": "1"}}, "linux.sysctl"),
    ({"linux__namespaces": [{"type": "mount"}, {"type": "uts"}], "linux__sysctl": {"net.x": "1"}}, "linux.sysctl"),
    ({"mounts": [{"destination": "x", "type": "tmpfs"}]}, "mounts[0].destination"),
    ({"mounts": [{"destination": "/x"}]}, "mounts[0].type"),
    (
        {"mounts": [{"destination": "/x", "type": "tmpfs"}, {"destination": "/", "type": "tmpfs"}]},
        "mounts[1].destination",
    ),
    ({"mounts": [{"destination": "/x", "type": "bind"}]}, "mounts[0].source"),
    ({"mounts": [{"destination": "/x", "options": ["rbind"]}]}, "mounts[0].source"),
    ({"mounts": [{"destination": "/x", "type": "bind", "source": "/", "uidMappings": MAP}]}, "mounts[0].uidMappings"),
    ({"linux__devices": [{"path": "/dev/x", "type": "z"}]}, "linux.devices[0].type"),
    ({"linux__devices": [{"path": "x", "type": "p"}]}, "linux.devices[0].path"),
    ({"linux__devices": [{"path": "/dev/x", "type": "c", "major": 1}]}, "linux.devices[0].minor"),
    ({"linux__timeOffsets": {"boottime": {"secs": 1}}}, "linux.timeOffsets"),
    (
        {
            "linux__timeOffsets": {"none": {}},
            "linux__namespaces": [{"type": "mount"}, {"type": "time"}],
            "hostname": None,
        },
        "linux.timeOffsets",
    ),
    ({"hooks": {"none": []}}, "hooks.none"),
    ({"hooks": {"poststop": [{"path": "relative"}]}}, "hooks.poststop[0].path"),
    ({"linux__cgroupsPath": "/a/../b"}, "linux.cgroupsPath"),
    ({"linux__intelRdt": {"closID": "x"}}, "linux.intelRdt"),
    ({"linux__personality": {"domain": "LINUX32"}}, "linux.personality"),
    ({"linux__memoryPolicy": {"mode": "x"}}, "linux.memoryPolicy"),
    ({"linux__netDevices": {"eth0": {}}}, "linux.netDevices"),
    ({"linux__seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}}, "linux.seccomp.listenerPath"),
    ({"linux__resources__rdma": {"mlx": {}}}, "linux.resources.rdma"),
]


@pytest.mark.parametrize(
    ("changes", "field"), BAD, ids=[f"{field}-{index}" for index, (dummy, field) in enumerate(BAD)]
)
def test_refused_by_name(changes, field):
    with pytest.raises(SpecError) as caught:
        validate.check(changed(**changes))
    assert caught.value.field == field


@pytest.mark.parametrize("config", [None, [], "x", 1])
def test_no_object(config):
    with pytest.raises(SpecError, match="is not an object"):
        validate.check(config)


@pytest.mark.parametrize(
    "changes",
    [
        {"linux__namespaces": NEW_USER, "linux__uidMappings": MAP, "linux__gidMappings": MAP, "hostname": None},
        {"linux__sysctl": {"net.ipv4.ip_forward": "1", "kernel/shmmax": "1", "fs.mqueue.msg_max": "1"}},
        {"mounts": [{"destination": "/x", "options": ["rbind"], "source": "relative"}]},
        {"linux__devices": [{"path": "/dev/x", "type": "p"}, {"path": "/dev/y", "type": "u", "major": 1, "minor": 2}]},
        {"hooks": {"poststop": [{"path": "/bin/true", "timeout": 3}]}},
        {"linux__resources": None, "linux__maskedPaths": None},
        {"linux__namespaces": [{"type": "mount"}], "hostname": None},
        {"process__capabilities": None, "process__rlimits": None, "process__env": None},
        {"annotations": {"a": "b"}, "unknown": {"x": 1}},
    ],
)
def test_allowed(changes):
    validate.check(changed(**changes))


@pytest.mark.parametrize(
    ("name", "path"),
    [("apparmorProfile", "/sys/kernel/security/apparmor"), ("selinuxLabel", "/sys/fs/selinux/booleans")],
)
def test_label_of_a_module_that_is_not_there(name, path, monkeypatch):
    monkeypatch.setattr("os.path.isdir", lambda found: found == path)
    validate.check(changed(**{f"process__{name}": "x"}))
    monkeypatch.setattr("os.path.isdir", lambda found: False)
    with pytest.raises(SpecError, match=f"process.{name}: .* is not enabled on this host"):
        validate.check(changed(**{f"process__{name}": "x"}))
