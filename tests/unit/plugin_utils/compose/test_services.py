# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services attribute by attribute: what each becomes, and the sentence for what can't be."""

# ruff: noqa: E501 - a row of a table is a line
from __future__ import annotations

from typing import Any

import pytest

from .conftest import Directory

HEALTH = {"test": ["CMD", "true"], "interval": "5s", "retries": 2, "start_period": "1m30s"}
BECOMES: list[tuple[str, dict[str, Any]]] = [
    ("command: sh -c 'echo \"a  b\" $$X'", {"command": ["sh", "-c", 'echo "a  b" $X']}),
    ("command: [a, b c]", {"command": ["a", "b c"]}),
    ("command: []", {"command": []}),
    ("command: ''", {"command": []}),
    ("command:", {}),
    ("entrypoint: /run.sh -v", {"entrypoint": ["/run.sh", "-v"]}),
    (
        "environment: {A: 1, B: true, C: 1.5, D: '', E: 1e3, F: 0x10, G: }",
        {"env": {"A": "1", "B": "true", "C": "1.5", "D": "", "E": "1000", "F": "16"}},
    ),
    ("environment: [A=1, B=c=d, C=, D]", {"env": {"A": "1", "B": "c=d", "C": ""}}),
    ("environment: [KNOWN]", {"env": {"KNOWN": "yes"}}),
    ("user: 1000", {"user": "1000"}),
    ("user: 'www:www'", {"user": "www:www"}),
    ("group_add: [mail, 5]", {"groups": ["mail", "5"]}),
    ("working_dir: /srv", {"working_dir": "/srv"}),
    ("hostname: web", {"hostname": "web"}),
    ("domainname: example.org", {"domainname": "example.org"}),
    ("labels: {a: 1, b: }", {"labels": {"a": "1", "b": ""}}),
    ("labels: [a=1, b]", {"labels": {"a": "1", "b": ""}}),
    ("network_mode: host", {"network_mode": "host"}),
    ("network_mode: container:other", {"network_mode": "container:other"}),
    ("ports: [80]", {"published_ports": ["80/tcp"]}),
    (
        "ports: ['80', '8080:80', '127.0.0.1:8081:81/udp']",
        {"published_ports": ["80/tcp", "8080:80/tcp", "127.0.0.1:8081:81/udp"]},
    ),
    (
        "ports: ['3000-3002:4000-4002', '[::]:82:82']",
        {"published_ports": ["3000-3002:4000-4002/tcp", "[::]:82:82/tcp"]},
    ),
    ("ports: [22:22]", {"published_ports": ["22:22/tcp"]}),
    ("ports: ['127.0.0.1::80']", {"published_ports": ["127.0.0.1::80/tcp"]}),
    (
        "ports: [{target: 80, published: '8080', host_ip: 127.0.0.1, protocol: udp, mode: ingress, name: x, app_protocol: http}]",
        {"published_ports": ["127.0.0.1:8080:80/udp"]},
    ),
    ("ports: [{target: 80, published: 8080-8090}]", {"published_ports": ["8080:80/tcp"]}),
    ("expose: [80, '90-91/udp']", {}),
    ("dns: 192.0.2.1", {"dns_servers": ["192.0.2.1"]}),
    ("dns_search: [a.example, b.example]", {"dns_search_domains": ["a.example", "b.example"]}),
    ("dns_opt: ['ndots:2']", {"dns_opts": ["ndots:2"]}),
    (
        "extra_hosts: ['a:192.0.2.1', 'b=2001:db8::1', 'c:[::1]']",
        {"etc_hosts": {"a": "192.0.2.1", "b": "2001:db8::1", "c": "::1"}},
    ),
    ("extra_hosts: {a: 192.0.2.1, b: [192.0.2.2]}", {"etc_hosts": {"a": "192.0.2.1", "b": "192.0.2.2"}}),
    ("volumes: ['/a:/b', '/c:/d:ro,z']", {"volumes": ["/a:/b", "/c:/d:ro,z"]}),
    ("volumes: ['/a:/b:cached', '/c:/d:nocopy,ro']", {"volumes": ["/a:/b", "/c:/d:ro"]}),
    ("volumes: [/data]", {"volumes": ["p-one-1_data:/data"]}),
    ("volumes: [./x:/y, ../z:/w]", {"volumes": ["/there/x:/y", "/z:/w"]}),
    (
        "volumes: [{type: bind, source: /a, target: /b, read_only: true, bind: {propagation: rslave, selinux: Z}}]",
        {"volumes": ["/a:/b:ro,rslave,Z"]},
    ),
    ("volumes: [{type: bind, source: x, target: /y}]", {"volumes": ["/there/x:/y"]}),
    ("volumes: [{type: volume, target: /y, volume: {nocopy: true}}]", {"volumes": ["p-one-1_y:/y"]}),
    ("volumes: [{type: tmpfs, target: /t, tmpfs: {size: 64m, mode: 01777}}]", {"tmpfs": ["/t:size=64m,mode=1777"]}),
    ("tmpfs: /run", {"tmpfs": ["/run"]}),
    ("tmpfs: [/run, '/tmp:size=1m']", {"tmpfs": ["/run", "/tmp:size=1m"]}),
    ("shm_size: 64M", {"shm_size": "64M"}),
    ("read_only: true", {"read_only": True}),
    ("read_only: ${KNOWN}", {"read_only": "yes"}),
    ("restart: 'no'", {"restart_policy": "no"}),
    ("restart: no", {"restart_policy": "no"}),
    ("restart: on-failure:5", {"restart_policy": "on-failure", "restart_retries": "5"}),
    ("restart: unless-stopped", {"restart_policy": "unless-stopped"}),
    ("stop_signal: SIGUSR1", {"stop_signal": "SIGUSR1"}),
    ("stop_grace_period: 1m30s", {"stop_timeout": "1m30s"}),
    ("init: true", {"init": True}),
    ("healthcheck: {test: [CMD, 'true'], interval: 5s, retries: 2, start_period: 1m30s}", {"healthcheck": HEALTH}),
    ("healthcheck: {test: curl -f x || exit 1}", {"healthcheck": {"test": "curl -f x || exit 1"}}),
    ("healthcheck: {disable: true}", {"healthcheck": {"test": ["NONE"]}}),
    ("healthcheck: {test: [NONE]}", {"healthcheck": {"test": ["NONE"]}}),
    ("cpus: '0.5'", {"cpus": "0.5"}),
    ("cpu_shares: 512", {"cpu_shares": 512}),
    ("cpu_quota: 50000", {"cpus": 0.5}),
    ("{cpu_quota: 50000, cpu_period: 100000}", {"cpus": 0.5}),
    ("cpuset: 0-1", {"cpuset_cpus": "0-1"}),
    ("mem_limit: 1gb", {"memory": "1gb"}),
    ("mem_reservation: 512m", {"memory_reservation": "512m"}),
    ("memswap_limit: -1", {"memory_swap": -1}),
    ("oom_score_adj: -500", {"oom_score_adj": -500}),
    ("pids_limit: 100", {"pids_limit": 100}),
    (
        "blkio_config: {weight: 300, device_read_bps: [{path: /dev/vda, rate: 1mb}]}",
        {"blkio_weight": 300, "device_read_bps": [{"path": "/dev/vda", "rate": "1mb"}]},
    ),
    ("ulimits: {nofile: {soft: 1, hard: 2}, memlock: -1}", {"ulimits": ["nofile:1:2", "memlock:-1"]}),
    ("sysctls: {net.core.somaxconn: 1024}", {"sysctls": {"net.core.somaxconn": "1024"}}),
    ("sysctls: [net.core.somaxconn=1024]", {"sysctls": {"net.core.somaxconn": "1024"}}),
    ("devices: ['/dev/null', '/dev/zero:/dev/z:r']", {"devices": ["/dev/null", "/dev/zero:/dev/z:r"]}),
    ("devices: [{source: /dev/null, target: /dev/n, permissions: r}]", {"devices": ["/dev/null:/dev/n:r"]}),
    ("cap_add: [NET_ADMIN]", {"capabilities": ["NET_ADMIN"]}),
    ("cap_drop: [ALL]", {"cap_drop": ["ALL"]}),
    ("privileged: true", {"privileged": True}),
    ("security_opt: ['no-new-privileges:true', 'apparmor:unconfined']", {"security_opts": ["apparmor:unconfined"]}),
    ("cgroup: host", {"cgroupns_mode": "host"}),
    ("pid: host", {"pid_mode": "host"}),
    ("ipc: shareable", {"ipc_mode": "shareable"}),
    ("uts: host", {"uts": "host"}),
    (
        "logging: {driver: local, options: {max-size: 1m, max-file: '3'}}",
        {"log_driver": "file", "log_options": {"max-size": "1m", "max-file": "3"}},
    ),
    ("logging: {driver: journald}", {"log_driver": "journald"}),
    ("pull_policy: if_not_present", {"pull": "missing"}),
    ("pull_policy: always", {"pull": "always"}),
    (
        "deploy: {mode: replicated, replicas: 1, endpoint_mode: dnsrr, resources: {limits: {cpus: 2, memory: 1g, pids: 5}, reservations: {memory: 1m}}}",
        {"cpus": 2, "memory": "1g", "pids_limit": 5, "memory_reservation": "1m"},
    ),
    (
        "deploy: {restart_policy: {condition: on-failure, max_attempts: 3}}",
        {"restart_policy": "on-failure", "restart_retries": 3},
    ),
    ("deploy: {restart_policy: {condition: any}}", {"restart_policy": "always"}),
    ("deploy: {update_config: {order: start-first}}", {"update_order": "start_first"}),
    ("{mem_limit: 64m, deploy: {resources: {limits: {memory: 64MB}}}}", {"memory": "64MB"}),
    (
        "mac_address: 02:42:0a:00:00:02",
        {"networks": [{"name": "p_default", "aliases": ["one"], "mac_address": "02:42:0a:00:00:02"}]},
    ),
    (
        "{tty: false, stdin_open: 'false', userns_mode: host, isolation: default, attach: true, oom_kill_disable: false}",
        {},
    ),
    ("x-anything: {goes: here}", {}),
]


@pytest.mark.parametrize(("text", "expected"), BECOMES, ids=[text for text, dummy in BECOMES])
def test_becomes(directory: Directory, text: str, expected: dict[str, Any]) -> None:
    if text.startswith("{"):
        text = "\n".join(part.strip() for part in _parts(text[1:-1]))
    given = {"variables": {"KNOWN": "yes"}, "target_directory": "/there"}
    assert directory.service(text, **given) == expected


def _parts(text: str) -> list[str]:
    """Of a mapping's flow, the lines of the same mapping as a block."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "{[") - (letter in "}]")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


REFUSED = [
    ("ports: ['x:80']", "ports[0]: 'x:80' is no port; write [[IP:]HOST_PORT:]PORT[/PROTOCOL]"),
    ("ports: ['99999:80']", "ports[0]: '99999:80/tcp' has the port 99999; ports are 1 to 65535"),
    ("ports: [80.5]", "ports[0]: "),
    ("ports: {a: b}", "ports: {'a': 'b'} is a mapping; give a list"),
    ("ports: [{published: 80}]", "ports[0].target: is missing, and must be there"),
    ("port: [80]", "port: is no attribute of the compose specification; there are annotations, attach"),
    ("tty: true", "tty: True can't be; a container's output goes to its log"),
    ("tty: ${KNOWN}", "tty: 'yes' can't be"),
    ("gpus: all", "gpus: 'all' takes drivers of docker's"),
    ("develop: {watch: [{path: ., action: sync, target: /}]}", "develop: {'watch': "),
    ("deploy: {update_config: {parallelism: 2}}", "deploy.update_config.parallelism: 2 is for Swarm"),
    (
        "deploy: {update_config: {order: both}}",
        "deploy.update_config.order: 'both' is not one of stop-first, start-first",
    ),
    ("deploy: {placement: {constraints: [x]}}", "deploy.placement: "),
    ("deploy: {resources: {reservations: {cpus: '1'}}}", "deploy.resources.reservations.cpus: '1' is room that"),
    ("deploy: {restart_policy: {delay: 5s}}", "deploy.restart_policy.delay: '5s' can't be set"),
    (
        "deploy: {restart_policy: {max_attempts: 2}}",
        "deploy.restart_policy.max_attempts: 2 counts restarts of on-failure",
    ),
    ("deploy: {resources: {limits: {memory: 10x}}}", "deploy.resources.limits.memory: '10x' is not a size; use bytes"),
    ("deploy: {mode: global-job}", "deploy.mode: 'global-job' is not one of replicated, global"),
    ("{scale: 2, deploy: {replicas: 3}}", "scale: 2 is not what deploy.replicas says, 3"),
    ("{scale: 2, container_name: x}", "container_name: 'x' is one name for 2 containers"),
    ("{scale: 2, ports: ['80:80']}", "ports[0]: '80:80' is one port of the host, and there are 2 replicas"),
    ("{scale: 3, ports: ['80-81:80']}", "ports[0]: '80-81:80' has a range of 2 ports for 3 replicas"),
    ("scale: many", "scale: 'many' is no number of containers"),
    ("mem_limit: lots", "mem_limit: 'lots' is not a size; use bytes"),
    (
        "{mem_limit: 1m, deploy: {resources: {limits: {memory: 2m}}}}",
        "deploy: '2m' is '1m' by another attribute; both become the option memory",
    ),
    ("cpu_period: 50000", "cpu_period: 50000 can't be set; it is 100000 microseconds; give cpus"),
    ("cap_add: [FLY]", "cap_add[0]: 'FLY' is not a capability"),
    ("security_opt: ['seccomp:unconfined']", "security_opt[0]: 'seccomp:unconfined' is no security option"),
    ("sysctls: {kernel.panic: 1}", "sysctls: 'kernel.panic' belongs to the host"),
    ("ulimits: {none: 1}", "ulimits.none: 'none:1' names no limit of getrlimit(2)"),
    ("ulimits: {nofile: {soft: 1}}", "ulimits.nofile: {'soft': 1} needs both soft and hard"),
    ("restart: sometimes", "restart: 'sometimes' is not one of no, on-failure"),
    ("restart: always:3", "restart: 'always:3' has a number, which only on-failure:N takes"),
    ("healthcheck: {interval: 5s}", "healthcheck.test: is missing; the image's own check is taken whole or not at all"),
    ("healthcheck: {test: x, interval: soon}", "healthcheck.interval: 'soon' is not a duration"),
    ("logging: {driver: syslog}", "logging.driver: 'syslog' is not one of json-file, local, journald, none"),
    ("logging: {options: {tag: x}}", "logging.options.tag: 'x' belongs to no option; there are max_file, max_size"),
    ("stop_signal: SIGNONE", "stop_signal: 'SIGNONE' is not a signal"),
    ("command: 'a \"b'", "command: 'a \"b' can't be split into words (no closing quotation); write it as a list"),
    ("env_file: none.env", "env_file[0]: 'none.env' can't be read on the controller, at ./none.env: No such file"),
    ("environment: [=x]", "environment: '' is empty"),
    (
        "volumes: [./x:/y]",
        "volumes[0]: './x' is relative to the project's directory, which is on the controller; give compose_target",
    ),
    ("volumes: [~/x:/y]", "volumes[0]: '~/x' is in a home"),
    ("volumes: [data:/y]", "volumes[0]: 'data' is not declared in volumes; there are none"),
    ("volumes: ['a:b:c:d']", "volumes[0]: 'a:b:c:d' is not [SOURCE:]TARGET[:MODE]"),
    ("volumes: ['/a:/b:rx']", "volumes[0]: '/a:/b:rx' has the mode rx"),
    ("volumes: [{type: npipe, source: x, target: y}]", "volumes[0].type: 'npipe' is not one of bind, volume, tmpfs"),
    (
        "volumes: [{type: bind, source: /x, target: /y, bind: {create_host_path: true}}]",
        "volumes[0].bind.create_host_path: True can't",
    ),
    (
        "volumes: [{type: bind, source: /x, target: /y, tmpfs: {size: 1}}]",
        "volumes[0].tmpfs: {'size': 1} is for the type tmpfs, and this is bind",
    ),
    (
        "volumes: [{type: volume, source: x, target: /y, volume: {subpath: z}}]",
        "volumes[0].volume.subpath: 'z' can't be; mount the whole",
    ),
    (
        "extra_hosts: ['a:host-gateway']",
        "extra_hosts: 'a:host-gateway' has an address that is known when the network is made",
    ),
    ("extra_hosts: ['a:192.0.2.1', 'a:192.0.2.2']", "extra_hosts: 'a:192.0.2.2' names a twice"),
    (
        "links: ['one:uno']",
        "links[0]: 'one:uno' gives a name that this service alone would know; write it in the aliases",
    ),
    ("links: [two]", "links[0]: 'two' is no service that is enabled; there are one"),
    ("network_mode: service:two", "network_mode: 'two' is no service that is enabled"),
    ("{network_mode: host, networks: [a]}", "network_mode: 'host' can't be with networks"),
    ("networks: [a]", "networks.a: 'a' is not declared in networks; there are none"),
    ("networks: {default: {interface_name: eth5}}", "networks.default.interface_name: 'eth5' can't be chosen"),
    (
        "{scale: 2, networks: {default: {ipv4_address: 10.0.0.2}}}",
        "networks.default.ipv4_address: '10.0.0.2' is one address for 2 replicas",
    ),
    ("depends_on: [two]", "depends_on: 'two' names no service"),
    ("depends_on: {one: {condition: ready}}", "depends_on.one.condition: 'ready' is not one of service_started"),
    ("depends_on: {one: {condition: service_started, restart: true}}", "depends_on.one.restart: True can't be"),
    ("secrets: [pw]", "secrets[0]: 'pw' is not declared in secrets; there are none"),
    ("configs: [c]", "configs[0]: 'c' is not declared in configs; there are none"),
    (
        "build: https://example.org/x.git",
        "build.context: 'https://example.org/x.git' is an address; give a directory on the controller",
    ),
    ("build: none", "build.context: 'none' is no directory on the controller, at ./none"),
    ("build: {context: ., no_cache: true}", "build.no_cache: True would build anew with every run"),
    ("build: .", "build.context: '.' has neither Containerfile nor Dockerfile; name it in dockerfile"),
    ("volumes_from: [one]", "volumes_from: ['one'] can't be; name the volumes in both services"),
    ("image: UPPER", "image: 'UPPER'"),
    ("profiles: x", "profiles: 'x' is a string; give a list"),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED, ids=[text for text, dummy in REFUSED])
def test_refused(directory: Directory, text: str, sentence: str) -> None:
    lines = _parts(text[1:-1]) if text.startswith("{") else [text]
    image = "" if text.startswith("image") else "    image: bb\n"
    content = "name: p\nservices:\n  one:\n" + image + "".join(f"    {line.strip()}\n" for line in lines)
    said = directory.refused(content, variables={"KNOWN": "yes"})
    assert said.startswith(f"./compose.yaml: services.one.{sentence}"), said
