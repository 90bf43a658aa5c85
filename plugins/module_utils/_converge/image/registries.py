# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images at their registries, which are reached as a task's options say."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Optional

from ..._errors import NetworkError, RegistryError
from ..._image.progress import Progress
from ..._image.reference import Reference, parse
from ..._image.registry import pull, push
from ..._image.registry.client import Client, Settings
from ..._image.registry.endpoint import repository
from ..._image.registry.transport import Tls, Transport
from ..._image.store import Image, Store


@dataclass(frozen=True)
class Remote:
    """What an image's name leads to. ``options`` are those of image_options.ACCESS, and others that do not matter."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    # What the name led to when it was asked for last; empty for nothing.
    said: dict[str, str] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        """The whole name, with what docker leaves out."""
        reference = self._reference
        tag, digest = reference.tag, reference.digest
        return repository(reference) + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")

    def leads_to(self, store: Store, image: Image) -> bool:
        """Is the image what pull() would give now?"""
        with self._telling("pull"):
            self.said["digest"] = pull.resolve(self._reference, self._client)
            return pull.is_current(store, image, self._reference, self.said["digest"])

    def pull(self, store: Store, name: str, **how: Any) -> Image:
        with self._telling("pull"):
            return pull.pull(store, name, self._reference, self._client, **how)

    def has(self, store: Store, image: Image) -> bool:
        """Would push() change nothing?"""
        with self._telling("push"):
            digest = self.said["digest"] = push.there(self._reference, self._client)
            return bool(digest) and push.is_image(store, image, digest, self._reference, self._client)

    def known(self) -> dict[str, list[str]]:
        """For diff mode, without asking: as image_info has it, nothing where that was not asked for."""
        if "digest" not in self.said:
            return {}
        digest = self.said["digest"]
        return {"repo_digests": [f"{repository(self._reference)}@{digest}"] if digest else []}

    def push(self, store: Store, image: Image, progress: Progress) -> None:
        with self._telling("push"):
            push.push(store, image, self._reference, self._client, progress=progress)

    @contextlib.contextmanager
    def _telling(self, verb: str) -> Iterator[None]:
        """What goes wrong between hosts says of which image."""
        try:
            yield
        except (NetworkError, RegistryError) as error:
            doing = verb if str(self) == self.name else f"{verb} {self}"
            raise RegistryError(f"image {self.name}: {doing}: {error.message}", hint=error.hint) from None

    @cached_property
    def _reference(self) -> Reference:
        return parse(self.name, "name")

    @cached_property
    def _client(self) -> Client:
        """It is made when something is asked: a no-change run speaks to nobody."""
        given = {name: self.options[name] for name in ("username", "password", "auth_file") if name in self.options}
        files = {name: self.options[name] for name in ("ca_path", "client_cert", "client_key") if name in self.options}
        tls = Tls(verify=self.options.get("tls_verify", True), **files)
        return Client(transport(), Settings(tls=tls, mirrors=tuple(self.options.get("mirrors") or ()), **given))


def transport() -> Transport:
    if _transport is None:
        raise AssertionError("contract violation: whoever runs us has no HTTP")
    return _transport()


_transport: Optional[Callable[[], Transport]] = None


def set_transport(make: Callable[[], Transport]) -> None:
    """HTTP is Ansible's, which is above this room: it is put here by who runs us, as the supervisor's starter is."""
    global _transport  # noqa: PLW0603 - there is one way out per process
    _transport = make
