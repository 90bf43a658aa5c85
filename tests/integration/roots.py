# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are all this one, each an installation with a root of its own, and plays over them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._cli import install
from ansible_collections.vessel.host.plugins.module_utils._converge import store
from ansible_collections.vessel.host.plugins.module_utils._converge.container import observe
from ansible_collections.vessel.host.tests.kernel.module_runner import COLLECTIONS
from ansible_collections.vessel.host.tests.patience import patient
from ansible_collections.vessel.host.tests.sweeping import sweep

from .controller import CHECKOUT
from .place import Place

IMAGE = {"name": "bb", "source": "template", "template": "busybox"}


class Roots:
    """``place`` is each host's variable for its directory; its installation is in ``vessel`` below."""

    def __init__(self, directory: Path, hosts: Sequence[str]) -> None:
        self.directory = directory
        self.hosts = hosts
        self.places = {host: Place(str(directory / host / "vessel")) for host in hosts}
        lines = [f"{host} place={directory / host}" for host in hosts]
        settings = ["[all:vars]", "ansible_connection=local", "ansible_python_interpreter=/usr/bin/python3"]
        (directory / "inventory").write_text("\n".join([*lines, *settings]) + "\n")
        for host in hosts:
            (directory / host).mkdir()
            self.places[host].task("engine")  # else each task sends it to those that have no container
            self.places[host].task("image", **IMAGE)

    def play(
        self, role: str, *options: str, words: Mapping[str, Any] | None = None, **variables: Any
    ) -> subprocess.Popen[str]:
        """The role on all of them, begun; ``words`` are more of the play's own."""
        book = {
            "hosts": "all",
            "gather_facts": False,
            "module_defaults": {"group/vessel.host.all": {"root": "{{ place }}/vessel"}},
            "vars": variables,
            "roles": [f"vessel.host.{role}"],
            **(words or {}),
        }
        (self.directory / "play.yml").write_text(json.dumps([book]))
        settings = {
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
        }
        command = [f"{Path(sys.executable).parent}/ansible-playbook", "-i", "inventory", "play.yml", *options]
        return subprocess.Popen(
            command,
            cwd=self.directory,
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def done(self, process: subprocess.Popen[str], *, fails: bool = False) -> str:
        """What it said, once it has ended as it should."""
        said, dummy = process.communicate(timeout=patient(300))
        assert (process.returncode != 0) == fails, said
        return said

    def running(self) -> dict[str, list[str]]:
        """The containers that run on each host, by name."""
        return {host: sorted(self.pids(host)) for host in self.hosts}

    def pids(self, host: str) -> dict[str, int]:
        paths = self.places[host].paths
        found = observe.brief(paths, store.names(paths, "containers"))  # in this process: it is asked often
        return {name: container["pid"] for name, container in found.items() if container["pid"]}

    def declared(self, host: str) -> dict[str, list[str]]:
        """The names of containers and stacks that there are, whether they run or not."""
        return {kind: store.names(self.places[host].paths, kind) for kind in ("containers", "stacks")}

    def remove(self) -> None:
        """By a task for each stack, which is quicker than one for all that there is, and by force what that leaves."""
        for host, place in self.places.items():
            for name in self.declared(host)["stacks"]:
                place.task("stack", name=name, state="absent")
            for name in self.declared(host)["containers"]:
                place.task("container", name=name, state="absent")
            install.remove(place.paths)
            sweep(place.paths)
