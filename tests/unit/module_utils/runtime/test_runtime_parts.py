# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small parts of the runtime that need no container: messages, states, hooks, plans."""

from __future__ import annotations

import errno
import json
import os
import resource
import time

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import (
    KernelError,
    NotFoundError,
    StartError,
    StateError,
    VesselError,
)
from ansible_collections.vessel.host.plugins.module_utils._kernel import namespaces
from ansible_collections.vessel.host.plugins.module_utils._runtime import gate, hooks, launch, spawn
from ansible_collections.vessel.host.plugins.module_utils._runtime.channel import Channel, failure, raised
from ansible_collections.vessel.host.plugins.module_utils._runtime.state import State, directory, ids, load

# messages
ERRORS = [
    (
        "mount proc on /proc",
        KernelError("mount proc on", "/proc", errno.EPERM, hint="why"),
        "mount proc on /proc: Operation not permitted [EPERM] (why)",
    ),
    ("sysctl", KernelError("write 1 to", "net.x", errno.EINVAL), "sysctl: write 1 to net.x: Invalid argument [EINVAL]"),
    ("stdio", FileNotFoundError(errno.ENOENT, "x", "/dev/x"), "stdio: /dev/x: No such file or directory [ENOENT]"),
    ("stdio", OSError(errno.EIO, "x"), "stdio: Input/output error [EIO]"),
    ("user and capabilities", StartError("cwd /x: is gone", errno=2, hint="look"), "cwd /x: is gone (look)"),
    ("hostname", VesselError("odd", hint="even"), "hostname: odd (even)"),
    ("exec", ValueError("odd"), "exec: ValueError: odd"),
]


@pytest.mark.parametrize(("step", "error", "text"), ERRORS)
def test_error_of_a_child_on_the_other_side(step, error, text):
    ours, theirs = Channel.pair()
    theirs.send(**failure(step, error))
    result = raised(ours.receive() or {})
    assert (str(result), result.errno, result.step) == (text, getattr(error, "errno", 0), step)
    ours.close()
    theirs.close()


def test_end_of_a_channel():
    ours, theirs = Channel.pair()
    theirs.send(pid=7)
    theirs.close()
    assert ours.receive() == {"pid": 7}
    assert ours.receive() is None
    ours.close()
    ours, theirs = Channel.pair()
    ours.send(unread=True)
    theirs.close()
    assert ours.receive() is None
    ours.close()


# state
def state(root, name="one", **data):
    os.makedirs(f"{root}/{name}")
    common = {"id": name, "pid": 0, "start_time": 0, "bundle": "/b", "created": "now", "cgroup": "/none/of/ours"}
    return State(str(root), {**common, "rootfs": "/r", "annotations": {}, **data})


def test_state_is_kept(tmp_path):
    kept = state(tmp_path, hooks={"poststop": [{"path": "/x"}]}, seccomp_flags=2, capabilities={})
    kept.save(b"program")
    found = load(str(tmp_path), "one")
    assert found.data == kept.data
    assert found.seccomp() == (b"program", 2)
    assert (found.hooks("poststop"), found.hooks("poststart")) == ([{"path": "/x"}], [])
    assert os.stat(f"{tmp_path}/one/state.json").st_mode & 0o077 == 0
    assert ids(str(tmp_path)) == ["one"]
    assert ids(str(tmp_path / "none")) == []


def test_state_without_a_filter(tmp_path):
    state(tmp_path).save()
    assert load(str(tmp_path), "one").seccomp() == (None, 0)


def test_process_is_known_by_its_start_too(tmp_path):
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    ours = state(tmp_path, pid=os.getpid(), start_time=ticks)
    assert ours.alive()
    os.close(ours.pidfd())
    other = state(tmp_path, "two", pid=os.getpid(), start_time=ticks + 1)
    assert not other.alive()
    assert other.pidfd() == -1
    assert other.to_oci()["status"] == "stopped"
    with pytest.raises(StateError, match=r"container two is stopped; exec needs it running"):
        other.require("exec")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a\n", "\u00e4", "a\0"])
def test_names_that_are_none(name):
    with pytest.raises(VesselError, match="is not a container id"):
        directory("/root", name)


@pytest.mark.parametrize("name", ["a", "A-b_c.d+e", "...", "1"])
def test_names(name):
    assert directory("/root", name) == f"/root/{name}"


def test_no_state(tmp_path):
    with pytest.raises(NotFoundError, match=r"no such container: none .it does not exist below"):
        load(str(tmp_path), "none")


# the gate
def test_gate_opens_once(tmp_path):
    sock = gate.listen(str(tmp_path))
    knocking = gate.knock(str(tmp_path), "one")
    assert os.listdir(tmp_path) == []
    with pytest.raises(StateError, match="container one is not waiting to be started"):
        gate.knock(str(tmp_path), "one")
    connection, dummy = sock.accept()
    connection.close()
    assert knocking.receive() is None
    knocking.close()
    sock.close()


def test_gate_that_nobody_watches(tmp_path):
    gate.listen(str(tmp_path)).close()
    with pytest.raises(StateError, match="is not waiting"):
        gate.knock(str(tmp_path), "one")


def test_gate_of_a_long_path(tmp_path):
    deep = tmp_path / ("x" * 100) / ("y" * 100)
    deep.mkdir(parents=True)
    sock = gate.listen(str(deep))
    gate.knock(str(deep), "one").close()
    sock.close()


# hooks
def shell(script, **more):
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], **more}


def test_hooks_get_the_state(tmp_path):
    hooks.run_all({"id": "one"}, [shell(f"cat > {tmp_path}/a"), shell(f"env > {tmp_path}/b")], "prestart")
    assert json.loads((tmp_path / "a").read_text()) == {"id": "one"}
    assert "PATH=/usr/bin:/bin" in (tmp_path / "b").read_text()


def test_first_hook_that_fails_ends_it(tmp_path):
    with pytest.raises(StartError, match=r"^createRuntime hook /bin/sh ended with 3: out err$"):
        hooks.run_all(
            {}, [shell("echo -n 'out '; echo err >&2; exit 3"), shell(f"touch {tmp_path}/no")], "createRuntime"
        )
    with pytest.raises(StartError, match=r"^prestart hook /none: No such file or directory \[ENOENT\]$"):
        hooks.run_all({}, [{"path": "/none"}], "prestart")
    assert os.listdir(tmp_path) == []


def test_hook_that_takes_too_long():
    before = time.monotonic()
    with pytest.raises(StartError, match="took too long"):
        hooks.run_all({}, [shell("exec sleep 100", timeout=0.1)], "prestart")
    assert time.monotonic() - before < 10


def test_hook_that_leaves_a_large_state_unread():
    hooks.run_all({"annotations": {"large": "x" * 1_000_000}}, [shell("exit 0")], "prestart")


def test_hooks_after_the_fact_all_run(tmp_path):
    warnings = []
    hooks.run_after(
        {}, [shell("exit 1"), {"path": "/none"}, shell(f"touch {tmp_path}/yes")], "poststop", warnings.append
    )
    assert len(warnings) == 2
    assert os.listdir(tmp_path) == ["yes"]


# plans
def test_plan_of_a_process():
    limit = {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 2**64 - 1}
    spec = {"args": ["x"], "cwd": "/", "env": ["A=b=c", "EMPTY=", "NONE"], "rlimits": [limit], "user": {"uid": 3}}
    plan = launch.Plan(spec, None)
    assert plan.env == {"A": "b=c", "EMPTY": "", "NONE": ""}
    assert plan.rlimits == [("RLIMIT_NOFILE", resource.RLIMIT_NOFILE, 10, resource.RLIM_INFINITY)]
    assert (plan.uid, plan.gid, plan.groups, plan.umask) == (3, 0, [], None)
    assert plan.caps == {key: [] for key in ("bounding", "effective", "permitted", "inheritable", "ambient")}
    assert plan.label == ("", "")


def test_command_is_found_as_execvp_does(tmp_path):
    for name, mode in (("first/run", 0o644), ("second/run", 0o755), ("second/only", 0o644)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    path = f"PATH=/none:{tmp_path}/first:{tmp_path}/second"
    assert launch.find(launch.Plan({"args": ["run"], "cwd": "/", "env": [path]}, None)) == f"{tmp_path}/second/run"
    for args, words in (
        (["only"], r"exec only: executable file is not executable \[EACCES\]"),
        (["none"], r"exec none: executable file not found in \$PATH \[ENOENT\]"),
        ([f"{tmp_path}/first/run"], r"first/run: Permission denied \[EACCES\]"),
        ([f"{tmp_path}/first"], r"first: Permission denied \[EACCES\]"),
        ([f"{tmp_path}/none"], r"none: No such file or directory \[ENOENT\]"),
    ):
        with pytest.raises(StartError, match=words):
            launch.find(launch.Plan({"args": args, "cwd": "/", "env": [path]}, None))


def kinds(**paths):
    return {
        "linux": {"namespaces": [{"type": kind, **({"path": path} if path else {})} for kind, path in paths.items()]}
    }


def test_namespaces_of_the_clone():
    config = kinds(mount="", pid="", cgroup="", network="/run/netns/x")
    assert spawn.new_flags(config) == namespaces.CLONE_NEWNS | namespaces.CLONE_NEWPID
    config = kinds(mount="", time="")
    assert spawn.new_flags(config) == namespaces.CLONE_NEWNS | namespaces.CLONE_NEWTIME
    config["linux"]["timeOffsets"] = {"boottime": {"secs": 1}}
    assert spawn.new_flags(config) == namespaces.CLONE_NEWNS


def test_who_joins_what():
    joins = [("network", 3), ("pid", 4), ("time", 5), ("mount", 6)]
    config = kinds(network="/n", pid="/p", time="/t", mount="/m")
    assert spawn.sides(config, joins) == ([("pid", 4), ("time", 5)], [("network", 3), ("mount", 6)])
    config = kinds(network="/n", pid="/p", time="/t", user="")
    assert spawn.sides(config, joins[:3]) == (joins[:3], [])
