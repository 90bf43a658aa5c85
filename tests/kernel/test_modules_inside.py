# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""exec, copy, logs, info and prune on containers that run and on such that do not, judged from inside."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cli import install
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from .module_runner import quartet, run_module

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """An installation with a busybox image; all of it goes at the end."""
    top = str(tmp_path_factory.mktemp("inside") / "vessel")
    run_module("image", {"root": top, "name": "bb", "source": "template", "template": "busybox", "cmd": "sleep 1000"})
    yield top
    for container in run_module("container_info", {"root": top})["containers"]:
        run_module("container", {"root": top, "name": container["name"], "state": "absent"})
    install.remove(Paths.at(top))
    assert top not in Path("/proc/self/mountinfo").read_text()


def container(root, name, **args):
    result = run_module("container", {"root": root, "name": name, "image": "bb", "network_mode": "none", **args})
    assert not result.get("failed"), result["msg"]
    return result["container"]


@pytest.fixture(scope="module")
def web(root, tmp_path_factory):
    data = tmp_path_factory.mktemp("bound")
    run_module("volume", {"root": root, "name": "data"})
    container(root, "web", env={"GREETING": "hello"}, volumes=["data:/data", f"{data}:/bound"], working_dir="/tmp")
    return lambda module, **args: run_module(module, {"root": root, "container": "web", **args})


@pytest.fixture(scope="module")
def halted(root):
    """A container that was made and never started."""
    container(root, "halted", state="present", volumes=["data:/data"])
    return lambda module, **args: run_module(module, {"root": root, "container": "halted", **args})


def inside(root, path, name="web"):
    pid = run_module("container_info", {"root": root, "name": name})["containers"][0]["pid"]
    return Path(f"/proc/{pid}/root{path}")


# who it is


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ({}, (0, 0, [0])),
        ({"groups": ["20", "10"]}, (0, 0, [0, 10, 20])),
        ({"user": "nobody"}, (65534, 65534, [65534])),
        ({"user": "1234:4321"}, (1234, 4321, [4321])),
        ({"user": "1234:4321", "groups": ["5", "4321"]}, (1234, 4321, [5, 4321])),
        ({"user": "1234"}, (1234, 0, [0])),
    ],
)
def test_the_primary_group_is_among_the_supplementary_ones(root, given, ids):
    """CVE-2022-2989: who leaves the primary group, by a program that sets its gid, must not get what that is denied."""
    pid = container(root, "who", **given)["pid"]
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        found = (int(status["Uid"].split()[0]), int(status["Gid"].split()[0]), list(map(int, status["Groups"].split())))
        assert found == ids
        asked = run_module("container_exec", {"root": root, "container": "who", "argv": ["/bin/busybox", "id", "-G"]})
        assert set(map(int, asked["stdout"].split())) == set(ids[2])
        argv = ["/bin/busybox", "grep", "Groups", "/proc/self/status"]
        other = run_module("container_exec", {"root": root, "container": "who", "user": "77:88", "argv": argv})
        assert other["stdout"].split() == ["Groups:", "88"]
    finally:
        run_module("container", {"root": root, "name": "who", "state": "absent"})


# its root


@pytest.fixture
def rooted(root, tmp_path):
    """An image whose / is not 0755 and root's, and one that was built on it."""
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    for applet in ("sh", "sleep", "stat", "chmod"):
        (tree / "bin" / applet).symlink_to("busybox")
    os.chown(tree, 12, 34)
    tree.chmod(0o1771)
    run_module("image", {"root": root, "name": "rooted", "source": "rootfs", "path": str(tree), "cmd": "sleep 1000"})
    layers = [{"copy": {"content": "x", "dest": "/file"}}]
    built = run_module("image", {"root": root, "name": "built", "from": "rooted", "layers": layers})
    assert not built.get("failed"), built["msg"]
    yield
    for name in ("rooted", "built"):
        run_module("container", {"root": root, "name": f"of-{name}", "state": "absent"})
    for name in ("built", "rooted"):
        run_module("image", {"root": root, "name": name, "state": "absent"})


@pytest.mark.parametrize("image", ["rooted", "built"])
def test_root_directory_is_as_the_image_has_it(root, rooted, image):
    args = {"root": root, "container": f"of-{image}"}
    stat = {**args, "command": "stat -c %a:%u:%g /"}
    container(root, f"of-{image}", image=image)
    assert run_module("container_exec", stat)["stdout"] == "1771:12:34"
    run_module("container_exec", {**args, "command": "chmod 700 /"})
    container(root, f"of-{image}", image=image, restart=True, stop_timeout=0.1)
    assert run_module("container_exec", stat)["stdout"] == "700:12:34"
    container(root, f"of-{image}", image=image, recreate=True, stop_timeout=0.1)
    assert run_module("container_exec", stat)["stdout"] == "1771:12:34"


def test_name_files_of_a_read_only_container_are_read_only(root, tmp_path):
    """As docker has it: with no disk to write to there is none to fill."""
    container(root, "fixed", read_only=True)
    args = {"root": root, "container": "fixed", "fail_on_rc": False}
    for file in ("hosts", "resolv.conf", "hostname"):
        written = run_module("container_exec", {**args, "argv": ["sh", "-c", f"echo x >> /etc/{file}"]})
        assert (written["rc"], "Read-only file system" in written["stderr"]) == (1, True)
    assert run_module("container_exec", {**args, "command": "cat /etc/hostname"})["stdout"] == "fixed"


# exec


def test_exec_returns_both_streams_and_the_code(web):
    result = web("container_exec", argv=["sh", "-c", "echo out; echo err >&2; exit 3"], fail_on_rc=False)
    assert (result["rc"], result["stdout"], result["stderr"]) == (3, "out", "err")
    assert (result["stdout_lines"], result["stderr_lines"], result["changed"]) == (["out"], ["err"], True)


def test_exec_fails_with_the_command(web):
    result = web("container_exec", command="sh -c 'exit 3'")
    assert (result["failed"], result["msg"], result["rc"]) == (True, "sh in web ended with 3", 3)


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize(
    ("args", "rc", "words"),
    [
        ({"command": "nonsense"}, 127, "container web: exec nonsense: executable file not found in $PATH [ENOENT]"),
        ({"command": "/no/such"}, 127, "container web: exec /no/such: No such file or directory [ENOENT]"),
        ({"command": "/etc"}, 126, "container web: exec /etc: Permission denied [EACCES]"),
        ({"command": "/script"}, 126, "container web: exec /script: Exec format error [ENOEXEC]"),
        ({"command": "true", "chdir": "/none"}, 127, "container web: cwd /none: No such file or directory [ENOENT]"),
    ],
)
def test_exec_that_can_not_start_is_told_from_one_that_ended(web, args, rc, words, detach):
    web("container_copy", container_path="/script", content="no program\n", mode="0755")
    failed = web("container_exec", detach=detach, **args)
    assert (failed["failed"], failed["rc"], failed["started"], failed["changed"]) == (True, rc, False, False)
    assert failed["msg"].startswith(words), failed["msg"]
    told = web("container_exec", detach=detach, fail_on_rc=False, **args)
    assert not told.get("failed")
    assert (told["rc"], told["started"], told["msg"]) == (rc, False, failed["msg"])


@pytest.mark.parametrize("rc", [126, 127, 255])
def test_exec_that_ended_with_a_code_of_ours_was_started(web, rc):
    result = web("container_exec", command=f"sh -c 'echo said; exit {rc}'", fail_on_rc=False)
    assert (result["rc"], result["started"], result["stdout"], result["changed"]) == (rc, True, "said", True)
    assert "msg" not in result


@pytest.mark.parametrize(
    ("args", "out"),
    [
        ({"command": "pwd"}, "/tmp"),
        ({"command": "pwd", "chdir": "/etc"}, "/etc"),
        ({"argv": ["sh", "-c", "echo $GREETING $MORE"], "env": {"MORE": "x y"}}, "hello x y"),
        ({"command": "id -u", "user": "nobody"}, "65534"),
        ({"command": "id -g", "user": "12:34"}, "34"),
        ({"command": "cat", "stdin": "line"}, "line"),
        ({"command": "wc -l", "stdin": "line"}, "1"),
        ({"command": "wc -l", "stdin": "line", "stdin_add_newline": False}, "0"),
        ({"command": "echo", "strip_empty_ends": False}, "\n"),
        ({"command": "sh -c 'readlink /proc/self/ns/uts; exit 0'", "env": {"A": ""}}, None),
    ],
)
def test_exec_options(web, args, out):
    result = web("container_exec", **args)
    assert not result.get("failed"), result
    assert out is None or result["stdout"] == out


def test_exec_is_in_the_namespaces_and_the_cgroup_of_the_container(web, root):
    more = Path(f"/proc/{web('container_exec', command='sleep 100', detach=True)['pid']}")
    first = Path(f"/proc/{run_module('container_info', {'root': root, 'name': 'web'})['containers'][0]['pid']}")
    for kind in ("pid", "mnt", "net", "uts", "ipc", "cgroup"):
        assert os.readlink(more / "ns" / kind) == os.readlink(first / "ns" / kind)
    assert (more / "cgroup").read_text() == (first / "cgroup").read_text()


def test_exec_gets_a_terminal(web):
    result = web("container_exec", command="tty", tty=True)
    assert result["stdout"].startswith("/dev/pts/"), result


def test_exec_detached_goes_on(web, root):
    result = web("container_exec", argv=["sh", "-c", "sleep 1; touch /detached; sleep 100"], detach=True)
    assert Path(f"/proc/{result['pid']}").exists()
    deadline = time.monotonic() + 10
    while not inside(root, "/detached").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert inside(root, "/detached").exists()


def test_exec_that_is_too_slow_is_killed_inside(web, root):
    begin = time.monotonic()
    result = web("container_exec", command="sleep 4321", timeout="500ms")
    assert result["msg"] == "exec in web: sleep did not end within 0.5 s; it was killed"
    assert time.monotonic() - begin < 5
    assert "sleep 4321" not in web("container_exec", command="ps")["stdout"]


def test_exec_that_is_too_slow_takes_along_what_it_started(web):
    """A child in the background holds the ends of the streams: who waits for their end waits for it."""
    begin = time.monotonic()
    result = web("container_exec", argv=["sh", "-c", "sleep 4322 & sleep 4323"], timeout="500ms")
    assert result["msg"] == "exec in web: sh did not end within 0.5 s; it was killed"
    assert time.monotonic() - begin < 5
    assert "sleep 432" not in web("container_exec", command="ps")["stdout"]


def test_exec_guards_and_check_mode(root, web):
    made = {"root": root, "container": "web", "command": "touch /guarded", "creates": "/guarded"}
    check = run_module("container_exec", made, check=True)
    assert (check["changed"], check["msg"]) == (True, "the command would have run if not in check mode")
    assert not inside(root, "/guarded").exists()
    assert run_module("container_exec", made)["changed"] is True
    again = run_module("container_exec", made)
    assert (again["changed"], again["stdout"]) == (False, "skipped, since /guarded exists")
    assert run_module("container_exec", made, check=True)["changed"] is False
    gone = {"root": root, "container": "web", "command": "rm /guarded", "removes": "/guarded"}
    assert run_module("container_exec", gone)["changed"] is True
    assert run_module("container_exec", gone)["changed"] is False
    plain = run_module("container_exec", {"root": root, "container": "web", "command": "touch /plain"}, check=True)
    assert plain["skipped"] is True
    assert not inside(root, "/plain").exists()


def test_creates_does_not_look_at_the_host(web, tmp_path):
    (tmp_path / "here").touch()
    web("container_exec", argv=["ln", "-sf", str(tmp_path), "/way"])
    assert web("container_exec", command="true", creates="/way/here")["stdout"] == ""


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ({"command": "nonsense"}, "nonsense"),
        ({"command": "true", "user": "nobodyofthatname"}, "user: 'nobodyofthatname' is no user in the image's"),
        ({"command": "true", "chdir": "/nonexistent"}, "/nonexistent"),
        ({"command": ""}, "command: [] is empty; give a command"),
        ({"command": "true", "env": {"A": True}}, "env.A: True is a boolean"),
        ({"command": "true", "timeout": "soon"}, "timeout: 'soon' is not a duration"),
        ({"command": "'true"}, "command: \"'true\" can't be split into words"),
        ({"command": "true", "tty": True, "detach": True}, "tty: True can't be with detach"),
        ({"container": "none", "command": "true"}, "no such container: none"),
        ({"container": "halted", "command": "true"}, "container halted is"),
    ],
)
def test_exec_refuses_bad_input(web, halted, args, sentence):
    result = web("container_exec", **args)
    assert result["failed"]
    assert sentence in result["msg"], result


# copy


@pytest.mark.parametrize("which", ["web", "halted"])
def test_content_is_copied_once(request, root, which):
    request.getfixturevalue(which)
    args = {"root": root, "container": which, "container_path": "/etc/motd", "content": "hello\n", "mode": "0640",
            "owner_id": 12, "group_id": 34}  # fmt: skip
    results = quartet("container_copy", args)
    assert results[0]["diff"]["after"] == "[mode 0640 owner 12 group 34]\nhello\n"
    changed = quartet("container_copy", {**args, "content": "changed\n"})
    assert changed[0]["diff"]["before"] == "[mode 0640 owner 12 group 34]\nhello\n"
    quartet("container_copy", {**args, "content": "changed\n", "mode": "0600"})


def test_what_is_copied_is_there(web, root):
    web("container_copy", container_path="/etc/seen", content="hello\n", mode="0640", owner_id=12, group_id=34)
    seen = web("container_exec", command="stat -c %u:%g:%a:%s /etc/seen")
    assert seen["stdout"] == "12:34:640:6"
    assert web("container_exec", command="cat /etc/seen")["stdout"] == "hello"


def test_what_was_copied_into_a_halted_container_is_there_when_it_starts(root, halted):
    halted("container_copy", container_path="/etc/early", content="early\n", mode="0644")
    container(root, "halted")
    assert inside(root, "/etc/early", "halted").read_text() == "early\n"
    container(root, "halted", state="stopped", stop_timeout=0.1)


def test_a_file_is_copied_with_its_mode_and_a_link_as_told(web, root, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").chmod(0o751)
    (tmp_path / "link").symlink_to("file")
    quartet("container_copy", {"root": root, "container": "web", "path": f"{tmp_path}/link", "container_path": "/a"})
    quartet("container_copy", {"root": root, "container": "web", "path": f"{tmp_path}/link", "container_path": "/b",
                               "local_follow": False})  # fmt: skip
    assert web("container_exec", command="stat -c %a:%F /a")["stdout"] == "751:regular file"
    assert web("container_exec", command="readlink /b")["stdout"] == "file"


def test_out_of_the_container(root, web, tmp_path):
    web("container_exec", argv=["sh", "-c", "echo secret > /out; chmod 4711 /out"])
    args = {"root": root, "container": "web", "container_path": "/out", "path": f"{tmp_path}/out", "direction": "out"}
    quartet("container_copy", args)
    assert (tmp_path / "out").read_text() == "secret\n"
    assert f"{(tmp_path / 'out').stat().st_mode & 0o7777:o}" == "711"


def test_force(root, web):
    args = {"root": root, "container": "web", "container_path": "/forced", "content": "1", "mode": "0644"}
    assert run_module("container_copy", args)["changed"]
    assert run_module("container_copy", {**args, "content": "2", "force": False})["changed"] is False
    assert inside(root, "/forced").read_text() == "1"
    assert run_module("container_copy", {**args, "force": True})["changed"] is True


def test_a_mounted_file_is_written_in_place(web, root):
    before = inside(root, "/etc/hosts").stat().st_ino
    web("container_copy", container_path="/etc/hosts", content="127.0.0.1 x\n", mode="0644")
    assert web("container_exec", command="cat /etc/hosts")["stdout"] == "127.0.0.1 x"
    assert inside(root, "/etc/hosts").stat().st_ino == before


def test_volumes_of_running_containers_are_reached_and_those_of_halted_ones_refused(root, web, halted):
    args = {"container_path": "/data/x", "content": "x", "mode": "0644"}
    assert web("container_copy", **args)["changed"]
    volume = run_module("volume_info", {"root": root, "name": "data"})["volumes"][0]["mountpoint"]
    assert Path(volume, "x").read_text() == "x"
    assert "container halted does not run, and /data/x is on its mount /data" in halted("container_copy", **args)["msg"]


@pytest.mark.parametrize("which", ["web", "halted"])
def test_no_symlink_leads_to_the_host(request, root, tmp_path, which):
    """At the end of the path, in the middle of it, absolute or climbing; in the image and in what is bound."""
    copy = request.getfixturevalue(which)
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "directory").mkdir()
    for name, target in (
        ("end", tmp_path / "victim"),
        ("way", tmp_path / "directory"),
        ("up", Path("../../../../../../../../..") / str(tmp_path / "directory")[1:]),
        ("proc", Path("/proc/1/root") / str(tmp_path / "directory")[1:]),
    ):
        link = tmp_path / name
        link.symlink_to(target)
        copy("container_copy", path=str(link), container_path=f"/{name}", local_follow=False)
    for path in ("/end", "/way/new", "/up/new", "/proc/new"):
        for follow in (False, True):
            copy("container_copy", container_path=path, content="hostile", mode="0666", follow=follow)
    assert (tmp_path / "victim").read_text() == "untouched"
    assert list((tmp_path / "directory").iterdir()) == []
    result = copy("container_copy", container_path="/way/victim", path=f"{tmp_path}/read", direction="out", follow=True)
    assert result.get("failed")
    assert not (tmp_path / "read").exists()


def test_a_fifo_does_not_hang_us(web):
    web("container_exec", command="mkfifo /fifo")
    begin = time.monotonic()
    result = web("container_copy", container_path="/fifo", content="x", mode="0644")
    assert "is neither a file nor a symlink" in result["msg"]
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ({"content": "x"}, "missing parameter(s) required by 'content': mode"),
        ({}, "one of the following is required: path, content"),
        ({"content": "x", "mode": "0644", "path": "/x"}, "parameters are mutually exclusive: path|content"),
        ({"content": "x", "mode": 0o644}, "mode: 420 is a number; put the octal mode in quotes"),
        ({"path": "/nonexistent"}, "no such file on the target: /nonexistent"),
        ({"path": "/etc"}, "path: '/etc' is neither a file nor a symlink"),
        ({"content": "x", "mode": "0644", "container_path": "relative"}, "container_path: 'relative' is not"),
        ({"content": "x", "mode": "0644", "container_path": "/no/such/file"}, "container_path: '/no/such/file' "),
        ({"content": "x", "mode": "0644", "container_path": "/"}, "container_path: '/' names no file"),
        ({"content": "x", "mode": "0644", "container": "none"}, "no such container: none"),
    ],
)  # fmt: skip
def test_copy_refuses_bad_input(web, args, sentence):
    result = web("container_copy", **{"container_path": "/x", **args})
    assert result["msg"].startswith(sentence), result["msg"]


# logs


def test_logs_of_running_and_of_ended_containers(root):
    container(root, "talker", command="sh -c 'for i in 1 2 3 4 5; do echo line $i; done; echo error >&2; sleep 1000'")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        result = run_module("container_logs", {"root": root, "container": "talker"})
        if len(result["lines"]) == 6:
            break
    assert result["lines"] == [*(f"line {i}" for i in range(1, 6)), "error"]
    assert result["logs"] == "\n".join(result["lines"]) + "\n"
    container(root, "talker", state="stopped", stop_timeout=0.1)
    assert run_module("container_logs", {"root": root, "container": "talker", "tail": 2})["lines"] == [
        "line 5",
        "error",
    ]
    assert run_module("container_logs", {"root": root, "container": "talker", "tail": 0})["lines"] == []
    assert "no such container: none" in run_module("container_logs", {"root": root, "container": "none"})["msg"]


def test_the_tail_reaches_into_rotated_files(root):
    container(root, "many", command="true")
    log = Path(Paths.at(root).log("many"))
    log.with_name("log.2").write_text("".join(f"{i}\n" for i in range(10)))
    log.with_name("log.1").write_text("".join(f"{i}\n" for i in range(10, 20)))
    log.write_text("".join(f"{i}\n" for i in range(20, 30)))
    every = [str(i) for i in range(30)]
    assert run_module("container_logs", {"root": root, "container": "many"})["lines"] == every
    for tail in (1, 10, 11, 25, 30, 99):
        result = run_module("container_logs", {"root": root, "container": "many", "tail": tail})
        assert result["lines"] == every[-tail:]


# info and prune


def test_info(root, web):
    found = run_module("container_info", {"root": root, "name": "web"})["containers"]
    assert [(one["name"], one["state"]) for one in found] == [("web", "running")]
    assert run_module("container_info", {"root": root, "name": "none"})["containers"] == []
    users = run_module("image_info", {"root": root, "name": "bb"})["images"][0]["containers"]
    assert "web" in users


def test_prune_takes_what_nobody_uses_and_nothing_else(tmp_path):
    top = str(tmp_path / "vessel")
    args = {"root": top, "name": "bb", "source": "template", "template": "busybox", "cmd": "sleep 1000"}
    run_module("image", args)
    for name in ("kept", "spare"):
        run_module("image", {"root": top, "name": name, "from": "bb", "layers": [{"run": f"echo {name} > /{name}"}]})
        run_module("volume", {"root": top, "name": name})
        run_module("network", {"root": top, "name": name})
    volume = run_module("volume_info", {"root": top, "name": "spare"})["volumes"][0]["mountpoint"]
    Path(volume, "data").write_bytes(bytes(100_000))
    shared = {"image": "kept", "networks": [{"name": "kept"}], "volumes": ["kept:/data"]}
    container(top, "kept", network_mode=None, **shared)
    container(top, "ended", command="true")
    everything = {"root": top, **dict.fromkeys(("containers", "images", "volumes", "networks", "build_cache"), True)}
    try:
        wait_until_ended(top, "ended")
        assert run_module("prune", {"root": top, "images": False})["changed"] is False
        assert run_module("prune", {"root": top})["msg"] == (
            "prune: nothing is asked for, so that nothing would ever go "
            "(set containers, images, volumes, networks or build_cache to true)"
        )
        results = quartet("prune", everything)
        gone = {key: results[1][key] for key in ("containers", "images", "volumes", "networks")}
        assert gone == {
            "containers": ["ended"], "images": ["bb:latest", "spare:latest"],
            "volumes": ["spare"], "networks": ["spare"],
        }  # fmt: skip
        assert results[0]["space_reclaimed"] == results[1]["space_reclaimed"] > 100_000
        assert results[2]["space_reclaimed"] == 0
        assert inside(top, "/kept", "kept").read_text() == "kept\n"
        assert run_module("image_info", {"root": top})["images"][0]["name"] == "kept:latest"
    finally:
        for name in ("kept", "ended"):
            run_module("container", {"root": top, "name": name, "state": "absent"})
        run_module("prune", everything)
        install.remove(Paths.at(top))


def wait_until_ended(root, name):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if run_module("container_info", {"root": root, "name": name})["containers"][0]["state"] == "exited":
            return
        time.sleep(0.1)
    raise AssertionError(f"{name} does not end")
