# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AppArmor as the kernel shows it, and its parser, the only one who can make profiles for the kernel."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Optional

from .._errors import DependencyError, KernelError

FS = "/sys/kernel/security/apparmor"
_TIMEOUT = 60.0


def enabled() -> bool:
    try:
        with open("/sys/module/apparmor/parameters/enabled") as file:
            return file.read().strip() == "Y" and os.path.isdir(FS)
    except OSError:
        return False


def parser() -> Optional[str]:
    """apparmor_parser(8), which a PATH without sbin does not have."""
    return shutil.which("apparmor_parser") or shutil.which("apparmor_parser", path="/usr/sbin:/sbin")


def profiles() -> set[str]:
    """The names of those that are loaded."""
    try:
        with open(f"{FS}/profiles", encoding="utf-8") as file:
            return {line.rstrip("\n").rpartition(" (")[0] for line in file}
    except OSError:
        return set()


def load(text: str) -> None:
    """Load the profiles of the text, or put them in the place of those that are there."""
    program = parser()
    if program is None:
        raise DependencyError(
            "load an AppArmor profile: apparmor_parser is missing", hint="install the package apparmor"
        )
    # Without its cache: nothing of ours is to lie in /var/cache/apparmor.
    command = [program, "--replace", "--skip-cache"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=_TIMEOUT)
    if done.returncode:
        words = done.stderr.strip() or f"exit code {done.returncode}"
        raise KernelError(f"load an AppArmor profile: {words}")


def process_profile(pid: int) -> str:
    """``NAME (MODE)`` or unconfined; empty where AppArmor has no say."""
    for file in ("apparmor/current", "current"):  # the former from Linux 5.8 on
        try:
            with open(f"/proc/{pid}/attr/{file}", encoding="utf-8") as stream:
                return stream.read().rstrip("\0\n")
        except OSError:
            continue
    return ""
