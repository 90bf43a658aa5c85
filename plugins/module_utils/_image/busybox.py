# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The busybox template: the target's own static busybox under all its names, and the few files that programs need."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess

from .._errors import DependencyError, StoreError

_PATHS = ("/bin/busybox", "/usr/bin/busybox")
_DIRECTORIES = ("bin", "dev", "etc", "home", "lib", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp", "usr",
                "usr/lib", "usr/local", "usr/local/bin", "usr/share", "var", "var/log", "var/spool",
                "var/tmp")  # fmt: skip
_LINKS = {"sbin": "bin", "usr/bin": "../bin", "usr/sbin": "../bin", "var/run": "../run"}
_MODES = {"tmp": 0o1777, "var/tmp": 0o1777, "root": 0o700}
_FILES = {
    "passwd": (0o644, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"),
    "group": (0o644, "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    "shadow": (0o640, "root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n"),
    "profile": (0o644, "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"),
}
_PT_INTERP = 3


def program() -> str:
    """The target's busybox; DependencyError when there is none that runs in an image of its own."""
    for path in _PATHS:
        if os.path.exists(path):
            if not _is_static(path):
                break
            return path
    raise DependencyError("template busybox needs a static /bin/busybox on the target", hint="install busybox-static")


def _is_static(path: str) -> bool:
    """Does the ELF file ask for no interpreter? (elf(5))"""
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF":
            return False
        wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
        table = struct.unpack_from(f"{order}Q" if wide else f"{order}I", head, 32 if wide else 28)[0]
        size, count = struct.unpack_from(f"{order}HH", head, 54 if wide else 42)
        file.seek(table)
        headers = file.read(size * count)
    kinds = [struct.unpack_from(f"{order}I", headers, index * size)[0] for index in range(count)]
    return _PT_INTERP not in kinds


def make(rootfs: str) -> None:
    """Fill the directory. Nothing in it says when that was: equal contents are to be equal layers."""
    path = program()
    for name in _DIRECTORIES:
        os.mkdir(f"{rootfs}/{name}")
        os.chmod(f"{rootfs}/{name}", _MODES.get(name, 0o755))
    for name, target in _LINKS.items():
        os.symlink(target, f"{rootfs}/{name}")
    shutil.copyfile(path, f"{rootfs}/bin/busybox")
    os.chmod(f"{rootfs}/bin/busybox", 0o755)
    for applet in _applets(path):
        os.symlink("busybox", f"{rootfs}/bin/{applet}")
    for name, (mode, text) in _FILES.items():
        with open(f"{rootfs}/etc/{name}", "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(f"{rootfs}/etc/{name}", mode)
    for directory, names, files in os.walk(rootfs, topdown=False):
        for name in (*names, *files):
            os.utime(f"{directory}/{name}", (0, 0), follow_symlinks=False)
    os.utime(rootfs, (0, 0))


def _applets(path: str) -> list[str]:
    done = subprocess.run([path, "--list"], capture_output=True, text=True, check=False)
    found = set(done.stdout.split()) - {"busybox"}
    if done.returncode or "sh" not in found:
        raise StoreError(f"template busybox: {path} --list ended with {done.returncode} and names no sh")
    return sorted(found)
