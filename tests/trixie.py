# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of Debian 13 that run on an older Debian, too: unpacked beside, and not installed.

podman's quadlet came with 4.4, and docker-compose in Go, whose parser is the specification's own, with 2.0; Debian 12
has neither. Both need nothing but a C library.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "trixie"
SOURCE = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main\n"
PACKAGES = ("podman", "docker-compose")
QUADLET = "usr/libexec/podman/quadlet"
COMPOSE = "usr/libexec/docker/cli-plugins/docker-compose"
TIMEOUT = 300


def program(path: str) -> str:
    """Its path on this host; packages are fetched once, and found in the cache from then on."""
    if not CACHE.exists():
        try:
            _fetch()
        except (OSError, subprocess.SubprocessError) as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"Debian 13's {PACKAGES} can't be fetched: {error}")
    return str(CACHE / path)


def _fetch() -> None:
    """With lists and a cache of its own: apt's own are for the host's release."""
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=CACHE.parent, prefix="trixie."))
    try:
        for name in ("lists/partial", "cache/archives/partial", "debs", "root"):
            (scratch / name).mkdir(parents=True)
        (scratch / "sources.list").write_text(SOURCE)
        for verb in (("update",), ("download", *PACKAGES)):
            _run("apt-get", "-qq", *_options(scratch), *verb, cwd=scratch / "debs")
        for package in (scratch / "debs").glob("*.deb"):
            _run("dpkg-deb", "-x", str(package), str(scratch / "root"), cwd=scratch)
        if not CACHE.exists():  # somebody else may have been faster
            (scratch / "root").rename(CACHE)
    finally:
        shutil.rmtree(scratch)


def _options(scratch: Path) -> list[str]:
    settings = {
        "Dir::Etc::SourceList": scratch / "sources.list",
        "Dir::Etc::SourceParts": "/nonexistent",
        "Dir::State::Lists": scratch / "lists",
        "Dir::Cache": scratch / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _run(*command: str, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=TIMEOUT)
