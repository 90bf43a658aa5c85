# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds as a task declares them, from layers and from Containerfiles: what steps see and leave, what runs again."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge.image import images
from ansible_collections.vessel.host.plugins.module_utils._errors import VesselError
from ansible_collections.vessel.host.plugins.module_utils._image.archive import save
from ansible_collections.vessel.host.plugins.module_utils._image.progress import Progress
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._kernel.process import start_time
from ansible_collections.vessel.host.plugins.module_utils._options.image import DIRECTIVES, OPTIONS
from ansible_collections.vessel.host.plugins.module_utils._options.record import parse_options
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
from ansible_collections.vessel.host.tests.patience import patient

from ..image_tars import entry, hard, link, tar
from .module_runner import COLLECTIONS, quartet, run_module

pytestmark = pytest.mark.root
SECRET = "s3cr3t-of-the-test"


@pytest.fixture
def root(tmp_path):
    yield str(tmp_path / "vessel")
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(tmp_path) not in mounts
    assert not (tmp_path / "vessel/run/build").exists()


@pytest.fixture
def base(root):
    run_module("image", {"root": root, "name": "base", "source": "template", "template": "busybox"})
    return root


@pytest.fixture
def context(tmp_path):
    path = tmp_path / "context"
    path.mkdir()
    return path


def image(root, *layers, **args):
    return run_module("image", {"root": root, "name": "app", "from": "base", "layers": list(layers), **args})


def built(root, text, context=None, **args):
    if context:
        (context / "Containerfile").write_text(text)
        args["context"] = str(context)
    else:
        args["containerfile"] = text
    result = run_module("image", {"root": root, "name": "app", **args})
    assert not result.get("failed"), result["msg"]
    return result


def refused(root, text, context=None, **args):
    given = {"containerfile": text, **({"context": str(context)} if context else {}), **args}
    result = run_module("image", {"root": root, "name": "bad", **given})
    assert result.get("failed"), result
    assert not run_module("image_info", {"root": root, "name": "bad"})["images"]
    return result["msg"]


def layers(root, name="app:latest"):
    store = Store(Paths.at(root))
    return [Path(path) for path in store.directories(store.need(name))]


def names(path):
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))


def raw(root, name="app:latest"):
    store = Store(Paths.at(root))
    return store.raw(store.need(name))


# what runs again
def test_a_label_runs_nothing_again_and_a_variable_does(base):
    run = {"run": "cat /proc/sys/kernel/random/uuid > /when"}
    image(base, {"label": {"a": "1"}}, {"env": {"A": "1"}}, run)
    before = (layers(base)[-1] / "when").read_text()
    result = image(base, {"label": {"a": "2"}}, {"expose": ["80"]}, {"cmd": ["x"]}, {"env": {"A": "1"}}, run)
    assert result["actions"] == ["image app:latest: build from base:latest"]
    assert (layers(base)[-1] / "when").read_text() == before
    assert raw(base)["config"]["Labels"] == {"a": "2"}
    result = image(base, {"env": {"A": "2"}}, run)
    assert result["actions"][1:] == ["image app:latest: build layer: run cat /proc/sys/kernel/random/uuid > /when"]
    assert (layers(base)[-1] / "when").read_text() != before


def test_equal_inputs_make_equal_images(tmp_path, context):
    (context / "dir").mkdir()
    (context / "dir/file").write_text("x")
    ids = []
    for number in (1, 2):
        root = str(tmp_path / f"vessel{number}")
        run_module("image", {"root": root, "name": "base", "source": "template", "template": "busybox"})
        text = "FROM base\nWORKDIR /a/b\nCOPY dir /c/d\nCOPY <<E /f\nx\nE\nCOPY dir/file /etc/\n"
        ids.append(built(root, text, context)["image"]["id"])
        time.sleep(1.1)
    assert ids[0] == ids[1]


DIRECTIVES_OF_LAYERS = [
    {"user": "nobody"},
    {"workdir": "srv/app"},
    {"shell": ["/bin/sh", "-ec"]},
    {"run": "id -u > who; pwd >> who; false; echo not here > not"},
]


def test_steps_see_user_directory_and_shell(base):
    result = image(base, *DIRECTIVES_OF_LAYERS)
    assert "step 4: 'id -u > who; pwd >> who; false; echo not here > not' ended with 1" in result["msg"]
    done = image(base, *DIRECTIVES_OF_LAYERS[:3], {"run": "id -u > who; pwd >> who"})
    assert not done.get("failed"), done
    top = layers(base)[-1]
    assert (top / "srv/app/who").read_text() == "65534\n/srv/app\n"
    config = raw(base)["config"]
    assert (config["WorkingDir"], config["User"], config["Shell"]) == ("/srv/app", "nobody", ["/bin/sh", "-ec"])


def test_all_that_configures(base):
    steps = [
        {"env": {"A": "1"}},
        {"label": {"l": "1"}},
        {"expose": ["80", "53/udp"]},
        {"volume": ["/data"]},
        {"entrypoint": ["/bin/sh", "-c"]},
        {"cmd": ["echo $A"]},
        {"stop_signal": "QUIT"},
        {"healthcheck": {"test": "true"}},
    ]
    results = quartet("image", {"root": base, "name": "app", "from": "base", "layers": steps})
    assert results[0]["actions"] == ["image app:latest: build from base:latest"]
    config = raw(base)["config"]
    assert config["Cmd"] == ["echo $A"]
    assert config["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert (config["StopSignal"], config["Volumes"]) == ("SIGQUIT", {"/data": {}})
    assert config["Healthcheck"]["Test"] == ["CMD-SHELL", "true"]
    history = raw(base)["history"]
    assert [line["empty_layer"] for line in history[1:]] == [True] * len(steps)
    assert history[5]["created_by"] == 'ENTRYPOINT ["/bin/sh", "-c"]'


def test_history_has_a_line_for_each_layer(base, context):
    (context / "f").write_text("x")
    built(base, "FROM base\nENV A=1\nRUN touch /x\nWORKDIR /new\nWORKDIR /etc\nCOPY f /f\nARG V=2\nRUN true\n", context)
    made = raw(base)
    lines = [line["created_by"] for line in made["history"] if not line.get("empty_layer")]
    assert len(lines) == len(made["rootfs"]["diff_ids"])
    assert lines[1:] == ["RUN /bin/sh -c touch /x", "WORKDIR /new", "COPY f /f", "RUN |1 V=2 /bin/sh -c true"]
    assert "created" not in made


def test_another_program_reads_what_was_built(base, tmp_path):
    built(base, "FROM base\nMAINTAINER me\nENV A=1\nRUN touch /x\nONBUILD RUN true\n")
    store = Store(Paths.at(base))
    save(store, store.need("app:latest"), str(tmp_path / "app.tar"))
    command = ["skopeo", "inspect", "--config", f"oci-archive:{tmp_path}/app.tar"]
    config = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    assert (config["author"], config["config"]["Env"]) == ("me", ["A=1"])
    assert raw(base)["config"]["OnBuild"] == ["RUN true"]


# files
def test_copies_from_an_image_keep_their_owners(base):
    made = "mkdir -p /o/s; echo x > /o/s/f; chown -R 5:6 /o; ln /o/s/f /o/h; chmod 4755 /o/h"
    run_module("image", {"root": base, "name": "other", "from": "base", "layers": [{"run": made}]})
    quartet("image", {"root": base, "name": "app", "from": "base", "layers": [
        {"copy": {"from": "other", "src": "/o", "dest": "/kept"}},
        {"copy": {"from": "other", "src": ["/o/h", "/o/s/f"], "dest": "/mine/", "owner": "nobody", "group": "0"}},
    ]})  # fmt: skip
    kept, mine = layers(base)[-2:]
    info = os.stat(kept / "kept/h")
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode), info.st_nlink) == (5, 6, 0o4755, 2)
    assert os.stat(kept / "kept/s").st_uid == 5
    assert [os.stat(mine / "mine" / name).st_uid for name in ("h", "f")] == [65534, 65534]
    message = image(base, {"copy": {"from": "none", "src": "/x", "dest": "/x"}})["msg"]
    assert "none:latest" in message


def test_file_capabilities_come_along(base):
    run_module("image", {"root": base, "name": "other", "from": "base", "layers": [{"run": "cp /bin/busybox /tool"}]})
    tool = layers(base, "other:latest")[-1] / "tool"
    subprocess.run(["setcap", "cap_net_bind_service+ep", tool], check=True, timeout=10)
    image(base, {"copy": {"from": "other", "src": "/tool", "dest": "/tool"}})
    assert os.getxattr(layers(base)[-1] / "tool", "security.capability")


@pytest.mark.parametrize("packing", ["", "gz", "bz2", "xz", "zst"])
def test_archives_are_unpacked_by_add_and_copied_by_copy(base, context, packing):
    plain = context / "a.tar"
    plain.write_bytes(tar(entry("d/f", data=b"x", uid=3, gid=4), link("d/l", "f")))
    if packing == "zst":
        subprocess.run(["zstd", "-q", plain, "-o", context / "a.tar.zst"], check=True, timeout=10)
    elif packing:
        with tarfile.open(context / f"a.tar.{packing}", f"w:{packing}") as out, tarfile.open(plain) as source:
            for member in source:
                out.addfile(member, source.extractfile(member) if member.isreg() else None)
    path = str(context / f"a.tar{'.' if packing else ''}{packing}")
    image(base, {"add": {"src": path, "dest": "/in"}}, {"copy": {"src": path, "dest": "/out"}})
    added, copied = layers(base)[-2:]
    assert names(added) == ["in", "in/d", "in/d/f", "in/d/l"]
    assert os.stat(added / "in/d/f").st_uid == 3
    assert (copied / "out").read_bytes() == Path(path).read_bytes()


HOSTILE = {
    "climbs": (tar(entry("../../escaped", data=b"x")), "climbs out"),
    "absolute": (tar(entry("/escaped", data=b"x")), "has an absolute name"),
    "through a symlink": (tar(link("way", "/"), entry("way/escaped", data=b"x")), "leads through 'way'"),
    "hard link out": (tar(hard("h", "../../etc/passwd")), "climbs out"),
    "cut short": (tar(entry("f", data=b"x" * 5000))[:2000], "cut short"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused(base, context, kind):
    data, sentence = HOSTILE[kind]
    (context / "a.tar").write_bytes(data)
    before = sorted(os.listdir("/"))
    message = refused(base, "FROM base\nADD a.tar /\n", context)
    assert message.startswith("containerfile:2: ADD a.tar /: ")
    assert sentence in message
    assert sorted(os.listdir("/")) == before


def test_deletions_and_devices_in_an_archive_do_nothing(base, context):
    device = entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3)
    (context / "a.tar").write_bytes(tar(entry("bin/.wh.busybox"), entry(".wh..wh..opq"), device, entry("f")))
    built(base, "FROM base\nADD a.tar /\nRUN test -x /bin/busybox && test ! -e /null && test -e /f\n", context)


def test_a_hostile_context_stays_shut(base, context, tmp_path):
    (tmp_path / "outside").write_text("precious")
    (context / "abs").symlink_to("/etc/passwd")
    (context / "up").symlink_to("../outside")
    (context / "dir").mkdir()
    (context / "dir/link").symlink_to("/etc/passwd")
    (context / "dir/new\nline").write_text("kept")
    os.mkfifo(context / "fifo")
    for source in ("abs", "up"):
        assert f"{source!r} is not there, or ignored" in refused(base, f"FROM base\nCOPY {source} /x\n", context)
    for source in ("../outside", "dir/../../outside"):
        assert "leads out of what is copied from" in refused(base, f"FROM base\nCOPY {source} /x\n", context)
    assert "fifo is no file, directory or symlink" in refused(base, "FROM base\nCOPY fifo /x\n", context)
    os.unlink(context / "fifo")
    built(base, "FROM base\nCOPY dir /dir\n", context)
    top = layers(base)[-1]
    assert names(top) == ["dir", "dir/link", "dir/new\nline"]
    assert os.readlink(top / "dir/link") == "/etc/passwd"  # a symlink is copied, not what it leads to


def test_symlinks_of_the_image_lead_nowhere_out(base, context, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (context / "f").write_text("x")
    (context / "d/way").mkdir(parents=True)
    (context / "d/way/g").write_text("x")
    text = f"FROM base\nRUN mkdir -p {outside} && ln -s {outside} /way\nCOPY f /way/f\nCOPY d /\nWORKDIR /way/made\n"
    built(base, text, context)
    assert os.listdir(outside) == []
    inside = [path / str(outside).lstrip("/") for path in layers(base)[-3:]]
    assert [os.listdir(path) for path in inside] == [["f"], ["g"], ["made"]]


# what is fetched
@pytest.fixture
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        asked: list[str] = []  # noqa: RUF012

        def do_GET(self):
            self.asked.append(self.path)
            if self.path.startswith("/moved"):
                self.send_response(302)
                self.send_header("Location", "/file" if self.path == "/moved" else self.path)
                self.end_headers()
                return
            self.send_response(200 if self.path == "/file" else 404)
            self.end_headers()
            self.wfile.write(b"fetched")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", Handler.asked
    server.shutdown()
    server.server_close()


def test_a_file_is_fetched_once_and_has_its_digest(base, server):
    address, asked = server
    digest = f"sha256:{hashlib.sha256(b'fetched').hexdigest()}"
    step = {"add": {"src": f"{address}/moved", "dest": "/d/", "checksum": digest}}
    quartet("image", {"root": base, "name": "app", "from": "base", "layers": [step]})
    assert asked == ["/moved", "/file"]
    made = layers(base)[-1] / "d/moved"
    assert made.read_text() == "fetched"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    other = f"--checksum=sha256:{'0' * 64}"
    assert f"has the digest {digest}, and it should" in refused(base, f"FROM base\nADD {other} {address}/file /f\n")
    assert "was answered with 404" in refused(base, f"FROM base\nADD {other} {address}/none /f\n")
    assert "leads from one address to the next" in refused(base, f"FROM base\nADD {other} {address}/moved2 /f\n")
    assert "127.0.0.1:1: Connection refused" in refused(base, f"FROM base\nADD {other} http://127.0.0.1:1/f /f\n")


# networks
def test_a_step_without_a_network(base):
    image(base, {"run": "ip -o link > /links", "network": "none"})
    assert [line.split()[1:3] for line in (layers(base)[-1] / "links").read_text().splitlines()] == [
        ["lo:", "<LOOPBACK,UP,LOWER_UP>"]
    ]
    built(base, "FROM base\nRUN --network=none ip -o link | wc -l > /links\nRUN ip -o link | wc -l > /host\n")
    assert (layers(base)[-2] / "links").read_text() == "1\n"
    here = len(os.listdir("/sys/class/net"))
    assert int((layers(base)[-1] / "host").read_text()) == here


# secrets
def holding(root, text):
    """Files below that hold the text."""
    found = subprocess.run(["grep", "-rlF", text, root], capture_output=True, text=True, timeout=60, check=False)
    return found.stdout.splitlines()


def test_a_secret_is_seen_by_its_step_and_by_nothing_else(base, tmp_path):
    (tmp_path / "token").write_text(SECRET)
    mount = "type=secret,id=token,target=/root/t,uid=65534,mode=0440,env=TOKEN"
    args = {"root": base, "name": "app", "from": "base", "secrets": [{"id": "token", "src": str(tmp_path / "token")}],
            "layers": [{"run": "sha256sum < /run/secrets/token > /sum; stat -c %a:%u /run/secrets/token >> /sum",
                        "secrets": ["token"]},
                       {"run": 'stat -c %a:%u /root/t > /two; test "$TOKEN" = "$(cat /root/t)"', "mounts": [mount]},
                       {"run": "test ! -e /run/secrets && test ! -e /root/t && test -z $TOKEN"}]}  # fmt: skip
    results = quartet("image", args)
    first, second, third = layers(base)[-3:]
    assert (first / "sum").read_text() == f"{hashlib.sha256(SECRET.encode()).hexdigest()}  -\n400:0\n"
    assert (second / "two").read_text() == "440:65534\n"
    assert [names(path) for path in (first, second, third)] == [["sum"], ["two"], []]
    assert holding(base, SECRET) == []
    assert SECRET not in json.dumps(results)
    (tmp_path / "token").write_text("another")
    assert not run_module("image", args)["changed"]


def test_a_secret_by_value_that_a_step_shouts(base):
    secrets = [{"id": "token", "value": f"{SECRET}\nsecond-line"}]
    text = "FROM base\nRUN --mount=type=secret,id=token,required cat /run/secrets/token; exit 3\n"
    result = run_module("image", {"root": base, "name": "app", "containerfile": text, "secrets": secrets})
    assert result["msg"].endswith("ended with 3: ******** | ********"), result["msg"]
    assert holding(base, SECRET) == []


def test_a_secret_that_is_not_there(base, tmp_path):
    text = "FROM base\nRUN --mount=type=secret,id=none{} test ! -e /run/secrets/none\n"
    assert "containerfile:2: " in refused(base, text.format(",required"))
    built(base, text.format(""))
    message = image(base, {"run": "true", "secrets": ["none"]})["msg"]
    assert message == "layers[0]: 'none' needs the secret 'none'; give it in secrets"
    missing = image(base, {"run": "true", "secrets": ["s"]}, secrets=[{"id": "s", "src": str(tmp_path / "none")}])
    assert missing["msg"].startswith("secrets[0].src: ")


def test_a_step_that_misses_a_secret_says_how_to_give_it(base):
    text = "FROM base\nRUN {}cat /run/secrets/none\n"
    optional = refused(base, text.format("--mount=type=secret,id=none "))
    assert optional.endswith("No such file or directory (it ran without the secret none; give it in secrets)")
    result = image(base, {"run": "cat /run/secrets/none"}, secrets=[{"id": "none", "value": "there"}])
    assert result["msg"].endswith("No such file or directory (the step itself has to ask for the secret none)")
    assert (result["changed"], result["actions"]) == (False, [])
    other = image(base, {"run": "cat /nothing"}, secrets=[{"id": "none", "value": "there"}])
    assert other["msg"].endswith("No such file or directory")


def test_a_killed_step_leaves_no_secret(base):
    args = {"root": base, "name": "app", "from": "base", "secrets": [{"id": "s", "value": SECRET}],
            "layers": [{"run": "sleep 1000", "secrets": ["s"]}]}  # fmt: skip
    program = f"import json, sys; sys.path.insert(0, sys.argv[1]); from {run_module.__module__} import run_module; "
    program += "run_module('image', json.loads(sys.argv[2]))"
    child = subprocess.Popen([sys.executable, "-c", program, str(COLLECTIONS), json.dumps(args)])
    build = Path(base) / "run/build"
    pid, module = wait_for_step(build)
    assert [path for path in holding(base, SECRET) if not path.startswith(str(build))] == []
    os.kill(module, signal.SIGKILL)
    child.wait()
    run_module("image", {**args, "layers": []})
    assert start_time(pid) is None
    assert holding(base, SECRET) == []


def wait_for_step(build):
    """(pid of the step's process once it sleeps, pid of the module)."""
    deadline = time.monotonic() + patient(20)
    while time.monotonic() < deadline:
        time.sleep(0.05)
        with contextlib.suppress(FileNotFoundError, StopIteration, ValueError):
            step = next(build.glob("build-*-1"))
            pid = json.loads((build / "runtime" / step.name / "state.json").read_text())["pid"]
            if "sleep" in Path(f"/proc/{pid}/comm").read_text():
                return pid, json.loads((step / "owner").read_text())["pid"]
    raise AssertionError("the step does not start")


# mounts
def test_a_cache_outlives_builds_until_it_is_pruned(base):
    mount = "--mount=type=cache,target=/cache,mode=0711,uid=5"
    text = f"FROM base\nENV N={{}}\nRUN {mount} echo {{}} >> /cache/log; cat /cache/log > /log\n"
    built(base, text.format(1, 1))
    built(base, text.format(2, 2))
    assert (layers(base)[-1] / "log").read_text() == "1\n2\n"
    assert names(layers(base)[-1]) == ["log"]
    (cache,) = Path(base, "lib/layers/caches").glob("?" * 64)
    assert (stat.S_IMODE(cache.stat().st_mode), cache.stat().st_uid) == (0o711, 5)
    preview = run_module("prune", {"root": base, "build_cache": True}, check=True)
    assert cache.exists()
    pruned = run_module("prune", {"root": base, "build_cache": True})
    assert preview["actions"] == pruned["actions"]
    assert not cache.parent.exists()
    assert pruned["space_reclaimed"] > 0
    assert not run_module("prune", {"root": base, "build_cache": True})["changed"]


def test_steps_take_turns_at_a_locked_cache_and_do_not_share_a_private_one(base):
    def build(name, sharing, command):
        mount = f"type=cache,id=c-{sharing},target=/cache,sharing={sharing}"
        layer = {"run": command, "mounts": [mount]}
        run_module("image", {"root": base, "name": name, "from": "base", "layers": [layer]})

    for sharing, told in (("locked", "1\n1\n"), ("private", "1\n"), ("shared", "1\n1\n")):
        slow = threading.Thread(
            target=build, args=(f"slow-{sharing}", sharing, "echo 1 >> /cache/x; sleep 3; mkdir /1")
        )
        slow.start()
        time.sleep(1.5)
        build(f"quick-{sharing}", sharing, f"echo 1 >> /cache/x; cat /cache/x > /{sharing}")
        slow.join()
        assert (layers(base, f"quick-{sharing}:latest")[-1] / sharing).read_text() == told


def test_what_is_bound_is_not_in_the_layer_and_what_is_written_there_is_lost(base, context):
    (context / "dir").mkdir()
    (context / "dir/seen").write_text("x")
    (context / "dir/hidden").write_text("x")
    (context / ".containerignore").write_text("**/hidden\n")
    text = """FROM base
RUN --mount=target=/src,source=dir,rw ls /src > /list; touch /src/new
RUN --mount=target=/src touch /src/new || echo refused > /ro
RUN --mount=type=tmpfs,target=/var/run/deep,size=1m df -k /run/deep | tail -1 | tr -s ' ' | cut -d' ' -f2 > /size
"""
    built(base, text, context)
    listed, refused_, sized = layers(base)[-3:]
    assert (listed / "list").read_text() == "seen\n"
    assert [names(path) for path in (listed, refused_, sized)] == [["list"], ["ro"], ["size"]]
    assert (sized / "size").read_text() == "1024\n"  # /var/run is a symlink of the image
    assert names(context / "dir") == ["hidden", "seen"]


def test_a_script_in_a_heredoc_names_its_program(base):
    built(base, "FROM base\nRUN <<EOF\n#!/bin/cat\nwords\nEOF\nRUN <<EOF\n#!/bin/sh -e\necho $0 > /name\nEOF\n")
    assert names(layers(base)[-2]) == []
    assert (layers(base)[-1] / "name").read_text() == "/dev/pipes/EOF\n"


# Containerfiles
def test_a_containerfile_and_what_changes_it(base, context):
    (context / "one").write_text("1")
    (context / "two").write_text("2")
    (context / "junk").write_text("junk")
    (context / ".dockerignore").write_text("junk\n.dockerignore\n")
    (context / "Dockerfile").write_text(
        "FROM base AS tools\nRUN echo tool > /tool\nFROM base AS unused\nRUN exit 1\n"
        "FROM base\nARG WORD=none\nCOPY one /one\nCOPY --from=tools /tool /tool\nCOPY . /all\nRUN echo $WORD > /word\n"
    )
    args = {"root": base, "name": "app", "context": str(context), "build_args": {"WORD": "w"}, "labels": {"l": "1"}}
    results = quartet("image", args)
    assert results[0]["actions"][:3] == [
        "image app:latest: build from Dockerfile",
        "image app:latest: build layer: RUN echo tool > /tool",
        "image app:latest: build layer: COPY one /one",
    ]
    assert len(results[0]["actions"]) == 6
    assert names(layers(base)[-2]) == ["all", "all/Dockerfile", "all/one", "all/two"]
    (context / "junk").write_text("other")
    os.utime(context / "one", (1, 1))
    assert not run_module("image", args)["changed"]
    (context / "two").write_text("3")
    result = run_module("image", args)
    assert [action.partition("build layer: ")[2] for action in result["actions"][1:]] == [
        "COPY . /all", "RUN echo $WORD > /word",
    ]  # fmt: skip
    result = run_module("image", {**args, "target": "tools", "build_args": {}})
    assert result["actions"] == ["image app:latest: build from Dockerfile"]
    assert run_module("image", args)["actions"] == ["image app:latest: build from Dockerfile"]


def test_a_file_of_its_own_name_says_what_is_ignored(base, context, tmp_path):
    (context / "a").write_text("")
    (context / "b").write_text("")
    (context / ".dockerignore").write_text("a\n")
    file = tmp_path / "Other"
    file.write_text("FROM base\nCOPY * /d/\n")
    (tmp_path / "Other.dockerignore").write_text("b\n.dockerignore\n")
    run_module("image", {"root": base, "name": "app", "context": str(context), "containerfile": str(file)})
    assert names(layers(base)[-1]) == ["d", "d/a"]


def test_triggers_of_a_base(base, context):
    (context / "f").write_text("x")
    built(base, "FROM base\nONBUILD COPY f /f\nONBUILD RUN cp /f /g\n", name="parent")
    built(base, "FROM parent\nRUN cat /f /g > /h\n", context)
    assert (layers(base)[-1] / "h").read_text() == "xx"
    assert "OnBuild" not in raw(base)["config"]


def test_a_failed_step_is_told_by_its_line(base, context):
    text = "FROM base\n\nRUN touch /one\nRUN echo why; \\\n  exit 7\n"
    (context / "Containerfile").write_text(text)
    result = run_module("image", {"root": base, "name": "app", "context": str(context)})
    assert result["msg"] == "image app:latest: Containerfile:4: 'echo why; exit 7' ended with 7: why"


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ({"containerfile": "/nonexistent"}, "containerfile: '/nonexistent' can't be read: No such file or directory"),
        ({"context": "/nonexistent"}, "context: '/nonexistent' is no directory on the target"),
        ({"context": "/proc/self"}, "context: '/proc/self' has neither Containerfile nor Dockerfile"),
        ({"containerfile": "FORM base\n"}, "containerfile:1: unknown instruction FORM"),
        ({"containerfile": "FROM base\nCOPY a b\n"}, "containerfile:2: COPY: there is no context"),
        ({"containerfile": "FROM base\n", "target": "x"}, "containerfile:1: there is no stage 'x' to be the target"),
        ({"containerfile": "FROM base\n", "from": "base"}, "containerfile: 'FROM base\\n' can't be with from"),
        ({"containerfile": "FROM base\n", "layers": []}, "layers: "),
        ({"containerfile": "FROM base\nUSER nobody-here\nRUN true\n"}, "user: 'nobody-here' is no user"),
        ({"containerfile": "FROM base\nCOPY --chown=nobody-here <<E /x\nE\n"},
         "containerfile:2: COPY --chown=nobody-here <<E /x: 'nobody-here' is no user in the image's /etc/passwd"),
        ({"containerfile": "FROM base\n", "secrets": [{"id": "x"}]}, "secrets[0]: ['id'] needs one of src and value"),
        ({"containerfile": "FROM base\n", "secrets": [{"id": "x", "src": "/a"}, {"id": "x", "src": "/b"}]},
         "secrets[1].id: 'x' stands in the list twice"),
        ({"from": "base", "layers": [{"add": {"src": "https://x/y", "dest": "/"}}]}, "layers[0].add.src: 'https://x/y'"),
        ({"from": "base", "layers": [{"add": {"src": "/x", "dest": "/", "checksum": "x"}}]}, "layers[0].add.checksum"),
        ({"from": "base", "layers": [{"env": {"A": "1"}, "network": "none"}]},
         "layers[0].network: 'none' belongs to run"),
        ({"from": "base", "layers": [{"run": "x", "mounts": ["type=x"]}]}, "layers[0].mounts[0]: 'type=x' is no mount"),
        ({"from": "base", "layers": [{"run": "x", "network": "bridge"}]}, "layers[0].network: 'bridge' is not one of"),
        ({"from": "base", "layers": [{"copy": {"src": ["/etc/passwd", "/etc/group"], "dest": "/x"}}]},
         "layers[0].copy.dest: '/x' takes several sources"),
        ({"from": "base", "layers": [{"copy": {"content": "x", "dest": "/x", "owner": "a b"}}]},
         "layers[0].copy.owner: 'a b' is neither a name nor a number"),
        ({"from": "base", "layers": [{"user": "nobody-here"}, {"run": "true"}]}, "user: 'nobody-here' is no user"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_and_leaves_nothing(base, args, sentence):
    before = run_module("image_info", {"root": base})
    result = run_module("image", {"root": base, "name": "new", **args})
    assert result["msg"].startswith(sentence), result["msg"]
    assert run_module("image_info", {"root": base}) == before
    assert [name for name in os.listdir(f"{base}/lib/layers") if name.startswith(".")] == []


# who follows
class Told(Progress):
    def __init__(self):
        self.lines = []

    def say(self, what, text):
        self.lines.append((time.monotonic(), what, text))


def test_what_a_step_prints_is_told_while_it_runs(base):
    desired = parse_options((*DIRECTIVES, *OPTIONS), {
        "name": "app", "from": "base",
        "layers": [{"run": "true"}, {"run": "echo one; sleep 1; printf 'two\\rthree' >&2; exit 5"}],
    })  # fmt: skip
    told = Told()
    plan = images.plan(Paths.at(base), desired, progress=told)
    with pytest.raises(VesselError, match=r"ended with 5: one \| two \| three"):
        plan.steps[0].do()
    said = [(what, text) for _when, what, text in told.lines]
    assert said[-3:] == [("step 2", "one"), ("step 2", "two"), ("step 2", "three")]
    assert ("step 1", "run true") in said
    assert told.lines[-2][0] - told.lines[-3][0] > 0.5


def test_an_unchanged_context_of_many_files_is_decided_at_once(base, context):
    for number in range(2000):
        path = context / f"d{number % 40}/f{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(number))
    (context / ".dockerignore").write_text("**/*.o\nnode_modules\n!keep.o\n")
    time.sleep(0.2)  # what has just changed is not remembered
    built(base, "FROM base\nCOPY . /app\nRUN true\n", context)
    desired = parse_options((*DIRECTIVES, *OPTIONS), {"name": "app", "context": str(context)})
    times = []
    for _attempt in range(3):
        begun = time.monotonic()
        assert not images.plan(Paths.at(base), desired)
        times.append(time.monotonic() - begun)
    assert min(times) < patient(0.3)
