# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates: a distribution installed into a root file system, as lxc-create does it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from .._errors import DependencyError, OptionError, StoreError
from .._kernel.caps import prctl
from .._kernel.file import remove_tree
from . import layer
from .config import architecture
from .rootfs import empty_dev
from .store import Store

NAMES = ("debian", "busybox")
BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")
PR_SET_PDEATHSIG = 1
SIGKILL = 9
DEBIAN_DEFAULTS: dict[str, Any] = {
    "suite": "bookworm",
    "variant": "minbase",
    "mirror": "",
    "packages": [],
    "components": ["main"],
    "architecture": "",
    "docs": False,
}


def key(template: str, options: Mapping[str, Any]) -> str:
    """What the image is made from."""
    what = [template, dict(options), architecture()]
    if template not in NAMES:
        with open(template, "rb") as file:
            what.append(hashlib.sha256(file.read()).hexdigest())
    elif template == "busybox":
        with open(_busybox(), "rb") as file:
            what.append(hashlib.sha256(file.read()).hexdigest())
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def check(template: str, option: str) -> None:
    """Is there such a template? Raises OptionError or DependencyError."""
    if template not in NAMES:
        if not template.startswith("/"):
            raise OptionError(option, template, f"is no template; use {', '.join(NAMES)} or the path of a script")
        if not os.access(template, os.X_OK) or not os.path.isfile(template):
            raise OptionError(option, template, "is not an executable file on the target")
    elif template == "busybox":
        _busybox()
    elif not (shutil.which("mmdebstrap") or shutil.which("debootstrap")):
        raise DependencyError("template debian needs mmdebstrap or debootstrap", hint="install the package mmdebstrap")


def build(store: Store, template: str, options: Mapping[str, Any], name: str) -> str:
    """Run the template into a new layer; its diff_id."""
    directory = store.temporary()
    try:
        rootfs = f"{directory}/rootfs"
        os.mkdir(rootfs, 0o755)
        if template == "busybox":
            _make_busybox(rootfs)
        elif template == "debian":
            _make_debian(rootfs, {**DEBIAN_DEFAULTS, **options})
        else:
            env = {"LXC_ROOTFS": rootfs, "LXC_NAME": name, "VESSEL_ROOTFS": rootfs, "VESSEL_NAME": name}
            _run([template, *[f"--{k}={v}" for k, v in options.items()]], env)
        empty_dev(rootfs)
        diff_id, size = layer.measure(rootfs)
        store.adopt_layer(rootfs, diff_id, size)
        return diff_id
    finally:
        remove_tree(directory)


def _run(command: Sequence[str], env: Mapping[str, str]) -> None:
    """In mount and pid namespaces of its own: what it mounts and starts ends with it, however we end."""
    prefix = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    done = subprocess.run(
        [*prefix, *command],
        env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        preexec_fn=_die_with_parent,
    )
    if done.returncode:
        lines = done.stdout.strip().splitlines()[-5:]
        raise StoreError(
            f"template: {command[0]} ended with {done.returncode}: {' | '.join(lines) or 'it said nothing'}"
        )


def _die_with_parent() -> None:
    prctl(PR_SET_PDEATHSIG, SIGKILL)


def _make_debian(rootfs: str, options: Mapping[str, Any]) -> None:
    arch = (
        options["architecture"]
        or subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=False).stdout.strip()
    )
    mirror = [options["mirror"]] if options["mirror"] else []
    packages = ",".join(options["packages"])
    if shutil.which("mmdebstrap"):
        command = ["mmdebstrap", "--quiet", "--mode=root", "--format=directory", f"--variant={options['variant']}"]
        command += [f"--components={','.join(options['components'])}", "--dpkgopt=force-unsafe-io"]
        command += ['--aptopt=Acquire::Languages "none"', '--aptopt=APT::Install-Recommends "false"']
        if not options["docs"]:
            command += [
                f"--dpkgopt=path-exclude={path}"
                for path in ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
            ]
            command.append("--dpkgopt=path-include=/usr/share/doc/*/copyright")
        command += [f"--architectures={arch}"] if arch else []
        command += [f"--include={packages}"] if packages else []
    else:
        command = ["debootstrap", f"--variant={options['variant']}", f"--components={','.join(options['components'])}"]
        command += [f"--arch={arch}"] if arch else []
        command += [f"--include={packages}"] if packages else []
    _run([*command, options["suite"], rootfs, *mirror], {})
    _clean_debian(rootfs)


def _clean_debian(rootfs: str) -> None:
    """What belongs to one machine or one moment must not be in an image."""
    for path in ("var/lib/apt/lists", "var/cache/apt", "var/log", "tmp", "run"):
        for directory, _, files in os.walk(f"{rootfs}/{path}"):
            for name in files:
                os.unlink(f"{directory}/{name}")
    for path in (
        "etc/resolv.conf",
        "etc/hostname",
        "etc/machine-id",
        "var/lib/dbus/machine-id",
        "usr/sbin/policy-rc.d",
    ):
        if os.path.lexists(f"{rootfs}/{path}"):
            os.unlink(f"{rootfs}/{path}")


def _busybox() -> str:
    for path in BUSYBOX:
        if os.path.exists(path):
            return path
    raise DependencyError(
        "template busybox needs /bin/busybox on the target", hint="install the package busybox-static"
    )


def _make_busybox(rootfs: str) -> None:
    for name in ("bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr", "var"):
        os.mkdir(f"{rootfs}/{name}", 0o755)
    os.chmod(f"{rootfs}/tmp", 0o1777)
    os.chmod(f"{rootfs}/root", 0o700)
    for name in ("sbin", "usr/bin", "usr/sbin"):
        os.symlink("../bin" if "/" in name else "bin", f"{rootfs}/{name}")
    shutil.copyfile(_busybox(), f"{rootfs}/bin/busybox")
    os.chmod(f"{rootfs}/bin/busybox", 0o755)
    listed = subprocess.run([_busybox(), "--list"], capture_output=True, text=True, check=True).stdout.split()
    for applet in listed:
        if applet != "busybox":
            os.symlink("busybox", f"{rootfs}/bin/{applet}")
    files = {
        "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
        "group": "root:x:0:\nnogroup:x:65534:\n",
        "shadow": "root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n",
    }
    for name, text in files.items():
        with open(f"{rootfs}/etc/{name}", "w") as file:
            file.write(text)
    os.chmod(f"{rootfs}/etc/shadow", 0o640)
    # Times say when it was made; equal contents should be equal layers.
    for directory, names, entries in os.walk(rootfs, topdown=False):
        for name in [*names, *entries]:
            os.utime(f"{directory}/{name}", (0, 0), follow_symlinks=False)
    os.utime(rootfs, (0, 0))
