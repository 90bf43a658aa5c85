# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a reboot: what was declared and running comes back, from what was stored."""

from __future__ import annotations

from .._paths import Paths
from . import containers, firewall, networks, prepare, store, volumes
from .host import Host
from .plan import Plan


def restore(paths: Paths) -> Plan:
    """Networks, volumes, then every container that is declared and was not stopped; the plan, done."""
    result = Plan()
    host = Host(paths)
    for name in store.names(paths, volumes.KIND):
        result.extend(volumes.plan(paths, {"name": name}))
    for name in store.names(paths, networks.KIND):
        result.extend(networks.plan(paths, {"name": name}, seen=host.snapshot, others=host.networks))
    result.extend(firewall.plan(paths))
    for name in store.names(paths, prepare.KIND):
        if not prepare.look(paths, name).pid:
            result.extend(containers.plan(paths, {"name": name, "state": "started"}, host=host))
    result.apply()
    return result
