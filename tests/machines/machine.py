# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host of tests/vm in the hands of a test or a comparison: its shell, its power switch, playbooks over ssh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
VM = (sys.executable, str(CHECKOUT / "tests/vm/vm.py"))
PATIENCE = 900.0  # seconds: emulated, and on a machine that has other things to do
# Slirp accepts a connection before anything listens in the guest, and then repeats its packets ever more seldom: a try
# takes no longer than what a busy guest needs for an answer.
_TRY = 1.5


class Failed(Exception):
    """A command did not do what it should."""


class Machine:
    """One that runs; ``directory`` takes an inventory and Ansible's settings, ``collections`` has ours."""

    def __init__(self, name: str, directory: Path, *options: str, collections: Path = CHECKOUT / "collection") -> None:
        self.name = name
        record = json.loads(_vm("start", name, *options))
        self.ports = {int(guest): int(port) for guest, port in record["ports"].items()}
        self.accelerator = str(record["accelerator"])
        self._inventory = directory / "inventory"
        host = f"vm ansible_host={name} ansible_user=root ansible_python_interpreter=/usr/bin/python3"
        self._inventory.write_text(f"{host} ansible_ssh_common_args='-F {record['ssh_config']}'\n")
        settings = directory / "ansible.cfg"
        settings.write_text("[defaults]\nnocows = true\n")
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        found = {"ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_NOCOLOR": "1"}
        self._env = {**kept, "ANSIBLE_CONFIG": str(settings), **found}
        self._directory, self._life = directory, 0

    def ssh(self, script: str, *, input: str = "", check: bool = True) -> str:
        return _vm("ssh", self.name, script, input=input, check=check)

    def write(self, path: str, content: str) -> None:
        self.ssh(f"mkdir -p {os.path.dirname(path)} && cat > {path}", input=content)

    def cut_power(self) -> None:
        _vm("kill", self.name)

    def power_on(self) -> None:
        """The same disk, the same ports; return when systemd has started everything."""
        _vm("start", self.name)
        self._life += 1

    def save(self, tag: str) -> None:
        _vm("save", self.name, tag)

    def load(self, tag: str) -> None:
        _vm("load", self.name, tag)
        self._life += 1  # the connection that Ansible keeps leads to a system that is no more

    def begin(self, playbook: Path, **extra: object) -> subprocess.Popen[str]:
        """ansible-playbook, under way; what it says can be read from its stdout."""
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        argv = [program, "-i", str(self._inventory), str(playbook), "-e", json.dumps(extra)]
        out = subprocess.PIPE
        env = {**self._env, "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self._directory / f"cp{self._life}")}
        return subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True)

    def play(self, playbook: Path, *, timeout: float = PATIENCE, **extra: object) -> str:
        """What a whole run says."""
        with self.begin(playbook, **extra) as playing:
            try:
                output, errors = playing.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                playing.kill()
                raise
        if playing.returncode:
            raise Failed(f"{playbook} ended with {playing.returncode}\n{output}\n{errors}")
        return output

    def page(self, port: int) -> str:
        """What is answered through a published port of the guest's; empty for no answer."""
        url = f"http://127.0.0.1:{self.ports[port]}/"
        with suppress(OSError, ValueError), urllib.request.urlopen(url, timeout=_TRY) as answer:
            return str(answer.read().decode())
        return ""


def until(what: str, look: Callable[[], Any], *, patience: float = PATIENCE, pause: float = 0.1) -> Any:
    """What ``look`` gives, once it gives anything."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        if time.monotonic() > deadline:
            raise Failed(f"{what} did not come within {patience:g} s")
        time.sleep(pause)
    return found


def _vm(verb: str, name: str, *more: str, input: str = "", check: bool = True) -> str:
    argv = [*VM, verb, name, *more]
    done = subprocess.run(argv, input=input, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if check and done.returncode:
        raise Failed(f"{' '.join(argv)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


@contextmanager
def machine(name: str, directory: Path, *options: str, **more: Path) -> Iterator[Machine]:
    """A new one, of which nothing is left afterwards; ``options`` are those of vm.py start."""
    _vm("destroy", name)
    try:
        yield Machine(name, directory, "--owner", str(os.getpid()), *options, **more)
    finally:
        _vm("destroy", name)
