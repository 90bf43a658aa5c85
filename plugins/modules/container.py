#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container
version_added: 0.1.0
short_description: Declare a container
description:
  - Declares one container and makes it with the kernel's own primitives. No container engine is needed on the host.
  - An option that is not given stays as it is. To take a setting back, give its empty value, for example V(0), V([])
    or an empty string.
  - What is declared is compared with what the kernel has each time, so what was changed by hand is put back.
  - Every change has a cost, which check mode and diff mode show. Most are V(live).
options:
  name:
    description:
      - Name of the container. It is also its host name, unless O(hostname) says otherwise.
    type: str
    required: true
  state:
    description:
      - "V(present) makes the container and leaves it as it is, running or not."
      - "V(started) makes sure that it runs."
      - "V(healthy) does so and waits until its health check says so, for O(healthy_wait_timeout) at the most."
      - "V(stopped) makes sure that it does not run. Its writable layer stays."
      - "V(absent) removes it with its writable layer. Volumes stay."
    type: str
    choices: [present, started, healthy, stopped, absent]
    default: started
  paused:
    description:
      - Whether its processes are frozen. Only for a container that runs.
    type: bool
  restart:
    description:
      - Start its process anew even when nothing changed. The writable layer stays.
    type: bool
    default: false
  recreate:
    description:
      - Make it anew even when nothing changed. The writable layer goes.
    type: bool
    default: false
  max_disruption:
    description:
      - The most that a change may cost the running container.
      - "V(live) is not noticed by its process, V(signal) sends it a signal, V(restart) starts it anew, V(recreate)
        also throws its writable layer away."
      - A change that costs more fails, names its option, and nothing is changed.
    type: str
    choices: [live, signal, restart, recreate]
    default: recreate
  pull:
    description:
      - When the image is fetched from its registry.
      - "V(missing) fetches it when the host lacks it, V(always) also when the registry has another one by now, and
        V(never) makes the host's own the only one."
      - How the registry is reached, other than docker would by default, is told by M(vessel.host.image).
    type: str
    choices: [missing, always, never]
    default: missing
  healthy_wait_timeout:
    description:
      - How long O(state=healthy) waits, in seconds or as V(1m30s).
      - The default is 300 seconds.
    type: str
  image:
    description:
      - Image that the container is made from. What the host lacks is fetched as O(pull) says.
      - Required for a container that is not there yet.
      - When the name leads to another image than the container was made from, a task that names it makes it anew.
    type: str
  command:
    description:
      - Command, as a list or as a string that is split as the shell splits words.
      - "The default is the image's, to which an empty string leads back. An empty list is no command at all: the
        entrypoint alone."
    type: raw
  entrypoint:
    description:
      - What the command is handed to. The default is the image's, to which an empty string leads back; giving one drops
        the image's command.
    type: list
    elements: str
  env:
    description:
      - Environment variables, over those of the image. Put numbers with a fraction and booleans in quotes.
    type: dict
  user:
    description:
      - User and group, each a name of the image or a number, as V(USER) or V(USER:GROUP). The default is the image's.
    type: str
  groups:
    description:
      - Supplementary groups, names of the image or numbers.
    type: list
    elements: str
  working_dir:
    description:
      - Directory in which the command starts. The default is the image's, or V(/).
    type: path
  hostname:
    description:
      - Host name inside. The default is the container's name.
    type: str
  domainname:
    description:
      - NIS domain name inside, and the domain in C(/etc/hosts).
    type: str
  labels:
    description:
      - "Labels: any words about the container, for inventories and filters."
    type: dict
  networks:
    description:
      - "Networks that the container is on, in order: the first that leads out has the default route."
      - Without this option and O(network_mode), the container is on the network C(default), which is made when it is
        missing.
      - Attaching and detaching does not disturb its process.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name of the network; see M(vessel.host.network).
        type: str
        required: true
      ipv4_address:
        description:
          - A fixed address of the network's subnet. Without it a free one is given, and kept.
        type: str
      ipv6_address:
        description:
          - A fixed IPv6 address.
        type: str
      aliases:
        description:
          - More names by which the others on the network find it. None may be another container's own name, nor
            V(localhost).
          - When containers share an alias, it leads to the addresses of all, in the order of the containers' names. A
            program tries them in this order; nothing takes turns.
        type: list
        elements: str
      mac_address:
        description:
          - A fixed MAC address.
        type: str
  network_mode:
    description:
      - "V(none) is a network namespace with nothing but loopback, V(host) the host's own, V(container:NAME) that of
        another container."
      - Excludes O(networks).
    type: str
  published_ports:
    description:
      - Ports of the host that lead into the container, as V([[IP:]HOST_PORT:]PORT[/PROTOCOL]), also as ranges. Put
        them in quotes.
      - Without a host port a free one is chosen, and kept.
      - A port that a program of the host, another container or another installation (O(root)) has is refused. A stopped
        container does not hold its ports against other installations.
      - The host's own firewall still decides who gets that far.
    type: list
    elements: str
  dns_servers:
    description:
      - Name servers in C(/etc/resolv.conf). The default are the host's.
    type: list
    elements: str
  dns_search_domains:
    description:
      - Search domains in C(/etc/resolv.conf).
    type: list
    elements: str
  dns_opts:
    description:
      - Options in C(/etc/resolv.conf).
    type: list
    elements: str
  etc_hosts:
    description:
      - More lines in C(/etc/hosts), as name to address.
      - What a container writes to that file lies on the disk of its writable layer, and the next task mends it.
    type: dict
  volumes:
    description:
      - What is mounted inside, as V(SOURCE:TARGET) or V(SOURCE:TARGET:MODE).
      - SOURCE is a volume's name, see M(vessel.host.volume), or an absolute path on the host that exists.
      - MODE is V(ro) or V(rw), and may have V(noexec), V(nosuid), V(nodev) and a propagation such as V(rslave), after
        commas.
      - With V(z) in MODE, on a host with SELinux, all that is in it gets the label that all containers share, with V(Z)
        that of this container alone. What has the label already is left. A volume with a name gets the shared one
        without being asked, a directory of the host keeps what it has; it can't be one that the host itself needs, such
        as V(/etc) or V(/home).
    type: list
    elements: str
  tmpfs:
    description:
      - Directories in memory, as V(PATH) or V(PATH:OPTIONS) with the options V(size), V(mode), V(uid), V(gid),
        V(nr_inodes), V(ro), V(noexec).
    type: list
    elements: str
  shm_size:
    description:
      - Size of C(/dev/shm). The default is V(64m).
    type: str
  read_only:
    description:
      - Whether the root file system is read-only, with C(/etc/hosts), C(/etc/resolv.conf) and C(/etc/hostname).
    type: bool
  memory:
    description:
      - "Most memory that it may use: bytes, or a number with V(k), V(m), V(g). V(0) or V(-1) is no limit. A process
        that wants more is killed by the kernel, and the container's facts say so."
    type: str
  memory_reservation:
    description:
      - Memory that it keeps when the host runs short. V(0) is none.
    type: str
  memory_swap:
    description:
      - Most memory and swap together. V(0) or V(-1) is no limit of its own.
    type: str
  memory_high:
    description:
      - "Memory above which its processes are slowed down and made to give some back, before they are killed at
        O(memory). V(0) or V(-1) is none. With cgroup v2 only."
    type: str
  memory_min:
    description:
      - Memory that is never taken from it, even when the host runs short. V(0) is none. With cgroup v2 only.
    type: str
  oom_group:
    description:
      - Whether all its processes are killed when one of them would be for want of memory. With cgroup v2 only.
    type: bool
  hugepage_limits:
    description:
      - "Most memory in huge pages, by the size of a page, for example V({2m: 64m}); whole pages. V(0) is none at all. A
        size that is left out has no limit."
    type: dict
  cpus:
    description:
      - Cores' worth of CPU time at the most, such as V(1.5). V(0) is no limit.
    type: float
  cpu_shares:
    description:
      - "CPU time relative to others when all want some: 2 to 262144. V(0) is the default of 1024."
    type: int
  cpuset_cpus:
    description:
      - Cores that it may run on, such as V(0-2,5). Empty is all.
    type: str
  cpuset_mems:
    description:
      - Memory nodes that it may use. Empty is all.
    type: str
  pids_limit:
    description:
      - Most processes and threads. V(0) or V(-1) is no limit.
    type: int
  blkio_weight:
    description:
      - Share of block device time relative to others, 10 to 1000. V(0) is the default.
    type: int
  device_read_bps:
    description:
      - Most bytes a second that it reads from a block device.
    type: list
    elements: dict
    suboptions: &bps
      path:
        description:
          - The device on the host, a whole disk, such as V(/dev/vda).
        type: path
        required: true
      rate:
        description:
          - Bytes a second, or a number with V(k), V(m), V(g).
        type: str
        required: true
  device_write_bps:
    description:
      - Most bytes a second that it writes to a block device. With cgroup v1 only what bypasses the page cache counts.
    type: list
    elements: dict
    suboptions: *bps
  device_read_iops:
    description:
      - Most operations a second in which it reads from a block device.
    type: list
    elements: dict
    suboptions: &iops
      path:
        description:
          - The device on the host, a whole disk, such as V(/dev/vda).
        type: path
        required: true
      rate:
        description:
          - Operations a second.
        type: int
        required: true
  device_write_iops:
    description:
      - Most operations a second in which it writes to a block device. With cgroup v1 only what bypasses the page cache
        counts.
    type: list
    elements: dict
    suboptions: *iops
  oom_score_adj:
    description:
      - How readily the kernel kills it when the host runs out of memory, -1000 to 1000.
    type: int
  ulimits:
    description:
      - Limits of getrlimit(2), as V(NAME:SOFT) or V(NAME:SOFT:HARD), for example V(nofile:1024:4096).
    type: list
    elements: str
  sysctls:
    description:
      - "Kernel parameters of its own namespaces: V(net.*), V(fs.mqueue.*), V(kernel.msg*), V(kernel.sem),
        V(kernel.shm*)."
    type: dict
  devices:
    description:
      - Devices of the host, as V(PATH[:PATH_INSIDE[:rwm]]).
    type: list
    elements: str
  capabilities:
    description:
      - Capabilities to add to the default ones, with or without C(CAP_). V(ALL) is every one.
    type: list
    elements: str
  cap_drop:
    description:
      - Capabilities to take away. V(ALL) leaves only what O(capabilities) adds.
    type: list
    elements: str
  privileged:
    description:
      - Give it every capability and device, no seccomp filter, neither an AppArmor profile nor an SELinux label that
        would confine it. It can do to the host what root can.
    type: bool
  security_opts:
    description:
      - What SELinux and AppArmor are told of it, as C(docker run --security-opt) has it.
      - "V(label=disable) is no SELinux label of its own. V(label=type:T), V(label=level:L), V(label=user:U) and
        V(label=role:R) are parts of it, V(label=filetype:T) is the type of its files."
      - Otherwise it has the type that the host's policy names for containers, C(container_t), and a random pair of
        categories, which it keeps for as long as it is declared and shares with no other container. One in the host's
        O(pid_mode) or O(ipc_mode) has no label; one in another container's has the categories of that one.
      - "V(apparmor=PROFILE) is a profile that is loaded on the host, V(apparmor=unconfined) none. Otherwise it has
        C(vessel-default), which is loaded when it is needed, where AppArmor and its program C(apparmor_parser) are
        there."
      - On a host without SELinux V(label=...) says nothing. M(vessel.host.host_info) tells whether a host with it has
        types for containers; Debian's policy has none, and the tasks C(selinux) of the role C(vessel.host.setup) load
        them.
    type: list
    elements: str
  pid_mode:
    description:
      - "V(private) is a pid namespace of its own, V(host) the host's, V(container:NAME) that of another container."
    type: str
  ipc_mode:
    description:
      - "V(private) is an IPC namespace of its own, V(host) the host's, V(container:NAME) that of another container."
    type: str
  uts:
    description:
      - "V(private) is a host name of its own, V(host) the host's."
    type: str
    choices: [host, private]
  cgroupns_mode:
    description:
      - "V(private) is a view of the cgroups that starts at its own, V(host) the host's."
    type: str
    choices: [host, private]
  restart_policy:
    description:
      - "When a container that ended is started again: V(no), V(on-failure), V(always), V(unless-stopped). The wait
        doubles from 0.1 s to 60 s."
      - The default is V(no).
    type: str
    choices: ['no', on-failure, always, unless-stopped]
  restart_retries:
    description:
      - Most restarts of V(on-failure). V(0) is no limit.
    type: int
  healthcheck:
    description:
      - "How the supervisor finds out that it works. The default is the image's. C(test: NONE) switches it off."
    type: dict
    suboptions:
      test:
        description:
          - "A command: a string for the shell, or a list that may begin with V(CMD) or V(CMD-SHELL). It succeeds when
            it ends with 0. An empty string leads back to the image's check."
        type: raw
        required: true
      interval:
        description:
          - Time between two checks. The default is 30 s.
        type: str
      timeout:
        description:
          - Time that one check may take. The default is 30 s.
        type: str
      retries:
        description:
          - Failures in a row that make it unhealthy. The default is 3.
        type: int
      start_period:
        description:
          - Time after the start in which failures do not count. The default is 0 s.
        type: str
      start_interval:
        description:
          - Time between two checks in the start period. The default is 5 s.
        type: str
  stop_signal:
    description:
      - Signal that asks it to end, by name or number. The default is the image's, or V(SIGTERM).
      - It is sent whenever the process has to go, also when the container is started anew, made anew or removed.
    type: str
  stop_timeout:
    description:
      - Time between that signal and SIGKILL. The default is 10 s.
      - A first process that has no handler for the signal is not waited for, since the kernel does not send it
        (C(pid_namespaces(7))).
    type: str
  update_order:
    description:
      - Which instance comes first where a change needs another process.
      - "V(stop_first) stops the old one, and starts the new one in its place."
      - "V(start_first) makes the new one beside it, with an address and a writable layer of its own. When that is
        healthy, or without a health check has run for a second, and listens to the published TCP ports that the old one
        listens to, ports and names lead to it from one moment to the next. The old one is stopped when its connections
        have ended, see O(drain_timeout). When the new one does not get so far in O(healthy_wait_timeout), it is
        removed, the old one stays as it was, and the task fails."
      - As the writable layer is another one, each such change costs as much as V(recreate) in O(max_disruption). Both
        instances have the container's volumes for a while. O(restart) is not concerned.
      - V(start_first) is refused where two can't be at a time, that is with O(network_mode=host) or another container's
        network, a static address in O(networks), O(devices), or another container in the namespaces of this one.
      - The default is V(stop_first).
    type: str
    choices: [stop_first, start_first]
  drain_timeout:
    description:
      - How long TCP connections to the old instance may take to end with O(update_order=start_first). What has not
        ended then is left to the program, which is stopped as O(stop_signal) and O(stop_timeout) say. UDP is led to the
        new one at once.
      - The default is 10 s.
    type: str
  init:
    description:
      - Whether an init process is its first, which passes signals on and reaps orphans. Needs the package C(tini) on
        the host.
    type: bool
  secrets:
    description:
      - Files in memory below C(/run/secrets). Their content is kept nowhere else, and compared by a hash under a key
        that is in memory too. After a reboot the task that has them must run before the container can start.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name of the file.
        type: str
        required: true
      content:
        description:
          - Content of the file.
        type: str
        required: true
      uid:
        description:
          - Owner of the file. The default is 0.
        type: int
      gid:
        description:
          - Group of the file. The default is 0.
        type: int
      mode:
        description:
          - Mode of the file, an octal string in quotes. The default is V('0400').
        type: str
  log_driver:
    description:
      - "Where its output goes: V(file), V(journald) or V(none). The default is V(file)."
      - With V(journald) its output is a socket of journald's, with no process in between, and
        C(journalctl -t vessel-NAME) shows it. A program that opens C(/dev/stdout) by its name gets ENXIO then, as
        in any systemd service.
    type: str
    choices: [file, journald, none]
  log_options:
    description:
      - "For V(file): C(max_size), from which on the log is rotated, and C(max_file), how many files are kept."
      - "The container writes to the file itself, and nothing makes it wait. So the file may be larger than C(max_size)
        until it is rotated: measured on two cores, by 20 MiB at the most where 100 MB are written a second, and by
        1.2 GiB where it is as much as the memory takes, 1.5 GB a second, be it by one container or by eight."
      - Of a log that is far above its size, as much is kept as C(max_file) files of C(max_size) hold. On a full disk no
        older files are made, and the log is cut.
    type: dict
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.installation.network
  - vessel.host.attributes
  - vessel.host.attributes.converge
seealso:
  - module: vessel.host.stack
  - module: vessel.host.container_info
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: A web server that is limited, watched and reached on port 8080
  vessel.host.container:
    name: web
    image: nginx
    published_ports: ["8080:80"]
    memory: 256m
    cpus: 0.5
    pids_limit: 100
    restart_policy: always
    healthcheck:
      test: [CMD, curl, -fs, http://localhost/]
      interval: 10s
    state: healthy

- name: More memory, and only if nobody notices
  vessel.host.container:
    name: web
    memory: 512m
    max_disruption: live

- name: Restart it
  vessel.host.container:
    name: web
    restart: true

- name: Remove it
  vessel.host.container:
    name: web
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, each with its cost.
  type: list
  elements: str
  returned: always
  sample: ["container web: set memory (live)"]
container:
  description: Facts about the container as M(vessel.host.container_info) gives them; empty when it is absent.
  type: dict
  returned: always
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.engine import container_facts, host_of
from ansible_collections.vessel.host.plugins.module_utils._ansible.module import Facts, VesselModule, run
from ansible_collections.vessel.host.plugins.module_utils._converge.container import containers
from ansible_collections.vessel.host.plugins.module_utils._converge.plan import Plan
from ansible_collections.vessel.host.plugins.module_utils._options.container import DIRECTIVES, OPTIONS


def converge(module: VesselModule) -> tuple[Plan, Facts]:
    plan = containers.fetch_and_plan(module.paths, module.desired, host_of(module), module.progress)
    return plan, lambda: container_facts(module)


def main() -> None:
    run((*DIRECTIVES, *OPTIONS), converge, locks=lambda paths, desired: [(containers.KIND, desired["name"])])


if __name__ == "__main__":
    main()
