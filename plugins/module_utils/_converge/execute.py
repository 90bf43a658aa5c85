# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One more process in a running container, through the installed runtime.

The runtime is a program of its own: the process that joins the container is not the module's, which holds secrets.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from .._cgroup.manager import open_manager
from .._errors import KernelError, OptionError, StartError, VesselError, WaitError
from .._kernel.file import remove_tree
from .._kernel.openat2 import open_in_root
from .._monitor.process import descendants
from .._paths import Paths
from . import running
from .processes import Request, process

_PREFIX = "exec-"


@dataclass(frozen=True)
class Outcome:
    rc: int
    stdout: str
    stderr: str
    pid: int = 0


def exists(paths: Paths, name: str, path: str) -> bool:
    """Is there such a file in the container?"""
    with running.root(paths, name) as root:
        try:
            os.close(open_in_root(root, path))
        except KernelError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return False
            raise
        return True


def execute(paths: Paths, name: str, request: Request) -> Outcome:
    """Run it to its end, or until it started when it is detached; StartError when it could not be started."""
    running.pid_of(paths, name)
    spec = process(paths, name, request)
    _sweep(paths)
    # In memory, not on the disk: the environment may hold secrets.
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", dir=paths.run) as directory:
        spec_file, pid_file, log = (f"{directory}/{file}" for file in ("process.json", "pid", "log"))
        with open(spec_file, "w", encoding="utf-8") as file:
            json.dump(spec, file)
        command = [f"{paths.bin}/vessel-runtime", "--root", paths.runtime, "--log", log, "--log-format", "json"]
        command += ["exec", "--process", spec_file, "--pid-file", pid_file, *(["--detach"] if request.detach else [])]
        outcome = _run([*command, paths.instance(name)], paths, name, request, pid_file)
        # The runtime's exit code may be the command's own; the file is there when the command has run.
        if not os.path.exists(pid_file):
            raise _not_started(_read(log), f"exec in {name}: {outcome.stderr.strip() or outcome.rc}")
        return outcome


def _not_started(log: str, otherwise: str) -> VesselError:
    """The runtime's last word. With errno it is the command that can't be; without, it is the container's state."""
    for line in reversed(log.splitlines()):
        entry = json.loads(line)
        if entry["level"] == "error":
            return StartError(entry["msg"], step=entry.get("step", ""), errno=entry.get("errno", 0))
    return StartError(otherwise)


def _sweep(paths: Paths) -> None:
    """What tasks left that were killed."""
    for name in os.listdir(paths.run):
        if name.startswith(_PREFIX) and not os.path.exists(f"/proc/{name.split('-')[1]}"):
            remove_tree(f"{paths.run}/{name}")


def _run(command: list[str], paths: Paths, name: str, request: Request, pid_file: str) -> Outcome:
    """The runtime, which ends when the command does, or when that has been started and is detached."""
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    # Detached, its streams lead nowhere, for nobody will be there to read.
    streams = null if request.detach else pipe
    stdin = null if request.stdin is None or request.detach else pipe
    with subprocess.Popen(command, stdin=stdin, stdout=streams, stderr=streams) as child:
        try:
            stdout, stderr = child.communicate(request.stdin, timeout=request.timeout)
        except subprocess.TimeoutExpired:
            _end(paths, name, pid_file)
            child.kill()
            what = f"{request.argv[0]} did not {'start' if request.detach else 'end'} within {request.timeout:g} s"
            raise WaitError(f"exec in {name}: {what}; it was killed") from None
    pid = int(_read(pid_file) or 0) if request.detach else 0
    return Outcome(child.returncode, _text(stdout), _text(stderr), pid)


def _text(output: Optional[bytes]) -> str:
    return (output or b"").decode("utf-8", "replace")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _end(paths: Paths, name: str, pid_file: str) -> None:
    """Kill the process inside and what it started: ending the runtime alone would leave them."""
    pid, all_inside = int(_read(pid_file) or 0), open_manager(paths.cgroup(name)).pids()
    for each in [pid, *descendants(pid, all_inside)] if pid in all_inside else []:
        try:
            os.kill(each, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended by itself


def task(paths: Paths, desired: dict[str, Any], *, check: bool) -> dict[str, Any]:
    """A task of the module container_exec: what it returns, with ``changed`` and, in check mode, ``skipped``."""
    name = desired["container"]
    argv = desired.get("argv") or desired.get("command") or []
    if not argv:
        raise OptionError("command", argv, "is empty; give a command")
    reason = _reason_to_skip(paths, name, desired)
    if reason:
        return _result(argv, Outcome(0, reason, ""), changed=False)
    if check:
        running.pid_of(paths, name)
        guarded = "creates" in desired or "removes" in desired
        told = {"msg": "the command would have run if not in check mode"}
        return {"changed": True, "cmd": argv, **told} if guarded else {"skipped": True, "cmd": argv, **told}
    if desired["tty"] and desired["detach"]:
        raise OptionError("tty", True, "can't be with detach: nobody would hold the terminal's other end")
    try:
        outcome = execute(paths, name, _request(argv, desired))
    except StartError as error:
        if not error.errno:
            raise
        outcome = Outcome(error.exit_code, "", "")
        return {**_result(argv, outcome, changed=False), "started": False, "msg": f"container {name}: {error}"}
    if desired["strip_empty_ends"]:
        ends = "\r\n"
        outcome = replace(outcome, stdout=outcome.stdout.rstrip(ends), stderr=outcome.stderr.rstrip(ends))
    detached = {"pid": outcome.pid} if desired["detach"] else {}
    return {**_result(argv, outcome, changed=True), "started": True, **detached}


def _reason_to_skip(paths: Paths, name: str, desired: Mapping[str, Any]) -> str:
    if "creates" in desired and exists(paths, name, desired["creates"]):
        return f"skipped, since {desired['creates']} exists"
    if "removes" in desired and not exists(paths, name, desired["removes"]):
        return f"skipped, since {desired['removes']} does not exist"
    return ""


def _request(argv: Sequence[str], desired: Mapping[str, Any]) -> Request:
    stdin = desired.get("stdin")
    if stdin is not None and desired["stdin_add_newline"] and not stdin.endswith("\n"):
        stdin += "\n"
    return Request(
        argv,
        desired.get("user", ""),
        desired.get("chdir", ""),
        desired.get("env", {}),
        None if stdin is None else stdin.encode(),
        desired["tty"],
        desired["detach"],
        desired.get("timeout"),
    )


def _result(argv: Sequence[str], outcome: Outcome, *, changed: bool) -> dict[str, Any]:
    streams = {"stdout": outcome.stdout, "stderr": outcome.stderr}
    lines = {f"{key}_lines": text.splitlines() for key, text in streams.items()}
    return {"changed": changed, "cmd": list(argv), "rc": outcome.rc, **streams, **lines}
