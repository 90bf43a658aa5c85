# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to registries, as a task's options say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Optional

from .._image.registry.client import Client, Settings
from .._image.registry.transport import Tls, Transport


def client(access: Mapping[str, Any]) -> Client:
    """``access`` are options of image_options.ACCESS."""
    if _transport is None:
        raise AssertionError("contract violation: whoever runs us has no HTTP")
    given = {name: access[name] for name in ("username", "password", "auth_file") if name in access}
    files = {name: access[name] for name in ("ca_path", "client_cert", "client_key") if name in access}
    tls = Tls(verify=access.get("tls_verify", True), **files)
    return Client(_transport(), Settings(tls=tls, mirrors=tuple(access.get("mirrors") or ()), **given))


_transport: Optional[Callable[[], Transport]] = None


def set_transport(make: Callable[[], Transport]) -> None:
    """HTTP is Ansible's, which is above this room: it is put here by who runs us, as the supervisor's starter is."""
    global _transport  # noqa: PLW0603 - there is one way out per process
    _transport = make
