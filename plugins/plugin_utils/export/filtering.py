# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filters have in common: their arguments, and errors in Ansible's form."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleTemplatePluginError
from ansible_collections.vessel.host.plugins.module_utils._errors import VesselError
from ansible_collections.vessel.host.plugins.module_utils._options.parse import parse_bool
from ansible_collections.vessel.host.plugins.module_utils._options.parse import size as size_from

from . import compose, manifests, pod, quadlet, service
from .declaration import Stack, hidden, read
from .losses import Losses


def _answer(form: str, given: Any, lossy: Any, export: Callable[[Stack, Losses], Any]) -> Any:
    losses = Losses(form)
    try:
        left_out = parse_bool(lossy, "lossy")
        found = export(read(given), losses)
        if not left_out:
            losses.raise_all()
    except VesselError as error:
        raise AnsibleTemplatePluginError(hidden(given, str(error))) from None
    return found


def to_compose(stack: Any, lossy: Any = False) -> dict[str, Any]:
    found: dict[str, Any] = _answer(service.FORM, stack, lossy, compose.export)
    return found


def to_quadlet(stack: Any, lossy: Any = False) -> dict[str, str]:
    found: dict[str, str] = _answer(quadlet.FORM, stack, lossy, quadlet.export)
    return found


def to_kubernetes(
    stack: Any, lossy: Any = False, storage: Any = "1g", secret_values: Any = False
) -> list[dict[str, Any]]:
    def export(declared: Stack, losses: Losses) -> list[dict[str, Any]]:
        # Kubernetes' own spelling ends in an i, which sizes here may have before a b only.
        text = storage.removesuffix("i") if isinstance(storage, str) else storage
        size = pod.quantity(size_from(1)(text, "storage"))
        values = parse_bool(secret_values, "secret_values")
        return manifests.export(declared, losses, storage=size, secret_values=values)

    found: list[dict[str, Any]] = _answer(pod.FORM, stack, lossy, export)
    return found
