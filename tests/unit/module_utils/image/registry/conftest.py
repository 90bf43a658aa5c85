# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registries that lie, hang and send elsewhere, and a client that waits for nobody."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.module_utils._ansible.urls import Urls
from ansible_collections.vessel.host.plugins.module_utils._image import reference
from ansible_collections.vessel.host.plugins.module_utils._image.registry.client import Client
from ansible_collections.vessel.host.plugins.module_utils._image.registry.session import Settings
from ansible_collections.vessel.host.plugins.module_utils._image.registry.transport import Tls

from .....registry_server import serving


@pytest.fixture(autouse=True)
def _nobody_at_home(tmp_path, monkeypatch):
    """No credentials of whoever runs the tests, and no proxy."""
    for name in (
        "REGISTRY_AUTH_FILE",
        "XDG_RUNTIME_DIR",
        "XDG_CONFIG_HOME",
        "DOCKER_CONFIG",
        "http_proxy",
        "https_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def server():
    with serving() as registry:
        yield registry


@pytest.fixture
def other():
    with serving() as registry:
        yield registry


@pytest.fixture
def waits():
    """The seconds that the client wanted to wait."""
    return []


@pytest.fixture
def client(waits):
    def client(**settings):
        tls = settings.pop("tls", Tls(verify=False))
        return Client(Urls(), Settings(tls=tls, **settings), sleep=waits.append)

    return client


@pytest.fixture
def name(server):
    def name(path="app:1"):
        return reference.parse(f"{server.host}/{path}", "name")

    return name
