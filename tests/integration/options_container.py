# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of module container: each option, from a value to another and back."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from pathlib import Path
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._kernel import apparmor, caps
from ansible_collections.vessel.host.tests.patience import patient

from .cgroup_words import ROOT, UNIFIED, UNLIMITED, where
from .options_box import Box, answers, until
from .options_table import Alike, Also, rows
from .warm import NET, PORT, SIX, TRAP

row = rows("container")
ONE = [{"name": "one"}]
ONE_NODE = "the host has one memory node"
NO_LSM = "the host has neither SELinux nor AppArmor"

# what it is made from, and its process


def cmdline(box: Box) -> str:
    return box.proc("cmdline").replace("\0", " ").strip()


def environ(box: Box) -> dict[str, str]:
    return {key: value for key, value in box.environ().items() if len(key) == 1}


def ids(box: Box) -> tuple[str, str, str]:
    return box.field("Uid").split()[1], box.field("Gid").split()[1], box.environ()["HOME"]


row("image", lambda box: box.path("/marker").exists(), ("marked", True, "marked:latest"), ("bb", False))
row(
    "command",
    cmdline,
    (["sleep", "5001"], "sleep 5001", "sleep 5001"),
    ("sh -c 'sleep 9 & wait'", "sh -c sleep 9 & wait"),
)
row("command", cmdline, ([], "/bin/sleep 7000"), (["1", "2"], "/bin/sleep 7000 1 2", "1 2"), ("", "/bin/sleep 7000 7001"),
    name="beside-entrypoint", image="entry", command=["3"])  # fmt: skip
row("entrypoint", cmdline, (Also(entrypoint=["sleep"], command=["5002"]), "sleep 5002"),
    (Also(entrypoint=[], command=["sleep", "5003"]), "sleep 5003"),
    (Also(entrypoint="", command=""), "/bin/sleep 7000 7001"), image="entry")  # fmt: skip
row(
    "env",
    environ,
    ({"A": "1", "B": "x y"}, {"A": "1", "B": "x y"}, {"B": "x y", "A": 1}),
    ({"A": "2"}, {"A": "2"}),
    ({}, {}),
)
row(
    "user",
    ids,
    ("1234:4321", ("1234", "4321", "/")),
    ("nobody", ("65534", "65534", "/nonexistent")),
    ("", ("0", "0", "/root")),
)
row("groups", lambda box: box.field("Groups"), (["20", "10"], "0 10 20", [10, 20]), ([], "0"))
row("working_dir", lambda box: box.sh("readlink /proc/1/cwd"), ("/tmp", "/tmp", "//tmp/"), ("", "/"))
row("init", lambda box: box.read("/proc/1/comm").strip(), (True, "vessel-init", "yes"), (False, "sh"))


# names


def names(box: Box) -> tuple[str, ...]:
    uts = [box.sh(f"cat /proc/sys/kernel/{file}") for file in ("hostname", "domainname")]
    own = next(line for line in box.read("/etc/hosts").splitlines() if line.startswith("127.0.1.1"))
    return *uts, box.read("/etc/hostname").strip(), own.split("\t")[1]


def resolv(box: Box) -> list[str]:
    """What is not the host's own."""
    host = Path("/etc/resolv.conf").read_text().splitlines()
    return [line for line in box.read("/etc/resolv.conf").splitlines() if line not in host]


def hosts(box: Box) -> list[str]:
    return [line for line in box.read("/etc/hosts").splitlines() if line.startswith(("192.0.2.", "2001:db8:"))]


row("hostname", names, ("lion", ("lion", "(none)", "lion", "lion")), ("", ("box", "(none)", "box", "box")))
row("domainname", names, ("example.org", ("box", "example.org", "box", "box.example.org box")),
    ("", ("box", "(none)", "box", "box")))  # fmt: skip
row("dns_servers", resolv, (["192.0.2.53", "2001:db8:0::53"], ["nameserver 192.0.2.53", "nameserver 2001:db8::53"],
    ["192.0.2.53", "2001:0db8::53"]), ([], []))  # fmt: skip
row("dns_search_domains", resolv, (["a.example", "example"], ["search a.example example"]), ([], []))
row("dns_opts", resolv, (["ndots:2", "rotate"], ["options ndots:2 rotate"]), ([], []))
row("etc_hosts", hosts, ({"db": "192.0.2.7", "six": "2001:db8::7"}, ["192.0.2.7\tdb", "2001:db8::7\tsix"],
    {"six": "2001:db8:0:0::7", "db": "192.0.2.7"}), ({}, []))  # fmt: skip
row(
    "labels",
    lambda box: box.facts()["labels"],
    ({"a": "1", "b": "x=y"}, {"a": "1", "b": "x=y"}, {"b": "x=y", "a": 1}),
    ({}, {}),
)


# networks


def subnets(box: Box) -> list[str]:
    return [address.rpartition(".")[0] for address in box.addresses()]


def default_route(box: Box) -> list[str]:
    return [line.split()[2] for line in box.outside("ip", "route").splitlines() if line.startswith("default")]


def mac(box: Box) -> str:
    return next(str(link["address"]) for link in box.links().values())


def known_as(box: Box) -> list[str]:
    """As whom the neighbour knows it."""
    line = next(line for line in Box(box.place, "peer").read("/etc/hosts").splitlines() if "\tbox" in line)
    return line.split("\t")[1].split()[1:]


def one(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "one", **more}]


def mac_is_made(box: Box) -> bool | str:
    return mac(box) == "02:42:0a:00:00:99" or "made"


row("networks", lambda box: (subnets(box), default_route(box)), ([{"name": "one"}, {"name": "two"}],
    ([f"{NET}1", f"{NET}2"], [f"{NET}1.1"])), ([{"name": "two"}], ([f"{NET}2"], [f"{NET}2.1"])), ([], ([], [])))  # fmt: skip
row("networks.name", subnets, (ONE, [f"{NET}1"]), ([{"name": "two"}], [f"{NET}2"]))
row("networks.ipv4_address", Box.addresses, (one(ipv4_address=f"{NET}1.77"), [f"{NET}1.77"]),
    (one(ipv4_address=f"{NET}1.78"), [f"{NET}1.78"]), networks=ONE)  # fmt: skip
row("networks.ipv6_address", lambda box: box.addresses("inet6"),
    ([{"name": "two", "ipv6_address": f"{SIX}::77"}], [f"{SIX}::77"], [{"name": "two", "ipv6_address": f"{SIX}:0::77"}]),
    ([{"name": "two", "ipv6_address": f"{SIX}::78"}], [f"{SIX}::78"]), networks=[{"name": "two"}])  # fmt: skip
row("networks.aliases", known_as, (one(aliases=["www", "web"]), ["web", "www"], one(aliases=["web", "www"])),
    (one(aliases=[]), [], ONE), networks=ONE)  # fmt: skip
row("networks.mac_address", mac_is_made, (one(mac_address="02:42:0A:00:00:99"), True, one(mac_address="02-42-0a-00-00-99")),
    (ONE, "made"), networks=ONE)  # fmt: skip
row("network_mode", lambda box: (box.namespace("net"), subnets(box) if box.namespace("net") == "own" else []),
    ("none", ("own", [])), ("host", ("host", [])), ("container:peer", ("peer", [])),
    (Also(networks=ONE), ("own", [f"{NET}1"])), networks=ONE)  # fmt: skip


def open_ports(box: Box) -> list[int]:
    return [port for port in range(PORT + 1, PORT + 4) if answers(port)]


def udp_rules(box: Box) -> bool:
    import subprocess

    table = ["nft", "list", "table", "inet", box.place.paths.nft_table]
    text = subprocess.run(table, capture_output=True, text=True, timeout=patient(20), check=True).stdout
    # By its number where the host has no /etc/protocols.
    return any(f"{protocol} . {PORT + 4} : " in text for protocol in ("udp", "17"))


HTTPD = {"networks": ONE, "command": "httpd -f -p 80"}
row("published_ports", open_ports, ([f"{PORT + 1}:80"], [PORT + 1], [f"0.0.0.0:{PORT + 1}:80/tcp"], [f"{PORT + 1}:80/TCP"]),
    ([f"{PORT + 2}-{PORT + 3}:80-81", f"{PORT + 1}:80"], [PORT + 1, PORT + 2], [f"{PORT + 1}:80", f"{PORT + 3}:81", f"{PORT + 2}:80"]),
    ([f"127.0.0.1:{PORT + 3}:80"], [PORT + 3]), ([], []), **HTTPD)  # fmt: skip
row("published_ports", udp_rules, ([f"{PORT + 4}:53/udp"], True), ([], False), name="udp", **HTTPD)


# files


def mounted(box: Box) -> list[str] | None:
    return box.mount("/v")


def size(target: str) -> Any:
    def ask(box: Box) -> int | None:
        if box.mount(target) is None:
            return None
        info = os.statvfs(box.path(target))
        return info.f_blocks * info.f_frsize

    return ask


row("volumes", mounted, (["data:/v"], ["rw"], ["data:/v/:rw"]),
    (["data:/v:ro,nosuid"], ["nosuid", "ro"], ["data:/v:nosuid,ro"]), ([], None))  # fmt: skip
row("volumes", lambda box: [box.path(path).exists() for path in ("/v/in-data", "/v/in-more", "/deep/v/in-more")],
    (["data:/v"], [True, False, False]), (["more:/v", "more:/deep/v"], [False, True, True], ["more:/deep/v", "more:/v"]),
    (["more:/deep/v"], [False, False, True]), ([], [False, False, False]), name="sources")  # fmt: skip
row("tmpfs", size("/scratch"), (["/scratch:size=1m"], 1 << 20), (["/scratch:size=2m,mode=0700"], 2 << 20,
    ["/scratch:mode=0700,size=2m"]), ([], None))  # fmt: skip
row("shm_size", size("/dev/shm"), ("1m", 1 << 20, 1048576, "1024k"), ("64m", 64 << 20))
row("read_only", lambda box: box.works("touch /x"), (True, False), (False, True))


def secret(box: Box) -> str | None:
    if not box.path("/run/secrets/key").exists():
        return None
    return box.sh("cat /run/secrets/key; stat -c :%u:%g:%a /run/secrets/key").replace("\n", "")


def key(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "key", "content": "one", **more}]


row("secrets", secret, (key(), "one:0:0:400", key(mode="400", uid=0, gid=0)), ([], None))
row("secrets.name", lambda box: sorted(path.name for path in box.path("/run/secrets").glob("[a-z]*")),
    ([{"name": "other", "content": "1"}], ["other"]),
    ([{"name": "more", "content": "1"}, {"name": "key", "content": "2"}], ["key", "more"]), secrets=key())  # fmt: skip
row("secrets.content", secret, (key(content="two"), "two:0:0:400"), (key(content="one"), "one:0:0:400"), secrets=key())
row("secrets.uid", secret, (key(uid=12), "one:12:0:400"), (key(), "one:0:0:400"), secrets=key())
row("secrets.gid", secret, (key(gid=34), "one:0:34:400"), (key(), "one:0:0:400"), secrets=key())
row("secrets.mode", secret, (key(mode="0444"), "one:0:0:444"), (key(), "one:0:0:400"), secrets=key())


# limits


def limit(controller: str, file: str) -> Any:
    return lambda box: box.limit(controller, file)


row("memory", limit("memory", "memory.limit_in_bytes"), ("64m", "67108864", 67108864, "65536k", "64MiB"), ("32m", "33554432"),
    (0, UNLIMITED))  # fmt: skip
row(
    "memory",
    limit("memory", "memory.limit_in_bytes"),
    (-1, UNLIMITED),
    ("48m", str(48 << 20)),
    name="none",
    memory="64m",
)
row(
    "memory_reservation",
    limit("memory", "memory.soft_limit_in_bytes"),
    ("16m", "16777216", 16 << 20),
    (0, UNLIMITED),
    memory="64m",
)
row("memory_swap", limit("memory", "memory.memsw.limit_in_bytes"), ("96m", str(96 << 20), 96 << 20), ("64m", str(64 << 20)),
    (-1, UNLIMITED), memory="64m")  # fmt: skip
row(
    "memory_swap",
    limit("memory", "memory.memsw.limit_in_bytes"),
    ("96m", str(96 << 20)),
    (0, UNLIMITED),
    name="undeclared",
    memory="64m",
)
V2 = "" if UNIFIED else "needs cgroup v2"
row("memory_high", limit("memory", "memory.high"), ("48m", str(48 << 20), 48 << 20), (-1, "max", 0), ("32m", str(32 << 20)),
    (0, "max"), lacks=V2, memory="64m")  # fmt: skip
row("memory_min", limit("memory", "memory.min"), ("16m", str(16 << 20), 16 << 20), (0, "0"), lacks=V2, memory="64m")
row("oom_group", limit("memory", "memory.oom.group"), (True, "1", "yes"), (False, "0"), lacks=V2)
HUGETLB = "hugetlb" in (ROOT / "cgroup.controllers").read_text() if UNIFIED else (ROOT / "hugetlb").exists()


def huge_pages(box: Box) -> list[str]:
    """What may be used, and what may be reserved. systemd shares the controller out to nobody who does not want it."""
    name = "max" if UNIFIED else "limit_in_bytes"
    group = where("hugetlb", box.place.paths.cgroup("box"))
    files = [group / f"hugetlb.2MB.{file}" for file in (name, f"rsvd.{name}")]
    values = [file.read_text().strip() if file.exists() else "max" for file in files]
    return [value if value.isdecimal() and int(value) < 1 << 62 else "max" for value in values]


row("hugepage_limits", huge_pages, ({"2m": "8m"}, [str(8 << 20)] * 2, {2 << 20: 8 << 20}), ({"2MiB": 0}, ["0"] * 2),
    ({}, ["max"] * 2), lacks="" if HUGETLB else "needs the cgroup controller hugetlb")  # fmt: skip
row("cpus", limit("cpu", "cpu.cfs_quota_us"), (0.5, "50000", "0.5"), (1, "100000", 1.0), (0, "-1"))
row("cpu_shares", limit("cpu", "cpu.shares"), (512, "512", "512"), (0, "1024"))
row("cpuset_cpus", lambda box: (box.limit("cpuset", "cpuset.cpus"), box.field("Cpus_allowed_list")), ("0", ("0", "0"), 0, "0-0"),
    ("1", ("1", "1")), ("", ("0-1", "0-1")))  # fmt: skip
row("cpuset_mems", limit("cpuset", "cpuset.mems"), ("0", Alike("0", ONE_NODE), 0), ("", Alike("0", ONE_NODE)))
row("pids_limit", limit("pids", "pids.max"), (50, "50", "50"), (-1, "max", 0), (20, "20"), (0, "max"))
row("blkio_weight", limit("blkio", "blkio.bfq.weight"), (500, "500"), (0, "100"))


def _disk() -> Path:
    """The whole disk that the root lies on, as sysfs has it."""
    device = os.stat("/").st_dev
    found = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    return found.parent if (found / "partition").exists() else found


DISK, NUMBERS = f"/dev/{_disk().name}", (_disk() / "dev").read_text().strip()


def rates(option: str, small: Any, large: Any) -> None:
    """A row for the option, and one for each of its own. ``small`` and ``large`` are (rate, its number)."""
    ask = limit("blkio", f"blkio.throttle.{option.partition('_')[2]}_device")
    slow, fast = (([{"path": DISK, "rate": rate}], f"{NUMBERS} {number}") for rate, number in (small, large))
    row(option, ask, (*slow, [{"path": f"/dev/./{_disk().name}", "rate": small[1]}]), ([], ""))
    row(f"{option}.path", ask, slow, ([], ""))
    row(f"{option}.rate", ask, slow, fast)


for way in ("read", "write"):
    rates(f"device_{way}_bps", ("1m", 1 << 20), ("2m", 2 << 20))
    rates(f"device_{way}_iops", (100, 100), (200, 200))
row("oom_score_adj", lambda box: box.proc("oom_score_adj").strip(), (500, "500"), (200, "200"), (0, "0"))


def soft(box: Box) -> tuple[str, str]:
    lines = {line[:26].strip(): line[26:].split() for line in box.proc("limits").splitlines()}
    return lines["Max open files"][0], lines["Max core file size"][0]


OURS = str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])  # what is declared no more is as the host has it
row("ulimits", soft, (["nofile:512:20000", "core:77:unlimited"], ("512", "77"), ["core=77:-1", "nofile:512:20000"]),
    (["nofile:600:20000"], ("600", "0")), ([], (OURS, "0")))  # fmt: skip
row("sysctls", lambda box: box.sh("cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax").split(),
    ({"net.core.somaxconn": "77", "kernel.msgmax": "9000"}, ["77", "9000"], {"kernel/msgmax": 9000, "net/core/somaxconn": 77}),
    ({"net.core.somaxconn": "78"}, ["78", "9000"]))  # fmt: skip


# what it may do


# One of the host's that a container has not, and that takes no harm from being opened.
DEVICE = next((path for path in ("/dev/fuse", "/dev/loop-control", "/dev/hwrng") if os.path.exists(path)), "/dev/kmsg")


def device(box: Box) -> list[bool]:
    """Is it there, can it be opened to read, to write?"""
    ways = ("true", ": < /dev/x", ": >> /dev/x")
    return [box.works(f"test -c /dev/x && {way} 2>/dev/null") for way in ways]


def bounding(*wanted: str) -> Any:
    def ask(box: Box) -> list[str]:
        bits = int(box.field("CapBnd"), 16)
        return [name for name in wanted if bits >> caps.NUMBERS[f"CAP_{name}"] & 1]

    return ask


def power(box: Box) -> tuple[bool, str, str]:
    everything = sum(1 << caps.NUMBERS[name] for name in caps.held())
    return int(box.field("CapBnd"), 16) == everything, box.field("Seccomp"), box.field("NoNewPrivs")


row("devices", device, ([f"{DEVICE}:/dev/x:w"], [True, False, True]), ([f"{DEVICE}:/dev/x"], [True, True, True],
    [f"{DEVICE}:/dev/x:mrw"]), ([], [False, False, False]))  # fmt: skip
row("capabilities", bounding("NET_ADMIN", "SYS_TIME"), (["net_admin", "CAP_SYS_TIME"], ["NET_ADMIN", "SYS_TIME"],
    ["SYS_TIME", "CAP_NET_ADMIN"]), ([], []))  # fmt: skip
row("cap_drop", bounding("CHOWN", "KILL"), (["CHOWN"], ["KILL"], ["cap_chown"]), (["ALL"], []), ([], ["CHOWN", "KILL"]))
row("privileged", power, (True, (True, "0", "0")), (False, (False, "2", "1")))


def profile(box: Box) -> str:
    return apparmor.process_profile(box.pid) if apparmor.enabled() else ""


if apparmor.enabled():
    row("security_opts", profile, (["apparmor=unconfined"], "unconfined", ["apparmor:unconfined"]),
        ([], "vessel-default (enforce)"))  # fmt: skip
else:
    row("security_opts", profile, (["label=disable"], Alike("", NO_LSM), ["label:disable"]), ([], Alike("", NO_LSM)))


# whose namespaces


def namespace(kind: str) -> Any:
    return lambda box: box.namespace(kind)


row("pid_mode", namespace("pid"), ("host", "host"), ("container:peer", "peer"), ("private", "own"))
row("ipc_mode", namespace("ipc"), ("host", "host"), ("container:peer", "peer"), ("private", "own"),
    ("shareable", Alike("own", "whoever may join the one may join the other")))  # fmt: skip
row("uts", namespace("uts"), ("host", "host"), ("private", "own"))
row("cgroupns_mode", namespace("cgroup"), ("host", "host"), ("private", "own"))


# what the supervisor does for it


def alive_again(box: Box, end: Any) -> bool:
    """Ends it by ``end``, and tells whether another process comes."""
    pid, restarts = box.pid, box.status["restarts"]
    end(pid)
    until(lambda: box.ended() or (box.status["restarts"] > restarts and box.pid not in (0, pid)))
    return not box.ended()


def comes_back(box: Box) -> tuple[bool, bool]:
    """(after a failure, after an end that is none)"""
    box.place.task("container", name="box")
    failed = alive_again(box, lambda pid: os.kill(pid, signal.SIGKILL))
    box.place.task("container", name="box")
    succeeded = alive_again(box, lambda pid: os.kill(pid, signal.SIGTERM))
    box.place.task("container", name="box")
    return failed, succeeded


def tries(box: Box) -> int:
    """How often it was started until the supervisor gave up, or three times if it did not."""
    box.place.task("container", name="box", restart=True)
    box.path("/v/fail").touch()
    os.kill(box.pid, signal.SIGKILL)
    until(lambda: box.status["status"] == "exited" or box.status["restarts"] >= 3)
    (box.place.volume("data") / "fail").unlink()
    if box.ended():
        restarts = box.status["restarts"]
        box.place.task("container", name="box")
        return int(restarts)
    until(lambda: box.status["status"] == "running")
    return 3


def stop_word(box: Box) -> str:
    """What its process says of the signal that it got."""
    box.place.task("container", name="box", state="stopped")
    word = (box.place.volume("data") / "word").read_text().strip()
    box.place.task("container", name="box")
    return word


def slow_to_stop(box: Box) -> bool:
    until(lambda: int(box.field("SigIgn"), 16) >> (signal.SIGTERM - 1) & 1)  # who has no handler is not waited for
    begin = time.monotonic()
    box.place.task("container", name="box", state="stopped")
    took = time.monotonic() - begin
    box.place.task("container", name="box")
    return took > patient(1.2)


SLOW = patient(1.5)
SAYS = 'for s in TERM USR1 HUP; do trap "echo $s > /v/word; exit" $s; done; sleep 100000 & wait'
row("restart_policy", comes_back, ("on-failure", (True, False)), ("always", (True, True)), ("no", (False, False), False),
    ("unless-stopped", (True, True)), command=["sh", "-c", TRAP])  # fmt: skip
row("restart_retries", tries, (1, 1), (2, 2), (0, 3), restart_policy="on-failure", volumes=["data:/v"],
    command=["sh", "-c", f"test -e /v/fail && exit 1; {TRAP}"])  # fmt: skip
row("stop_signal", stop_word, ("USR1", "USR1", "SIGUSR1", 10, "10"), ("hup", "HUP"), ("", "TERM"), volumes=["data:/v"],
    command=["sh", "-c", SAYS])  # fmt: skip
row(
    "stop_timeout",
    slow_to_stop,
    (f"{SLOW}s", True, SLOW, f"{SLOW * 1000:.0f}ms"),
    (0.2, False),
    command=["sh", "-c", "trap '' TERM; sleep 100000"],
    stop_timeout=0.1,
)


def is_made_beside(box: Box) -> bool:
    """Has the next instance a place of its own?"""
    before = box.place.paths.instance("box")
    box.place.task("container", name="box", recreate=True)
    return box.place.paths.instance("box") != before


def waits_for_a_connection(box: Box) -> bool:
    """Does the old instance stay as long as somebody is connected to it?"""
    address = box.addresses()[0]
    until(lambda: answers(80, address))
    with socket.create_connection((address, 80), timeout=patient(5)):
        box.place.task("container", name="box", recreate=True)
        ticks = int(box.process[1])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK") > DRAINED


DRAINED = patient(2)
row("update_order", is_made_beside, ("start_first", True), ("stop_first", False))
row(
    "drain_timeout",
    waits_for_a_connection,
    (f"{DRAINED:g}s", True, DRAINED, f"{DRAINED * 1000:.0f}ms"),
    (0, False),
    update_order="start_first",
    healthcheck={"test": "true", "interval": "50ms"},
    stop_timeout=0.1,
    drain_timeout=0,
    **HTTPD,
)


def which_ran(box: Box) -> str:
    """Which of two tests runs now."""
    for name in ("x", "y"):
        box.path(f"/{name}").unlink(missing_ok=True)
    time.sleep(patient(0.5))
    return "".join(name for name in ("x", "y") if box.path(f"/{name}").exists())


def often(box: Box) -> bool:
    """Is the test run more often than twice a second?"""
    box.path("/beats").unlink(missing_ok=True)
    time.sleep(patient(1.1))
    return box.path("/beats").exists() and len(box.read("/beats").splitlines()) > 2


def verdict(box: Box) -> str:
    """Once a test or two were made."""
    return str(
        until(lambda: box.status["health"] and len(box.status["health"]["log"]) > 1 and box.status["health"]["status"])
    )


def check(test: str, **times: Any) -> dict[str, Any]:
    return {"test": test, "interval": "100ms", **times}


def starting(interval: str) -> dict[str, Any]:
    """A check that fails, in a start period that has no end."""
    return {"test": f"{BEAT}; false", "interval": "1h", "start_period": "1h", "start_interval": interval}


BEAT = "echo >> /beats"
row("healthcheck", which_ran, (check("touch /x"), "x", {"test": ["CMD-SHELL", "touch /x"], "interval": 0.1, "retries": 3}),
    ({"test": "NONE"}, "", {"test": ["NONE"]}), (check("touch /y"), "y"), ({"test": ""}, ""))  # fmt: skip
row("healthcheck.test", which_ran, ({"test": ["CMD", "touch", "/y"], "interval": "100ms"}, "y", {"test": ["touch", "/y"],
    "interval": "0.1s"}), (check("touch /x"), "x"), healthcheck=check("touch /x"))  # fmt: skip
row("healthcheck.interval", often, ({"test": BEAT, "interval": "100ms"}, True, {"test": BEAT, "interval": 0.1}),
    ({"test": BEAT}, False), healthcheck={"test": BEAT, "interval": "1h"})  # fmt: skip
row("healthcheck.timeout", verdict, (check("sleep 0.3", timeout="100ms", retries=1), "unhealthy"),
    (check("sleep 0.3", retries=1), "healthy"), healthcheck=check("sleep 0.3", timeout=patient(2.0), retries=1))  # fmt: skip
row("healthcheck.retries", verdict, (check("false", retries=2), "unhealthy"), (check("false", retries=1000), "starting"),
    healthcheck=check("false", retries=1000))  # fmt: skip
row("healthcheck.start_period", verdict, (check("false", retries=1, start_period="1h", start_interval="100ms"), "starting"),
    (check("false", retries=1), "unhealthy"), healthcheck=check("false", retries=1))  # fmt: skip
row("healthcheck.start_interval", often, (starting("100ms"), True), (starting("1h"), False), healthcheck=starting("1h"))


def output(box: Box) -> str:
    return os.path.basename(os.readlink(f"/proc/{box.pid}/fd/1"))


def log_files(box: Box) -> int:
    """After a lot was said: the log and what rotation made of it. The supervisor looks every second."""
    log = box.place.home("containers", "box") / "log"
    for old in log.parent.glob("log.*"):
        old.unlink()
    for number in range(3):
        box.sh(f"yes 'line {number}' | head -c 20000 > /proc/1/fd/1")
        deadline = time.monotonic() + patient(2.5)
        while log.stat().st_size >= 20000 and time.monotonic() < deadline:
            time.sleep(0.05)
        if log.stat().st_size >= 20000:
            break
    return len(list(log.parent.glob("log*")))


row("log_driver", output, ("none", "null"), ("file", "log"))
row("log_options", log_files, ({"max_size": "8k", "max_file": 3}, 3, {"max-size": 8192, "max-file": "3"}),
    ({"max_size": "8k", "max_file": 2}, 2), ({"max_size": "1g"}, 1))  # fmt: skip
