# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way in which a start can fail says what failed, and leaves nothing: the fixture looks for what is left."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cgroup.manager import open_manager
from ansible_collections.vessel.host.plugins.module_utils._errors import (
    InUseError,
    KernelError,
    NotFoundError,
    SpecError,
    StartError,
    StateError,
    VesselError,
)
from ansible_collections.vessel.host.plugins.module_utils._runtime import create, delete, kill, pause, start, update
from ansible_collections.vessel.host.plugins.module_utils._runtime.run import run
from ansible_collections.vessel.host.plugins.module_utils._runtime.state import load

from .runtime_box import DEV, PROC, mount

pytestmark = pytest.mark.root

FAILING = {
    "bind without source": (
        {"mounts": [mount("/x", "bind", "rbind", source="/none/at/all")]},
        r"^bind /none/at/all on /x: No such file or directory \[ENOENT\]$",
    ),
    "unknown file system": (
        {"mounts": [mount("/x", "nofs")]},
        r"^mount nofs on /x: No such device \[ENODEV\] \(this kernel does not have the file system\)$",
    ),
    "option that is none": ({"mounts": [mount("/x", "tmpfs", "size=big")]}, r"^mount tmpfs on /x: .*\[EINVAL\]$"),
    "overlay without layers": (
        {"mounts": [mount("/", "overlay", "lowerdir=/none", "upperdir=/none", "workdir=/none")]},
        r"^mount overlay on /.*\[ENOENT\]$",
    ),
    "mount point below a file": (
        {"mounts": [mount("/bin/busybox/x", "tmpfs")]},
        r"^mount tmpfs on /bin/busybox/x: .*\[ENOTDIR\]",
    ),
    "device in a file": (
        {"linux__devices": [{"path": "/bin/busybox/x", "type": "c", "major": 1, "minor": 3}]},
        r"^make device /bin/busybox/x: .*\[ENOTDIR\]",
    ),
    "device over a directory": (
        {"linux__devices": [{"path": "/bin", "type": "c", "major": 1, "minor": 3}]},
        r"^mknod /bin: .*|^make device /bin: mknod /bin: Is a directory \[EISDIR\]$",
    ),
    "sysctl that is not there": (
        {"linux__sysctl": {"net.none.at.all": "1"}},
        r"^sysctls\.net\.none\.at\.all: write 1: No such file or directory \[ENOENT\] \(a namespace",
    ),
    "value that a sysctl refuses": (
        {"linux__sysctl": {"net.ipv4.ip_default_ttl": "100000"}},
        r"^sysctls\.net\.ipv4\.ip_default_ttl: write 100000: .*\[EINVAL\]$",
    ),
    "host name too long": ({"hostname": "x" * 65}, r"^hostname: sethostname x+: Invalid argument \[EINVAL\]$"),
    "no command": (
        {"process__args": ["none"]},
        r"^exec none: executable file not found in \$PATH \[ENOENT\] \(the c",
    ),
    "path of no command": (
        {"process__args": ["/none"]},
        r"^exec /none: No such file or directory \[ENOENT\] \(the comm",
    ),
    "command without x": (
        {"process__args": ["/etc/plain"]},
        r"^exec /etc/plain: Permission denied \[EACCES\] \(the f",
    ),
    "directory as command": ({"process__args": ["/etc"]}, r"^exec /etc: Permission denied \[EACCES\]"),
    "oom score": ({"process__oomScoreAdj": 3000}, r"Invalid argument"),
    "limit of a group": ({"linux__resources": {"cpu": {"cpus": "999"}}}, r"write 999 to .*cpuset.*"),
    "terminal without a socket": ({"process__terminal": True}, r"no console socket was given \(use --console-socket\)"),
    "prestart": ({"hooks": {"prestart": [{"path": "/bin/false"}]}}, r"^prestart hook /bin/false ended with 1$"),
    "createRuntime": ({"hooks": {"createRuntime": [{"path": "/none"}]}}, r"^createRuntime hook /none: No such file"),
    "createContainer": (
        {"hooks": {"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo words >&2; exit 3"]}]}},
        r"^createContainer hook /bin/sh ended with 3: words$",
    ),
    "hook without end": (
        {"hooks": {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]}},
        r"^createRuntime hook /bin/sleep took too long$",
    ),
    "no devpts": (
        {"process__terminal": True, "options": {"console_socket": "/none.sock"}},
        r"^connect to the console socket /none.sock: No such file or directory \[ENOENT\]$",
    ),
}


@pytest.mark.parametrize("name", FAILING)
def test_creation_that_fails(box, name):
    changes, words = FAILING[name]
    (box.rootfs / "etc" / "plain").write_text("plain")
    mounts = changes.get("mounts") or []
    changes = {**changes, "mounts": mounts if mounts and mounts[0]["destination"] == "/" else [PROC, DEV, *mounts]}
    with pytest.raises((StartError, KernelError, OSError), match=words):
        box.run("true", **changes)


STARTS = {
    "text": ("no program", r"^exec /etc/command: Exec format error \[ENOEXEC\] \(the file is no program of this arch"),
    "interpreter": ("#!/none\n", r"^exec /etc/command: No such file or directory \[ENOENT\] \(the command, its interp"),
}


@pytest.mark.parametrize("name", STARTS)
def test_start_that_fails(box, name):
    """What only exec can know is told to who calls start; the container is stopped then."""
    content, words = STARTS[name]
    (box.rootfs / "etc" / "command").write_text(content)
    (box.rootfs / "etc" / "command").chmod(0o755)
    with box.created(["/etc/command"]) as state:
        with pytest.raises(StartError, match=words):
            start.start(box.root, state.id)
        os.waitpid(state.pid, 0)
        assert state.status() == "stopped"
    bundle = box.bundle(box.config(["/etc/command"]))
    with pytest.raises(StartError, match=words):
        run(box.root, *bundle)


def test_start_container_hook_that_fails(box):
    hook = box.rootfs / "etc" / "hook"
    hook.write_text("#!/bin/sh\ncat > /etc/state; echo no >&2; exit 4\n")
    hook.chmod(0o755)
    hooks = {"startContainer": [{"path": "/etc/hook", "env": ["PATH=/bin"]}]}
    with box.created("true", hooks=hooks) as state:
        with pytest.raises(StartError, match=r"^startContainer hook /etc/hook ended with 4: no$"):
            start.start(box.root, state.id)
        told = json.loads((box.rootfs / "etc" / "state").read_text())
        assert (told["id"], told["status"], told["pid"], told["bundle"]) == (state.id, "created", 1, state.bundle)
        os.waitpid(state.pid, 0)


def test_hook_after_the_end_is_a_warning(box):
    hooks = {
        "poststart": [{"path": "/bin/sh", "args": ["sh", "-c", "cat > $F"], "env": [f"F={box.top}/s"]}],
        "poststop": [{"path": "/none"}, {"path": "/bin/sh", "args": ["sh", "-c", f"cat > {box.top}/stopped"]}],
    }
    warnings: list[str] = []
    name, directory = box.bundle(box.config("sleep 1000", hooks=hooks))
    create.create(box.root, name, directory)
    state = start.start(box.root, name)
    assert json.loads((box.top / "s").read_text())["status"] == "running"
    Path(directory, "config.json").unlink()
    delete.delete(box.root, name, force=True, warn=warnings.append)
    assert [warning.split(":")[0] for warning in warnings] == ["poststop hook /none"]
    assert json.loads((box.top / "stopped").read_text())["status"] == "stopped"
    assert not state.alive()


def test_poststart_hook_that_fails_stops_the_container(box):
    """runtime-spec 1.3.0, "Lifecycle", step 9; what is left is as runc leaves it: stopped, and to be deleted."""
    hooks = {
        "poststart": [{"path": "/bin/false"}, {"path": "/bin/touch", "args": ["touch", f"{box.top}/second"]}],
        "poststop": [{"path": "/bin/touch", "args": ["touch", f"{box.top}/stopped"]}],
    }
    with box.created("sleep 1000", hooks=hooks) as state:
        with pytest.raises(StartError, match=r"^poststart hook /bin/false ended with 1$"):
            start.start(box.root, state.id)
        assert not state.alive()
        assert state.manager().pids() == []
        assert load(box.root, state.id).status() == "stopped"
        assert not (box.top / "second").exists()
        delete.delete(box.root, state.id)
        assert (box.top / "stopped").exists()


def test_namespace_that_is_gone_is_not_needed_to_delete(box):
    """podman takes the network's file away first."""
    with box.running() as first:
        link = box.top / "netns"
        link.symlink_to(f"/proc/{first.pid}/ns/net")
        namespaces = ["mount", "pid", {"type": "network", "path": str(link)}]
        with box.running(namespaces=namespaces) as state:
            link.unlink()
            delete.delete(box.root, state.id, force=True)


def test_child_that_is_killed(box):
    """By a hook, which is told its pid."""
    script = """kill -9 $(grep -o '"pid": [0-9]*' | grep -o '[0-9]*')"""
    hooks = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]}
    with pytest.raises(StartError, match=r"^set-up: the child ended without a word$"):
        box.run("true", hooks=hooks)


def test_given_up_before_it_is_ready(box):
    name, directory = box.bundle(box.config("true"))
    creation = create.begin(box.root, name, directory)
    creation.channel.close()
    creation.abort()


def test_same_id_twice(box):
    with box.running() as state:
        with pytest.raises(VesselError, match=f"container {state.id} exists already"):
            create.create(box.root, state.id, state.bundle, config=box.config("true", linux__cgroupsPath="/vessel-no"))
        assert state.status() == "running"
    assert not any(os.path.isdir(path) for path in open_manager("/vessel-no").directories())


def test_group_of_another_is_not_taken(box):
    """delete kills all that is in the group."""
    with box.running() as state:
        with pytest.raises(InUseError, match=rf"cgroup {state.cgroup} is in use by pid {state.pid}"):
            box.run("true", linux__cgroupsPath=state.cgroup)
        assert state.status() == "running"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a b", "a\n", "\0", "x" * 1025])
def test_ids_that_are_no_names(box, name):
    config = box.config("true", linux__cgroupsPath=f"{box.group}/x")
    with pytest.raises(VesselError, match="is not a container id"):
        create.create(box.root, name, str(box.top), config=config)


# the life cycle
def test_what_the_life_cycle_allows(box):
    with box.created("sleep 1000") as state:
        for verb in (delete.delete, pause.resume):
            with pytest.raises(StateError, match="is created"):
                verb(box.root, state.id)
        start.start(box.root, state.id)
        with pytest.raises(StateError, match="is running; start needs it created"):
            start.start(box.root, state.id)
        with pytest.raises(StateError, match="is running; delete needs it stopped"):
            delete.delete(box.root, state.id)
        pause.pause(box.root, state.id)
        assert state.status() == "paused"
        with pytest.raises(StateError, match="is paused"):
            pause.pause(box.root, state.id)
        update.update(box.root, state.id, {"pids": {"limit": 99}})
        assert state.manager().read()["pids"]["limit"] == 99
        pause.resume(box.root, state.id)
        kill.kill(box.root, state.id, signal.SIGKILL)
        os.waitpid(state.pid, 0)
        assert state.status() == "stopped"
        with pytest.raises(StateError, match="is stopped; there is nothing to signal"):
            kill.kill(box.root, state.id, signal.SIGTERM)
        delete.delete(box.root, state.id)
        with pytest.raises(NotFoundError, match=f"no such container: {state.id}"):
            delete.delete(box.root, state.id)


def test_of_two_starters_one_gets_it(box):
    with box.created("sleep 1000") as state:
        channel = start.knock(state)
        with pytest.raises(StateError, match="is not waiting to be started"):
            start.knock(state)
        start.hear(state, channel)
        channel.close()
        assert state.status() == "running"


def test_paused_container_is_deleted_at_once(box):
    with box.running() as state:
        pause.pause(box.root, state.id)
        delete.delete(box.root, state.id, force=True)
        assert not state.alive()


def test_created_container_is_deleted(box):
    with box.created("true") as state:
        delete.delete(box.root, state.id, force=True)
        assert not Path(f"/proc/{state.pid}").exists()


def test_processes_without_a_namespace_of_their_own_go_too(box):
    """Nothing but the group tells whose they are, when the first process has ended."""
    with box.running("sleep 1000 & sleep 1000 & exit 0", namespaces=["mount"]) as state:
        os.waitpid(state.pid, 0)
        left = state.manager().pids()
        assert len(left) == 2
        delete.delete(box.root, state.id)
        assert not any(Path(f"/proc/{pid}/exe").exists() for pid in left)


def test_creation_killed_before_it_wrote_its_state(box):
    (Path(box.root) / "half").mkdir(parents=True)
    delete.delete(box.root, "half", force=True)
    delete.delete(box.root, "half", force=True)
    with pytest.raises(NotFoundError):
        load(box.root, "half")


def test_bundle_that_is_none(box):
    with pytest.raises(SpecError, match="there is none in"):
        create.create(box.root, "x", str(box.top))
    (box.top / "config.json").write_text("{")
    with pytest.raises(SpecError, match="is not JSON"):
        create.create(box.root, "x", str(box.top))
