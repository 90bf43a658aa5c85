# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On the controller: pack the pyroute2 of this interpreter into a tar archive, and print a hash of what is in it.

The same files give the same archive, so that the hash says whether a host has them already.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
from importlib import metadata
from pathlib import Path

FLOOR = (0, 7, 2)


def main(target: str) -> None:
    try:
        distribution = metadata.distribution("pyroute2")
    except metadata.PackageNotFoundError:
        sys.exit(f"{sys.executable} on the controller has no pyroute2 to ship: install it there, 0.7.2 or newer")
    if tuple(int(part) for part in distribution.version.split(".") if part.isdigit()) < FLOOR:
        sys.exit(f"the controller's pyroute2 is {distribution.version}: 0.7.2 or newer is needed")
    content = pack(files(distribution))
    Path(target).write_bytes(content)
    print(hashlib.sha256(content).hexdigest()[:16])


def files(distribution: metadata.Distribution) -> dict[str, bytes]:
    """Python's text and the package's own papers (its licence is among them), by path; no bytecode, no scripts."""
    found = {}
    for path in distribution.files or []:
        top = path.parts[0]
        if (top == "pyroute2" and path.suffix == ".py") or top.endswith((".dist-info", ".egg-info")):
            located = Path(str(distribution.locate_file(path)))
            if located.is_file():
                found[path.as_posix()] = located.read_bytes()
    if "pyroute2/__init__.py" not in found:
        sys.exit(f"{sys.executable} on the controller knows pyroute2, but not of which files it consists")
    return found


def pack(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(contents.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


if __name__ == "__main__":
    main(sys.argv[1])
