# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users of other collections for containers asked for and suffered from: thirty pains, each a test by its number.

Those that are no matter of one host, or of a capability that this collection does not have yet, stand in ELSEWHERE.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.tests import leftovers

from .options_box import Box, answers, until
from .power import reboot, restore, supervisor
from .warm import NET, PORT, TRAP, WarmPlace

pytestmark = pytest.mark.root
ONE = [{"name": "one"}]
ELSEWHERE = {
    15: "progress while a task runs is a callback plugin's; the last words of a step that failed are tested (13)",
    18: "a connection plugin is a capability of its own",
    19: "becoming another user and async inside a container go through a connection plugin; user is tested for exec",
    20: "an inventory plugin is a capability of its own",
    23: "units of systemd: a container is declared here, and not by a generated unit",
    26: "an update over many hosts; on one host the task ends when the container is healthy, or fails (16)",
    28: "without root: every module says that it needs root and how to get it (tests/kernel/test_modules_host_info.py)",
    30: "a file that is on the controller alone; an archive on the target is a row of the image's options",
}


def test_every_pain_has_a_test_or_a_reason() -> None:
    tested = {int(match[1]) for name in globals() if (match := re.match(r"test_pain_(\d\d)_", name))}
    assert tested | set(ELSEWHERE) == set(range(1, 31))
    assert not tested & set(ELSEWHERE)


def unchanged(place: WarmPlace, module: str, **args: Any) -> None:
    for check in (True, False):
        result = place.task(module, check=check, **args)
        assert not result["changed"], result["actions"]


# what changes though nothing did


def test_pain_01_defaults_of_the_engine_are_no_difference(shared: WarmPlace, box: Box) -> None:
    """An image that says something of everything, and a container that is declared with nothing but it."""
    image = {
        "from": "bb", "cmd": ["sh", "-c", TRAP], "env": {"A": "1"}, "user": "nobody", "working_dir": "/tmp",
        "exposed_ports": ["80"], "volumes": ["/data"], "labels": {"a": "b"}, "stop_signal": "SIGTERM",
        "healthcheck": {"test": "true", "interval": "1m"},
    }  # fmt: skip
    shared.task("image", name="thing", **image)
    shared.task("container", name="box", image="thing")
    process = box.process
    for again in (
        {},
        {"image": "thing"},
        {"image": "thing:latest"},
        {"image": "thing", "restart_policy": "no", "memory": 0},
    ):
        unchanged(shared, "container", name="box", **again)
    assert box.process == process
    box.remove()
    shared.task("image", name="thing", state="absent")


def test_pain_02_words_of_the_command_are_the_commands_own(shared: WarmPlace, box: Box) -> None:
    command = ["sh", "-c", TRAP, "--memory=1g", "--network", "host", "-v", "/:/host", "--rm"]
    box.make(command=command, log_options={"max_size": "10m"}, ulimits=["nofile:100:200"], pid_mode="private",
             healthcheck={"test": ["CMD", "true"], "interval": "1m"})  # fmt: skip
    assert box.proc("cmdline").split("\0")[:-1] == command
    same = {"log_options": {"max-size": "10240k"}, "ulimits": ["nofile=100:200"]}
    unchanged(
        shared, "container", name="box", command=command, healthcheck={"test": ["CMD", "true"], "interval": 60}, **same
    )


@pytest.mark.parametrize("empty", [[], ""])
def test_pain_03_a_declared_empty_command_is_no_change(shared: WarmPlace, box: Box, empty: Any) -> None:
    """The image has a command, and an entrypoint beside it."""
    shared.quartet(
        "container", {"name": "box", "image": "entry", "networks": [], "command": empty, "stop_timeout": 0.1}
    )
    wanted = ["/bin/sleep", "7000"] if empty == [] else ["/bin/sleep", "7000", "7001"]
    assert box.proc("cmdline").split("\0")[:-1] == wanted


def test_pain_04_spellings_of_networks_and_ports_are_no_change(shared: WarmPlace, box: Box) -> None:
    box.make(networks=ONE, published_ports=[f"{PORT + 1}:80"])
    for ports in (
        f"0.0.0.0:{PORT + 1}:80",
        f"{PORT + 1}:80/tcp",
        f"0.0.0.0:{PORT + 1}:80/TCP",
        f"{PORT + 1}-{PORT + 1}:80-80",
    ):
        unchanged(shared, "container", name="box", published_ports=[ports])
    unchanged(shared, "container", name="box", networks=[{"name": "one", "aliases": []}])
    address = box.addresses()[0]
    shared.task("container", name="box", networks=[{"name": "one", "ipv4_address": address}])
    assert box.addresses() == [address]
    box.remove()
    shared.task("container", name="box", image="bb")
    unchanged(shared, "container", name="box", networks=None)
    box.remove()
    shared.task("network", name="default", state="absent")


def test_pain_05_a_network_is_not_made_anew_and_is_enforced(shared: WarmPlace, box: Box) -> None:
    shared.task("network", name="thing", subnet=f"{NET}7.0/24")
    box.make(networks=[{"name": "thing"}])
    link, process = Path(f"/sys/class/net/{shared.paths.link('br', 'thing')}/ifindex"), box.process
    number = link.read_text()
    for same in ({}, {"subnet": f"{NET}7.0/24"}, {"gateway": f"{NET}7.1", "mtu": "1500", "driver": "bridge"}):
        unchanged(shared, "network", name="thing", **same)
    shared.quartet("network", {"name": "thing", "mtu": 1400, "internal": True})
    assert (link.read_text(), box.process) == (number, process)
    box.remove()
    shared.task("network", name="thing", state="absent")


# what does not change though something did


def test_pain_06_real_changes_are_made(shared: WarmPlace, box: Box) -> None:
    box.make()
    shared.task("container", name="box", restart_policy="always")
    pid = box.pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: box.status["status"] == "running" and box.pid != pid)
    shared.task("container", name="box", restart=True, env={"NEW": "1"}, memory="50m")
    assert box.environ()["NEW"] == "1"
    assert box.limit("memory", "memory.limit_in_bytes") == str(50 << 20)
    shared.task("container", name="box", restart_policy=False)  # as YAML reads the word no
    assert box.facts()["config"].get("restart_policy", "no") == "no"


def test_pain_06_a_new_image_of_the_same_name_is_noticed(shared: WarmPlace, box: Box) -> None:
    shared.task("image", name="thing", **{"from": "bb", "layers": [{"run": "echo one > /version"}]})
    box.make(image="thing")
    shared.task("image", name="thing", **{"from": "bb", "layers": [{"run": "echo two > /version"}]})
    told = shared.quartet("container", {"name": "box", "image": "thing"})[0]
    assert told["actions"] == ["container box: set image (recreate)"]
    assert box.read("/version") == "two\n"
    box.remove()
    shared.task("image", name="thing", state="absent")


def test_pain_07_a_start_is_a_start_and_a_restart_needs_but_a_name(shared: WarmPlace, box: Box) -> None:
    box.make()
    box.path("/written").touch()
    shared.task("container", name="box", state="stopped")
    told = shared.quartet("container", {"name": "box"})[0]
    assert told["actions"] == ["container box: start"]
    assert box.path("/written").exists()
    process = box.process
    shared.task("container", name="box", restart=True)
    assert box.process != process
    assert box.path("/written").exists()


# under the running process


def test_pain_08_limits_change_in_place_and_each_alone(shared: WarmPlace, box: Box) -> None:
    box.make(memory="64m", cpus=0.5, pids_limit=50)
    process = box.process
    shared.quartet("container", {"name": "box", "memory": "96m"})
    limits = [
        box.limit("memory", "memory.limit_in_bytes"),
        box.limit("cpu", "cpu.cfs_quota_us"),
        box.limit("pids", "pids.max"),
    ]
    assert limits == [str(96 << 20), "50000", "50"]
    assert box.process == process


def test_pain_08_a_configuration_without_touching_the_state(shared: WarmPlace, box: Box) -> None:
    box.make(state="present")
    shared.quartet("container", {"name": "box", "state": "present", "memory": "96m"})
    assert box.facts()["state"] == "created"
    shared.task("container", name="box")
    process = box.process
    shared.quartet("container", {"name": "box", "state": "present", "memory": "64m"})
    assert box.process == process


def test_pain_09_labels_of_a_running_container(shared: WarmPlace, box: Box) -> None:
    box.make(labels={"a": "1", "b": "2"})
    process = box.process
    shared.quartet("container", {"name": "box", "labels": {"b": "3"}})
    assert box.facts()["labels"] == {"b": "3"}
    assert box.process == process


# check mode


def world(place: WarmPlace) -> dict[str, Any]:
    """All that there is: of the installation each file with when it was written, and what is global to the kernel."""
    found: dict[str, Any] = {}
    for directory, dummy, files in os.walk(place.root):
        for path in [directory, *(f"{directory}/{name}" for name in files)]:
            info = os.lstat(path)
            found[path] = (info.st_mtime_ns, info.st_size)
    mine = [
        name
        for name in os.listdir("/sys/class/net")
        if any(name == place.paths.link("br", net) for net in ("one", "two", "n"))
    ]
    rules = ["nft", "list", "table", "inet", place.paths.nft_table]
    found["kernel"] = (
        sorted(mine),
        subprocess.run(rules, capture_output=True, text=True, timeout=20, check=False).stdout,
    )
    found["mounts"] = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if place.root in line]
    return found


STACK = {
    "name": "s",
    "images": {"thing": {"from": "bb", "layers": [{"run": "touch /x"}]}},
    "networks": {"n": {"subnet": f"{NET}8.0/24"}},
    "volumes": {"v": {}},
    "containers": {
        "c": {
            "image": "thing",
            "networks": [{"name": "n"}],
            "volumes": ["v:/v"],
            "secrets": [{"name": "k", "content": "x"}],
        }
    },
}


@pytest.mark.parametrize(
    ("module", "args"),
    [
        ("stack", STACK),
        ("image", {"name": "thing", "from": "bb", "layers": [{"run": "touch /x"}], "cmd": "x"}),
        ("image", {"name": "thing", "source": "template", "template": "busybox"}),
        ("network", {"name": "n", "subnet": f"{NET}8.0/24"}),
        ("volume", {"name": "v", "driver": "tmpfs"}),
        ("container", {"name": "c", "image": "bb"}),
        ("container", {"name": "box", "image": "marked", "memory": "32m", "networks": ONE, "volumes": ["data:/v"]}),
        ("container", {"name": "box", "state": "stopped"}),
        ("container", {"name": "box", "state": "absent"}),
        ("container", {"name": "box", "paused": True}),
        ("container", {"name": "box", "restart": True}),
        ("network", {"name": "one", "mtu": 1300}),
        ("network", {"name": "one", "state": "absent", "force": True}),
        ("container_copy", {"container": "box", "container_path": "/x", "content": "x", "mode": "0600"}),
    ],
)  # fmt: skip
def test_pain_10_check_mode_writes_nothing(shared: WarmPlace, box: Box, module: str, args: dict[str, Any]) -> None:
    """Not a file, not a time stamp; and what it announces is a change."""
    box.make(networks=ONE)
    before, process = world(shared), box.process
    assert shared.task(module, check=True, **args)["changed"]
    assert world(shared) == before
    assert box.process == process


def test_pain_11_everything_that_changes_something_has_a_check_mode(shared: WarmPlace, box: Box) -> None:
    box.make()
    before = world(shared)
    pruned = {"containers": True, "images": True, "volumes": True, "networks": True, "build_cache": True}
    told = shared.task("prune", check=True, **pruned)
    assert told["changed"]
    assert "data" in told["volumes"]
    assert shared.task("container_exec", check=True, container="box", command="touch /x")["skipped"]
    assert not box.path("/x").exists()
    assert world(shared) == before


def test_pain_12_a_stack_shows_what_differs(shared: WarmPlace) -> None:
    plain = {"image": "bb", "networks": []}
    shared.task("stack", name="s", containers={"c": {**plain, "memory": "32m"}})
    changed = {"name": "s", "containers": {"c": {**plain, "memory": "64m", "env": {"A": "1"}}, "d": plain}}
    diff = shared.task("stack", check=True, **changed)["diff"]
    assert diff["before"]["container c"] == {"memory (live)": 32 << 20, "env (restart)": {}}
    assert diff["after"]["container c"] == {"memory (live)": 64 << 20, "env (restart)": {"A": "1"}}
    assert diff["after"]["container d"]["create"]["image"] == "bb:latest"
    shared.task("stack", name="s", state="absent")


# images


def test_pain_13_what_goes_into_an_image_decides_whether_it_is_built(shared: WarmPlace, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "file").write_text("one")
    layers: list[dict[str, Any]] = [
        {"run": "touch /early"}, {"copy": {"src": str(source), "dest": "/src"}}, {"run": "cat /src/file > /late"},
    ]  # fmt: skip
    image = {"name": "thing", "from": "bb", "layers": layers, "labels": {"v": "1"}}
    shared.quartet("image", image)
    os.utime(source / "file")
    (source / "file").write_text("one")
    unchanged(shared, "image", **image)
    (source / "file").write_text("two")
    told = shared.quartet("image", image)[0]
    assert [action for action in told["actions"] if "early" in action] == []  # its layer is the one from before
    (source / "new").touch()
    shared.quartet("image", image)
    (source / "new").chmod(0o700)
    shared.quartet("image", image)
    shared.quartet("image", {**image, "labels": {"v": "2"}})
    shared.quartet("image", {**image, "layers": [{"env": {"ARG": "1"}}, *layers]})
    failed = shared.task("image", fails=True, **{**image, "layers": [{"run": "echo last words >&2; exit 3"}]})
    assert "last words" in failed["msg"]
    shared.task("image", name="thing", state="absent")


def test_pain_14_a_stack_twice_and_a_change_inside_it(shared: WarmPlace) -> None:
    body = json.loads(json.dumps(STACK))
    shared.quartet("stack", body)
    box = Box(shared, "c")
    process = box.process
    body["containers"]["c"]["secrets"][0]["content"] = "y"  # a configuration that is written in the declaration itself
    body["volumes"]["v"]["mode"] = "0700"
    body["networks"]["n"]["mtu"] = 1400
    shared.quartet("stack", body)
    assert box.sh("cat /run/secrets/k; stat -c %a /v; cat /sys/class/net/eth0/mtu").split() == ["y700", "1400"]
    assert box.process == process
    shared.task("stack", name="s", state="absent")
    for kind, name in (("volume", "v"), ("image", "thing")):
        shared.task(kind, name=name, state="absent")


# many at once


def test_pain_16_several_become_healthy_at_once(shared: WarmPlace) -> None:
    slow = {"image": "bb", "networks": [], "command": ["sh", "-c", f"sleep 1; touch /well; {TRAP}"]}
    slow["healthcheck"] = {"test": "test -e /well", "interval": "50ms"}
    names = [f"slow{number}" for number in range(5)]
    last = {"image": "bb", "networks": [], "depends_on": dict.fromkeys(names, "healthy")}
    stack: dict[str, Any] = {"name": "s", "containers": {**dict.fromkeys(names, slow), "last": last}}
    begin = time.monotonic()
    shared.task("stack", **stack)
    took = time.monotonic() - begin
    assert all(Box(shared, name).status["health"]["status"] == "healthy" for name in names)
    assert took < 4
    shared.task("stack", name="s", state="absent")


def test_pain_16_who_waits_for_health_is_told_of_sickness(shared: WarmPlace, box: Box) -> None:
    box.make()
    sick = {"test": "echo no database; false", "interval": "50ms", "retries": 2}
    wanted = {"healthcheck": sick, "state": "healthy", "healthy_wait_timeout": "1s"}
    failed = shared.task("container", fails=True, name="box", **wanted)
    assert "unhealthy" in failed["msg"]
    assert "no database" in failed["msg"]


def test_pain_17_many_are_one_task(shared: WarmPlace) -> None:
    """Thirty cost a few times what one costs, and not thirty times."""
    plain = {"image": "bb", "networks": ONE, "memory": "32m"}

    def timed(count: int) -> float:
        stack = {"name": "s", "containers": {f"c{number}": plain for number in range(count)}}
        begin = time.monotonic()
        shared.task("stack", **stack)
        took = time.monotonic() - begin
        unchanged(shared, "stack", **stack)
        shared.task("stack", name="s", state="absent")
        return took

    single = timed(1)
    assert timed(30) < 12 * single


# secrets


SECRET = "correct-horse-battery-staple"


def test_pain_21_secrets_are_idempotent_and_nowhere(shared: WarmPlace, box: Box) -> None:
    """The content is in no output, no file that lies on a disk, and no process's arguments or environment."""
    args = {"name": "box", "image": "bb", "networks": [], "secrets": [{"name": "key", "content": SECRET}]}
    told = shared.quartet("container", args)
    rotated = {"name": "box", "secrets": [{"name": "key", "content": f"{SECRET}-new"}]}
    told += shared.quartet("container", rotated)
    stack = {"name": "s", "containers": {"box": {"image": "bb", "networks": [], "secrets": rotated["secrets"]}}}
    told += [
        shared.task("stack", **stack),
        shared.task("container_info"),
        shared.task("stack", name="s", state="present", **{"containers": stack["containers"]}),
    ]
    told.append(
        shared.task("container", fails=True, name="box", secrets=[{"name": "key", "content": SECRET, "mode": 400}])
    )
    told.append(shared.task("container", fails=True, name="box", secrets=rotated["secrets"], command=["/nonexistent"]))
    assert SECRET not in json.dumps(told)
    assert told[4]["diff"]["after"]["container box"] == {"secrets (live)": ["key 0:0 0400 (new content)"]}
    assert box.sh("cat /run/secrets/key") == f"{SECRET}-new"
    found = subprocess.run(
        ["grep", "-rslF", SECRET, f"{shared.root}/lib", f"{shared.root}/run"],
        capture_output=True,
        text=True,
        check=False,
    )
    memory = f"{shared.root}/run/secrets/"
    assert [line for line in found.stdout.splitlines() if not line.startswith(memory)] == []
    assert "tmpfs" in subprocess.run(["stat", "-fc", "%T", memory], capture_output=True, text=True, check=True).stdout
    for pid in (box.pid, supervisor(shared)):
        for file in ("cmdline", "environ"):
            assert SECRET not in Path(f"/proc/{pid}/{file}").read_text()
    inspected = subprocess.run(
        [f"{shared.paths.bin}/vessel", "inspect", "box"], capture_output=True, text=True, check=True, timeout=30
    )
    assert SECRET not in inspected.stdout
    shared.task("stack", name="s", state="absent")
    assert not Path(memory, "box").exists()


# after a reboot


@pytest.fixture
def host(tmp_path: Path) -> Iterator[WarmPlace]:
    """An installation that can be rebooted, which the tests' own must not be."""
    place = WarmPlace(str(tmp_path / "vessel"))
    try:
        place.furnish(first=3)
        yield place
    finally:
        for name in place.task("stack", name="s", state="absent")["containers"]:
            place.task("container", name=name, state="absent")
        place.remove()


def test_pain_22_after_a_reboot_all_runs_that_is_to_run(host: WarmPlace) -> None:
    sleeping, once = {"image": "bb", "networks": []}, {"image": "bb", "networks": [], "command": "true"}
    check = {"test": "true", "interval": "100ms"}
    web = {"networks": ONE, "published_ports": [f"{PORT + 4}:80"], "command": "httpd -f -p 80"}
    host.task("volume", name="memory", driver="tmpfs", size="1m")
    containers = {
        "aa": {**sleeping, **web, "depends_on": {"db": "healthy"}},
        "db": {**sleeping, "healthcheck": check, "networks": ONE, "volumes": ["data:/v", "memory:/m"]},
        "no": sleeping,
        "off": {**sleeping, "state": "stopped"},
        "never": {**sleeping, "restart_policy": False},
    }
    host.task("stack", name="s", containers=containers)
    host.task("container", name="always", **{**sleeping, "restart_policy": "always"})
    host.task("container", name="stopped", **{**sleeping, "restart_policy": "always"})
    host.task("container", name="stopped", state="stopped")
    host.task("container", name="unborn", state="present", **once)
    Box(host, "db").sh("echo kept > /written; echo kept > /v/written; echo gone > /m/written")
    address = Box(host, "db").addresses()
    reboot(host)
    done = restore(host)
    assert (done.returncode, done.stderr) == (0, "")
    running = {entry["name"] for entry in host.task("container_info")["containers"] if entry["state"] == "running"}
    assert running == {"aa", "db", "no", "never", "always"}
    db = Box(host, "db")
    assert db.sh("cat /written /v/written").split() == ["kept", "kept"]
    assert not db.path("/m/written").exists()
    assert db.addresses() == address
    assert db.status["started_at"] < Box(host, "aa").status["started_at"]
    assert until(lambda: answers(PORT + 4))
    unchanged(host, "stack", name="s", containers=containers)
    assert restore(host).stdout == ""  # a second time there is nothing to do


def test_pain_22_a_declared_address_is_nobody_else_s_after_a_reboot(host: WarmPlace) -> None:
    """Those that come before it by name, and get any address, do not get that one."""
    plain = {"image": "bb", "networks": ONE}
    host.task("container", name="first", **plain)
    address = Box(host, "first").addresses()[0]
    host.task("container", name="first", state="absent")
    declared = {"image": "bb", "networks": [{"name": "one", "ipv4_address": address}]}
    host.task("stack", name="s", containers={"zz": declared})
    host.task("stack", name="s", containers={"zz": declared, **{f"a{number}": plain for number in range(3)}})
    reboot(host)
    done = restore(host)
    assert (done.returncode, done.stderr) == (0, "")
    assert Box(host, "zz").addresses() == [address]


def test_pain_22_one_that_can_t_come_back_keeps_no_other(host: WarmPlace) -> None:
    """The content of a secret was in memory: the container waits for the play that has it, and says so."""
    plain = {"image": "bb", "networks": []}
    secret = {**plain, "secrets": [{"name": "key", "content": "x"}]}
    containers = {"aa": secret, "bb": {**plain, "depends_on": ["aa"]}, "cc": plain}
    host.task("stack", name="s", containers=containers)
    host.task("container", name="needed", **{**plain, "networks": ONE})  # for there to be a table
    reboot(host)
    done = restore(host)
    assert done.returncode == 1
    assert "content of the secret key is gone" in done.stderr
    assert "bb waits for aa" in done.stderr
    assert [Box(host, "cc").pid > 0, Box(host, "needed").pid > 0] == [True, True]
    host.task("stack", name="s", containers=containers)
    assert Box(host, "aa").sh("cat /run/secrets/key") == "x"
    unchanged(host, "stack", name="s", containers=containers)


# what belongs together


def test_pain_24_what_is_no_longer_declared_goes(shared: WarmPlace) -> None:
    plain = {"image": "bb", "networks": [{"name": "n"}]}
    networks = {"n": {"subnet": f"{NET}8.0/24"}, "m": {"subnet": f"{NET}9.0/24"}}
    shared.task("stack", name="s", networks=networks, containers={"c": plain, "d": plain})
    process = Box(shared, "c").process
    less = {"name": "s", "networks": {"n": networks["n"]}, "containers": {"c": plain}, "prune": True}
    told = shared.quartet("stack", less)[0]
    assert sorted(action for action in told["actions"] if "remove" in action) == [
        "container d: remove",
        "network m: remove",
    ]
    assert Box(shared, "c").process == process
    assert not shared.home("containers", "d").exists()
    shared.task("stack", name="s", state="absent")


def test_pain_24_who_uses_a_secret_sees_the_new_one(shared: WarmPlace, box: Box) -> None:
    box.make(secrets=[{"name": "key", "content": "old"}])
    process = box.process
    told = shared.task("container", name="box", secrets=[{"name": "key", "content": "new"}])
    assert told["changed"]  # so a handler that restarts dependants is notified
    assert box.sh("cat /run/secrets/key") == "new"
    assert box.process == process


def test_pain_25_a_failed_recreate_does_not_lose_the_old_container(shared: WarmPlace, box: Box) -> None:
    box.make(networks=ONE, command="httpd -f -p 80", published_ports=[f"{PORT + 2}:80"])
    box.path("/written").touch()
    failed = shared.task("container", fails=True, name="box", image="marked", command="/nonexistent")
    assert "/nonexistent" in failed["msg"]
    assert box.path("/written").exists()
    assert not box.path("/marker").exists()
    assert until(lambda: answers(PORT + 2))
    unchanged(shared, "container", name="box")


# the target and its network


def test_pain_27_nothing_but_python_is_needed_on_the_target(tmp_path: Path) -> None:
    """Without pyroute2 whatever needs no network works, and the rest says what to install before anything is done."""
    program = """
import json, sys
sys.path.insert(0, sys.argv[1])
sys.modules["pyroute2"] = None
from ansible.module_utils.testing import patch_module_args
from importlib import import_module
main = import_module("ansible_collections.vessel.host.plugins.modules." + sys.argv[2]).main
with patch_module_args(json.loads(sys.argv[3])):
    main()
"""
    place = WarmPlace(str(tmp_path / "vessel"))

    def without(module: str, **args: Any) -> dict[str, Any]:
        given = {"root": place.root, "_ansible_diff": False, **args}
        collections = Path(__file__).parents[2] / "collection"
        command = [sys.executable, "-c", program, str(collections), module, json.dumps(given)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return dict(json.loads(done.stdout))

    try:
        assert without("image", name="bb", source="template", template="busybox", cmd=["sleep", "1000"])["changed"]
        assert without("volume", name="data")["changed"]
        box = Box(place)
        assert without("container", name="box", image="bb", network_mode="none", volumes=["data:/v"], stop_timeout=0.1)[
            "changed"
        ]
        assert box.pid
        assert without("container_exec", container="box", command="true")["rc"] == 0
        before = sorted(os.walk(f"{place.root}/lib"))
        for module, args in (("network", {"name": "n"}), ("container", {"name": "c", "image": "bb"})):
            failed = without(module, **args)
            assert failed["failed"]
            assert "pyroute2" in failed["msg"]
            assert "python3-pyroute2" in failed["msg"]
        assert sorted(os.walk(f"{place.root}/lib")) == before
        assert without("container", name="box", state="absent")["changed"]
    finally:
        place.remove()


def test_pain_29_a_changed_network_keeps_fixed_addresses(shared: WarmPlace, box: Box) -> None:
    shared.task("network", name="thing", subnet=f"{NET}7.0/24")
    box.make(networks=[{"name": "thing", "ipv4_address": f"{NET}7.77"}])
    process = box.process
    for change in (
        {"mtu": 1400},
        {"gateway": f"{NET}7.254"},
        {"internal": True},
        {"ip_range": f"{NET}7.128/25"},
        {"ipv6": True},
    ):
        shared.quartet("network", {"name": "thing", **change})
        assert box.addresses() == [f"{NET}7.77"]
    refused = shared.task("network", fails=True, name="thing", state="absent")
    assert "in use by box" in refused["msg"]
    assert box.addresses() == [f"{NET}7.77"]
    assert box.process == process
    box.remove()
    shared.task("network", name="thing", state="absent")


def test_pain_29_a_network_that_is_not_declared_is_left(shared: WarmPlace, box: Box) -> None:
    shared.task("container", name="box", image="bb")
    assert [network["name"] for network in box.facts()["networks"]] == ["default"]
    process = box.process
    shared.quartet("container", {"name": "box", "networks": ONE})
    assert [address.rpartition(".")[0] for address in box.addresses()] == [f"{NET}1"]
    assert box.process == process
    shared.task("network", name="default", state="absent")


@pytest.fixture
def outside() -> Iterator[list[str]]:
    """Another machine: words that run a command on it. The host is 192.0.2.1 to it."""
    name, link = f"out{os.getpid()}", f"vout{os.getpid() % 100000}"
    words = ["ip", "netns", "exec", name]
    for command in (
        ["ip", "netns", "add", name],
        ["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name],
        ["ip", "addr", "add", f"{NET}5.1/24", "dev", link],
        ["ip", "link", "set", link, "up"],
        [*words, "ip", "addr", "add", f"{NET}5.2/24", "dev", "eth0"],
        [*words, "ip", "link", "set", "eth0", "up"],
    ):
        subprocess.run(command, check=True, timeout=20)
    yield words
    subprocess.run(["ip", "netns", "delete", name], check=True, timeout=20)
    subprocess.run(["ip", "link", "delete", link], check=False, capture_output=True, timeout=20)


def test_pain_29_published_ports_obey_the_hosts_firewall(shared: WarmPlace, box: Box, outside: list[str]) -> None:
    """Somebody else's table, of the kind that ufw and firewalld have, decides after ours."""
    box.make(networks=ONE, command="httpd -f -p 80", published_ports=[f"{PORT + 3}:80"])
    fetch = [
        *outside,
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--max-time",
        "2",
        f"http://{NET}5.1:{PORT + 3}/",
    ]

    def code() -> str:
        return subprocess.run(fetch, capture_output=True, text=True, timeout=20, check=False).stdout

    assert until(lambda: code() == "404")
    table = f"host{os.getpid()}"
    bridge = shared.paths.link("br", "one")
    chain = "type filter hook forward priority 10; policy accept"
    rules = f'table inet {table} {{\nchain forward {{\n{chain}\noifname "{bridge}" ct direction original drop\n}}\n}}\n'
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True, timeout=20)
    try:
        assert code() == "000"
        unchanged(shared, "container", name="box")
        shared.task("container", name="box", published_ports=[f"{PORT + 3}:80", f"{PORT + 2}:80"])
        listed = subprocess.run(
            ["nft", "list", "table", "inet", table], capture_output=True, text=True, check=True, timeout=20
        )
        assert "drop" in listed.stdout  # nobody touched it
        assert code() == "000"
    finally:
        subprocess.run(["nft", "delete", "table", "inet", table], check=True, timeout=20)
    assert until(lambda: code() == "404")


def test_nothing_of_these_is_left_in_the_kernel(shared: WarmPlace) -> None:
    """The reboots above are of installations of their own, and each removed itself."""
    names = " ".join(leftovers.mounts())
    assert "test_pain_22" not in names
