# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: containers
version_added: 0.1.0
short_description: The containers of the hosts that an inventory has
description:
  - Asks the hosts that the inventory sources before this one have for their containers, and adds each container as a
    host, with the variables by which P(vessel.host.container#connection) reaches it.
  - The hosts are asked by a task as any other is run on them, O(forks) at a time, with the connection, the options and
    the way to become root that each of them has. Files of C(host_vars) and C(group_vars) beside the inventory count.
  - The name of the source's file ends in C(vessel.yml) or C(vessel.yaml).
  - A host that does not answer is named in a warning, with the reason, and has no containers in the inventory.
  - Each container has what M(vessel.host.container_info) returns of it as variables with C(vessel_) before their names,
    as C(vessel_state) and C(vessel_labels), and C(vessel_host), the host that it is on. That is data which hosts have
    given and is never evaluated as a template, whatever is in it.
  - All are in the group C(vessel_containers). As they are also in the group C(all), the hosts alone are
    C(all:!vessel_containers).
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
options:
  plugin:
    description: Marks the file as a source for this plugin.
    required: true
    choices: [vessel.host.containers]
  hosts:
    description:
      - The hosts to ask, as a pattern over those that the sources before this one have.
      - A limit of the command line (C(--limit)) is about the finished inventory and is not known here.
    type: str
    default: all
  forks:
    description:
      - How many hosts are asked at the same time; when not set, as many as Ansible would run a task on.
    type: int
  timeout:
    description:
      - The most seconds that a host may take from the first attempt to connect to its whole answer; V(0) stands for no
        limit. How long an attempt to connect may take is an option of the connection.
    type: int
    default: 30
  become:
    description:
      - Whether to become another user on the hosts, and so on the way into their containers; only root can read what
        containers there are.
      - A host's own variable C(ansible_become) counts before it; when neither is set, it is as Ansible's configuration
        and command line have it. A play's C(become) is not known here.
    type: bool
  root:
    description:
      - Directory of an installation that is kept apart from the host's own, as the modules have it.
      - A host's own variable C(ansible_vessel_root) counts before it.
    type: str
  hostname:
    description:
      - A Jinja2 expression for the container's name in the inventory, such as V(vessel_name ~ '.' ~ vessel_host).
      - Two containers must not have the same name, and none that of another host, of a group or of the controller
        (C(localhost)). Who comes second, and a container for which the expression gives no name, is left out with a
        warning, or with O(strict) that is an error.
      - By default it is the container's name, C(@), and the host's. A container's name has no C(@), so that no two
        pairs give one name.
    type: str
  group_by:
    description:
      - What to group the containers by.
      - The groups are C(vessel_host_NAME), C(vessel_stack_NAME), C(vessel_label_KEY_VALUE), C(vessel_image_NAME),
        C(vessel_state_STATE) and C(vessel_health_STATUS), where everything but letters, digits and underscores has
        become an underscore.
    type: list
    elements: str
    choices: [host, stack, label, image, state, health]
    default: [host, stack, label, image, state, health]
  filter:
    description:
      - A JMESPath expression over what M(vessel.host.container_info) returns of a container, with C(host) beside it.
        Containers for which it is false, null or empty are left out.
      - Of a container for which it can't be evaluated, as where a function gets null, that is an error with O(strict),
        and else the container is left out.
    type: str
    default: ""
notes:
  - It loads P(vessel.host.container#connection) for all tasks of a play at once. For containers in an inventory
    by hand, each task does.
  - Passwords that a command line asks for (C(--ask-pass), C(--ask-become-pass)) are not known to inventory plugins;
    those in variables are.
  - Variables of the host's connection are copied. Where they are templates or encrypted, the container's refer to the
    host's, by C(hostvars).
  - What C(ansible_become), C(ansible_become_method), C(ansible_become_user) and C(ansible_become_exe) say of the host
    becomes C(ansible_vessel_become), a command that asks for no password, such as C(sudo -n). A method that has none,
    as C(su), needs that variable on the host.
  - Where all hosts have C(ansible_become), the container's own is V(false), for what root has entered needs no C(sudo)
    inside.
requirements:
  - On the controller the Python library C(jmespath), for O(filter) alone
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
# ansible-inventory -i hosts.yml -i containers.vessel.yml --graph
# ansible-playbook -i hosts.yml -i containers.vessel.yml site.yml

# All containers of all hosts
plugin: vessel.host.containers
become: true

---
# What runs of the shop, asked for once in ten minutes
plugin: vessel.host.containers
hosts: web*:!web9
become: true
filter: state == 'running' && contains(stacks, 'shop')
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/vessel
cache_timeout: 600

---
# Groups and variables of one's own
plugin: vessel.host.containers
become: true
hostname: vessel_name ~ '.' ~ vessel_host
group_by: [stack, state]
groups:
  restarted: vessel_restarts > 0
keyed_groups:
  - key: vessel_labels.tier | default('none')
    prefix: tier
compose:
  address: (vessel_networks | first).ipv4_address | default('')
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches
from functools import cache
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleError, AnsibleParserError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.plugins.loader import connection_loader
from ansible.template import trust_as_template
from ansible_collections.vessel.host.plugins.plugin_utils import container_hosts
from ansible_collections.vessel.host.plugins.plugin_utils.asking import Hosts, reaching
from ansible_collections.vessel.host.plugins.plugin_utils.following import plain
from ansible_collections.vessel.host.plugins.plugin_utils.query import Query

SUFFIXES = ("vessel.yml", "vessel.yaml")
NO_SUCH_VERB = 2  # an engine that is older than the verb `vessel facts`
REASON_MOST = 400


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):  # type: ignore[misc]
    NAME = "vessel.host.containers"

    def verify_file(self, path: str) -> bool:
        return bool(super().verify_file(path)) and path.endswith(SUFFIXES)

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        # What is loaded here is there for all tasks: each is run by a fork of this process, and would load it anew.
        connection_loader.get(container_hosts.CONNECTION, class_only=True)
        self._refuse_unknown(self._read_config_data(path))
        query = Query("filter", self.get_option("filter"))
        # Nobody may say that he is one of these: not the controller, nor what plays for a group are for.
        self._present = {*inventory.hosts, *inventory.groups, *C.LOCALHOST}
        self._hosts = Hosts(inventory, loader, path)
        others = set(self._hosts.group(container_hosts.ALL))  # containers, of another source of this kind
        asked = [name for name in self._hosts.matching(self.get_option("hosts")) if name not in others]
        everybody = self._hosts.variables_of_all()
        for host, containers in self._containers(asked, path, cache):
            meant = [facts for facts in containers if self._is_meant(query, facts, host)]
            if meant:
                reached = _Reached(self, host, everybody)
                for facts in meant:
                    self._add(facts, host, reached)

    def _refuse_unknown(self, config: dict[str, Any]) -> None:
        """Ansible passes over them, and without a misspelt ``filter`` a play is for all containers."""
        for key in config:
            if key not in self.option_definitions:
                near = get_close_matches(str(key), self.option_definitions, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise AnsibleParserError(f"{key} is no option of {self.NAME}{hint}")

    # asking
    def _containers(self, hosts: list[str], path: str, cache: bool) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """The hosts that answered, now or before, in the inventory's order."""
        caching = self.get_option("cache")
        found = self._cached(hosts, path) if caching and cache else {}
        missing = [name for name in hosts if name not in found]
        fresh = self._ask(missing) if missing else {}
        if caching:
            self._cache.update({self._key(path, name): containers for name, containers in fresh.items()})
        found.update(fresh)
        yield from ((name, found[name]) for name in hosts if name in found)

    def _cached(self, hosts: list[str], path: str) -> dict[str, list[dict[str, Any]]]:
        found = {}
        for name in hosts:
            key = self._key(path, name)
            with suppress(KeyError, AnsibleError, container_hosts.NoFacts):  # there is none, or a damaged one
                found[name] = container_hosts.checked(container_hosts.untagged(self._cache[key]))
            # What is in it when we are done is written, and would be as new.
            self._cache.pop(key, None)
        return found

    def _key(self, path: str, host: str) -> str:
        """A host's answer has an age of its own."""
        asked = f"{host}\0{self.get_option('root')}\0{self.get_option('become')}"
        return f"{self.get_cache_key(path)}_{hashlib.sha256(asked.encode()).hexdigest()[:16]}"

    def _ask(self, hosts: list[str]) -> dict[str, list[dict[str, Any]]]:
        results = self._run(hosts, {"raw": trust_as_template(container_hosts.COMMAND)})
        old = [name for name, result in results.items() if result.get("rc") == NO_SUCH_VERB]
        if old:
            module = {"root": trust_as_template("{{ ansible_vessel_root | default(vessel_inventory_root or omit) }}")}
            results.update(self._run(old, {"vessel.host.container_info": module}))
        found = {}
        for name in hosts:
            try:
                found[name] = _answer(results.get(name))
            except container_hosts.NoFacts as error:
                text = plain(" ".join(str(error).split()))[:REASON_MOST]
                self.display.warning(f"vessel.host.containers: {name} is left out: {text}")
        return found

    def _run(self, hosts: list[str], task: dict[str, Any]) -> dict[str, Any]:
        become = self.get_option("become")
        words = {
            "timeout": self.get_option("timeout"),
            "vars": {"vessel_inventory_root": self.get_option("root") or ""},
        }
        if become is not None:
            words["become"] = become
        forks = self.get_option("forks") or reaching()["forks"]
        return self._hosts.ask(self.get_option("hosts"), hosts, {**task, **words}, forks)

    # adding
    def _is_meant(self, query: Query, facts: dict[str, Any], host: str) -> bool:
        try:
            return query.means({**facts, "host": host})
        except AnsibleError as error:
            if self.get_option("strict"):
                raise AnsibleError(f"container {facts['name']} of {host}: {error}") from error
            return False

    def _add(self, facts: dict[str, Any], host: str, reached: _Reached) -> None:
        strict = self.get_option("strict")
        variables = container_hosts.variables(facts, host)
        try:
            name = self._name(variables)
        except AnsibleError as error:
            problem = f"container {facts['name']} of {host}: hostname {error}"
            if strict:
                raise AnsibleError(problem) from error
            self.display.warning(f"vessel.host.containers: {plain(' '.join(problem.split()))}; it is left out")
            return
        self._present.add(name)
        self.inventory.add_host(name)
        variables.update(reached.variables(facts["name"]))
        for key, value in variables.items():
            self.inventory.set_variable(name, key, value)
        for group in container_hosts.groups(facts, host, self.get_option("group_by")):
            self.inventory.add_host(name, self.inventory.add_group(self._sanitize_group_name(group)))
        variables = self.inventory.get_host(name).get_vars()
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)

    def _name(self, variables: dict[str, Any]) -> str:
        """AnsibleError where the option gives none, or somebody else's."""
        name: Any = f"{variables['vessel_name']}@{variables['vessel_host']}"
        if expression := self.get_option("hostname"):
            try:
                name = self._compose(expression, variables)
            except AnsibleError as error:
                raise AnsibleError(f"gives no name: {error}") from error
        if not isinstance(name, str) or not name.isprintable() or not name.strip():
            raise AnsibleError(f"gives {name!r}; a name is a string of printable characters")
        if name in self._present:
            raise AnsibleError(f"gives {name!r}, which another host or group has")
        return str(name)


class _Reached:
    """How one host is reached, for all of its containers."""

    def __init__(self, plugin: InventoryModule, host: str, everybody: dict[str, Any]) -> None:
        self._plugin, self._host = plugin, host
        self._own = plugin._hosts.variables(host)
        self._is_template = plugin.templar.is_template
        self._reaching = reaching()
        self._more: dict[str, Any] = {}
        if plugin.get_option("root"):
            self._more["ansible_vessel_root"] = plugin.get_option("root")
        if self._transport() == "local":
            self._more["ansible_vessel_transport"] = "local"
        if command := self._become():
            self._more["ansible_vessel_become"] = command
        self._inside = {"ansible_become": False} if "ansible_become" in everybody else {}

    def variables(self, container: str) -> dict[str, Any]:
        own = container_hosts.connection(container, self._host, self._own, ssh_variables(), self._is_template)
        return {**self._more, **self._inside, **own}

    def _value(self, name: str, default: Any) -> Any:
        """Of one of the host's variables, by its others."""
        templar = self._plugin.templar
        templar.available_variables = self._own
        try:
            return templar.template(self._own.get(name, default))
        except AnsibleError as error:
            self._warn(f"{name}: {error}")
            return default

    def _transport(self) -> str:
        name = str(self._value("ansible_connection", self._reaching["connection"])).rpartition(".")[2]
        if name not in ("ssh", "local", "smart", "paramiko", "paramiko_ssh"):
            self._warn(f"vessel.host.container goes by ssh, and by no connection {name}")
        return name

    def _become(self) -> str:
        wanted = self._plugin.get_option("become")
        if not boolean(self._value("ansible_become", self._reaching["become"] if wanted is None else wanted)):
            return ""
        method = str(self._value("ansible_become_method", self._reaching["become_method"]))
        user = str(self._value("ansible_become_user", self._reaching["become_user"]) or C.DEFAULT_BECOME_USER)
        command = container_hosts.become_command(method, user, str(self._value("ansible_become_exe", "") or ""))
        if not command and "ansible_vessel_become" not in self._own:
            self._warn(f"become method {method} gives no command; set ansible_vessel_become to one")
        return command

    def _warn(self, text: str) -> None:
        self._plugin.display.warning(f"vessel.host.containers: the containers of {self._host} are not reached: {text}")


def _answer(result: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The containers of a task's result; NoFacts with the reason where there is none."""
    if result is None:
        raise container_hosts.NoFacts("it gave no answer")
    if result.get("unreachable") or result.get("failed"):
        said = [result.get(name) for name in ("stderr", "stdout") if result.get("rc")]
        text = next(filter(None, [*said, result.get("msg")]), "the task failed")
        # With a terminal it is in one with what was said before.
        raise container_hosts.NoFacts(container_hosts.reason(text.rpartition(container_hosts.MARK)[2] or text))
    if "containers" in result:
        return container_hosts.checked(container_hosts.untagged(result["containers"]))
    return container_hosts.parse(result["stdout"])


@cache
def ssh_variables() -> frozenset[str]:
    """Names of all variables that are read by the plugin for ssh."""
    plugin = connection_loader.get("ansible.builtin.ssh", class_only=True)
    return frozenset(C.config.get_plugin_vars("connection", plugin._load_name))
