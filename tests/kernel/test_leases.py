# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One writer at a time: two installations with a supervisor each are two hosts, a directory is their shared storage."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import stat
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError, StateError
from ansible_collections.vessel.host.plugins.module_utils._kernel import mount
from ansible_collections.vessel.host.plugins.module_utils._monitor import lease
from ansible_collections.vessel.host.plugins.module_utils._monitor.client import Client
from ansible_collections.vessel.host.plugins.module_utils._monitor.errands import Call
from ansible_collections.vessel.host.plugins.module_utils._monitor.holding import load, now
from ansible_collections.vessel.host.plugins.module_utils._monitor.loop import Loop

from .monitor_host import Site, wait_for

pytestmark = pytest.mark.root

DURATION = 3.0
# Each line of the journal has the host's name; that it is written shows who wrote when.
WRITER = "while true; do echo {host} >> /data/journal; usleep 20000; done"


STOPS = """
import signal
from ansible_collections.vessel.host.plugins.module_utils._monitor.guard import Guard
from ansible_collections.vessel.host.plugins.module_utils._runtime import create
def finish(self, finish=create.Creation.finish):
    state = finish(self)
    os.kill(os.getpid(), signal.SIGSTOP)
    return state
create.Creation.finish, Guard.watch = finish, lambda self: None
"""


# the files
def record(nonce="n", **more):
    return {"nonce": nonce, "host": "h", "container": "c", "since": "s", "duration": DURATION, "beat": 0, **more}


def test_of_many_that_come_at_once_one_has_it(tmp_path):
    top, (reader, writer) = str(tmp_path), os.pipe()
    pids = []
    for index in range(8):
        pid = os.fork()
        if pid == 0:
            os.close(writer)
            os.read(reader, 1)  # until all are there
            os._exit(int(lease.claim(top, 0, record(str(index)))))
        pids.append(pid)
    os.close(reader)
    os.close(writer)
    winners = [index for index, pid in enumerate(pids) if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]
    assert [str(index) for index in winners] == [lease.look(top).record["nonce"]]


def test_who_comes_too_late_has_nothing_and_harms_nobody(tmp_path):
    top = str(tmp_path)
    assert lease.look(top) is None
    assert lease.claim(top, 0, record("a"))
    assert lease.renew(top, 1, record("a", beat=1))
    assert lease.claim(top, 1, record("b"))
    seen = lease.look(top)
    assert (seen.number, seen.record["nonce"], seen.released) == (2, "b", False)
    # a wakes up, and so does one that would have followed a, and one that would have been the first.
    assert not lease.renew(top, 1, record("a", beat=2))
    assert not lease.release(top, 1, record("a", beat=2))
    assert not lease.claim(top, 1, record("c"))
    assert not lease.claim(top, 0, record("d"))
    assert lease.look(top) == seen
    assert os.listdir(f"{top}/{lease.DIRECTORY}") == ["2"]
    assert lease.release(top, 2, record("b", beat=1))
    assert lease.look(top).released
    assert lease.revoke(top, 2, record("e"))
    assert lease.look(top).released


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '"x"', '{"duration": true}', '{"duration": "long"}', '{"duration": 0}', '{"duration": NaN}',
     '{"duration": 1e999}', '{"duration": 1' + "0" * 400 + "}", '{"nonce": [], "host": {}}'],
)  # fmt: skip
def test_what_is_no_lease_expires_as_one(tmp_path, text):
    (tmp_path / lease.DIRECTORY).mkdir()
    (tmp_path / lease.DIRECTORY / "7").write_text(text)
    (tmp_path / lease.DIRECTORY / "note").write_text("not ours")
    seen = lease.look(str(tmp_path))
    assert (seen.number, seen.text, seen.released) == (7, text, False)
    assert 3 <= seen.duration <= 3600
    assert isinstance(seen.nonce, str)
    assert lease.claim(str(tmp_path), 7, record())


FORGED = {
    "symlink": lambda path: path.symlink_to("/etc/passwd"),
    "fifo": os.mkfifo,
    "directory": Path.mkdir,
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK),
    "device": lambda path: os.mknod(path, stat.S_IFCHR, os.makedev(1, 3)),
    "huge": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
}


@pytest.mark.parametrize("kind", FORGED)
def test_what_is_put_in_the_place_of_one_expires_as_one(tmp_path, kind):
    """Root in the container can: its holder has it no more, and nobody is held up by it."""
    directory, top = tmp_path / lease.DIRECTORY, str(tmp_path)
    assert lease.claim(top, 0, record())
    (directory / "1").unlink()
    FORGED[kind](directory / "1")
    began = time.monotonic()
    assert not lease.renew(top, 1, record())
    seen = lease.look(top)
    assert (seen.number, seen.record, seen.duration) == (1, {}, lease.DEFAULT)
    assert lease.claim(top, 1, record("b"))
    assert lease.renew(top, 2, record("b"))
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("name", ["007", "0", "-1", "\u0663", "1.5", ".9"])
def test_what_is_no_number_of_ours_counts_for_nothing(tmp_path, name):
    (tmp_path / lease.DIRECTORY).mkdir()
    (tmp_path / lease.DIRECTORY / name).touch()
    assert lease.look(str(tmp_path)) is None
    assert lease.claim(str(tmp_path), 0, record())


def test_a_symlink_leads_nobody_out_of_the_storage(tmp_path):
    """Files with a number for a name are elsewhere too, and would go."""
    top, elsewhere = tmp_path / "top", tmp_path / "elsewhere"
    top.mkdir()
    elsewhere.mkdir()
    (elsewhere / "1").write_text("kept")
    (top / lease.DIRECTORY).symlink_to(elsewhere)
    for act in (
        lambda: lease.look(str(top)),
        lambda: lease.claim(str(top), 1, record()),
        lambda: lease.renew(str(top), 1, record()),
    ):
        with pytest.raises(NotADirectoryError, match=lease.DIRECTORY):
            act()
    assert [(path.name, path.read_text()) for path in elsewhere.iterdir()] == [("1", "kept")]


def test_a_call_that_hangs_is_told_in_time():
    loop, told = Loop(), []
    call = Call(loop, lambda: time.sleep(30), 0.1, "/srv", lambda *answer: told.append(answer))
    while not told:
        loop.turn(1)
    ((result, error),) = told
    assert (result, isinstance(error, KernelError)) == (None, True)
    assert "Connection timed out [ETIMEDOUT] (its server does not answer)" in str(error)
    wait_for(call.gone)
    loop.close()


def test_a_call_for_which_there_is_no_process_is_told(monkeypatch):
    def fork():
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    loop, told, files = Loop(), [], len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "fork", fork)
    call = Call(loop, int, 5, "/srv", lambda *answer: told.append(answer))
    assert told == []  # not from within
    loop.turn(1)
    assert [(result, error.errno) for result, error in told] == [(None, errno.EAGAIN)]
    assert call.gone()
    call.cancel()
    assert len(os.listdir("/proc/self/fd")) == files
    loop.close()


# two hosts
class Host:
    def __init__(self, site: Site, name: str, shared: Path) -> None:
        self.site = site
        self.name = name
        self.top = site.root / "top"  # where this host has the storage mounted
        self.top.mkdir()
        self.shared = shared
        self.mount()
        self.client: Client | None = None
        bundles = os.path.dirname(site.paths.bundle("db"))
        os.makedirs(bundles)
        self.bundles = os.open(bundles, os.O_RDONLY)

    def mount(self):
        mount.mount(str(self.shared), str(self.top), None, mount.MS_BIND)

    def supervise(self):
        self.client = self.site.supervise()

    def writer(self, **monitor):
        bind = {"destination": "/data", "type": "bind", "source": str(self.top), "options": ["rbind", "rw"]}
        setting = {str(self.top): {"volume": "shared", "duration": DURATION}}
        self.site.bundle("db", WRITER.format(host=self.name), leases=setting, **monitor)
        path = Path(self.site.paths.bundle("db"), "config.json")
        config = json.loads(path.read_text())
        config["mounts"].append(bind)
        path.write_text(json.dumps(config))

    def start(self):
        return self.client.call("start", name="db")["pid"]

    def stop(self):
        self.client.call("stop", name="db", timeout=0)

    def waiting(self):
        """For whom it waits, as its status has it."""
        with contextlib.suppress(FileNotFoundError):
            return self.site.status("db")["error"]
        return ""

    def held(self):
        return load(self.site.paths.bundle("db"))

    def guard(self):
        """Has one the lock?"""
        try:
            fcntl.flock(self.bundles, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self.bundles, fcntl.LOCK_UN)
        return False

    def close(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.site.paths.instance_link("db"))  # what is taken away is what the test has started
        if self.site.process is not None and self.site.process.poll() is None:
            self.site.connect().call("remove", name="db")
        mount.umount2(str(self.top), mount.MNT_DETACH)
        self.site.close()
        wait_for(lambda: not self.guard(), 8)
        os.close(self.bundles)


@pytest.fixture
def hosts(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    found = []
    with contextlib.ExitStack() as stack:  # one that does not go well keeps not the other from going
        for name in ("alpha", "beta"):
            (tmp_path / name).mkdir()
            found.append(Host(Site(tmp_path / name), name, shared))
            stack.callback(found[-1].close)
        for host in found:
            host.supervise()
            host.writer()
        yield found


def journal(tmp_path):
    path = tmp_path / "shared/journal"
    return path.read_text().split() if path.exists() else []


def turns(lines):
    """Who wrote, in order: each turn once."""
    return [name for index, name in enumerate(lines) if index == 0 or lines[index - 1] != name]


def test_a_second_writer_is_refused_until_the_first_has_ended(hosts, tmp_path):
    alpha, beta = hosts
    pid = alpha.start()
    with pytest.raises(StateError) as caught:
        beta.start()
    assert str(caught.value).startswith(
        f"volume shared: container db of host {os.uname().nodename} has the lease since 20"
    )
    assert "and renews it (stop it there; if that host is off, break_lease: true of the volume" in str(caught.value)
    assert alpha.site.status("db")["pid"] == pid
    alpha.stop()
    began = time.monotonic()
    beta.start()
    assert time.monotonic() - began < 1  # what was given back is free at once
    wait_for(lambda: "beta" in journal(tmp_path))
    beta.stop()
    assert turns(journal(tmp_path)) == ["alpha", "beta"]
    assert [alpha.held(), beta.held(), alpha.guard()] == [{}, {}, False]


def test_a_host_that_died_is_followed_when_its_lease_is_over(hosts, tmp_path):
    alpha, beta = hosts
    pid = alpha.start()
    wait_for(lambda: "alpha" in journal(tmp_path))
    died = now()
    alpha.site.kill_supervisor()
    os.kill(pid, signal.SIGKILL)
    beta.client.submit("start", name="db")
    waiting = wait_for(beta.waiting)
    assert "has the lease since" in waiting
    assert "; unless that renews it, it is over at 20" in waiting
    wait_for(lambda: "beta" in journal(tmp_path), DURATION * 3)
    assert now() - died >= DURATION * 5 / 6  # it was renewed shortly before
    assert turns(journal(tmp_path)) == ["alpha", "beta"]
    beta.site.until("db", status="running", error="")


def test_who_can_not_renew_ends_before_another_begins(hosts, tmp_path):
    """Here the storage refuses to be written to, as far as this host is concerned."""
    alpha, beta = hosts
    alpha.start()
    wait_for(lambda: "alpha" in journal(tmp_path))
    mount.mount("none", str(alpha.top), None, mount.MS_REMOUNT | mount.MS_BIND | mount.MS_RDONLY)
    beta.client.submit("start", name="db")
    ended = alpha.site.until("db", status="exited", timeout=DURATION * 2)
    assert ended["exit_code"] == 137
    assert ended["error"].startswith("volume shared: its lease is lost: it could not be renewed for 2.")
    begun = beta.site.until("db", status="running", timeout=DURATION * 2)
    assert begun["started_at"] > ended["finished_at"]
    wait_for(lambda: "beta" in journal(tmp_path))
    assert turns(journal(tmp_path)) == ["alpha", "beta"]


def test_a_dead_supervisor_takes_no_container_along_where_another_comes_in_time(hosts, tmp_path):
    alpha, dummy = hosts
    pid = alpha.start()
    deadline = alpha.held()[str(alpha.top)]["deadline"]
    alpha.site.kill_supervisor()
    alpha.supervise()
    assert alpha.site.status("db")["pid"] == pid
    wait_for(lambda: now() > deadline + 0.5)  # when the guard would have acted
    assert alpha.site.status("db")["pid"] == pid
    assert alpha.guard()
    alpha.stop()


@pytest.mark.parametrize("counts", ["db", "_db"])
def test_without_a_supervisor_the_guard_ends_the_container_in_time(hosts, tmp_path, counts):
    """Also where another instance of it counts by now, and this one has not ended yet."""
    alpha, beta = hosts
    pid = alpha.start()
    if counts != "db":
        os.symlink(counts, alpha.site.paths.instance_link("db"))
    wait_for(lambda: "alpha" in journal(tmp_path))
    alpha.site.kill_supervisor()
    beta.client.submit("start", name="db")
    wait_for(lambda: _ended(pid), DURATION * 2)
    ended = len(journal(tmp_path))
    wait_for(lambda: "beta" in journal(tmp_path), DURATION * 2)
    assert turns(journal(tmp_path)) == ["alpha", "beta"]
    assert journal(tmp_path)[ended - 1] == "alpha"


def _ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_host_that_was_paused_gives_way_when_it_wakes_up(hosts, tmp_path):
    """As a virtual machine is stopped and goes on: nobody can keep it from writing before it has looked at its clock;
    the new holder keeps its lease."""
    alpha, beta = hosts
    pid = alpha.start()
    wait_for(lambda: "alpha" in journal(tmp_path))
    parts = [pid, alpha.site.process.pid, *_children(alpha.site.process.pid)]
    for part in parts:
        os.kill(part, signal.SIGSTOP)
    beta.start()
    lease_of_beta = lease.look(str(tmp_path / "shared")).record["nonce"]
    for part in parts:
        os.kill(part, signal.SIGCONT)
    ended = alpha.site.until("db", status="exited", timeout=2)
    assert "its lease is lost" in ended["error"]
    assert lease.look(str(tmp_path / "shared")).record["nonce"] == lease_of_beta
    deadline = beta.held()[str(beta.top)]["deadline"]
    wait_for(lambda: beta.held()[str(beta.top)]["deadline"] > deadline)
    assert beta.site.status("db")["status"] == "running"


def _children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_lease_that_is_broken_is_noticed(hosts, tmp_path):
    alpha, beta = hosts
    alpha.start()
    seen = lease.look(str(tmp_path / "shared"))
    assert lease.revoke(str(tmp_path / "shared"), seen.number, record())
    ended = alpha.site.until("db", status="exited", timeout=DURATION)
    assert ended["error"].endswith("its lease is lost: another took it, or somebody removed it")
    began = time.monotonic()
    beta.start()
    assert time.monotonic() - began < 1


def test_a_policy_restarts_who_lost_it_when_it_is_free_again(hosts, tmp_path):
    alpha, beta = hosts
    alpha.writer(restart={"policy": "always", "retries": 0})
    alpha.start()
    seen = lease.look(str(tmp_path / "shared"))
    lease.revoke(str(tmp_path / "shared"), seen.number, record())
    beta.start()
    alpha.site.until("db", status="restarting", timeout=DURATION * 2)
    beta.stop()
    alpha.site.until("db", status="running", timeout=DURATION * 4)
    alpha.stop()


def test_a_stop_while_it_waits_is_an_end_at_once(hosts, tmp_path):
    alpha, beta = hosts
    pid = alpha.start()
    alpha.site.kill_supervisor()
    os.kill(pid, signal.SIGKILL)
    beta.client.submit("start", name="db")
    wait_for(beta.waiting)
    client = beta.site.connect()
    client.call("stop", name="db", timeout=0)
    assert beta.site.status("db")["status"] == "exited"
    time.sleep(0.2)
    assert lease.look(str(tmp_path / "shared")).record["host"] == os.uname().nodename
    assert not beta.held()


def test_what_can_not_be_written_down_is_not_held(hosts, tmp_path):
    """The guard would not know of it."""
    alpha, beta = hosts
    obstacle = Path(alpha.site.paths.bundle("db"), "leases.json.new")
    obstacle.mkdir()
    with pytest.raises(StateError, match=r"volume shared: its lease can.t be written down: .*leases.json.new"):
        alpha.start()
    assert not journal(tmp_path)
    beta.start()
    beta.stop()
    obstacle.rmdir()
    alpha.start()


def test_who_was_held_up_before_it_began_does_not_begin(hosts, tmp_path):
    """Here the supervisor stops when all is set up, and there is no guard."""
    alpha, beta = hosts
    alpha.site.kill_supervisor()
    alpha.client = alpha.site.supervise(first=STOPS)
    alpha.client.submit("start", name="db")
    stat = Path(f"/proc/{alpha.site.process.pid}/stat")
    wait_for(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
    beta.start()
    os.kill(alpha.site.process.pid, signal.SIGCONT)
    ended = alpha.site.until("db", status="exited")
    assert set(journal(tmp_path)) == {"beta"}
    assert "lease" in ended["error"]


def test_where_the_storage_is_not_mounted_no_lease_is_made_below(hosts):
    """It would be another one than others see, and in the way of the volume's removal."""
    alpha, dummy = hosts
    alpha.writer(mounts={str(alpha.top): ""}, restart={"policy": "always", "retries": 0})
    alpha.start()
    mount.umount2(str(alpha.top), mount.MNT_DETACH)
    alpha.site.until("db", exit_code=126, timeout=DURATION * 3)
    assert "is not mounted" in alpha.site.status("db")["error"]
    assert os.listdir(alpha.top) == []
    alpha.stop()
    alpha.mount()


def test_storage_that_can_not_be_written_to_is_told(hosts, tmp_path):
    alpha, dummy = hosts
    mount.mount("none", str(alpha.top), None, mount.MS_REMOUNT | mount.MS_BIND | mount.MS_RDONLY)
    with pytest.raises(
        StateError, match=r"volume shared: no lease can be taken: .*Read-only file system.*root of this"
    ):
        alpha.start()
    assert alpha.site.status("db")["status"] == "exited"
