# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This host as a user who is not root reaches it: an ssh server on loopback with keys of its own, and sudo."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

USER = f"vessel-test-{os.getpid()}"  # several runs may share a host
SUDOERS = Path("/etc/sudoers.d")
CONFIG = """\
PidFile none
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
MaxSessions 100
MaxStartups 100
Subsystem sftp internal-sftp
"""


@contextlib.contextmanager
def ssh_host(*, root: bool = False) -> Iterator[tuple[Path, str]]:
    """The user's home, and what an inventory says of the host; with ``root`` the user is root by another name. Who is
    left at the end is ended."""
    user = f"{USER}-root" if root else USER
    # Not in pytest's directories: they are root's alone.
    with tempfile.TemporaryDirectory(prefix="vessel-ssh-") as name:
        directory, home = Path(name), Path(name, "home")
        directory.chmod(0o755)
        who = ["--non-unique", "--uid", "0", "--gid", "0"] if root else []
        _run(
            "useradd", "--no-create-home", "--home-dir", str(home), "--shell", "/bin/sh", "--password", "*", *who, user
        )
        try:
            _furnish(directory, home, user)
            with _server(directory) as port:
                yield home, _inventory(directory, user, port)
        finally:
            Path(SUDOERS, user).unlink(missing_ok=True)
            _run("userdel", "--force", user)


def _furnish(directory: Path, home: Path, user: str) -> None:
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "key"))
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "host_key"))
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/authorized_keys").write_text((directory / "key.pub").read_text())
    _run("chown", "-R", f"{user}:", str(home))
    _run("chmod", "-R", "go-rwx", str(home))
    rule = SUDOERS / user
    rule.touch(0o440)
    rule.write_text(f"Defaults:{user} !syslog\n{user} ALL=(ALL:ALL) NOPASSWD: ALL\n")


@contextlib.contextmanager
def _server(directory: Path) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = directory / "sshd_config"
    config.write_text(f"ListenAddress 127.0.0.1:{port}\nHostKey {directory}/host_key\n{CONFIG}")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's own; a boot script makes it where there is a boot
    with open(directory / "server.log", "wb") as log:
        server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", config], stdout=log, stderr=log)
    try:
        _await(port)
        yield port
    finally:
        _end_connections(server.pid)
        server.terminate()
        server.wait(30)


def _await(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "the ssh server does not listen"
            time.sleep(0.05)


def _end_connections(server: int) -> None:
    """Those that ansible keeps open are children of the server, which reaps them."""
    deadline = time.monotonic() + 30
    while children := Path(f"/proc/{server}/task/{server}/children").read_text().split():
        assert time.monotonic() < deadline, "a connection does not end"
        for child in map(int, children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)
        time.sleep(0.05)


def _inventory(directory: Path, user: str, port: int) -> str:
    words = {
        "ansible_connection": "ssh",
        "ansible_host": "127.0.0.1",
        "ansible_port": port,
        "ansible_user": user,
        "ansible_ssh_private_key_file": directory / "key",
        "ansible_control_path_dir": directory / "control",
        "ansible_ssh_common_args": "'-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR'",
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    return " ".join(["far", *(f"{name}={value}" for name, value in words.items())])


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)
