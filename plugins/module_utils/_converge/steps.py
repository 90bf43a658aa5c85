# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command of a build step, run as a container: over the layers so far, its writes going to a layer of its own.

It has the host's network, for that is where packages come from, and the host's resolv.conf and hosts while it runs.
"""

from __future__ import annotations

import json
import os
from typing import Any

from .._errors import VesselError
from .._image.build import RunRequest
from .._image.copy import OVERLAY_OPTIONS
from .._image.nosync import without_sync
from .._kernel.file import remove_tree
from .._kernel.process import alive, exit_code, start_time
from .._paths import Paths
from . import identity, security
from .compile import PATH

# Package managers make devices' placeholders, and set owners, modes and file capabilities.
_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_SETFCAP",
                 "CAP_SETGID", "CAP_SETUID", "CAP_SYS_CHROOT")  # fmt: skip
_POLICY = "/usr/sbin/policy-rc.d"
_TAIL = 6


def directory(paths: Paths) -> str:
    return f"{paths.run}/build"


def runtime(paths: Paths) -> str:
    """Apart from the containers: nobody is to see or touch a step."""
    return f"{directory(paths)}/runtime"


def run(paths: Paths, image: str, request: RunRequest) -> None:
    """Run the step to its end; VesselError with its last words when it fails."""
    key = f"build-{os.getpid()}-{request.number}"
    bundle = f"{directory(paths)}/{key}"
    os.makedirs(f"{bundle}/rootfs", 0o700)
    try:
        _write(f"{bundle}/owner", json.dumps({"pid": os.getpid(), "started": start_time(os.getpid())}))
        _write(f"{bundle}/config.json", json.dumps(config(paths, bundle, key, request)))
        code, words = _execute(paths, key, bundle)
    finally:
        _discard(paths, key, bundle)
    if code:
        command = " ".join(request.command[-1:] if request.command[0] == "/bin/sh" else request.command)
        raise VesselError(f"image {image}: step {request.number}: {command!r} ended with {code}: {words}")


def _execute(paths: Paths, key: str, bundle: str) -> tuple[int, str]:
    from .._runtime.run import run as run_container

    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    log = os.open(f"{bundle}/log", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.makedirs(runtime(paths), 0o700, exist_ok=True)
        state = run_container(runtime(paths), key, bundle, stdio=(null, log, log))
        code = exit_code(os.waitpid(state.pid, 0)[1])
        return code, _tail(log) if code else ""
    finally:
        os.close(null)
        os.close(log)


def _tail(fd: int) -> str:
    length = os.fstat(fd).st_size
    text = os.pread(fd, 8192, max(0, length - 8192)).decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-_TAIL:]) or "it said nothing"


def sweep(paths: Paths) -> None:
    """Take away what builds left whose process was killed."""
    base = directory(paths)
    for name in os.listdir(base) if os.path.isdir(base) else []:
        bundle = f"{base}/{name}"
        if name.startswith("build-") and not _owned(bundle):
            _discard(paths, name, bundle)


def _owned(bundle: str) -> bool:
    try:
        with open(f"{bundle}/owner") as file:
            owner = json.load(file)
    except (FileNotFoundError, ValueError):
        return os.path.exists(f"/proc/{os.path.basename(bundle).split('-')[1]}")  # it has only begun
    return alive(owner["pid"], owner["started"])


def _discard(paths: Paths, key: str, bundle: str) -> None:
    from .._runtime.delete import delete

    delete(runtime(paths), key, force=True)
    remove_tree(bundle)
    for path in (runtime(paths), directory(paths), paths.run):
        try:
            os.rmdir(path)
        except OSError:
            return  # others are there


def config(paths: Paths, bundle: str, key: str, request: RunRequest) -> dict[str, Any]:
    """The step as config.json."""
    top_first = list(reversed(request.layers))
    passwd, groups = (identity.read_file(top_first, f"/etc/{file}") for file in ("passwd", "group"))
    who = identity.resolve(request.config.get("User") or "", (), passwd, groups)
    held = sorted({*security.DEFAULT_CAPS, *_CAPABILITIES})
    env = {"PATH": PATH, "HOME": who.home, "DEBIAN_FRONTEND": "noninteractive"}
    env.update(item.partition("=")[::2] for item in request.config.get("Env") or [])
    env.update(request.env)
    return {
        "ociVersion": "1.0.2",
        "hostname": "build",
        "process": {
            "terminal": False,
            "user": {"uid": who.uid, "gid": who.gid, "additionalGids": list(who.groups)},
            "args": request.command,
            "env": [f"{name}={value}" for name, value in env.items()],
            "cwd": request.config.get("WorkingDir") or "/",
            "capabilities": {
                "bounding": held,
                "effective": held if who.uid == 0 else [],
                "permitted": held if who.uid == 0 else [],
            },
            "noNewPrivileges": False,
        },
        "root": {"path": "rootfs", "readonly": False},
        "mounts": _mounts(bundle, request, top_first),
        "linux": {
            "namespaces": [{"type": kind} for kind in ("mount", "pid", "ipc", "uts")],
            "cgroupsPath": paths.cgroup(f".{key}"),
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "rootfsPropagation": "private",
            "maskedPaths": list(security.MASKED_PATHS),
            "readonlyPaths": list(security.READONLY_PATHS),
            "seccomp": without_sync(security.seccomp_profile(held)),
        },
    }


def _mounts(bundle: str, request: RunRequest, top_first: list[str]) -> list[dict[str, Any]]:
    overlay = [
        f"lowerdir={':'.join(top_first)}",
        f"upperdir={request.upper}",
        f"workdir={request.work}",
        *OVERLAY_OPTIONS,
    ]
    mounts = [
        _mount("/", "overlay", "overlay", overlay),
        _mount("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        _mount("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        _mount("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
    ]
    for path in ("/etc/resolv.conf", "/etc/hosts"):
        if os.path.exists(path):
            mounts.append(_mount(path, "bind", os.path.realpath(path), ["bind", "ro"]))
    if any(os.path.lexists(f"{layer}/usr/sbin/invoke-rc.d") for layer in top_first):
        # Debian's packages start their daemons unless this says no; they would die with the step.
        _write(f"{bundle}/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
        mounts.append(_mount(_POLICY, "bind", f"{bundle}/policy-rc.d", ["bind", "ro"]))
    return mounts


def _mount(destination: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": options}


def _write(path: str, text: str, mode: int = 0o600) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "w") as file:
        file.write(text)
