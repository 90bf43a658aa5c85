# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor as a process of its own: a session of its own, no terminal, nothing open of who started it."""

from __future__ import annotations

import contextlib
import os
import sys

from .._errors import MonitorError
from .._kernel import exe, process
from .._paths import Paths

_READY = b"ready"
_LOG_LIMIT = 1 << 20


def spawn(paths: Paths, directory: str) -> None:
    """Start the version in ``directory``. Return when it listens; MonitorError with its own words when it could not."""
    os.makedirs(paths.run, mode=0o700, exist_ok=True)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _become_daemon(paths, directory, writer)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader, "rb") as file:
        said = file.read()
    if not said.startswith(_READY):
        text = said.decode("utf-8", "replace").strip() or "it ended without a word"
        raise MonitorError(f"start the supervisor: {text}", hint=f"see {paths.run}/monitor.log")


def _become_daemon(paths: Paths, directory: str, writer: int) -> None:
    """In the child. Forked twice: a session leader could get a controlling terminal by opening one."""
    try:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        os.chdir("/")
        os.umask(0o022)
        with contextlib.suppress(PermissionError):  # needs CAP_SYS_NICE
            os.setpriority(os.PRIO_PROCESS, 0, 0)
        _redirect(f"{paths.run}/monitor.log")
        process.close_all_but({0, 1, 2, writer})
        process.reset_signals()
        os.set_inheritable(writer, True)
        command = [sys.executable, "-IS", f"{directory}/vessel", "monitor", "--ready-fd", str(writer)]
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        exe.execute(sys.executable, command, env)
    except BaseException as error:
        os.write(writer, f"{type(error).__name__}: {error}".encode())
    os._exit(1)


def _redirect(path: str) -> None:
    if os.path.exists(path) and os.stat(path).st_size > _LOG_LIMIT:
        os.rename(path, f"{path}.1")
    null = os.open("/dev/null", os.O_RDONLY)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)


def tell_ready(fd: int) -> None:
    """To who waits in ``spawn``."""
    os.write(fd, _READY)
    os.close(fd)


def tell_failure(fd: int, error: BaseException) -> None:
    os.write(fd, str(error).encode())
    os.close(fd)
