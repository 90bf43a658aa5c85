#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is a virtual module: its action plugin does all of it, on the controller.

from __future__ import annotations

DOCUMENTATION = r"""
module: place
version_added: 0.1.0
short_description: Place the containers of services on the hosts of a play
description:
  - Says which container goes to which host, once for the play. Nothing is asked of any host and nothing is changed;
    M(vessel.host.stack) makes what is placed.
  - Before it, M(vessel.host.host_info) must have run on all hosts of the play, registered as C(vessel_host). That is
    where CPUs, memory, ports, devices and what runs come from. What an operator says of a host are its variables
    C(vessel_labels), C(vessel_taints), C(vessel_drain), C(vessel_cordon) and C(vessel_devices), and C(vessel_cpus) and
    C(vessel_memory) where less may be promised than there is.
  - What runs stays where it is, unless its host is drained, tainted with C(NoExecute) or full, or a rule is against it.
  - The rules are those of kube-scheduler, see the collection's C(docs/placement.md).
options:
  services:
    description:
      - The services by name. Container C(web-1) is the first replica of service C(web).
    type: dict
    required: true
    suboptions:
      replicas:
        description: How many there are to be.
        type: int
        default: 1
      cpus:
        description:
          - How many CPUs each is promised.
          - The default is C(cpus) of O(services.container).
        type: float
      memory:
        description:
          - How much memory each is promised, in bytes or as V(512m).
          - The default is C(memory_reservation) or C(memory) of O(services.container).
        type: str
      ports:
        description:
          - Ports of the host that each takes, as C([IP:]PORT[-PORT][/PROTOCOL]).
          - The default is the host ports of C(published_ports) of O(services.container).
        type: list
        elements: str
      devices:
        description: How many of which devices each takes, by the name that hosts have them by.
        type: dict
      labels:
        description: Labels by which O(services.affinity) and O(services.anti_affinity) of others find it.
        type: dict
      constraints:
        description:
          - JMESPath expressions that must all hold of a host. They are asked of C(name), C(groups), C(labels),
            C(facts), C(cpus), C(memory) and C(devices).
        type: list
        elements: str
      preferences:
        description: Constraints that need not hold. A host where the weights of those that do are more comes first.
        type: list
        elements: dict
        suboptions:
          constraint:
            description: A JMESPath expression.
            type: str
            required: true
          weight:
            description: From 1 to 100.
            type: int
            default: 1
      affinity:
        description: Whom it must, or would like to, be near.
        type: list
        elements: dict
        suboptions: &term
          service:
            description: Name of a service; it may be its own.
            type: str
          labels:
            description: Labels of services, or of containers that are no service's.
            type: dict
          topology:
            description: The label whose value hosts that are near each other share, or V(host).
            type: str
            default: host
          required:
            description: Whether it must be.
            type: bool
            default: true
          weight:
            description: From 1 to 100, where it need not be.
            type: int
            default: 1
      anti_affinity:
        description: Whom it must not, or would rather not, be near.
        type: list
        elements: dict
        suboptions: *term
      spread:
        description: Topologies over which its replicas are spread evenly.
        type: list
        elements: dict
        suboptions:
          topology:
            description: A label, or V(host).
            type: str
            required: true
          max_skew:
            description: How many more than in the domain with the fewest there may be.
            type: int
            default: 1
          required:
            description: Whether that must hold (C(DoNotSchedule)), or is a wish (C(ScheduleAnyway)).
            type: bool
            default: true
      max_per_host:
        description: How many of its replicas a host may have; V(0) for any number.
        type: int
        default: 0
      strategy:
        description: V(spread) takes the host with the fewest of the service, then the least load; V(pack) that with
          the most load.
        type: str
        choices: [spread, pack]
      tolerations:
        description: Taints that are no matter.
        type: list
        elements: dict
        suboptions:
          key:
            description: The taint's key; any when not set.
            type: str
          operator:
            description: V(Equal) where O(services.tolerations[].value) is set, else V(Exists).
            type: str
            choices: [Equal, Exists]
          value:
            description: The taint's value.
            type: str
          effect:
            description: The taint's effect; any when not set.
            type: str
            choices: [NoSchedule, PreferNoSchedule, NoExecute]
      priority:
        description: Those of a higher one come first, and those of a lower one give way to them.
        type: int
        default: 0
      container:
        description: The options of M(vessel.host.container) that its containers have; they are given back.
        type: dict
  hosts:
    description:
      - The hosts by name, instead of those of the play.
    type: dict
    suboptions:
      cpus:
        description: CPUs that may be promised.
        type: float
        required: true
      memory:
        description: Memory that may be promised.
        type: str
        required: true
      idle_cpus:
        description: CPUs that are idle now. The load of a host is by them where that is more than by requests.
        type: float
      memory_available:
        description: Memory that is available now. What is new must fit into it too.
        type: str
      labels:
        description: Its labels.
        type: dict
      taints:
        description: Its taints, as C(KEY=VALUE:EFFECT) or C(KEY:EFFECT), or with C(key), C(value) and C(effect).
        type: list
        elements: raw
      ports:
        description: Ports that others than containers take.
        type: list
        elements: str
      devices:
        description: How many containers can have each device; null for any number.
        type: dict
      cordon:
        description: Whether nothing new may come.
        type: bool
        default: false
      drain:
        description: Whether all must go.
        type: bool
        default: false
      running:
        description: The containers that are there, by name, each with its C(cpus), C(memory), C(ports), C(devices) and
          C(labels); or their names.
        type: dict
      groups:
        description: Its groups.
        type: list
        elements: str
      facts:
        description: Its facts.
        type: dict
  strategy:
    description: For services that name none.
    type: str
    choices: [spread, pack]
    default: spread
  partial:
    description: Whether the task succeeds when there is no host for some.
    type: bool
    default: false
  lost_hosts:
    description:
      - What to do when hosts of the play have failed or can't be reached. With V(forget) they are gone for good, and
        what ran there is placed elsewhere.
    type: str
    choices: [fail, forget]
    default: fail
  root:
    description: Of no use here; the action group's C(module_defaults) may set it.
    type: path
extends_documentation_fragment:
  - vessel.host.attributes
attributes:
  check_mode:
    support: full
    details:
      - This action does not modify state.
  diff_mode:
    support: N/A
    details:
      - This action does not modify state.
  idempotent:
    support: full
requirements:
  - jmespath on the controller, for constraints and preferences
notes:
  - The task needs C(run_once), and the strategy C(linear).
  - Where O(services.container) has secrets, use C(no_log) for the task.
seealso:
  - plugin: vessel.host.place
    plugin_type: filter
  - module: vessel.host.host_info
  - module: vessel.host.stack
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: See what each host has
  vessel.host.host_info:
  register: vessel_host

- name: Place a database and its web servers
  vessel.host.place:
    services:
      db:
        constraints: ["labels.disk == 'ssd'"]
        container: {image: mariadb, memory: 2g}
      web:
        replicas: 3
        spread: [{topology: zone}]
        affinity: [{service: db, topology: zone, required: false}]
        container: {image: nginx, memory: 256m, cpus: 0.5, published_ports: ["80:80"]}
  run_once: true
  register: placed

- name: Make what was placed here
  vessel.host.stack:
    name: shop
    containers: "{{ placed.placement.containers[inventory_hostname] }}"
    prune: true
"""

RETURN = r"""
placement:
  description: Who goes where, and why.
  returned: always
  type: dict
  contains:
    hosts:
      description: For each host, the names of its containers by service.
      type: dict
      returned: always
      sample: {h1: {web: [web-1]}, h2: {}}
    containers:
      description: For each host, its containers by name with the options of O(services.container), as
        M(vessel.host.stack) takes them.
      type: dict
      returned: always
    moves:
      description: Containers that run and go to another host.
      type: list
      elements: dict
      returned: always
      sample: [{service: web, replica: web-1, from: h1, to: h2, because: drain}]
    starts:
      description: Containers that run nowhere yet.
      type: list
      elements: dict
      returned: always
    stops:
      description: Containers that run and are not to run there any more, with no other host.
      type: list
      elements: dict
      returned: always
    unplaced:
      description:
        - Containers that there is no host for, each with the RV(ignore:reason), the hosts that each rule is against
          (RV(ignore:refused)), and the RV(ignore:nearest) host with the rules against it and what it lacks.
      type: list
      elements: dict
      returned: always
    why:
      description:
        - By service, how many hosts had room for it when its turn came (RV(ignore:candidates)), which rules were
          against how many, with the names of the first of them (RV(ignore:refused)), and of each replica why it is
          where it is (RV(ignore:replicas)).
      type: dict
      returned: always
    usage:
      description: By host, what there is and what is promised then.
      type: dict
      returned: always
    complete:
      description: Whether there is a host for all.
      type: bool
      returned: always
    changes:
      description: Whether anything moves, starts or stops.
      type: bool
      returned: always
"""
