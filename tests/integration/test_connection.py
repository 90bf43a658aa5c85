# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks in containers: by the connection plugin, on this host and over ssh as a user who has to become root.

The containers are busybox ones; one of them has the host's own Python and sudo.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.plugin_utils.hop import Hop

from .controller import Play
from .ssh_host import SUDOERS, USER, ssh_host
from .warm import TRAP, WarmPlace, open_place

pytestmark = pytest.mark.root

USR = ["/usr:/usr:ro", "/usr/lib:/lib:ro", "/usr/lib64:/lib64:ro"]
SUDO = ["/etc/sudoers:/etc/sudoers:ro", "/etc/pam.d:/etc/pam.d:ro", "/etc/security:/etc/security:ro"]
PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1234:1234::/home/app:/bin/sh\n"
GROUP = "root:x:0:\napp:x:1234:\n"
SHADOW = "root:*:19000::::::\napp:*:19000::::::\n"
BIG = 20 << 20
RAW = {"ansible.builtin.raw": "true"}
RESET = {"ansible.builtin.meta": "reset_connection"}
Make = Callable[..., Play]


@pytest.fixture(scope="module")
def place() -> Iterator[WarmPlace]:
    with open_place("connection") as place:
        files = {
            "/etc/passwd": PASSWD,
            "/etc/group": "root:x:0:\napp:x:1234:\n",
            "/etc/shadow": "root:*:19000::::::\n",
        }
        copies = [{"copy": {"dest": path, "content": text}} for path, text in files.items()]
        home = {"run": "mkdir -p /home/app && chown 1234:1234 /home/app"}
        place.task("image", name="users", **{"from": "bb", "layers": [*copies, home]})
        common = {"image": "users", "command": ["sh", "-c", TRAP], "network_mode": "none"}
        place.task("container", name="py", volumes=[*USR, *SUDO], **common)
        place.task("container", name="sealed", volumes=USR, read_only=True, tmpfs=["/tmp"], **common)
        place.task("container", name="bb", **common)
        yield place


@pytest.fixture(scope="module")
def root_ssh() -> Iterator[str]:
    with ssh_host(root=True) as (_home, inventory):
        yield inventory


@pytest.fixture
def make(place: WarmPlace, ssh: tuple[Path, str], root_ssh: str, tmp_path: Path) -> Make:
    plays = []

    def make(way: str, container: str = "py", **more: Any) -> Play:
        """A play on the container, by ``way``: local, over ssh as a user who becomes root, or over ssh as root."""
        words = {
            "ansible_connection": "vessel.host.container",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_vessel_container": container,
            "ansible_vessel_root": place.root,
            **more,
        }
        if way == "local":
            words["ansible_vessel_transport"] = "local"
            line = "box"
        else:
            words.setdefault("ansible_vessel_become", "'sudo -n'" if way == "ssh" else "''")
            line = (
                (ssh[1] if way == "ssh" else root_ssh).replace("ansible_connection=ssh ", "").replace("far", "box", 1)
            )
        line = " ".join([line, *(f"{name}={value}" for name, value in words.items())])
        directory = tmp_path / str(len(plays))
        directory.mkdir()
        plays.append(Play(directory, line, Path("/tmp/.ansible")))
        return plays[-1]

    return make


def check(*that: str) -> dict[str, Any]:
    return {"ansible.builtin.assert": {"that": list(that)}}


def inside(place: WarmPlace, path: str, name: str = "py") -> Path:
    return Path(f"/proc/{place.facts(name)['pid']}/root{path}")


@pytest.mark.parametrize("way", ["local", "ssh", "root"])
def test_any_task(make: Make, place: WarmPlace, way: str) -> None:
    play = make(way)
    (play.directory / "files/big file").write_bytes(os.urandom(BIG))
    (play.directory / "files/say.sh").write_text('#!/bin/sh\necho "$1 on $(hostname)"\n')
    (play.directory / "templates").mkdir()
    (play.directory / "templates/it.j2").write_text("{{ inventory_hostname }} $HOME `id` 'ü'\n")
    hostile = """printf '%s|' 'a "b"' "c 'd'" '$HOME;`id`' "$(echo e)" '\\\\' ; exit 3"""
    play.run(
        {"ansible.builtin.command": "hostname", "register": "name"},
        check("name.stdout == 'py'"),
        {"ansible.builtin.shell": {"cmd": hostile}, "register": "said", "failed_when": False},
        check("said.rc == 3", r"""said.stdout == "a \"b\"|c 'd'|$HOME;`id`|e|\\\\|" """),
        {"ansible.builtin.script": "say.sh 'a b'", "register": "script"},
        check("script.stdout_lines == ['a b on py']"),
        {"ansible.builtin.copy": {"src": "big file", "dest": "/tmp/it's a $file;", "mode": "0640"}},
        {"ansible.builtin.fetch": {"src": "/tmp/it's a $file;", "dest": f"{play.directory}/back", "flat": True}},
        {"ansible.builtin.template": {"src": "it.j2", "dest": "/tmp/it"}},
        {"ansible.builtin.slurp": {"src": "/tmp/it"}, "register": "it"},
        check("""(it.content | b64decode) == "box $HOME `id` 'ü'\n" """),
        {"ansible.builtin.setup": {"gather_subset": ["!all", "min"]}},
        check("ansible_facts.nodename == 'py'"),
        {"ansible.builtin.command": "sleep 1", "async": 60, "poll": 1},
        {"ansible.builtin.command": "sleep 1", "async": 60, "poll": 0, "register": "job"},
        {
            "ansible.builtin.async_status": {"jid": "{{ job.ansible_job_id }}"},
            "register": "status",
            "until": "status is finished",
            "retries": 60,
            "delay": 1,
        },
        {"ansible.builtin.wait_for_connection": {"timeout": 30}},
        RESET,
        {"ansible.builtin.command": "id -un", "become": True, "become_user": "app", "register": "app"},
        check("app.stdout == 'app'"),
        {"ansible.builtin.command": "hostname", "register": "each", "loop": [1, 2]},
        check("each.results | map(attribute='stdout') | list == ['py', 'py']"),
        options=("-v",),
    )
    copied = inside(place, "/tmp/it's a $file;")
    assert (
        copied.read_bytes()
        == (play.directory / "back").read_bytes()
        == (play.directory / "files/big file").read_bytes()
    )
    assert copied.stat().st_mode & 0o7777 == 0o640
    assert not (play.directory / "vessel").exists()


@pytest.mark.parametrize("way", ["local", "ssh", "root"])
def test_without_pipelining_and_as_a_user_of_the_container(make: Make, place: WarmPlace, way: str) -> None:
    play = make(way, ansible_vessel_user="app")
    play.remote_tmp = Path("/home/app/.tmp")
    line = (play.directory / "inventory").read_text().replace("/tmp/.ansible", str(play.remote_tmp))
    (play.directory / "inventory").write_text(line)
    play.run(
        {"ansible.builtin.command": "id -u", "register": "me"},
        check("me.stdout == '1234'"),
        {"ansible.builtin.copy": {"content": "mine", "dest": "/home/app/mine"}},
        {"ansible.builtin.fetch": {"src": "/home/app/mine", "dest": f"{play.directory}/back", "flat": True}},
        {"ansible.builtin.copy": {"content": "x", "dest": "/etc/new"}, "ignore_errors": True, "register": "denied"},
        check("denied is failed"),
        options=("-v",),
        ANSIBLE_PIPELINING="False",
    )
    assert (play.directory / "back").read_text() == "mine"
    assert inside(place, "/home/app/mine").stat().st_uid == 1234
    assert os.listdir(inside(place, str(play.remote_tmp))) == []


@pytest.mark.parametrize("way", ["local", "ssh", "root"])
def test_a_container_without_python(make: Make, place: WarmPlace, way: str) -> None:
    play = make(way, "bb")
    (play.directory / "files/say.sh").write_text("#!/bin/sh\necho out; echo error >&2; exit 255\n")
    failing = {"register": "said", "failed_when": False}
    play.run(
        {"ansible.builtin.raw": "echo out; echo error >&2; exit 255", **failing},
        check("said.rc == 255", "said.stdout == 'out\n'", "said.stderr == 'error\n'"),
        {"ansible.builtin.script": "say.sh", **failing},
        check("said.rc == 255", "said.stdout == 'out\n'", "said.stderr == 'error\n'"),
        {"ansible.builtin.raw": "kill -9 $$", **failing},
        check("said.rc == 137"),
        {"ansible.builtin.raw": "cat; echo end", **failing},
        check("said.stdout == 'end\n'"),
        {"ansible.builtin.raw": "printf 'a\\r\\nb\\377'; :", **failing},
        check(r"said.stdout[:4] == 'a\r\nb'"),
        {"ansible.builtin.raw": "id -un", "become": True, "become_method": "su", "become_user": "app", **failing},
        check("'app' in said.stdout"),
        {"ansible.builtin.raw": "no-such-command", **failing},
        check("said.rc == 127"),
        options=("-v",),
    )


def test_a_container_that_is_read_only(make: Make) -> None:
    """Modules reach Python by its standard input; what they unpack is in a tmpfs."""
    make("local", "sealed").run({"ansible.builtin.ping": {}}, options=("-v",))


def test_symlinks_of_the_containers_lead_nowhere_on_the_host(make: Make, place: WarmPlace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("the host's")
    inside(place, "/tmp/way").symlink_to(outside)
    play = make("local")
    fetch = {"ansible.builtin.fetch": {"src": "/tmp/way/secret", "dest": f"{tmp_path}/back", "flat": True}}
    play.run({**fetch, "ignore_errors": True}, options=("-v",))
    assert not (tmp_path / "back").exists()
    (play.directory / "inventory").write_text(
        (play.directory / "inventory").read_text().replace("/tmp/.ansible", "/tmp/way/tmp")
    )
    play.run(
        {"ansible.builtin.raw": "true"},
        {"ansible.builtin.command": "true"},
        options=("-v",),
        fails=True,
        ANSIBLE_PIPELINING="False",
    )
    assert os.listdir(outside) == ["secret"]


def test_another_hosts_task_is_delegated(make: Make) -> None:
    play = make("ssh")
    (play.directory / "inventory").write_text(
        (play.directory / "inventory").read_text() + "other ansible_connection=local\n"
    )
    play.run(
        {"ansible.builtin.command": "hostname", "delegate_to": "box", "register": "name"},
        check("name.stdout == 'py'"),
        options=("-v", "--limit", "other"),
    )


UNREACHABLE = {
    "gone": ({"ansible_vessel_container": "gone"}, "no such container: gone"),
    "name": ({"ansible_vessel_container": "a;id $(id)"}, "no such container: a;id $(id)"),
    "option": ({"ansible_vessel_container": "--help"}, "no such container: --help"),
    "stopped": ({"ansible_vessel_container": "stopped"}, "container stopped does not run"),
    "paused": ({"ansible_vessel_container": "paused"}, "container paused is paused"),
    "user": ({"ansible_vessel_user": "$(id);`id`"}, "is no user in the image's /etc/passwd"),
    "installation": ({"ansible_vessel_root": "/none here"}, "the role vessel.host.setup installs it"),
    "executable": ({"ansible_vessel_executable": "no-vessel"}, "no-vessel is not there on 127.0.0.1"),
    "root": ({"ansible_vessel_become": ""}, "needs root on 127.0.0.1: set ansible_vessel_become"),
    "become": ({"ansible_vessel_become": "sudo -n -u nobody"}, "Permission denied"),
    "no_become": (
        {"ansible_vessel_become": "false"},
        "vessel was not run on 127.0.0.1 (exit code 1): nothing was said",
    ),
    "no_way": ({"ansible_vessel_become": "no-sudo -n"}, "vessel was not run on 127.0.0.1 (exit code 127)"),
    "host": ({"ansible_port": 1}, "Failed to connect to the host via ssh"),
}


def test_what_can_not_be_reached_is_said_in_a_sentence(make: Make, place: WarmPlace) -> None:
    common = {"image": "bb", "command": ["sh", "-c", TRAP], "network_mode": "none"}
    place.task("container", name="stopped", state="stopped", **common)
    place.task("container", name="paused", paused=True, **common)
    tasks = []
    for name, (variables, sentence) in UNREACHABLE.items():
        ping = {"ansible.builtin.raw": "true", "vars": variables, "ignore_unreachable": True, "register": name}
        tasks += [ping, check(f"{name} is unreachable", f"{sentence!r} in {name}.msg")]
    play = make("ssh")
    play.run(*tasks, options=("-v",))
    assert "Traceback" not in play.said
    place.task("container", name="paused", paused=False, **common)


@pytest.mark.parametrize(("way", "commands"), [("ssh", 2), ("root", 1)])
def test_many_tasks_need_one_command_over_ssh(make: Make, way: str, commands: int) -> None:
    """Who becomes root needs a second one, which asks whether they may have a socket."""
    play = make(way, "bb")
    tasks = [{"ansible.builtin.raw": f"echo {number}"} for number in range(4)]
    play.run(RESET, *tasks, options=("-vvv",))
    assert play.said.count("SSH: EXEC") == commands
    assert all(f'"stdout": "{number}\\n"' in play.said for number in range(4))


def test_who_may_not_have_a_socket_is_asked_once(make: Make, place: WarmPlace) -> None:
    rule = SUDOERS / USER
    before = rule.read_text()
    rule.write_text(f"Defaults:{USER} !syslog\n{USER} ALL=(root) NOPASSWD: {place.paths.bin}/vessel --root * exec *\n")
    try:
        with tempfile.TemporaryDirectory(prefix="vessel-cp-") as directory:
            play = make("ssh", "bb", ansible_control_path_dir=directory)
            for asked in (1, 0):
                play.run(RAW, RAW, RAW, RESET, options=("-vvv",))
                assert play.said.count("SSH: EXEC") == 3 + asked
                assert play.said.count(" session --persist ") == asked
    finally:
        rule.write_text(before)


def test_many_hosts_at_once_ask_once(make: Make) -> None:
    with tempfile.TemporaryDirectory(prefix="vessel-cp-") as directory:
        play = make("ssh", "bb", ansible_control_path_dir=directory)
        inventory = play.directory / "inventory"
        line = inventory.read_text()
        inventory.write_text("".join(line.replace("box", f"box{number}", 1) for number in range(8)))
        play.run(RAW, RAW, RESET, options=("-vvv", "--forks", "8"))
        assert play.said.count("SSH: EXEC") == 8 + 1
        assert play.said.count(" session --persist ") == 1


@pytest.fixture
def unplugged(make: Make) -> Iterator[tuple[Play, Path]]:
    """A play whose host is connected, and the path that the socket has had."""
    with tempfile.TemporaryDirectory(prefix="vessel-cp-") as directory:
        play = make("ssh", "bb", ansible_control_path_dir=directory)
        play.run(RAW, RESET)
        (path,) = Path(directory).glob("vessel-*")
        path.unlink()
        yield play, path


@pytest.mark.parametrize(("what", "asked"), [("fresh", 0), ("old", 1), ("future", 1), ("directory", 0)])
def test_what_is_in_the_sockets_place(unplugged: tuple[Play, Path], what: str, asked: int) -> None:
    """An empty file says that a host lately said no. What can not be replaced is left alone."""
    play, path = unplugged
    if what == "directory":
        path.mkdir()
    else:
        path.touch()
        now = time.time()
        os.utime(path, (now, now + {"fresh": 0, "old": -601, "future": 86400}[what]))
    play.run(RAW, RAW, RAW, RESET, options=("-vvv",))
    assert play.said.count(" session --persist ") == asked
    assert play.said.count("SSH: EXEC") == (2 if asked else 3)
    assert list(path.parent.glob("vessel-*")) == [path]


@pytest.mark.parametrize(("age", "asked"), [(0, 0), (31, 1)])
def test_another_task_that_asks(unplugged: tuple[Play, Path], age: int, asked: int) -> None:
    """It has a file while it does; who was killed meanwhile has left it."""
    play, path = unplugged
    claim = Path(f"{path}.new")
    claim.touch()
    os.utime(claim, (time.time() - age,) * 2)
    play.run(RAW, RESET, options=("-vvv",))
    assert play.said.count(" session --persist ") == asked
    assert list(path.parent.glob("vessel-*")) == [path if asked else claim]


def test_the_controllers_umask_is_that_of_its_own_containers_tasks(make: Make) -> None:
    play = make("local", "bb")
    raw = {"ansible.builtin.raw": "umask"}
    for mask in (0o027, 0o022):
        before = os.umask(mask)
        try:
            play.run(raw, raw, options=("-v",))
        finally:
            os.umask(before)
        assert play.said.count(f'"stdout": "{mask:04o}\\n"') == 2


@pytest.mark.parametrize("way", ["local", "root"])
def test_a_word_with_a_nul_is_not_two(make: Make, way: str) -> None:
    play = make(way, "bb")
    raw = {"ansible.builtin.raw": "echo 'one\0two'"}
    play.run(RAW, raw, options=("-v",), fails=True)
    assert "embedded null byte" in play.said


def test_a_file_for_which_there_is_no_room_leaves_nothing(make: Make, place: WarmPlace) -> None:
    inside(place, "/tmp/too big").write_bytes(b"x" * (2 << 20))
    play = make("root")
    fetch = {"ansible.builtin.fetch": {"src": "/tmp/too big", "dest": f"{play.directory}/back", "flat": True}}
    play.run(RAW, options=("-v",))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        play.run(RAW, fetch, options=("-v",), fails=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "File too large" in play.said
    assert not (play.directory / "back").exists()


def test_where_sshs_own_socket_fits_ours_does(make: Make) -> None:
    """A socket's address has 108 bytes; ssh makes its own as a name of ten, a dot and sixteen."""
    with tempfile.TemporaryDirectory(prefix="vessel-long-") as directory:
        deep = directory.ljust(107 - 28, "d")
        os.rename(directory, deep)
        try:
            play = make("root", "bb", ansible_control_path_dir=deep)
            play.run(RAW, RAW, RAW, RESET, options=("-vvv",))
        finally:
            os.rename(deep, directory)
        assert play.said.count("SSH: EXEC") == 1


LISTENER = """
import contextlib, os, socket, sys
os.setuid(65534)
there = socket.socket(socket.AF_UNIX)
there.bind(sys.argv[1])
there.listen()
print(flush=True)
while True:
    came = there.accept()[0]
    with contextlib.suppress(OSError):
        came.sendall(b"h\\0\\0\\0\\x011")
        if came.recv(1):
            print("heard", flush=True)
    came.close()
"""


def test_a_socket_of_another_user_is_not_spoken_to(make: Make) -> None:
    """Where the directory is one to which others may write."""
    raw = {"ansible.builtin.raw": "echo it"}
    with tempfile.TemporaryDirectory(prefix="vessel-shared-") as shared:
        os.chmod(shared, 0o1777)
        play = make("root", "bb", ansible_control_path_dir=shared)
        play.run(raw, options=("-v",))
        (socket,) = Path(shared).glob("vessel-*")
        socket.unlink()
        other = subprocess.Popen([sys.executable, "-c", LISTENER, socket], stdout=subprocess.PIPE)
        try:
            assert other.stdout
            assert other.stdout.readline() == b"\n"
            play.run(raw, raw, RESET, options=("-vvv",))
        finally:
            other.kill()
            assert other.communicate()[0] == b""
        assert play.said.count('"stdout": "it\\n"') == 2
        assert play.said.count("SSH: EXEC") == 1
        assert list(Path(shared).glob("vessel-*")) == [socket]


@pytest.mark.parametrize("way", ["local", "root"])
def test_a_command_of_ones_own_is_what_runs(make: Make, place: WarmPlace, way: str) -> None:
    """It may lead to another installation."""
    command = Path(place.root, "own")
    command.write_text(f'#!/bin/sh\necho own >&2\nexec {place.paths.bin}/vessel "$@"\n')
    command.chmod(0o755)
    raw = {"ansible.builtin.raw": "echo it"}
    own = {**raw, "vars": {"ansible_vessel_executable": str(command)}}
    play = make(way, "bb")
    play.run(raw, raw, own, own, raw, options=("-v",))
    assert play.said.count('"stderr": "own\\n"') == 2
    command.unlink()


def test_an_installation_that_the_environment_names_has_no_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    for root, path in (("", "/run/vessel/warm.sock"), ("/other", "/other/run/warm.sock")):
        hop = Hop(None, "local", "", "", root, 60)
        monkeypatch.delenv("VESSEL_ROOT", raising=False)
        assert hop._shortcut() == path
        monkeypatch.setenv("VESSEL_ROOT", "/none")
        assert hop._shortcut() == (path if root else "")


def test_the_short_way_may_end_between_two_tasks(make: Make, place: WarmPlace) -> None:
    """With the ssh that has it, and with the process that it leads to."""
    gone = {"ansible.builtin.shell": f"rm {place.paths.run}/warm*.sock"}
    here = {"delegate_to": "localhost", "vars": {"ansible_connection": "local"}}
    play = make("root", "bb")
    play.run(RESET, RAW, RAW, RESET, RAW, RAW, {**gone, **here}, RAW, RAW, options=("-vvv",))
    assert play.said.count("SSH: EXEC") == 3


def test_a_container_may_be_restarted_between_two_tasks(make: Make, place: WarmPlace) -> None:
    command = {"argv": [f"{place.paths.bin}/vessel", "restart", "-t", "1", "bb"]}
    here = {"ansible_connection": "local"}
    make("ssh", "bb").run(
        {"ansible.builtin.raw": "touch /tmp/before"},
        {"ansible.builtin.command": command, "delegate_to": "localhost", "vars": here},
        {"ansible.builtin.wait_for_connection": {"timeout": 60}, "vars": {"ansible_vessel_container": "py"}},
        {"ansible.builtin.raw": "test -e /tmp/before"},
        options=("-v",),
    )
