# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command of a build step, run as a container: over the layers so far, its writes going to a layer of its own.

It has the host's network, for that is where packages come from, unless it wants none, and the host's resolv.conf and
hosts while it runs. Secrets lie in memory alone: with one of them, all that is written of the step does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from ..._errors import StartError, VesselError
from ..._image.build.steps import RunRequest
from ..._image.copy import OVERLAY_OPTIONS
from ..._image.nosync import without_sync
from ..._image.progress import QUIET, Progress
from ..._kernel import mount as m
from ..._kernel.file import remove_tree
from ..._kernel.process import alive, exit_code, start_time
from ..._paths import Paths
from ..container import identity, security
from ..container.compile import PATH

# Package managers make devices' placeholders, and set owners, modes and file capabilities.
_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_SETFCAP",
                 "CAP_SETGID", "CAP_SETUID", "CAP_SYS_CHROOT")  # fmt: skip
_POLICY = "/usr/sbin/policy-rc.d"
_TAIL = 6
_KEPT = 8192  # bytes of what it said last
_LINE_MAX = 4096
_HIDDEN = b"********"
# A shorter one would hide half of what a step prints.
_SECRET_MIN = 4


def directory(paths: Paths) -> str:
    return f"{paths.run}/build"


def runtime(paths: Paths) -> str:
    """Apart from the containers: nobody is to see or touch a step."""
    return f"{directory(paths)}/runtime"


def run(paths: Paths, image: str, request: RunRequest, progress: Progress = QUIET) -> None:
    """Run the step to its end; VesselError with its last words when it fails. Each line is told to ``progress``."""
    key = f"build-{os.getpid()}-{request.number}"
    bundle = f"{directory(paths)}/{key}"
    failed = f"image {image}: {request.place}: {_title(request)!r}"
    os.makedirs(bundle, 0o700)
    try:
        if request.secrets:
            m.mount("vessel-build", bundle, "tmpfs", m.MS_NOSUID | m.MS_NODEV, "mode=700,size=16m")
        _write(f"{bundle}/owner", json.dumps({"pid": os.getpid(), "started": start_time(os.getpid())}))
        os.mkdir(f"{bundle}/rootfs", 0o700)
        _write(f"{bundle}/config.json", json.dumps(config(paths, bundle, key, request)))
        words = _Words(request, progress)
        code = _execute(paths, key, bundle, words)
    except StartError as error:
        raise VesselError(f"{failed} can't be started: {error.message}", hint=error.hint) from None
    finally:
        _discard(paths, key, bundle)
    if code:
        raise VesselError(f"{failed} ended with {code}: {words.last()}")


def _title(request: RunRequest) -> str:
    """What failed, as it was given."""
    return request.shown.partition(" ")[2] or " ".join(request.command)


class _Words:
    """What a step says: each line to whoever follows, the last of it kept. Secrets are not repeated."""

    def __init__(self, request: RunRequest, progress: Progress) -> None:
        self._what = f"step {request.number}"
        self._progress = progress
        lines = {line.strip() for secret in request.secrets for line in secret[-1].splitlines()}
        self._secrets = sorted((line for line in lines if len(line) >= _SECRET_MIN), key=len, reverse=True)
        self._rest = b""
        self._kept = ""

    def take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if len(self._rest) > _LINE_MAX:
            at = _cut(self._rest, self._secrets)
            lines, self._rest = [*lines, self._rest[:at]], self._rest[at:]
        for line in lines:
            self._line(line)

    def _masked(self, line: bytes) -> bytes:
        for secret in self._secrets:
            line = line.replace(secret, _HIDDEN)
        return line

    def end(self) -> None:
        self._line(self._rest)

    def _line(self, line: bytes) -> None:
        text = self._masked(line).decode("utf-8", "replace").rstrip()
        if not text:
            return
        self._kept = f"{self._kept}\n{text}"[-_KEPT:]
        self._progress.say(self._what, text)

    def last(self) -> str:
        lines = [line.strip() for line in self._kept.splitlines() if line.strip()]
        return " | ".join(lines[-_TAIL:]) or "it said nothing"


def _cut(line: bytes, secrets: Sequence[bytes]) -> int:
    """Where a line that has not ended may be cut: not in a secret, nor in what may be the beginning of one."""
    found = min((_begun(line, secret) for secret in secrets), default=len(line))
    at = -1
    while at != found:
        at = found
        for secret in secrets:
            across = line.find(secret, max(0, found - len(secret) + 1), found + len(secret) - 1)
            found = across if across >= 0 else found
    return at


def _begun(line: bytes, secret: bytes) -> int:
    """Where the line's last bytes are the secret's first; the line's end where they are not."""
    at = line.find(secret[:1], max(0, len(line) - len(secret) + 1))
    while at >= 0 and not secret.startswith(line[at:]):
        at = line.find(secret[:1], at + 1)
    return at if at >= 0 else len(line)


def _execute(paths: Paths, key: str, bundle: str, words: _Words) -> int:
    from ..._runtime.run import run as run_container

    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        os.makedirs(runtime(paths), 0o700, exist_ok=True)
        state = run_container(runtime(paths), key, bundle, stdio=(null, theirs, theirs))
        os.close(theirs)
        theirs = -1
        # All that the step started ends with its first process, and then nobody holds the pipe any more.
        for data in iter(lambda: os.read(ours, 1 << 16), b""):
            words.take(data)
        words.end()
        return exit_code(os.waitpid(state.pid, 0)[1])
    finally:
        for fd in (null, ours, theirs):
            if fd >= 0:
                os.close(fd)


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
    from ..._runtime.delete import delete

    delete(runtime(paths), key, force=True)
    if os.path.ismount(bundle):
        m.umount2(bundle, m.MNT_DETACH)
    remove_tree(bundle)
    for path in (runtime(paths), directory(paths), paths.run):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            continue
        except OSError:
            return  # others are there


def config(paths: Paths, bundle: str, key: str, request: RunRequest) -> dict[str, Any]:
    """The step as config.json."""
    top_first = list(reversed(request.layers))
    passwd, groups = (identity.read_file(top_first, f"/etc/{file}") for file in ("passwd", "group"))
    who = identity.resolve(request.user, (), passwd, groups)
    held = sorted({*security.DEFAULT_CAPS, *_CAPABILITIES})
    env = {"PATH": PATH, "HOME": who.home, "DEBIAN_FRONTEND": "noninteractive", **request.env}
    env.update(
        (mount.env, content.decode("utf-8", "surrogateescape"))
        for dummy, mount, content in request.secrets
        if mount.env
    )
    kinds = ["mount", "pid", "ipc", "uts", *(["network"] if request.network == "none" else [])]
    return {
        "ociVersion": "1.0.2",
        "hostname": "build",
        "process": {
            "terminal": False,
            "user": {"uid": who.uid, "gid": who.gid, "additionalGids": list(who.groups)},
            "args": request.command,
            "env": [f"{name}={value}" for name, value in env.items()],
            "cwd": request.cwd,
            "capabilities": {
                "bounding": held,
                "effective": held if who.uid == 0 else [],
                "permitted": held if who.uid == 0 else [],
            },
            "noNewPrivileges": False,
        },
        "root": {"path": "rootfs", "readonly": False},
        "mounts": [*_mounts(bundle, request, top_first), *_own_mounts(bundle, request)],
        "linux": {
            "namespaces": [{"type": kind} for kind in kinds],
            "cgroupsPath": paths.cgroup(f".{key}"),
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "rootfsPropagation": "private",
            "maskedPaths": list(security.MASKED_PATHS),
            "readonlyPaths": list(security.READONLY_PATHS),
            "seccomp": without_sync(security.seccomp_profile(held)),
        },
    }


def _own_mounts(bundle: str, request: RunRequest) -> list[dict[str, Any]]:
    """What the step itself asks for."""
    mounts = [_mount(path, "bind", source, ["bind", "ro" if readonly else "rw"])
              for path, source, readonly in request.binds]  # fmt: skip
    for path, mount in request.tmpfs:
        size = [f"size={mount.size}"] if mount.size else []
        mounts.append(_mount(path, "tmpfs", "tmpfs", ["nosuid", "nodev", f"mode={mount.mode:o}", *size]))
    for number, (path, secret, content) in enumerate(request.secrets):
        if secret.target:
            file = f"{bundle}/secret{number}"
            _write(file, content, secret.mode)
            os.chown(file, secret.uid, secret.gid)
            mounts.append(_mount(path, "bind", file, ["bind", "ro", "nosuid", "nodev", "noexec"]))
    for number, (path, text) in enumerate(request.scripts):
        _write(f"{bundle}/script{number}", text.encode("utf-8", "surrogateescape"), 0o755)
        mounts.append(_mount(path, "bind", f"{bundle}/script{number}", ["bind", "ro"]))
    return mounts


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


def _write(path: str, content: str | bytes, mode: int = 0o600) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
        os.fchmod(fd, mode)
