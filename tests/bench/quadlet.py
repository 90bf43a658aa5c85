# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The other side of the reboot: podman's quadlet files (podman-systemd.unit(5)) of what a stack declares."""

from __future__ import annotations

import json
from typing import Any

DIRECTORY = "/etc/containers/systemd"
# An image with busybox in it, as the template of that name makes it: no registry is asked.
IMPORT = """
set -e
top=$(mktemp -d)
mkdir -p $top/bin $top/tmp $top/etc
cp /bin/busybox $top/bin/
for name in $(/bin/busybox --list); do [ $name = busybox ] || ln -s busybox $top/bin/$name; done
tar -C $top -c . | podman import --quiet - {image}
rm -r $top
"""


def importing(image: str) -> str:
    """The script that gives podman an image of that name."""
    return IMPORT.format(image=image)


def files(stack: dict[str, Any]) -> dict[str, str]:
    """File name: content."""
    found = {f"{name}.volume": "[Volume]\n" for name in stack["volumes"]}
    for name, network in stack["networks"].items():
        found[f"{name}.network"] = f"[Network]\nSubnet={network['subnet']}\n"
    for name, spec in stack["containers"].items():
        found[f"{name}.container"] = _container(name, spec)
    return found


def _container(name: str, spec: dict[str, Any]) -> str:
    needs = [f"{other}.service" for other in spec.get("depends_on", {})]
    check = spec["healthcheck"]
    lines = ["[Unit]", *(f"{key}={need}" for need in needs for key in ("Requires", "After"))]
    lines += ["[Container]", f"ContainerName={name}", "Image=localhost/busybox:latest", "Pull=never"]
    lines += [f"Exec={' '.join(map(_quoted, spec['command']))}"]
    lines += [f"Network={network['name']}.network" for network in spec["networks"]]
    lines += [f"Volume={volume.replace(':', '.volume:', 1)}" for volume in spec.get("volumes", [])]
    lines += [f"PublishPort={port}" for port in spec.get("published_ports", [])]
    lines += [f"PodmanArgs=--memory={spec['memory']}", "LogDriver=k8s-file"]
    # The unit is active, and what comes after it begins, when the check has passed.
    lines += ["Notify=healthy", f"HealthCmd={json.dumps(check['test'][1:])}", f"HealthInterval={check['interval']}"]
    lines += [f"HealthStartPeriod={check['start_period']}"]
    lines += ["[Service]", "Restart=always", "TimeoutStartSec=900"]
    return "\n".join([*lines, "[Install]", "WantedBy=multi-user.target", ""])


def _quoted(word: str) -> str:
    """As systemd reads a command line: a $ and a % would be variables and specifiers."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$").replace("%", "%%") + '"'
