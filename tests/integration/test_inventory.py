# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers as an inventory: of this host's installations, each of which is a host here, and over ssh.

Where it is about who was asked, when, and how often, a host's command is a script that counts, sleeps, and answers.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.plugin_utils.container_hosts import FACTS
from ansible_collections.vessel.host.tests.patience import patient

from .controller import CHECKOUT
from .options_box import until
from .ssh_host import USER
from .warm import WarmPlace

pytestmark = pytest.mark.root

EVIL = "{{ lookup('ansible.builtin.pipe', 'touch %s') }}"
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, WarmPlace]]:
    """One with containers in every state, and two with one that has the same name."""
    found = {name: WarmPlace(str(tmp_path_factory.mktemp(name) / "vessel")) for name in ("one", "two")}
    try:
        for place in found.values():
            place.busybox()
            place.task("stack", name="shop", containers={"web": serving(place)})
        furnish(found["one"])
        yield found
    finally:
        for place in found.values():
            place.remove()


def serving(place: WarmPlace) -> dict[str, Any]:
    labels = {"app": "web", "evil": EVIL % f"{place.root}.evil", "{{ 7 * 7 }}": "{% raw %}"}
    check = {"test": ["CMD", "true"], "interval": "1s", "start_interval": "100ms"}
    return {"image": "bb", "network_mode": "none", "labels": labels, "healthcheck": check, "state": "healthy"}


def furnish(place: WarmPlace) -> None:
    for name, options in {
        "never": {"state": "present"},
        "ill": {"command": ["sh", "-c", "exit 3"]},
        "frozen": {"paused": True},
        "again": {"command": "false", "restart_policy": "always"},
        "stopped": {},
    }.items():
        place.task("container", name=name, image="bb", network_mode="none", **options)
    place.task("container", name="stopped", state="stopped", stop_timeout="0s")
    until(lambda: place.facts("ill")["state"] == "exited" and place.facts("again")["state"] == "restarting")


class Inventory:
    """Sources in a directory, and Ansible's programs with them; ``seconds`` is what the last one took."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said = ""
        self.seconds = 0.0
        self.environ: dict[str, str] = {}
        self.source()

    def hosts(self, hosts: dict[str, Any], **more: Any) -> None:
        (self.directory / "hosts.yml").write_text(json.dumps({"all": {"hosts": hosts, **more}}))

    def source(self, **options: Any) -> None:
        self.write("containers.vessel.yml", {"plugin": "vessel.host.containers", **options})

    def write(self, name: str, content: Any) -> None:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))

    def command(self, program: str, *arguments: str) -> list[str]:
        sources = ["-i", "hosts.yml"] if (self.directory / "hosts.yml").exists() else []
        path = f"{Path(sys.executable).parent}/{program}"
        return [path, *sources, "-i", "containers.vessel.yml", *arguments]

    @property
    def given(self) -> dict[str, Any]:
        settings = {
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "collection"),
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
        }
        return {"cwd": self.directory, "env": {**os.environ, **settings, **self.environ}}

    def run(self, program: str, *arguments: str, fails: bool = False) -> str:
        """What it printed; ``said`` is what it said beside that, in one line."""
        began = time.monotonic()
        done = subprocess.run(
            self.command(program, *arguments),
            capture_output=True,
            text=True,
            check=False,
            timeout=patient(120),
            **self.given,
        )
        self.seconds = time.monotonic() - began
        self.said = " ".join(done.stderr.split())
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout

    def list(self) -> dict[str, Any]:
        return dict(json.loads(self.run("ansible-inventory", "--list"), object_hook=text))

    def containers(self) -> list[str]:
        return sorted(self.list().get("vessel_containers", {"hosts": []})["hosts"])

    def variables(self, name: str) -> dict[str, Any]:
        return dict(self.list()["_meta"]["hostvars"][name])

    def play(self, *tasks: dict[str, Any], hosts: str = "all", arguments: tuple[str, ...] = ()) -> str:
        self.write("play.yml", [{"hosts": hosts, "gather_facts": False, "tasks": list(tasks)}])
        return self.run("ansible-playbook", "play.yml", *arguments)


def text(value: dict[str, Any]) -> Any:
    """Strings that are no templates are marked as such in what ansible-inventory prints."""
    return value.get("__ansible_unsafe", value)


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    return Inventory(tmp_path)


@pytest.fixture
def fleet(inventory: Inventory, places: dict[str, WarmPlace]) -> Inventory:
    inventory.hosts({name: {"ansible_vessel_root": place.root} for name, place in places.items()}, vars=LOCAL)
    return inventory


class Scripts:
    """Hosts whose command is a script: each counts in a file how often it was asked, and answers with a container."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self.hosts: dict[str, Any] = {}

    def add(self, name: str, before: str = "", labels: dict[str, str] | None = None) -> None:
        root = self._inventory.directory / "scripts" / name
        (root / "bin").mkdir(parents=True, exist_ok=True)
        facts = {"name": "web", "state": "running", "image": "bb:latest", "labels": labels or {}}
        script = f"#!/bin/sh\necho asked >>{root}/asked\n{before}\ncat <<'END'\n{json.dumps([facts])}\nEND\n"
        (root / "bin/vessel").write_text(script)
        (root / "bin/vessel").chmod(0o755)
        self.hosts[name] = {**LOCAL, "ansible_vessel_root": str(root)}
        self._inventory.hosts(self.hosts)

    def asked(self) -> dict[str, int]:
        """How often since the last time."""
        found = {}
        for name in self.hosts:
            path = self._inventory.directory / "scripts" / name / "asked"
            found[name] = len(path.read_text().split()) if path.exists() else 0
            path.unlink(missing_ok=True)
        return found


@pytest.fixture
def scripts(inventory: Inventory) -> Scripts:
    return Scripts(inventory)


# what is found


def test_every_container_of_every_host_in_its_groups(fleet: Inventory) -> None:
    found = fleet.list()
    assert fleet.said == ""
    groups = {name: sorted(group["hosts"]) for name, group in found.items() if "hosts" in group}
    of_one = [f"{name}@one" for name in ("again", "frozen", "ill", "never", "stopped", "web")]
    assert groups["vessel_containers"] == sorted([*of_one, "web@two"])
    assert groups["vessel_host_one"] == of_one
    assert groups["vessel_stack_shop"] == groups["vessel_health_healthy"] == ["web@one", "web@two"]
    assert groups["vessel_label_app_web"] == ["web@one", "web@two"]
    assert groups["vessel_image_bb_latest"] == groups["vessel_containers"]
    states = {name.rpartition("_")[2]: hosts for name, hosts in groups.items() if name.startswith("vessel_state")}
    assert states == {
        "created": ["never@one"],
        "exited": ["ill@one", "stopped@one"],
        "paused": ["frozen@one"],
        "restarting": ["again@one"],
        "running": ["web@one", "web@two"],
    }
    assert all(re.fullmatch(r"\w+", name) for name in groups)
    assert "|--web@two" in fleet.run("ansible-inventory", "--graph", "vessel_stack_shop")


def test_its_variables_are_what_the_module_tells(fleet: Inventory, places: dict[str, WarmPlace]) -> None:
    variables = fleet.variables("web@one")
    facts = places["one"].facts("web")
    moving = ("usage", "health")
    assert {name: variables[f"vessel_{name}"] for name in FACTS if name not in moving} == {
        name: value for name, value in facts.items() if name not in moving
    }
    assert variables["vessel_health"]["status"] == "healthy"
    assert set(variables["vessel_usage"]) == set(facts["usage"])
    assert variables["vessel_host"] == "one"
    assert {name: value for name, value in variables.items() if name.startswith("ansible_")} == {
        "ansible_connection": "vessel.host.container",
        "ansible_host": "one",
        "ansible_python_interpreter": "/usr/bin/python3",  # it is everybody's
        "ansible_vessel_container": "web",
        "ansible_vessel_root": places["one"].root,
        "ansible_vessel_transport": "local",
    }


def test_the_connection_is_loaded_once_for_all_tasks(fleet: Inventory) -> None:
    fleet.environ["ANSIBLE_DEBUG"] = "1"
    said = fleet.play(*[{"ansible.builtin.raw": "true"}] * 3, hosts="vessel_stack_shop")
    loaded = [line for line in said.splitlines() if "Loading Connection 'ansible_collections.vessel.host." in line]
    assert len(loaded) == 1 + 3 * 2
    assert all("found_in_cache=True" in line for line in loaded[1:]), loaded


def test_the_command_that_is_asked(places: dict[str, WarmPlace]) -> None:
    command = [f"{places['one'].paths.bin}/vessel", "facts"]
    done = subprocess.run([*command, "web", "ill"], capture_output=True, text=True, check=True, timeout=patient(60))
    assert [facts["name"] for facts in json.loads(done.stdout)] == ["ill", "web"]
    assert done.stdout.count("\n") == 1
    done = subprocess.run([*command, "nobody"], capture_output=True, text=True, check=False, timeout=patient(60))
    assert (done.returncode, done.stdout) == (1, "")
    assert "no such container: nobody" in done.stderr


def test_a_host_without_the_engine_has_no_containers(inventory: Inventory, tmp_path: Path) -> None:
    inventory.hosts({"bare": {**LOCAL, "ansible_vessel_root": str(tmp_path / "nothing")}})
    assert inventory.containers() == []
    assert inventory.said == ""
    assert not (tmp_path / "nothing").exists()


def test_the_controller_itself_needs_no_other_source(inventory: Inventory, places: dict[str, WarmPlace]) -> None:
    inventory.source(hosts="localhost", root=places["two"].root)
    variables = inventory.variables("web@localhost")
    assert variables["ansible_vessel_transport"] == "local"
    assert variables["vessel_state"] == "running"


def test_an_older_engine_is_asked_by_the_module(fleet: Inventory, places: dict[str, WarmPlace]) -> None:
    command = Path(places["two"].paths.bin, "vessel")
    target = os.readlink(command)
    command.unlink()
    command.write_text("#!/bin/sh\necho 'vessel: no such verb: facts' >&2\nexit 2\n")
    command.chmod(0o755)
    try:
        fleet.source(hosts="two", filter="starts_with(labels.app, 'w')")
        assert fleet.variables("web@two")["vessel_stacks"] == ["shop"]
        assert fleet.said == ""
    finally:
        command.unlink()
        command.symlink_to(target)


# data is data


@pytest.mark.parametrize("cached", [False, True])
def test_templates_in_labels_are_text(
    fleet: Inventory, places: dict[str, WarmPlace], tmp_path: Path, cached: bool
) -> None:
    cache = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache")}
    fleet.source(
        compose={"composed": "vessel_labels.evil", "nested": "{'a': [vessel_labels.evil]}"},
        groups={"flagged": "vessel_labels.evil is search('lookup')"},
        keyed_groups=[{"key": "vessel_labels", "prefix": "own"}],
        **(cache if cached else {}),
    )
    evil = EVIL % f"{places['one'].root}.evil"
    (tmp_path / "wanted").write_text(evil)
    wanted = "{{ lookup('ansible.builtin.file', 'wanted') }}"
    for dummy in range(2 if cached else 1):
        fleet.play(
            {"ansible.builtin.debug": {"msg": "{{ vessel_labels }} {{ composed }} {{ nested }} {{ hostvars }}"}},
            {
                "ansible.builtin.assert": {
                    "that": [f"{name} == wanted" for name in ("vessel_labels.evil", "composed", "nested.a[0]")],
                },
                "vars": {"wanted": wanted},
            },
            hosts="web@one",
        )
    found = fleet.list()
    assert sorted(found["flagged"]["hosts"]) == ["web@one", "web@two"]
    assert all(re.fullmatch(r"\w+", name) for name in found if name != "_meta")
    for place in places.values():
        assert not Path(f"{place.root}.evil").exists()


@pytest.mark.parametrize("name", ["two", "web@two", "localhost", "all"])
def test_no_container_takes_the_place_of_another_host(fleet: Inventory, name: str) -> None:
    """As one whose labels somebody else writes might wish to."""
    fleet.source(hostname=f"{name!r} if vessel_labels.app is defined else vessel_name ~ '@' ~ vessel_host")
    found = fleet.list()
    assert f"hostname gives {name!r}, which another host or group has; it is left out" in fleet.said
    assert found["_meta"]["hostvars"]["two"]["ansible_connection"] == "local"
    # Of two that give one name, it is the first one's.
    assert found["_meta"]["hostvars"].get("web@two", {}).get("vessel_host", "one") == "one"
    fleet.source(strict=True, hostname=f"{name!r}")
    fleet.run("ansible-inventory", "--list")
    assert "Failed to parse inventory with 'auto' plugin" in fleet.said
    assert f"hostname gives {name!r}" in fleet.said


def test_a_container_that_gives_no_name_takes_no_other_one_with_it(fleet: Inventory) -> None:
    fleet.source(hosts="one", hostname="vessel_labels.app")
    assert fleet.containers() == ["web"]
    assert "container again of one: hostname gives no name: " in fleet.said
    assert "; it is left out" in fleet.said
    fleet.source(hosts="one", hostname="vessel_labels.app", strict=True)
    assert fleet.containers() == []


# constructed groups, and the filter


def test_constructed(fleet: Inventory) -> None:
    fleet.source(
        hosts="one",
        group_by=["state"],
        compose={"address": "vessel_name ~ '.internal'", "ansible_user": "'root'"},
        groups={"down": "vessel_state not in ['running', 'paused']"},
        keyed_groups=[{"key": "vessel_labels.app | default('none')", "prefix": "app", "parent_group": "apps"}],
    )
    found = fleet.list()
    assert sorted(found["down"]["hosts"]) == ["again@one", "ill@one", "never@one", "stopped@one"]
    assert found["app_web"]["hosts"] == ["web@one"]
    assert sorted(found["apps"]["children"]) == ["app_none", "app_web"]
    assert found["_meta"]["hostvars"]["ill@one"]["address"] == "ill.internal"
    assert found["_meta"]["hostvars"]["ill@one"]["ansible_user"] == "root"
    assert not [name for name in found if name.startswith(("vessel_label", "vessel_host", "vessel_image"))]


@pytest.mark.parametrize("strict", [False, True])
def test_strict(fleet: Inventory, strict: bool) -> None:
    fleet.source(hosts="one", strict=strict, compose={"tier": "vessel_labels.tier"})
    assert ("web@one" in fleet.containers()) != strict
    assert ("Could not set tier for host again@one" in fleet.said) == strict


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("state == 'running' && labels.app == 'web'", ["web@one", "web@two"]),
        ("host == 'one' && restarts > `0`", ["again@one"]),
        ("exit_code == `3`", ["ill@one"]),
        ("config.network_mode == 'host'", []),
        ("starts_with(labels.app, 'w')", ["web@one", "web@two"]),  # the others have none, of which that can't be asked
    ],
)
def test_filter(fleet: Inventory, expression: str, found: list[str]) -> None:
    fleet.source(filter=expression)
    assert fleet.containers() == found
    assert fleet.said == ""


def test_a_filter_that_is_none(fleet: Inventory, scripts: Scripts) -> None:
    scripts.add("h")
    fleet.source(filter="state = 'running'")
    assert fleet.containers() == []
    assert "filter: \"state = 'running'\" is no JMESPath expression" in fleet.said
    assert scripts.asked() == {"h": 0}


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("filters", "filters is no option of vessel.host.containers; did you mean filter?"),
        ("x", "x is no option of vessel.host.containers"),
    ],
)
def test_a_key_that_is_no_option(fleet: Inventory, scripts: Scripts, key: str, told: str) -> None:
    scripts.add("h")
    fleet.source(**{key: "state == 'running'"})
    assert fleet.containers() == []
    assert told in fleet.said
    assert scripts.asked() == {"h": 0}


def test_a_filter_without_the_library(fleet: Inventory, tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without/jmespath.py").write_text("raise ImportError('there is none')\n")
    fleet.environ["PYTHONPATH"] = str(tmp_path / "without")
    fleet.source(filter="state == 'running'")
    assert fleet.containers() == []
    assert "filter: Failed to import the required Python library (jmespath)" in fleet.said
    fleet.source()
    assert "web@two" in fleet.containers()


# hosts that are dead or slow


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def mute() -> Iterator[int]:
    """The port of a server that never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_dead_hosts_are_named_with_the_reason(inventory: Inventory, scripts: Scripts, mute: int) -> None:
    scripts.add("good")
    scripts.add("broken", before="printf 'no \\033[31mstore\\n' >&2; exit 1")
    scripts.add("odd", before="echo '{}'; exit 0")
    far = {"ansible_host": "127.0.0.1", "ansible_ssh_timeout": 2}
    scripts.hosts["closed"] = {**far, "ansible_port": closed_port()}
    scripts.hosts["mute"] = {**far, "ansible_port": mute}
    scripts.hosts["unknown"] = {**far, "ansible_host": "unknown.invalid"}
    inventory.hosts(scripts.hosts)
    inventory.source(forks=10)
    assert inventory.containers() == ["web@good"]
    for name, reason in {
        "broken": "no store",
        "odd": "it did not answer with a list of containers",
        "closed": "Connection refused",
        "mute": "Connection timed out during banner exchange",
        "unknown": "Could not resolve hostname unknown.invalid",
    }.items():
        assert re.search(rf"\[WARNING\]: vessel.host.containers: {name} is left out: [^\[]*{reason}", inventory.said)
    assert inventory.said.count("WARNING") == 5
    assert "\033" not in inventory.said
    assert inventory.seconds < patient(20)


def ours(word: str) -> list[str]:
    """Command lines of processes that have the word in them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line:
            found.append(line)
    return found


def test_a_host_that_hangs_costs_its_time_and_leaves_no_process(inventory: Inventory, scripts: Scripts) -> None:
    scripts.add("good")
    scripts.add("slow", before="sleep 4711.5")
    inventory.source(timeout=3)
    assert inventory.containers() == ["web@good"]
    assert "slow is left out: Task failed: Timed out after 3 second(s)" in inventory.said
    assert inventory.seconds < patient(30)
    assert until(lambda: not ours("sleep 4711.5"))


def test_an_interrupt_ends_it_all(inventory: Inventory, scripts: Scripts) -> None:
    scripts.add("slow", before="sleep 4712.5")
    process = subprocess.Popen(
        inventory.command("ansible-inventory", "--list"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **inventory.given,
    )
    try:
        assert until(lambda: ours("sleep 4712.5"))
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=patient(30))[1]
    finally:
        process.kill()
    assert "User interrupted execution" in said
    assert process.returncode == 99
    assert until(lambda: not ours("sleep 4712.5"))


def test_hosts_are_asked_side_by_side(inventory: Inventory, scripts: Scripts) -> None:
    for number in range(20):
        scripts.add(f"h{number}", before="sleep 2")
    inventory.source(forks=20)
    assert len(inventory.containers()) == 20
    assert inventory.seconds < patient(20)  # one after the other they would take twice that
    assert sum(scripts.asked().values()) == 20


# the cache


def test_what_is_cached_is_not_asked_again(inventory: Inventory, scripts: Scripts, tmp_path: Path) -> None:
    scripts.add("a", labels={"x": "{{ y }}"})
    scripts.add("b")
    scripts.add("dead", before="exit 1")
    cache = {"cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache")}
    inventory.source(cache=True, **cache)
    first = inventory.list()
    assert scripts.asked() == {"a": 1, "b": 1, "dead": 1}
    ages = {path: path.stat().st_mtime for path in (tmp_path / "cache").iterdir()}
    assert len(ages) == 2
    second = inventory.list()
    assert second == first
    assert scripts.asked() == {"a": 0, "b": 0, "dead": 1}  # who did not answer is asked again
    scripts.add("new")
    scripts.add("dead")
    assert inventory.containers() == ["web@a", "web@b", "web@dead", "web@new"]
    assert scripts.asked() == {"a": 0, "b": 0, "dead": 1, "new": 1}
    assert {path: path.stat().st_mtime for path in ages} == ages  # and who was not asked grows no younger
    inventory.source(cache=True, filter="host == 'a' && starts_with(name, 'w')", **cache)
    assert inventory.containers() == ["web@a"]
    assert sum(scripts.asked().values()) == 0
    next(iter(ages)).write_text("{")
    assert len(inventory.containers()) == 1
    assert sum(scripts.asked().values()) == 1
    assert inventory.run("ansible-inventory", "--flush-cache", "--graph")
    assert scripts.asked() == {"a": 1, "b": 1, "dead": 1, "new": 1}


def test_a_refresh_asks_again(inventory: Inventory, scripts: Scripts, tmp_path: Path) -> None:
    scripts.add("a")
    cache = {"cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache")}
    inventory.source(cache=True, **cache)
    inventory.play({"ansible.builtin.meta": "refresh_inventory"}, hosts="a")
    assert scripts.asked() == {"a": 2}


# what comes after


def test_a_play_that_makes_a_container_finds_it(fleet: Inventory, places: dict[str, WarmPlace]) -> None:
    new = {"name": "fresh", "image": "bb", "network_mode": "none", "root": places["two"].root}
    wanted = {"that": ["'fresh@two' in groups.vessel_state_running", "hostvars['fresh@two'].vessel_pid | int > 0"]}
    try:
        fleet.play(
            {"ansible.builtin.assert": {"that": "'fresh@two' not in hostvars"}},
            {"vessel.host.container": new},
            {"ansible.builtin.meta": "refresh_inventory"},
            {"ansible.builtin.assert": wanted},
            hosts="two",
        )
        assert fleet.said == ""
    finally:
        places["two"].task("container", name="fresh", state="absent")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--check",),
        ("--tags", "mine"),
        ("--skip-tags", "all"),
        ("--start-at-task", "last"),
        ("--limit", "web@a"),
        ("--become", "--check", "--diff"),
    ],
)
def test_the_plays_own_words_are_not_about_the_asking(
    inventory: Inventory, scripts: Scripts, arguments: tuple[str, ...]
) -> None:
    scripts.add("a")
    inventory.environ["ANSIBLE_STRATEGY"] = "free"
    inventory.source(compose={"ansible_connection": "'local'", "ansible_python_interpreter": "'/usr/bin/python3'"})
    inventory.play({"name": "last", "ansible.builtin.debug": {"msg": "x"}, "tags": "mine"}, arguments=arguments)
    assert scripts.asked() == {"a": 1}
    assert "[WARNING]" not in inventory.said
    assert "web@a" in inventory.run("ansible", "all", "--list-hosts")


PROCESS = '''
import multiprocessing, os, signal, sys, threading
from ansible import context
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader

def state():
    return {
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "inheritable": [os.get_inheritable(fd) for fd in range(3)],
        "arguments": context.CLIARGS,
        "threads": threading.enumerate(),
        "children": [child for child in multiprocessing.active_children()],
        "files": len(os.listdir("/proc/self/fd")),
    }

def wait():
    """Ansible's last workers may be about to end. A name for one that stays would keep its files open."""
    for child in multiprocessing.active_children():
        child.join(10)

init_plugin_loader()
for fd in range(3):
    os.set_inheritable(fd, True)
for turn in range(3):
    inventory = InventoryManager(DataLoader(), ["hosts.yml"])
    before = state()
    inventory = InventoryManager(DataLoader(), ["hosts.yml", "containers.vessel.yml"])
    assert "web@a" in inventory.hosts, inventory.hosts
    wait()
    after = state()
assert after == before, (before, after)
'''


def test_the_process_is_as_it_was_before(inventory: Inventory, scripts: Scripts) -> None:
    """One that uses Ansible's Python and has no command line of Ansible's."""
    for name in ("a", "b", "c"):
        scripts.add(name)
    done = subprocess.run(
        [sys.executable, "-c", PROCESS],
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(60),
        **inventory.given,
    )
    assert done.returncode == 0, done.stderr


# over ssh


def test_over_ssh_with_files_of_variables(
    inventory: Inventory, ssh: tuple[Path, str], places: dict[str, WarmPlace]
) -> None:
    words = dict(re.findall(r"(\w+)=('[^']*'|\S+)", ssh[1]))
    far = {name: value.strip("'") for name, value in words.items()}
    port = far.pop("ansible_port")
    inventory.hosts({"far": far})
    inventory.write("host_vars/far.yml", {"ansible_port": "{{ its_port }}", "its_port": int(port)})
    inventory.write("group_vars/all.yml", {"ansible_become": True, "ansible_vessel_root": places["one"].root})
    variables = inventory.variables("web@far")
    assert inventory.said == ""
    assert {name: variables[name] for name in variables if name.startswith("ansible_")} == {
        "ansible_connection": "vessel.host.container",
        "ansible_vessel_container": "web",
        "ansible_vessel_become": "sudo -n",
        "ansible_become": False,
        "ansible_vessel_root": places["one"].root,
        "ansible_host": "127.0.0.1",
        "ansible_port": "{{ hostvars[vessel_host]['ansible_port'] }}",
        **{name: far[name] for name in far if name not in ("ansible_connection", "ansible_python_interpreter")},
    }
    seen = inventory.play({"ansible.builtin.raw": "hostname; id -u"}, hosts="web@far", arguments=("-v",))
    assert '"stdout_lines": ["web", "0"]' in seen


def test_over_ssh_who_may_not_read_is_told(
    inventory: Inventory, ssh: tuple[Path, str], places: dict[str, WarmPlace]
) -> None:
    (inventory.directory / "hosts.yml").write_text("")
    far = {name: value.strip("'") for name, value in re.findall(r"(\w+)=('[^']*'|\S+)", ssh[1])}
    inventory.hosts({"far": far})
    inventory.source(root=places["one"].root)
    assert inventory.containers() == []
    assert re.search(
        rf"far is left out: \S+/bin/vessel is not there, or not to be seen by {USER}; set become", inventory.said
    )
    inventory.source(root=places["one"].root, become=True)
    assert inventory.variables("web@far")["ansible_vessel_become"] == "sudo -n"
