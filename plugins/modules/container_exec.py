#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_exec
version_added: 0.1.0
short_description: Run a command in a container
description:
  - Runs one more process in a running container, in all of its namespaces, its control group and its limits.
options:
  container:
    description: Name of the container.
    type: str
    required: true
  command:
    description:
      - The command as one string, which is split into words as a shell does it. There is no shell.
      - Exactly one of O(command) and O(argv) is needed.
    type: str
  argv:
    description:
      - The command as a list of words.
    type: list
    elements: str
  user:
    description:
      - Who it runs as, as V(USER) or V(USER:GROUP), names of the container or numbers.
      - The default is the user of the container's own process.
    type: str
  chdir:
    description:
      - The directory in the container to run it in. The default is that of the container's own process.
    type: str
  env:
    description:
      - Variables beside those of the container's own process.
    type: dict
  stdin:
    description:
      - What it reads from its standard input.
    type: str
  stdin_add_newline:
    description:
      - Whether a newline is added to O(stdin) that does not end with one.
    type: bool
    default: true
  strip_empty_ends:
    description:
      - Whether empty lines at the end of RV(stdout) and RV(stderr) are taken off.
    type: bool
    default: true
  tty:
    description:
      - Whether it gets a terminal. Standard output and standard error are one then.
    type: bool
    default: false
  detach:
    description:
      - Whether to return as soon as it started. It has no input, and its output is lost.
    type: bool
    default: false
  timeout:
    description:
      - How long it may take, such as V(90s). Then it is killed with what it has started, and the task fails.
    type: str
  creates:
    description:
      - A path in the container. When it exists, the command is not run.
    type: str
  removes:
    description:
      - A path in the container. When it does not exist, the command is not run.
    type: str
  fail_on_rc:
    description:
      - Whether the task fails when RV(rc) is not 0, be it the command's exit code or that it could not be started.
      - A container that does not run fails the task in any case.
    type: bool
    default: true
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.attributes
attributes:
  check_mode:
    support: partial
    details:
      - O(creates) and O(removes) say what would happen. Without them the task is skipped.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Whether a second run changes something is known to the command alone; O(creates) and O(removes) tell it apart.
seealso:
  - module: vessel.host.container_copy
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: Load the schema once
  vessel.host.container_exec:
    container: db
    argv: [sh, -c, "mariadb shop < /srv/schema.sql && touch /var/lib/mysql/.loaded"]
    creates: /var/lib/mysql/.loaded

- name: Ask who the web server runs as
  vessel.host.container_exec:
    container: web
    command: id -un
    user: www-data
  register: result
  changed_when: false
"""

RETURN = r"""
cmd:
  description: The command as a list of words.
  returned: success
  type: list
  elements: str
  sample: [id, -un]
rc:
  description:
    - The exit code; 128 and the signal's number when it was killed.
    - V(127) of a command, or a directory to run it in, that is not there, and V(126) of a command that can't be
      executed, as of C(docker exec) and C(podman exec). A command may end with these itself; RV(started) tells.
  returned: success
  type: int
  sample: 0
started:
  description: Whether the command was started. If not, RV(msg) says why.
  returned: when it was to be run
  type: bool
  sample: true
msg:
  description: Why the command was not started, or was not to be.
  returned: when it was not started
  type: str
  sample: "exec pg_dump: executable file not found in $PATH [ENOENT]"
stdout:
  description: What it wrote to its standard output.
  returned: success
  type: str
stderr:
  description: What it wrote to its standard error.
  returned: success
  type: str
stdout_lines:
  description: RV(stdout) as lines.
  returned: success
  type: list
  elements: str
stderr_lines:
  description: RV(stderr) as lines.
  returned: success
  type: list
  elements: str
pid:
  description: Process id on the host, with O(detach=true).
  returned: when detached
  type: int
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.module import VesselModule, report
from ansible_collections.vessel.host.plugins.module_utils._converge import execute
from ansible_collections.vessel.host.plugins.module_utils._options.container import parse_env, parse_user
from ansible_collections.vessel.host.plugins.module_utils._options.parse import (
    parse_bool,
    parse_command,
    parse_duration,
    parse_name,
    parse_path,
    parse_str,
)
from ansible_collections.vessel.host.plugins.module_utils._options.record import Option

OPTIONS = (
    Option("container", parse_name, required=True),
    Option("command", parse_command),
    Option("argv", parse_command, "list", elements="str"),
    Option("user", parse_user),
    Option("chdir", parse_path),
    Option("env", parse_env, "dict"),
    Option("stdin", parse_str),
    Option("stdin_add_newline", parse_bool, "bool", default=True, shown_default=True),
    Option("strip_empty_ends", parse_bool, "bool", default=True, shown_default=True),
    Option("tty", parse_bool, "bool", default=False, shown_default=False),
    Option("detach", parse_bool, "bool", default=False, shown_default=False),
    Option("timeout", parse_duration),
    Option("creates", parse_path),
    Option("removes", parse_path),
    Option("fail_on_rc", parse_bool, "bool", default=True, shown_default=True),
)


def act(module: VesselModule) -> dict:
    result = execute.task(module.paths, module.desired, check=module.check_mode)
    if result.get("rc", 0) != 0 and module.desired["fail_on_rc"]:
        ended = f"{result['cmd'][0]} in {module.desired['container']} ended with {result['rc']}"
        module.fail_json(**{"msg": ended, **result})
    return result


def main() -> None:
    report(OPTIONS, act, mutually_exclusive=[("command", "argv")], required_one_of=[("command", "argv")])


if __name__ == "__main__":
    main()
