# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What volumes that are a mounted file system have in common: their mount's words, and that a dead server may be behind
them, which whoever touches them would wait for."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from typing import Callable, Optional, TypeVar

from .._errors import DependencyError, KernelError, VesselError
from .._kernel import mount as m
from .._kernel.errand import bounded
from .._rootfs.options import MountOptions, parse
from .directory import own, owner_differences
from .model import Difference, Volume

# How long a look at a file system may take, and how long a mount of one.
LOOK = 5.0
MOUNT = 60.0
UNMOUNT = 30.0
_SAID = 500  # characters of what a program said
# Programs of the host's; a task's PATH may lack the ones that are root's.
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_SAFE = ("nosuid", "nodev")
# Flags that a mount has of its own, by which it is known whether it is as declared.
_OWN_FLAGS = {
    "ro": m.MS_RDONLY,
    "nosuid": m.MS_NOSUID,
    "nodev": m.MS_NODEV,
    "noexec": m.MS_NOEXEC,
    "noatime": m.MS_NOATIME,
    "nodiratime": m.MS_NODIRATIME,
    "nosymfollow": m.MS_NOSYMFOLLOW,
}
_T = TypeVar("_T")


def source(volume: Volume) -> str:
    return f"{volume.home}/data"


def words(volume: Volume) -> list[str]:
    """All words of the mount: set-uid bits and devices count where that is said."""
    return [*_SAFE, *volume.options]


def flags(volume: Volume) -> MountOptions:
    return parse(words(volume))


def differences(volume: Volume, found: m.Mounted) -> list[Difference]:
    """Of one that is mounted: its words, its owner and mode."""
    wanted = [word for word, bit in _OWN_FLAGS.items() if flags(volume).flags & bit]
    present = [word for word in _OWN_FLAGS if word in found.words]
    result = [] if present == wanted else [Difference("options", present, wanted)]
    return [*result, *_patient(volume, lambda: _owner(volume))]


def _owner(volume: Volume) -> list[Difference]:
    return owner_differences(os.stat(source(volume)), volume)


def _patient(volume: Volume, look: Callable[[], list[Difference]]) -> list[Difference]:
    found = bounded(lambda: [vars(item) for item in look()], LOOK, f"look at volume {volume.name} at", source(volume))
    return [Difference(**item) for item in found]


def settle(volume: Volume) -> None:
    """Owner and mode; nothing is written where none is declared."""
    if (volume.uid, volume.gid, volume.mode) != (None, None, None):
        path = source(volume)
        bounded(lambda: own(path, volume), LOOK, f"own volume {volume.name} at", path)


def anew(options: MountOptions) -> int:
    """Its flags for a remount, which would keep the times of access as they are where none of these is given."""
    atimes = m.MS_NOATIME | m.MS_NODIRATIME | m.MS_STRICTATIME | m.MS_RELATIME
    return m.MS_REMOUNT | options.flags | (0 if options.flags & atimes else m.MS_RELATIME)


def remount(volume: Volume) -> None:
    """Give the mount that is there the declared words."""
    options = flags(volume)
    try:
        m.mount("none", source(volume), None, anew(options), options.data or None)
    except KernelError as error:
        raise not_live(volume, error) from None


def not_live(volume: Volume, error: VesselError) -> VesselError:
    words = ",".join(volume.options) or "defaults"
    hint = "it takes them when it is mounted anew: stop its containers, unmount it, and run the task again"
    return VesselError(
        f"volume {volume.name}: the options {words} can't be set while it is mounted: {error}", hint=hint
    )


def statistics(volume: Volume) -> tuple[int, int]:
    """(bytes in all, bytes used)."""
    path = source(volume)
    total, used = bounded(lambda: _statistics(path), LOOK, f"look at volume {volume.name} at", path)
    return int(total), int(used)


def _statistics(path: str) -> list[int]:
    info = os.statvfs(path)
    return [info.f_blocks * info.f_frsize, (info.f_blocks - info.f_bfree) * info.f_frsize]


def unmount(volume: Volume) -> None:
    """What was written goes to the disk or the server first; one that does not answer is left to itself."""
    path = source(volume)
    while m.mounted(path):
        try:
            bounded(lambda: m.umount2(path, m.UMOUNT_NOFOLLOW), UNMOUNT, "umount", path)
        except KernelError as error:
            if error.errno == errno.EBUSY:
                hint = "a program of the host has files open in it, or a container's processes do"
                raise KernelError("umount", path, error.errno, hint=hint) from None
            if error.errno != errno.ETIMEDOUT:
                raise
            m.umount2(path, m.MNT_FORCE | m.MNT_DETACH | m.UMOUNT_NOFOLLOW)


def remove(volume: Volume) -> None:
    """The mount, and where it was."""
    unmount(volume)
    path = source(volume)
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise KernelError("remove", path, error.errno or 0, hint="files lie there that the mount had hidden") from None


def program(name: str, package: str, purpose: str) -> str:
    found = find_program(name)
    if not found:
        raise DependencyError(
            f"{purpose} needs the program {name}, which is not installed", hint=f"Debian's package {package} has it"
        )
    return found


def find_program(name: str) -> str:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{PATH}") or ""


def call(argv: Sequence[str], *, seconds: Optional[float] = None, keep: int = -1) -> tuple[int, str]:
    """(exit code, what it said last); TimeoutExpired for one that takes longer, of which nothing is waited for.
    ``keep`` is a descriptor that it has too."""
    environ = {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:{PATH}"}
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    kept = () if keep < 0 else (keep,)
    process = subprocess.Popen(
        argv, stdin=null, stdout=pipe, stderr=subprocess.STDOUT, env=environ, start_new_session=True, pass_fds=kept
    )
    try:
        said = process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
        raise
    lines = [line.strip() for line in said.decode(errors="replace").split("\n") if line.strip()]
    # mkfs.xfs says what is wrong, and then in a hundred words how it is called.
    usage = next((at for at, line in enumerate(lines) if line.lower().startswith("usage:")), len(lines))
    lines = lines[:usage] or lines
    while len(" | ".join(lines)) > _SAID and len(lines) > 1:
        del lines[0]
    return process.returncode, " | ".join(lines)[-_SAID:]
