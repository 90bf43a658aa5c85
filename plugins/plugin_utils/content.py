# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of the controller's that images are made from: where they are, and the digest that says what is in them."""

from __future__ import annotations

import fcntl
import hashlib
import os
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError, AnsibleFileNotFound

CHUNK = 1 << 20


def find(action: Any, name: str) -> str:
    """The file that ``src`` names, found as copy finds it, and decrypted where it is a vault."""
    try:
        path = action._find_needle("files", name)
    except AnsibleFileNotFound as error:
        where = ", ".join(dict.fromkeys(map(str, error.paths or [name])))
        raise AnsibleActionFail(f"src: {name!r} is not on the controller; it was looked for as {where}") from None
    if os.path.isdir(path):
        raise AnsibleActionFail(f"src: {path!r} is a directory; give a tar file")
    try:
        return str(action._loader.get_real_file(path))
    except AnsibleError as error:
        cause = error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) else error
        raise AnsibleActionFail(f"src: {path!r} can't be read on the controller: {reason}") from None


def key(path: str, memory: str) -> str:
    """The digest as an image's key has it (_image/rootfs.py).

    ``memory`` is a directory in which it is remembered, for as long as that is there: a play reads a file once for all
    hosts, and those who come meanwhile wait.
    """
    try:
        info = os.stat(path)
        what = repr((path, info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns))
        known = os.path.join(memory, f"vessel-{hashlib.sha256(what.encode('utf-8', 'surrogateescape')).hexdigest()}")
        with open(known, "a+", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            found = file.read()
            if not found:
                found = digest(path)
                file.write(found)
        return found
    except OSError as error:
        raise AnsibleActionFail(f"src: {path!r} can't be read on the controller: {error.strerror}") from None


def digest(path: str) -> str:
    result = hashlib.sha256(b"tar\0")
    with open(path, "rb", buffering=0) as file:
        while block := file.read(CHUNK):
            result.update(block)
    return result.hexdigest()
