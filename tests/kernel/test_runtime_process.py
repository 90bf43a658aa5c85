# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's process, as it finds itself: identity, capabilities, limits, descriptors, names."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge.container import security
from ansible_collections.vessel.host.plugins.module_utils._errors import StartError
from ansible_collections.vessel.host.plugins.module_utils._kernel.caps import NUMBERS, held

from .runtime_box import DEV, PROC, mount, status

pytestmark = pytest.mark.root

STATUS = "cat /proc/self/status"


def bits(*names: str) -> str:
    return f"{sum(1 << NUMBERS[name] for name in names):016x}"


def test_user_groups_and_umask(box):
    user = {"uid": 1234, "gid": 56, "additionalGids": [7, 8], "umask": 0o027}
    found = status(box.run(STATUS, process__user=user), "Uid", "Gid", "Groups", "Umask")
    assert found == {"Uid": "\t".join(["1234"] * 4), "Gid": "\t".join(["56"] * 4), "Groups": "7 8", "Umask": "0027"}


@pytest.mark.parametrize("uid", [0, 1000])
def test_capabilities_are_exactly_what_is_named(box, uid):
    sets = {
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_BIND_SERVICE"],
        "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL", "CAP_CHOWN"],  # the second is not inheritable, so it can't be
    }
    text = box.run(["cat", "/proc/self/status"], process__user={"uid": uid, "gid": 0}, process__capabilities=sets)
    found = status(text, "CapBnd", "CapInh", "CapAmb", "CapPrm")
    assert found["CapBnd"] == bits(*sets["bounding"])
    assert found["CapInh"] == bits("CAP_KILL")
    assert found["CapAmb"] == bits("CAP_KILL")
    # An exec by root makes all permitted that is in the bounding set (capabilities(7)).
    assert found["CapPrm"] == bits(*(sets["bounding"] if uid == 0 else ["CAP_KILL"]))


def test_no_capabilities_named_none_held(box):
    found = status(box.run(STATUS), "CapBnd", "CapInh", "CapAmb", "CapPrm", "CapEff")
    assert set(found.values()) == {"0" * 16}


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_seccomp(box, no_new_privileges):
    caps = ["CAP_SYS_ADMIN"]
    text = box.outcome(
        f"{STATUS}; unshare -n true",
        process__noNewPrivileges=no_new_privileges,
        process__capabilities={"bounding": caps, "permitted": caps, "effective": caps},
        linux__seccomp=security.seccomp_profile([]),
    )[1]
    found = status(text, "Seccomp", "NoNewPrivs", "CapEff")
    assert found == {"Seccomp": "2", "NoNewPrivs": str(int(no_new_privileges)), "CapEff": bits(*caps)}
    assert "unshare: " in text
    assert "Operation not permitted" in text


def test_limits(box):
    limits = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_CPU", "soft": 2**64 - 1, "hard": 2**64 - 1},
    ]
    text = box.run("cat /proc/self/limits", process__rlimits=limits)
    rows = {line[:25].strip(): line[25:].split()[:2] for line in text.splitlines()}
    assert rows["Max open files"] == ["100", "200"]
    assert rows["Max core file size"] == ["0", "0"]
    assert rows["Max cpu time"] == ["unlimited", "unlimited"]


def test_limit_above_the_hosts_own(box):
    if "CAP_SYS_RESOURCE" in held():
        pytest.skip("this host may raise limits")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limits = [{"type": "RLIMIT_NOFILE", "soft": hard, "hard": hard + 1}]
    with pytest.raises(StartError, match=r"RLIMIT_NOFILE .* is above the limit of this host \(raising a hard limit"):
        box.run("true", process__rlimits=limits)


def test_oom_score_adj(box):
    assert box.run("cat /proc/self/oom_score_adj", process__oomScoreAdj=567) == "567\n"


def test_working_directory_is_made(box):
    assert box.run("pwd", process__cwd="/made/for/it") == "/made/for/it\n"


def test_working_directory_that_only_root_may_enter(box):
    rootfs = box.rootfs
    (rootfs / "closed").mkdir(mode=0o700)
    text = box.run("readlink /proc/self/cwd", process__cwd="/closed", process__user={"uid": 9})
    assert text == "/closed\n"


def test_working_directory_that_is_none(box):
    with pytest.raises(StartError, match=r"^cwd /bin/busybox: .*\[(ENOTDIR|EEXIST)\]$"):
        box.run("true", process__cwd="/bin/busybox")


def test_command_that_is_relative_to_the_working_directory(box):
    """As ``CMD ["./start.sh"]`` after WORKDIR has it."""
    (box.rootfs / "srv").mkdir()
    (box.rootfs / "srv/start.sh").write_text("#!/bin/sh\necho $0 in $PWD\n")
    (box.rootfs / "srv/start.sh").chmod(0o755)
    assert box.run(["./start.sh"], process__cwd="/srv") == "./start.sh in /srv\n"
    assert box.run(["start.sh"], process__cwd="/srv", process__env=["PATH=:/bin"]) == ("./start.sh in /srv\n")
    with pytest.raises(StartError, match=r"^exec \./start\.sh: No such file or directory \[ENOENT\]"):
        box.run(["./start.sh"], process__cwd="/")


def test_command_is_looked_up_in_the_containers_path(box):
    rootfs = box.rootfs
    (rootfs / "first").mkdir()
    (rootfs / "first" / "ls").mkdir()  # a directory is no program
    (rootfs / "second").mkdir()
    script = rootfs / "second" / "ls"
    script.write_text("#!/bin/sh\necho $1\n")
    script.chmod(0o755)
    env = ["PATH=/none:/first:/second:/bin"]
    assert box.run(["ls", "hello"], process__env=env) == "hello\n"


@pytest.mark.parametrize(
    ("passwd", "env", "home"),
    [
        ("root:x:0:0::/root:/bin/sh\nme:x:7:7::/home/me:/bin/sh\n", [], "/home/me"),
        ("me:x:7:7::/home/me:/bin/sh\n", ["HOME=/given"], "/given"),
        ("other:x:8:8::/home/other:\nbroken:x:7\n", [], "/"),
        (None, [], "/"),
    ],
)
def test_home(box, passwd, env, home):
    rootfs = box.rootfs
    if passwd is None:
        os.mkfifo(rootfs / "etc" / "passwd")  # nobody will ever write to it
    else:
        (rootfs / "etc" / "passwd").write_text(passwd)
    changes = {"process__env": ["PATH=/bin", *env], "process__user": {"uid": 7, "gid": 7}}
    assert box.run("echo $HOME", **changes) == f"{home}\n"


def test_no_descriptor_of_the_parent_is_inside(box):
    leaked = os.open("/", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        assert box.run("ls /proc/self/fd").split() == ["0", "1", "2", "3"]  # 3 is what ls reads
    finally:
        os.close(leaked)


def test_preserved_descriptors_are_inside(box):
    reader, writer = os.pipe()
    try:
        box.run(f"echo word >&{writer}", options={"preserve": [writer]})
        assert os.read(reader, 10) == b"word\n"
    finally:
        os.close(reader)
        os.close(writer)


def test_signals_are_as_at_boot(box):
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM)}
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        found = status(box.run(["cat", "/proc/self/status"]), "SigIgn", "SigBlk", "SigCgt")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        for number, handler in before.items():
            signal.signal(number, handler)
    # 32 and 33 are libc's own: nobody but the kernel's bare call can change them (nptl(7)).
    own = 3 << 31
    assert {int(mask, 16) & ~own for mask in found.values()} == {0}


def test_it_leads_a_session_as_process_one(box):
    fields = box.run(["cat", "/proc/self/stat"]).rpartition(")")[2].split()
    assert (fields[2], fields[3]) == ("1", "1")  # its group, its session


def test_host_and_domain_name(box):
    assert box.run("hostname; cat /proc/sys/kernel/domainname", hostname="inner", domainname="zone") == "inner\nzone\n"
    assert Path("/proc/sys/kernel/hostname").read_text() != "inner\n"


def test_sysctls_of_its_namespaces(box):
    sysctls = {"net.ipv4.ip_default_ttl": "44", "kernel.msgmax": "7000", "kernel/shmmni": "99"}
    before = [Path(f"/proc/sys/{name}").read_text() for name in ("net/ipv4/ip_default_ttl", "kernel/msgmax")]
    text = box.run(
        "cd /proc/sys; cat net/ipv4/ip_default_ttl kernel/msgmax kernel/shmmni",
        linux__sysctl=sysctls,
        linux__readonlyPaths=["/proc/sys"],
    )
    assert text.split() == ["44", "7000", "99"]
    assert before == [Path(f"/proc/sys/{name}").read_text() for name in ("net/ipv4/ip_default_ttl", "kernel/msgmax")]


def test_clocks_of_a_time_namespace(box):
    offsets = {"boottime": {"secs": 10_000_000}, "monotonic": {"secs": 5, "nanosecs": 7}}
    text = box.run(
        "cat /proc/uptime; cat /proc/self/timens_offsets",
        namespaces=["mount", "pid", "time"],
        linux__timeOffsets=offsets,
    )
    first, *rest = text.splitlines()
    assert float(first.split()[0]) > 10_000_000
    assert [line.split() for line in rest] == [["monotonic", "5", "7"], ["boottime", "10000000", "0"]]
    assert float(Path("/proc/uptime").read_text().split()[0]) < 10_000_000


def test_output_can_be_opened_again_by_its_user(box):
    """As daemons do that log to /dev/stdout."""
    text = box.run("echo again >> /dev/stdout; echo err >> /dev/stderr", process__user={"uid": 77, "gid": 77})
    assert text == "again\nerr\n"


def test_hostile_root_has_no_python(box):
    """All that the child needs was loaded before: nothing is imported from the image."""
    rootfs = box.rootfs
    trap = rootfs / "usr" / "lib" / "python3"
    trap.mkdir(parents=True)
    for name in ("encodings", "json", "socket", "errno"):
        (trap / f"{name}.py").write_text("raise SystemExit(99)")
    assert box.run("echo fine") == "fine\n"


def test_annotations_and_state(box):
    with box.created("true", annotations={"key": "value"}) as state:
        oci = state.to_oci()
    assert (oci["status"], oci["annotations"], oci["pid"]) == ("created", {"key": "value"}, state.pid)


def test_cgroup_limits_are_there_before_the_process_is(box):
    resources = {"pids": {"limit": 7}, "memory": {"limit": 1 << 25}}
    cgroup = mount("/sys/fs/cgroup", "cgroup", "ro")
    mounts = [PROC, DEV, mount("/sys", "sysfs", "ro"), cgroup]
    text = box.run(
        "cat /proc/self/cgroup; cat /sys/fs/cgroup/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids*/pids.max",
        mounts=mounts,
        linux__resources=resources,
    )
    *groups, limit = text.splitlines()
    assert {line.split(":", 2)[2] for line in groups} == {"/"}, "its cgroup namespace starts at its own group"
    assert limit == "7"
