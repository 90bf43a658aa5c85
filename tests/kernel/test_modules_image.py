# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images as a task declares them, judged by what is in their layers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import store
from ansible_collections.vessel.host.plugins.module_utils._image.archive import save
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._kernel.process import start_time
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from .module_runner import _PROGRAM, COLLECTIONS, quartet, run_module

pytestmark = pytest.mark.root


@pytest.fixture
def root(tmp_path):
    yield str(tmp_path / "vessel")
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(tmp_path) not in mounts


@pytest.fixture
def base(root):
    run_module("image", {"root": root, "name": "base", "source": "template", "template": "busybox"})
    return root


def image(root, **args):
    return run_module("image", {"root": root, "name": "app", "from": "base", **args})


def top(root, name="app:latest"):
    """The directory of the image's topmost layer."""
    kept = Store(Paths.at(root))
    return Path(kept.directories(kept.need(name))[-1])


def test_a_template_is_made_once_and_goes(root):
    args = {"root": root, "name": "base", "source": "template", "template": "busybox"}
    results = quartet("image", args)
    assert results[0]["actions"] == ["image base:latest: make template busybox"]
    assert (top(root, "base:latest") / "bin/sh").is_symlink()
    quartet("image", {"root": root, "name": "base", "state": "absent"})
    assert run_module("image_info", {"root": root})["images"] == []


def test_layers_are_built_once_and_shared(base):
    steps = [{"run": "echo one > /one"}, {"run": "cat /one > /two; echo two >> /two"}]
    results = quartet("image", {"root": base, "name": "app", "from": "base", "layers": steps})
    assert results[0]["actions"] == [
        "image app:latest: build from base:latest",
        "image app:latest: build layer: run echo one > /one",
        "image app:latest: build layer: run cat /one > /two; echo two >> /two",
    ]
    assert (top(base) / "two").read_text() == "one\ntwo\n"
    more = run_module("image", {"root": base, "name": "more", "from": "base", "layers": [steps[0], {"run": "true"}]})
    assert more["actions"] == ["image more:latest: build from base:latest", "image more:latest: build layer: run true"]
    assert more["diff"]["after"]["image more:latest"]["build from base:latest"]["layers"] == [
        "cached: run echo one > /one", "build: run true",
    ]  # fmt: skip
    assert results[3]["image"]["layers"][:2] == more["image"]["layers"][:2]


def test_a_step_leaves_only_what_it_wrote(base):
    image(base, layers=[{"run": "touch /made"}])
    assert sorted(str(path.relative_to(top(base))) for path in top(base).rglob("*") if not path.is_dir()) == ["made"]


def test_a_step_sees_the_variables_and_the_hosts_network(base):
    image(
        base, env={"LATE": "x"}, layers=[{"env": {"A": "b c"}}, {"run": 'echo "$A$LATE" > /env; ip -o link > /links'}]
    )
    assert (top(base) / "env").read_text() == "b c\n"
    inside = {line.split(":")[1].strip() for line in (top(base) / "links").read_text().splitlines()}
    assert "lo" in inside
    assert run_module("image_info", {"root": base, "name": "app"})["images"][0]["config"]["Env"] == ["A=b c", "LATE=x"]


def test_a_step_is_confined(base):
    image(
        base,
        layers=[
            {"run": "echo $$ > /pid; ls /dev > /devices; (mount -t tmpfs x /mnt || echo refused) 2>/dev/null > /mount"}
        ],
    )
    assert (top(base) / "pid").read_text() == "1\n"
    assert "sda" not in (top(base) / "devices").read_text()
    assert (top(base) / "mount").read_text() == "refused\n"


def test_a_step_that_fails_says_its_last_words_and_leaves_nothing(base):
    image(base, layers=[{"run": "touch /one"}])
    before = run_module("image_info", {"root": base, "name": "app"})
    result = image(base, layers=[{"run": "touch /one"}, {"run": "echo reason >&2; exit 7"}])
    assert result["msg"] == "image app:latest: step 2: 'echo reason >&2; exit 7' ended with 7: reason"
    assert run_module("image_info", {"root": base, "name": "app"}) == before
    assert not os.path.exists(f"{base}/run/build")
    assert [name for name in os.listdir(f"{base}/lib/layers") if name.startswith(".")] == []


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"from": "base", "layers": [{"run": "true"}, {"run": ["nosuch", "-x"]}]}, "step 2: 'nosuch -x'"),
        ({"containerfile": 'FROM base\nRUN true\nRUN ["nosuch"]\n'}, "containerfile:3: '[\"nosuch\"]'"),
    ],
)
def test_a_step_of_a_program_that_is_not_there(base, given, place):
    result = run_module("image", {"root": base, "name": "app", **given})
    assert result["failed"]
    assert result["msg"].startswith(
        f"image app:latest: {place} can't be started: exec nosuch: executable file not found in $PATH [ENOENT] ("
    )


def test_a_warning_tells_of_arguments_that_no_line_declares(base):
    given = {"root": base, "name": "app", "containerfile": "FROM base\nENV A=b\n", "build_args": {"TWO": "2"}}
    assert "build_args: no ARG of containerfile declares TWO" in json.dumps(run_module("image", given)["warnings"])
    assert "warnings" not in run_module("image", {**given, "build_args": {}})


def test_an_image_that_can_not_be_pulled_is_named_once(root):
    result = run_module("image", {"root": root, "name": "localhost:1/x"})
    assert result["msg"] == "image localhost:1/x:latest: pull: localhost:1: Connection refused"


def test_copies(base, tmp_path):
    source = tmp_path / "src"
    (source / "sub").mkdir(parents=True)
    (source / "sub/file").write_text("from a directory")
    (source / "file").write_text("from a file")
    steps = [
        {"copy": {"content": "secret\n", "dest": "/etc/app.conf", "owner": 12, "group": 34, "mode": "0640"}},
        {"copy": {"src": str(source / "file"), "dest": "/srv/"}},
        {"copy": {"src": str(source), "dest": "/srv/tree"}},
        {"run": "cat /etc/app.conf /srv/file /srv/tree/sub/file > /all; stat -c '%u %g %a' /etc/app.conf >> /all"},
    ]
    quartet("image", {"root": base, "name": "app", "from": "base", "layers": steps})
    assert (top(base) / "all").read_text() == "secret\nfrom a filefrom a directory12 34 640\n"
    (source / "sub/file").write_text("changed")
    result = image(base, layers=steps)
    assert len(result["actions"]) == 3  # the last two steps
    assert "changed" in (top(base) / "all").read_text()


def test_a_copy_does_not_leave_through_a_symlink(base, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    image(base, layers=[{"run": f"ln -s {outside} /way"}, {"copy": {"content": "x", "dest": "/way/in"}}])
    assert os.listdir(outside) == []


@pytest.mark.parametrize(
    ("option", "value", "key", "seen"),
    [
        ("cmd", "sleep 10", "Cmd", ["sleep", "10"]),
        ("cmd", ["sleep", "11"], "Cmd", ["sleep", "11"]),
        ("entrypoint", ["/bin/sh", "-c"], "Entrypoint", ["/bin/sh", "-c"]),
        ("env", {"A": "1"}, "Env", ["A=1"]),
        ("user", "nobody", "User", "nobody"),
        ("working_dir", "/tmp/", "WorkingDir", "/tmp"),
        ("exposed_ports", ["80", "53/udp"], "ExposedPorts", {"53/udp": {}, "80/tcp": {}}),
        ("volumes", ["/data"], "Volumes", {"/data": {}}),
        ("labels", {"a": "b"}, "Labels", {"a": "b"}),
        ("stop_signal", "quit", "StopSignal", "SIGQUIT"),
        ("healthcheck", {"test": "true", "interval": "5s"}, "Healthcheck",
         {"Test": ["CMD-SHELL", "true"], "Interval": 5 * 10**9, "Timeout": 30 * 10**9, "Retries": 3,
          "StartInterval": 5 * 10**9}),
    ],
)  # fmt: skip
def test_an_option_of_an_existing_image(base, option, value, key, seen):
    image(base, layers=[{"run": "touch /one"}])
    results = quartet(
        "image", {"root": base, "name": "app", "from": "base", "layers": [{"run": "touch /one"}], option: value}
    )
    assert results[0]["actions"] == ["image app:latest: build from base:latest"]  # no layer
    assert results[-1]["image"]["config"][key] == seen


def test_a_new_base_makes_a_new_image(base):
    args = {"root": base, "name": "app", "from": "base", "layers": [{"run": "ls / > /list"}]}
    run_module("image", args)
    run_module("image", {"root": base, "name": "base", "source": "template", "template": "busybox", "cmd": "sh"})
    results = quartet("image", args)
    assert results[-1]["image"]["config"]["Cmd"] == ["sh"]


def test_force_makes_it_again(base):
    args = {"root": base, "name": "app", "from": "base", "layers": [{"run": "date +%N > /now; cat /proc/uptime > /up"}]}
    run_module("image", args)
    before = (top(base) / "up").read_text()
    result = run_module("image", {**args, "force": True})
    assert result["changed"]
    assert (top(base) / "up").read_text() != before


def test_a_root_file_system_from_a_directory_and_from_a_tar(root, tmp_path):
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/motd").write_text("hello")
    args = {"root": root, "name": "tree", "source": "rootfs", "path": str(tree), "cmd": "/bin/true"}
    quartet("image", args)
    assert (top(root, "tree:latest") / "etc/motd").read_text() == "hello"
    (tree / "etc/motd").write_text("hello again")
    quartet("image", args)
    subprocess.run(["tar", "-C", str(tree), "-czf", str(tmp_path / "tree.tgz"), "."], check=True)
    quartet("image", {"root": root, "name": "tar", "source": "rootfs", "path": str(tmp_path / "tree.tgz")})
    assert (top(root, "tar:latest") / "etc/motd").read_text() == "hello again"


def test_an_archive_gives_the_same_image(base, tmp_path):
    image(base, layers=[{"run": "touch /one"}], cmd="sh")
    kept = Store(Paths.at(base))
    save(kept, kept.need("app:latest"), str(tmp_path / "app.tar"))
    other = str(tmp_path / "other")
    results = quartet("image", {"root": other, "name": "app", "source": "archive", "path": str(tmp_path / "app.tar")})
    assert results[-1]["image"]["id"] == kept.need("app:latest").id
    over = {"root": other, "name": "over", "source": "archive", "path": str(tmp_path / "app.tar"), "cmd": "ls",
            "layers": [{"run": "touch /over"}]}  # fmt: skip
    assert quartet("image", over)[-1]["image"]["config"]["Cmd"] == ["ls"]
    assert (top(other, "over:latest") / "over").exists()


def test_a_killed_build_is_swept_and_begun_again(base):
    args = {"root": base, "name": "app", "from": "base", "layers": [{"run": "touch /one"}, {"run": "sleep 1000"}]}
    program = f"import json, sys; sys.path.insert(0, sys.argv[1]); from {run_module.__module__} import run_module; "
    program += "run_module('image', json.loads(sys.argv[2]))"
    child = subprocess.Popen([sys.executable, "-c", program, str(COLLECTIONS), json.dumps(args)])
    build = Path(base) / "run/build"
    pid, module = wait_for_step(build)
    os.kill(module, signal.SIGKILL)
    child.wait()
    assert start_time(pid) is not None
    args["layers"][1] = {"run": "touch /two"}
    result = run_module("image", args)
    assert result["actions"][1:] == ["image app:latest: build layer: run touch /two"]
    assert not build.exists()
    assert start_time(pid) is None


def wait_for_step(build):
    """(pid of the step's process once it sleeps, pid of the module)."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        time.sleep(0.05)
        with contextlib.suppress(FileNotFoundError, StopIteration, ValueError):
            step = next(build.glob("build-*-2"))
            pid = json.loads((build / "runtime" / step.name / "state.json").read_text())["pid"]
            if "sleep" in Path(f"/proc/{pid}/comm").read_text():
                return pid, json.loads((step / "owner").read_text())["pid"]
    raise AssertionError("the step does not start")


def test_a_used_image_stays_unless_forced_and_its_layers_then_too(base):
    image(base, layers=[{"run": "touch /one"}])
    layers = list(Store(Paths.at(base)).need("app:latest").layers)
    store.write_spec(Paths.at(base), "containers", "web", {"image": "app:latest"})
    Path(Paths.at(base).resource("containers", "web"), "base.json").write_text(json.dumps({"layers": layers}))
    gone = {"root": base, "name": "app", "state": "absent"}
    assert run_module("image", gone)["msg"].startswith("image app:latest is in use by web")
    quartet("image", {**gone, "force": True})
    run_module("prune", {"root": base, "images": True, "build_cache": True})
    assert [Store(Paths.at(base)).has_layer(layer) for layer in layers] == [True, True]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ({"pull": "never"}, "no such image: new:latest (pull: never forbids to fetch it)"),
        ({}, "image new:latest: pull docker.io/library/new:latest: registry-1.docker.io: "),
        ({"from": "missing", "pull": "never"}, "no such image: missing:latest (pull: never forbids to fetch it)"),
        ({"cmd": "sh"}, "cmd: ['sh'] has no base; give from or source"),
        ({"source": "template"}, "template: is missing; source: template needs it"),
        ({"source": "template", "template": "suse"}, "template: 'suse' is no template; use debian, busybox"),
        ({"source": "template", "template": "busybox", "template_options": {"suite": "x"}}, "template_options: {'"),
        ({"source": "template", "template": "debian", "template_options": {"siute": "x"}}, "template_options.siute: "),
        ({"source": "template", "template": "debian", "from": "base"}, "from: 'base:latest' can't be with source"),
        ({"source": "archive", "path": "/nonexistent.tar"}, "path: '/nonexistent.tar' is not on the target"),
        ({"source": "archive", "path": "/dev/zero"}, "path: '/dev/zero' is neither a file nor a directory"),
        ({"source": "rootfs", "path": "/dev/zero"}, "path: '/dev/zero' is neither a file nor a directory"),
        ({"containerfile": "/dev/zero"}, "containerfile: '/dev/zero' is no file"),
        ({"source": "hub"}, "source: 'hub' is not one of registry, archive, layout, rootfs, template, container"),
        ({"path": "/x"}, "path: '/x' needs source: archive or layout or rootfs"),
        ({"from": "base", "layers": [{}]}, "layers[0]: [] needs one of run, copy, add, env"),
        ({"from": "base", "layers": [{"run": "x", "env": {"A": "b"}}]}, "layers[0]: ['env', 'run'] needs one of"),
        ({"from": "base", "layers": [{"copy": {"dest": "/x"}}]}, "layers[0].copy: ['dest'] needs one of src"),
        ({"from": "base", "layers": [{"copy": {"src": "/nonexistent", "dest": "/x"}}]}, "layers[0].copy.src: '/"),
        ({"from": "base", "layers": [{"copy": {"content": "x", "dest": "../x"}}]}, "layers[0].copy.dest: '../x' holds"),
        ({"from": "base", "layers": [{"copy": {"content": "x", "dest": "/x", "mode": 420}}]}, "layers[0].copy.mode: "),
        ({"from": "base", "layers": [{"env": {"A": True}}]}, "layers[0].env.A: True is a boolean"),
        ({"from": "base", "exposed_ports": ["80:80"]}, "exposed_ports[0]: '80:80' is not a port such as 80 or 53/udp"),
        ({"from": "base", "stop_signal": "SIGSTOPPED"}, "stop_signal: 'SIGSTOPPED' is not a signal"),
        ({"name": "UPPER"}, "name: 'UPPER' is not the name of an image"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_and_leaves_nothing(base, args, sentence):
    before = sorted(os.walk(base))
    result = run_module("image", {"root": base, "name": "new", **args})
    assert result["msg"].startswith(sentence), result["msg"]
    assert sorted(os.walk(base)) == before


def test_only_root_passes_the_store(base):
    assert stat.S_IMODE(os.stat(f"{base}/lib").st_mode) == 0o700


@pytest.mark.parametrize(
    "secrets",
    [
        "S3CR3T",
        ["S3CR3T"],
        {"token": "S3CR3T"},
        [{"id": "token", "valeu": "S3CR3T"}],
        [{"id": "t", "value": ["S3CR3T"]}],
    ],
)
def test_a_secret_in_another_form_than_it_should_have_is_not_told(base, secrets):
    given = {"root": base, "name": "new", "from": "base", "layers": [{"run": "true"}], "secrets": secrets}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(COLLECTIONS), "image"],
        input=json.dumps({**given, "_ansible_check_mode": False, "_ansible_diff": True}),
        capture_output=True,
        text=True,
        check=False,
    )
    result = json.loads(done.stdout)
    assert "secrets" in result["msg"]
    assert "module_args" in result["invocation"]
    assert "S3CR3T" not in done.stdout


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_an_ignore_file_that_is_none(base, tmp_path, make):
    """Nobody waits for a FIFO's writer."""
    (tmp_path / "Containerfile").write_text("FROM base\nCOPY Containerfile /\n")
    make(tmp_path / ".containerignore")
    result = run_module("image", {"root": base, "name": "new", "context": str(tmp_path)}, timeout=20)
    assert result["msg"] == f"context: '{tmp_path}/.containerignore' is no file"
