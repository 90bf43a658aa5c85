# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plans of many containers share: everything is read once, and asked of the kernel once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Optional, TypeVar

from .._errors import MonitorError
from .._image.store import Image, Store
from .._kernel.file import holds, write_atomic
from .._network.model import Endpoint, Network, Port
from .._network.observe import Snapshot
from .._paths import Paths
from . import firewall

if TYPE_CHECKING:
    from .._monitor.client import Client

_Made = TypeVar("_Made")


class Attachment:
    """How a container is on its networks, and what it publishes: Paths.endpoints."""

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
        self._made: dict[str, Any] = {}
        # In check mode a stack's images and networks may be declared and not be there yet. Of an image that is to be
        # made the id that it will have, where that is known and in the store.
        self.coming_images: dict[str, Optional[str]] = {}
        self.coming_volumes: dict[str, Mapping[str, Any]] = {}
        self.coming_containers: set[str] = set()
        # Containers whose names, ports or addresses changed in this run, and networks whose names did: attach.commit.
        self.touched: set[str] = set()
        self.touched_networks: set[str] = set()
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
        """By container; the other instance of one, where there are two, by the key that firewall.other has."""
        return {name: Attachment.parse(data) for name, data in firewall.endpoint_files(self.paths)}

    def read_anew(self, *what: str) -> None:
        """``snapshot``, ``attachments`` or ``taken``, when next asked for: somebody else may have changed it."""
        for name in what:
            self.__dict__.pop(name, None)

    def once(self, key: str, make: Callable[[], _Made]) -> _Made:
        """What ``make`` has returned when it was first asked for by this key."""
        if key not in self._made:
            self._made[key] = make()
        made: _Made = self._made[key]
        return made

    @cached_property
    def taken(self) -> dict[str, set[str]]:
        """By network, the addresses that somebody has; kept up to date by who allocates: see attach.taken."""
        return {}

    @cached_property
    def _images(self) -> dict[str, Optional[Image]]:
        return {}

    def image(self, name: str) -> Optional[Image]:
        """By name, or by id; a name that will move has moved already."""
        coming = self.coming_images.get(name)
        if coming:
            found = self.image(coming)
            return None if found is None else replace(found, name=name)
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
        path, data = self.paths.endpoints(name), json.dumps(self.attachments[name].to_json()).encode()
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        if not holds(path, data):
            write_atomic(path, data, durable=False)

    def drop_attachment(self, key: str) -> None:
        self.attachments.pop(key, None)
        its, name = firewall.seen(self.paths, key)
        try:
            os.unlink(its.endpoints(name))
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
