# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: container
version_added: 0.1.0
short_description: Run tasks in a container of a host
description:
  - Runs any task in a running container, on any host that ansible-core reaches by ssh, or on the controller itself.
  - It is one hop. The host is reached by P(ansible.builtin.ssh#connection), and all of that plugin's variables and
    settings are the host's own, such as C(ansible_host), C(ansible_user), C(ansible_port) and
    C(ansible_ssh_common_args). On the host C(vessel) brings the command into the container.
  - All else is the container's. C(become) becomes another user in it, C(ansible_python_interpreter) and
    C(ansible_remote_tmp) are paths in it.
  - Modules need Python in the container, M(ansible.builtin.copy) and M(ansible.builtin.fetch) too; where it has none,
    M(vessel.host.container_copy) on the host copies. M(ansible.builtin.raw) and M(ansible.builtin.script) need a shell.
    The connection itself puts and fetches files without any program of the container's.
  - Files of any size are put and fetched in little memory. A file is replaced in one step, and a connection that breaks
    leaves what was there. Symlinks in the container do not lead out of it.
author:
  - The vessel.host authors (@vessel-host)
options:
  container:
    description: Name of the container.
    type: str
    required: true
    vars:
      - name: ansible_vessel_container
  remote_user:
    description:
      - Who tasks run as in the container, as V(USER) or V(USER:GROUP), names of the container or numbers.
      - The default is the user of the container's own process.
    type: str
    vars:
      - name: ansible_vessel_user
  transport:
    description:
      - How the host is reached.
      - With V(local) it is the controller itself, and there is no ssh.
    type: str
    choices: [ssh, local]
    default: ssh
    vars:
      - name: ansible_vessel_transport
  host_become:
    description:
      - The beginning of a command with which the user of the host becomes root there, such as V(sudo -n). C(vessel)
        needs root. It must not ask for a password.
      - C(become) and its variables are for the container, not for the host.
    type: str
    default: ''
    vars:
      - name: ansible_vessel_become
  executable:
    description:
      - The command C(vessel) of the host. A name without a slash is looked for in the C(PATH) that there is without a
        login, or in that of O(host_become).
      - The default is C(bin/vessel) of O(root), and C(/usr/local/bin/vessel) where that is not set.
    type: str
    default: ''
    vars:
      - name: ansible_vessel_executable
  root:
    description:
      - Directory of an installation on the host that is kept apart from its own, as the option C(root) of the modules.
    type: str
    default: ''
    vars:
      - name: ansible_vessel_root
  persist:
    description:
      - For how many seconds after the last task a process stays on the host that has started already. The next task
        uses it, and takes a fraction of the time. It is to C(vessel) what C(ControlPersist) is to ssh.
      - From the second task on there is no command on the host. ssh forwards that process's socket to the directory of
        its own (C(ansible_control_path_dir)), for as long as C(ControlPersist) keeps the connection. The host's sshd
        must allow that (C(AllowStreamLocalForwarding), which is the default); where it does not, and for an
        O(executable) of one's own, each task is a command.
      - Who becomes root with O(host_become) gets a process and a socket of their own by C(vessel session). All
        processes of that user on the host may use it for as long as it stays. What lets users become root decides on
        that command too, and logs that one and not each task's. Where it says no, each task is a command. It is asked
        again after ten minutes, whatever it has said.
      - V(0) starts each anew.
    type: int
    default: 60
    vars:
      - name: ansible_vessel_persist
  pipelining:
    description:
      - Whether modules are sent to Python's standard input, without files in C(ansible_remote_tmp). This is faster, and
        all that a container needs that is read-only is a tmpfs on C(/tmp).
      - Not done where C(become) needs a terminal, as V(su) does.
    type: bool
    default: true
    env:
      - name: ANSIBLE_PIPELINING
    ini:
      - section: defaults
        key: pipelining
      - section: connection
        key: pipelining
    vars:
      - name: ansible_pipelining
      - name: ansible_vessel_pipelining
notes:
  - The host needs C(vessel). The role P(vessel.host.setup#role) installs it there, and so do the module
    M(vessel.host.engine) and any task that makes a container.
  - A host that can't be reached, and a container that does not run, make the task's host unreachable. So
    M(ansible.builtin.wait_for_connection) waits for a container, too.
  - There is no terminal on the host, so standard error is told apart from standard output. A C(become) method that
    needs one has one of the container's.
  - A command that is not given any input finds the end of its standard input.
  - An exit code of 255 is the command's own, and not taken for one of ssh.
seealso:
  - plugin: ansible.builtin.ssh
    plugin_type: connection
  - module: vessel.host.container_exec
  - module: vessel.host.container_copy
"""

EXAMPLES = r"""
# An inventory with a host, and two of its containers
all:
  hosts:
    host1:
      ansible_host: host1.example.com
      ansible_user: deploy
  children:
    containers:
      vars:
        ansible_connection: vessel.host.container
        ansible_vessel_become: sudo -n
        ansible_python_interpreter: /usr/bin/python3
      hosts:
        web.host1:
          ansible_host: host1.example.com
          ansible_user: deploy
          ansible_vessel_container: web
        db.host1:
          ansible_host: host1.example.com
          ansible_user: deploy
          ansible_vessel_container: db
          ansible_vessel_user: postgres

# A container of the controller itself
local-web:
  ansible_connection: vessel.host.container
  ansible_vessel_transport: local
  ansible_vessel_container: web
"""

import copy
import os
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase
from ansible.plugins.loader import connection_loader
from ansible.utils.display import Display
from ansible_collections.vessel.host.plugins.plugin_utils.hop import TRANSPORTS, Done, Hop, Streams, argv

display = Display()
INSTALLED_BY = "the role vessel.host.setup installs it, and so does the module vessel.host.engine"


class Connection(ConnectionBase):
    """The host's own connection with words of ``vessel`` before the command.

    A worker loads this anew for each task: what is imported here is paid for each time, and what ansible-core has
    loaded is asked for by the names that it has it under.
    """

    transport = "vessel.host.container"
    has_pipelining = True

    def __init__(self, play_context: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(play_context, *args, **kwargs)
        self._given = (play_context, *args), {**kwargs, "shell": self._shell}
        self._links: dict[str, Any] = {}

    def _linked(self, transport: str) -> Any:
        if transport not in self._links:
            args, kwargs = self._given
            self._links[transport] = connection_loader.get(transport, *args, **kwargs)
        return self._links[transport]

    def _resolve_option_variables(self, variables: Any, templar: Any) -> dict[str, Any]:
        found = super()._resolve_option_variables(variables, templar)
        transport = found.get("ansible_vessel_transport", "ssh")
        if transport in TRANSPORTS:  # what else it may be is refused with the options
            found.update(self._linked(transport)._resolve_option_variables(variables, templar))
        return found

    def set_options(self, task_keys: Any = None, var_options: Any = None, direct: Any = None) -> None:
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        self._linked(self.get_option("transport")).set_options(task_keys=task_keys, var_options=var_options)

    @property
    def _link(self) -> Any:
        """The host's connection. What its play says may be another by now, as in a loop."""
        link = self._linked(self.get_option("transport"))
        link._play_context = copy.copy(self._play_context)
        link.set_become_plugin(self.become)
        return link

    @property
    def _container(self) -> str:
        return str(self.get_option("container"))

    def _hop(self) -> Hop:
        options = ("transport", "host_become", "executable", "root", "persist")
        return Hop(self._link, *(self.get_option(name) for name in options))

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def is_pipelining_enabled(self, wrap_async: bool = False) -> bool:
        with_terminal = self.get_option("transport") == "ssh" and self._link.has_tty
        return not with_terminal and super().is_pipelining_enabled(wrap_async)

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        become = self.become if sudoable else None
        flags = ["-i"] if in_data or (become and become.expect_prompt()) else []
        if become and become.require_tty:
            flags.append("-t")
        command = argv(cmd, self._play_context.executable or "/bin/sh")
        words = [*flags, *self._user(), "--", self._container, *command]
        hop = self._hop()
        display.vvv(f"EXEC IN CONTAINER {self._container} {cmd}", host=self._play_context.remote_addr)
        done = hop.vessel("exec", words, in_data=in_data, sudoable=sudoable)
        if done.code is None:
            raise AnsibleConnectionFailure(self._reason(hop, done))
        return done.code, done.stdout, done.stderr

    def _user(self) -> list[str]:
        user = self.get_option("remote_user")
        return ["-u", str(user)] if user else []

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)
        display.vvv(f"PUT {in_path} TO {out_path} IN {self._container}", host=self._play_context.remote_addr)
        try:
            info = os.stat(in_path)
        except FileNotFoundError:
            raise AnsibleFileNotFound(f"file or module does not exist: {in_path}") from None
        # As sftp has it, where nobody has set another umask.
        words = ["--mode", f"{info.st_mode & 0o755:o}", "--size", str(info.st_size), "--", "-", self._there(out_path)]
        self._copy(words, Streams(stdin=in_path))

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)
        display.vvv(f"FETCH {in_path} FROM {self._container} TO {out_path}", host=self._play_context.remote_addr)
        try:
            self._copy(["--", self._there(in_path), "-"], Streams(stdout=out_path))
        except (AnsibleError, OSError):  # the second is of the file itself, as on a disk that is full
            if os.path.isfile(out_path):  # what has come of it
                os.unlink(out_path)
            raise

    def _there(self, path: str) -> str:
        return f"{self._container}:{os.path.join('/', path)}"

    def _copy(self, words: list[str], streams: Streams) -> None:
        hop = self._hop()
        done = hop.vessel("cp", [*self._user(), *words], streams=streams)
        if done.code is None:
            # What vessel says of a file is no word on the connection.
            kind = AnsibleError if done.said() and done.rc == 1 else AnsibleConnectionFailure
            raise kind(self._reason(hop, done))

    def _reason(self, hop: Hop, done: Done) -> str:
        """Why nothing was run: in vessel's own words where it has said any."""
        where = "the controller" if self.get_option("transport") == "local" else self._link.host
        said, text = done.said(), done.text()
        if not hop.become and (said.endswith("needs root") or "Permission denied" in text):
            return f"{hop.executable} needs root on {where}: set ansible_vessel_become, such as to sudo -n [{text}]"
        if said:
            return f"{said}, on {where}"
        # Which of the two is missing, the way to become root or vessel, the shell says by its name.
        if (done.rc == 127 or "not found" in text) and (not hop.become or hop.executable in text):
            return f"{hop.executable} is not there on {where}: {INSTALLED_BY} [{text}]"
        command = f"{hop.become} {hop.executable}".lstrip()
        return f"{command} was not run on {where} (exit code {done.rc}): {text or 'nothing was said'}"

    def reset(self) -> None:
        self._link.reset()

    def close(self) -> None:
        for link in self._links.values():
            link.close()
        self._connected = False
