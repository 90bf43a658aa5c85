# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""podman with runc on this host's cgroups, and all of its files in one directory: what its settings have to say."""

from __future__ import annotations

from pathlib import Path

CONTAINERS_CONF = """\
[containers]
default_ulimits = []
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
static_dir = "{root}/static"
tmp_dir = "{root}/tmp"
volume_path = "{root}/volumes"
[engine.runtimes]
runc = ["/usr/sbin/runc"]
[network]
network_backend = "netavark"
network_config_dir = "{root}/networks"
"""
STORAGE_CONF = """\
[storage]
driver = "{driver}"
graphroot = "{root}/graph"
runroot = "{root}/run"
"""


def write(root: Path, *, driver: str = "overlay") -> dict[str, str]:
    """Write the settings; the variables by which podman, skopeo and buildah find them."""
    containers, storage = root / "containers.conf", root / "storage.conf"
    containers.write_text(CONTAINERS_CONF.format(root=root))
    storage.write_text(STORAGE_CONF.format(root=root, driver=driver))
    return {"CONTAINERS_CONF": str(containers), "CONTAINERS_STORAGE_CONF": str(storage)}
