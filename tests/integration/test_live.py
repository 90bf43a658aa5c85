# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes under a running process: the process is the same, and sees the new value. And what happens to one that
has to be replaced: its layer stays or goes as told, and it comes back when the new one does not start.

That each option costs what its record says is the table's (test_options_container.py).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.tests.kernel.module_runner import COLLECTIONS
from ansible_collections.vessel.host.tests.patience import patient

from . import cgroup_words
from .options_box import Box, answers, until
from .options_container import DISK, NUMBERS
from .warm import NET, PORT, WarmPlace

pytestmark = pytest.mark.root
ONE = [{"name": "one"}]
WEB, MORE, BACK, OTHER = (PORT + number for number in (7, 8, 9, 0))


@pytest.fixture(scope="module")
def web(shared: WarmPlace) -> Iterator[Box]:
    """A container that serves, and is changed by one test after the other."""
    web = Box(shared, "web")
    serve = "mkdir -p /www; echo ok > /www/index.html; exec httpd -f -p 80 -h /www"
    web.make(command=["sh", "-c", serve], networks=ONE, published_ports=[f"{WEB}:80"])
    until(lambda: answers(WEB))
    yield web
    web.remove()


@pytest.fixture
def same(web: Box) -> Iterator[Box]:
    """The container, of which the process must be the same afterwards, and as declared."""
    process = web.process
    yield web
    assert web.process == process
    points = [line.split()[4] for line in web.proc("mountinfo").splitlines()]
    assert len(points) == len(set(points)), "something is mounted on itself"
    assert not web.place.task("container", check=True, name="web")["changed"]


def change(box: Box, **args: Any) -> dict[str, Any]:
    """Changed by the first run alone, and live."""
    told = box.place.quartet("container", {"name": box.name, **args})[0]
    assert all(action.endswith("(live)") for action in told["actions"])
    return told


# limits, seen from inside


V2_LIMITS = [
    ("memory_high", "80m", "memory/memory.high", str(80 << 20)),
    ("memory_min", "8m", "memory/memory.min", str(8 << 20)),
    ("oom_group", True, "memory/memory.oom.group", "1"),
]


@pytest.mark.parametrize(
    ("option", "value", "file", "seen"),
    [
        ("memory", "96m", "memory/memory.limit_in_bytes", str(96 << 20)),
        ("memory_reservation", "48m", "memory/memory.soft_limit_in_bytes", str(48 << 20)),
        ("cpus", 0.7, "cpu/cpu.cfs_quota_us", "70000"),
        ("cpu_shares", 300, "cpu/cpu.shares", "300"),
        ("cpuset_cpus", "1", "cpuset/cpuset.cpus", "1"),
        ("pids_limit", 40, "pids/pids.max", "40"),
        ("blkio_weight", 300, "blkio/blkio.bfq.weight", "300"),
        (
            "device_read_bps",
            [{"path": DISK, "rate": "9m"}],
            "blkio/blkio.throttle.read_bps_device",
            f"{NUMBERS} {9 << 20}",
        ),
        *(V2_LIMITS if cgroup_words.UNIFIED else []),
    ],
)
def test_limit(same: Box, option: str, value: Any, file: str, seen: str) -> None:
    assert inside(same, file) != seen
    change(same, **{option: value})
    assert inside(same, file) == seen


def inside(box: Box, file: str) -> str:
    """CONTROLLER/FILE below the container's own /sys/fs/cgroup, where its group is the root."""
    controller, dummy, name = file.partition("/")
    top = box.path("/sys/fs/cgroup")
    return cgroup_words.read(top if cgroup_words.UNIFIED else top / controller, name)


def test_one_update_leaves_the_other_limits(same: Box) -> None:
    files = ["memory/memory.limit_in_bytes", "cpu/cpu.cfs_quota_us", "cpu/cpu.shares", "cpuset/cpuset.cpus"]
    before = [inside(same, file) for file in files]
    change(same, pids_limit=41)
    assert [inside(same, file) for file in files] == before


def test_ulimits_of_what_runs_and_of_what_comes(same: Box) -> None:
    change(same, ulimits=["nofile:700:20000"])
    assert "700" in next(
        line for line in same.sh("cat /proc/1/limits").splitlines() if line.startswith("Max open files")
    )
    assert same.sh("ulimit -n") == "700"


def test_oom_score_of_what_runs_and_of_what_comes(same: Box) -> None:
    change(same, oom_score_adj=300)
    assert same.sh("cat /proc/1/oom_score_adj /proc/self/oom_score_adj").split() == ["300", "300"]


def test_labels(same: Box) -> None:
    change(same, labels={"role": "page"})
    assert same.facts()["labels"] == {"role": "page"}


# names


def test_hostname_and_domain(same: Box) -> None:
    change(same, hostname="front", domainname="example.org")
    assert same.sh("hostname; cat /etc/hostname; cat /proc/sys/kernel/domainname").split() == [
        "front",
        "front",
        "example.org",
    ]
    assert "front.example.org front" in same.sh("cat /etc/hosts")


def test_dns(same: Box) -> None:
    change(same, dns_servers=["192.0.2.53"], dns_search_domains=["example.org"], dns_opts=["ndots:3"])
    assert same.sh("cat /etc/resolv.conf").splitlines()[-3:] == [
        "nameserver 192.0.2.53",
        "search example.org",
        "options ndots:3",
    ]


def test_etc_hosts(same: Box) -> None:
    change(same, etc_hosts={"db": "192.0.2.9"})
    assert "192.0.2.9\tdb" in same.sh("cat /etc/hosts")


def test_aliases_are_known_to_the_neighbour(same: Box, peer: Box) -> None:
    change(same, networks=[{"name": "one", "aliases": ["www"]}])
    address = same.addresses()[0]
    assert f"{address}\tweb www" in peer.read("/etc/hosts")
    change(same, networks=ONE)
    assert f"{address}\tweb\n" in peer.read("/etc/hosts")


# networks


def holding(port: int) -> socket.socket:
    """A connection that is open, and of which the server waits for the rest of the request."""
    peer = socket.create_connection(("127.0.0.1", port), timeout=patient(5))
    peer.sendall(b"GET / HTTP/1.0\r\n")
    return peer


def test_published_ports(same: Box) -> None:
    with holding(WEB) as peer:
        change(same, published_ports=[f"{WEB}:80", f"{MORE}:80"])
        assert answers(MORE)
        peer.sendall(b"\r\n")
        assert peer.recv(100).startswith(b"HTTP/1.1 200")
    change(same, published_ports=[f"{MORE}:80"])
    assert not answers(WEB)
    change(same, published_ports=[f"{WEB}:80"])
    assert answers(WEB)
    assert not answers(MORE)


def test_a_network_is_attached_and_detached(same: Box) -> None:
    with holding(WEB) as peer:
        change(same, networks=[{"name": "one"}, {"name": "two", "ipv4_address": f"{NET}2.60"}])
        assert same.sh("ip -o -4 addr show scope global | grep -c .") == "2"
        assert answers(80, f"{NET}2.60")
        assert answers(WEB)
        change(same, networks=ONE)
        assert same.sh("ip -o -4 addr show scope global | grep -c .") == "1"
        assert not answers(80, f"{NET}2.60")
        peer.sendall(b"\r\n")
        assert peer.recv(100).startswith(b"HTTP/1.1 200")


def test_the_only_network_is_left_and_another_one_entered(same: Box) -> None:
    change(same, networks=[{"name": "two"}])
    assert same.sh("ip route | grep default").split()[2] == f"{NET}2.1"
    assert until(lambda: answers(WEB))
    change(same, networks=ONE)
    assert same.sh("ip route | grep default").split()[2] == f"{NET}1.1"
    assert until(lambda: answers(WEB))


# the kernel's parameters, memory, the log


def test_sysctls(same: Box) -> None:
    change(same, sysctls={"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shmmni": "100"})
    assert same.sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni").split() == ["0", "100"]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("net.ipv4.ip_unprivileged_port_start", "70000", "EINVAL"),
        ("net.ipv4.conf.nolink9.rp_filter", "1", "ENOENT"),
        ("net.ipv4.nonsense", "1", "does not have"),
    ],
)
def test_a_sysctl_that_can_not_be(same: Box, name: str, value: str, problem: str) -> None:
    failed = same.place.task("container", fails=True, name=same.name, sysctls={name: value})
    assert failed["msg"].startswith(f"sysctls.{name}: ")
    assert problem in failed["msg"]


def test_shm_size_keeps_what_is_there(same: Box) -> None:
    same.sh("echo kept > /dev/shm/file")
    change(same, shm_size="3m")
    assert same.sh("cat /dev/shm/file; df -k /dev/shm | tail -1").split()[:3:2] == ["kept", "3072"]


def test_log_options(same: Box) -> None:
    change(same, log_options={"max_size": "8k", "max_file": 2})
    same.sh("yes line | head -c 30000 > /proc/1/fd/1")
    log = same.place.home("containers", "web") / "log"
    until(lambda: log.stat().st_size < 10000 and (log.parent / "log.1").exists())
    assert len(same.place.task("container_logs", container="web", tail=3)["lines"]) == 3


def test_restart_policy_and_healthcheck(same: Box) -> None:
    change(same, healthcheck={"test": "touch /looked", "interval": "100ms"}, restart_policy="always")
    until(lambda: same.path("/looked").exists())
    assert until(lambda: same.status["health"]["status"]) in ("starting", "healthy")
    change(same, healthcheck={"test": ""}, restart_policy="no")
    same.path("/looked").unlink()
    time.sleep(patient(0.3))
    assert not same.path("/looked").exists()


# secrets


def test_secrets_are_rotated_in_one_step(same: Box) -> None:
    """Whoever reads sees the old or the new, whole. The first brings the directory, the last takes it away."""
    old, new = "a" * 70000, "b" * 70000
    change(same, secrets=[{"name": "key", "content": old}])
    path, seen, done = same.path("/run/secrets/key"), set(), threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(path.read_text())

    watcher = threading.Thread(target=watch)
    watcher.start()
    change(same, secrets=[{"name": "key", "content": new}])
    time.sleep(0.1)
    done.set()
    watcher.join()
    assert seen == {old, new}
    assert same.sh("cat /run/secrets/key") == new
    change(same, secrets=[{"name": "other", "content": "x", "mode": "0444"}])
    assert same.sh("ls /run/secrets") == "other"
    change(same, secrets=[])
    assert not same.works("ls /run/secrets/other")


# volumes


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "app.conf").write_text("one\n")
    return tmp_path


@pytest.mark.parametrize(
    ("target", "real"),
    [
        ("/data", "/data"),
        ("/deep/er/data", "/deep/er/data"),
        ("/var/run/data", "/run/data"),  # /var/run leads to ../run in the image
        ("/absolute/data", "/etc/data"),
        ("/itself", "/root"),
        ("/with space/x", "/with space/x"),
    ],
)
def test_a_volume_comes_and_goes(same: Box, target: str, real: str) -> None:
    """Also where the image has symlinks on the way, or at its end: they lead where they lead inside."""
    same.sh("ln -sfn /etc /absolute; ln -sfn root /itself")
    (same.place.volume("data") / "seen").write_text("on the host")
    change(same, volumes=[f"data:{target}"])
    assert same.sh(f"cat '{target}/seen' '{real}/seen'") == "on the hoston the host"
    same.sh(f"echo inside > '{target}/written'")
    assert (same.place.volume("data") / "written").read_text() == "inside\n"
    change(same, volumes=[f"data:{target}:ro"])
    assert not same.works(f"touch '{target}/written'")
    change(same, volumes=[])
    assert not same.works(f"cat '{target}/seen'")
    assert same.mount(real) is None
    assert (same.place.volume("data") / "written").exists()


@pytest.mark.parametrize("target", ["/etc/app.conf", "/new/app.conf", "/absolute/linked.conf"])
def test_a_file_comes_and_goes(same: Box, files: Path, target: str) -> None:
    same.sh("echo of the image > /etc/app.conf; ln -sfn /etc /absolute; ln -sfn app.conf /etc/linked.conf")
    change(same, volumes=[f"{files}/app.conf:{target}:ro"])
    assert same.sh(f"cat {target}") == "one"
    (files / "app.conf").write_text("two\n")
    assert same.sh(f"cat {target}") == "two"
    assert not same.works(f"echo x > {target}")
    change(same, volumes=[])
    assert same.sh(f"cat {target}") == ("" if target.startswith("/new") else "of the image")


def test_volumes_in_one_another(same: Box) -> None:
    (same.place.volume("data") / "in").mkdir(exist_ok=True)
    change(same, volumes=["data:/v", "more:/v/in"])
    assert same.sh("ls /v/in") == "in-more"
    change(same, volumes=["more:/v/in"])
    assert same.sh("ls /v/in") == "in-more"
    change(same, volumes=["data:/v", "more:/v/in"])
    assert same.sh("ls /v/in; cat /v/in-data").split() == ["in-more", "data"]
    change(same, volumes=[])
    assert same.sh("ls /v") == "in"


def test_what_the_engine_binds_is_seen_in_a_volume_above_it(same: Box) -> None:
    """A volume at /etc must not hide /etc/hosts, nor one at /run the secrets: as when the container is made so."""
    secret = [{"name": "key", "content": "x"}]
    change(same, secrets=secret, volumes=["data:/etc", "more:/run"])
    assert (
        same.sh("cat /etc/in-data /run/in-more /run/secrets/key; grep -c localhost /etc/hosts").split("\n")[0]
        == "datamorex2"
    )
    change(same, volumes=["more:/run"])
    assert "localhost" in same.sh("cat /etc/hosts")
    assert same.sh("cat /run/secrets/key") == "x"
    change(same, volumes=[], secrets=[])
    assert same.mount("/run") is None
    assert same.mount("/etc/hosts") == ["rw"]


def test_a_volume_in_the_place_of_what_the_engine_binds(same: Box, files: Path) -> None:
    before = same.sh("cat /etc/hosts")
    change(same, volumes=[f"{files}/app.conf:/etc/hosts"])
    assert same.sh("cat /etc/hosts") == "one"
    change(same, volumes=[])
    assert same.sh("cat /etc/hosts") == before


def test_a_volume_above_a_tmpfs_waits_for_a_restart(shared: WarmPlace, box: Box) -> None:
    box.make(tmpfs=["/v/scratch"])
    for check in (True, False):
        result = shared.task("container", check=check, fails=True, name="box", volumes=["data:/v"])
        assert result["msg"].startswith("volumes: 'data:/v:rw' can't come or go while the container runs: /v/scratch")
    shared.task("container", name="box", volumes=["data:/v"], restart=True)
    assert box.sh("cat /v/in-data; touch /v/scratch/x; ls /v/scratch") == "datax"
    assert not shared.task("container", check=True, name="box")["changed"]
    (shared.volume("data") / "scratch").rmdir()


def test_a_volume_in_use_inside_is_let_go(same: Box) -> None:
    """A process that has a file of it open keeps the file, and the volume can go from the container."""
    change(same, volumes=["data:/busy"])
    same.place.task(
        "container_exec", container="web", argv=["sh", "-c", "cd /busy; exec sleep 4712 < in-data"], detach=True
    )
    change(same, volumes=[])
    assert same.mount("/busy") is None
    same.sh("kill $(pidof sleep)")


# what is changed stays changed


def test_what_was_changed_live_outlives_the_process(shared: WarmPlace, box: Box) -> None:
    box.make(networks=ONE, restart_policy="always")
    secret = [{"name": "key", "content": "x"}]
    kernel = {
        "memory": "77m",
        "shm_size": "1m",
        "sysctls": {"net.core.somaxconn": "55"},
        "ulimits": ["nofile:99:20000"],
    }
    change(box, hostname="lion", volumes=["data:/v"], networks=[{"name": "two"}], secrets=secret, **kernel)
    pid = box.pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: box.status["status"] == "running" and box.pid != pid)
    assert box.limit("memory", "memory.limit_in_bytes") == str(77 << 20)
    words = box.sh("hostname; cat /v/in-data /run/secrets/key /proc/sys/net/core/somaxconn; ulimit -n; df /dev/shm")
    assert words.split()[:3] == ["lion", "datax55", "99"]
    assert "1024" in words.splitlines()[-1]
    assert box.addresses()[0].startswith(f"{NET}2.")
    assert not shared.task("container", check=True, name="box")["changed"]


def test_a_stopped_container_is_changed_for_its_next_start(shared: WarmPlace, box: Box) -> None:
    box.make(networks=ONE)
    shared.task("container", name="box", state="stopped")
    wanted = {"memory": "55m", "env": {"A": "1"}, "networks": [{"name": "two"}], "volumes": ["data:/v"]}
    shared.quartet("container", {"name": "box", "state": "stopped", **wanted})
    assert box.pid == 0
    shared.quartet("container", {"name": "box", "state": "started"})
    assert box.limit("memory", "memory.limit_in_bytes") == str(55 << 20)
    assert box.environ()["A"] == "1"
    assert box.addresses()[0].startswith(f"{NET}2.")
    assert box.sh("cat /v/in-data") == "data"


def test_a_paused_container_is_changed_in_its_sleep(shared: WarmPlace, box: Box) -> None:
    box.make(networks=ONE)
    process = box.process
    shared.task("container", name="box", paused=True)
    change(
        box,
        memory="55m",
        hostname="lion",
        volumes=["data:/v"],
        networks=[{"name": "two"}],
        secrets=[{"name": "k", "content": "x"}],
    )
    assert box.limit("freezer", "freezer.state") == "FROZEN"
    shared.task("container", name="box", paused=False)
    assert box.process == process
    assert box.sh("hostname; cat /v/in-data /run/secrets/k").split() == ["lion", "datax"]


# what a task says beforehand, as the user reads it


def test_check_and_diff_name_the_cost(shared: WarmPlace, box: Box) -> None:
    box.make()
    process = box.process
    args = f"root={shared.root} name=box image=marked memory=32m hostname=lion working_dir=/tmp"
    command = ["ansible", "localhost", "-m", "vessel.host.container", "-a", args, "--check", "--diff"]
    collections = {"ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_NOCOLOR": "1"}
    env = {**os.environ, **collections, "PATH": f"{Path(os.sys.executable).parent}:{os.environ['PATH']}"}
    told = subprocess.run(command, capture_output=True, text=True, timeout=patient(120), env=env, check=True).stdout
    lines = [line.rstrip(",") for line in told.splitlines()]
    assert '-        "memory (live)": 0' in lines
    assert '+        "memory (live)": 33554432' in lines
    assert '+        "hostname (live)": "lion"' in lines
    assert '+        "working_dir (restart)": "/tmp"' in lines
    assert '+        "image (recreate)": "marked:latest"' in lines
    assert '"container box: set image (recreate)"' in told
    assert box.process == process


def test_a_worse_change_is_refused_whole(shared: WarmPlace, box: Box) -> None:
    box.make()
    process = box.process
    result = shared.task(
        "container", fails=True, name="box", image="marked", memory="32m", hostname="x", max_disruption="live"
    )
    assert result["msg"] == (
        "image: 'marked:latest' needs a recreate of container box, and max_disruption allows live at the most"
        " (max_disruption: recreate allows it)"
    )
    assert box.process == process
    assert box.sh("hostname") == "box"
    assert not shared.task("container", check=True, name="box")["changed"]


# replacing the process


WHOLE: dict[str, Any] = {
    "networks": ONE,
    "published_ports": [f"{BACK}:80"],
    "volumes": ["data:/v"],
    "secrets": [{"name": "key", "content": "old"}],
    "command": "httpd -f -p 80",
    "memory": "64m",
    "hostname": "lion",
}
BAD = ["/nonexistent"]


@pytest.mark.parametrize(
    "args",
    [
        {"command": BAD},
        {"command": BAD, "recreate": True},
        {"command": BAD, "image": "marked"},
        {"command": BAD, "networks": [{"name": "two"}], "published_ports": [f"{OTHER}:80"], "hostname": "x"},
        {"command": BAD, "secrets": [{"name": "key", "content": "new"}], "volumes": [], "memory": "32m"},
        {"command": BAD, "secrets": []},
        {"command": BAD, "network_mode": "none", "published_ports": []},
        {"working_dir": "/etc/passwd"},
        {"tmpfs": ["/etc/passwd/x"]},
    ],
)
def test_what_does_not_start_brings_the_old_one_back(shared: WarmPlace, box: Box, args: dict[str, Any]) -> None:
    box.make(**WHOLE)
    until(lambda: answers(BACK))
    box.path("/written").write_text("kept")
    process, address = box.process, box.addresses()
    result = shared.task("container", fails=True, name="box", **args)
    assert "undo" not in result["msg"], result["msg"]
    assert box.process != process
    assert box.read("/written") == "kept"
    assert box.sh("hostname; cat /run/secrets/key; cat /v/in-data").split() == ["lion", "olddata"]
    assert box.addresses() == address
    assert until(lambda: answers(BACK))
    assert box.limit("memory", "memory.limit_in_bytes") == str(64 << 20)
    assert shared.task("container", check=True, name="box", **WHOLE)["actions"] == []


def test_a_live_change_that_fails_is_taken_back(shared: WarmPlace, box: Box) -> None:
    """A part of it is refused by the kernel, when others are done: a file is no directory."""
    box.make(memory="64m", networks=ONE, volumes=["data:/v"], ulimits=["nofile:256:512"])
    process = box.process
    more = {
        "memory": "32m",
        "hostname": "lion",
        "labels": {"a": "1"},
        "ulimits": ["nofile:128:512"],
        "networks": [{"name": "two"}],
        "volumes": ["more:/m", "more:/etc/passwd/x"],
    }
    result = shared.task("container", fails=True, name="box", **more)
    assert "/etc/passwd/x" in result["msg"]
    assert "undo" not in result["msg"]
    assert box.process == process
    assert box.limit("memory", "memory.limit_in_bytes") == str(64 << 20)
    assert box.sh("hostname; cat /v/in-data; ulimit -n").split() == ["box", "data256"]
    assert box.mount("/m") is None
    assert box.proc("mountinfo").count(" /v ") == 1
    assert box.addresses()[0].startswith(f"{NET}1.")
    assert not shared.task("container", check=True, name="box")["changed"]


@pytest.mark.parametrize("args", [{"env": {"A": "1"}}, {"image": "other"}, {"restart": True}, {"state": "absent"}])
def test_who_is_started_anew_or_goes_is_told_before(box: Box, tmp_path: Path, args: dict[str, Any]) -> None:
    """A database that is killed has to mend itself when it starts."""
    box.place.task("image", name="other", source="template", template="busybox", cmd=["sleep", "1"])
    command = "trap 'echo bye >>/v/said; exit 0' TERM; echo up >>/v/said; while :; do sleep 0.05; done"
    box.make(volumes=[f"{tmp_path}:/v"], command=["sh", "-c", command], network_mode="none")
    until((tmp_path / "said").exists)
    box.place.task("container", name="box", **args)
    assert (tmp_path / "said").read_text().split()[:2] == ["up", "bye"]
