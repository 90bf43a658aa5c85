# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plans of many containers share: everything is read once, and asked of the kernel once."""

from __future__ import annotations

import json
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, Optional

from .._errors import MonitorError
from .._image.store import Image, Store
from .._kernel.file import holds, write_atomic
from .._network.model import Endpoint, Network, Port
from .._network.observe import Snapshot
from .._paths import Paths
from . import firewall

if TYPE_CHECKING:
    from .._monitor.client import Client


class Attachment:
    """How a container is on its networks, and what it publishes: run/endpoints/NAME.json."""

    def __init__(self, endpoints: list[Endpoint], ports: list[Port], *, running: bool = False) -> None:
        self.endpoints = endpoints
        self.ports = ports
        self.running = running

    @classmethod
    def parse(cls, data: dict[str, Any]) -> Attachment:
        endpoints = [Endpoint(**{**entry, "aliases": tuple(entry["aliases"])}) for entry in data["endpoints"]]
        return cls(endpoints, [Port(**entry) for entry in data["ports"]], running=bool(data["running"]))

    def to_json(self) -> dict[str, Any]:
        return {
            "endpoints": [{**vars(endpoint), "aliases": list(endpoint.aliases)} for endpoint in self.endpoints],
            "ports": [vars(port) for port in self.ports],
            "running": self.running,
        }


class Host:
    """One module run's view of the host. What a step changes, it changes here too."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.store = Store(paths)
        self._client: Optional[Client] = None
        # In check mode a stack's images and networks may be declared and not be there yet.
        self.coming_images: set[str] = set()
        self.coming_volumes: set[str] = set()
        self.coming_containers: set[str] = set()
        # Containers whose names, ports or addresses changed in this run: see attach.commit.
        self.touched: set[str] = set()
        # How long a container may take to become what others wait for, in seconds.
        self.wait_timeout = 300.0

    @cached_property
    def networks(self) -> dict[str, Network]:
        return firewall.networks(self.paths)

    @cached_property
    def elsewhere(self) -> list[tuple[str, Port]]:
        """Ports of other installations: firewall.elsewhere."""
        return firewall.elsewhere(self.paths)

    @cached_property
    def snapshot(self) -> Snapshot:
        from .networks import snapshot

        return snapshot()

    @cached_property
    def attachments(self) -> dict[str, Attachment]:
        return {name: Attachment.parse(data) for name, data in firewall.endpoint_files(self.paths)}

    @cached_property
    def _images(self) -> dict[str, Optional[Image]]:
        return {}

    def image(self, name: str) -> Optional[Image]:
        if name not in self._images:
            self._images[name] = self.store.get(name)
        return self._images[name]

    def client(self) -> Client:
        """The supervisor, which is started when there is none."""
        if self._client is None:
            self._client = connect(self.paths)
        return self._client

    def has_supervisor(self) -> bool:
        """Does one answer, of whatever version?"""
        from .._monitor import client

        if self._client is not None:
            return True
        try:
            client.connect(self.paths).close()
        except MonitorError:
            return False
        return True

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def save_attachment(self, name: str) -> None:
        """It lies on a file system that a reboot empties, so it need not reach the disk."""
        directory = f"{self.paths.run}/endpoints"
        os.makedirs(directory, mode=0o700, exist_ok=True)
        data = json.dumps(self.attachments[name].to_json()).encode()
        if not holds(f"{directory}/{name}.json", data):
            write_atomic(f"{directory}/{name}.json", data, durable=False)

    def drop_attachment(self, name: str) -> None:
        self.attachments.pop(name, None)
        try:
            os.unlink(f"{self.paths.run}/endpoints/{name}.json")
        except FileNotFoundError:
            pass


# How a supervisor is found or started. The engine's installer is above this room, so it is put here by who runs us.
def connect(paths: Paths) -> Client:
    from .._monitor import client

    result: Client = _starter(paths) if _starter is not None else client.connect(paths)
    return result


_starter: Any = None


def set_starter(starter: Any) -> None:
    """``starter(paths)`` returns a connected client of a supervisor of this version."""
    global _starter  # noqa: PLW0603 - there is one way up per process
    _starter = starter
