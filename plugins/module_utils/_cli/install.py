# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the engine on the host, as the module that runs has it, and sees to it that its supervisor runs.

``libexec/HASH/`` holds the engine with its bytecode and the script that starts it, to which ``bin/vessel`` and
``bin/vessel-runtime`` lead. A version is written beside and renamed in, so that one which is there is whole; the hash
is of all that goes in.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import time
from collections.abc import Iterable
from typing import Any, Optional

from .._cgroup.manager import open_manager
from .._errors import KernelError, MonitorError, VesselError
from .._kernel.file import fsync_directory, holds, locked, remove_tree, write_atomic
from .._monitor.client import Client, connect
from .._paths import Paths, booted_by_systemd
from . import engine  # it imports all of the engine, so whoever ships this file ships it all
from . import version as versions

# Names of the command; the same file behind both.
NAMES = ("vessel", "vessel-runtime")
_PATIENCE = 30.0
_HINT = "the task must run as root, and the directory must be writable; the option root moves the installation"

_TOP = os.path.dirname(os.path.dirname(os.path.abspath(engine.__file__)))
_cache: dict[str, Any] = {}


# what is installed
def sources() -> dict[str, bytes]:
    """Every file of the engine that the running code is part of: path below module_utils, content."""
    if os.path.isdir(_TOP):
        return versions.from_directory(_TOP)
    found = _from_archive(f"{versions.PACKAGE}/")
    return {path: content for path, content in found.items() if versions.is_engine(path)}


def carry(border: str) -> None:
    """Install Ansible's own files too, of ansible-core ``border``, when they came along in a module's payload.

    With them beside the engine, modules run from what is installed (plugins/action/container.py).
    """
    if not os.path.isdir(_TOP):
        _cache["border"] = border


def _from_archive(prefix: str) -> dict[str, bytes]:
    """A module comes as a zip that Python imports from."""
    from zipfile import ZipFile

    with ZipFile(globals()["__loader__"].archive) as file:
        paths = [path for path in file.namelist() if path.startswith(prefix) and path.endswith(".py")]
        return {path[len(prefix) :]: file.read(path) for path in paths}


def version() -> str:
    """What the running code is installed as, or would be."""
    if "version" not in _cache:
        home = versions.installed()
        made = versions.name(versions.digest(sources()), str(_cache.get("border", ""))) if not home else ""
        _cache["version"] = os.path.basename(home) or made
    return str(_cache["version"])


# how it is installed
def install(paths: Paths) -> str:
    """The directory of the engine's present version, which is there afterwards."""
    directory = f"{paths.libexec}/{version()}"
    try:
        if not os.path.isdir(directory):
            _write(paths, directory)
        if not versions.trusted(directory):
            hint = "remove it, or choose a root below which nobody else may write"
            raise VesselError(f"install the engine: others may write to {directory}", hint=hint)
        _link(paths, directory)
    except KernelError as error:
        raise KernelError("install the engine:", f"{error.operation} {error.obj}", error.errno, hint=_HINT) from None
    except OSError as error:
        raise KernelError("install the engine:", error.filename or "", error.errno or 0, hint=_HINT) from None
    return directory


def refresh(paths: Paths) -> None:
    """Where there is an engine of another version, put this one in its place, and its supervisor in that one's."""
    directory = f"{paths.libexec}/{version()}"
    if os.path.isdir(directory):
        _mend(paths, directory)
    if os.path.isdir(directory) or not os.path.isdir(paths.libexec):
        return
    try:
        connect(paths).close()
    except MonitorError:
        with locked(f"{paths.run}/locks/engine"):
            install(paths)
    else:
        ensure(paths).close()


def _files(paths: Paths, directory: str) -> dict[str, bytes]:
    """All that a version consists of: path below its directory, content."""
    files = {f"{versions.PACKAGE}/{path}": content for path, content in sources().items()}
    if "border" in _cache:
        files.update({f"ansible/{path}": content for path, content in _from_archive("ansible/").items()})
    for package in _packages(files):
        files.setdefault(f"{package}/__init__.py", b"")  # a package proper is found faster than a namespace
    package = versions.PACKAGE.replace("/", ".")
    script = _SCRIPT.format(python=sys.executable, directory=directory, package=package, root=paths.root)
    return {**files, "vessel": script.encode()}


def _mend(paths: Paths, directory: str) -> None:
    """What somebody removed of a version that is there, for else each task would come with all of it anew.

    Who runs from it has no need to look: he could not.
    """
    if versions.installed():
        return
    for path, content in _files(paths, directory).items():
        if not holds(f"{directory}/{path}", content):
            os.makedirs(os.path.dirname(f"{directory}/{path}"), mode=0o755, exist_ok=True)
            write_atomic(f"{directory}/{path}", content, mode=_mode(path))
            _compile(f"{directory}/{path}", f"{directory}/{path}")


def _mode(path: str) -> int:
    return 0o644 if path.endswith(".py") else 0o755


def _write(paths: Paths, directory: str) -> None:
    new = f"{directory}.{os.getpid()}.new"
    files = _files(paths, directory)
    try:
        for path, content in files.items():
            _write_file(f"{new}/{path}", content, mode=_mode(path))
        for path in files:
            _compile(f"{new}/{path}", f"{directory}/{path}")
        _sync(new)
        os.rename(new, directory)
    except OSError as error:
        remove_tree(new)
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # another one was faster
            raise
    fsync_directory(paths.libexec)
    _remove_older(paths, directory)


def _packages(paths: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        while path := os.path.dirname(path):
            found.add(path)
    return found


def _write_file(path: str, content: bytes, *, mode: int) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    os.fchmod(fd, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(content)


def _compile(path: str, shown: str) -> None:
    """Unchecked: the directory's name says what is in it, so nobody has to look at times."""
    import py_compile

    if not path.endswith(".py"):
        return
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(path, dfile=shown, doraise=True, invalidation_mode=mode)


def _sync(top: str) -> None:
    """All of it on the disk before it has its name: after a power cut a version is whole or not there."""
    for directory, dummy, files in os.walk(top):
        for name in files:
            fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            os.fsync(fd)
            os.close(fd)
        fsync_directory(directory)


_SCRIPT = """\
#!{python} -IS
# Installed by the Ansible collection vessel.host; every version has its own.
import sys
sys.path.insert(0, {directory!r})
from {package}._cli.main import main
sys.exit(main(sys.argv, root={root!r}))
"""


def _link(paths: Paths, directory: str) -> None:
    """The command is the present version's, under both its names; another version's warm process takes no more."""
    os.makedirs(paths.bin, mode=0o755, exist_ok=True)
    changed = False
    for name in NAMES:
        path, target = f"{paths.bin}/{name}", f"{directory}/vessel"
        if not (os.path.islink(path) and os.readlink(path) == target):
            new = f"{path}.{os.getpid()}.new"
            os.symlink(target, new)
            os.rename(new, path)
            changed = True
    if changed:
        from . import serve

        serve.quit(paths)


def _remove_older(paths: Paths, keep: str) -> None:
    """Versions that no process runs from, and what a killed installation left."""
    for name in os.listdir(paths.libexec):
        path = f"{paths.libexec}/{name}"
        if name.endswith(".new"):  # who writes or removes one has its pid in the name
            if not os.path.exists(f"/proc/{name.split('.')[-2]}"):
                remove_tree(path)
        elif path != keep:
            _remove_unused(path)


def _remove_unused(path: str) -> None:
    """Who runs from a version holds a lock on its directory.

    It loses its name under that lock, for whoever is about to run from it waits for the lock, and looks again.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        gone = f"{path}.{os.getpid()}.new"
        os.rename(path, gone)
        remove_tree(gone)
    except BlockingIOError:
        pass
    finally:
        os.close(fd)


# the supervisor
def ensure(paths: Paths) -> Client:
    """A client of a supervisor of this version, which is installed and started as need be.

    One of another version is asked to quit; the new one adopts its containers.
    """
    client = _present(paths)
    if (
        client is not None
        and os.path.isdir(f"{paths.libexec}/{version()}")
        and os.path.exists(f"{paths.bin}/{NAMES[1]}")
    ):
        return client
    if client is not None:
        client.close()
    with locked(f"{paths.run}/locks/engine"):
        directory = install(paths)
        client = _present(paths)  # another module may have been faster
        if client is not None:
            return client
        _quit_other(paths)
        return _start(paths, directory)


def _present(paths: Paths) -> Optional[Client]:
    """A connection to a supervisor of this version, when one answers."""
    try:
        client = connect(paths)
    except MonitorError:
        return None
    try:
        client.settimeout(_PATIENCE)
        if client.call("ping").get("version") == version():
            client.settimeout(None)
            return client
    except MonitorError:
        pass
    client.close()
    return None


def _quit_other(paths: Paths) -> None:
    """Ask a supervisor of another version to leave, and wait until its process has."""
    try:
        client = connect(paths)
    except MonitorError:
        return
    with client:
        client.settimeout(_PATIENCE)
        try:
            pid = int(client.call("ping")["pid"])
            fd = os.pidfd_open(pid)
        except (MonitorError, ProcessLookupError):
            return
        try:
            client.submit("quit")
            _await_end(fd, pid)
        finally:
            os.close(fd)


def _await_end(pidfd: int, pid: int) -> None:
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(_PATIENCE * 1000):
        raise MonitorError(f"the supervisor of another version (pid {pid}) does not quit", hint="end it by hand")


def _start(paths: Paths, directory: str) -> Client:
    if booted_by_systemd():
        from .service import start

        start(paths)
    else:
        from .daemon import spawn

        spawn(paths, directory)
    deadline = time.monotonic() + _PATIENCE
    while True:
        client = _present(paths)
        if client is not None:
            return client
        if time.monotonic() > deadline:
            where = f"journalctl --unit {paths.prefix}" if booted_by_systemd() else f"{paths.run}/monitor.log"
            raise MonitorError("the supervisor was started and does not answer", hint=f"see {where}")
        time.sleep(0.01)


def remove(paths: Paths) -> None:
    """Take the engine off the host: for when nothing of ours is left. It refuses while there are containers."""
    try:
        client = connect(paths)
    except MonitorError:
        pass
    else:
        with client:
            count = int(client.call("ping").get("containers") or 0)
        if count:
            raise VesselError(f"{count} containers are left", hint="remove them first")
        _quit_other(paths)
    from . import serve

    serve.quit(paths)
    if booted_by_systemd():
        from . import service

        service.remove(paths)
    for name in ("monitor.sock", "monitor.lock", "monitor.log", "monitor.log.1"):
        _unlink(f"{paths.run}/{name}")
    for path in (*(f"{paths.bin}/{name}" for name in NAMES), f"{paths.run}/locks/engine", f"{paths.run}/locks/warm"):
        _unlink(path)
    remove_tree(paths.libexec)
    if not booted_by_systemd():
        # A task that was killed between a group's parent and the group leaves the parent.
        open_manager(paths.cgroups).remove()
    for path in (f"{paths.run}/locks", f"{paths.run}/bundles", paths.runtime, paths.run, *_own_directories(paths)):
        try:
            os.rmdir(path)
        except OSError:
            pass  # others have something there, or it is gone


def _own_directories(paths: Paths) -> list[str]:
    return [paths.bin] if paths.tag else []


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
