# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a host into one of its containers: the words of ``vessel`` for that, how Ansible's connection to the host runs
them, and what their end says.

``vessel`` tells the exit code of what it ran in a last line of stderr, with a word that nobody else knows. Where that
line is missing, nothing was run; and a command's 255 is not taken for ssh's.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.common.text.converters import to_bytes, to_text

from . import shortcut

OURS = "vessel: "  # what it begins its own words with


class Streams(NamedTuple):
    """Files of the controller's instead of what is read into memory."""

    stdin: str = ""
    stdout: str = ""


class Done(NamedTuple):
    """``code`` is the exit code of what was run in the container; None when ``vessel`` ran nothing, and ``rc`` is what
    the host's shell says of that."""

    code: int | None
    rc: int
    stdout: bytes
    stderr: bytes

    def said(self) -> str:
        """The last words of vessel's; empty when it said none."""
        lines = to_text(self.stderr).splitlines()
        return next((line[len(OURS) :].rstrip() for line in reversed(lines) if line.startswith(OURS)), "")

    def text(self) -> str:
        return to_text(self.stderr + self.stdout).strip()


class Hop:
    """``link`` is the host's connection, of the kind ``transport``; ``become`` the beginning of a command that makes us
    root on the host, ``root`` a moved installation, and for ``persist`` seconds a process stays there that is fast."""

    def __init__(self, link: Any, transport: str, become: str, executable: str, root: str, persist: int) -> None:
        self._run = TRANSPORTS[transport]
        self._link = link
        if transport == "ssh":
            link.host = link.get_option("host") or link._play_context.remote_addr
        self._root = root
        self._local = transport == "local"
        self.become = become
        usual = f"{root.rstrip('/') or '/usr/local'}/bin/vessel"
        self.executable = executable or usual
        self._is_usual = self.executable == usual
        self._persist = ["--persist", str(persist)] if persist > 0 else []
        self._words = [*shlex.split(become), self.executable, *(["--root", root] if root else [])]

    def vessel(
        self,
        verb: str,
        words: Sequence[str],
        *,
        in_data: bytes | None = None,
        sudoable: bool = False,
        streams: Streams = Streams(),  # noqa: B008 - a tuple
    ) -> Done:
        report = secrets.token_hex(16)
        words = ["--report", report, *words]
        # A terminal of ours is not one that another process could attend.
        persist = [] if "-t" in words[: words.index("--")] else self._persist
        path = self._shortcut() if persist and not self._asks(sudoable) else ""
        mask = shortcut.umask() if self._local else ""
        found = shortcut.run(path, self._root, [verb, *words], in_data, *streams, mask) if path else None
        if found is None:
            command = shlex.join([*self._words, verb, *persist, *words])
            found = self._run(self._link, command, in_data, sudoable, streams)
            if path and not self._local:
                shortcut.bring(self._link, path, self._socket)
        return ended(report, *found)

    def _shortcut(self) -> str:
        """Where the socket is to which there is no need of a command; empty where a command may have another
        installation, and for who needs one to become root of the controller."""
        if not self._is_usual:
            return ""
        path = shortcut.there(self._root)
        if self._local:
            other = os.environ.get("VESSEL_ROOT") and not self._root
            return "" if self.become or os.geteuid() or other else path
        return shortcut.here(self._link, self.become, path)

    def _socket(self) -> str:
        """Where the host has it. Who becomes root is given one of their own, where what lets them says yes to that:
        AnsibleConnectionFailure where it does not."""
        if not self.become:
            return shortcut.there(self._root)
        words = shlex.join([*self._words, "session", *self._persist, "--for"])
        # In a shell that we know: a user may have another one.
        command = shlex.join(["/bin/sh", "-c", f'exec {words} "$(id -u)"'])
        code, said, dummy = self._run(self._link, command, None, False, Streams())
        path = to_text(said).strip().rpartition("\n")[2]
        if code or not path.startswith("/"):
            raise AnsibleConnectionFailure(f"no session: {path}")
        return path

    def _asks(self, sudoable: bool) -> bool:
        """Whether the command will ask for a password: Ansible's own connections know what to answer."""
        return bool(sudoable and self._link.become and self._link.become.expect_prompt())


def ended(report: str, rc: int, stdout: bytes, stderr: bytes) -> Done:
    found = re.search(rb"%s (\d+)\r?\n" % report.encode(), stderr)
    if found is None:
        return Done(None, rc, stdout, stderr)
    return Done(int(found[1]), rc, stdout, stderr[: found.start()] + stderr[found.end() :])


def argv(command: str, shell: str) -> list[str]:
    """What Ansible has made a shell's command is taken apart again: each shell more quotes all quotes anew."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if len(words) == 3 and command == f"{words[0]} -c {shlex.quote(words[2])}" and words[0] == shlex.quote(words[0]):
        return words
    return [shell, "-c", command]


def over_ssh(
    link: Any, command: str, in_data: bytes | None, sudoable: bool, streams: Streams
) -> tuple[int, bytes, bytes]:
    """By ansible.builtin.ssh, without a terminal on the host: that would make one of stdout and stderr."""
    program = link.get_option("ssh_executable")
    words = link._build_command(program, "ssh", link.host, command)
    at = words.index(to_bytes(program))  # sshpass may be before it
    words[at:at] = map(to_bytes, _redirected(streams))
    return link._run(words, in_data, sudoable=sudoable)


def _redirected(streams: Streams) -> list[str]:
    """ssh reads and writes a file itself: Ansible would have all of it in memory, several times."""
    if streams.stdin:
        return ["/bin/sh", "-c", 'exec "$@" <"$0"', os.path.abspath(streams.stdin)]
    if streams.stdout:
        return ["/bin/sh", "-c", 'exec "$@" >"$0"', os.path.abspath(streams.stdout)]
    return []


def here(link: Any, command: str, in_data: bytes | None, sudoable: bool, streams: Streams) -> tuple[int, bytes, bytes]:
    """By ansible.builtin.local."""
    link.cwd = None
    for sign, path in (("<", streams.stdin), (">", streams.stdout)):
        if path:
            command += f" {sign}{shlex.quote(os.path.abspath(path))}"
    try:
        return link.exec_command(command, in_data, sudoable)
    except AnsibleConnectionFailure:
        raise
    except AnsibleError as error:  # it waited for become, in vain; what was said on stderr is in the text
        return 1, b"", to_bytes(f"{error}\n")


TRANSPORTS = {"ssh": over_ssh, "local": here}
