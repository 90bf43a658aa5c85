# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection in a machine as a user gets it: built here, installed there, and nothing else of this repository.

The tests are in the tarball too, so what runs there is what was installed. ansible-core and pytest, which run them,
come from the package index over this host, as a directory that needs no compiler there.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from importlib.metadata import version
from pathlib import Path

from ansible_collections.vessel.host.tests.collection.gates import CACHE, check

from .guest import Guest

HOME = "/opt/tests"
TREE = f"{HOME}/collections/ansible_collections/vessel/host"
# Of Debian 12, which the machines run.
PYTHON = "3.11"
# The versions that run the tests here run them there.
REQUIREMENTS = tuple(f"{name}=={version(name)}" for name in ("ansible-core", "pytest", "pytest-timeout"))
INSTALL_TIMEOUT = 600.0
# With the distribution's packages, for of these the engine uses pyroute2.
_SCRIPT = f"""\
set -e
mkdir -p {HOME}
cd {HOME}
tar -xf /tmp/packages.tar
python3 -m venv --without-pip --system-site-packages venv
echo {HOME}/packages >venv/lib/python{PYTHON}/site-packages/packages.pth
for program in packages/bin/ansible*; do
    sed '1s|.*|#!{HOME}/venv/bin/python|' "$program" >"venv/bin/${{program##*/}}"
    chmod 755 "venv/bin/${{program##*/}}"
done
export ANSIBLE_COLLECTIONS_PATH={HOME}/collections
venv/bin/ansible-galaxy collection install --offline -p collections /tmp/vessel-host.tar.gz
"""


def install(guest: Guest, tmp: Path) -> None:
    guest.put(_packages(), "/tmp/packages.tar")
    guest.put(_tarball(tmp), "/tmp/vessel-host.tar.gz")
    guest.shell(_SCRIPT, timeout=INSTALL_TIMEOUT)


def on_the_controller(tmp: Path) -> Path:
    """A path for collections with the tarball's alone."""
    # By force: the checkout counts as installed, and then nothing would be.
    words = ("--force", "--offline", "-p", str(tmp / "collections"))
    check("ansible-galaxy", "collection", "install", *words, str(_tarball(tmp)))
    return tmp / "collections"


def _tarball(tmp: Path) -> Path:
    check("ansible-galaxy", "collection", "build", "--output-path", str(tmp))
    (path,) = tmp.glob("vessel-host-*.tar.gz")
    return path


def _packages() -> Path:
    """A tar of the directory packages/; made when the cache has none of the same requirements."""
    words = [PYTHON, *REQUIREMENTS]
    target = CACHE / "machines" / f"packages-{hashlib.sha256(' '.join(words).encode()).hexdigest()[:16]}.tar"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        platforms = [f"--platform={name}_x86_64" for name in ("manylinux2014", "manylinux_2_28", "manylinux_2_34")]
        wanted = ["--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp", *platforms]
        check("pip", "install", "--quiet", "--target", str(new), *wanted, *REQUIREMENTS)
        with tarfile.open(f"{new}.tar", "w") as tar:
            tar.add(new, "packages")
        shutil.rmtree(new)
        Path(f"{new}.tar").rename(target)
    return target
