# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad playbooks: each task is refused with one sentence that names option, value and remedy, and the host is as before.

The tasks are YAML, read by Ansible's own loader, so that what YAML makes of 0755, 22:22 and yes is part of the test.
"""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible_collections.vessel.host.plugins.module_utils._kernel.caps import held

from .place import Place

pytestmark = pytest.mark.root

# Each: what must stand in the message, then the task. {port} is a port that a socket of the test listens on.
BAD = """
- words: [memory, "'-1x'", k, m]
  container: {name: c, image: bb, memory: -1x}
- words: [memory, "-5", size]
  container: {name: c, image: bb, memory: -5}
- words: [memory, boolean]
  container: {name: c, image: bb, memory: yes}
- words: [memory, "'64 monkeys'", "use bytes"]
  container: {name: c, image: bb, memory: 64 monkeys}
- words: [memory, "4096", "too small"]
  container: {name: c, image: bb, memory: 4k}
- words: [memory_swap, "33554432", less than memory]
  container: {name: c, image: bb, memory: 64m, memory_swap: 32m}
- words: [memory_swap, needs memory]
  container: {name: c, image: bb, memory_swap: 32m}
- words: [memory_reservation, more than memory]
  container: {name: c, image: bb, memory: 64m, memory_reservation: 128m}
# On v1 they are refused for another reason, but as well.
- words: [memory_high, "134217728"]
  container: {name: c, image: bb, memory: 64m, memory_high: 128m}
- words: [memory_high, "65536"]
  container: {name: c, image: bb, memory_high: 64k}
- words: [memory_min, "134217728"]
  container: {name: c, image: bb, memory: 64m, memory_min: 128m}
- words: [oom_group, "'maybe'"]
  container: {name: c, image: bb, oom_group: maybe}
- words: ["hugepage_limits.2MB", "3145728"]
  container: {name: c, image: bb, hugepage_limits: {2m: 3m}}
- words: ["hugepage_limits.16MB", does not have]
  container: {name: c, image: bb, hugepage_limits: {16m: 16m}}
- words: [hugepage_limits, "'3m'", no size of a page]
  container: {name: c, image: bb, hugepage_limits: {3m: 6m}}
- words: [hugepage_limits, "2MB once more"]
  container: {name: c, image: bb, hugepage_limits: {2m: 4m, 2048k: 2m}}
- words: ["device_read_bps[0].path", "'/dev/null'", no block device]
  container: {name: c, image: bb, device_read_bps: [{path: /dev/null, rate: 1m}]}
- words: ["device_write_iops[0].path", "'/dev/nodisk'", not there]
  container: {name: c, image: bb, device_write_iops: [{path: /dev/nodisk, rate: 1}]}
- words: ["device_write_bps[0].rate", "0", too small]
  container: {name: c, image: bb, device_write_bps: [{path: /dev/sda, rate: 0}]}
- words: ["device_read_iops[0].rate", out of range]
  container: {name: c, image: bb, device_read_iops: [{path: /dev/sda, rate: 4294967295}]}
- words: [device_read_bps, rate, missing]
  container: {name: c, image: bb, device_read_bps: [{path: /dev/sda}]}
- words: ["device_read_bps[1].path", "'/dev/sda'", twice]
  container: {name: c, image: bb, device_read_bps: [{path: /dev/sda, rate: 1}, {path: /dev//sda, rate: 2}]}
- words: [cpus, "-1", "0"]
  container: {name: c, image: bb, cpus: -1}
- words: [cpus, "4000", cores of this host]
  container: {name: c, image: bb, cpus: 4000}
- words: [cpu_shares, "1", "2 to 262144"]
  container: {name: c, image: bb, cpu_shares: 1}
- words: [cpu_shares, many]
  container: {name: c, image: bb, cpu_shares: many}
- words: [cpuset_cpus, "'4095'", it has]
  container: {name: c, image: bb, cpuset_cpus: "4095"}
- words: [cpuset_cpus, "'a-b'", "0-2,4"]
  container: {name: c, image: bb, cpuset_cpus: a-b}
- words: [cpuset_cpus, "'2-1'", range]
  container: {name: c, image: bb, cpuset_cpus: "2-1"}
- words: [pids_limit, "-7", 1 to 4194304]
  container: {name: c, image: bb, pids_limit: -7}
- words: [blkio_weight, "5", "10 to 1000"]
  container: {name: c, image: bb, blkio_weight: 5}
- words: [oom_score_adj, "1001", "-1000 to 1000"]
  container: {name: c, image: bb, oom_score_adj: 1001}
- words: [name, "'a/b'", letters]
  container: {name: a/b, image: bb}
- words: [name, "'../c'", letters]
  container: {name: ../c, image: bb}
- words: [name, "''", letters]
  container: {name: "", image: bb}
- words: [name, boolean, quotes]
  container: {name: on, image: bb}
- words: [image, nothere, "pull: never"]
  container: {name: c, image: nothere, pull: never}
- words: [image, "'Upper'", lower case]
  container: {name: c, image: Upper}
- words: [image, "1.1", quotes]
  container: {name: c, image: 1.10}
- words: [image, is missing]
  container: {name: c}
- words: [command, is missing, give one]
  container: {name: c, image: empty}
- words: [command, names no program, empty]
  container: {name: c, image: bb, command: [""]}
- words: [nosuch, not found, PATH]
  container: {name: c, image: bb, command: nosuch --help}
- words: [/bin/nosuch, ENOENT, image]
  container: {name: c, image: bb, command: [/bin/nosuch]}
- words: [/etc/passwd, EACCES, executable]
  container: {name: c, image: bb, command: [/etc/passwd]}
- words: [command, "can't be split"]
  container: {name: c, image: bb, command: "sh -c 'unfinished"}
- words: [published_ports, "1342", quotes]
  container: {name: c, image: bb, published_ports: [22:22]}
- words: [published_ports, "70000", 1 to 65535]
  container: {name: c, image: bb, published_ports: ["70000:80"]}
- words: [published_ports, "80/icmp", tcp]
  container: {name: c, image: bb, published_ports: ["80/icmp"]}
- words: [published_ports, "1.2.3.999"]
  container: {name: c, image: bb, published_ports: ["1.2.3.999:80:80"]}
- words: [published_ports, in use by, choose another]
  container: {name: c, image: bb, published_ports: ["{port}:80"]}
- words: [published_ports, different lengths]
  container: {name: c, image: bb, published_ports: ["8000-8003:80-81"]}
- words: [published_ports, twice]
  container: {name: c, image: bb, published_ports: ["28000:80", "0.0.0.0:28000:80/tcp"]}
- words: [published_ports, "28000", "0.0.0.0:28000:80/tcp", choose another]
  container: {name: c, image: bb, published_ports: ["28000:80", "28000:81"]}
- words: [published_ports, "[::]:28000:80/tcp", IPv6, "ipv6: true"]
  container: {name: c, image: bb, networks: [{name: n}], published_ports: ["[::]:28000:80"]}
- words: [containers.b.ipc_mode, cycle]
  stack: {name: s, containers: {a: {image: bb, pid_mode: "container:b"}, b: {image: bb, ipc_mode: "container:a"}}}
- words: [published_ports, network]
  container: {name: c, image: bb, network_mode: none, published_ports: ["28000:80"]}
- words: [network_mode, excludes networks]
  container: {name: c, image: bb, network_mode: host, networks: [{name: n}]}
- words: [network_mode, bridge-ish, "container:NAME"]
  container: {name: c, image: bb, network_mode: bridge-ish}
- words: [network_mode, ghost, no container]
  container: {name: c, image: bb, network_mode: "container:ghost"}
- words: [pid_mode, ghost, no container]
  container: {name: c, image: bb, pid_mode: "container:ghost"}
- words: ["networks[0].name", ghost, "vessel.host.network"]
  container: {name: c, image: bb, networks: [{name: ghost}]}
- words: ["networks[0].ipv4_address", 10.1.2.3, 10.78.4.0/24]
  container: {name: c, image: bb, networks: [{name: n, ipv4_address: 10.1.2.3}]}
- words: ["networks[0].ipv4_address", 10.78.4.1, gateway]
  container: {name: c, image: bb, networks: [{name: n, ipv4_address: 10.78.4.1}]}
- words: ["networks[0].ipv4_address", "'999.1.1.1'", IP address]
  container: {name: c, image: bb, networks: [{name: n, ipv4_address: 999.1.1.1}]}
- words: ["networks[0].ipv4_address", 10.78.4.255, broadcast]
  container: {name: c, image: bb, networks: [{name: n, ipv4_address: 10.78.4.255}]}
- words: ["networks[0].mac_address", "00:00:00:00:00:00", leave the option out]
  container: {name: c, image: bb, networks: [{name: n, mac_address: "00:00:00:00:00:00"}]}
- words: [command, environment, 128 KiB]
  container: {name: c, image: bb, network_mode: none, command: [sh, -c, "{long}"]}
- words: ["networks[0].mac_address", multicast]
  container: {name: c, image: bb, networks: [{name: n, mac_address: "01:00:5e:00:00:01"}]}
- words: [networks.ipv4, ipv4_address]
  container: {name: c, image: bb, networks: [{name: n, ipv4: 10.78.4.5}]}
- words: ["networks[1].name", twice]
  container: {name: c, image: bb, networks: [{name: n}, {name: n}]}
- words: ["volumes[0]", ghost, "vessel.host.volume"]
  container: {name: c, image: bb, volumes: ["ghost:/data"]}
- words: ["volumes[0]", /not/there, not on this host]
  container: {name: c, image: bb, volumes: ["/not/there:/data"]}
- words: ["volumes[0]", data, absolute path]
  container: {name: c, image: bb, volumes: ["v:data"]}
- words: ["volumes[0]", "the root"]
  container: {name: c, image: bb, volumes: ["v:/"]}
- words: ["volumes[0]", "/home", "leave the z out"]
  container: {name: c, image: bb, volumes: ["/home/:/data:z"]}
- words: ["volumes[0]", z and Z, give one]
  container: {name: c, image: bb, volumes: ["/srv:/data:z,Z"]}
- words: ["security_opts[0]", no-new-privileges, "label=disable"]
  container: {name: c, image: bb, security_opts: [no-new-privileges]}
- words: ["security_opts[0]", colour, filetype]
  container: {name: c, image: bb, security_opts: ["label=colour:red"]}
- words: ["security_opts[0]", level, "'high'"]
  container: {name: c, image: bb, security_opts: ["label=level:high"]}
- words: [security_opts, "label=type twice"]
  container: {name: c, image: bb, security_opts: ["label=type:a_t", "label=type:b_t"]}
- words: [security_opts, disables]
  container: {name: c, image: bb, security_opts: ["label=type:a_t", "label=disable"]}
- words: ["security_opts[0]", ghost, profile]
  container: {name: c, image: bb, security_opts: ["apparmor=ghost"]}
- words: ["volumes[0]", rwx, noexec]
  container: {name: c, image: bb, volumes: ["v:/data:rwx"]}
- words: ["volumes[0]", "both ro and rw"]
  container: {name: c, image: bb, volumes: ["v:/data:ro,rw"]}
- words: ["volumes[0]", nosuid twice]
  container: {name: c, image: bb, volumes: ["v:/data:nosuid,nosuid"]}
- words: ["volumes[0]", /data, "a tmpfs is"]
  container: {name: c, image: bb, volumes: ["v:/data"], tmpfs: [/data]}
- words: ["volumes[0]", /run/secrets, "the secrets are"]
  container: {name: c, image: bb, volumes: ["v:/run/secrets"], secrets: [{name: s, content: xyz}]}
- words: ["tmpfs[0]", "both ro and rw"]
  container: {name: c, image: bb, tmpfs: ["/x:ro,rw"]}
- words: ["tmpfs[1]", /x]
  container: {name: c, image: bb, tmpfs: ["/x", "/x:size=1m"]}
- words: ["devices[1]", /dev/x]
  container: {name: c, image: bb, devices: ["/dev/null:/dev/x", "/dev/zero:/dev/x"]}
- words: ["volumes[1]", /data]
  container: {name: c, image: bb, volumes: ["v:/data", "v:/data/"]}
- words: [env.DEBUG, boolean, quotes]
  container: {name: c, image: bb, env: {DEBUG: yes}}
- words: [env.VERSION, "1.1", quotes]
  container: {name: c, image: bb, env: {VERSION: 1.10}}
- words: [env, "A=B"]
  container: {name: c, image: bb, env: {"A=B": x}}
- words: [user, nobodyhere, /etc/passwd]
  container: {name: c, image: bb, user: nobodyhere}
- words: [groups, wheelhouse, /etc/group]
  container: {name: c, image: bb, groups: [wheelhouse]}
- words: ["capabilities[0]", FLY, capability]
  container: {name: c, image: bb, capabilities: [FLY]}
- words: ["ulimits[0]", flies, getrlimit]
  container: {name: c, image: bb, ulimits: ["flies:1"]}
- words: ["ulimits[0]", "soft limit above"]
  container: {name: c, image: bb, ulimits: ["nofile:20:10"]}
- words: [sysctls, kernel.panic, host]
  container: {name: c, image: bb, sysctls: {kernel.panic: 1}}
- words: [sysctls, net.core, host]
  container: {name: c, image: bb, network_mode: host, sysctls: {net.core.somaxconn: 1}}
- words: [sysctls.net.ipv4.nonsense, "does not have", /proc/sys]
  container: {name: c, image: bb, sysctls: {net.ipv4.nonsense: 1}}
- words: [sysctls.kernel.msgnonsense, "does not have"]
  container: {name: c, image: bb, sysctls: {kernel.msgnonsense: 1}}
- words: [sysctls.net.ipv4.conf, "does not have"]
  container: {name: c, image: bb, sysctls: {net.ipv4.conf: 1}}
- words: [sysctls.net.ipv4.conf.nolink9.rp_filter, ENOENT, namespace]
  container: {name: c, image: bb, sysctls: {net.ipv4.conf.nolink9.rp_filter: 1}}
- words: ["devices[0]", /dev/nosuch]
  container: {name: c, image: bb, devices: [/dev/nosuch]}
- words: ["devices[0]", rwxm, rwm]
  container: {name: c, image: bb, devices: ["/dev/null:/dev/x:rwxm"]}
- words: [hostname, "'a b'", host name]
  container: {name: c, image: bb, hostname: a b}
- words: ["dns_servers[0]", "'dns.example'", IP address]
  container: {name: c, image: bb, dns_servers: [dns.example]}
- words: [stop_signal, SIGNOTHING, SIGTERM]
  container: {name: c, image: bb, stop_signal: SIGNOTHING}
- words: [stop_timeout, "'5 parsecs'", 90s]
  container: {name: c, image: bb, stop_timeout: 5 parsecs}
- words: [restart_policy, sometimes, on-failure]
  container: {name: c, image: bb, restart_policy: sometimes}
- words: [healthcheck.interval, "'soon'", 90s]
  container: {name: c, image: bb, healthcheck: {test: "true", interval: soon}}
- words: [missing, test, healthcheck]
  container: {name: c, image: bb, healthcheck: {interval: 3s}}
- words: [working_dir, "'tmp'", absolute]
  container: {name: c, image: bb, working_dir: tmp}
- words: [secrets, mode, quotes]
  container: {name: c, image: bb, secrets: [{name: s, content: x, mode: 0400}]}
- words: [shm_size, "'big'", size]
  container: {name: c, image: bb, shm_size: big}
- words: [max_disruption, none, live]
  container: {name: c, image: bb, max_disruption: none}
- words: [state, running, started]
  container: {name: c, image: bb, state: running}
- words: [Unsupported parameters, comand]
  container: {name: c, image: bb, comand: sleep}
- words: [log_options, max_size]
  container: {name: c, image: bb, log_options: {max_size: 1}}
- words: [subnet, 10.79.0.1/24, 10.79.0.0/24]
  network: {name: m, subnet: 10.79.0.1/24}
- words: [subnet, overlaps, 10.78.4.0/24]
  network: {name: m, subnet: 10.78.0.0/16}
- words: [subnet, "'ten'", "10.89.0.0/24"]
  network: {name: m, subnet: ten}
- words: [subnet, 127.0.0.0/8, private]
  network: {name: m, subnet: 127.0.0.0/8}
- words: [subnet, too small]
  network: {name: m, subnet: 10.79.0.0/31}
- words: [gateway, 10.80.0.1, 10.79.0.0/24]
  network: {name: m, subnet: 10.79.0.0/24, gateway: 10.80.0.1}
- words: [ip_range, 10.80.0.0/28, 10.79.0.0/24]
  network: {name: m, subnet: 10.79.0.0/24, ip_range: 10.80.0.0/28}
- words: [mtu, "1"]
  network: {name: m, mtu: 1}
- words: [driver, overlay, bridge]
  network: {name: m, driver: overlay}
- words: [driver, nfs, directory]
  volume: {name: w, driver: nfs}
- words: [size, "-1", size]
  volume: {name: w, driver: tmpfs, size: -1}
- words: [size, tmpfs]
  volume: {name: w, size: 10m}
- words: [mode, "493", quotes]
  volume: {name: w, mode: 0755}
- words: [owner, nobodyhere]
  volume: {name: w, owner: nobodyhere}
- words: [template, gentoo, debian, busybox]
  image: {name: i, source: template, template: gentoo}
- words: [path, is missing]
  image: {name: i, source: archive}
- words: [path, /not/there.tar]
  image: {name: i, source: archive, path: /not/there.tar}
- words: [no such image, ghost, "pull: never"]
  image: {name: i, from: ghost, pull: never, layers: [{run: "true"}]}
- words: ["layers[0]", run, copy]
  image: {name: i, from: bb, layers: [{run: "true", env: {A: b}}]}
- words: [missing, dest, layers]
  image: {name: i, from: bb, layers: [{copy: {content: x}}]}
- words: [exit, "7", said so]
  image: {name: i, from: bb, layers: [{run: "echo said so; exit 7"}]}
- words: [depends_on, cycle, "a -> b -> a"]
  stack: {name: s, containers: {a: {image: bb, depends_on: [b]}, b: {image: bb, depends_on: [a]}}}
- words: [containers.a.depends_on, ghost]
  stack: {name: s, containers: {a: {image: bb, depends_on: [ghost]}}}
- words: [containers.a.depends_on.b, whenever, healthy]
  stack: {name: s, containers: {a: {image: bb, depends_on: {b: whenever}}, b: {image: bb}}}
- words: [containers.a.depends_on.b, healthy, bb, give b a healthcheck]
  stack: {name: s, containers: {a: {image: bb, depends_on: {b: healthy}}, b: {image: bb}}}
- words: [containers.a.depends_on.b, healthy, give b a healthcheck]
  stack:
    name: s
    containers: {a: {image: bb, depends_on: {b: healthy}}, b: {image: sound, healthcheck: {test: NONE}}}
- words: [containers.a.depends_on.b, healthy, declared as stopped]
  stack: {name: s, containers: {a: {image: bb, depends_on: {b: healthy}}, b: {image: sound, state: stopped}}}
- words: [containers.a.depends_on.b, completed, always, on-failure]
  stack: {name: s, containers: {a: {image: bb, depends_on: {b: completed}}, b: {image: bb, restart_policy: always}}}
- words: [containers.a.depends_on.b, completed, declared as present]
  stack: {name: s, containers: {a: {image: bb, depends_on: {b: completed}}, b: {image: bb, state: present}}}
- words: [state, healthy, bb, healthcheck]
  container: {name: c, image: bb, state: healthy}
- words: [containers.a.devices, /dev/nosuch]
  stack: {name: s, containers: {a: {image: bb, devices: [/dev/nosuch]}}}
- words: ["containers.b.networks[0].ipv4_address", 10.78.4.7, container a]
  stack:
    name: s
    containers:
      a: {image: bb, networks: [{name: n, ipv4_address: 10.78.4.7}]}
      b: {image: bb, networks: [{name: n, ipv4_address: 10.78.4.7}]}
- words: ["containers.a.networks[0].aliases", "'B'", container b]
  stack:
    name: s
    containers:
      a: {image: bb, networks: [{name: n, aliases: [B]}]}
      b: {image: bb, networks: [{name: n}]}
- words: ["networks[0].aliases", localhost, hosts]
  container: {name: c, image: bb, networks: [{name: n, aliases: [localhost]}]}
- words: ["networks[0].aliases", "'10.1.1.1'", address]
  container: {name: c, image: bb, networks: [{name: n, aliases: [10.1.1.1]}]}
- words: ["networks[0].aliases", "'there'", the container there]
  container: {name: c, image: bb, networks: [{name: n, aliases: [there]}]}
- words: [name, "'other'", alias, container there]
  container: {name: other, image: bb, networks: [{name: n}]}
- words: [name, localhost, hosts]
  container: {name: localhost, image: bb, networks: [{name: n}]}
- words: [containers.a.memory, "'lots'"]
  stack: {name: s, networks: {new: {}}, volumes: {new: {}}, containers: {a: {image: bb, memory: lots}}}
- words: [published_ports, "28001", this stack too]
  stack:
    name: s
    containers:
      a: {image: bb, published_ports: ["28001:80"]}
      b: {image: bb, published_ports: ["28001:81"]}
- words: [containers, mapping]
  stack: {name: s, containers: [{name: a, image: bb}]}
- words: [nosuch, not found]
  stack:
    name: s
    networks: {new: {subnet: 10.79.9.0/24}}
    volumes: {new: {}}
    containers:
      a: {image: bb, networks: [{name: new}], volumes: ["new:/data"]}
      b: {image: bb, command: nosuch, depends_on: [a]}
- words: [no such container, ghost]
  container_exec: {container: ghost, command: "true"}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(str(tmp_path_factory.mktemp("bad") / "vessel"))
    place.busybox()
    place.task("image", name="empty", source="template", template="busybox")
    place.task("image", name="sound", **{"from": "bb", "layers": []}, healthcheck={"test": "true"})
    place.task("network", name="n", subnet="10.78.4.0/24")
    place.task("volume", name="v")
    # The engine is installed by the first container, and stays: what a failed task leaves is seen beside it.
    place.task("container", name="first", image="bb", network_mode="none")
    place.task("container", name="first", state="absent")
    place.task("container", name="there", image="bb", networks=[{"name": "n", "aliases": ["other"]}], state="present")
    yield place
    place.remove()


@pytest.fixture(scope="module")
def port():
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        yield listener.getsockname()[1]


def ours(place: Place) -> set[str]:
    """All that there is of the installation: files of the store (but caches), and its things in the kernel."""
    paths = place.paths
    found = set()
    for top in (paths.state, f"{paths.run}/bundles", f"{paths.run}/endpoints", f"{paths.run}/secrets", paths.runtime):
        for directory, names, files in os.walk(top):
            found.update(f"{directory}/{name}" for name in [*names, *files])
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found.update(line.split()[4] for line in mounts if place.root in line or f"/{paths.prefix}-" in line)
    found.update(str(path) for path in Path("/run/netns").glob(f"{paths.prefix}-*"))
    found.update(str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{paths.prefix}*"))
    table = ["nft", "list", "table", "inet", paths.nft_table]
    found.add(subprocess.run(table, capture_output=True, text=True, check=False).stdout)
    names = ("n", "m", "new", "default")
    links = [paths.link("br", name) for name in names]
    links += [paths.link("ve", f"{container}+{name}") for container in ("a", "b", "c") for name in names]
    found.update(name for name in links if Path(f"/sys/class/net/{name}").exists())
    return {path for path in found if "/keys/" not in path}


def tasks() -> list[Any]:
    return [
        pytest.param(number, id=f"{number:02d}")
        for number, dummy in enumerate(yaml.safe_load(BAD.replace("{port}", "1")))
    ]


def load(number: int, port: int) -> dict[str, Any]:
    return dict(DataLoader().load(BAD.replace("{port}", str(port)).replace("{long}", "x" * (128 << 10)))[number])


@pytest.mark.parametrize("number", tasks())
def test_bad_task_is_refused_and_leaves_nothing(place, port, number):
    entry = load(number, port)
    words = [str(word) for word in entry.pop("words")]
    module, args = next(iter(entry.items()))
    before = ours(place)
    result = place.task(module, fails=True, **args)
    message = result["msg"]
    for word in words:
        assert word in message, f"{word!r} is not in: {message}"
    assert "Traceback" not in message
    assert "defect" not in message
    assert "\n" not in message.strip()
    assert ours(place) == before


def test_there_are_enough_of_them():
    assert len(tasks()) >= 60


def test_full_disk(place, tmp_path):
    """On a file system of 3 MB the image does not fit; afterwards nothing of it is there, and the host is as before."""
    image, mounted = tmp_path / "disk", tmp_path / "mounted"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(3 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mounted)], check=True)
    try:
        small = Place(str(mounted / "vessel"))
        source = tmp_path / "rootfs"
        source.mkdir()
        (source / "file").write_bytes(os.urandom(4 << 20))
        message = small.task("image", name="i", source="rootfs", path=str(source), fails=True)["msg"]
        assert "ENOSPC" in message or "No space left" in message
        assert [path for path in Path(small.paths.state).rglob("*") if path.is_file()] == []
        assert ours(small) == {""} or not any(Path(path).is_file() for path in ours(small))
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


@pytest.mark.skipif("CAP_SYS_RESOURCE" in held(), reason="this host lets root raise limits")
@pytest.mark.parametrize("option", [{"oom_score_adj": -900}, {"ulimits": ["nofile:99:1999999999"]}])
@pytest.mark.parametrize("check", [True, False])
def test_what_this_host_gives_to_nobody_is_said_beforehand(place, option, check):
    before = ours(place)
    told = place.task("container", check=check, fails=True, name="c", image="bb", **option)
    assert "CAP_SYS_RESOURCE" in told["msg"]
    assert told["msg"].startswith(next(iter(option)))
    assert ours(place) == before
