# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reaching a machine: its key, its configuration file, and when its sshd answers."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from . import cache, programs
from .errors import VmError

ANSWER = 0.6  # seconds
_PAUSE = 0.1
_CONFIG = """\
Host {name}
  HostName 127.0.0.1
  Port {port}
  User root
  IdentityFile "{key}"
  IdentitiesOnly yes
  UserKnownHostsFile "{known_hosts}"
  HostKeyAlias {name}
  StrictHostKeyChecking yes
  CheckHostIP no
  PasswordAuthentication no
  ConnectTimeout 60
  ServerAliveInterval 30
  ServerAliveCountMax 4
  LogLevel ERROR
"""
# Where a client that shares a connection (ControlMaster) makes its socket; a socket's path is at most 107 bytes long,
# and ssh appends 17 while it makes one.
_CONTROL = "control"
_CONTROL_LENGTH = 90


def key() -> Path:
    """The one that opens all machines of this cache."""
    path = cache.directory() / "id_ed25519"
    with cache.locked(path):
        if not path.with_suffix(".pub").exists():
            path.unlink(missing_ok=True)
            _generate(path)
    return path


def host_key(directory: Path) -> Path:
    """A new key for an sshd."""
    path = directory / "host_key"
    path.unlink(missing_ok=True)
    _generate(path)
    return path


def _generate(path: Path) -> None:
    programs.need("ssh-keygen")
    programs.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vessel-vm", "-f", str(path), timeout=30)


def configure(directory: Path, name: str, port: int) -> None:
    """Write ``ssh_config``, which ssh, scp, Ansible and testinfra read with -F."""
    text = _CONFIG.format(name=name, port=port, key=key(), known_hosts=directory / "known_hosts")
    control = str(directory / _CONTROL)
    text += f'  ControlPath "{control}"\n' if len(control) <= _CONTROL_LENGTH else ""
    (directory / "ssh_config").write_text(text)


def forget(directory: Path) -> None:
    """Nobody shares the present connection any more: it leads to a system that is about to go, and would hang."""
    (directory / _CONTROL).unlink(missing_ok=True)


def trust(directory: Path, name: str, host_key: Path) -> None:
    """From now on the machine is who has this key."""
    kind, public = host_key.with_suffix(".pub").read_text().split()[:2]
    (directory / "known_hosts").write_text(f"{name} {kind} {public}\n")


def wait(port: int, deadline: float) -> None:
    """Until sshd greets.

    User-mode networking accepts a connection before the guest is up, and then sends its packets again after longer
    and longer pauses; so each try gets a short time, and a new connection follows. ``deadline`` is time.monotonic()'s.
    """
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=ANSWER) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        time.sleep(_PAUSE)
    raise VmError(f"no sshd answers at port {port}")


def run(directory: Path, script: str, *, timeout: float = 120.0, **options: Any) -> str:
    """What a shell script printed in the machine; one that fails is a VmError."""
    argv = ["ssh", "-F", str(directory / "ssh_config"), directory.name, "--", script]
    return programs.run(*argv, timeout=timeout, **options)


def copy(directory: Path, source: str, target: str, *, timeout: float) -> None:
    """By scp; the machine's side is written ``:path``."""
    there = [f"{directory.name}{path}" if path.startswith(":") else path for path in (source, target)]
    programs.run("scp", "-q", "-r", "-p", "-F", str(directory / "ssh_config"), *there, timeout=timeout)


def interactive(directory: Path, words: list[str]) -> int:
    """With this process's terminal; the words as ssh itself takes them, its exit code too."""
    programs.need("ssh")
    return subprocess.run(["ssh", "-F", str(directory / "ssh_config"), directory.name, *words], check=False).returncode
