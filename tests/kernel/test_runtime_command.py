# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vessel-runtime on bundles of ``runc spec``, judged from inside, and by what runc does with the same bundle."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

COLLECTIONS = Path(__file__).parents[2] / "collection"
SCRIPT = f"""#!{sys.executable} -IS
import sys
sys.path.insert(0, {str(COLLECTIONS)!r})
from ansible_collections.vessel.host.plugins.module_utils._cli.runtime import main
sys.exit(main())
"""


class Runtime:
    """A runtime's command with a root of its own, and a bundle."""

    def __init__(self, command: str, top: Path) -> None:
        self.command = [command, "--root", str(top / f"state-{Path(command).name}")]
        self.bundle = top / "bundle"

    def __call__(self, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """With files for its output: a container that goes on would keep a pipe open."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
            done = subprocess.run(
                [*self.command, *args], **streams, timeout=60, check=False, cwd=self.bundle, **options
            )
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, out.read(), err.read())


@pytest.fixture(scope="module")
def top(tmp_path_factory):
    top = tmp_path_factory.mktemp("runtime")
    binaries = top / "bundle" / "rootfs" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (binaries / "busybox").chmod(0o755)
    for name in (
        "sh",
        "cat",
        "id",
        "sleep",
        "hostname",
        "mount",
        "ls",
        "env",
        "test",
        "readlink",
        "stat",
        "kill",
        "ps",
    ):
        (binaries / name).symlink_to("busybox")
    script = top / "vessel-runtime"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    return top


@pytest.fixture
def runtime(top):
    runtime = Runtime(str(top / "vessel-runtime"), top)
    (runtime.bundle / "config.json").unlink(missing_ok=True)
    subprocess.run(["runc", "spec"], cwd=runtime.bundle, check=True)
    yield runtime
    for name in runtime("list", "-q").stdout.split():
        runtime("delete", "-f", name)
    assert not list(Path("/sys/fs/cgroup").glob("*/vessel-runtime/*"))


def config(runtime: Runtime, *args: str, **changes: Any) -> dict[str, Any]:
    """runc's config.json with another command, and what a test changes of it (a.b.c as a__b__c)."""
    path = runtime.bundle / "config.json"
    body = json.loads(path.read_text())
    body["process"]["terminal"] = False
    # No CAP_SYS_RESOURCE on every machine that runs this: nothing may ask for more than there is.
    body["process"]["rlimits"] = []
    if args:
        body["process"]["args"] = list(args)
    for name, value in changes.items():
        *parents, last = name.split("__")
        place = body
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    path.write_text(json.dumps(body))
    return dict(body)


def inside(runtime: Runtime, script: str, **changes: Any) -> str:
    config(runtime, "sh", "-c", script, **changes)
    done = runtime("run", "once")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_life_of_a_container(runtime):
    config(runtime, "sleep", "100")
    assert runtime("create", "--pid-file", "pid", "life").returncode == 0
    state = json.loads(runtime("state", "life").stdout)
    assert (state["status"], state["id"], state["bundle"]) == ("created", "life", str(runtime.bundle))
    assert state["pid"] == int((runtime.bundle / "pid").read_text())
    assert Path(f"/proc/{state['pid']}/comm").read_text() != "sleep\n"
    assert runtime("start", "life").returncode == 0
    assert Path(f"/proc/{state['pid']}/comm").read_text() == "sleep\n"
    assert json.loads(runtime("state", "life").stdout)["status"] == "running"
    assert runtime("start", "life").returncode == 1
    assert "running; delete needs it stopped" in runtime("delete", "life").stderr
    assert runtime("pause", "life").returncode == 0
    assert json.loads(runtime("state", "life").stdout)["status"] == "paused"
    assert runtime("resume", "life").returncode == 0
    assert runtime("update", "--memory", "33554432", "--pids-limit", "17", "life").returncode == 0
    assert Path("/sys/fs/cgroup/pids/vessel-runtime/life/pids.max").read_text() == "17\n"
    assert runtime("exec", "life", "sh", "-c", "exit 7").returncode == 7
    assert runtime("kill", "life", "KILL").returncode == 0
    while json.loads(runtime("state", "life").stdout)["status"] != "stopped":
        pass
    assert runtime("delete", "life").returncode == 0
    assert "no such container: life" in runtime("state", "life").stderr
    assert not Path(runtime.command[2], "life").exists()


def test_exit_code_and_output_of_a_foreground_run(runtime):
    config(runtime, "sh", "-c", "echo out; echo err >&2; exit 9")
    done = runtime("run", "once")
    assert (done.returncode, done.stdout, done.stderr) == (9, "out\n", "err\n")
    assert runtime("list", "-q").stdout == ""


@pytest.mark.parametrize("kind", ["mnt", "pid", "net", "ipc", "uts", "cgroup"])
def test_namespaces_are_new(runtime, kind):
    linux = config(runtime)["linux"]
    kinds = [{"type": name} for name in ("mount", "pid", "network", "ipc", "uts", "cgroup")]
    assert linux["namespaces"]
    assert (
        inside(runtime, f"readlink /proc/self/ns/{kind}", linux__namespaces=kinds)
        != f"{os.readlink(f'/proc/self/ns/{kind}')}\n"
    )


def by_both(runtime: Runtime, script: str, **changes: Any) -> tuple[str, str]:
    """What the script says under ours and under runc."""
    ours = inside(runtime, script, **changes)
    theirs = subprocess.run(
        ["runc", "--root", str(runtime.bundle / "runc"), "run", "theirs"],
        cwd=runtime.bundle,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert theirs.returncode == 0, theirs.stderr
    return ours, theirs.stdout


@pytest.mark.parametrize(
    "script",
    [
        "cat /proc/self/status | busybox grep -E '^(Uid|Gid|Groups|Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp):'",
        "busybox awk '{print $5}' /proc/self/mountinfo | busybox grep -v cgroup | busybox sort",
        "busybox awk 'length($2) > 1 {print $2, $3}' /proc/mounts | busybox grep -v cgroup | busybox sort",
        "ls -ld /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty | busybox awk '{print $1, $3, $5, $6}'",
        "ls -l /dev/fd /dev/stdin /dev/stdout /dev/stderr /dev/ptmx | busybox awk '{print $1, $9, $10, $11}'",
        "hostname; env | busybox sort; busybox pwd; id",
        "cat /proc/kcore /proc/keys /proc/timer_list; ls /sys/firmware /proc/acpi",
        "for f in /proc/sys/kernel/hostname /proc/sysrq-trigger; do (echo 1 > $f) 2>/dev/null; echo $?; done",
        "(echo 1 > /file) 2>&1; mount -t tmpfs none /bin 2>&1",
        "ps -o args | busybox grep -v -e ps -e exe",  # busybox execs itself as exe
        "cat /proc/self/limits",
    ],
)
def test_same_as_runc(runtime, script):
    config(runtime)
    namespaces = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]
    ours, theirs = by_both(runtime, f"{script}; true", linux__namespaces=namespaces)
    assert ours == theirs
    assert ours


def test_hooks_run_in_their_order_and_get_the_state(runtime, tmp_path):
    log = tmp_path / "log"
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\nstate=$(cat)\necho $1 $(echo "$state" | grep -o \'"status": "[a-z]*"\') >> {log}\n')
    hook.chmod(0o755)
    kinds = ("prestart", "createRuntime", "poststart", "poststop")
    hooks = {kind: [{"path": str(hook), "args": ["hook", kind]}] for kind in kinds}
    config(runtime, "sleep", "0.1", hooks=hooks)
    assert runtime("run", "once").returncode == 0
    assert [line.split()[0] for line in log.read_text().splitlines()] == list(kinds)
    assert '"creating"' in log.read_text().splitlines()[0]


def test_failing_hook_fails_the_creation(runtime):
    config(runtime, "sleep", "1", hooks={"createRuntime": [{"path": "/bin/false"}]})
    done = runtime("create", "once")
    assert done.returncode == 1
    assert "createRuntime hook /bin/false ended with 1" in done.stderr
    assert runtime("list", "-q").stdout == ""


def test_user_namespace(runtime):
    config(runtime)
    namespaces = [{"type": kind} for kind in ("user", "mount", "pid", "network", "ipc", "uts")]
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    script = "id -u; cat /proc/self/uid_map"
    found = inside(
        runtime,
        script,
        linux__namespaces=namespaces,
        linux__uidMappings=mapping,
        linux__gidMappings=mapping,
        mounts=[{"destination": f"/{name}", "type": kind} for name, kind in (("proc", "proc"), ("dev", "tmpfs"))],
        linux__maskedPaths=[],
        linux__readonlyPaths=[],
        root__readonly=False,
    )
    assert found.split() == ["0", "0", "100000", "65536"]


REFUSED = [
    ({"linux__intelRdt": {"closID": "x"}}, "linux.intelRdt"),
    ({"linux__personality": {"domain": "LINUX32"}}, "linux.personality"),
    ({"process__apparmorProfile": "profile"}, "process.apparmorProfile"),
    ({"process__selinuxLabel": "label"}, "process.selinuxLabel"),
    ({"process__scheduler": {"policy": "SCHED_RR"}}, "process.scheduler"),
    ({"process__args": []}, "process.args"),
    ({"process__cwd": "relative"}, "process.cwd"),
    ({"process__capabilities": {"bounding": ["CAP_FLY"]}}, "CAP_FLY"),
    ({"process__rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]}, "RLIMIT_X"),
    ({"linux__namespaces": [{"type": "moon"}]}, "'moon'"),
    ({"linux__namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "pid"}]}, "pid stands there twice"),
    ({"linux__namespaces": [{"type": "pid"}]}, "mount is missing"),
    ({"linux__namespaces": [{"type": "mount"}, {"type": "network", "path": "/no/such"}]}, "/no/such"),
    ({"linux__sysctl": {"kernel.panic": "1"}}, "kernel.panic"),
    ({"mounts": [{"destination": "relative", "type": "tmpfs"}]}, "mounts[0].destination"),
    ({"linux__cgroupsPath": "/a/../../b"}, "linux.cgroupsPath"),
    ({"linux__seccomp": {"defaultAction": "SCMP_ACT_NOTIFY"}}, "defaultAction"),
    ({"ociVersion": "2.0.0"}, "ociVersion"),
    ({"windows": {"x": 1}}, "windows"),
    ({"root__path": "nowhere"}, "root.path"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=[words for dummy, words in REFUSED])
def test_what_is_not_there_is_refused_by_name(runtime, changes, words):
    config(runtime, "sleep", "1", **changes)
    done = runtime("create", "once")
    assert done.returncode == 1
    assert "config.json" in done.stderr
    assert words in done.stderr
    assert runtime("list", "-q").stdout == ""
    assert not Path("/sys/fs/cgroup/pids/vessel-runtime/once").exists()


@pytest.mark.parametrize(
    ("link", "to"),
    [("proc", "/"), ("proc", "../../../../proc"), ("dev", "/etc"), ("sys", ".."), ("etc", "/../../../../etc")],
)
def test_hostile_image_leads_nowhere(runtime, tmp_path, link, to):
    """Mount points that are symlinks to outside: everything stays below the image's root."""
    rootfs = tmp_path / "rootfs"
    subprocess.run(["cp", "-a", f"{runtime.bundle}/rootfs", str(rootfs)], check=True)
    for name in ("proc", "dev", "sys", "etc"):
        if (rootfs / name).is_dir() and not (rootfs / name).is_symlink():
            subprocess.run(["rm", "-rf", str(rootfs / name)], check=True)
    (rootfs / link).symlink_to(to)
    before = mounts_of(tmp_path)
    config(runtime, "sh", "-c", "true", root__path=str(rootfs), root__readonly=False)
    runtime("run", "once")  # it may work or be refused
    assert mounts_of(tmp_path) == before
    assert runtime("list", "-q").stdout == ""


def mounts_of(path: Path) -> list[str]:
    """The host's mounts in which the path stands, and those where a way out would have led."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(path) in line or line.split()[4] in ("/", "/etc", "/proc", "/dev", "/sys")]


def test_error_is_logged_as_podman_reads_it(runtime, tmp_path):
    log = tmp_path / "log"
    done = subprocess.run(
        [*runtime.command, "--log", str(log), "--log-format", "json", "start", "nobody"],
        capture_output=True,
        text=True,
        check=False,
    )
    entry = json.loads(log.read_text())
    assert done.returncode == 1
    assert entry["level"] == "error"
    assert entry["msg"].startswith("no such container: nobody (it does not exist below /")


def test_exec_that_can_not_start_says_why_in_numbers(runtime, tmp_path):
    config(runtime, "sleep", "1000")
    assert runtime("run", "-d", "told").returncode == 0
    log = tmp_path / "log"
    assert runtime("--log", str(log), "--log-format", "json", "exec", "told", "nonsense").returncode == 255
    entry = json.loads(log.read_text())
    assert (entry["step"], entry["errno"]) == ("exec", errno.ENOENT)


def test_systemd_cgroup_is_refused_where_there_is_none(runtime):
    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd runs here")
    assert "systemd does not run here" in runtime("--systemd-cgroup", "list").stderr or "systemd" in runtime.command


def test_features_and_version(runtime):
    assert "mount" in json.loads(runtime("features").stdout)["linux"]["namespaces"]
    assert "version" in runtime("--version").stdout
