# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The declared spec of each resource as a JSON file, and a lock a resource.

A file is the old one or the new one, whenever we are killed. A lock goes with its process, and its file with the lock.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Optional

from .._errors import KernelError, StoreError
from .._kernel.file import TURNS, fsync_directory, holds, make_directories, take_lock, write_atomic
from .._paths import Paths

_FILE = "spec.json"
_WRITERS = 16


def spec_path(paths: Paths, kind: str, name: str) -> str:
    return f"{paths.resource(kind, name)}/{_FILE}"


def read_spec(paths: Paths, kind: str, name: str) -> Optional[dict[str, Any]]:
    """What was declared last; None when there is no such resource."""
    path = spec_path(paths, kind, name)
    try:
        with open(path, encoding="utf-8") as file:
            spec = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise StoreError(f"read {path}: damaged: {error}", hint="remove the file and run the task again") from None
    if not isinstance(spec, dict):
        raise StoreError(f"read {path}: damaged: not a mapping", hint="remove the file and run the task again")
    return spec


def write_spec(paths: Paths, kind: str, name: str, spec: dict[str, Any]) -> None:
    """What is there already is not written again: a restart needs no disk, and a full one lets an undo pass."""
    directory, data = paths.resource(kind, name), json.dumps(spec, indent=1, sort_keys=True).encode()
    if holds(f"{directory}/{_FILE}", data):
        return
    for turn in range(TURNS):
        make_directory(paths, directory)
        try:
            return write_atomic(f"{directory}/{_FILE}", data, mode=0o600)
        except KernelError as error:
            # Another task removed the last resource, and the empty directories with it.
            if error.errno != errno.ENOENT or turn == TURNS - 1:
                raise


def write_specs(paths: Paths, kind: str, specs: Mapping[str, dict[str, Any]]) -> None:
    at_once(partial(write_spec, paths, kind, name, spec) for name, spec in specs.items())


def at_once(writers: Iterable[Callable[[], Any]]) -> None:
    """Many at once: a file system's journal commits for all that wait for the disk at a time."""
    from concurrent.futures import ThreadPoolExecutor

    calls = list(writers)
    if len(calls) < 2:  # no threads for one
        for call in calls:
            call()
        return
    with ThreadPoolExecutor(_WRITERS) as pool:
        # Asked for the results, the pool raises what a writer did.
        list(pool.map(lambda call: call(), calls))


def remove_spec(paths: Paths, kind: str, name: str) -> None:
    """The resource is declared no longer; its directory goes too when nothing else is in it."""
    directory = paths.resource(kind, name)
    try:
        os.unlink(f"{directory}/{_FILE}")
    except (FileNotFoundError, NotADirectoryError):
        pass
    _sweep(directory)
    with contextlib.suppress(FileNotFoundError):
        fsync_directory(directory)
    with contextlib.suppress(OSError):  # others keep their data there, or it is gone already
        os.rmdir(directory)
        os.rmdir(os.path.dirname(directory))
        os.rmdir(paths.state)


def names(paths: Paths, kind: str) -> list[str]:
    """The declared resources of a kind, sorted."""
    base = f"{paths.state}/{kind}"
    try:
        entries = os.listdir(base)
    except FileNotFoundError:
        return []
    return sorted(name for name in entries if os.path.exists(f"{base}/{name}/{_FILE}"))


def make_directory(paths: Paths, directory: str) -> None:
    """A directory of the store with its parents.

    Only root may pass the top: a container's root can leave set-uid files in its own layer.
    """
    if not os.path.isdir(directory):
        make_directories(paths.state, 0o700)
        make_directories(directory, 0o755)


def _sweep(directory: str) -> None:
    """Temporary files of processes that were killed."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(directory):
            if name.startswith(f"{_FILE}.") and name.endswith(".new"):
                os.unlink(f"{directory}/{name}")


@contextlib.contextmanager
def lock(paths: Paths, kind: str, name: str) -> Iterator[None]:
    """The resource is ours alone for a while; waits for another process that has it."""
    path = paths.lock(kind, name.replace("/", "%"))
    fd = take_lock(path)
    try:
        yield
    finally:
        # Unlinked while it is still held: who waits for it sees that its file is gone, and takes a new one.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.close(fd)
        with contextlib.suppress(OSError):  # a task that failed leaves no directory either
            os.rmdir(os.path.dirname(path))
            os.rmdir(paths.run)
