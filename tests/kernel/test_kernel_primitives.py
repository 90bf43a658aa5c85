# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Capabilities, filters and pidfds on this kernel: each judged from /proc or by what a child then may not do."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import select
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge.container import security
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError
from ansible_collections.vessel.host.plugins.module_utils._kernel import caps, pidfd, process, seccomp

pytestmark = pytest.mark.root
LAST = caps.last_cap()


def child(work) -> int:
    """Exit code of a forked child that does ``work``; its result is the code, an error is 99."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(int(work() or 0))
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def sets() -> dict[str, set[str]]:
    """The five sets of the caller as /proc has them."""
    status = Path("/proc/self/status").read_text()
    masks = {name: int(mask, 16) for name, mask in re.findall(r"^Cap(\w+):\t(\w+)$", status, re.MULTILINE)}
    return {name: {cap for cap, number in caps.NUMBERS.items() if mask >> number & 1} for name, mask in masks.items()}


def refused(call, *args) -> int:
    """errno of the call, 0 when it was let through."""
    try:
        call(*args)
    except (OSError, KernelError) as error:
        return error.errno or 99
    return 0


def raw(number: int, *args: int) -> int:
    """errno of a system call by its number, 0 when it was let through."""
    library = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if library.syscall(number, *args) < 0 else 0


KEEP = ["CAP_CHOWN", "CAP_KILL", "CAP_SETPCAP", "CAP_CHECKPOINT_RESTORE"]


def test_held_is_what_proc_says():
    assert caps.held() == sets()["Prm"]


def test_the_bounding_set_keeps_what_it_shall():
    def work() -> bool:
        caps.drop_bounding(KEEP, LAST)
        caps.drop_bounding(KEEP, LAST)  # again is no error
        return sets()["Bnd"] != set(KEEP)

    assert child(work) == 0


def test_the_sets_are_what_was_asked_for():
    def work() -> bool:
        caps.apply(effective=KEEP[:2], permitted=KEEP[:3], inheritable=KEEP[:2], ambient=KEEP[:1], last=LAST)
        seen = sets()
        wanted = {"Eff": set(KEEP[:2]), "Prm": set(KEEP[:3]), "Inh": set(KEEP[:2]), "Amb": set(KEEP[:1])}
        return {name: seen[name] for name in wanted} != wanted

    assert child(work) == 0


def test_capabilities_survive_the_change_of_user_when_kept():
    def work() -> int:
        caps.keep_caps(True)
        os.setgid(12345)
        os.setuid(12345)
        caps.apply(effective=["CAP_CHOWN"], permitted=["CAP_CHOWN"], inheritable=[], ambient=[], last=LAST)
        os.close(os.memfd_create("x"))
        return sets()["Eff"] != {"CAP_CHOWN"} or sets()["Prm"] != {"CAP_CHOWN"}

    assert child(work) == 0


def test_what_is_not_held_can_not_be_taken():
    def work() -> int:
        caps.apply(permitted=["CAP_CHOWN"], last=LAST)
        return refused(lambda: caps.apply(permitted=["CAP_CHOWN", "CAP_SYS_ADMIN"], last=LAST))

    assert child(work) == errno.EPERM


def install(profile) -> None:
    process.set_no_new_privs()
    seccomp.install(seccomp.compile(profile))


def test_a_filter_really_refuses():
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
            {"names": ["memfd_create"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
        ],
    }

    def work() -> int:
        install(profile)
        return refused(os.mkdir, "/tmp/never-made"), refused(os.memfd_create, "x"), refused(os.getpid)

    assert child(lambda: work() != (errno.EPERM, errno.ENOSYS, 0)) == 0
    assert not os.path.exists("/tmp/never-made")


def test_a_filter_outlives_exec():
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    }

    def work() -> None:
        install(profile)
        os.execv("/bin/sh", ["sh", "-c", "mkdir /tmp/never-made 2>/dev/null; test $? = 1"])

    assert child(work) == 0
    assert Path("/proc/self/status").read_text().count("Seccomp:\t0") == 1


def test_installing_opens_and_imports_nothing():
    """A root directory without files and no descriptors left: what the child is after pivot_root."""
    program = seccomp.compile(security.SECCOMP)
    empty = tempfile.mkdtemp()

    def work() -> int:
        before = set(sys.modules)
        process.set_no_new_privs()
        os.chroot(empty)
        os.closerange(3, 1024)
        seccomp.install(program)
        return set(sys.modules) != before or refused(os.listdir, "/") != 0

    try:
        assert child(work) == 0
    finally:
        os.rmdir(empty)


def test_under_the_default_profile():
    """Everything that isolation rests on is refused, although this child has all of root's capabilities."""
    numbers = {"mount": 165, "unshare": 272, "setns": 308, "bpf": 321, "keyctl": 250, "init_module": 175, "reboot": 169}
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are those of x86_64")

    def work() -> int:
        install(security.SECCOMP)
        wrong = [name for name, number in numbers.items() if raw(number, 0, 0, 0, 0, 0) != errno.EPERM]
        if raw(435, 0, 0) != errno.ENOSYS:
            wrong.append("clone3")
        if refused(socket.socket, socket.AF_VSOCK, socket.SOCK_STREAM) != errno.EPERM:
            wrong.append("AF_VSOCK")
        if refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()):
            wrong.append("AF_INET")
        if raw(600) != errno.ENOSYS:
            wrong.append("tomorrow")
        if wrong:
            os.write(2, f"not as they should be: {wrong}\n".encode())
        return len(wrong)

    assert child(work) == 0


def test_a_distribution_works_under_the_default_profile():
    """A shell with pipes, threads, files, users: what a program of the distribution does all day."""

    def work() -> None:
        install(security.SECCOMP)
        script = (
            "set -e; d=$(mktemp -d); cd $d; seq 100 | sort -rn | head -1 | grep -q 100; echo x >f; chown 1:1 f;"
            " chmod 600 f; ln -s f l; cp -a f g; mv g h; tar cf t f h; cd /; rm -r $d;"
            f" {sys.executable} -c 'import threading; t = threading.Thread(target=print); t.start(); t.join()'"
        )
        os.execv("/bin/sh", ["sh", "-c", script])

    assert child(work) == 0


# pidfd


def spawn(code: int = 0, *, delay: float = 0.0, by: int = 0) -> int:
    pid = os.fork()
    if pid == 0:
        time.sleep(delay)
        if by:
            os.kill(os.getpid(), by)
        os._exit(code)
    return pid


@pytest.mark.parametrize(("code", "by", "expected"), [(0, 0, 0), (7, 0, 7), (255, 0, 255), (0, signal.SIGKILL, 137)])
def test_the_exit_code_of_our_own_child(code, by, expected):
    fd = os.pidfd_open(spawn(code, by=by))
    select.select([fd], [], [], 5)
    assert pidfd.own_exit_code(fd) == expected
    assert pidfd.own_exit_code(fd) is None  # it is reaped
    os.close(fd)


def test_a_child_that_runs_has_no_exit_code():
    pid = spawn(delay=5)
    fd = os.pidfd_open(pid)
    assert pidfd.own_exit_code(fd) is None
    assert pidfd.foreign_exit_code(fd) is None
    process.send(fd, signal.SIGKILL)
    select.select([fd], [], [], 5)
    assert pidfd.own_exit_code(fd) == 137
    process.send(fd, signal.SIGKILL)  # to one that is gone is no error
    os.close(fd)


@pytest.mark.parametrize(("code", "by", "expected"), [(0, 0, 0), (7, 0, 7), (0, signal.SIGTERM, 143)])
def test_the_exit_code_of_a_process_that_others_reap(code, by, expected):
    if tuple(map(int, re.match(r"(\d+)\.(\d+)", os.uname().release).groups())) < (6, 15):
        pytest.skip("PIDFD_INFO_EXIT is Linux 6.15's")
    ours, theirs = os.pipe()
    go, start = os.pipe()
    middle = os.fork()
    if middle == 0:
        pid = os.fork()
        if pid == 0:
            os.read(go, 1)
            if by:
                os.kill(os.getpid(), by)
            os._exit(code)
        os.write(theirs, str(pid).encode())
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        os.read(go, 1)
        os.waitpid(pid, 0)
        os._exit(0)
    fd = os.pidfd_open(int(os.read(ours, 20)))
    assert pidfd.own_exit_code(fd) is None
    os.write(start, b"x")
    select.select([fd], [], [], 5)
    assert pidfd.foreign_exit_code(fd) is None  # dead, and its parent has not asked yet
    os.write(start, b"x")
    os.waitpid(middle, 0)
    assert pidfd.foreign_exit_code(fd) == expected
    for end in (fd, ours, theirs, go, start):
        os.close(end)
