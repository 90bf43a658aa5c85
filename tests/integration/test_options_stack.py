# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option of a stack twice, and containers of which everything is declared at once."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.module_utils._options.container import OPTIONS

from . import cgroup_words
from .options_box import Box
from .options_container import DEVICE, DISK, HUGETLB, cmdline
from .warm import NET, PORT, SIX, TRAP, WarmPlace

pytestmark = pytest.mark.root


@pytest.fixture
def pair(shared: WarmPlace) -> Iterator[tuple[Box, Box]]:
    """Containers box and other, which the stack set declares; afterwards all is gone that it may have made."""
    yield Box(shared), Box(shared, "other")
    shared.task("stack", name="set", state="absent")
    for name in ("box", "other"):
        shared.task("container", name=name, state="absent")
    for kind in ("image", "network", "volume"):
        shared.task(kind, name="thing", state="absent")


def stack(**more: Any) -> dict[str, Any]:
    return {"name": "set", **more}


PLAIN = {"image": "bb", "networks": []}
TWO = {"box": PLAIN, "other": PLAIN}


def running(place: WarmPlace) -> list[str]:
    """Whose cgroups have processes in them."""
    groups = {name: cgroup_words.where("pids", place.paths.cgroup(name)) for name in ("box", "other")}
    return [name for name, group in groups.items() if group.exists() and (group / "cgroup.procs").read_text()]


def test_containers_and_name(shared: WarmPlace, pair: tuple[Box, Box]) -> None:
    shared.quartet("stack", stack(containers=TWO))
    assert running(shared) == ["box", "other"]
    processes = [box.process for box in pair]
    told = shared.quartet("stack", stack(containers={"box": {**PLAIN, "memory": "32m"}, "other": PLAIN}))[0]
    assert told["actions"] == ["container box: set memory (live)"]
    assert pair[0].limit("memory", "memory.limit_in_bytes") == str(32 << 20)
    # A stack is declared whole: what is left out goes back.
    shared.quartet("stack", stack(containers=TWO))
    assert pair[0].limit("memory", "memory.limit_in_bytes") == "9223372036854771712"
    assert [box.process for box in pair] == processes
    shared.quartet("stack", stack(state="absent"))
    assert running(shared) == []


def test_images_networks_volumes(shared: WarmPlace, pair: tuple[Box, Box]) -> None:
    body = {
        "images": {"thing": {"from": "bb", "layers": [{"run": "touch /made"}]}},
        "networks": {"thing": {"subnet": f"{NET}9.0/24"}},
        "volumes": {"thing": {"mode": "0700"}},
        "containers": {"box": {"image": "thing", "networks": [{"name": "thing"}], "volumes": ["thing:/v"]}},
    }
    shared.quartet("stack", stack(**body))
    box = pair[0]
    assert box.path("/made").exists()
    assert [address.rpartition(".")[0] for address in box.addresses()] == [f"{NET}9"]
    assert box.path("/v").stat().st_mode & 0o777 == 0o700
    process = box.process
    body["networks"]["thing"]["subnet"] = f"{NET}0.0/24"
    body["volumes"]["thing"]["mode"] = "0711"
    shared.quartet("stack", stack(**body))
    assert [address.rpartition(".")[0] for address in box.addresses()] == [f"{NET}0"]
    assert box.path("/v").stat().st_mode & 0o777 == 0o711
    assert box.process == process
    body["images"]["thing"]["layers"] = [{"run": "touch /made-anew"}]
    shared.quartet("stack", stack(**body))
    assert box.path("/made-anew").exists()


def test_state(shared: WarmPlace, pair: tuple[Box, Box]) -> None:
    shared.quartet("stack", stack(containers=TWO))
    shared.quartet("stack", stack(containers=TWO, state="stopped"))
    assert running(shared) == []
    shared.quartet("stack", stack(containers=TWO, state="present"))
    assert running(shared) == ["box", "other"]
    shared.quartet("stack", stack(containers={**TWO, "box": {**PLAIN, "state": "stopped"}}))
    assert running(shared) == ["other"]
    shared.quartet("stack", stack(state="absent"))
    assert not shared.home("containers", "box").exists()


def test_prune(shared: WarmPlace, pair: tuple[Box, Box]) -> None:
    networks = {"thing": {"subnet": f"{NET}9.0/24"}}
    shared.quartet("stack", stack(containers=TWO, networks=networks))
    shared.quartet("stack", stack(containers={"box": PLAIN}), "nnnn")
    assert running(shared) == ["box", "other"]
    shared.quartet("stack", stack(containers={"box": PLAIN}, prune=True))
    assert running(shared) == ["box"]
    assert not os.path.exists(f"/sys/class/net/{shared.paths.link('br', 'thing')}")


def test_history(shared: WarmPlace, pair: tuple[Box, Box]) -> None:
    """state: rolled_back, revision, history_limit and what stack_info tells of them."""
    for memory in ("32m", "48m", "64m"):
        shared.task("stack", **stack(containers={"box": {**PLAIN, "memory": memory}}, history_limit=2))
    process = pair[0].process
    for revision, memory in ((None, 48), (1, 32), (3, 64)):
        shared.quartet("stack", stack(state="rolled_back", revision=revision, history_limit=2))
        assert pair[0].limit("memory", "memory.limit_in_bytes") == str(memory << 20)
    assert pair[0].process == process
    (told,) = shared.task("stack_info", name="set")["stacks"]
    assert [one["revision"] for one in told["revisions"]] == [1, 2, 3]
    shared.task("stack", **stack(containers={"box": {**PLAIN, "memory": "64m"}}, history_limit=1))
    (told,) = shared.task("stack_info", name="set")["stacks"]
    assert [one["revision"] for one in told["revisions"]] == [2, 3]
    assert shared.task("stack_info", name="nobody")["stacks"] == []


def test_recreate(shared: WarmPlace, pair: tuple[Box, Box]) -> None:
    shared.quartet("stack", stack(containers=TWO))
    for box in pair:
        box.path("/written").touch()
    shared.quartet("stack", stack(containers=TWO, recreate=True), "CCCC")
    assert not any(box.path("/written").exists() for box in pair)


def test_max_disruption(shared: WarmPlace, pair: tuple[Box, Box]) -> None:
    shared.quartet("stack", stack(containers=TWO))
    processes = [box.process for box in pair]
    other = {"box": {**PLAIN, "memory": "32m"}, "other": {**PLAIN, "image": "marked"}}
    result = shared.task("stack", fails=True, **stack(containers=other, max_disruption="live"))
    assert result["msg"].startswith("containers.other.image: ")
    assert "recreate of container other" in result["msg"]
    assert [box.process for box in pair] == processes
    assert pair[0].limit("memory", "memory.limit_in_bytes") != str(32 << 20)
    shared.quartet("stack", stack(containers=other, max_disruption="recreate"))


def test_depends_on(shared: WarmPlace, pair: tuple[Box, Box]) -> None:
    """Who depends starts when the other is well, or has ended well."""
    box, other = pair
    well = {**PLAIN, "healthcheck": {"test": "test -e /well", "interval": "100ms"}}
    well["command"] = ["sh", "-c", f"sleep 0.5; touch /well; {TRAP}"]
    body = {"box": {**PLAIN, "depends_on": {"other": "healthy"}}, "other": well}
    shared.quartet("stack", stack(containers=body))
    assert int(box.process[1]) - int(other.process[1]) >= 40  # of 100 a second
    shared.task("stack", **stack(state="absent"))
    once = {**PLAIN, "command": ["sh", "-c", "sleep 0.5; exit 0"], "state": "started", "restart_policy": "on-failure"}
    body = {"box": {**PLAIN, "depends_on": {"other": {"condition": "service_completed_successfully"}}}, "other": once}
    shared.task("stack", **stack(containers=body))
    assert other.status["exit_code"] == 0
    assert other.status["finished_at"] <= box.status["started_at"]


def test_wait_timeout(shared: WarmPlace, pair: tuple[Box, Box]) -> None:
    sick = {**PLAIN, "healthcheck": {"test": "false", "interval": "100ms", "retries": 1000}}
    body = {"box": {**PLAIN, "depends_on": {"other": "healthy"}}, "other": sick}
    result = shared.task("stack", fails=True, **stack(containers=body, wait_timeout="300ms"))
    assert "healthy" in result["msg"]
    assert "other" in result["msg"]
    assert running(shared) == []  # what the task had made is undone


# everything of a container at once

EVERYTHING: dict[str, Any] = {
    "image": "bb",
    "command": f'sh -c "{TRAP}"',
    "entrypoint": ["/bin/env"],
    "env": {"A": "1"},
    "user": "0:0",
    "groups": ["20"],
    "working_dir": "/tmp",
    "hostname": "lion",
    "domainname": "example.org",
    "labels": {"a": "b"},
    "security_opts": ["label=disable"],
    "networks": [{"name": "two", "ipv4_address": f"{NET}2.50", "ipv6_address": f"{SIX}::50", "aliases": ["w"],
                  "mac_address": "02:42:00:00:00:50"}, {"name": "one"}],
    "published_ports": [f"{PORT + 5}:80", f"{PORT + 6}:53/udp"],
    "dns_servers": ["192.0.2.53"],
    "dns_search_domains": ["example.org"],
    "dns_opts": ["ndots:2"],
    "etc_hosts": {"db": "192.0.2.7"},
    "volumes": ["data:/v:ro", "more:/more"],
    "tmpfs": ["/scratch:size=1m"],
    "shm_size": "2m",
    "read_only": True,
    "memory": "64m",
    "memory_reservation": "32m",
    "memory_swap": "96m",
    "memory_high": "48m" if cgroup_words.UNIFIED else 0,
    "memory_min": "16m" if cgroup_words.UNIFIED else 0,
    "oom_group": cgroup_words.UNIFIED,
    "hugepage_limits": {"2m": "8m"} if HUGETLB else {},
    "cpus": 0.5,
    "cpu_shares": 512,
    "cpuset_cpus": "0",
    "cpuset_mems": "0",
    "pids_limit": 50,
    "blkio_weight": 200,
    "device_read_bps": [{"path": DISK, "rate": "10m"}],
    "device_write_bps": [{"path": DISK, "rate": "10m"}],
    "device_read_iops": [{"path": DISK, "rate": 1000}],
    "device_write_iops": [{"path": DISK, "rate": 1000}],
    "oom_score_adj": 100,
    "ulimits": ["nofile:512:1024"],
    "sysctls": {"net.core.somaxconn": "77"},
    "devices": [f"{DEVICE}:/dev/x:r"],
    "capabilities": ["NET_ADMIN"],
    "cap_drop": ["CHOWN"],
    "privileged": False,
    "pid_mode": "private",
    "ipc_mode": "shareable",
    "uts": "private",
    "cgroupns_mode": "private",
    "restart_policy": "on-failure",
    "restart_retries": 3,
    "healthcheck": {"test": "true", "interval": "1m"},
    "stop_signal": "SIGTERM",
    "stop_timeout": "3s",
    "update_order": "stop_first",  # as is said, for a static address and a device could not be twice
    "drain_timeout": "5s",
    "init": True,
    "secrets": [{"name": "key", "content": "one", "mode": "0440", "gid": 20}],
    "log_driver": "file",
    "log_options": {"max_size": "1m", "max_file": 2},
}  # fmt: skip


def test_everything_at_once(shared: WarmPlace, box: Box, pair: tuple[Box, Box]) -> None:
    """Declared as a container, then the same as part of a stack: no change. Then all of it back at once."""
    assert {option.name for option in OPTIONS} - set(EVERYTHING) == {"network_mode"}
    shared.quartet("container", {"name": "box", **EVERYTHING})
    assert cmdline(box).startswith("/sbin/vessel-init -- /bin/env sh -c")
    assert sorted(box.addresses()) == sorted([f"{NET}2.50", box.addresses()[-1]])
    process = box.process
    shared.quartet("stack", stack(containers={"box": EVERYTHING}), "nnnn")
    assert box.process == process
    # The hard limit of open files stays: this host does not let it be raised while the process runs.
    plain = {**PLAIN, "command": EVERYTHING["command"], "stop_timeout": 1}
    shared.quartet("stack", stack(containers={"box": plain}))
    assert box.addresses() == []
    assert box.limit("pids", "pids.max") == "max"
    assert box.mount("/v") is None


# the journal, of which there is one in a mount namespace of the test's own


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[tuple[WarmPlace, socket.socket]]:
    """An installation that sees a journal, and the journal's end of it."""
    script = 'mount -t tmpfs none /run/systemd && mkdir /run/systemd/journal && exec "$@"'
    os.makedirs("/run/systemd", exist_ok=True)
    place = WarmPlace(str(tmp_path / "vessel"), "unshare", "--mount", "--propagation=private", "sh", "-ec", script, "-")
    listener = socket.socket(socket.AF_UNIX)
    try:
        place.busybox()
        listener.bind(f"/proc/{place.server.pid}/root/run/systemd/journal/stdout")
        listener.listen()
        listener.settimeout(20)
        yield place, listener
    finally:
        place.remove()
        listener.close()


def test_log_driver_journald(journal: tuple[WarmPlace, socket.socket]) -> None:
    place, listener = journal
    task = {"name": "talker", "image": "bb", "network_mode": "none", "command": ["sh", "-c", f"echo hello; {TRAP}"]}
    place.task("container", **task)
    place.quartet("container", {"name": "talker", "log_driver": "journald"})
    stream = listener.accept()[0]
    stream.settimeout(20)
    said = b""
    while b"hello\n" not in said:
        said += stream.recv(4096)
    lines = said.decode().splitlines()
    assert lines[0] == f"{place.paths.prefix}-talker"
    assert lines[-1] == "hello"
    place.quartet("container", {"name": "talker", "log_driver": "file"})
    assert place.home("containers", "talker").joinpath("log").read_text().count("hello") == 2
    stream.close()
