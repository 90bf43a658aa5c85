# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor as a service, where systemd is: daemon.py is for elsewhere.

Two units. ``vessel.service`` is the supervisor. ``vessel-restore.service`` runs once a boot; it is another, because a
supervisor that is started again must not start what has ended meanwhile.
"""

from __future__ import annotations

import os
import subprocess

from .._cgroup.manager import open_manager
from .._errors import DependencyError, MonitorError
from .._kernel.file import holds, write_atomic
from .._paths import Paths

DIRECTORY = "/etc/systemd/system"
# The supervisor's exit status when it has nothing to supervise: it is not started again, until a task needs it.
IDLE = 75
PATIENCE = 30.0  # seconds; at boot it waits for who restores
_TIMEOUT = 120.0

_SUPERVISOR = """\
# Written by the Ansible collection vessel.host. Changes belong into {name}.d/.
[Unit]
Description=Supervisor of the containers of vessel.host
Documentation=https://galaxy.ansible.com/ui/repo/published/vessel/host/
# What these set up must be there as long as there are containers: at the shutdown it goes after them.
After=local-fs.target network.target nftables.service firewalld.service dbus.service dbus.socket systemd-journald.socket
# However often it dies, its containers need the next one.
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart="{bin}/vessel" monitor
# Each in the order of its stack, with its own signal and time; but only when the host goes down.
ExecStop=/bin/sh -c 'test "$(systemctl is-system-running)" != stopping || exec "{bin}/vessel" shutdown'
TimeoutStopSec=10min
# Where all that boots wants the processor, to begin anew makes it later.
TimeoutStartSec=5min
Restart=always
RestartPreventExitStatus={idle}
SuccessExitStatus={idle}
# The containers are its children, and stay.
KillMode=process
OOMPolicy=continue
# What else would harden it (a mount namespace, a seccomp filter, fewer capabilities, no_new_privs) would be inherited
# by the containers. These are of the group, which each container leaves before it does anything.
DevicePolicy=closed
DeviceAllow=/dev/kmsg r
IPAddressDeny=any

[Install]
WantedBy=multi-user.target
"""
_RESTORE = """\
# Written by the Ansible collection vessel.host. Changes belong into {restore}.d/.
[Unit]
Description=Containers of vessel.host as they were declared
Wants={name} network-online.target
After={name} network-online.target
# A supervisor that ends because there is nothing to do has nothing declared.
ConditionDirectoryNotEmpty={state}

[Service]
Type=oneshot
ExecStart="{bin}/vessel" restore --boot
# Once a boot, whatever else pulls multi-user.target in again.
RemainAfterExit=yes
TimeoutStartSec=infinity

[Install]
WantedBy=multi-user.target
"""


def names(paths: Paths) -> tuple[str, str]:
    """(the supervisor's unit, the one that restores)."""
    return f"{paths.prefix}.service", f"{paths.prefix}-restore.service"


def start(paths: Paths) -> None:
    """Write the units where they are not as they should be, and start the supervisor; return when it listens."""
    install(paths)
    _systemctl("start", names(paths)[0])


def install(paths: Paths) -> None:
    """The units, enabled; what is so already is left."""
    contents = _contents(paths)
    stale = [unit for unit, content in contents.items() if not holds(f"{DIRECTORY}/{unit}", content)]
    for unit in stale:
        write_atomic(f"{DIRECTORY}/{unit}", contents[unit], mode=0o644)
    if stale:
        _systemctl("daemon-reload")
    if not all(map(_is_enabled, contents)):
        _systemctl("enable", "--quiet", *contents)


def lacking(paths: Paths) -> list[str]:
    """Units that are not as they should be, or not enabled."""
    wanted = _contents(paths).items()
    return [unit for unit, content in wanted if not (holds(f"{DIRECTORY}/{unit}", content) and _is_enabled(unit))]


def _contents(paths: Paths) -> dict[str, bytes]:
    words = {"bin": paths.bin.replace("%", "%%"), "idle": IDLE, "state": f"{paths.state}/containers".replace("%", "%%")}
    words["name"], words["restore"] = names(paths)
    return {unit: text.format(**words).encode() for unit, text in zip(names(paths), (_SUPERVISOR, _RESTORE))}


def _is_enabled(unit: str) -> bool:
    return os.path.lexists(f"{DIRECTORY}/multi-user.target.wants/{unit}")


def remove(paths: Paths) -> None:
    units = [unit for unit in names(paths) if os.path.lexists(f"{DIRECTORY}/{unit}")]
    if units:
        _systemctl("disable", "--quiet", "--now", *units)
        for unit in units:
            os.unlink(f"{DIRECTORY}/{unit}")
        _systemctl("daemon-reload")
    _let_slice_go(paths)


def _let_slice_go(paths: Paths) -> None:
    """systemd keeps one that nobody is in any more. Who stops it stops all below, where another installation may be."""
    group = open_manager(paths.cgroups)
    if group.exists() and not group.pids() and not any(name.endswith(".slice") for name in os.listdir(group.main())):
        _systemctl("stop", os.path.basename(paths.cgroups))


def _systemctl(*words: str) -> None:
    command = ["systemctl", *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT, check=False, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise DependencyError(
            "the program systemctl is missing", hint="systemd runs here; its package has it"
        ) from None
    except subprocess.TimeoutExpired:
        raise MonitorError(f"{' '.join(command)} took longer than {_TIMEOUT:g} s") from None
    if done.returncode:
        said = done.stderr.strip().replace("\n", " ")
        hint = f"see journalctl --unit {words[-1]}" if words[0] == "start" else ""
        raise MonitorError(f"{' '.join(command)}: {said}", hint=hint)
