# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can't be is refused with its path, its value and what would be right."""

from __future__ import annotations

import re
import sys

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import DependencyError, OptionError
from ansible_collections.vessel.host.plugins.plugin_utils.place import query, read
from ansible_collections.vessel.host.plugins.plugin_utils.place.model import Requests, Taint, Term, Toleration
from ansible_collections.vessel.host.plugins.plugin_utils.place.placement import place

HOSTS = {"h1": {"cpus": 4, "memory": "8g"}}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"cpu": 2}, "services.web.cpu: 2 belongs to no option; there are affinity, anti_affinity, constraints, "),
        ({"cpus": "two"}, "services.web.cpus: 'two' is not a number"),
        ({"cpus": -1}, "services.web.cpus: -1 is out of range; use 0.0 or more"),
        ({"memory": "much"}, "services.web.memory: 'much' is not a size; use bytes, or a number with b, k, m, g or t"),
        ({"replicas": True}, "services.web.replicas: True is a boolean, not a number"),
        ({"replicas": -1}, "services.web.replicas: -1 is out of range; use 0 to 100000"),
        ({"ports": ["8080:80"]}, "services.web.ports[0]: '8080:80' has the address 8080, which is none"),
        ({"ports": ["http"]}, "services.web.ports[0]: 'http' is not a port of the host; write [IP:]PORT[-PORT]"),
        ({"ports": [0]}, "services.web.ports[0]: 0 has the port 0; ports are 1 to 65535"),
        ({"ports": [1.5]}, "services.web.ports[0]: 1.5 is not a port; write [IP:]PORT[-PORT][/PROTOCOL], in quotes"),
        ({"ports": [80, "10.0.0.1:80"]}, "services.web.ports: '10.0.0.1:80/tcp' is a part of 80/tcp; name it once"),
        ({"devices": {"gpu": "all"}}, "services.web.devices.gpu: 'all' is not a whole number"),
        ({"constraints": "name"}, "services.web.constraints: 'name' is not a list; write each item on a line"),
        ({"constraints": ["a ="]}, "services.web.constraints[0]: 'a =' is not JMESPath: "),
        ({"constraints": ["length(name, name)"]}, "services.web.constraints: 'length(name, name)' can't be asked of "),
        ({"preferences": [{"weight": 2}]}, "services.web.preferences[0].constraint: is missing; the option is"),
        ({"preferences": [{"constraint": "name", "weight": 0}]}, "preferences[0].weight: 0 is out of range; use 1 to"),
        ({"affinity": [{"topology": "zone"}]}, "services.web.affinity[0]: {'topology': 'zone'} selects nobody; give "),
        ({"affinity": ["db"]}, "services.web.affinity[0].service: 'db' is no service here; there are web"),
        ({"spread": [{"max_skew": 1}]}, "services.web.spread[0].topology: is missing; the option is required"),
        ({"spread": [{"topology": "zone", "max_skew": 0}]}, "spread[0].max_skew: 0 is out of range; use 1 or more"),
        ({"strategy": "random"}, "services.web.strategy: 'random' is not one of spread, pack"),
        (
            {"tolerations": [{"value": "v"}]},
            "services.web.tolerations[0]: {'value': 'v'} has no key; only the operator",
        ),
        (
            {"tolerations": [{"key": "k", "operator": "Exists", "value": "v"}]},
            "services.web.tolerations[0].value: 'v' is never looked at with the operator Exists; leave it out",
        ),
        ({"labels": {"host": "h1"}}, "services.web.labels.host: 'h1' is what a host's own name is as a topology"),
        ({"labels": {"version": 1.10}}, "services.web.labels.version: 1.1 is a number that YAML may have rounded"),
        ({"container": []}, "services.web.container: [] is not a mapping; write option: value"),
        ({"container": {"memory": "x"}}, "services.web.container.memory: 'x' is not a size"),
        ({"container": {"published_ports": [80]}}, "services.web.container.published_ports[0]: 80 is a number, and "),
    ],
)
def test_of_services(body, said):
    with pytest.raises(OptionError) as caught:
        place({"web": body}, HOSTS)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("services", "said"),
    [
        (["web"], "services: ['web'] is not a mapping; write name: value"),
        ({"web/1": {}}, "services: 'web/1' is not a name; use letters, digits, _ . and -"),
        (
            {"w" * 62: {}},
            f"services.{'w' * 62}: '{'w' * 62}' has the replica {'w' * 62}-1, and a container's name has 63",
        ),
        ({"web": 3}, "services.web: 3 is not a mapping; write option: value"),
    ],
)
def test_of_all_services(services, said):
    with pytest.raises(OptionError, match=re.escape(said)):
        place(services, HOSTS)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"memory": "8g"}, "hosts.h1.cpus: is missing; the option is required"),
        ({"cpus": 4}, "hosts.h1.memory: is missing; the option is required"),
        ({"cpus": 4, "memory": "8g", "ram": 1}, "hosts.h1.ram: 1 belongs to no option; there are cordon, cpus, "),
        (
            {"cpus": 4, "memory": "8g", "taints": ["gpu=yes"]},
            "hosts.h1.taints[0]: 'gpu=yes' has no effect; write KEY=VALUE:EFFECT, with one of NoSchedule, ",
        ),
        ({"cpus": 4, "memory": "8g", "taints": [":NoSchedule"]}, "hosts.h1.taints[0].key: '' is empty; give a value "),
        (
            {"cpus": 4, "memory": "8g", "taints": ["a=b:No"]},
            "hosts.h1.taints[0].effect: 'No' is not one of NoSchedule, ",
        ),
        ({"cpus": 4, "memory": "8g", "running": [1.5]}, "hosts.h1.running[0]: 1.5 is a number that YAML may have "),
        ({"cpus": 4, "memory": "8g", "running": {"a": {"cpu": 1}}}, "hosts.h1.running.a.cpu: 1 belongs to no option"),
        ({"cpus": 4, "memory": "8g", "drain": "soon"}, "hosts.h1.drain: 'soon' is not a boolean; use true or false"),
    ],
)
def test_of_hosts(body, said):
    with pytest.raises(OptionError, match=re.escape(said)):
        place({"web": {}}, {"h1": body})


def test_without_hosts():
    with pytest.raises(OptionError, match=re.escape("hosts: {} has no host; name one at least")):
        place({"web": {}}, {})


def test_without_jmespath(monkeypatch):
    """Only who has constraints needs it."""
    monkeypatch.setattr(query, "jmespath", None)
    assert place({"web": {}}, HOSTS)["complete"]
    with pytest.raises(DependencyError) as caught:
        place({"web": {"constraints": ["name"]}}, HOSTS)
    assert str(caught.value) == (
        "services.web.constraints[0]: the Python library jmespath is not installed on the controller "
        "(install it beside ansible-core: pip install jmespath)"
    )


def test_requests_come_from_the_container():
    container = {"cpus": 0.5, "memory": "1g", "memory_reservation": "512m", "published_ports": ["8080:80", "443"]}
    found = read.services({"web": {"container": container}})[0].requests
    assert (found.cpus, found.memory) == (500, 512 << 20)
    assert [(port.host_ip, port.host_port, port.protocol) for port in found.ports] == [("0.0.0.0", 8080, "tcp")]
    said = {"cpus": 0.1, "memory": 0, "ports": [], "container": container}
    assert read.services({"web": said})[0].requests == Requests(cpus=100)
    unlimited = {"container": {"memory": -1, "cpus": 0}}
    assert read.services({"web": unlimited})[0].requests == Requests()


def test_short_forms_are_the_long_ones():
    short = {"affinity": ["web"], "tolerations": [{"key": "k"}, {"key": "k", "value": "v"}], "spread": ["zone"]}
    found = read.services({"web": short})[0]
    assert found.affinity == (Term(found.affinity[0].selector, "host", True, 1),)
    assert found.tolerations == (Toleration("k"), Toleration("k", "v"))
    assert (found.spread[0].topology, found.spread[0].max_skew, found.spread[0].required) == ("zone", 1, True)
    host = {"cpus": 1, "memory": 1, "taints": ["a=b:NoSchedule", "c:NoExecute", {"key": "d", "effect": "NoSchedule"}]}
    wanted = (Taint("a", "b", "NoSchedule"), Taint("c", "", "NoExecute"), Taint("d", "", "NoSchedule"))
    assert read.hosts({"h": host})[0].taints == wanted
    assert read.parse_counts(["gpu", "gpu", "fpga"], "devices") == {"gpu": 2, "fpga": 1}


def test_ipv6_ports_and_ranges():
    found = read.parse_host_ports(["[::]:80-82/udp", 8080], "ports")
    assert [(port.host_ip, port.host_port, port.protocol) for port in found] == [
        ("::", 80, "udp"),
        ("::", 81, "udp"),
        ("::", 82, "udp"),
        ("0.0.0.0", 8080, "tcp"),
    ]


def test_the_pure_part_knows_nothing_of_ansible():
    """It is used by others than Ansible's plugins, the bench for one."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from ansible_collections.vessel.host.plugins.plugin_utils.place.placement import place;"
        "assert place({'a': {}}, {'h': {'cpus': 1, 'memory': 1}})['complete'];"
        "assert not [name for name in sys.modules if name.partition('.')[0] == 'ansible'], sys.modules"
    )
    import subprocess
    from pathlib import Path

    collections = str(Path(__file__).parents[4] / "collection")
    done = subprocess.run([sys.executable, "-c", code, collections], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
