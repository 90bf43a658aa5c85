# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other programs: one that is missing is named with the package that has it, one that fails with what it printed."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

from .errors import VmError

_PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
}


def need(*names: str) -> None:
    """Fail before anything is done, with all that is missing."""
    missing = sorted({_PACKAGES[name] for name in names if not shutil.which(name, path=_path())})
    if missing:
        raise VmError(f"virtual machines need: apt-get install --no-install-recommends {' '.join(missing)}")


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # mke2fs is not in a user's PATH


def run(*argv: str, timeout: float, **options: Any) -> str:
    """What it printed on standard output."""
    program = shutil.which(argv[0], path=_path()) or argv[0]
    options = {"stdin": subprocess.DEVNULL, "text": True, **options}
    try:
        done = subprocess.run([program, *argv[1:]], capture_output=True, timeout=timeout, check=False, **options)
    except subprocess.TimeoutExpired:
        raise VmError(f"{argv[0]} did not end within {timeout:g} s") from None
    if done.returncode:
        raise VmError(f"{argv[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return str(done.stdout)
