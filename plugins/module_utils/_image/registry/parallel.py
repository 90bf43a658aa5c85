# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A child process a job, a few at a time. None outlives its parent, and the first that fails ends the others."""

from __future__ import annotations

import json
import os
import select
import signal
import traceback
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, NoReturn

from ... import _errors
from ..._errors import KernelError, VesselError
from ..._kernel.file import write_all
from ..._kernel.process import end_with

_PIECE = 1 << 16


class Job(NamedTuple):
    """``what`` it does, for the sentence that says that its process was killed; ``do`` gives what JSON can hold."""

    what: str
    do: Callable[[], Any]


class _Child(NamedTuple):
    number: int
    pid: int
    said: bytearray


def run(jobs: Sequence[Job], most: int) -> list[Any]:
    """What each gave, in the order of the jobs. A child's error is raised as its own kind, with its own words."""
    results: list[Any] = [None] * len(jobs)
    waiting = list(range(len(jobs)))[::-1]
    children: dict[int, _Child] = {}
    poll = select.poll()
    try:
        while waiting or children:
            while waiting and len(children) < most:
                index = waiting.pop()
                fd, pid = _start(jobs[index])
                children[fd] = _Child(index, pid, bytearray())
                poll.register(fd, select.POLLIN)
            for fd, dummy in poll.poll():
                child = children[fd]
                data = os.read(fd, _PIECE)
                child.said.extend(data)
                if not data:
                    poll.unregister(fd)
                    del children[fd]
                    os.close(fd)
                    status = os.waitpid(child.pid, 0)[1]
                    results[child.number] = _result(jobs[child.number], bytes(child.said), status)
    finally:
        for fd, child in children.items():
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            os.close(fd)
    return results


def _start(job: Job) -> tuple[int, int]:
    parent = os.getpid()
    fd, given = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
    except OSError as error:
        os.close(fd)
        raise KernelError("fork", job.what, error.errno or 0) from None
    finally:
        if os.getpid() == parent:
            os.close(given)
    if pid == 0:
        _child(job, parent, given)
    return fd, pid


def _child(job: Job, parent: int, given: int) -> NoReturn:
    try:
        end_with(parent)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        try:
            said = {"value": job.do()}
        except BaseException as error:
            said = _told(job, error)
        write_all(given, json.dumps(said).encode())
    finally:
        os._exit(0)  # nothing of the parent's is flushed or undone here


def _told(job: Job, error: BaseException) -> dict[str, Any]:
    if isinstance(error, OSError):
        error = KernelError(job.what, error.filename or "", error.errno or 0)
    if not isinstance(error, VesselError):
        return {"defect": traceback.format_exc()}
    plain = {key: value for key, value in vars(error).items() if isinstance(value, (str, int, bool))}
    return {"error": type(error).__name__, "fields": plain}


def _result(job: Job, said: bytes, status: int) -> Any:
    try:
        value = json.loads(said)
    except ValueError:
        signalled = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "nothing said"
        raise VesselError(f"{job.what}: its process ended too early ({signalled})", hint="is memory short?") from None
    if "defect" in value:
        raise RuntimeError(f"{job.what}: {value['defect']}")
    if "error" in value:
        raise _error(value["error"], value["fields"])
    return value["value"]


def _error(name: str, fields: dict[str, Any]) -> VesselError:
    """The child's error, whatever its own constructor asks for."""
    kind = getattr(_errors, name, VesselError)
    error: VesselError = kind.__new__(kind)
    VesselError.__init__(error, fields.get("message", ""), hint=fields.get("hint", ""))
    vars(error).update(fields)
    return error
