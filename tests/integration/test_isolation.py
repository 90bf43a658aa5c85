# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Isolation: what a root in a default container tries, and must not be able to do. Each attempt is a command inside."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from .warm import WarmPlace

pytestmark = pytest.mark.root

CONTAINER = {
    "name": "prisoner",
    "image": "bb",
    "volumes": ["shared:/shared"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = WarmPlace(str(tmp_path_factory.mktemp("isolation") / "vessel"))
    place.busybox()
    place.task("volume", name="shared")
    place.task("container", **CONTAINER)
    yield place
    place.remove()


def refused(place: WarmPlace, *command: str) -> str:
    """The command failed, and says why."""
    done = place.inside("prisoner", *command)
    assert done.returncode != 0, f"{command} succeeded: {done.stdout}"
    return done.stdout + done.stderr


def words(text: str) -> bool:
    return any(word in text for word in ("not permitted", "Permission denied", "Read-only", "denied", "can't"))


@pytest.mark.parametrize(
    "command",
    [
        ("mount", "-t", "tmpfs", "none", "/mnt"),
        ("mount", "-t", "proc", "proc", "/tmp"),
        ("mount", "-o", "bind", "/etc", "/tmp"),
        ("mount", "-o", "remount,rw", "/proc/sys"),
        ("umount", "/proc/kcore"),
        ("umount", "/etc/hosts"),
    ],
    ids=" ".join,
)
def test_mounting_is_refused(place, command):
    place.sh("prisoner", "mkdir -p /mnt")
    assert words(refused(place, *command))


def test_disk_can_be_neither_made_nor_read(place):
    disk = os.stat("/").st_dev
    major, minor = str(os.major(disk)), str(os.minor(disk))
    done = place.inside("prisoner", "sh", "-c", f"mknod /tmp/disk b {major} {minor} && cat /tmp/disk | head -c 1")
    assert done.stdout == ""
    assert words(done.stderr)


@pytest.mark.parametrize(("major", "minor", "what"), [(1, 1, "mem"), (1, 4, "port"), (1, 11, "kmsg"), (10, 200, "tun")])
def test_devices_of_the_host_are_refused(place, major, minor, what):
    script = f"rm -f /tmp/{what}; mknod /tmp/{what} c {major} {minor} && head -c 1 /tmp/{what}"
    done = place.inside("prisoner", "sh", "-c", script)
    assert done.returncode != 0
    assert words(done.stderr)
    assert not Path(f"/proc/{place.facts('prisoner')['pid']}/root/dev/{what}").exists()


def test_raw_packet_socket_is_refused(place):
    """busybox's arping opens an AF_PACKET socket."""
    assert words(refused(place, "arping", "-c1", "-I", "eth0", "10.0.0.1"))


def test_route_change_is_refused(place):
    assert words(refused(place, "ip", "route", "add", "198.51.100.0/24", "dev", "eth0"))
    assert words(refused(place, "ip", "link", "set", "eth0", "down"))
    assert words(refused(place, "ip", "addr", "add", "192.0.2.99/24", "dev", "eth0"))


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sysrq-trigger",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/cgroup.procs",
    ],
)
def test_writing_kernel_files_is_refused(place, path):
    before = (
        Path(path).read_text() if Path(path).exists() and os.access(path, os.R_OK) and "trigger" not in path else ""
    )
    done = place.inside("prisoner", "sh", "-c", f"echo 1 > {path}")
    assert done.returncode != 0
    if before:
        assert Path(path).read_text() == before


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"])
def test_masked_paths_are_empty(place, path):
    done = place.inside("prisoner", "sh", "-c", f"[ -d {path} ] && ls {path} || cat {path}")
    assert done.stdout == ""


def test_host_processes_are_not_seen(place):
    seen = place.sh("prisoner", "ls -d /proc/[0-9]*").split()
    commands = {place.sh("prisoner", f"cat {path}/comm 2>/dev/null || true") for path in seen}
    assert commands <= {"sleep", "sh", "ls", "cat", "busybox", ""}
    assert len(seen) < 6


def test_module_loading_is_refused(place):
    Path(f"/proc/{place.facts('prisoner')['pid']}/root/tmp/x.ko").write_bytes(b"\x7fELF")
    assert words(refused(place, "insmod", "/tmp/x.ko"))


def test_setting_the_clock_is_refused(place):
    before = time.time()
    assert words(place.inside("prisoner", "date", "-s", "2001-01-01 00:00:00").stderr)
    assert time.time() >= before


def test_joining_the_hosts_namespaces_is_refused(place):
    assert words(refused(place, "nsenter", "-t", "1", "-m", "-u", "-n", "-i", "ls", "/"))
    assert words(refused(place, "nsenter", "--net=/proc/1/ns/net", "ls"))


def test_new_user_namespace_is_refused(place):
    assert words(refused(place, "unshare", "-U", "id"))
    assert words(refused(place, "unshare", "-m", "id"))


def test_reboot_is_refused(place):
    done = place.inside("prisoner", "reboot", "-f")
    assert done.returncode != 0
    assert words(done.stderr + done.stdout)


def test_own_limits_can_not_be_raised(place):
    assert refused(place, "sh", "-c", "ulimit -Hn 1048577 && ulimit -Hn 9999999")


def test_parent_directories_lead_nowhere(place, tmp_path):
    mark = tmp_path / "mark"
    mark.write_text("of the host")
    climb = "/" + "/".join([".."] * 30)
    done = place.inside("prisoner", "cat", f"{climb}{mark}")
    assert "of the host" not in done.stdout
    assert done.returncode != 0


def test_symlink_in_a_volume_does_not_leave_the_container(place, tmp_path):
    """The volume holds a link to a file of the host: inside, it is looked up inside; for our copy module too."""
    mark = tmp_path / "mark"
    mark.write_text("of the host")
    data = place.task("volume_info", name="shared")["volumes"][0]["mountpoint"]
    os.symlink(str(mark), f"{data}/link")
    os.symlink("/", f"{data}/top")
    assert place.inside("prisoner", "cat", "/shared/link").returncode != 0
    assert place.inside("prisoner", "cat", f"/shared/top{mark}").returncode != 0
    place.task("container_copy", container="prisoner", container_path=f"/shared/top{mark}", content="pwned", fails=True)
    assert mark.read_text() == "of the host"


def test_volume_can_not_be_mounted_through_a_symlink_of_the_container(place, tmp_path):
    """Adding a volume live at a path that the container made a link: it lands inside the container's own root."""
    place.sh("prisoner", "rm -rf /way && ln -s /../../../../../../tmp /way")
    place.task("container", name="prisoner", volumes=["shared:/shared", f"{tmp_path}:/way/in"])
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(tmp_path) in line]
    assert place.sh("prisoner", "ls -d /tmp/in") == "/tmp/in"
    place.task("container", name="prisoner", volumes=["shared:/shared"])


def test_no_capability_beyond_the_default(place):
    text = place.sh("prisoner", "cat /proc/1/status")
    fields = dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)
    assert fields["CapEff"].strip() == fields["CapBnd"].strip()
    for number in (
        12,
        16,
        17,
        19,
        21,
        25,
        27 + 100,
    ):  # NET_ADMIN, SYS_MODULE, SYS_RAWIO, SYS_PTRACE, SYS_ADMIN, SYS_TIME
        assert not int(fields["CapEff"], 16) >> number & 1
    assert fields["NoNewPrivs"].strip() == "1"
    assert fields["Seccomp"].strip() == "2"
    assert fields["CapAmb"].strip("0\n ") == ""


def test_no_descriptor_of_ours_is_open(place):
    pid = place.facts("prisoner")["pid"]
    descriptors = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    assert descriptors <= {0, 1, 2}


def test_namespaces_are_not_the_hosts(place):
    pid = place.facts("prisoner")["pid"]
    for kind in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")


def test_keys_of_the_host_are_not_seen(place):
    text = place.sh("prisoner", "cat /proc/keys || true")
    assert text == ""


def test_host_root_is_not_among_the_mounts(place):
    text = place.sh("prisoner", "cat /proc/self/mountinfo")
    roots = {line.split()[3] for line in text.splitlines() if line.split()[4] == "/"}
    assert roots == {"/"}
    assert sum(1 for line in text.splitlines() if line.split()[4] == "/") == 1
    assert " - overlay " in next(line for line in text.splitlines() if line.split()[4] == "/")


def test_privileged_is_something_else(place):
    """The tests above can fail: with privileged, what they try works."""
    place.task("container", name="free", image="bb", privileged=True, network_mode="none")
    assert place.inside("free", "mount", "-t", "tmpfs", "none", "/tmp").returncode == 0
    assert place.inside("free", "sh", "-c", "ip link set lo down && ip link set lo up").returncode == 0
    assert place.inside("free", "unshare", "-m", "true").returncode == 0
    place.task("container", name="free", state="absent")
