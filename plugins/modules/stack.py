#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: stack
version_added: 0.1.0
short_description: Declare a host's images, networks, volumes and containers in one task
description:
  - Declares what belongs together and makes it in the order that it needs, as much at once as can be.
  - A stack is declared whole. An option that is left out has its default, unlike with M(vessel.host.container).
  - When a part fails, what this task had made before is undone.
options:
  name:
    description:
      - Name of the stack. Required, unless O(compose) is given.
      - With O(compose) it is the project's name, of which those of its containers, networks and volumes are made. The
        default is then the variable E(COMPOSE_PROJECT_NAME), else the name that the files give, else that of the
        project's directory.
    type: str
  compose:
    description:
      - A compose file on the controller, found as M(ansible.builtin.copy) finds its C(src), or what is in one as a
        mapping. A list of these is merged, the later over the earlier.
      - "It is read by the compose specification: variables, C(extends), C(include), profiles, anchors, env files and
        the tags C(!reset) and C(!override). What there is no way to do here is refused, with the reason; see
        C(docs/compose.md) in the collection for every attribute."
      - What files and variables hold is data and never a template. A mapping in a play is templated as all of a play.
      - The other options are over the files. O(containers), O(networks), O(volumes) and O(images) are merged with
        theirs by name, and of each option by option; a service C(web) of the project C(shop) is the container
        C(shop-web-1).
      - Contexts of builds, secrets, configs and env files are on the controller, too, and may be encrypted by
        ansible-vault, but for what is in a context.
    type: raw
  compose_env:
    description:
      - Variables for O(compose), over those of its env files. The environment of the controller is not looked at.
    type: dict
  compose_env_files:
    description:
      - Env files for O(compose) on the controller, the later over the earlier, instead of C(.env) in the project's
        directory.
    type: list
    elements: path
  compose_profiles:
    description:
      - Profiles that are active; V(*) is every one. The default is the variable E(COMPOSE_PROFILES), or none.
    type: list
    elements: str
  compose_project_directory:
    description:
      - Directory on the controller from which relative paths in O(compose) start. The default is the first file's.
    type: path
  compose_target_directory:
    description:
      - Where that directory is on the target, for what services mount by a relative path. Nothing is copied there.
      - Without it such a mount is refused.
    type: path
  state:
    description:
      - V(present) makes everything as declared, and starts the containers.
      - V(stopped) stops the containers.
      - V(absent) removes containers and networks, what depends on others first. Volumes and images stay.
      - What another stack declares too, and a network that other containers are on, stays, also with O(prune).
      - V(rolled_back) makes the stack what it was before, from the history that the host keeps; O(images), O(networks),
        O(volumes) and O(containers) are not given with it. Containers get the very images that they had, whatever has
        the names now. What was added since goes, but no volume. Who has gone back goes no further by being told again.
      - What is in secrets is not kept; a container gets the contents that it has now.
    type: str
    choices: [present, stopped, absent, rolled_back]
    default: present
  revision:
    description:
      - The revision that O(state=rolled_back) goes to. The default is the one that the present has replaced.
      - Each declaration that differs from the one before is a new revision, once all of it has been made; an image that
        was made or fetched anew makes a difference. See M(vessel.host.stack_info).
    type: int
  history_limit:
    description:
      - How many revisions are kept besides the present one. Their images stay on the host as long.
    type: int
    default: 3
  images:
    description: Images by name, each with the options of M(vessel.host.image).
    type: dict
  networks:
    description: Networks by name, each with the options of M(vessel.host.network).
    type: dict
  volumes:
    description: Volumes by name, each with the options of M(vessel.host.volume).
    type: dict
  containers:
    description:
      - Containers by name, each with the options of M(vessel.host.container) but those that speak of the task.
      - C(depends_on) is a list of names, or a mapping from names to V(started), V(healthy) or V(completed), on which
        its start waits.
      - A container that others await as V(completed), and that ended with 0, is run again when it is changed or the
        host was booted anew.
    type: dict
  prune:
    description: Whether containers and networks go that the stack declared before and does not any more.
    type: bool
    default: false
  recreate:
    description: Make every container anew even when nothing changed.
    type: bool
    default: false
  max_disruption:
    description: The most that a change may cost a running container, as with M(vessel.host.container).
    type: str
    choices: [live, signal, restart, recreate]
    default: recreate
  wait_timeout:
    description:
      - How long a container may take to become what others wait for, in seconds or as V(1m30s). It is the limit of a
        new instance that is made beside the old one (C(update_order)), too.
      - The default is 300 seconds.
    type: str
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.installation.network
  - vessel.host.attributes
  - vessel.host.attributes.converge
seealso:
  - module: vessel.host.container
  - module: vessel.host.stack_info
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: A database, and an application that waits for it
  vessel.host.stack:
    name: shop
    networks:
      shop:
        subnet: 10.89.0.0/24
    volumes:
      data: {}
    containers:
      db:
        image: mariadb
        networks: [{name: shop}]
        volumes: ["data:/var/lib/mysql"]
        healthcheck:
          test: [CMD, mariadb-admin, ping]
      app:
        image: app
        networks: [{name: shop}]
        published_ports: ["8080:80"]
        depends_on:
          db: healthy

- name: Back to what it was before
  vessel.host.stack:
    name: shop
    state: rolled_back

- name: What a compose file declares, with a limit of this host's
  vessel.host.stack:
    compose:
      - compose.yaml
      - compose.prod.yaml
    compose_env:
      TAG: "1.4"
      DB_PASSWORD: "{{ db_password }}"
    compose_profiles: [metrics]
    compose_target_directory: /srv/shop
    containers:
      shop-web-1:
        memory: 256m

- name: Remove it; the volume stays
  vessel.host.stack:
    name: shop
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, each with its cost.
  type: list
  elements: str
  returned: always
  sample: ["network shop: create", "container db: create", "container db: start"]
containers:
  description: State, pid, health and addresses of each container of the stack, by name.
  type: dict
  returned: always
revision:
  description: Number of the revision that the host has; 0 when none has been made whole.
  type: int
  returned: always
  sample: 4
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.engine import prepare_engine, stack_facts
from ansible_collections.vessel.host.plugins.module_utils._ansible.module import Facts, VesselModule, run
from ansible_collections.vessel.host.plugins.module_utils._converge import stacks
from ansible_collections.vessel.host.plugins.module_utils._converge.plan import Plan
from ansible_collections.vessel.host.plugins.module_utils._options.stack import OPTIONS


def converge(module: VesselModule) -> tuple[Plan, Facts]:
    prepare_engine(module)
    desired = {**module.desired, "images": module.sent.into_all(module.desired.get("images") or {})}
    return stacks.plan(module.paths, desired, module.progress), lambda: stack_facts(module)


def main() -> None:
    run(OPTIONS, converge, locks=stacks.locks)


if __name__ == "__main__":
    main()
