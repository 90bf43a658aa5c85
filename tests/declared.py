# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stacks that between them declare everything: for each option the values in which the other forms differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

SECRET = "hunter2 $HOME %n {{ x }}"
# What shells, systemd, compose, Kubernetes, YAML and templates would take for something of theirs.
NASTY = "a $HOME ${B} $(C) $$ %n %% {{ d }} \"e\" 'f' \\ \\n #g: é"
TWO_LINES = "one\ntwo  \n"

CONTAINER: dict[str, list[Any]] = {
    "image": ["nginx:1.27", "registry.example.com:5000/a/b@sha256:" + "0" * 64],
    "command": [["sh", "-c", NASTY], ["sh", "-c", TWO_LINES], [], "sleep 5", ["sh", "", "a"]],
    "entrypoint": [["a b", NASTY], [TWO_LINES], []],
    "env": [{"NASTY": NASTY, "LINES": TWO_LINES, "EMPTY": ""}, {"a b": "1"}],
    "user": ["33", "33:34", "www-data"],
    "groups": [["5", "6"], ["staff"]],
    "working_dir": ["/srv", "/a b"],
    "hostname": ["other", "Other.example"],
    "domainname": ["example.com"],
    "labels": [{"org.example/a": "b"}, {"a": NASTY}, {"a b": TWO_LINES}],
    "networks": [
        [{"name": "one"}],
        [{"name": "two", "aliases": ["x", "y"]}, {"name": "one"}],
        [{"name": "one", "ipv4_address": "10.90.0.9", "mac_address": "02:42:0a:00:00:02"}],
        [{"name": "one", "ipv6_address": "fd00:90::9"}],
        [{"name": "elsewhere"}],
        [],
    ],
    "network_mode": ["host", "none", "container:other", "container:stranger"],
    "published_ports": [
        ["8080:80"],
        ["127.0.0.1:8080:80/udp"],
        ["80"],
        ["[fd00::5]:81:80", "127.0.0.1::82"],
        ["9000-9001:90-91"],
    ],
    "dns_servers": [["10.0.0.1", "fd00::1"]],
    "dns_search_domains": [["example.com"]],
    "dns_opts": [["ndots:1", "rotate"]],
    "etc_hosts": [{"db": "10.0.0.1", "six": "fd00::1"}],
    "volumes": [
        ["data:/data", "/etc:/host:ro"],
        ["data:/data:noexec"],
        ["/srv/a:/srv:rslave,z"],
        ["/srv:/srv:slave"],
        ["data:/data:Z"],
        ["memory:/memory"],
        ["elsewhere:/else"],
    ],
    "tmpfs": [["/run"], ["/run:size=64m,mode=1777,noexec"], ["/run:uid=1,gid=2,nr_inodes=9"], ["/run:ro"]],
    "shm_size": ["128m"],
    "read_only": [True],
    "memory": ["64m", 67108865],
    "memory_reservation": ["32m"],
    "memory_swap": ["128m"],
    "memory_high": ["48m"],
    "memory_min": ["16m"],
    "oom_group": [True],
    "hugepage_limits": [{"2m": "64m"}],
    "cpus": [1.5, 2],
    "cpu_shares": [512],
    "cpuset_cpus": ["0-1,3"],
    "cpuset_mems": ["0"],
    "pids_limit": [100],
    "blkio_weight": [300],
    "device_read_bps": [[{"path": "/dev/vda", "rate": "1m"}]],
    "device_write_bps": [[{"path": "/dev/vda", "rate": "1m"}]],
    "device_read_iops": [[{"path": "/dev/vda", "rate": 100}]],
    "device_write_iops": [[{"path": "/dev/vda", "rate": 100}]],
    "oom_score_adj": [-500],
    "ulimits": [["nofile:1024:4096", "core:unlimited"]],
    "sysctls": [{"net.core.somaxconn": "512", "net.ipv4.ip_local_port_range": "1024 2048"}],
    "devices": [["/dev/fuse"], ["/dev/null:/dev/zilch:r"]],
    "capabilities": [["NET_ADMIN"], ["ALL"], ["SYS_ADMIN"]],
    "cap_drop": [["CHOWN"], ["ALL"]],
    "privileged": [True],
    "security_opts": [
        ["label=disable"],
        ["label=type:spc_t", "label=level:s0:c1,c2", "label=user:u", "label=role:r"],
        ["label=filetype:usr_t"],
        ["apparmor=unconfined"],
        ["apparmor=own"],
    ],
    "pid_mode": ["host", "container:other"],
    "ipc_mode": ["host", "shareable", "container:other"],
    "uts": ["host"],
    "cgroupns_mode": ["host"],
    "restart_policy": ["always", "unless-stopped", "on-failure"],
    "restart_retries": [3],
    "healthcheck": [
        {"test": ["CMD", "a b", "c"]},
        {"test": ["CMD", "a b"]},
        {"test": NASTY, "interval": "2s", "timeout": "1m30s", "retries": 5, "start_period": "1m"},
        {"test": ["a"], "interval": "500ms", "start_interval": "1s"},
        {"test": "NONE"},
    ],
    "stop_signal": ["SIGUSR1", "RTMIN+3"],
    "stop_timeout": ["1m30s", "1500ms"],
    "update_order": ["start_first"],
    "drain_timeout": ["1m30s"],
    "init": [True],
    "secrets": [
        [{"name": "key", "content": SECRET}],
        [{"name": "key", "content": SECRET, "uid": 33, "gid": 34, "mode": "0440"}],
    ],
    "log_driver": ["journald", "none"],
    "log_options": [{"max_size": "10m"}, {"max_size": "10m", "max_file": 3}],
    "state": ["stopped", "present"],
    "paused": [True],
    "pull": ["always", "never"],
    "depends_on": [["other"], {"other": "healthy"}, {"other": "completed"}],
}
# What says something only beside another one.
WITH: dict[str, dict[str, Any]] = {
    "restart_retries": {"restart_policy": "on-failure"},
    "hugepage_limits": {"memory": "128m"},
}
NETWORK: dict[str, list[Any]] = {
    "driver": ["vxlan"],
    "subnet": ["10.90.0.0/24"],
    "gateway": ["10.90.0.1"],
    "ip_range": ["10.90.0.128/25"],
    "ipv6": [True],
    "subnet6": ["fd00:90::/64"],
    "gateway6": ["fd00:90::1"],
    "internal": [True],
    "isolate": [True],
    "mtu": [1400],
    "vni": [7],
    "peers": [{"a": {"address": "192.0.2.1", "ip_range": "10.90.0.0/26"}}],
    "port": [4790],
    "local": ["192.0.2.1"],
    "device": ["eth0"],
    "names": [{"db": "10.90.0.7"}],
    "allow": [[{"from": "web", "to": "db", "ports": ["3306"]}]],
    "labels": [{"a": NASTY}],
}
NETWORK_WITH: dict[str, dict[str, Any]] = {
    "gateway": {"subnet": "10.90.0.0/24"},
    "ip_range": {"subnet": "10.90.0.0/24"},
    "gateway6": {"subnet6": "fd00:90::/64"},
}
VOLUME: dict[str, list[Any]] = {
    "driver": ["tmpfs"],
    "device": ["filer:/export/a b", "[fd00::1]:/export"],
    "fstype": ["nfs4"],
    "options": [["nfsvers=4.2", "ro"]],
    "preallocate": [True],
    "sharing": ["onewriter"],
    "lease_duration": ["1m"],
    "size": ["64m"],
    "owner": ["33", "www-data"],
    "group": ["33", "www-data"],
    "mode": ["0700"],
    "labels": [{"a": "b"}, {"a": NASTY}],
}
_EXPORT = {"driver": "mount", "device": "filer:/export", "fstype": "nfs"}
VOLUME_WITH: dict[str, dict[str, Any]] = {
    "size": {"driver": "tmpfs"},
    "device": _EXPORT,
    "fstype": _EXPORT,
    "options": _EXPORT,
    "preallocate": {"driver": "loop", "size": "64m"},
    "sharing": _EXPORT,
    "lease_duration": {**_EXPORT, "sharing": "onewriter"},
}
IMAGE: dict[str, list[Any]] = {
    "source": ["archive"],
    "pull": ["always"],
    "platform": ["linux/arm64", "linux/arm/v7"],
    "public_key": ["/etc/key.pem"],
    "mirrors": [["mirror.example.com"]],
    "tls_verify": [False],
    "ca_path": ["/etc/ca.pem"],
    "client_cert": ["/etc/cert.pem"],
    "client_key": ["/etc/key.pem"],
    "auth_file": ["~/auth.json"],
    "username": ["joe"],
    "password": [SECRET],
    "push": [True],
    "verify": [True],
    "path": ["/srv/image.tar"],
    "src": ["image.tar"],
    "archive_name": ["a:b"],
    "template": ["busybox"],
    "template_options": [{"suite": "trixie"}],
    "from": ["debian"],
    "container": ["web"],
    "max_size": ["1g"],
    "device_nodes": ["skip"],
    "layers": [
        [{"run": "true"}, {"run": ["a", NASTY]}, {"run": TWO_LINES}, {"env": {"A": NASTY}}, {"label": {"a b": NASTY}}],
        [{"copy": {"content": "a $B\nEOF\n", "dest": "/a", "owner": "1", "mode": "0600"}}, {"workdir": "/a"}],
        [{"copy": {"content": "no end", "dest": "/a b"}}],
        [{"copy": {"src": "/etc/hosts", "dest": "/a"}}],
        [{"copy": {"src": "/bin/sh", "dest": "/a b/", "from": "busybox"}}, {"user": "1"}, {"volume": ["/v"]}],
        [{"run": "a", "network": "none", "secrets": ["s"], "mounts": ["type=cache,target=/c", "type=tmpfs,target=/t"]}],
        [{"run": "cat <<X"}, {"shell": ["/bin/bash", "-c"]}, {"run": "[ -e x ]"}, {"expose": ["80"]}, {"cmd": "a b"}],
        [{"add": {"src": "https://example.com/x", "dest": "/x", "checksum": "sha256:" + "0" * 64}}],
        [{"stop_signal": "INT"}, {"healthcheck": {"test": "a $B", "interval": "2s"}}, {"entrypoint": ["a"]}],
    ],
    "containerfile": ["Containerfile.web", f"FROM busybox\nRUN echo '{NASTY}'\n"],
    "context": ["/srv/app"],
    "build_args": [{"A": NASTY}],
    "target": ["web"],
    "secrets": [[{"id": "s", "src": "/etc/s"}], [{"id": "s", "value": SECRET}]],
    "cmd": [["a", NASTY]],
    "entrypoint": [["a", "b"]],
    "env": [{"A": NASTY}],
    "user": ["33"],
    "working_dir": ["/srv"],
    "exposed_ports": [["80"]],
    "volumes": [["/data"]],
    "labels": [{"a": NASTY}],
    "stop_signal": ["INT"],
    "healthcheck": [{"test": ["CMD", "a"]}, {"test": "NONE"}],
}
_LAYERED = {"from": "debian"}
_IN_CONTEXT = {"context": "/srv/app"}
IMAGE_WITH: dict[str, dict[str, Any]] = {
    "layers": _LAYERED,
    **dict.fromkeys(
        ("cmd", "entrypoint", "env", "user", "working_dir", "exposed_ports", "volumes", "stop_signal", "healthcheck"),
        _LAYERED,
    ),
    **dict.fromkeys(("containerfile", "build_args", "target", "secrets", "labels"), _IN_CONTEXT),
}


def base() -> dict[str, Any]:
    """A stack with nothing that any form could not say: web, and the other one."""
    return {
        "name": "site",
        "networks": {"one": {}, "two": {}},
        "volumes": {"data": {}, "memory": {"driver": "tmpfs"}},
        "containers": {"web": {"image": "busybox"}, "other": {"image": "busybox"}},
    }


KINDS = {
    "containers": ("web", CONTAINER, WITH),
    "networks": ("one", NETWORK, NETWORK_WITH),
    "volumes": ("data", VOLUME, VOLUME_WITH),
    "images": ("app", IMAGE, IMAGE_WITH),
}


def stacks() -> Iterator[tuple[str, str, str, dict[str, Any], dict[str, Any]]]:
    """(id, kind, option, the stack without it, the stack with it) for every value of every option."""
    for kind, (name, values, beside) in KINDS.items():
        for option, samples in values.items():
            for index, value in enumerate(samples):
                yield (
                    f"{kind}.{option}[{index}]",
                    kind,
                    option,
                    _with(kind, name, beside.get(option, {})),
                    _with(kind, name, {**beside.get(option, {}), option: value}),
                )


def oddly_named() -> dict[str, Any]:
    """Names that are right here, and not everywhere."""
    body = {"image": "busybox", "networks": [{"name": "Net_1.a"}], "volumes": ["da_ta.1:/data"]}
    return {
        "name": "Site.1",
        "networks": {"Net_1.a": {}},
        "volumes": {"da_ta.1": {}},
        "containers": {
            "web.v1_a": {**body, "depends_on": {"1other": "healthy"}},
            "1other": {**body, "state": "started"},
        },
    }


def everything() -> dict[str, Any]:
    """One stack with all of them, each in a container, network, volume or image of its own."""
    stack = base()
    for kind, (dummy, values, beside) in KINDS.items():
        for option, samples in values.items():
            for index, value in enumerate(samples):
                name = f"{kind[0]}-{option}-{index}".replace("_", "-")
                stack.setdefault(kind, {})[name] = {**_OWN[kind], **beside.get(option, {}), option: value}
                if kind != "containers":
                    stack["containers"][f"with-{name}"] = {"image": "busybox", **_user(kind, name)}
    return stack


_OWN: dict[str, dict[str, Any]] = {"containers": {"image": "busybox"}, "networks": {}, "volumes": {}, "images": {}}


def _user(kind: str, name: str) -> dict[str, Any]:
    """A container's options by which it has the other one."""
    return {
        "networks": {"networks": [{"name": name}]},
        "volumes": {"volumes": [f"{name}:/data"]},
        "images": {"image": name},
    }[kind]


def _with(kind: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
    stack = base()
    if kind != "containers":
        stack["containers"]["web"].update(_user(kind, name))
    stack.setdefault(kind, {})[name] = {**stack.get(kind, {}).get(name, {}), **body}
    return stack
