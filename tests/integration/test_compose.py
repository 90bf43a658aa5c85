# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compose files of the shapes that people write, in compose/, each as a stack that runs.

Of each: check mode says that something would change, the task makes it, the task again finds nothing to do, and so does
check mode; then what the containers are is asked of them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import store

from .controller import LOCAL, Play

pytestmark = pytest.mark.root
FILES = Path(__file__).parent / "compose"
TWICE = ["changed", "changed", "ok", "ok"]


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    directory = tmp_path_factory.mktemp("compose")
    play = Play(directory, LOCAL, directory / "remote")
    try:
        play.place.busybox("bb")
        yield play
    finally:
        play.place.remove()


class Running:
    """A project of compose/ by its directory's name; ``options`` are the task's beside compose."""

    def __init__(self, play: Play, name: str) -> None:
        self.play, self.name = play, name
        self.directory = play.directory / name
        shutil.copytree(FILES / name, self.directory)

    def task(self, **options: Any) -> dict[str, Any]:
        return {"vessel.host.stack": {"compose": str(self.directory / "compose.yaml"), **options}}

    def twice(self, **options: Any) -> Running:
        """Predicted, made, found made, and predicted to be."""
        task = self.task(**options)
        check = {**task, "check_mode": True}
        assert self.play.run(check, task, task, check, options=("-v",)) == TWICE, self.play.said
        return self

    def inside(self, container: str, script: str) -> str:
        return self.play.place.sh(container, script)

    def spec(self, container: str) -> dict[str, Any]:
        """What is declared."""
        return dict(store.read_spec(self.play.place.paths, "containers", container) or {})

    def remove(self) -> None:
        shutil.rmtree(self.directory)
        for name in (self.name, "given"):
            self.play.place.task("stack", name=name, state="absent")
        for volume in self.play.place.task("volume_info")["volumes"]:
            self.play.place.task("volume", name=volume["name"], state="absent")


@pytest.fixture
def running(play: Play, request: pytest.FixtureRequest) -> Iterator[Running]:
    running = Running(play, request.param)
    yield running
    running.remove()


def project(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("running", [name], indirect=True)


def fetched(port: int, path: str = "") -> str:
    retry = ["--retry", "20", "--retry-all-errors", "--retry-delay", "1"]
    fetch = ["curl", "-fsS", *retry, f"http://127.0.0.1:{port}/{path}"]
    return subprocess.run(fetch, capture_output=True, text=True, timeout=60, check=True).stdout


@project("forge")
def test_an_application_and_its_database(running: Running) -> None:
    running.twice()
    page = fetched(28301)
    assert "DB_HOST=db:5432\n" in page
    assert "DB_PASSWORD=pa$word=1\n" in page
    assert running.spec("forge-db-1")["restart_policy"] == "always"


@project("cloud")
def test_networks_that_part_services(running: Running) -> None:
    running.twice()
    assert running.inside("cloud-cloud-1", "nc -w 1 cache 6379 < /dev/null") == "PONG"
    assert running.inside("cloud-cloud-1", "nc -w 1 db 3306 < /dev/null") == "rows and rows"
    assert running.inside("cloud-cache-1", "getent hosts db || nslookup db > /dev/null 2>&1 || echo none") == "none"
    names = {volume["name"] for volume in running.play.place.task("volume_info")["volumes"]}
    assert names == {"cloud_cloud_data"}


@project("shop")
def test_what_is_built_here(running: Running) -> None:
    target = {"compose_target_directory": str(running.directory)}
    running.twice(**target)
    assert running.inside("shop-backend-1", "cat /app/built") == "hello from main.txt"
    assert running.inside("shop-backend-1", "cat /run/secrets/db-password; stat -c %a /run/secrets/db-password") == (
        "correct horse\n444"
    )
    assert fetched(28303) == "the shop is open\n"
    pids = {name: running.play.place.process(f"shop-{name}-1") for name in ("db", "backend", "proxy")}
    (running.directory / "backend/main.txt").touch()
    assert running.play.run(running.task(**target), options=()) == ["ok"]
    (running.directory / "backend/more.txt").write_text("more")
    assert running.play.run(running.task(**target), options=("-v",)) == ["changed"]
    assert running.inside("shop-backend-1", "cat /app/built") == "hello from main.txt\nmore.txt"
    assert running.play.place.process("shop-db-1") == pids["db"]
    assert running.play.place.process("shop-proxy-1") == pids["proxy"]


@project("shop")
def test_a_directory_of_the_projects_is_not_on_the_target(running: Running) -> None:
    assert running.play.run(running.task(), options=(), fails=True) == ["fatal"]
    said = " ".join(running.play.said.split())
    where = (
        f"{running.directory}/compose.yaml: services.proxy.volumes[0]: './proxy/page.html' is relative to the project"
    )
    assert where in said
    assert "give compose_target_directory" in said


@project("balance")
def test_two_of_one_build(running: Running) -> None:
    running.twice()
    assert fetched(28306) == "web1\nweb2\n"
    assert fetched(28305) == "web2\n"
    images = {image["name"]: image["id"] for image in running.play.place.task("image_info")["images"]}
    assert images["balance-web1:latest"] == images["balance-web2:latest"]
    assert [running.spec("balance-web2-1")[name] for name in ("restart_policy", "restart_retries")] == ["on-failure", 3]


@project("names")
def test_addresses_and_the_file_of_variables(running: Running) -> None:
    running.twice()
    facts = running.play.place.facts("names-upstream")
    assert next(network["ipv4_address"] for network in facts["networks"]).startswith("10.88.79.2")
    env = running.inside("names-filter", "env")
    assert 'PASSWORD=a "quoted" \n' in f"{env}\n" or 'PASSWORD=a "quoted" one\n' in f"{env}\n"
    assert "TZ=Europe/Vienna" in env
    assert "ADDRESS=" in env.splitlines()
    assert "nameserver 127.0.0.1" in running.inside("names-filter", "cat /etc/resolv.conf")
    assert running.inside("names-upstream", "grep -ow filter /etc/hosts | uniq") == "filter"


@project("metrics")
def test_configs(running: Running) -> None:
    running.twice(compose_env={"BOARDS": "on the wall", "BOARDS_USER": 7})
    assert running.inside(
        "metrics-metrics-1", "stat -c '%u %a' /etc/metrics/metrics.yml; cat /etc/metrics/metrics.yml"
    ) == ("1000 440\n" + (running.directory / "metrics/metrics.yml").read_text().strip())
    assert running.inside("metrics-boards-1", "cat /source; echo; cat /boards") == (
        "url: http://metrics:9090\nwho: 7\nliteral: ${BOARDS_USER} {{ boards }}\n\non the wall"
    )
    facts = running.play.place.facts("metrics-metrics-1")
    assert facts["state"] == "running"


@project("flow")
def test_anchors_profiles_and_one_that_ends(running: Running) -> None:
    running.twice()
    assert running.inside("flow-scheduler-1", "id -u; env | grep FLOW | sort") == (
        "50000\nFLOW__EXAMPLES=false\nFLOW__EXECUTOR=local\nFLOW__PARALLEL=16\nFLOW__PAUSED=true\nFLOW__RATIO=0.5"
    )
    there = {found["name"] for found in running.play.place.task("container_info")["containers"]}
    assert there == {"flow-rows-1", "flow-scheduler-1", "flow-init-1"}
    assert running.play.run(running.task(compose_profiles=["debug"]), options=("-v",)) == ["changed"]
    assert running.inside("flow-shell-1", "cat /shared/done") == "0\nlocal"
    assert running.play.run(running.task(prune=True), options=("-v",)) == ["changed"]
    assert running.play.place.task("container_info", name="flow-shell-1")["containers"] == []


@project("tunnel")
def test_a_service_that_is_anothers_network(running: Running) -> None:
    running.twice()
    assert "tunnel-client-1" in fetched(28308, "hosts")
    assert running.inside("tunnel-client-1", "cat /proc/sys/net/ipv4/conf/all/src_valid_mark") == "1"
    hosts = running.inside("tunnel-tunnel-1", "cat /etc/hosts; test -c /dev/net/tun && echo tun")
    assert "192.0.2.1" in hosts
    assert "2001:db8::1" in hosts
    assert hosts.endswith("tun")
    assert running.inside("tunnel-watcher-1", "ls /sys/class/net") == "lo"


@project("layers")
def test_what_is_extended_included_and_overridden(running: Running) -> None:
    files = [str(running.directory / name) for name in ("compose.yaml", "compose.production")]
    running.twice(compose=files)
    env = set(running.inside("layers-api-1", "env").splitlines())
    assert {"LEVEL=debug", "MODE=production"} <= env
    assert "COLOUR=green" not in env
    assert running.play.place.facts("layers-api-1")["labels"] == {"team": "one"}
    assert (
        running.inside("layers-api-1", "grep -ow monitor /etc/hosts | uniq; stat -f -c %T /scratch") == "monitor\ntmpfs"
    )
    assert "root" in fetched(28310, "passwd")
    worker = running.inside("layers-worker-1", "env")
    assert "QUEUE=the $first # one\n" in worker
    assert "DEPTH=3\n" in worker
    assert "PATHS=a\nb\n" in f"{worker}\n"
    assert "MONITORED=no zone too" in running.inside("layers-monitor-1", "env")
    assert "ZONE=included" in running.inside("layers-monitor-1", "env")


@project("votes")
def test_replicas_and_limits(running: Running) -> None:
    running.twice(compose_env={"VOTE_TOKEN": "{{ '{{ not a template }}' }}"})
    place = running.play.place
    for number in (1, 2):
        place.sh(f"votes-vote-{number}", f"echo {number} > /srv/index.html")
        assert fetched(28319 + number) == f"{number}\n"
        limits = place.facts(f"votes-vote-{number}")["limits"]
        assert limits["memory"]["limit"] == 50 << 20
        assert limits["pids"]["limit"] == 20
    assert running.inside(
        "votes-store-1", "cat /run/secrets/the-token; echo; stat -c '%u %g %a' /run/secrets/the-token"
    ) == ("{{ not a template }}\n103 103 440")
    assert running.inside("votes-store-1", "ulimit -n; ulimit -Hn") == "256\n512"
    names = running.inside("votes-result-1", "grep -owE 'rows|vote|state' /etc/hosts").split()
    assert sorted(set(names)) == ["rows", "state", "vote"]
    assert running.inside("votes-store-1", "grep -ow vote /etc/hosts || echo none") == "none"
    assert running.inside("votes-vote-1", "cat /sys/class/net/eth0/mtu") == "1400"
    # without the first the others stay as they are
    assert running.play.run(running.task(compose_env={"VOTE_TOKEN": "other"}), options=("-v",)) == ["changed"]
    assert running.inside("votes-store-1", "cat /run/secrets/the-token") == "other"
    given = {"compose_env": {"VOTE_TOKEN": "other"}}
    more = running.task(**given, containers={"votes-store-1": {"memory": "100m"}})
    assert running.play.run(more, running.task(**given, state="rolled_back"), options=("-v",)) == ["changed", "changed"]
    assert running.spec("votes-store-1")["memory"] == 0


@project("locked")
def test_as_little_as_can_be(running: Running) -> None:
    running.twice()
    assert running.inside("locked-down", "id; touch /x 2>/dev/null || echo read-only; pwd") == (
        "uid=1000 gid=1000 groups=1000,2000\nread-only\n/tmp"
    )
    status = Path(f"/proc/{running.play.place.facts('locked-down')['pid']}/status").read_text()
    assert "CapBnd:\t0000000000000001\n" in status
    assert "NoNewPrivs:\t1\n" in status
    facts = running.play.place.facts("locked-down")
    assert facts["labels"] == {"org.example.kind": "locked", "org.example.empty": ""}
    assert facts["limits"]["memory"]["limit"] == 32 << 20


# what the task says beside the files


@project("forge")
def test_the_tasks_own_options_are_over_the_files(running: Running) -> None:
    options = {
        "name": "given",
        "containers": {"given-db-1": {"env": {"OWN": "1"}}, "more": {"image": "bb"}},
        "networks": {"given_default": {"subnet": "10.88.80.0/24"}},
    }
    running.twice(**options)
    place = running.play.place
    assert "OWN=1" in place.sh("given-db-1", "env")
    assert running.spec("given-db-1")["restart_policy"] == "always"
    assert {found["name"] for found in place.task("container_info")["containers"]} == {
        "given-db-1",
        "given-forge-1",
        "more",
    }
    assert place.task("network_info", name="given_default")["networks"][0]["subnet"] == "10.88.80.0/24"
    assert running.play.run(running.task(name="given", state="absent"), options=("-v",)) == ["changed"]
    assert place.task("container_info")["containers"] == []


def test_content_in_the_play_is_what_a_file_is(play: Play) -> None:
    """Ansible has templated it as it does a play; what comes of variables and files is data."""
    (play.directory / "given.env").write_text("FROM_FILE={{ 7 * 6 }}\nPLAIN='$$x'\n")
    content = {
        "name": "inline",
        "services": {
            "one": {
                "image": "bb",
                "restart": False,
                "env_file": "given.env",
                "environment": {"PLAYS": "{{ 7 * 6 }}", "VARIABLE": "$GIVEN", "DOLLAR": "$$GIVEN"},
            }
        },
    }
    task = {"vessel.host.stack": {"compose": content, "compose_env": {"GIVEN": "{{ marked }}"}}}
    play.words["vars"] = {"marked": "{{ '{{ 7 * 6 }}' }}"}
    try:
        assert play.run(task, task, options=("-v",)) == ["changed", "ok"]
        env = play.place.sh("inline-one-1", "env").splitlines()
        assert {"FROM_FILE={{ 7 * 6 }}", "PLAYS=42", "DOLLAR=$GIVEN", "PLAIN=$$x"} <= set(env), env
    finally:
        del play.words["vars"]
        play.place.task("stack", name="inline", state="absent")


def test_files_that_are_somewhere_else(play: Play) -> None:
    """As a role has them: in its files, by names that are relative to these."""
    files = play.directory / "files"
    for name in ("stack", "settings"):
        (files / name).mkdir()
    (files / "stack/compose.yaml").write_text("services: {one: {image: bb, env_file: own.env, hostname: $WHO}}")
    (files / "settings/own.env").write_text("OWN=$WHO")
    (files / "host.env").write_text("WHO=somebody")
    options = {"compose_env_files": ["host.env"], "compose_project_directory": "settings"}
    task = {"vessel.host.stack": {"compose": "stack/compose.yaml", **options}}
    try:
        assert play.run(task, task, options=("-v",)) == ["changed", "ok"]
        assert play.place.sh("settings-one-1", "hostname; echo $OWN") == "somebody\nsomebody"
        task["vessel.host.stack"]["compose_env_files"] = ["none.env"]
        assert play.run(task, options=(), fails=True) == ["fatal"]
        said = " ".join(play.said.split())
        assert f"compose_env_files: 'none.env' is not on the controller; it was looked for as {files}/none.env" in said
    finally:
        play.place.task("stack", name="settings", state="absent")


def test_a_vault_is_read(play: Play) -> None:
    """A secret's file may be one of ansible-vault's."""
    from ansible.parsing.vault import VaultLib, VaultSecret

    directory = play.directory / "vaulted"
    directory.mkdir()
    secret = VaultSecret(b"the key")
    (directory / "secret").write_bytes(VaultLib([("default", secret)]).encrypt(b"kept well", secret))
    (play.directory / "key").write_text("the key")
    (directory / "compose.yaml").write_text(
        json.dumps({"services": {"one": {"image": "bb", "secrets": ["s"]}}, "secrets": {"s": {"file": "secret"}}})
    )
    task = {"vessel.host.stack": {"compose": "vaulted/compose.yaml"}}
    try:
        assert play.run(task, task, options=("-vvv", "--vault-password-file", "key")) == ["changed", "ok"]
        assert "kept well" not in play.said
        assert play.place.sh("vaulted-one-1", "cat /run/secrets/s") == "kept well"
        assert play.run(task, options=(), fails=True) == ["fatal"]
        assert "secrets.s.file: 'secret' can't be read on the controller" in " ".join(play.said.split())
    finally:
        play.place.task("stack", name="vaulted", state="absent")


def test_an_option_of_compose_needs_it(play: Play) -> None:
    task = {"vessel.host.stack": {"name": "s", "compose_profiles": ["a"]}}
    assert play.run(task, options=(), fails=True) == ["fatal"]
    assert "compose_profiles: ['a'] says something of compose, which is missing" in " ".join(play.said.split())


def test_the_module_alone_says_who_reads_the_files(play: Play) -> None:
    said = play.place.task("stack", compose="compose.yaml", fails=True)["msg"]
    assert said.startswith("compose: 'compose.yaml' is of the controller's, where only the action plugin")
    assert play.place.task("stack", fails=True)["msg"].startswith("name: is missing; only compose files")
