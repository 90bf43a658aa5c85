# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``update_order: start_first``: the new instance beside the old one, under a load that is counted; what happens when
it does not get well, when a run is killed, and when it can't be."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import firewall
from ansible_collections.vessel.host.plugins.module_utils._network import nft_replace, nftables
from ansible_collections.vessel.host.plugins.module_utils._network.model import Port
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths, booted_by_systemd
from ansible_collections.vessel.host.tests.kernel.module_runner import COLLECTIONS
from ansible_collections.vessel.host.tests.patience import patient

from . import cgroup_words
from .load import Load, Outside, ask
from .options_box import Box, answers, until
from .power import reboot, restore, supervisor
from .test_killed import PROGRAM
from .warm import NET, PORT, TRAP, WarmPlace

pytestmark = pytest.mark.root
ONE = [{"name": "one"}]
WEB = PORT + 6
CONTROLLERS = os.listdir("/sys/fs/cgroup")
# A page with a word, and one that takes its time in the middle. Told to stop, the first process ends at once.
SERVE = rf"""
SLOW={patient(3):.0f}
mkdir -p /www/cgi-bin; echo $WORD >/www/index.html; cd /www/cgi-bin
printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\nslow "; sleep '$SLOW'; echo '$WORD'\n' >slow
chmod 755 slow; echo says $WORD
trap 'exit 0' TERM; httpd -f -p 80 -h /www & wait
"""
SERVES = {"command": ["sh", "-c", SERVE], "networks": ONE, "published_ports": [f"{WEB}:80"]}


def word(text: str, order: str = "start_first", **more: Any) -> dict[str, Any]:
    return {**SERVES, "env": {"WORD": text}, "update_order": order, **more}


@pytest.fixture(scope="module")
def server(shared: WarmPlace) -> Iterator[Box]:
    server = Box(shared, "web")
    yield server
    server.remove()
    assert traces(shared) == []


@pytest.fixture
def web(server: Box) -> Iterator[Box]:
    """It says one; what a test leaves it with does not matter, but that it is alone does."""
    server.make(**word("one", drain_timeout=f"{patient(10):g}s", log_options={}, healthcheck={"test": ""}))
    until(lambda: answers(WEB))
    yield server
    assert traces(server.place) == []


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    outside = Outside(f"vt{os.getpid()}-load", f"{NET}9")
    yield outside
    outside.remove()


def traces(place: WarmPlace, name: str = "web") -> list[str]:
    """What there is of the instance that does not count, or of either once the container is gone."""
    paths, found = place.paths, []
    gone = not os.path.exists(paths.resource("containers", name))
    for instance in (name, f"_{name}"):
        its = Paths.seen_with(paths, instance)
        if not gone and instance == paths.instance(name):
            continue
        places = [its.bundle(name), its.runtime_state(name), its.endpoints(name), its.netns(name), its.secrets(name)]
        places += [f"{its.home(name)}/{entry}" for entry in ("upper", "work", "base.json", "etc")]
        found += [path for path in places if os.path.lexists(path)]
        groups = [f"/sys/fs/cgroup{top}{its.cgroup(name)}" for top in ("", *map("/{}".format, CONTROLLERS))]
        found += [group for group in groups if os.path.lexists(group)]
        scope = os.path.basename(os.path.dirname(its.cgroup(name)))
        found += [scope] if not found and booted_by_systemd() and stays(scope) else []
    return found


def stays(unit: str) -> bool:
    """systemd lets go of a scope that has become empty in its own time."""
    deadline = time.monotonic() + patient(2)
    words = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", unit]
    while subprocess.run(words, capture_output=True, text=True, check=True).stdout:
        if time.monotonic() > deadline:
            return True
        time.sleep(0.1)
    return False


def page() -> str:
    return ask(("127.0.0.1", WEB))


# under load


def test_no_request_is_dropped(web: Box, peer: Box, outside: Outside) -> None:
    """Thousands of short ones, and one that had begun before and takes longer than all the rest of the change."""
    before, address, told = web.process, web.addresses(), []
    slow = threading.Thread(target=lambda: told.append(ask((outside.host, WEB), "/cgi-bin/slow")))
    with Load(outside, WEB) as load:
        slow.start()
        until(lambda: "sleep" in comms(web))
        checked = web.place.task("container", check=True, name="web", **word("two"))
        assert web.process == before
        done = web.place.task("container", name="web", **word("two"))
        slow.join()
        time.sleep(0.3)
    print(f"start first: {dict(load.answers)} answered, {dict(load.failed)} failed")
    assert not load.failed
    assert load.answers["one"] > 100 < load.answers["two"]
    assert told == ["slow one"]
    assert checked["actions"] == done["actions"] == ["container web: set env (recreate, start first)"]
    assert web.process != before
    assert not Path(f"/proc/{before[0]}").exists()
    assert traces(web.place) == []
    # Names, and what is told of it, are those of the new one.
    assert web.addresses() != address
    assert f"{web.addresses()[0]}\tweb\n" in peer.read("/etc/hosts")
    assert address[0] not in peer.read("/etc/hosts")
    assert peer.sh("wget -qO- web") == "two"
    assert web.sh("cat /www/index.html; hostname").split() == ["two", "web"]
    facts = web.facts()
    assert (facts["pid"], facts["state"], facts["networks"][0]["ipv4_address"]) == (
        web.pid,
        "running",
        web.addresses()[0],
    )
    said = subprocess.run([f"{web.place.paths.bin}/vessel", "ps"], capture_output=True, text=True, check=True).stdout
    assert [line.split()[2] for line in said.splitlines() if re.match(r"_?web\b", line)] == [str(web.pid)]
    assert web.place.task("container_logs", container="web")["lines"] == ["says one", "says two"]
    assert not web.place.task("container", name="web", **word("two"))["changed"]
    # And the other way round, to the id of the first one.
    web.place.quartet("container", {"name": "web", **word("three")})
    assert page() == "three"
    assert traces(web.place) == []


def comms(web: Box) -> list[str]:
    """What runs in the container."""
    found = []
    for pid in (cgroup_words.where("pids", web.place.paths.cgroup(web.name)) / "cgroup.procs").read_text().split():
        with suppress(OSError):
            found.append(Path(f"/proc/{pid}/comm").read_text().strip())
    return found


def test_rules_that_change_refuse_nobody(web: Box, outside: Outside) -> None:
    """Others' ports come and go all the time. Where chains were made anew, 27 of 320,000 requests were refused."""
    wanted, before = firewall.render(web.place.paths), nftables.read(web.place.paths.nft_table)
    more = firewall.Target(Port("127.0.0.1", WEB + 1, 80), web.addresses()[0])
    networks = firewall.networks(web.place.paths).values()
    turns = [wanted, nftables.render(web.place.paths.nft_table, networks, [*firewall.targets(web.place.paths), more])]
    with Load(outside, WEB) as load:
        for turn in range(500):
            nftables.apply(nft_replace.replacement(turns[turn % 2 - 1], before))
    print(f"500 changes: {dict(load.answers)} answered, {dict(load.failed)} failed")
    assert not load.failed
    assert load.answers["one"] > 1000
    firewall.sync(web.place.paths)


def test_stop_first_drops_some(web: Box, outside: Outside) -> None:
    """So that the test above is one that can fail."""
    with Load(outside, WEB) as load:
        time.sleep(0.2)
        done = web.place.task("container", name="web", **word("two", "stop_first"))
        until(lambda: answers(WEB))
    print(f"stop first: {dict(load.answers)} answered, {dict(load.failed)} failed")
    assert "container web: set env (restart)" in done["actions"]
    assert load.failed
    assert load.answers["one"]


def test_who_does_not_end_is_cut_when_the_time_is_over(web: Box) -> None:
    with socket.create_connection(("127.0.0.1", WEB), timeout=patient(5)) as peer:
        peer.sendall(b"GET / HTTP/1.0\r\n")
        until(lambda: "httpd" in comms(web))
        began = time.monotonic()
        web.place.task("container", name="web", **word("two", drain_timeout="1s"))
        assert time.monotonic() - began > 1
        peer.settimeout(patient(5))
        try:
            assert peer.recv(1) == b""
        except ConnectionResetError:
            pass
    assert page() == "two"


# when it does not get well


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"command": ["sh", "-c", "echo no such file >&2; exit 3"]}, r"it has ended with exit code 3.*no such file"),
        ({"command": ["sh", "-c", "exit 3"], "restart_policy": "always"}, r"it does not stay up|exit code 3"),
        ({"command": "/no/such"}, r"ENOENT"),
        (
            {"healthcheck": {"test": "echo sick; false", "interval": "50ms", "retries": 2}},
            r"it is unhealthy; its last health check ended with 1: sick",
        ),
        ({"command": ["sh", "-c", TRAP], "healthy_wait_timeout": "2s"}, r"it is not ready after 2 s"),
    ],
)
def test_the_old_one_stays_as_it_was(web: Box, body: dict[str, Any], text: str) -> None:
    before, facts = web.process, web.facts()
    failed = web.place.task("container", fails=True, name="web", **{**word("two"), **body})
    assert re.search(text, failed["msg"]), failed["msg"]
    assert "_web" not in failed["msg"]
    assert web.process == before
    assert page() == "one"
    assert web.facts()["config"] == facts["config"]
    assert traces(web.place) == []
    assert not web.place.task("container", name="web", **word("one"))["changed"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"network_mode": "host", "networks": None, "published_ports": []}, "network_mode: host"),
        ({"network_mode": "container:peer", "networks": None, "published_ports": []}, "network_mode: container:peer"),
        ({"networks": [{"name": "one", "ipv4_address": f"{NET}1.77"}]}, f"ipv4_address: {NET}1.77 on the network one"),
        ({"networks": [{"name": "one", "mac_address": "02:42:0a:00:00:77"}]}, "mac_address: 02:42:0a:00:00:77"),
        ({"devices": ["/dev/null:/dev/own"]}, "devices: /dev/null:/dev/own"),
    ],
)
def test_refused_where_it_can_t_be(web: Box, peer: Box, body: dict[str, Any], text: str) -> None:
    before = web.process
    given = {key: value for key, value in {**word("two"), **body}.items() if value is not None}
    for check in (True, False):
        failed = web.place.task("container", check=check, fails=True, name="web", **given)
        assert failed["msg"].startswith("update_order: ")
        assert text in failed["msg"]
    assert web.process == before


def test_refused_while_another_is_in_its_namespaces(web: Box) -> None:
    joined = {"name": "side", "image": "bb", "network_mode": "container:web"}
    failed = web.place.task("container", fails=True, **joined)
    assert failed["msg"].startswith("network_mode: ")
    assert "update_order is start_first" in failed["msg"]
    web.place.task("container", name="web", update_order="stop_first")
    web.place.task("container", **joined)
    try:
        failed = web.place.task("container", fails=True, name="web", update_order="start_first")
        assert failed["msg"].startswith("update_order: ")
        assert "the container side is in its namespaces" in failed["msg"]
    finally:
        web.place.task("container", name="side", state="absent")
    bodies = {"web": {"image": "bb", **word("one")}, "side": {"image": "bb", "network_mode": "container:web"}}
    failed = web.place.task("stack", fails=True, check=True, name="s", containers=bodies)
    assert failed["msg"].startswith("containers.web.update_order: ")


def test_refused_with_a_volume_of_one_writer(web: Box) -> None:
    """Also where the same task declares it."""
    own = {"one-writer": {"sharing": "onewriter"}}
    bodies = {"web": {"image": "bb", **word("one", volumes=["one-writer:/v"])}}
    for check in (True, False):
        failed = web.place.task("stack", fails=True, check=check, name="s", volumes=own, containers=bodies)
        assert failed["msg"].startswith("containers.web.update_order: ")
        assert "the volume one-writer" in failed["msg"]
    assert "one-writer" not in [volume["name"] for volume in web.place.task("volume_info")["volumes"]]


def test_max_disruption_knows_that_the_layer_goes(web: Box) -> None:
    failed = web.place.task("container", fails=True, name="web", **word("two"), max_disruption="restart")
    assert "env: " in failed["msg"]
    assert "recreate" in failed["msg"]
    told = web.place.task("container", name="web", **word("one", drain_timeout="5s"), max_disruption="live")
    assert told["actions"] == ["container web: set drain_timeout (live)"]


# what goes along


def test_secrets_volumes_and_a_chosen_port(shared: WarmPlace) -> None:
    """A task that does not tell the secret keeps it; the port that was chosen stays; what is in the volume too."""
    box = Box(shared)
    secret = [{"name": "key", "content": "swordfish"}]
    box.make(networks=ONE, published_ports=["80"], secrets=secret, volumes=["data:/v"], update_order="start_first")
    try:
        ports = box.facts()["published_ports"]
        box.sh("echo kept >/v/written; echo gone >/written")
        shared.task("container", name="box", env={"A": "b"})
        assert box.sh("cat /run/secrets/key /v/written; echo $A; ls /written 2>&1 | grep -c No").split("\n") == [
            "swordfishkept",
            "b",
            "1",
        ]
        assert box.facts()["published_ports"] == ports
        assert traces(shared, "box") == []
        assert not shared.task("container", name="box", secrets=secret)["changed"]
        shared.task("container", name="box", env={"A": "c"}, secrets=[{"name": "key", "content": "other"}])
        assert box.sh("cat /run/secrets/key; echo $A") == "otherc"
        shared.task("container", name="box", memory="32m", hostname="front")  # live, on the second instance as well
        assert box.limit("memory", "memory.limit_in_bytes") == str(32 << 20)
        assert not shared.task("container", name="box", check=True)["changed"]
        shared.task("container", name="box", restart=True)
        assert box.sh("echo $A; hostname").split() == ["c", "front"]
    finally:
        box.remove()
    assert traces(shared, "box") == []


def test_the_log_is_one_and_stays_in_its_size(web: Box) -> None:
    """Both write to it for a while, and one that has gone does not keep the other's from being rotated."""
    size = {"max_size": "8k", "max_file": 2}
    web.place.task("container", name="web", **word("one", log_options=size))
    web.place.task("container", name="web", **word("two", log_options=size))
    web.sh("yes line | head -c 30000 > /proc/1/fd/1")
    log = web.place.home("containers", "web") / "log"
    until(lambda: log.stat().st_size < 10000 and log.with_suffix(".1").exists())


def test_who_may_talk_to_whom_counts_for_the_next_one_too(shared: WarmPlace) -> None:
    """It is told as soon as it is made: without the database it would never get well."""
    allow = [{"from": {"role": "app"}, "to": "db", "ports": ["80"]}]
    shared.task("network", name="policed", subnet=f"{NET}8.0/24", allow=allow)
    on = {"image": "bb", "networks": [{"name": "policed"}]}
    check = {"test": "wget -qO- db", "interval": "100ms", "timeout": "1s"}
    app = {**on, "labels": {"role": "app"}, "healthcheck": check}
    try:
        shared.task("container", name="db", command=["sh", "-c", "echo hi >/index.html; exec httpd -f"], **on)
        shared.task("container", name="app", state="healthy", update_order="start_first", **app)
        shared.task("container", name="app", env={"A": "b"}, **app)
        assert shared.sh("app", "echo $A; wget -qO- db").split() == ["b", "hi"]
        assert not shared.task("container", name="app", env={"A": "b"}, **app)["changed"]
    finally:
        for name in ("app", "db"):
            shared.task("container", name=name, state="absent")
        shared.task("network", name="policed", state="absent")


# stacks


def stack(text: str, **more: Any) -> dict[str, Any]:
    quick = {"image": "bb", "update_order": "start_first", "env": {"WORD": text}, "networks": ONE}
    db = {**quick, "healthcheck": {"test": "true", "interval": "100ms"}}
    app = {"image": "bb", **word(text), "depends_on": {"db": "healthy"}}
    return {"name": "s", "containers": {"db": db, "web": app, **more}}


def test_a_stack_goes_on_and_back(shared: WarmPlace) -> None:
    boxes = [Box(shared, name) for name in ("db", "web")]
    try:
        shared.task("stack", **stack("one"))
        first = [box.process for box in boxes]
        done = shared.task("stack", **stack("two"))
        assert sorted(done["actions"]) == [
            f"container {name}: set env (recreate, start first)" for name in ("db", "web")
        ]
        second = [box.process for box in boxes]
        assert not {*first} & {*second}
        assert not shared.task("stack", **stack("two"))["changed"]
        assert f"{boxes[0].addresses()[0]}\tdb\n" in boxes[1].read("/etc/hosts")
        # One that fails takes the others back: web had not begun, and db comes back as it came.
        sick = {**stack("three")["containers"]["web"], "command": ["sh", "-c", "exit 4"]}
        failed = shared.task("stack", fails=True, **stack("three", web=sick))
        assert "exit code 4" in failed["msg"]
        assert (boxes[1].process, page()) == (second[1], "two")
        assert boxes[0].sh("echo $WORD") == "two"
        assert not shared.task("stack", **stack("two"))["changed"]
        back = shared.task("stack", name="s", state="rolled_back")
        assert "container web: set env (recreate, start first)" in back["actions"]
        assert page() == "one"
        assert traces(shared) + traces(shared, "db") == []
    finally:
        shared.task("stack", name="s", state="absent")
    assert traces(shared) + traces(shared, "db") == []


# killed


EFFECTS = """write_spec save_attachment home bundle write_in_place sync submit take_over discard_instance disconnect
delete"""
STRIDE = int(os.environ.get("VESSEL_KILL_STRIDE", "19"))
DEATH = "os.kill(os.getpid(), signal.SIGKILL)"


def cut(
    place: WarmPlace, wanted: dict[str, Any], at: int, effects: str = EFFECTS, how: str = DEATH
) -> subprocess.CompletedProcess[str]:
    """Run the module in a process that dies at the n-th effect; 0: it lives, and tells how many there are."""
    given = {"root": place.root, "_ansible_check_mode": False, "_ansible_module_name": "vessel.host.container"}
    assert DEATH in PROGRAM
    program = PROGRAM.replace("modules.stack", "modules.container").replace(DEATH, how)
    command = [sys.executable, "-c", program, str(COLLECTIONS), str(at), effects]
    text = json.dumps({**given, "name": "web", **wanted})
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=patient(120), check=False)


def test_killed_anywhere_one_is_left(web: Box) -> None:
    """Whatever the moment, somebody serves; the next run ends as declared, with one of both."""
    words = iter(f"word{number}" for number in range(1000))
    check = {"healthcheck": {"test": "wget -qO- localhost", "interval": "100ms"}}  # quicker than without one
    done = cut(web.place, word(next(words), **check), 0)
    assert done.returncode == 0, done.stdout
    count = int(done.stderr.split()[-1])
    print(f"{count} effects")
    assert count > 30
    for at in range(1, count, STRIDE):
        wanted = word(next(words), **check)
        dead = cut(web.place, wanted, at)
        assert dead.returncode == -signal.SIGKILL, f"effect {at} of {count}: {dead.stdout} {dead.stderr}"
        assert page().startswith("word")
        web.place.task("container", name="web", **wanted)
        assert page() == wanted["env"]["WORD"]
        assert traces(web.place) == [], f"effect {at}"
        again = web.place.task("container", name="web", **wanted)
        assert not again["changed"], again["actions"]


def test_what_fails_while_it_takes_over_leaves_the_old_one(web: Box, peer: Box) -> None:
    """The rules can't be written: by then the declaration and the link were those of the new one."""
    before, hosts = web.process, peer.read("/etc/hosts")
    failed = cut(web.place, word("two"), 3, "sync", "raise OSError(28, 'No space left on device')")
    assert failed.returncode == 1, failed.stderr
    assert "No space left on device" in json.loads(failed.stdout)["msg"]
    assert (web.process, page(), peer.read("/etc/hosts")) == (before, "one", hosts)
    assert traces(web.place) == []
    assert not web.place.task("container", name="web", **word("one"))["changed"]


def test_absent_takes_both(web: Box) -> None:
    """Killed while the new one waits to be well, and while the old one's connections are let end."""
    for text, effect in (("two", "write_in_place"), ("three", "take_over")):
        assert cut(web.place, word(text), 2, effect).returncode == -signal.SIGKILL
        assert traces(web.place)
        web.remove()
        assert traces(web.place) == []
        assert not web.place.home("containers", "web").exists()
        web.make(**word("one"))


def test_a_run_that_comes_after_a_killed_one_says_how_long_connections_have(web: Box) -> None:
    """Else who killed it because it took too long would have to wait as long again."""
    with socket.create_connection(("127.0.0.1", WEB), timeout=patient(5)) as peer:
        peer.sendall(b"GET / HTTP/1.0\r\n")
        until(lambda: "httpd" in comms(web))
        assert cut(web.place, word("two", drain_timeout="5m"), 2, "take_over").returncode == -signal.SIGKILL
        began = time.monotonic()
        web.place.task("container", name="web", drain_timeout="100ms")
        assert time.monotonic() - began < patient(10)
    assert page() == "two"


def test_the_supervisor_may_die_meanwhile(web: Box) -> None:
    """The task fails or not; who comes next has both, and the run after that has one."""
    failed: list[bool] = []

    def change() -> None:
        result = web.place.server.run("container", {"root": web.place.root, "name": "web", **word("two")})
        failed.append(bool(result.get("failed")))

    before = supervisor(web.place)
    thread = threading.Thread(target=change)
    thread.start()
    until(lambda: Path(web.place.paths.run, "bundles/_web/status.json").exists())
    os.kill(before, signal.SIGKILL)
    thread.join()
    assert page() in ("one", "two")
    web.place.task("container", name="web", **word("two"))
    assert page() == "two"
    assert traces(web.place) == []
    assert not web.place.task("container", name="web", **word("two"))["changed"]


def test_after_a_reboot_it_is_the_one_that_counted(tmp_path: Path) -> None:
    place = WarmPlace(str(tmp_path / "vessel"))
    try:
        place.busybox()
        place.task("network", name="one", subnet=f"{NET}5.0/24")
        at = {"published_ports": [f"{PORT + 3}:80"]}
        place.task("container", name="web", image="bb", **word("one", **at))
        place.task("container", name="web", **word("two", **at))
        place.sh("web", "echo kept >/written")
        assert place.paths.instance("web") == "_web"
        upper = place.home("containers", "web") / "upper"
        upper.mkdir()  # as a run leaves it that was killed between its last steps
        reboot(place)
        done = restore(place)
        assert (done.returncode, done.stderr) == (0, "")
        until(lambda: answers(PORT + 3))
        assert place.sh("web", "cat /written; echo $WORD").split() == ["kept", "two"]
        assert traces(place) == []
        assert not place.task("container", name="web", **word("two", **at))["changed"]
    finally:
        place.remove()
