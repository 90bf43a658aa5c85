# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Namespaces: new ones, those of others, and a user namespace's own world."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError, SpecError, StartError

from .runtime_box import DEV, MAPPING, NAMESPACES, PROC, PTS, mount, mountinfo, status

pytestmark = pytest.mark.root

KINDS = {"mount": "mnt", "network": "net", "pid": "pid", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "time": "time"}
USER = {"linux__uidMappings": MAPPING, "linux__gidMappings": MAPPING}


def of(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def test_new_and_the_hosts(box):
    """What is not named is the host's."""
    for named in (["mount"], ["mount", "pid", "uts"], [*KINDS]):
        with box.created("true", namespaces=named) as state:
            for kind, file in KINDS.items():
                assert (of(state.pid, file) != of(os.getpid(), file)) == (kind in named), kind


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "pid", "cgroup", "time"])
def test_joined(box, kind):
    with box.running(namespaces=[*NAMESPACES, "time"]) as first:
        path = f"/proc/{first.pid}/ns/{KINDS[kind]}"
        mine = {each: of(os.getpid(), each) for each in (*KINDS.values(), "pid_for_children", "time_for_children")}
        with box.running(namespaces=["mount", {"type": kind, "path": path}]) as second:
            assert of(second.pid, KINDS[kind]) == of(first.pid, KINDS[kind])
        # We have joined it for a moment ourselves.
        assert mine == {each: of(os.getpid(), each) for each in mine}


def test_joined_mount_namespace(box):
    holder = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sleep", "1000"])
    try:
        path = f"/proc/{holder.pid}/ns/mnt"
        while os.readlink(path) == of(os.getpid(), "mnt"):
            pass
        with box.running(namespaces=["pid", {"type": "mount", "path": path}]) as state:
            assert of(state.pid, "mnt") == os.readlink(path)
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.parametrize("path", ["/proc/self/ns/mnt", f"/proc/{os.getpid()}/ns/mnt"], ids=["self", "number"])
def test_our_own_mount_namespace_is_never_changed(box, path):
    """pivot_root there would give the host another root."""
    with pytest.raises(SpecError, match=r"linux.namespaces: .* is the runtime's own"):
        box.run("true", namespaces=["pid", {"type": "mount", "path": path}])


def test_file_that_is_no_namespace(box):
    with pytest.raises((StartError, KernelError), match=r"setns 0x40000000: Invalid argument \[EINVAL\]"):
        box.run("true", namespaces=["mount", {"type": "network", "path": "/proc/self/status"}])


# user namespaces
def test_root_of_a_user_namespace(box):
    caps = {name: ["CAP_SYS_ADMIN", "CAP_CHOWN"] for name in ("bounding", "permitted", "effective")}
    text = box.run(
        "cat /proc/self/uid_map /proc/self/gid_map; cat /proc/self/status; echo x > /etc/made; chown 5:6 /etc/made;"
        "stat -c %u:%g /etc/made /",
        namespaces=["user", *NAMESPACES],
        process__capabilities=caps,
        root__path=str(mapped(box.rootfs)),
        **USER,
    )
    lines = text.splitlines()
    assert [line.split() for line in lines[:2]] == [["0", "100000", "65536"]] * 2
    assert status(text, "Uid", "CapEff")["Uid"].split() == ["0"] * 4
    assert lines[-2:] == ["5:6", "0:0"]
    info = (box.rootfs / "etc" / "made").stat()
    assert (info.st_uid, info.st_gid) == (100005, 100006)


def mapped(rootfs: Path) -> Path:
    """The tree as the container's root owns it."""
    for directory, dummy, files in os.walk(rootfs):
        for path in (directory, *(f"{directory}/{file}" for file in files)):
            os.chown(path, 100000, 100000, follow_symlinks=False)
    return rootfs


def test_bundle_may_be_closed_to_the_mapped_root(box):
    """Its sources are opened before the user is changed."""
    assert box.top.stat().st_mode & 0o077 == 0
    secret = box.top / "secret"
    secret.write_text("hush")
    secret.chmod(0o644)
    mounts = [PROC, DEV, mount("/etc/secret", "bind", "bind", "ro", source=str(secret))]
    text = box.run(
        "cat /etc/secret", namespaces=["user", *NAMESPACES], mounts=mounts, root__path=str(mapped(box.rootfs)), **USER
    )
    assert text == "hush"


def test_devices_are_the_hosts_own(box):
    mounts = [PROC, DEV, {**PTS, "options": [*PTS["options"], "gid=5"]}]
    mapped(box.rootfs)
    script = (
        "echo gone > /dev/null; head -c 3 /dev/zero | wc -c; stat -c '%F %t:%T' /dev/full; cat /proc/self/mountinfo"
    )
    text = box.run(script, namespaces=["user", *NAMESPACES], mounts=mounts, **USER)
    assert text.splitlines()[:2] == ["3", "character special file 1:7"]
    assert {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")} <= set(mountinfo(text))


def test_overlay_of_a_user_namespace(box):
    """It is mounted by the mapped root, so its layers must be open to that one."""
    mapped(box.rootfs)
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        box.rootfs.rename(f"{top}/lower")
        for name in ("upper", "work", "empty"):
            os.mkdir(f"{top}/{name}")
            os.chown(f"{top}/{name}", 100000, 100000)
        root = mount("/", "overlay", f"lowerdir={top}/lower", f"upperdir={top}/upper", f"workdir={top}/work")
        changes = {"mounts": [root, PROC, DEV], "root__path": f"{top}/empty", **USER}
        text = box.run("cat /proc/self/mountinfo; echo x > /made", namespaces=["user", *NAMESPACES], **changes)
        assert mountinfo(text)["/"][1] == "overlay"
        assert os.stat(f"{top}/upper/made").st_uid == 100000


def test_limits_and_masks_in_a_user_namespace(box):
    text = box.run(
        "ulimit -Hn; ulimit -n; cat /proc/version /proc/self/oom_score_adj; hostname; cat /proc/sys/net/*/*default_ttl",
        namespaces=["user", *NAMESPACES],
        root__path=str(mapped(box.rootfs)),
        process__rlimits=[{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}],
        process__oomScoreAdj=100,
        linux__maskedPaths=["/proc/version", "/proc/irq"],
        linux__sysctl={"net.ipv4.ip_default_ttl": "33"},
        hostname="mapped",
        **USER,
    )
    assert text.split() == ["60", "50", "100", "mapped", "33"]


def test_network_of_the_host_from_a_user_namespace(box):
    """Joined by the parent: from inside there is no power over it."""
    with box.running() as first:
        entries = [{"type": kind, "path": f"/proc/{first.pid}/ns/{KINDS[kind]}"} for kind in ("network", "ipc", "uts")]
        mine = {file: of(os.getpid(), file) for file in KINDS.values()}
        mapped(box.rootfs)
        with box.running(namespaces=["user", "mount", "pid", *entries], **USER) as state:
            for kind in ("network", "ipc", "uts"):
                assert of(state.pid, KINDS[kind]) == of(first.pid, KINDS[kind])
            assert of(state.pid, "user") != of(os.getpid(), "user")
        assert mine == {file: of(os.getpid(), file) for file in KINDS.values()}


def test_joined_user_namespace(box):
    """As the containers of a pod have it: what is new belongs to the namespace that was joined."""
    mapped(box.rootfs)
    with box.running(namespaces=["user", *NAMESPACES], **USER) as first:
        joined = [
            {"type": kind, "path": f"/proc/{first.pid}/ns/{file}"}
            for kind, file in (("network", "net"), ("ipc", "ipc"), ("user", "user"), ("pid", "pid"))
        ]
        with box.running(namespaces=[*joined, "mount", "uts", "cgroup"], hostname="second") as second:
            for file in ("net", "ipc", "user", "pid"):
                assert of(second.pid, file) == of(first.pid, file)
            for file in ("mnt", "uts", "cgroup"):
                assert of(second.pid, file) not in (of(first.pid, file), of(os.getpid(), file))
            assert box.exec(second, "id -u; hostname; echo x > /etc/second") == (0, "0\nsecond\n")
        assert (box.rootfs / "etc" / "second").stat().st_uid == 100000


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ([{"containerID": 0, "hostID": 100000, "size": 0}], r"write 0 100000 0 to /proc/\d+/uid_map: Invalid argument"),
        ([*MAPPING, *MAPPING], "uid_map: Invalid argument"),
    ],
)
def test_mapping_that_can_not_be(box, mapping, words):
    with pytest.raises(KernelError, match=words):
        box.run("true", namespaces=["user", *NAMESPACES], linux__uidMappings=mapping, linux__gidMappings=MAPPING)
