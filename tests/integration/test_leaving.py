# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filters give is read by those whom it is for: docker-compose, podman's quadlet, podman itself, and the
schemas of the Kubernetes API."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from ansible_collections.vessel.host.plugins.plugin_utils.export.filtering import (
    to_compose,
    to_kubernetes,
    to_quadlet,
)
from ansible_collections.vessel.host.tests import declared, trixie
from ansible_collections.vessel.host.tests.patience import patient
from kubernetes_validate import utils

CHECKOUT = Path(__file__).parents[2]
SHOP = yaml.safe_load((CHECKOUT / "playbooks/shop.yml").read_text())[0]["tasks"][0]["vessel.host.stack"]


def run(*command: str, **more) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=patient(60), check=False, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


# compose


def composed(stack, directory: Path):
    """The stack as docker-compose has understood it."""
    text = yaml.safe_dump(to_compose(stack, lossy=True))
    (directory / "compose.yaml").write_text(text)
    (directory / "Containerfile.web").write_text("")
    words = ["-f", str(directory / "compose.yaml"), "--profile", "stopped", "config", "--format", "json"]
    return json.loads(run(trixie.program(trixie.COMPOSE), *words).stdout)


def test_docker_compose_reads_it(tmp_path):
    stack = declared.everything()
    assert sorted(composed(stack, tmp_path)["services"]) == sorted(stack["containers"])


def test_docker_compose_reads_every_name(tmp_path):
    told = composed({**declared.oddly_named(), "name": "site"}, tmp_path)
    assert told["services"]["web.v1_a"]["depends_on"]["1other"]["condition"] == "service_healthy"
    assert told["networks"]["Net_1.a"]["name"] == "Net_1.a"


def test_docker_compose_does_judge(tmp_path):
    found = to_compose(declared.base())
    found["services"]["web"]["memory_high"] = "64m"
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(found))
    words = ["docker-compose", "-f", str(tmp_path / "compose.yaml"), "config"]
    done = subprocess.run(
        words, executable=trixie.program(trixie.COMPOSE), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode
    assert "services.web Additional property memory_high is not allowed" in done.stderr


def test_docker_compose_takes_nothing_for_a_variable(tmp_path):
    stack = declared.base()
    stack["containers"]["web"].update(
        command=["sh", "-c", declared.NASTY], env={"A": declared.NASTY, "B": declared.TWO_LINES, "C": ""}
    )
    web = composed(stack, tmp_path)["services"]["web"]
    doubled = declared.NASTY.replace("$", "$$")  # config writes a file that may be read again
    assert web["command"] == ["sh", "-c", doubled]
    assert web["environment"] == {"A": doubled, "B": declared.TWO_LINES, "C": ""}


def test_docker_compose_understands_what_was_meant(tmp_path):
    stack = declared.base()
    stack["containers"]["web"].update(
        memory="64m",
        cpus=1.5,
        published_ports=["127.0.0.1:8080:80/udp", "81"],
        stop_timeout="1m30s",
        restart_policy="on-failure",
        restart_retries=3,
        healthcheck={"test": "true", "interval": "1m"},
        depends_on={"other": "completed"},
        networks=[{"name": "two", "aliases": ["x"]}, {"name": "one", "ipv4_address": "10.90.0.9"}],
        volumes=["data:/data:ro", "/etc:/host"],
    )
    web = composed(stack, tmp_path)["services"]["web"]
    assert (web["mem_limit"], web["memswap_limit"], web["cpus"]) == (str(64 << 20), "-1", 1.5)
    ports = [(port.get("host_ip"), port.get("published"), port["target"], port["protocol"]) for port in web["ports"]]
    assert sorted(ports, key=str) == [("127.0.0.1", "8080", 80, "udp"), (None, None, 81, "tcp")]
    assert (web["stop_grace_period"], web["restart"]) == ("1m30s", "on-failure:3")
    assert web["healthcheck"] == {"test": ["CMD-SHELL", "true"], "interval": "1m0s"}
    assert web["depends_on"]["other"]["condition"] == "service_completed_successfully"
    assert web["networks"]["two"] == {"aliases": ["x"], "priority": 2}
    assert web["networks"]["one"] == {"ipv4_address": "10.90.0.9", "priority": 1}
    assert [(mount["source"], mount["target"], mount.get("read_only", False)) for mount in web["volumes"]] == [
        ("data", "/data", True),
        ("/etc", "/host", False),
    ]


# quadlet


def generated(stack, directory: Path):
    """The services as podman's generator makes them: name and text."""
    for name, text in to_quadlet(stack, lossy=True).items():
        (directory / name).write_text(text)
    done = run(trixie.program(trixie.QUADLET), "-dryrun", env={**os.environ, "QUADLET_UNIT_DIRS": str(directory)})
    # What is wrong in a file is told, and the file passed over.
    said = [line for line in done.stderr.splitlines() if "Loading source unit file" not in line]
    assert [line for line in said if "not a fully qualified image name" not in line] == []
    parts = re.split(r"^---(.*)---$", done.stdout, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def command(service: str):
    """The words of ExecStart as systemd hands them to podman (systemd.service(5), "Command lines")."""
    (line,) = re.findall(r"^ExecStart=(.*)$", service, re.MULTILINE)
    words = re.findall(r'(?:[^\s"]|"(?:[^"\\]|\\.)*")+', line)
    return [read_word(word) for word in words]


def read_word(word: str) -> str:
    """Quotes and C's escapes, then specifiers and variables, of which none may be left."""
    plain = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "s": " "}
    text = re.sub(r"\\(.)", lambda match: plain[match[1]], re.sub(r'(?<!\\)"', "", word))
    assert re.sub(r"%%|%t|%N|%n", "", text).count("%") == 0, word
    assert re.sub(r"\$\$", "", text).count("$") == 0, word
    return text.replace("%%", "%").replace("$$", "$")


def test_quadlet_reads_it(tmp_path):
    stack = declared.everything()
    services = generated(stack, tmp_path)
    assert {f"site-{name}.service" for name in stack["containers"]} <= set(services)
    assert {f"site-{name}-network.service" for name in stack["networks"]} <= set(services)
    assert {f"site-{name}-volume.service" for name in stack["volumes"]} <= set(services)
    for name in services:
        command(services[name])


def test_quadlet_reads_every_name(tmp_path):
    services = generated(declared.oddly_named(), tmp_path)
    assert "After=Site.1-1other.service" in services["Site.1-web.v1_a.service"]
    assert {"Site.1-Net_1.a-network.service", "Site.1-da_ta.1-volume.service"} <= set(services)


def test_systemd_takes_nothing_for_its_own(tmp_path):
    stack = declared.base()
    texts = ["sh", "-c", declared.NASTY, declared.TWO_LINES]
    stack["containers"]["web"].update(
        command=texts,
        env={"A": declared.NASTY, "B": declared.TWO_LINES},
        labels={"a b": declared.NASTY},
        entrypoint=["a b", declared.NASTY],
        healthcheck={"test": ["CMD", "a", declared.NASTY]},
        working_dir="/a b $HOME %n",
    )
    words = command(generated(stack, tmp_path)["site-web.service"])
    assert words[-4:] == texts
    assert {f"A={declared.NASTY}", f"B={declared.TWO_LINES}", f"a b={declared.NASTY}"} <= set(words)
    assert json.loads(words[words.index("--entrypoint") + 1]) == ["a b", declared.NASTY]
    assert json.loads(words[words.index("--health-cmd") + 1]) == ["a", declared.NASTY]
    assert words[words.index("--workdir") + 1] == "/a b $HOME %n"


def test_an_empty_word_is_kept(tmp_path):
    """Quadlet ends a command at one, and says nothing."""
    stack = declared.base()
    stack["containers"]["web"].update(entrypoint=["sh"], command=["-c", "", "a"])
    words = command(generated(stack, tmp_path)["site-web.service"])
    assert json.loads(words[words.index("--entrypoint") + 1]) == ["sh", "-c", "", "a"]
    assert words[-1].startswith("docker.io/")


def test_who_is_waited_for_comes_first(tmp_path):
    stack = declared.base()
    stack["containers"]["web"].update(depends_on={"other": "healthy"}, networks=[{"name": "one"}], volumes=["data:/d"])
    services = generated(stack, tmp_path)
    for unit in ("site-other", "site-one-network", "site-data-volume"):
        assert f"After={unit}.service" in services["site-web.service"]
        assert f"Requires={unit}.service" in services["site-web.service"]
    assert "--sdnotify=healthy" in command(services["site-other.service"])
    stack["containers"]["web"]["depends_on"] = {"other": "completed"}
    assert "Type=oneshot" in generated(stack, tmp_path)["site-other.service"]


# Kubernetes

OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_api_takes_it(version, monkeypatch):
    # It would read the file of a megabyte anew for each.
    monkeypatch.setattr(utils, "schema_contents", functools.lru_cache(utils.schema_contents))
    stack = declared.everything()
    if version == OLDEST:  # the field came with 1.33
        del stack["containers"]["c-stop-signal-0"]
    manifests = to_kubernetes(stack, lossy=True, secret_values=True)
    kinds = {manifest["kind"] for manifest in manifests}
    assert kinds >= {"Deployment", "StatefulSet", "Job", "Service", "PersistentVolumeClaim", "Secret", "NetworkPolicy"}
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_names_that_are_none_there_are_told():
    manifests = to_kubernetes(declared.oddly_named(), lossy=True)
    named = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    assert named >= {("Deployment", "web-v1-a"), ("Deployment", "n-1other"), ("PersistentVolumeClaim", "da-ta-1")}
    notes = "".join(
        manifest["metadata"].get("annotations", {}).get("vessel.host/left-out", "") for manifest in manifests
    )
    for name in ("'web.v1_a'", "'1other'", "'da_ta.1'"):
        assert name in notes


def test_the_schema_refuses_what_is_wrong():
    """The judge does judge."""
    (*dummy, manifest) = to_kubernetes(declared.base())
    manifest["spec"]["template"]["spec"]["containers"][0]["memory"] = "64m"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, NEWEST, strict=True)


def test_the_shop(tmp_path):
    """The demonstration's stack, of which each form says most."""
    shop = {**SHOP, "networks": {"shop": {"subnet": "10.88.7.0/24"}}}
    shop["containers"]["nginx"]["published_ports"] = ["8080:80"]
    assert sorted(composed(shop, tmp_path)["services"]) == ["db", "nginx", "php"]
    (tmp_path / "units").mkdir()
    assert "shop-shop-db-build.service" in generated(shop, tmp_path / "units")
    for manifest in to_kubernetes(shop, lossy=True):
        kubernetes_validate.validate(manifest, NEWEST, strict=True)


# a play

PLAY = """\
- hosts: localhost
  gather_facts: false
  vars:
    ansible_python_interpreter: /usr/bin/python3
    word: "{{ 'ti' ~ 'tle' }}"
    site:
      name: site
      containers:
        web:
          image: busybox
          env: {TITLE: "{{ word }}", DATA: !unsafe "{{ word }} $HOME"}
          memory_high: 24m
          secrets:
            - {name: key, content: VAULTED}
  tasks:
    - ansible.builtin.copy:
        content: "{{ site | vessel.host.to_compose(lossy=true) | to_nice_yaml(sort_keys=false) }}"
        dest: "{{ playbook_dir }}/compose.yaml"
        mode: "0644"
    - ansible.builtin.copy:
        content: "{{ item.value }}"
        dest: "{{ playbook_dir }}/{{ item.key }}"
        mode: "0644"
      loop: "{{ site | vessel.host.to_quadlet | dict2items }}"
    - ansible.builtin.copy:
        content: "{{ manifests | map('to_nice_yaml') | join('---\\n') }}"
        dest: "{{ playbook_dir }}/site.yaml"
        mode: "0644"
      vars:
        manifests: "{{ site | vessel.host.to_kubernetes(lossy=true, secret_values=true, storage='2Gi') }}"
    - ansible.builtin.debug:
        msg: "{{ site | vessel.host.to_compose }}"
"""


def test_a_play_writes_them(tmp_path):
    tools = Path(sys.executable).parent
    (tmp_path / "password").write_text("open")
    settings = {**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    settings |= {"ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "collection")}
    vault = ["--vault-password-file", str(tmp_path / "password")]
    secret = run(str(tools / "ansible-vault"), "encrypt_string", *vault, "hunter2", env=settings).stdout
    (tmp_path / "play.yml").write_text(PLAY.replace("{name: key, content: VAULTED}", _indented(secret)))
    done = subprocess.run(
        [str(tools / "ansible-playbook"), *vault, str(tmp_path / "play.yml")],
        env=settings, capture_output=True, text=True, timeout=patient(300), check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "ok=3" in said, said
    problem = "containers.web.memory_high: 25165824 can't be said in a compose file: it has no word for memory.high"
    assert problem in said
    assert "hunter2" not in said
    words = ["-f", str(tmp_path / "compose.yaml"), "config", "--format", "json"]
    told = json.loads(run(trixie.program(trixie.COMPOSE), *words).stdout)
    assert told["services"]["web"]["environment"] == {"TITLE": "title", "DATA": "{{ word }} $$HOME"}
    assert 'Environment="DATA={{ word }} $$HOME"' in (tmp_path / "site-web.container").read_text()
    manifests = list(yaml.safe_load_all((tmp_path / "site.yaml").read_text()))
    for manifest in manifests:
        kubernetes_validate.validate(manifest, NEWEST, strict=True)
    assert [found["stringData"] for found in manifests if found["kind"] == "Secret"] == [{"key": "hunter2"}]


def _indented(secret: str) -> str:
    """The vaulted text as the content of a list's item."""
    first, *others = secret.rstrip().splitlines()
    lines = ["name: key", f"  content: {first}", *(f"      {line.strip()}" for line in others)]
    return "\n".join([lines[0], *(f"            {line}" for line in lines[1:])])
