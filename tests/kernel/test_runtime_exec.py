# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One more process in a container: where it is, what it may, how it ends."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cgroup.manager import open_manager
from ansible_collections.vessel.host.plugins.module_utils._converge.container import security
from ansible_collections.vessel.host.plugins.module_utils._errors import SpecError, StartError, StateError
from ansible_collections.vessel.host.plugins.module_utils._runtime import exec as runtime_exec
from ansible_collections.vessel.host.plugins.module_utils._runtime import kill, pause

from .runtime_box import DEV, MAPPING, NAMESPACES, PROC, PTS, ConsoleSocket, read_until, status

pytestmark = pytest.mark.root


def test_exit_code_output_and_place(box):
    with box.running(hostname="inner") as state:
        assert box.exec(state, "echo out; echo err >&2; hostname; exit 7") == (7, "out\nerr\ninner\n")
        assert box.exec(state, "kill -TERM $$")[0] == 128 + signal.SIGTERM


def test_it_is_in_every_namespace_of_the_container(box):
    kinds = ["cgroup", "ipc", "mnt", "net", "pid", "uts", "user", "time"]
    with box.running() as state:
        of_first = [os.readlink(f"/proc/{state.pid}/ns/{kind}") for kind in kinds]
        code, text = box.exec(state, f"for kind in {' '.join(kinds)}; do readlink /proc/self/ns/$kind; done")
        assert (code, text.split()) == (0, of_first)


def test_it_is_in_the_cgroup_of_the_container(box):
    with box.running() as state:
        spec = {"args": ["sleep", "1000"], "env": ["PATH=/bin"], "cwd": "/"}
        with box.streams() as fds:
            started = runtime_exec.exec(box.root, state.id, spec, stdio=fds)
        assert sorted(open_manager(state.cgroup).pids()) == sorted([state.pid, started.pid])
        for directory in open_manager(state.cgroup).directories():
            with open(f"{directory}/cgroup.procs") as file:
                assert str(started.pid) in file.read().split()
        kill.kill(box.root, state.id, signal.SIGKILL, all=True)
        assert started.wait() == 128 + signal.SIGKILL
        os.waitpid(state.pid, 0)


def test_what_the_spec_does_not_say_is_the_containers(box):
    caps = {name: ["CAP_KILL"] for name in ("bounding", "permitted", "effective")}
    profile = security.seccomp_profile([])
    with box.running(process__capabilities=caps, linux__seccomp=profile, process__noNewPrivileges=True) as state:
        found = status(box.exec(state, "cat /proc/self/status")[1], "CapBnd", "CapEff", "Seccomp", "NoNewPrivs")
        assert found == {"CapBnd": "0" * 14 + "20", "CapEff": "0" * 14 + "20", "Seccomp": "2", "NoNewPrivs": "0"}


def test_its_own_user_limits_and_names(box):
    caps = {"bounding": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"], "effective": []}
    changes = {
        "user": {"uid": 5, "gid": 6, "additionalGids": [7]},
        "cwd": "/tmp",
        "env": ["PATH=/bin", "A=b=c"],
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 33, "hard": 44}],
        "oomScoreAdj": 321,
        "noNewPrivileges": True,
        "capabilities": caps,
    }
    with box.running() as state:
        script = "id -u; id -G; pwd; echo $A $HOME; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj"
        assert box.exec(state, script, **changes) == (0, "5\n6 7\n/tmp\nb=c /\n33\n44\n321\n")
        found = status(box.exec(state, ["cat", "/proc/self/status"], **changes)[1], "NoNewPrivs", "CapBnd", "CapPrm")
        assert found == {"NoNewPrivs": "1", "CapBnd": "0" * 15 + "1", "CapPrm": "0" * 16}


def test_bundle_is_not_needed_any_more(box):
    with box.running(linux__seccomp=security.seccomp_profile([])) as state:
        shutil.rmtree(state.bundle)
        assert status(box.exec(state, "cat /proc/self/status")[1], "Seccomp") == {"Seccomp": "2"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"args": ["nothing"]}, r"^exec nothing: executable file not found in \$PATH \[ENOENT\]"),
        ({"args": ["/etc"]}, r"^exec /etc: Permission denied \[EACCES\]"),
        ({"args": ["/etc/text"]}, r"^exec /etc/text: Exec format error \[ENOEXEC\]"),
        ({"args": ["/etc/script"]}, r"^exec /etc/script: No such file or directory \[ENOENT\]"),
        ({"cwd": "/nowhere"}, r"^cwd /nowhere: No such file or directory \[ENOENT\]$"),
        ({"oomScoreAdj": 5000}, "Invalid argument"),
        ({"terminal": True}, "no console socket was given"),
    ],
)
def test_what_can_not_start_is_told_and_gone(box, changes, words):
    for name, content in (("text", "no program"), ("script", "#!/none\n")):
        (box.rootfs / "etc" / name).write_text(content)
        (box.rootfs / "etc" / name).chmod(0o755)
    with box.running() as state:
        spec = {"args": ["true"], "env": ["PATH=/bin"], "cwd": "/", **changes}
        with pytest.raises((StartError, OSError), match=words):
            runtime_exec.exec(box.root, state.id, spec)
        deadline = time.monotonic() + 5
        while open_manager(state.cgroup).pids() != [state.pid]:
            assert time.monotonic() < deadline


def test_wrong_spec_is_refused_by_name(box):
    with box.running() as state:
        for spec, field in (({"cwd": "/"}, "args"), ({"args": ["x"]}, "cwd"), ({"args": ["x\0"], "cwd": "/"}, "args")):
            with pytest.raises(SpecError, match=f"process.{field}"):
                runtime_exec.exec(box.root, state.id, spec)


def test_only_in_a_running_container(box):
    spec = {"args": ["true"], "env": ["PATH=/bin"], "cwd": "/"}
    with box.created("sleep 1000") as state, pytest.raises(StateError, match="is created; exec needs it running"):
        runtime_exec.exec(box.root, state.id, spec)
    with box.running() as state:
        pause.pause(box.root, state.id)
        with pytest.raises(StateError, match="is paused"):
            runtime_exec.exec(box.root, state.id, spec)
        thaw = threading.Timer(0.2, lambda: pause.resume(box.root, state.id))
        thaw.start()
        # With ignore-paused it waits in the frozen group until that is thawed.
        assert runtime_exec.exec(box.root, state.id, spec, paused=True).wait() == 0
        thaw.join()
    with box.running("true") as state:
        os.waitpid(state.pid, 0)
        with pytest.raises(StateError, match="is stopped"):
            runtime_exec.exec(box.root, state.id, spec)


def test_terminal(box):
    console = ConsoleSocket(box.top)
    script = "tty; stty size; read x; echo got $x; exit 3"
    spec = {"args": ["sh", "-c", script], "env": ["PATH=/bin"], "cwd": "/", "terminal": True}
    spec["consoleSize"] = {"height": 33, "width": 77}
    try:
        with box.running(mounts=[PROC, DEV, PTS]) as state:
            started = runtime_exec.exec(box.root, state.id, spec, console_socket=console.path)
            master, name = console.receive()
            text = read_until(master, "33 77")
            os.write(master, b"word\n")
            text += read_until(master, "got word")
            assert started.wait() == 3
            os.close(master)
        assert name == "/dev/pts/0"
        assert text.startswith("/dev/pts/0\r\n33 77")
    finally:
        console.close()


def test_in_a_user_namespace(box):
    changes = {"linux__uidMappings": MAPPING, "linux__gidMappings": MAPPING}
    caps = {name: ["CAP_CHOWN", "CAP_DAC_OVERRIDE"] for name in ("bounding", "permitted", "effective")}
    with box.running(namespaces=["user", *NAMESPACES], process__capabilities=caps, **changes) as state:
        code, text = box.exec(state, "id -u; cat /proc/self/uid_map; cat /proc/self/status", user={"uid": 0, "gid": 0})
        assert code == 0
        assert text.split()[:4] == ["0", "0", "100000", "65536"]
        assert status(text, "CapEff") == {"CapEff": "0" * 15 + "3"}
        assert box.exec(state, "id -u; id -g", user={"uid": 7, "gid": 8}) == (0, "7\n8\n")


def test_a_hostile_container_is_not_followed(box):
    """What it puts where exec looks leads to nothing of the host's."""
    victim = box.top / "victim"
    victim.write_text("untouched")
    os.mkfifo(box.rootfs / "etc" / "passwd")
    (box.rootfs / "dev" / "pts").mkdir()
    (box.rootfs / "dev" / "pts" / "ptmx").symlink_to("/etc/passwd")
    console = ConsoleSocket(box.top)
    try:
        with box.running(mounts=[PROC]) as state:
            assert box.exec(state, "echo $HOME") == (0, "/\n")
            spec = {"args": ["true"], "env": ["PATH=/bin"], "cwd": "/", "terminal": True}
            with pytest.raises(StartError, match=r"^console: openat2 dev/pts/ptmx: .*\[ELOOP\]"):
                runtime_exec.exec(box.root, state.id, spec, console_socket=console.path)
    finally:
        console.close()
    assert victim.read_text() == "untouched"


def test_many_at_once(box):
    with box.running() as state, box.streams() as fds:
        spec = {"args": ["sh", "-c", "exit $N"], "cwd": "/"}
        begun = [
            runtime_exec.begin(box.root, state.id, {**spec, "env": ["PATH=/bin", f"N={number}"]}, stdio=fds)
            for number in range(10)
        ]
        started = []
        for joining in begun:
            process = None
            while process is None:
                process = joining.advance()
            started.append(process)
        assert [process.wait() for process in started] == list(range(10))


def test_given_up(box):
    with box.running() as state:
        spec = {"args": ["sleep", "1000"], "env": ["PATH=/bin"], "cwd": "/"}
        joining = runtime_exec.begin(box.root, state.id, spec)
        joining.abort()
        joining = runtime_exec.begin(box.root, state.id, spec)
        assert joining.advance() is None
        joining.abort()
        assert open_manager(state.cgroup).pids() == [state.pid]


def test_killed_at_any_moment_it_leaves_no_child(box):
    """One that is not reaped would keep the container's init from ending, for ever."""
    with box.running() as state:
        spec = {"args": ["sleep", "1000"], "env": ["PATH=/bin"], "cwd": "/"}
        before = children()
        for number in range(60):
            joining = runtime_exec.begin(box.root, state.id, spec)
            time.sleep(number * 0.0002)
            joining.kill()
            assert outcome(joining) in ("killed before it began", 137)
            assert children() == before


def outcome(joining):
    try:
        while True:
            started = joining.advance()
            if started is not None:
                return started.wait()
    except StartError:
        return "killed before it began"


def children():
    """Of this process, zombies too."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return set(map(int, file.read().split()))
