# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor starts, stops, restarts and removes real containers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import (
    MonitorError,
    NotFoundError,
    SpecError,
    StartError,
    StateError,
    WaitError,
)

from .monitor_host import Site, children, start_ready, wait_for, zombies

pytestmark = pytest.mark.root

SERVICE = ["/bin/sh", "-c", "trap 'exit 5' TERM; echo ready; while true; do usleep 20000; done"]


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path / "site")
    yield site
    site.close()


@pytest.fixture
def client(site):
    return site.supervise()


def finish(site, client):
    """Remove all; nothing is left, and no child of the supervisor."""
    for name in site.names:
        client.call("remove", name=name, timeout=0)
    assert client.call("list")["containers"] == {}
    assert children(site.process.pid) == []
    site.assert_clean()


def test_start_runs_the_command_and_writes_its_log(site, client):
    site.bundle("a", "echo out; echo err >&2; cat; exec sleep 1000")
    reply = client.call("start", name="a")
    status = site.status("a")
    assert status["status"] == "running"
    assert status["pid"] == reply["pid"]
    assert status["wanted"] == "running"
    assert status["exit_code"] is None
    wait_for(lambda: site.output("a") == "out\nerr\n")
    assert os.stat(site.paths.log("a")).st_mode & 0o777 == 0o640
    # exec'ed, and nothing of ours stays between
    assert children(site.process.pid) == [reply["pid"]]
    wait_for(lambda: Path(f"/proc/{reply['pid']}/cmdline").read_bytes().startswith(b"sleep"))
    finish(site, client)
    assert not os.path.exists(site.paths.status("a"))
    assert os.path.exists(site.paths.bundle("a"))


def test_starting_twice_is_starting_once(site, client):
    site.bundle("a", SERVICE)
    first = client.call("start", name="a")["pid"]
    assert client.call("start", name="a")["pid"] == first
    finish(site, client)


def test_a_command_that_is_not_there(site, client):
    site.bundle("a", ["/bin/nope"])
    with pytest.raises(StartError, match=r"exec /bin/nope: No such file or directory \[ENOENT\]"):
        client.call("start", name="a")
    status = site.status("a")
    assert status["status"] == "exited"
    assert status["exit_code"] == 127
    assert "/bin/nope" in status["error"]
    assert children(site.process.pid) == []
    site.assert_clean()


def test_a_command_that_is_not_executable(site, client):
    (site.rootfs / "data").write_text("no program")
    site.bundle("a", ["/data"], restart={"policy": "always"})
    with pytest.raises(StartError, match="EACCES"):
        client.call("start", name="a")
    # who asked has the error; the policy is for what once ran
    assert site.status("a")["status"] == "exited"
    assert site.status("a")["exit_code"] == 126
    finish(site, client)


def test_a_command_that_exec_refuses(site, client):
    """It is executable and no program: known only when it is executed, after the set-up."""
    (site.rootfs / "script").write_text("no #! line")
    (site.rootfs / "script").chmod(0o755)
    site.bundle("a", ["/script"])
    for dummy in range(3):
        with pytest.raises(StartError, match=r"exec /script: Exec format error \[ENOEXEC\]"):
            client.call("start", name="a")
    assert children(site.process.pid) == []
    finish(site, client)


def test_a_mount_that_fails_names_its_step(site, client):
    mounts = [{"destination": "/x", "type": "bind", "source": "/does/not/exist", "options": ["bind"]}]
    config = site.config("a", Path(site.paths.resource("containers", "a")), ["/bin/true"])
    site.bundle("a", ["/bin/true"], config={"mounts": config["mounts"] + mounts})
    with pytest.raises(StartError, match="/does/not/exist"):
        client.call("start", name="a")
    finish(site, client)


def test_a_poststart_hook_that_fails_takes_the_container_down(site, client):
    site.bundle("a", "exec sleep 1000", config={"hooks": {"poststart": [{"path": "/bin/false"}]}})
    with pytest.raises(StartError, match=r"poststart hook /bin/false ended with 1"):
        client.call("start", name="a")
    status = site.until("a", status="exited")
    assert (status["pid"], status["error"]) == (0, "poststart hook /bin/false ended with 1")
    finish(site, client)


def test_unknown_names_and_operations(site, client):
    for op in ("stop", "status", "pause", "wait", "reload", "kill"):
        with pytest.raises(NotFoundError, match="no such container: nobody"):
            client.call(op, name="nobody", signal=1)
    with pytest.raises(NotFoundError, match="no such container: nobody"):
        client.call("start", name="nobody")
    with pytest.raises(MonitorError, match="no such operation"):
        client.call("fly")
    with pytest.raises(MonitorError, match="bad request"):
        client.call("start")
    with pytest.raises(Exception, match="not a container id"):
        client.call("start", name="../etc")
    client.call("remove", name="nobody")  # it is not there, as asked


def test_a_damaged_bundle(site, client):
    site.bundle("a", ["/bin/true"])
    Path(site.paths.bundle("a"), "monitor.json").write_text("{")
    with pytest.raises(SpecError, match="not JSON"):
        client.call("start", name="a")
    site.settings("a", restart={"policy": "sometimes"})
    with pytest.raises(SpecError, match="sometimes"):
        client.call("start", name="a")
    site.settings("a")
    Path(site.paths.bundle("a"), "config.json").write_text("{}")
    with pytest.raises(SpecError):
        client.call("start", name="a")
    finish(site, client)


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$; sleep 9", None)])
def test_exit_codes(site, client, command, code):
    site.bundle("a", command)
    client.call("start", name="a")
    if code is None:  # the init of a pid namespace can't kill itself: it is done from outside
        client.call("kill", name="a", signal=int(signal.SIGKILL))
        code = 137
    status = client.call("wait", name="a", until="exited", timeout=10)["status"]
    assert status["exit_code"] == code
    assert status["finished_at"] >= status["started_at"]
    assert status["pid"] == 0
    finish(site, client)


def test_stop_sends_the_signal_and_takes_the_exit_code(site, client):
    site.bundle("a", SERVICE)
    start_ready(site, client)
    began = time.monotonic()
    status = client.call("stop", name="a")["status"]
    assert time.monotonic() - began < 3
    assert status["exit_code"] == 5
    assert status["wanted"] == "stopped"
    finish(site, client)


def test_stop_of_who_ignores_the_signal_ends_in_sigkill(site, client):
    site.bundle("a", "trap '' TERM; echo ready; while true; do usleep 10000; done", stop={"signal": 15, "timeout": 0.4})
    start_ready(site, client)
    began = time.monotonic()
    number = client.submit("stop", name="a")
    site.until("a", status="stopping")
    answered, reply = client.next()
    assert answered == number
    assert reply["status"]["exit_code"] == 137
    assert 0.4 <= time.monotonic() - began < 3
    finish(site, client)


def test_who_is_not_even_told_is_not_waited_for(site, client):
    """The kernel sends the first process of a pid namespace no signal that it has no handler for."""
    site.bundle("a", "echo ready; while true; do usleep 10000; done", stop={"signal": 15, "timeout": 60})
    start_ready(site, client)
    began = time.monotonic()
    assert client.call("stop", name="a")["status"]["exit_code"] == 137
    assert time.monotonic() - began < 5
    finish(site, client)


def test_who_goes_is_told(site, client):
    site.bundle("a", "trap 'echo bye; exit 0' TERM; echo ready; while true; do usleep 10000; done")
    start_ready(site, client)
    client.call("remove", name="a")
    assert "bye" in site.output("a")
    finish(site, client)


def test_stop_signal_and_timeout_can_be_given(site, client):
    site.bundle("a", "trap 'exit 9' USR1; echo ready; while true; do usleep 10000; done")
    start_ready(site, client)
    assert client.call("stop", name="a", signal=int(signal.SIGUSR1), timeout=5)["status"]["exit_code"] == 9
    client.call("start", name="a")
    began = time.monotonic()
    assert client.call("stop", name="a", timeout=0)["status"]["exit_code"] == 137
    assert time.monotonic() - began < 2
    finish(site, client)


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), -1, 10**400, True])
def test_a_timeout_that_can_not_be_stops_nothing(site, client, timeout):
    site.bundle("a", ["/bin/sleep", "1000"])
    client.call("start", name="a")
    for op in ("stop", "restart", "wait"):
        with pytest.raises(MonitorError, match=f"{op}: timeout: "):
            client.call(op, name="a", timeout=timeout)
    with pytest.raises(MonitorError, match="kill: signal: "):
        client.call("kill", name="a", signal=0)
    assert client.call("status", name="a")["status"]["status"] == "running"
    finish(site, client)


def test_stop_of_what_is_stopped_and_start_after_stop(site, client):
    site.bundle("a", "touch /mark; [ -e /again ] && echo again; touch /again; exec sleep 100")
    client.call("start", name="a")
    wait_for(lambda: Path(site.paths.resource("containers", "a"), "upper", "again").exists())
    client.call("stop", name="a", timeout=0)
    client.call("stop", name="a", timeout=0)
    # the upper layer stays, the rest is new
    client.call("start", name="a")
    wait_for(lambda: site.output("a") == "again\n")
    finish(site, client)


def test_restart(site, client):
    site.bundle("a", SERVICE)
    first = client.call("start", name="a")["pid"]
    reply = client.call("restart", name="a")
    assert reply["status"]["pid"] != first
    assert reply["status"]["restarts"] == 0
    finish(site, client)


def test_pause_and_resume(site, client):
    site.bundle("a", "i=0; while true; do i=$((i+1)); echo $i; usleep 5000; done")
    client.call("start", name="a")
    wait_for(lambda: site.output("a"))
    client.call("pause", name="a")
    assert site.status("a")["status"] == "paused"
    before = site.output("a")
    time.sleep(0.1)
    assert site.output("a") == before
    with pytest.raises(StateError, match="paused"):
        client.call("start", name="a")
    with pytest.raises(StateError, match="pause needs it running"):
        client.call("pause", name="a")
    client.call("resume", name="a")
    wait_for(lambda: site.output("a") != before)
    client.call("pause", name="a")
    # a frozen process is stopped all the same
    assert client.call("stop", name="a", timeout=0.3)["status"]["exit_code"] == 137
    client.call("start", name="a")
    client.call("pause", name="a")
    finish(site, client)


def test_what_is_left_in_the_group_goes_too(site, client):
    """Without a pid namespace of its own nothing ends with the first process."""
    kinds = [{"type": kind} for kind in ("mount", "ipc", "uts", "network")]
    linux = {"namespaces": kinds, "cgroupsPath": site.paths.cgroup("a"), "resources": {}}
    site.bundle("a", "sleep 1234 & sleep 1234 & exit 4", config={"linux": linux})
    client.call("start", name="a")
    assert client.call("wait", name="a", until="exited", timeout=10)["status"]["exit_code"] == 4
    site.assert_clean()
    finish(site, client)


def test_remove_of_what_runs(site, client):
    site.bundle("a", "trap '' TERM; while true; do usleep 10000; done")
    pid = client.call("start", name="a")["pid"]
    began = time.monotonic()
    client.call("remove", name="a", timeout=0)
    assert time.monotonic() - began < 2
    assert not os.path.exists(f"/proc/{pid}")
    finish(site, client)


def test_nothing_is_written_after_a_removal_during_back_off(site, client):
    """The bundle is the caller's then, who takes it away."""
    site.bundle("a", "exit 1", restart={"policy": "always"})
    client.call("start", name="a")
    wait_for(lambda: site.status("a")["restarts"] >= 4 and site.status("a")["status"] == "restarting")
    client.call("remove", name="a")
    client.call("ping")  # whatever it does in the same turn is done
    assert not os.path.exists(site.paths.status("a"))
    finish(site, client)


def test_stop_while_it_starts(site, client):
    """Start and stop in one breath: either it never ran or it was stopped, and nothing is left."""
    site.bundle("a", SERVICE)
    for dummy in range(5):
        start, stop = client.submit("start", name="a"), client.submit("stop", name="a", timeout=0)
        replies = dict(client.next() for dummy in range(2))
        assert set(replies) == {start, stop}
        assert replies[stop]["ok"]
        assert replies[start]["ok"] or replies[start]["error"]["type"] == "StateError"
        assert site.status("a")["status"] == "exited"
        site.assert_clean()
    finish(site, client)


def test_oom_kill_is_told(site, client):
    linux = {
        "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")],
        "cgroupsPath": site.paths.cgroup("a"),
        "resources": {"memory": {"limit": 8 << 20}},
    }
    # the whole of it is one word, so that the shell itself grows
    site.bundle("a", "x=0123456789abcdef; while true; do x=$x$x; done", config={"linux": linux})
    client.call("start", name="a")
    status = client.call("wait", name="a", until="exited", timeout=30)["status"]
    assert status["exit_code"] == 137
    assert status["oom_killed"] is True
    site.bundle("b", "exit 1")
    client.call("start", name="b")
    assert client.call("wait", name="b", until="exited", timeout=10)["status"]["oom_killed"] is False
    finish(site, client)


# restart policies


@pytest.mark.parametrize(
    ("policy", "command", "restarts"),
    [
        ("no", "exit 1", 0),
        ("on-failure", "exit 0", 0),
        ("always", "exit 0", None),
        ("unless-stopped", "exit 0", None),
        ("on-failure", "exit 1", None),
    ],
)
def test_policy_decides_after_an_exit(site, client, policy, command, restarts):
    site.bundle("a", command, restart={"policy": policy, "retries": 0})
    client.call("start", name="a")
    if restarts is None:
        wait_for(lambda: site.status("a")["restarts"] >= 2)
        client.call("stop", name="a")
        stopped = site.status("a")
        assert stopped["status"] == "exited"
        time.sleep(0.6)
        assert site.status("a") == stopped
    else:
        client.call("wait", name="a", until="exited", timeout=5)
        time.sleep(0.2)
        assert site.status("a")["status"] == "exited"
        assert site.status("a")["restarts"] == restarts
    finish(site, client)


def test_on_failure_gives_up_after_its_retries(site, client):
    site.bundle("a", "echo try; exit 7", restart={"policy": "on-failure", "retries": 2})
    client.call("start", name="a")
    status = client.call("wait", name="a", until="exited", timeout=10)["status"]
    assert (status["restarts"], status["exit_code"]) == (2, 7)
    assert site.output("a") == "try\n" * 3
    # a start by hand begins to count anew
    client.call("start", name="a")
    assert client.call("wait", name="a", until="exited", timeout=10)["status"]["restarts"] == 2
    finish(site, client)


def test_back_off_doubles(site, client):
    """The kernel's uptime in the container's own log: 0.1, 0.2, 0.4, 0.8 s between lives."""
    site.bundle("a", "cat /proc/uptime; exit 1", restart={"policy": "always"})
    client.call("start", name="a")
    wait_for(lambda: len(site.output("a").splitlines()) >= 5)
    client.call("stop", name="a")
    times = [float(line.split()[0]) for line in site.output("a").splitlines()]
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    for gap, delay in zip(gaps, (0.1, 0.2, 0.4, 0.8)):
        assert delay - 0.02 <= gap < delay + 0.4, gaps
    finish(site, client)


def test_a_restart_that_can_not_start_is_tried_again(site, client):
    site.bundle("a", "exit 1", restart={"policy": "always"})
    client.call("start", name="a")
    (site.rootfs / "bin" / "sh").rename(site.rootfs / "bin" / "hidden")
    # an overlay's lower layer may not change while it is mounted, and it is not mounted while the container is down
    failed = site.until("a", exit_code=127)
    assert "ENOENT" in failed["error"]
    (site.rootfs / "bin" / "hidden").rename(site.rootfs / "bin" / "sh")
    site.until("a", exit_code=1, error="")
    finish(site, client)


def test_start_during_back_off_is_at_once(site, client):
    site.bundle("a", "[ -e /go ] && exec sleep 1000; exit 1", restart={"policy": "always"})
    client.call("start", name="a")
    wait_for(lambda: site.status("a")["restarts"] >= 4 and site.status("a")["status"] == "restarting")
    Path(site.paths.resource("containers", "a"), "upper", "go").touch()
    began = time.monotonic()
    client.call("start", name="a")
    assert time.monotonic() - began < 0.7
    client.call("wait", name="a", until="running", timeout=5)
    assert site.status("a")["restarts"] == 0
    finish(site, client)


def test_reload_takes_a_new_policy_live(site, client):
    site.bundle("a", SERVICE)
    pid = client.call("start", name="a")["pid"]
    site.settings("a", restart={"policy": "always"})
    client.call("reload", name="a")
    assert site.status("a")["pid"] == pid
    client.call("kill", name="a", signal=9)
    wait_for(lambda: site.status("a")["restarts"] == 1 and site.status("a")["status"] == "running")
    site.settings("a", restart={"policy": "no"})
    client.call("reload", name="a")
    client.call("kill", name="a", signal=9)
    assert client.call("wait", name="a", until="exited", timeout=5)["status"]["exit_code"] == 137
    finish(site, client)


# waiting


def test_wait_until_exited_and_running(site, client):
    site.bundle("a", "usleep 300000; exit 6")
    client.call("start", name="a")
    assert client.call("wait", name="a", until="running", timeout=1)["status"]["status"] == "running"
    began = time.monotonic()
    assert client.call("wait", name="a", until="exited", timeout=10)["status"]["exit_code"] == 6
    assert time.monotonic() - began > 0.1
    with pytest.raises(WaitError, match="container a: it does not run: it has ended with exit code 6"):
        client.call("wait", name="a", until="running", timeout=10)
    finish(site, client)


def test_wait_that_takes_too_long_says_what_the_container_said(site, client):
    site.bundle("a", "echo first; echo waiting for the moon; exec sleep 1000")
    client.call("start", name="a")
    wait_for(lambda: "moon" in site.output("a"))
    with pytest.raises(
        WaitError, match=r"not exited after 0\.2 s, but running; its log ends with: first \| waiting for the moon"
    ):
        client.call("wait", name="a", until="exited", timeout=0.2)
    with pytest.raises(StateError, match="no health check"):
        client.call("wait", name="a", until="healthy", timeout=0.2)
    with pytest.raises(MonitorError, match="'rich' is none of"):
        client.call("wait", name="a", until="rich")
    finish(site, client)


# many at once


def test_thirty_start_in_parallel(site, client):
    names = [f"c{number}" for number in range(30)]
    for name in names:
        site.bundle(name, "echo up; exec sleep 1000")
    asked = {client.submit("start", name=name): name for name in names}
    while asked:
        number, reply = client.next()
        name = asked.pop(number)
        assert reply["ok"], reply
        assert site.status(name)["pid"] == reply["pid"]
    assert len(children(site.process.pid)) == 30
    wait_for(lambda: all(site.output(name) == "up\n" for name in names))
    for name in names:
        client.submit("remove", name=name)
    for dummy in names:
        assert client.next()[1]["ok"]
    assert zombies(site.process.pid) == []
    finish(site, client)


def test_a_client_that_leaves_does_not_stop_the_start(site, client):
    site.bundle("a", SERVICE)
    other = site.connect()
    other.submit("start", name="a")
    other.close()
    site.until("a", status="running")
    finish(site, client)


def test_no_descriptor_leaks(site, client):
    """After many lives the supervisor has as many open as before."""
    site.bundle("a", "exit 1", health={"test": ["CMD", "/bin/true"], "interval": 0.01})
    site.bundle("b", ["/bin/nope"])

    def lives():
        client.call("start", name="a")
        client.call("wait", name="a", until="exited", timeout=10)
        with pytest.raises(StartError):
            client.call("start", name="b")

    lives()
    before = len(os.listdir(f"/proc/{site.process.pid}/fd"))
    for dummy in range(10):
        lives()
    assert len(os.listdir(f"/proc/{site.process.pid}/fd")) == before
    assert site.log() == ""
    finish(site, client)


def test_a_container_inherits_nothing_of_the_supervisor(site, client):
    (site.rootfs / "bin" / "ls").symlink_to("busybox")
    site.bundle("a", "ls /proc/self/fd; cat /proc/self/oom_score_adj; ulimit -n; ulimit -Hn")
    client.call("start", name="a")
    client.call("wait", name="a", until="exited", timeout=10)
    *fds, score, soft, dummy = site.output("a").split()
    assert fds == ["0", "1", "2", "3"]  # the last is the listing's own
    assert int(score) == int(Path("/proc/self/oom_score_adj").read_text())
    assert int(soft) == 1024
    finish(site, client)


def test_idle_supervisor_ends_and_leaves_no_files(site):
    client = site.supervise(idle_exit=True)
    site.bundle("a", "exit 0")
    client.call("start", name="a")
    client.call("wait", name="a", until="exited", timeout=5)
    client.call("remove", name="a")
    time.sleep(2.5)
    assert site.process.poll() is None  # somebody is connected
    client.close()
    assert site.process.wait(timeout=10) == 0
    assert not os.path.exists(site.paths.monitor_socket)
    assert not os.path.exists(f"{site.paths.run}/monitor.lock")
    site.assert_clean()


def test_only_one_supervisor(site, client):
    second = Site.__new__(Site)
    second.__dict__.update(site.__dict__, process=None, clients=[])
    with pytest.raises(AssertionError, match="another supervisor runs"):
        second.supervise()
    assert client.call("ping")["pid"] == site.process.pid


def test_others_are_not_heard(site, client):
    """Not root: the socket is closed to them, and the kernel says who they are if they get at it."""
    assert os.stat(site.paths.monitor_socket).st_mode & 0o777 == 0o600
    os.chmod(site.paths.monitor_socket, 0o666)
    for directory in (site.paths.run, *map(str, list(Path(site.paths.run).parents)[:-1])):
        os.chmod(directory, os.stat(directory).st_mode | 0o011)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            other = site.connect()
            other.call("ping")
        except MonitorError as error:
            code = 0 if "gone away" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert client.call("ping")["pid"] == site.process.pid


def test_sigterm_leaves_all_running(site, client):
    site.bundle("a", SERVICE)
    pid = client.call("start", name="a")["pid"]
    site.process.send_signal(signal.SIGTERM)
    assert site.process.wait(timeout=10) == 0
    os.kill(pid, 0)
    again = site.supervise()
    assert again.call("status", name="a")["status"]["pid"] == pid
    finish(site, again)


def test_quit_waits_for_starts_under_way(site, client):
    """Another version takes over in the middle: who asked for a start gets the answer."""
    names = [f"c{number}" for number in range(10)]
    for name in names:
        site.bundle(name, SERVICE)
        client.submit("start", name=name)
    wait_for(lambda: os.path.exists(site.paths.status("c0")))
    with site.connect() as other:
        other.call("quit")
    assert all(client.next()[1]["ok"] for dummy in names)
    assert site.process.wait(timeout=10) == 0
    again = site.supervise()
    assert {again.call("status", name=name)["status"]["status"] for name in names} == {"running"}
    finish(site, again)
