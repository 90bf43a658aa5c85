# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that start containers have in common: the way to the supervisor, and what is told afterwards."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.ansible_release import __version__

from .._cli import install
from .._converge import history, host, store
from .._converge.container import observe
from .._converge.host import Host
from .._converge.image import registries
from .module import VesselModule
from .urls import Urls


def prepare_engine(module: VesselModule) -> None:
    """From now on a supervisor is installed and started when one is needed; check mode needs none."""
    carry_engine()
    host.set_starter(install.ensure)
    registries.set_transport(Urls)
    if not module.check_mode:
        install.refresh(module.paths)


def carry_engine() -> None:
    """Whatever is installed from now on has Ansible's own files too, so that modules run from it."""
    install.carry(__version__)


def host_of(module: VesselModule) -> Host:
    prepare_engine(module)
    return Host(module.paths)


def container_facts(module: VesselModule) -> dict[str, Any]:
    return {"container": observe.fact(module.paths, module.desired["name"])}


def stack_facts(module: VesselModule) -> dict[str, Any]:
    """Of what the task declares; without that, of what the stack has."""
    stack = module.desired["name"]
    known = store.read_spec(module.paths, history.KIND, stack) or {}
    names = list(module.desired.get("containers") or known.get("containers") or [])
    return {"containers": observe.brief(module.paths, names), "revision": history.revision(module.paths, stack)}
