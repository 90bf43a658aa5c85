# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vessel session``: a process that runs verbs for a user who may become root, at a socket that is theirs alone."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cli import serve
from ansible_collections.vessel.host.tests.patience import patient

from .options_box import until
from .warm import TRAP, WarmPlace, open_place

pytestmark = pytest.mark.root

USER, OTHER = 65533, 65532
CALLER = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[2])
words = "\\0".join(["/", *sys.argv[3:]]).encode()
sock.sendall(b"%08x%s" % (len(words), words))
sock.shutdown(socket.SHUT_WR)
while data := sock.recv(4096):
    sys.stdout.buffer.write(data)
"""


@pytest.fixture(scope="module")
def place() -> Iterator[WarmPlace]:
    with open_place("session") as place:
        place.task("container", name="box", image="bb", command=["sh", "-c", TRAP], network_mode="none")
        yield place


def vessel(place: WarmPlace, *words: str, user: int = 0) -> subprocess.CompletedProcess[str]:
    # By the host's Python: that of these tests may be root's alone.
    command = ["/usr/bin/python3", "-IS", f"{place.paths.bin}/vessel", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=patient(60), user=user)


def given(place: WarmPlace, uid: int, seconds: str = "60") -> str:
    done = vessel(place, "session", "--persist", seconds, "--for", str(uid))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def processes(place: WarmPlace, uid: int) -> set[str]:
    """Those that were started for the user."""
    end = f"\0{place.paths.bin}/vessel\0session\0--persist\0{60}\0--for\0{uid}\0"
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_text(errors="replace").endswith(end):
                found.add(path.parent.name)
    return found


def call(root: str, uid: int, path: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", CALLER, str(uid), path, root, "", *words]
    return subprocess.run(command, capture_output=True, check=False, timeout=patient(60))


def test_it_is_that_users_alone(place: WarmPlace) -> None:
    path = given(place, USER)
    info = os.stat(path)
    assert (info.st_uid, stat.S_IMODE(info.st_mode)) == (USER, 0o600)
    assert stat.S_IMODE(os.stat(place.paths.callers).st_mode) == 0o711
    done = call(place.root, USER, path, "exec", "box", "id", "-u")
    assert done.stdout == b"h\0\0\0\x011" + b"1\0\0\0\x020\n" + b"x\0\0\0\x010"
    vessel(place, "exec", "--persist", "60", "box", "true")
    for uid, other in ((OTHER, path), (USER, f"{place.paths.run}/warm.sock"), (USER, given(place, OTHER))):
        done = call(place.root, uid, other, "exec", "box", "id", "-u")
        assert done.stdout == b""
        assert b"PermissionError" in done.stderr


def test_the_second_time_it_is_the_same(place: WarmPlace) -> None:
    path = given(place, USER)
    before = os.stat(path).st_ino
    assert given(place, USER) == path
    assert os.stat(path).st_ino == before
    assert given(place, OTHER) != path


def test_it_is_of_the_installation_that_gave_it(place: WarmPlace) -> None:
    """Where that is named by $VESSEL_ROOT, as what lets users become root may have it, its callers do not know."""
    done = call("", USER, given(place, USER), "exec", "box", "echo", "it")
    assert b"it\n" in done.stdout


def test_a_socket_that_was_removed_is_made_anew(place: WarmPlace) -> None:
    before = processes(place, 4321)
    os.unlink(given(place, 4321))
    (old,) = processes(place, 4321) - before
    assert call(place.root, 4321, given(place, 4321), "exec", "box", "true").stdout
    until(lambda: old not in processes(place, 4321))


@pytest.mark.parametrize("kind", ["theirs", "anybodys", "symlink"])
def test_a_directory_of_another_user_is_not_used(place: WarmPlace, tmp_path: Path, kind: str) -> None:
    """A root may lie below one, who can make it first."""
    serve.quit(place.paths)
    callers, there = Path(place.paths.callers), tmp_path / "there"
    there.mkdir()
    if kind == "symlink":
        callers.symlink_to(there)
    else:
        callers.mkdir()
        callers.chmod(0o777 if kind == "anybodys" else 0o755)
        os.chown(callers, OTHER if kind == "theirs" else 0, -1)
    mode = callers.stat().st_mode
    done = vessel(place, "session", "--persist", "5", "--for", str(USER))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"session: others may write to {callers}" in done.stderr
    assert (callers.stat().st_mode, os.listdir(callers)) == (mode, [])
    (callers / "1.sock").touch()
    serve.quit(place.paths)
    assert os.listdir(callers) == ["1.sock"]
    (callers / "1.sock").unlink()
    callers.unlink() if kind == "symlink" else callers.rmdir()
    given(place, USER)


def test_what_is_somebody_elses_stays_when_the_engine_goes(place: WarmPlace) -> None:
    path = Path(given(place, USER))
    data = path.parent / "data"
    data.touch()
    serve.quit(place.paths)
    assert os.listdir(path.parent) == ["data"]
    data.unlink()


def heard(path: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        return sock.recv(6)


def test_what_lets_users_become_root_is_asked_again(place: WarmPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the process is; who asks gets the same one for as long again."""
    monkeypatch.setattr(serve, "_installed", lambda paths: "again")
    monkeypatch.setattr(serve, "_GRANTED", 2.0)
    path = serve.session(place.paths, 30, 1234)
    for inode in (os.stat(path).st_ino,) * 2:
        assert heard(path) == b"h\0\0\0\x011"
        until(lambda: heard(path) == b"")
        assert serve.session(place.paths, 30, 1234) == path
        assert os.stat(path).st_ino == inode
    serve.quit(place.paths)


def test_it_goes_when_nobody_needs_it(place: WarmPlace) -> None:
    path = given(place, 1234, "1")
    assert call(place.root, 1234, path, "exec", "box", "true").stdout
    until(lambda: not os.path.exists(path))


def test_it_goes_with_the_engine(place: WarmPlace) -> None:
    path = given(place, USER)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(patient(60))
        sock.connect(path)
        assert sock.recv(6) == b"h\0\0\0\x011"
        serve.quit(place.paths)
        assert not os.path.exists(place.paths.callers)
        words = "\0".join(["/", place.root, "", "exec", "box", "echo", "still"]).encode()
        sock.sendall(b"%08x%s" % (len(words), words))
        assert b"still\n" in sock.recv(100)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--for", "1"),
        ("--persist", "5"),
        ("--persist", "0", "--for", "1"),
        ("--persist", "-1", "--for", "1"),
        ("--persist", "nan", "--for", "1"),
        ("--persist", "5", "--for", "root"),
        ("--persist", "5", "--for", "-1"),
        ("--persist", "5", "--for", str((1 << 32) - 1)),
        ("--persist", "5", "--for", "1", "more"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(place: WarmPlace, words: tuple[str, ...]) -> None:
    done = vessel(place, "session", *words)
    assert done.returncode == 2
    assert "session takes --persist" in done.stderr or "is no number" in done.stderr
    assert done.stderr.count("\n") == 1


def test_it_needs_root(place: WarmPlace) -> None:
    done = vessel(place, "session", "--persist", "5", "--for", str(USER), user=USER)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "vessel: session needs root\n"
