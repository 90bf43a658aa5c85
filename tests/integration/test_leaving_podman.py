# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""podman makes of quadlets what was declared, and a compose file runs under podman-compose."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.vessel.host.plugins.plugin_utils.export.filtering import to_compose
from ansible_collections.vessel.host.tests import declared
from ansible_collections.vessel.host.tests.patience import patient

from .podman_box import PodmanBox
from .test_leaving import command, generated

pytestmark = pytest.mark.root
# Of the generator's words those that need systemd.
_WITH_SYSTEMD = ("--cgroups=", "--sdnotify=", "--cidfile=", "-d", "--rm", "--replace")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodmanBox]:
    box = PodmanBox(tmp_path_factory.mktemp("podman"))
    yield box
    box.remove()


def made(box: PodmanBox, stack, directory: Path):
    """What podman says of web, made as its unit would make it."""
    services = generated(stack, directory)
    box.podman("rm", "--force", "web", check=False)
    for name in services:
        kind = name.removesuffix(".service").rpartition("-")[2]
        if kind in ("network", "volume"):
            words = [word for word in command(services[name]) if word != "--ignore"]
            box.podman(kind, "rm", "--force", words[-1], check=False)
            box.run(*words)
    words = [word for word in command(services["site-web.service"]) if not word.startswith(_WITH_SYSTEMD)]
    box.podman("create", *words[2:])
    return box.inspect("container", "web")


ENV = {"A": declared.NASTY, "B": declared.TWO_LINES, "C": ""}
CHECK = {"test": ["CMD", "a b", "c"], "interval": "2s", "retries": 5}
CHECKED = {"Test": ["CMD", "a b", "c"], "Interval": 2 * 10**9, "Timeout": 30 * 10**9, "Retries": 5}
# The options of a container, and what podman has under each of these keys then.
CASES = [
    ({"memory": "64m"}, {"HostConfig.Memory": 64 << 20}),
    ({"cpus": 1.5, "cpuset_cpus": "0-1"}, {"HostConfig.NanoCpus": 1_500_000_000, "HostConfig.CpusetCpus": "0-1"}),
    ({"pids_limit": 100, "oom_score_adj": 500}, {"HostConfig.PidsLimit": 100, "HostConfig.OomScoreAdj": 500}),
    ({}, {"HostConfig.PidsLimit": 0, "Config.Hostname": "web", "HostConfig.SecurityOpt": ["no-new-privileges"]}),
    ({"command": ["sh", "-c", declared.NASTY]}, {"Config.Cmd": ["sh", "-c", declared.NASTY]}),
    ({"entrypoint": [], "command": ["true", "a"]}, {"Path": "true", "Args": ["a"]}),
    ({"entrypoint": ["sh"], "command": ["-c", "", "a"]}, {"Path": "sh", "Args": ["-c", "", "a"]}),
    ({"labels": {"a b": declared.NASTY}}, {"Config.Labels": {"a b": declared.NASTY}}),
    ({"user": "33:34", "groups": ["5"]}, {"Config.User": "33:34", "HostConfig.GroupAdd": ["5"]}),
    ({"healthcheck": CHECK}, {"Config.Healthcheck": CHECKED}),
    ({"healthcheck": {"test": "a && b"}}, {"Config.Healthcheck.Test": ["CMD-SHELL", "a && b"]}),
    ({"healthcheck": {"test": ["CMD", "a b"]}}, {"Config.Healthcheck.Test": ["CMD-SHELL", "'a b'"]}),
    ({"healthcheck": {"test": "NONE"}}, {"Config.Healthcheck.Test": ["NONE"]}),
    ({"stop_signal": "USR1", "stop_timeout": "1m"}, {"Config.StopSignal": 10, "Config.StopTimeout": 60}),
    ({"privileged": True}, {"HostConfig.Privileged": True, "HostConfig.SecurityOpt": []}),
    ({"read_only": True}, {"HostConfig.ReadonlyRootfs": True, "HostConfig.Tmpfs": {}}),
    ({"shm_size": "128m"}, {"HostConfig.ShmSize": 128 << 20}),
    ({"etc_hosts": {"db": "10.0.0.1"}}, {"HostConfig.ExtraHosts": ["db:10.0.0.1"]}),
    (
        {"dns_servers": ["10.0.0.1"], "dns_opts": ["ndots:1"], "dns_search_domains": ["a.example"]},
        {"HostConfig.Dns": ["10.0.0.1"], "HostConfig.DnsOptions": ["ndots:1"], "HostConfig.DnsSearch": ["a.example"]},
    ),
    ({"pid_mode": "host", "uts": "host"}, {"HostConfig.PidMode": "host", "HostConfig.UTSMode": "host"}),
    (
        {"log_options": {"max_size": "10m"}},
        {"HostConfig.LogConfig.Type": "k8s-file", "HostConfig.LogConfig.Size": "10MB"},
    ),
]


def ask(told, key: str):
    for part in key.split("."):
        told = told[part]
    return told


@pytest.mark.parametrize(("options", "expected"), CASES, ids=[",".join(case[0]) or "nothing" for case in CASES])
def test_podman_has_what_was_declared(box, tmp_path, options, expected):
    stack = declared.base()
    stack["containers"]["web"].update(options)
    told = made(box, stack, tmp_path)
    assert {key: ask(told, key) for key in expected} == expected


def test_podman_limits_what_was_limited(box, tmp_path):
    stack = declared.base()
    stack["containers"]["web"].update(memory="64m", ulimits=["nofile:1024:4096"])
    told = made(box, stack, tmp_path)["HostConfig"]
    assert told["MemorySwap"] in (0, -1)  # both are no limit; without our word it is twice the memory
    assert {"Name": "RLIMIT_NOFILE", "Soft": 1024, "Hard": 4096} in told["Ulimits"]


def test_podman_publishes_what_was_published(box, tmp_path):
    stack = declared.base()
    stack["containers"]["web"]["published_ports"] = ["8080:80", "127.0.0.1:8081:81/udp"]
    told = made(box, stack, tmp_path)["HostConfig"]["PortBindings"]
    assert told["80/tcp"][0]["HostPort"] == "8080"
    assert told["81/udp"] == [{"HostIp": "127.0.0.1", "HostPort": "8081"}]


def test_podman_has_the_variables(box, tmp_path):
    stack = declared.base()
    stack["containers"]["web"]["env"] = ENV
    assert {f"{name}={text}" for name, text in ENV.items()} <= set(made(box, stack, tmp_path)["Config"]["Env"])


def test_podman_has_the_mounts(box, tmp_path):
    stack = declared.base()
    stack["containers"]["web"].update(volumes=["data:/data:ro,noexec", "/etc:/host:rslave"], tmpfs=["/t:size=64m"])
    told = made(box, stack, tmp_path)
    mounts = [(mount["Destination"], mount["RW"], mount["Propagation"]) for mount in told["Mounts"]]
    assert sorted(mounts) == [("/data", False, "rprivate"), ("/host", True, "rslave")]
    assert {"size=64m", "exec"} <= set(told["HostConfig"]["Tmpfs"]["/t"].split(","))


def test_podman_has_the_networks(box, tmp_path):
    stack = declared.base()
    stack["networks"]["one"] = {"subnet": "10.231.1.0/24", "mtu": 1400, "internal": True, "isolate": True}
    stack["containers"]["web"]["networks"] = [{"name": "one", "ipv4_address": "10.231.1.9", "aliases": ["x"]}]
    told = made(box, stack, tmp_path)["NetworkSettings"]["Networks"]["site-one"]
    assert "x" in told["Aliases"]
    network = box.inspect("network", "site-one")
    assert [part["subnet"] for part in network["subnets"]] == ["10.231.1.0/24"]
    assert network["internal"]
    assert network["options"] == {"isolate": "true", "mtu": "1400"}


DEFAULT = {
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, DEFAULT),
        ({"capabilities": ["NET_RAW"], "cap_drop": ["CHOWN"]}, DEFAULT - {"CAP_CHOWN"} | {"CAP_NET_RAW"}),
        ({"capabilities": ["CHOWN"], "cap_drop": ["ALL"]}, {"CAP_CHOWN"}),
    ],
)
def test_podman_gives_the_same_capabilities(box, tmp_path, options, expected):
    stack = declared.base()
    stack["containers"]["web"].update(options)
    assert set(made(box, stack, tmp_path)["EffectiveCaps"] or ()) == expected


def test_podmans_secret_is_the_containers_file(box, tmp_path):
    (tmp_path / "content").write_text(declared.SECRET)
    box.podman("secret", "create", "site-key", str(tmp_path / "content"))
    stack = declared.base()
    stack["containers"]["web"].update(secrets=[{"name": "key", "content": declared.SECRET, "uid": 33, "mode": "0440"}])
    stack["containers"]["web"]["network_mode"] = "none"
    made(box, stack, tmp_path)
    box.podman("start", "web")
    assert box.podman("exec", "web", "stat", "-c", "%u:%g:%a", "/run/secrets/key") == "33:0:440\n"
    assert box.podman("exec", "web", "cat", "/run/secrets/key") == declared.SECRET
    box.podman("rm", "--force", "--time", "0", "web")


def test_a_compose_file_runs(box, tmp_path):
    """Two that share a network and a volume, wait for one another, and have a secret and a limit."""
    stack = {
        "name": "leaving",
        "networks": {"site": {"subnet": "10.231.0.0/24"}},
        "volumes": {"pages": {}},
        "containers": {
            "writer": {
                "image": "busybox",
                "command": ["sh", "-c", "cat /run/secrets/key > /pages/index.html && exec sleep 1000"],
                "env": {"NASTY": declared.NASTY},
                "volumes": ["pages:/pages"],
                "networks": [{"name": "site"}],
                "secrets": [{"name": "key", "content": declared.SECRET}],
            },
            "server": {
                "image": "busybox",
                "command": ["httpd", "-f", "-p", "80", "-h", "/pages"],
                "volumes": ["pages:/pages:ro"],
                "networks": [{"name": "site", "ipv4_address": "10.231.0.9", "aliases": ["pages"]}],
                "published_ports": ["127.0.0.1:8080:80"],
                "memory": "64m",
                "read_only": True,
                "depends_on": ["writer"],
            },
        },
    }
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(to_compose(stack), sort_keys=False))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/key").write_text(declared.SECRET)
    compose = [sys.executable, "-m", "podman_compose", "--in-pod", "0"]
    try:
        box.run(*compose, "up", "--detach", cwd=tmp_path)
        fetch = ["podman", "exec", "writer", "wget", "-q", "-O", "-", "http://10.231.0.9/"]
        deadline = time.monotonic() + patient(30)
        while (page := box.run(*fetch, check=False)) != declared.SECRET and time.monotonic() < deadline:
            time.sleep(0.2)
        assert page == declared.SECRET
        assert box.run("podman", "exec", "writer", "sh", "-c", 'echo "$NASTY"') == f"{declared.NASTY}\n"
        server = box.inspect("container", "server")
        assert server["HostConfig"]["Memory"] == 64 << 20
        assert server["HostConfig"]["ReadonlyRootfs"]
        assert server["NetworkSettings"]["Networks"]["site"]["IPAddress"] == "10.231.0.9"
    finally:
        box.run(*compose, "down", "--volumes", "--timeout", "0", cwd=tmp_path, check=False)
