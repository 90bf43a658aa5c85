# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vessel exec`` and ``vessel cp`` as programs use them: what is told of the end, files as streams, and a process that
stays to start the next ones faster."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import resource
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cli import ask, install, streaming
from ansible_collections.vessel.host.plugins.module_utils._kernel import process as kernel
from ansible_collections.vessel.host.plugins.plugin_utils import shortcut
from ansible_collections.vessel.host.tests.patience import patient

from .options_box import until
from .warm import TRAP, WarmPlace

pytestmark = pytest.mark.root

APP = 1234  # a user of the container's
F_SETPIPE_SZ = 1031


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPlace]:
    place = WarmPlace(str(tmp_path_factory.mktemp("exec") / "vessel"))
    try:
        place.busybox()
        for name, user in (("box", "0:0"), ("app", f"{APP}:{APP}")):
            place.task("container", name=name, image="bb", command=["sh", "-c", TRAP], network_mode="none", user=user)
        yield place
    finally:
        place.remove()


def vessel(place: WarmPlace, *words: str, data: bytes = b"", **more) -> subprocess.CompletedProcess[bytes]:
    given = {"input": data, "capture_output": True, "timeout": patient(60), **more}
    return subprocess.run([f"{place.paths.bin}/vessel", *words], check=False, **given)


def inside(place: WarmPlace, path: str, name: str = "box") -> Path:
    return Path(f"/proc/{place.facts(name)['pid']}/root{path}")


def warm(place: WarmPlace) -> list[Path]:
    return list(Path(place.paths.run).glob("warm-*.sock"))


# the end that is told
@pytest.mark.parametrize("persist", [(), ("--persist", "30")], ids=["cold", "warm"])
@pytest.mark.parametrize(
    ("command", "code"),
    [(["true"], 0), (["sh", "-c", "exit 255"], 255), (["sh", "-c", "kill -9 $$"], 137), (["no-such"], 127)],
)
def test_the_commands_exit_code_is_the_last_line_and_ours_is_0(place, command, code, persist):
    done = vessel(place, "exec", *persist, "--report", "WORD", "box", *command)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == f"WORD {code}".encode()


@pytest.mark.parametrize("persist", [(), ("--persist", "30")], ids=["cold", "warm"])
def test_where_nothing_was_run_no_end_is_told(place, persist):
    done = vessel(place, "exec", *persist, "--report", "WORD", "gone", "true")
    assert (done.returncode, done.stderr) == (125, b"vessel: no such container: gone (vessel ps lists them)\n")


# files
def test_a_stream_becomes_a_file(place):
    data = os.urandom(3_000_001)
    done = vessel(place, "cp", "--mode", "640", "--size", str(len(data)), "-", "box:/tmp/a file", data=data)
    assert (done.returncode, done.stderr) == (0, b"")
    found = inside(place, "/tmp/a file")
    assert found.read_bytes() == data
    assert found.stat().st_mode & 0o7777 == 0o640
    assert vessel(place, "cp", "box:/tmp/a file", "-").stdout == data


def test_a_stream_that_is_cut_off_leaves_what_was_there(place):
    vessel(place, "cp", "-", "box:/tmp/kept", data=b"before")
    before = sorted(os.listdir(inside(place, "/tmp")))
    done = vessel(place, "cp", "--size", "100", "-", "box:/tmp/kept", data=b"after")
    assert done.returncode == 1
    assert done.stderr == b"vessel: the input has 5 bytes, not 100; nothing was written\n"
    assert inside(place, "/tmp/kept").read_bytes() == b"before"
    assert sorted(os.listdir(inside(place, "/tmp"))) == before


def test_a_file_of_the_hosts_and_back(place, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"content")
    source.chmod(0o751)
    assert vessel(place, "cp", str(source), "box:/tmp/copied").returncode == 0
    assert inside(place, "/tmp/copied").stat().st_mode & 0o7777 == 0o751
    inside(place, "/tmp/copied").chmod(0o4751)
    assert vessel(place, "cp", "box:/tmp/copied", "./target", cwd=tmp_path).returncode == 0
    assert target.read_bytes() == b"content"
    assert target.stat().st_mode & 0o7777 == 0o751, "a set-uid file came out of a container"


def test_a_file_that_is_mounted_on_keeps_its_inode(place):
    hosts = inside(place, "/etc/hosts")
    inode = hosts.stat().st_ino
    assert vessel(place, "cp", "-", "box:/etc/hosts", data=b"127.0.0.1 here\n").returncode == 0
    assert (hosts.read_bytes(), hosts.stat().st_ino) == (b"127.0.0.1 here\n", inode)


def test_symlinks_stay_inside(place, tmp_path):
    """By name they lead to files of the host's, which must neither be read nor written."""
    (tmp_path / "secret").write_text("the host's")
    root = inside(place, "/")
    for name, target in (("file", tmp_path / "secret"), ("dir", tmp_path), ("up", f"../../../..{tmp_path}")):
        (root / f"tmp/{name}").symlink_to(target)
    for path in ("/tmp/file", "/tmp/dir/secret", "/tmp/up/secret", f"/../../..{tmp_path}/secret"):
        assert vessel(place, "cp", f"box:{path}", "-").returncode == 1, path
        assert vessel(place, "cp", "-", f"box:{path}", data=b"written").returncode == 1, path
    assert (tmp_path / "secret").read_text() == "the host's"
    assert os.listdir(tmp_path) == ["secret"]


def test_a_copy_is_its_users(place):
    assert vessel(place, "cp", "-", "app:/tmp/mine", data=b"x").returncode == 0
    info = inside(place, "/tmp/mine", "app").stat()
    assert (info.st_uid, info.st_gid) == (APP, APP)
    assert vessel(place, "cp", "-u", "nobody", "-", "app:/tmp/nobodys", data=b"x").returncode == 0
    assert inside(place, "/tmp/nobodys", "app").stat().st_uid == 65534


def test_what_its_user_may_not_do_is_not_done_for_it(place):
    """It is root who writes: a symlink in a directory of the user's would lead root to where the user may not write."""
    root = inside(place, "/", "app")
    (root / "tmp/etc").symlink_to("/etc")
    (root / "etc/key").write_text("root's")
    (root / "etc/key").chmod(0o600)
    for path in ("/etc/new", "/tmp/etc/new"):
        done = vessel(place, "cp", "-", f"app:{path}", data=b"x")
        assert (done.returncode, b"may not write to" in done.stderr) == (1, True)
    done = vessel(place, "cp", "app:/tmp/etc/key", "-")
    assert (done.returncode, done.stdout, b"may not read" in done.stderr) == (1, b"", True)
    assert not (root / "etc/new").exists()
    assert vessel(place, "cp", "-u", "root", "app:/etc/key", "-").stdout == b"root's"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["box:/tmp/none", "-"], "no such file in the container box: /tmp/none"),
        (["box:/tmp", "-"], "is neither a file nor a symlink"),
        (["-", "box:/none/x"], "lies in /none, which can't be entered"),
        (["-", "gone:/x"], "no such container: gone"),
        (["-", "-"], "one of SOURCE and TARGET as NAME:PATH"),
        (["box:/a", "box:/b"], "one of SOURCE and TARGET as NAME:PATH"),
        (["-", "box:x"], "one of SOURCE and TARGET as NAME:PATH"),
        (["--size", "many", "-", "box:/x"], "--size: 'many' is no number"),
        (["-m", "8", "-", "box:/x"], "--mode: '8' is no octal number"),
        (["-u", "$(id);", "-", "box:/x"], "is no user in the image's /etc/passwd"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(place, words, said):
    done = vessel(place, "cp", *words)
    assert done.returncode in (1, 2)
    assert said in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


# the process that stays
def test_the_next_one_is_a_fork_of_the_process_that_stayed(place):
    vessel(place, "exec", "--persist", "30", "box", "true")
    (address,) = warm(place)
    assert address.stat().st_mode & 0o777 == 0o600
    done = vessel(place, "exec", "--persist", "30", "-i", "box", "sh", "-c", "cat; echo error >&2; exit 3", data=b"in")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"in", b"error\n")
    assert warm(place) == [address]


def test_its_environment_is_not_the_next_ones(place):
    for root in ("/none", place.root):
        words = ["--root", place.root, "exec", "--persist", "30", "box", "true"]
        assert vessel(place, *words, env={**os.environ, "VESSEL_ROOT": root}).returncode == 0
    words = ["exec", "--persist", "30", "box", "true"]
    assert vessel(place, *words, env={**os.environ, "VESSEL_ROOT": "/none"}).returncode == 125


def test_many_at_a_time(place):
    vessel(place, "exec", "--persist", "30", "box", "true")
    words = [f"{place.paths.bin}/vessel", "exec", "--persist", "30", "box", "sh", "-c"]
    running = [
        subprocess.Popen([*words, f"echo {number}; exit {number}"], stdout=subprocess.PIPE) for number in range(20)
    ]
    ends = [(process.communicate(timeout=patient(60))[0], process.returncode) for process in running]
    assert ends == [(f"{number}\n".encode(), number) for number in range(20)]


def sleeper(place: WarmPlace, seconds: str) -> tuple[subprocess.Popen[bytes], int]:
    """One that runs by way of the process that stayed, and its pid on the host."""
    vessel(place, "exec", "--persist", "30", "box", "true")
    command = [f"{place.paths.bin}/vessel", "exec", "--persist", "30", "box", "sleep", seconds]
    return subprocess.Popen(command, stderr=subprocess.PIPE), int(until(lambda: pid_of("sleep", seconds)))


def pid_of(*words: str) -> int:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if entry.read_bytes() == b"".join(word.encode() + b"\0" for word in words):
                return int(entry.parent.name)
        except OSError:
            continue
    return 0


def test_a_signal_reaches_the_command(place):
    process, pid = sleeper(place, "31415")
    process.send_signal(signal.SIGTERM)
    assert process.wait(patient(20)) == 143
    assert not os.path.exists(f"/proc/{pid}")


def test_a_caller_that_is_killed_hangs_up(place):
    process, pid = sleeper(place, "31416")
    process.kill()
    process.wait()
    until(lambda: not os.path.exists(f"/proc/{pid}"))


def test_a_process_that_stayed_and_was_killed_is_said_and_replaced(place):
    process, pid = sleeper(place, "31417")
    os.kill(stayed(place), signal.SIGKILL)
    assert process.wait(patient(20)) == 125
    os.kill(pid, signal.SIGKILL)  # it has the same stderr
    assert process.stderr.read() == b"vessel: the process that ran it was killed\n"
    assert vessel(place, "exec", "--persist", "30", "box", "true").returncode == 0
    assert stayed(place)


def stayed(place: WarmPlace) -> int:
    """The pid of the one that listens; another installation's may have a socket of the same name."""
    (address,) = warm(place)
    inodes = [
        line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines() if line.endswith(address.name)
    ]
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            ours = place.root.encode() in entry.parents[1].joinpath("cmdline").read_bytes()
            if ours and os.readlink(entry) in [f"socket:[{inode}]" for inode in inodes]:
                return int(entry.parts[2])
        except OSError:
            continue
    raise AssertionError("nobody listens")


# callers at the other end of one stream
@pytest.fixture
def stream(place: WarmPlace) -> str:
    vessel(place, "exec", "--persist", "60", "box", "true")
    path = shortcut.there(place.root)
    assert os.stat(path).st_mode & 0o777 == 0o600
    return path


def speak(place: WarmPlace, script: str, data: bytes | None = None) -> tuple[int, bytes, bytes] | None:
    words = ["exec", "-i", "box", "sh", "-c", script]
    return shortcut.run(shortcut.there(place.root), place.root, words, data)


def send(path: str, data: bytes) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(patient(60))
    sock.connect(path)
    if data:
        sock.sendall(data)
    return sock


def request(place: WarmPlace, *words: str) -> bytes:
    text = "\0".join(["/", place.root, "", *words]).encode()
    return b"%08x%s" % (len(text), text)


@pytest.mark.usefixtures("stream")
@pytest.mark.parametrize(
    ("script", "data", "end"),
    [
        ("cat; echo error >&2; exit 3", b"in", (3, b"in", b"error\n")),
        ("cat | tee /dev/stderr", b"\0\n" * (1 << 20), (0, b"\0\n" * (1 << 20), b"\0\n" * (1 << 20))),
        ("cat", None, (0, b"", b"")),
        ("true", b"x" * (5 << 20), (0, b"", b"")),
        ("exec <&-; echo a > /dev/stdout; echo b > /dev/stderr", b"x" * (5 << 20), (0, b"a\n", b"b\n")),
        ("exec >&- 2>&-; exit 255", None, (255, b"", b"")),
        ("kill -9 $$", b"", (137, b"", b"")),
    ],
)
def test_what_goes_to_and_fro_in_one_stream(place, script, data, end):
    assert speak(place, script, data) == end


@pytest.mark.usefixtures("stream")
def test_files_in_one_stream(place, tmp_path):
    (tmp_path / "big").write_bytes(os.urandom(20 << 20))
    path = shortcut.there(place.root)
    words = ["cp", "--mode", "600", "--size", str(20 << 20), "--", "-", "box:/tmp/big"]
    assert shortcut.run(path, place.root, words, None, stdin=str(tmp_path / "big")) == (0, b"", b"")
    assert inside(place, "/tmp/big").stat().st_mode & 0o777 == 0o600
    words = ["cp", "--", "box:/tmp/big", "-"]
    assert shortcut.run(path, place.root, words, None, stdout=str(tmp_path / "back")) == (0, b"", b"")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "big").read_bytes() == inside(place, "/tmp/big").read_bytes()


@pytest.mark.usefixtures("stream")
def test_what_a_command_leaves_behind_keeps_nobody(place):
    assert speak(place, "sleep 31418 & echo it") == (0, b"it\n", b"")
    os.kill(int(until(lambda: pid_of("sleep", "31418"))), signal.SIGKILL)


def test_who_goes_hangs_up(place, stream):
    with send(stream, request(place, "exec", "box", "sleep", "31419")):
        pid = until(lambda: pid_of("sleep", "31419"))
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    with send(stream, request(place, "exec", "box", "sleep", "31420")) as sock:
        pid = until(lambda: pid_of("sleep", "31420"))
        sock.shutdown(socket.SHUT_WR)  # this says only that there is no more input
        assert speak(place, "true") == (0, b"", b"")
        assert os.path.exists(f"/proc/{pid}")
    until(lambda: not os.path.exists(f"/proc/{pid}"))


def test_one_who_does_not_listen_keeps_no_other(place, stream):
    with send(stream, request(place, "exec", "box", "yes", "31421")):
        until(lambda: pid_of("yes", "31421"))
        assert speak(place, "cat", b"x" * (1 << 20)) == (0, b"x" * (1 << 20), b"")
    until(lambda: not pid_of("yes", "31421"))


@pytest.mark.parametrize("data", [b"", b"0000", b"zzzzzzzz", b"ffffffff", b"-0000001", b"00000004ab"])
def test_a_request_that_is_none_runs_nothing(place, stream, data):
    with send(stream, data) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100, socket.MSG_WAITALL) == b"h\0\0\0\x011"
    assert speak(place, "true") == (0, b"", b"")


def test_an_end_that_came_while_input_was_sent():
    """The one that listens had all that it wanted, and is gone before the rest is sent."""
    ours, theirs = socket.socketpair()

    class Source(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if theirs.fileno() >= 0:
                theirs.sendall(b"1\0\0\0\x02itx\0\0\0\x013")
                theirs.close()
            return b"x" * 10

    with ours:
        assert shortcut._Call(ours).run(b"", Source(), None) == (3, b"it", b"")


@contextlib.contextmanager
def halted(place: WarmPlace) -> Iterator[int]:
    """The one that listens, which finds all that happens here at once."""
    pid = stayed(place)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


def heard(sock: socket.socket) -> bytes:
    """All that comes."""
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def verbs(server: int) -> list[int]:
    """Those that run."""
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    return [pid for pid in map(int, children) if kernel.start_time(pid) is not None]


def test_all_that_a_large_pipe_holds_at_the_end(place, stream):
    script = "read go; head -c 1000000 /dev/zero"
    with send(stream, request(place, "exec", "-i", "box", "sh", "-c", script)) as sock:
        pid = until(lambda: pid_of("sh", "-c", script))
        with halted(place) as server:
            with open(f"/proc/{pid}/fd/1", "wb") as pipe:
                fcntl.fcntl(pipe, F_SETPIPE_SZ, 1 << 20)
            with open(f"/proc/{pid}/fd/0", "wb") as pipe:
                pipe.write(b"\n")
            until(lambda: not verbs(server))
        assert heard(sock).count(b"\0") >= 1000000


def test_input_for_a_command_that_has_ended(place, stream):
    with send(stream, request(place, "exec", "-i", "box", "sleep", "31422")) as sock:
        pid = until(lambda: pid_of("sleep", "31422"))
        with halted(place) as server:
            sock.sendall(b"for nobody")
            os.kill(pid, signal.SIGKILL)
            until(lambda: not verbs(server))
        assert heard(sock) == b"h\0\0\0\x011x\0\0\0\x03137"
    assert stayed(place) == server


def test_a_descriptor_of_one_who_went_is_anothers(place, stream):
    """That nobody reads the input of the first is told after the second has got its number."""
    lower = [send(stream, b"") for dummy in range(9)]
    first, second = send(stream, b""), send(stream, b"")
    for sock in (*lower, first, second):
        assert sock.recv(100)
    for sock in lower:
        sock.close()
    assert speak(place, "true") == (0, b"", b"")  # so they are closed
    with second:
        with first:
            first.sendall(request(place, "exec", "-i", "box", "sleep", "31423"))
            pid = until(lambda: pid_of("sleep", "31423"))
            with halted(place) as server:
                os.kill(pid, signal.SIGKILL)
                until(lambda: not verbs(server))
                first.close()
                second.sendall(request(place, "exec", "-i", "box", "cat"))
        until(lambda: pid_of("cat"))
        second.sendall(b"input")
        second.shutdown(socket.SHUT_WR)
        assert heard(second) == b"1\0\0\0\x05inputx\0\0\0\x010"


@pytest.mark.parametrize("error", [BlockingIOError(errno.EAGAIN, "fork"), OSError(errno.EMFILE, "pidfd_open")])
def test_a_command_for_which_nothing_is_left_is_not_begun(monkeypatch, error):
    """Its input is not taken for another request."""
    begun: list[bytes] = []

    def begin(request: bytes, fds: object) -> None:
        begun.append(request)
        raise error

    monkeypatch.setattr(streaming, "Verb", begin)
    before = os.listdir("/proc/self/fd")
    theirs, ours = socket.socketpair()
    with ours, theirs:
        caller = streaming.Streaming(theirs)
        ours.sendall(b"00000003one" + b"00000003two")
        ours.shutdown(socket.SHUT_WR)
        while caller.wants():
            for fd, mask in caller.wants().items():
                caller.ready(fd, mask)
        assert heard(ours) == b"h\0\0\0\x011"
    assert begun == [b"one"]
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.usefixtures("stream")
def test_many_streams_at_a_time(place):
    ends: dict[int, object] = {}
    threads = [
        threading.Thread(target=lambda n=n: ends.update({n: speak(place, f"cat; exit {n}", b"%d" % n)}))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == {n: (n, b"%d" % n, b"") for n in range(20)}


def test_who_comes_when_there_are_too_many_goes_another_way(place):
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))

    for address in warm(place):
        os.kill(stayed(place), signal.SIGKILL)
        address.unlink()
    words = ["exec", "--persist", "60", "box", "echo", "it"]
    vessel(place, *words, preexec_fn=few)
    server, path = stayed(place), shortcut.there(place.root)
    greeted = [sock for dummy in range(90) if (sock := send(path, b"")).recv(100)]
    assert speak(place, "true") is None
    assert vessel(place, *words).stdout == b"it\n"
    for sock in greeted:
        sock.sendall(request(place, "exec", "box", "true"))
    assert {heard(sock) for sock in greeted} == {b"x\0\0\0\x010"}
    for sock in greeted:
        sock.close()
    assert until(lambda: speak(place, "true")) == (0, b"", b"")
    assert stayed(place) == server
    os.kill(server, signal.SIGKILL)


def test_another_version_of_the_engine_has_another_process(place, stream):
    present = os.readlink(f"{place.paths.bin}/vessel")
    other = f"{place.paths.libexec}/another"
    shutil.copytree(os.path.dirname(present), other)
    server = stayed(place)
    try:
        with send(stream, request(place, "exec", "-i", "box", "cat")) as sock:
            until(lambda: pid_of("cat"))
            install._link(place.paths, other)
            assert speak(place, "true") is None
            sock.sendall(b"goes on")
            sock.shutdown(socket.SHUT_WR)
            assert heard(sock).endswith(b"goes onx\0\0\0\x010")
    finally:
        install._link(place.paths, os.path.dirname(present))
        shutil.rmtree(other)
    until(lambda: kernel.start_time(server) is None)


def test_who_comes_while_it_ends_does_not_wait_for_the_others(place, stream):
    with send(stream, request(place, "exec", "box", "sleep", "31424")) as sock:
        until(lambda: pid_of("sleep", "31424"))
        (address,) = warm(place)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
            other.settimeout(patient(60))
            other.connect(str(address))
            other.send(ask.QUIT)
            assert other.recv(64) == b""
        with pytest.raises(ConnectionRefusedError):
            send(stream, b"")
        assert pid_of("sleep", "31424")
        assert sock.recv(100)
    assert vessel(place, "exec", "--persist", "60", "box", "true").returncode == 0


def test_it_goes_when_nobody_needs_it(place):
    Path(place.paths.run, "locks/warm").unlink()
    for address in warm(place):
        os.kill(stayed(place), signal.SIGKILL)
        address.unlink()
    vessel(place, "exec", "--persist", "5", "box", "true")
    pid = stayed(place)
    assert pid
    until(lambda: not warm(place) and not os.path.exists(f"/proc/{pid}"))
    assert vessel(place, "exec", "--persist", "30", "box", "true").returncode == 0
