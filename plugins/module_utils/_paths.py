# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where everything of ours is on a host, and what it is called.

One root moves all of it. A root other than the default also gets a tag, which goes into every name that is global
to the kernel (cgroup, netns, link, nftables table), so that an installation can run beside another.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple, Optional

ROOT_ENV = "VESSEL_ROOT"
# What the role setup ships of Python, for all installations of a host: a directory for sys.path.
LIBRARY = "/usr/local/lib/vessel/python"
# What the second id of a container begins with, and no name of one.
_SECOND = "_"


def booted_by_systemd() -> bool:
    """By sd_booted(3)."""
    return os.path.isdir("/run/systemd/system")


def container_of(instance: str) -> str:
    """The name of the container that the instance is of."""
    return instance[len(_SECOND) :] if instance.startswith(_SECOND) else instance


# Not a dataclass: dataclasses bring inspect along, which is a fifth of the start of every command.
class Paths(NamedTuple):
    """``state`` survives a reboot, ``run`` does not; ``tag`` is empty for the default installation.

    What is made of a container is an instance of it, and has one of two ids by turns, so that the next one can be made
    beside the one that serves. Which of them the container's name stands for is told by a link in the store, in
    ``chosen``, or where ``by_instance`` by the name itself, which is an id then.
    """

    state: str = "/var/lib/vessel"
    run: str = "/run/vessel"
    libexec: str = "/usr/local/libexec/vessel"
    bin: str = "/usr/local/bin"
    tag: str = ""
    chosen: str = ""
    by_instance: bool = False

    @classmethod
    def at(cls, root: Optional[str] = None, environ: Optional[Mapping[str, str]] = None) -> Paths:
        """The installation at ``root``, else at $VESSEL_ROOT, else the default one."""
        root = root or (os.environ if environ is None else environ).get(ROOT_ENV) or ""
        if not root or root == "/":
            return cls()
        import hashlib  # it brings OpenSSL along, which a default installation need not load

        root = os.path.realpath(root)
        tag = hashlib.sha256(root.encode()).hexdigest()[:6]
        return cls(f"{root}/lib", f"{root}/run", f"{root}/libexec", f"{root}/bin", tag)

    @property
    def root(self) -> str:
        """What ``at`` takes to come back here; empty for the default."""
        return os.path.dirname(self.state) if self.tag else ""

    @property
    def prefix(self) -> str:
        """What every name of ours that is global to the kernel starts with."""
        return f"vessel-{self.tag}" if self.tag else "vessel"

    # the store
    def resource(self, kind: str, name: str) -> str:
        """Directory of a declared resource: ``kind`` is images, volumes, networks, containers or stacks."""
        return f"{self.state}/{kind}/{name}"

    def instance_link(self, name: str) -> str:
        """Leads to the id that counts; not there as long as that is the first, the name itself."""
        return f"{self.resource('containers', name)}/instance"

    def instance(self, name: str) -> str:
        """The id of what the container's name stands for; it goes into all that two instances can't share."""
        if self.by_instance:
            return name
        if self.chosen and container_of(self.chosen) == name:
            return self.chosen
        try:
            return os.readlink(self.instance_link(name))
        except OSError:
            return name

    def other_instance(self, name: str) -> str:
        """The id that the next instance has, or the one before had."""
        return f"{_SECOND}{name}" if self.instance(name) == name else name

    def seen_with(self, instance: str) -> Paths:
        """The same installation, where the container's name stands for this instance."""
        return self._replace(chosen=instance)

    @property
    def images(self) -> str:
        return f"{self.state}/images"

    @property
    def layers(self) -> str:
        return f"{self.state}/layers"

    # what is running
    @property
    def runtime(self) -> str:
        """``--root`` of the OCI runtime for our own containers."""
        return f"{self.run}/runtime"

    def runtime_state(self, name: str) -> str:
        """What the OCI runtime keeps of the container's process."""
        return f"{self.runtime}/{self.instance(name)}"

    def endpoints(self, name: str) -> str:
        """How the container is on its networks, and what it publishes."""
        return f"{self.run}/endpoints/{self.instance(name)}.json"

    def secrets(self, name: str) -> str:
        return f"{self.run}/secrets/{self.instance(name)}"

    def bundle(self, name: str) -> str:
        """The container's bundle: config.json, monitor.json, rootfs, status.json."""
        return f"{self.run}/bundles/{self.instance(name)}"

    def status(self, name: str) -> str:
        """What the supervisor last wrote of the container."""
        return f"{self.bundle(name)}/status.json"

    @property
    def callers(self) -> str:
        """The sockets of users who have become root, where they get to: what else is running is root's alone."""
        return f"{self.root}/callers" if self.tag else "/run/vessel-callers"

    @property
    def monitor_socket(self) -> str:
        return f"{self.run}/monitor.sock"

    def home(self, name: str) -> str:
        """The container's writable layer, and what lies with it. The first instance's is beside the declaration."""
        return f"{self.state}/containers/{self.instance(name)}"

    def etc(self, name: str) -> str:
        """The container's /etc/hosts, resolv.conf and hostname. It may write to them, so they lie where its writable
        layer does: a full disk is its own trouble, a full /run is everybody's."""
        return f"{self.home(name)}/etc"

    def lock(self, kind: str, name: str) -> str:
        return f"{self.run}/locks/{kind}-{name}"

    def log(self, name: str) -> str:
        """The container's log file (log driver ``file``); it is read after the container ended, also after a reboot.
        Its instances share it, as it tells the life of the container."""
        return f"{self.resource('containers', name)}/log"

    # names global to the kernel
    def netns(self, name: str) -> str:
        return f"/run/netns/{self.prefix}-{self.instance(name)}"

    @property
    def cgroups(self) -> str:
        """The group of all containers, by its path below each hierarchy."""
        if not booted_by_systemd():
            return f"/{self.prefix}"
        # A - in a slice's name stands for a level (systemd.slice(5)).
        return f"/vessel.slice/{self.prefix}.slice" if self.tag else "/vessel.slice"

    def cgroup(self, name: str) -> str:
        """The container's group, as ``linux.cgroupsPath`` has it. Where systemd is, in a scope of its own."""
        instance = self.instance(name)
        if not booted_by_systemd():
            return f"{self.cgroups}/{instance}"
        return f"{self.cgroups}/{self.prefix}-{instance}.scope/container"

    @property
    def nft_table(self) -> str:
        return self.prefix

    def link(self, kind: str, name: str) -> str:
        """A link's name within the kernel's 15 bytes, readable where it fits, else a hash; ``kind`` is two letters."""
        full = f"vsl{self.tag}{kind}-{name}"
        if len(full) <= 15 and not self.tag:
            return full
        import hashlib

        digest = hashlib.sha256(f"{self.tag}/{kind}/{name}".encode()).hexdigest()
        return f"vsl{kind}{digest[:10]}"
