# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""spec: a config.json to start from, as runc's is; and features: what this runtime can."""

from __future__ import annotations

from typing import Any

from .._kernel.caps import NUMBERS
from .._kernel.namespaces import FLAGS
from .._kernel.seccomp import FLAGS as SECCOMP_FLAGS
from .._paths import booted_by_systemd
from .._rootfs.options import PROPAGATION, known

VERSION = "0.1.0"
OCI_VERSION = "1.0.2"
_CAPS = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def template() -> dict[str, Any]:
    def mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
        return {"destination": destination, "type": kind, "source": source, "options": list(options)}

    safe = ("nosuid", "noexec", "nodev")
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPS),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "vessel",
        "mounts": [
            mount("/proc", "proc", "proc"),
            mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            mount(
                "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
            ),
            mount("/dev/shm", "tmpfs", "shm", *safe, "mode=1777", "size=65536k"),
            mount("/dev/mqueue", "mqueue", "mqueue", *safe),
            mount("/sys", "sysfs", "sysfs", *safe, "ro"),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", *safe, "relatime", "ro"),
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def features() -> dict[str, Any]:
    """runtime-spec, features.md."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": sorted({*known(), *PROPAGATION}),
        "linux": {
            "namespaces": sorted(FLAGS),
            "capabilities": sorted(NUMBERS),
            "cgroup": {"v1": True, "v2": True, "systemd": booted_by_systemd(), "systemdUser": False},
            "seccomp": {"enabled": True, "supportedFlags": sorted(SECCOMP_FLAGS)},
        },
        "annotations": {"host.vessel.version": VERSION},
    }
