# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Distributions that an image can be made of, and where each is fetched from."""

from __future__ import annotations

import hashlib
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from . import cache, programs
from .errors import VmError


@dataclass(frozen=True)
class Suite:
    """``kernel`` is the package that depends on the newest kernel for virtual machines."""

    kernel: str = "linux-image-cloud-amd64"
    mirror: str = ""  # empty: Debian's own, with its updates, as mmdebstrap knows them
    components: str = "main"
    keyring: tuple[str, ...] = ()  # a package that Debian has not: below the mirror, its SHA-256, the file in it
    options: tuple[str, ...] = ()  # mmdebstrap's

    def sources(self, name: str, mirror: str) -> list[str]:
        """The last arguments of mmdebstrap: nothing, a mirror, or lines of sources.list(5)."""
        mirror = mirror or self.mirror
        if not self.keyring:
            return [mirror] if mirror else []
        options = f"[signed-by={_fetched(mirror, *self.keyring)}]"
        return [f"deb {options} {mirror} {suite} {self.components}" for suite in (name, f"{name}-updates")]


def _fetched(mirror: str, path: str, digest: str, file: str) -> Path:
    """The keyring. Its package is known by its digest: there is nothing yet to check a signature with."""

    def fetch(new: Path) -> None:
        try:
            with urllib.request.urlopen(f"{mirror}/{path}", timeout=60) as answer:
                content = answer.read()
        except OSError as error:
            raise VmError(f"{mirror}/{path} can't be fetched: {error}") from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise VmError(f"{mirror}/{path} is not what it was when its digest was written down")
        (new / "package.deb").write_bytes(content)
        programs.run("dpkg-deb", "-x", str(new / "package.deb"), str(new), timeout=60)

    return cache.made(cache.directory("keyrings") / digest[:16], fetch) / file


_UBUNTU = Suite(
    kernel="linux-image-virtual",
    mirror="",
    components="main universe",
    keyring=(
        "pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb",
        "36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8",
        "usr/share/keyrings/ubuntu-archive-keyring.gpg",
    ),
)

SUITES = {
    # mmdebstrap gives it a /bin beside /usr/bin, which its installer and its cloud images do not.
    "bullseye": Suite(
        options=("--setup-hook=/usr/share/mmdebstrap/hooks/merged-usr/setup00.sh",)
    ),  # Linux 5.10, Python 3.9, systemd 247
    "bookworm": Suite(),  # Linux 6.1, Python 3.11, systemd 252
    "trixie": Suite(),  # Linux 6.12, Python 3.13, systemd 257
    "noble": _UBUNTU,  # Ubuntu 24.04: Linux 6.8, Python 3.12, systemd 255
}
