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
from dataclasses import dataclass, field
from typing import Any, Optional

from .._errors import KernelError, OptionError, StartError, WaitError
from .._kernel.file import remove_tree
from .._kernel.openat2 import open_in_root
from .._kernel.process import pidfd_open, send
from .._paths import Paths
from . import identity, running

_PREFIX = "exec-"


@dataclass(frozen=True)
class Request:
    """What is to run, and how; empty means as the container's own process."""

    argv: Sequence[str]
    user: str = ""
    chdir: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: Optional[bytes] = None
    tty: bool = False
    detach: bool = False
    timeout: Optional[float] = None


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


def process(paths: Paths, name: str, request: Request) -> dict[str, Any]:
    """The request as config.json's ``process``."""
    base: dict[str, Any] = running.config(paths, name)["process"]
    env = dict(item.partition("=")[::2] for item in base.get("env", []))
    result = {**base, "args": list(request.argv), "terminal": request.tty, "cwd": request.chdir or base["cwd"]}
    if request.user:
        who = _identity(paths, name, request.user)
        result["user"] = {"uid": who.uid, "gid": who.gid, "additionalGids": list(who.groups)}
        env["HOME"] = who.home
        result["capabilities"] = _capabilities(base.get("capabilities", {}), root=who.uid == 0)
    result["env"] = [f"{key}={value}" for key, value in {**env, **request.env}.items()]
    return result


def _identity(paths: Paths, name: str, user: str) -> identity.Identity:
    root = [f"/proc/{running.pid_of(paths, name)}/root"]
    passwd, group = (identity.read_file(root, f"/etc/{file}") for file in ("passwd", "group"))
    return identity.resolve(user, (), passwd, group)


def _capabilities(base: Mapping[str, list[str]], *, root: bool) -> dict[str, list[str]]:
    """The container's bounding set; held from the start by root alone (capabilities(7))."""
    bounding = list(base.get("bounding", []))
    held = bounding if root else []
    return {"bounding": bounding, "effective": held, "permitted": held}


def execute(paths: Paths, name: str, request: Request) -> Outcome:
    """Run it to its end, or until it started when it is detached."""
    running.pid_of(paths, name)
    spec = process(paths, name, request)
    _sweep(paths)
    # In memory, not on the disk: the environment may hold secrets.
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", dir=paths.run) as directory:
        spec_file, pid_file, log = (f"{directory}/{file}" for file in ("process.json", "pid", "log"))
        with open(spec_file, "w", encoding="utf-8") as file:
            json.dump(spec, file)
        command = [f"{paths.bin}/vessel-runtime", "--root", paths.runtime]
        last = ["exec", "--process", spec_file, "--pid-file", pid_file]
        if request.detach:
            return _detached([*command, "--log", log, *last, "--detach", name], log, pid_file)
        return _attached([*command, *last, name], name, request, pid_file)


def _sweep(paths: Paths) -> None:
    """What tasks left that were killed."""
    for name in os.listdir(paths.run):
        if name.startswith(_PREFIX) and not os.path.exists(f"/proc/{name.split('-')[1]}"):
            remove_tree(f"{paths.run}/{name}")


def _detached(command: list[str], log: str, pid_file: str) -> Outcome:
    # Its streams lead nowhere, for nobody will be there to read; what starting it failed of is in the runtime's log.
    null = subprocess.DEVNULL
    rc = subprocess.run(command, stdin=null, stdout=null, stderr=null, check=False).returncode
    return Outcome(rc, "", _read(log), int(_read(pid_file) or 0))


def _attached(command: list[str], name: str, request: Request, pid_file: str) -> Outcome:
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE if request.stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        stdout, stderr = child.communicate(request.stdin, timeout=request.timeout)
    except subprocess.TimeoutExpired:
        _end(pid_file)
        child.kill()
        child.communicate()
        raise WaitError(
            f"exec in {name}: {request.argv[0]} did not end within {request.timeout:g} s; it was killed"
        ) from None
    return Outcome(child.returncode, stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace"))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _end(pid_file: str) -> None:
    """Kill the process inside: ending the runtime alone would leave it."""
    pid = int(_read(pid_file) or 0)
    if pid:
        fd = pidfd_open(pid)
        send(fd, signal.SIGKILL)
        os.close(fd)


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
    outcome = execute(paths, name, _request(argv, desired))
    if desired["detach"]:
        if outcome.rc:
            raise StartError(f"exec in {name}: {outcome.stderr.strip() or outcome.rc}")
        return {**_result(argv, outcome, changed=True), "pid": outcome.pid}
    if desired["strip_empty_ends"]:
        outcome = Outcome(outcome.rc, outcome.stdout.rstrip("\r\n"), outcome.stderr.rstrip("\r\n"))
    return _result(argv, outcome, changed=True)


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
