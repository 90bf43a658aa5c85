#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_copy
version_added: 0.1.0
short_description: Copy a file into or out of a container
description:
  - Copies a file or a symlink from the target into a container, or the other way.
  - Works on containers that do not run too, except below their volumes and tmpfs.
  - No symlink in the container leads out of it. Paths in it are resolved below its root by the kernel.
  - The file is replaced in one step. Whoever reads it sees the old or the new.
  - A file that is mounted on, such as C(/etc/hosts), is written in place, once there is room for all of it.
  - Files of any size are copied and compared in little memory, and their holes stay holes. Diff mode shows text of up
    to 100 KiB.
options:
  container:
    description: Name of the container.
    type: str
    required: true
  container_path:
    description: Path in the container. Its directory must be there.
    type: str
    required: true
  path:
    description:
      - Path on the target.
      - With O(direction=in) exactly one of O(path) and O(content) is needed.
    type: path
  content:
    description:
      - The file's content instead of O(path).
      - To hide it, use C(no_log) for the task.
    type: str
  direction:
    description:
      - V(in) copies from the target into the container, V(out) from the container to O(path) on the target.
    type: str
    choices: [in, out]
    default: in
  mode:
    description:
      - Permission bits, as an octal string in quotes. Needed with O(content).
      - The default is that of the file that is copied. With O(direction=out) set-user-ID bits are not copied unless
        given here.
    type: str
  owner_id:
    description:
      - User id of the copy's owner.
      - The default is that of the container's own process, and of the task's user with O(direction=out).
    type: int
  group_id:
    description:
      - Group id of the copy; the default goes as with O(owner_id).
    type: int
  follow:
    description:
      - Whether a symlink at O(container_path) is followed, within the container. Otherwise it is replaced, or copied.
    type: bool
    default: false
  local_follow:
    description:
      - Whether a symlink at O(path) is followed. Otherwise the symlink itself is copied, or replaced.
    type: bool
    default: true
  force:
    description:
      - V(true) copies each time. V(false) copies when there is nothing yet.
      - When not set, what differs is copied.
    type: bool
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.attributes
  - vessel.host.attributes.converge
attributes:
  idempotent:
    support: partial
    details:
      - With O(force=true) the file is copied each time.
seealso:
  - module: vessel.host.container_exec
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: A file from the target
  vessel.host.container_copy:
    container: web
    path: /srv/shop/index.html
    container_path: /var/www/html/index.html
    mode: "0644"

- name: A file from its content
  vessel.host.container_copy:
    container: web
    content: "hello\n"
    container_path: /etc/motd
    mode: "0644"

- name: A file from the container to the target
  vessel.host.container_copy:
    container: web
    container_path: /etc/nginx/nginx.conf
    path: /srv/backup/nginx.conf
    direction: out
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode.
  returned: always
  type: list
  elements: str
  sample: ["container web /etc/motd: replace"]
container_path:
  description: The path in the container.
  returned: success
  type: str
  sample: /etc/motd
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.module import (
    Facts,
    VesselModule,
    parse_target_path,
    run,
)
from ansible_collections.vessel.host.plugins.module_utils._converge import copying
from ansible_collections.vessel.host.plugins.module_utils._converge.plan import Plan
from ansible_collections.vessel.host.plugins.module_utils._options.parse import (
    choice,
    integer,
    parse_bool,
    parse_mode,
    parse_name,
    parse_path,
    parse_str,
)
from ansible_collections.vessel.host.plugins.module_utils._options.record import Option

DIRECTIONS = ("in", "out")
ID = integer(0, 2**32 - 2)
OPTIONS = (
    Option("container", parse_name, required=True),
    Option("container_path", parse_path, required=True),
    Option("path", parse_target_path, "path"),
    Option("content", parse_str),
    Option("direction", choice(*DIRECTIONS), choices=DIRECTIONS, default="in", shown_default="in"),
    Option("mode", parse_mode),
    Option("owner_id", ID, "int"),
    Option("group_id", ID, "int"),
    Option("follow", parse_bool, "bool", default=False, shown_default=False),
    Option("local_follow", parse_bool, "bool", default=True, shown_default=True),
    Option("force", parse_bool, "bool"),
)


def converge(module: VesselModule) -> tuple[Plan, Facts]:
    desired = module.desired
    copy = copying.into if desired["direction"] == "in" else copying.out
    plan, diff = copy(module.paths, desired)
    shown = {"diff": diff} if module._diff and diff else {}
    return plan, lambda: {"container_path": desired["container_path"], **shown}


def main() -> None:
    run(
        OPTIONS,
        converge,
        required_if=[("direction", "out", ("path",))],
        required_one_of=[("path", "content")],
        mutually_exclusive=[("path", "content")],
        required_by={"content": ("mode",)},
    )


if __name__ == "__main__":
    main()
