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


def booted_by_systemd() -> bool:
    """By sd_booted(3)."""
    return os.path.isdir("/run/systemd/system")


# Not a dataclass: dataclasses bring inspect along, which is a fifth of the start of every command.
class Paths(NamedTuple):
    """``state`` survives a reboot, ``run`` does not; ``tag`` is empty for the default installation."""

    state: str = "/var/lib/vessel"
    run: str = "/run/vessel"
    libexec: str = "/usr/local/libexec/vessel"
    bin: str = "/usr/local/bin"
    tag: str = ""

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

    def bundle(self, name: str) -> str:
        """The container's bundle: config.json, monitor.json, rootfs, status.json."""
        return f"{self.run}/bundles/{name}"

    def status(self, name: str) -> str:
        """What the supervisor last wrote of the container."""
        return f"{self.bundle(name)}/status.json"

    @property
    def monitor_socket(self) -> str:
        return f"{self.run}/monitor.sock"

    def etc(self, name: str) -> str:
        """The container's /etc/hosts, resolv.conf and hostname. It may write to them, so they lie where its writable
        layer does: a full disk is its own trouble, a full /run is everybody's."""
        return f"{self.resource('containers', name)}/etc"

    def lock(self, kind: str, name: str) -> str:
        return f"{self.run}/locks/{kind}-{name}"

    def log(self, name: str) -> str:
        """The container's log file (log driver ``file``); it is read after the container ended, also after a reboot."""
        return f"{self.resource('containers', name)}/log"

    # names global to the kernel
    def netns(self, name: str) -> str:
        return f"/run/netns/{self.prefix}-{name}"

    @property
    def cgroups(self) -> str:
        """The group of all containers, by its path below each hierarchy."""
        if not booted_by_systemd():
            return f"/{self.prefix}"
        # A - in a slice's name stands for a level (systemd.slice(5)).
        return f"/vessel.slice/{self.prefix}.slice" if self.tag else "/vessel.slice"

    def cgroup(self, name: str) -> str:
        """The container's group, as ``linux.cgroupsPath`` has it. Where systemd is, in a scope of its own."""
        if not booted_by_systemd():
            return f"{self.cgroups}/{name}"
        return f"{self.cgroups}/{self.prefix}-{name}.scope/container"

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
