# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vessel``: what runs on this host, in the words of its administrator."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Callable, Optional

from .._errors import NotFoundError, StartError, StateError, VesselError
from .._paths import Paths
from . import version as versions
from .options import Parsed, UsageError, last, parse
from .output import complain, say

USAGE = """\
usage: vessel [--root DIR] VERB ...

  ps [--json] [NAME...]          containers and how they are
  exec [-i] [-t] [-u USER] [-w DIR] [-e KEY=VALUE] NAME COMMAND...
                                 one more process in a container
  cp [-u USER] [-m MODE] [--size BYTES] SOURCE TARGET
                                 a file into a container or out of it: one of both is NAME:PATH, and - is stdin or
                                 stdout
  exec | cp [--persist SECONDS] [--report WORD] ...
                                 for programs: the first leaves a process that starts the next ones faster, and goes
                                 when it was not needed for so long (it must be the first option); the second has the
                                 exit code told as the last line of stderr, after the word
  session --persist SECONDS --for UID
                                 for programs: leaves a process that runs verbs as root for that user of this host, and
                                 prints its socket, which is that user's alone; it goes when it was not needed for so
                                 long, and takes no more of them ten minutes after this was last run. Who may run this
                                 as root may run any verb
  logs [-f] [-n LINES] NAME      what a container has said
  stats [--json] [NAME...]       what containers use
  inspect NAME...                all that is known of a container
  facts [NAME...]                what the module container_info tells of them, as JSON in one line
  start | stop | restart NAME... [-t SECONDS]
  restore [--boot]               after a reboot: what was declared and ran, runs again; with --boot what has ended
                                 since the host was started does not
  shutdown                       before one: all end, in the order of their stacks; restore brings them back
  monitor [--daemon]             the supervisor
  runtime ...                    the OCI runtime, also called vessel-runtime
  version
"""

# The exit code of exec that is neither the command's nor says that it could not be started, as docker has it.
_OURS = 125
_NOBODY = (1 << 32) - 1  # which chown(2) takes for none


def main(args: Sequence[str], *, root: str = "") -> int:
    """The exit code: 0, 1 for what went wrong, 2 for a wrong command line; exec has the command's own."""
    verb = ""
    try:
        given = parse(args, {"-h": "help", "--help": "help"}, {"--root": "root"}, interleaved=False)
        if given["help"] or not given.rest:
            say(USAGE, end="")
            return 0 if given["help"] else 2
        verb, *rest = given.rest
        if verb not in VERBS:
            raise UsageError(f"no such verb: {verb}", hint="vessel --help lists them")
        if rest[:1] in (["-h"], ["--help"]) and verb != "runtime":
            say(usage_of(verb))
            return 0
        paths = Paths.at(last(given["root"]) or os.environ.get("VESSEL_ROOT") or root)
        return VERBS[verb](paths, rest)
    except UsageError as error:
        return _fail(error, 2)
    except BrokenPipeError:
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)  # the reader has enough; what is buffered goes nowhere
        return 0
    except KeyboardInterrupt:
        return 130
    except (VesselError, OSError) as error:
        return _fail(error, _OURS if verb == "exec" else 1)


def usage_of(verb: str) -> str:
    """What the usage has of it."""
    import re

    blocks = re.findall(r"^  (\S.*\n(?: {4,}.*\n)*)", USAGE, re.MULTILINE)
    named = {block: re.match(r"\w+( \| \w+)*", block) for block in blocks}
    return "\n".join(f"  {block.rstrip()}" for block, verbs in named.items() if verbs and verb in verbs[0].split(" | "))


def _fail(error: BaseException, code: int) -> int:
    sys.stdout.flush()
    if isinstance(error, OSError) and not isinstance(error, VesselError):
        complain(f"vessel: {error.filename or 'system call'}: {error.strerror}")
    else:
        complain(f"vessel: {error}")
    return code


def _names(parsed: Parsed, what: str = "NAME") -> list[str]:
    if not parsed.rest:
        raise UsageError(f"{what} is missing")
    return parsed.rest


def _number(values: list[str], option: str, kind: Callable[[str], float]) -> Optional[float]:
    if not values:
        return None
    try:
        return kind(values[-1])
    except ValueError:
        raise UsageError(f"{option}: {values[-1]!r} is no number") from None


def ps(paths: Paths, args: list[str]) -> int:
    from . import show

    parsed = parse(args, {"--json": "json"}, {}, interleaved=True)
    say(show.ps(paths, parsed.rest, as_json=parsed["json"]))
    return 0


def stats(paths: Paths, args: list[str]) -> int:
    from . import show

    parsed = parse(args, {"--json": "json"}, {}, interleaved=True)
    say(show.stats(paths, parsed.rest, as_json=parsed["json"]))
    return 0


def inspect(paths: Paths, args: list[str]) -> int:
    from . import show

    say(show.inspect(paths, _names(parse(args, {}, {}, interleaved=True))))
    return 0


def facts(paths: Paths, args: list[str]) -> int:
    import json

    from .._converge.container import observe

    say(json.dumps(observe.facts(paths, parse(args, {}, {}, interleaved=True).rest or None)))
    return 0


def logs(paths: Paths, args: list[str]) -> int:
    from . import follow

    flags = {"-f": "follow", "--follow": "follow"}
    parsed = parse(args, flags, {"-n": "lines", "--tail": "lines", "--lines": "lines"}, interleaved=True)
    if len(_names(parsed)) > 1:
        raise UsageError("logs takes one NAME")
    lines = _number(parsed["lines"], "-n", int)
    return follow.logs(paths, parsed.rest[0], None if lines is None else int(lines), follow=parsed["follow"])


def execute(paths: Paths, args: list[str]) -> int:
    flags = {"-i": "interactive", "--interactive": "interactive", "-t": "tty", "--tty": "tty"}
    valued = {"-u": "user", "--user": "user", "-w": "workdir", "--workdir": "workdir", "-e": "env", "--env": "env"}
    valued.update({"--report": "report", "--persist": "persist"})
    parsed = parse(args, flags, valued, interleaved=False)
    name, *command = _names(parsed)
    if not command:
        raise UsageError("COMMAND is missing")
    for entry_ in parsed["env"]:
        if "=" not in entry_:
            raise UsageError(f"-e: {entry_!r} is not KEY=VALUE")
    _need_root("exec")
    _persist(paths, parsed)
    from .._converge.processes import Request, process
    from . import show, terminal

    show.known(paths, name)
    if not show.status(paths, name).get("pid"):
        raise StateError(f"container {name} does not run", hint=f"vessel start {name}")
    env = dict(entry_.partition("=")[::2] for entry_ in parsed["env"])
    request = Request(command, user=last(parsed["user"]), chdir=last(parsed["workdir"]), env=env, tty=parsed["tty"])
    try:
        spec = process(paths, name, request)
        code = terminal.run(paths, name, spec, interactive=parsed["interactive"], tty=parsed["tty"])
    except StartError as error:
        code = _fail(error, error.exit_code)
        if not error.errno:  # it is not the command that can't be started
            return code
    return _report(last(parsed["report"]), code)


def _report(word: str, code: int) -> int:
    """With --report the command's exit code is told in the last line of stderr, so that a program at the other end of
    ssh can tell it from ours, and from ssh's own."""
    if not word:
        return code
    complain(f"{word} {code}")
    return 0


def cp(paths: Paths, args: list[str]) -> int:
    from . import cp as verb

    _need_root("cp")
    parsed = verb.read(args)
    _persist(paths, parsed)
    verb.copy(paths, parsed)
    return _report(last(parsed["report"]), 0)


def _persist(paths: Paths, parsed: Parsed) -> None:
    seconds = _number(parsed["persist"], "--persist", float)
    if seconds:
        from . import serve

        serve.start(paths, seconds)


def session(paths: Paths, args: list[str]) -> int:
    from . import serve

    parsed = parse(args, {}, {"--persist": "persist", "--for": "uid"}, interleaved=True)
    seconds = _number(parsed["persist"], "--persist", float)
    uid = _number(parsed["uid"], "--for", int)
    if parsed.rest or seconds is None or uid is None or not (seconds > 0 and 0 <= uid < _NOBODY):
        raise UsageError("session takes --persist SECONDS, more than 0, and --for UID, a user's number")
    _need_root("session")
    say(serve.session(paths, seconds, int(uid)))
    return 0


def _need_root(verb: str) -> None:
    if os.geteuid():
        raise VesselError(f"{verb} needs root")


def _each(paths: Paths, args: list[str], op: str) -> int:
    """One request a name, all under way at once; every failure is told. What is stopped stays so over a reboot."""
    from .._converge.container import prepare
    from .install import ensure

    parsed = parse(args, {}, {"-t": "timeout", "--timeout": "timeout"}, interleaved=True)
    names = _names(parsed)
    timeout = _number(parsed["timeout"], "-t", float)
    code = 0
    with ensure(paths) as client:
        fields = {} if timeout is None or op == "start" else {"timeout": timeout}
        asked = {client.submit(op, name=paths.instance(name), **fields): name for name in names}
        while asked:
            number, reply = client.next()
            name = asked.pop(number)
            try:
                client.result(reply)
                if op != "restart":
                    prepare.remember_stopped(paths, name, op == "stop")
                say(name)
            except NotFoundError as error:
                hint = "" if op != "start" else "vessel restore, or a task of vessel.host, makes its bundle"
                code = _fail(NotFoundError(error.kind, name, hint=hint), 1)
            except VesselError as error:
                code = _fail(error, 1)
    return code


def monitor(paths: Paths, args: list[str]) -> int:
    parsed = parse(args, {"--daemon": "daemon"}, {"--ready-fd": "fd"}, interleaved=True)
    if parsed["daemon"]:
        from .install import ensure

        with ensure(paths) as client:
            say(str(client.call("ping")["pid"]))
        return 0
    from .._kernel import sd_notify
    from .._monitor.server import main as supervise
    from . import daemon

    version = os.path.basename(versions.installed())
    if sd_notify.ENV in os.environ:
        from . import service

        ready = partial(sd_notify.sd_notify, "READY=1")
        idle = supervise(paths, version=version, idle_exit=service.PATIENCE, ready=ready)
        return service.IDLE if idle else 0
    if not parsed["fd"]:
        supervise(paths, version=version, idle_exit=0)
        return 0
    fd = int(parsed["fd"][-1])
    os.set_inheritable(fd, False)
    try:
        supervise(paths, version=version, ready=lambda: daemon.tell_ready(fd))
    except (VesselError, OSError) as error:
        daemon.tell_failure(fd, error)
        raise
    return 0


def restore(paths: Paths, args: list[str]) -> int:
    from .._converge import host
    from .._converge.restore import restore as converge
    from .install import ensure

    parsed = parse(args, {"--boot": "boot"}, {}, interleaved=True)
    host.set_starter(ensure)
    return _told(*converge(paths, boot=bool(parsed["boot"])))


def shutdown(paths: Paths, args: list[str]) -> int:
    from .._converge.restore import shut_down

    parse(args, {}, {}, interleaved=True)
    return _told(*shut_down(paths))


def _told(done: Sequence[str], errors: Sequence[Exception]) -> int:
    """Say what was done and what failed; the exit code."""
    for line in done:
        say(line)
    for error in errors:
        _fail(error, 1)
    return 1 if errors else 0


def version(paths: Paths, args: list[str]) -> int:
    from .._kernel import exe
    from .install import version as own_version

    running = ""
    try:
        from .._monitor.client import connect

        with connect(paths) as client:
            answer = client.call("ping")
        running = f"supervisor {answer['version']} (pid {answer['pid']}, {answer['containers']} containers)"
    except VesselError:
        running = "no supervisor runs"
    say(f"vessel {os.path.basename(versions.installed()) or own_version()}\n{running}")
    say(f"python {sys.version.split()[0]} at {sys.executable}, {exe.protection()}")
    return 0


VERBS: dict[str, Callable[[Paths, list[str]], int]] = {
    "ps": ps,
    "exec": execute,
    "cp": cp,
    "session": session,
    "logs": logs,
    "stats": stats,
    "inspect": inspect,
    "facts": facts,
    "start": lambda paths, args: _each(paths, args, "start"),
    "stop": lambda paths, args: _each(paths, args, "stop"),
    "restart": lambda paths, args: _each(paths, args, "restart"),
    "monitor": monitor,
    "restore": restore,
    "shutdown": shutdown,
    "version": version,
}
