# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vessel-runtime``: the OCI runtime's command line, with runc's verbs and flags."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, Optional

from .._errors import StartError, VesselError
from .._paths import booted_by_systemd
from . import resources
from .options import Parsed, UsageError, last, parse
from .output import complain, say

DEFAULT_ROOT = "/run/vessel-runtime"
# runc's code for what exec could not start: below it are the codes of commands.
NOT_STARTED = 255
USAGE = """\
usage: vessel-runtime [--root DIR] [--log FILE] [--log-format text|json] [--debug] VERB ...
  create [-b BUNDLE] [--console-socket S] [--pid-file F] [--no-pivot] [--no-new-keyring] [--preserve-fds N] ID
  start ID                     state ID
  kill [-a] ID [SIGNAL]        delete [-f] ID
  run [-d] [--keep] [options of create] ID
  exec [-t] [-d] [-u UID[:GID]] [-g GID] [-e K=V] [--cwd DIR] [-c CAP] [-p FILE] [--no-new-privs] [--ignore-paused]
       [--preserve-fds N] [--pid-file F] [--console-socket S] [--process-label L] [--apparmor P] ID COMMAND ...
  list [-q] [-f table|json]    ps [-f table|json] ID
  pause ID, resume ID          update [-r FILE | --memory N --cpu-shares N ...] ID
  events --stats ID            spec [-b BUNDLE]    features
"""

_GLOBAL_FLAGS = {"--debug": "debug", "--systemd-cgroup": "systemd", "--version": "version", "-v": "version",
                 "--help": "help", "-h": "help"}  # fmt: skip
_GLOBAL_VALUED = {
    "--root": "root",
    "--log": "log",
    "--log-format": "format",
    "--rootless": "rootless",
    "--criu": "criu",
}
_BUNDLE = {"-b": "bundle", "--bundle": "bundle"}
_START = {"--console-socket": "console", "--pid-file": "pid_file", "--preserve-fds": "preserve"}
_CREATE_FLAGS = {"--no-pivot": "no_pivot", "--no-new-keyring": "no_keyring"}
_DETACH = {"-d": "detach", "--detach": "detach"}
_FORMAT = {"-f": "format", "--format": "format"}
_RUN_FLAGS = {**_CREATE_FLAGS, **_DETACH, "--keep": "keep", "--no-subreaper": "no_subreaper"}
_EXEC_FLAGS = {
    "-t": "tty",
    "--tty": "tty",
    **_DETACH,
    "--no-new-privs": "no_new_privs",
    "--ignore-paused": "ignore_paused",
}
_EXEC = {
    **_START,
    "--cwd": "cwd",
    "-u": "user",
    "--user": "user",
    "-g": "gids",
    "--additional-gids": "gids",
    "-e": "env",
    "--env": "env",
    "-p": "process",
    "--process": "process",
    "-c": "cap",
    "--cap": "cap",
    "--process-label": "label",
    "--apparmor": "apparmor",
}
# Verb: its flags, its options with a value, and whether options may stand behind the first word.
VERBS: dict[str, tuple[dict[str, str], dict[str, str], bool]] = {
    "create": (_CREATE_FLAGS, {**_BUNDLE, **_START}, True),
    "start": ({}, {}, True),
    "run": (_RUN_FLAGS, {**_BUNDLE, **_START}, True),
    "state": ({}, {}, True),
    "kill": ({"-a": "all", "--all": "all"}, {}, True),
    "delete": ({"-f": "force", "--force": "force"}, {}, True),
    "exec": (_EXEC_FLAGS, _EXEC, False),
    "list": ({"-q": "quiet", "--quiet": "quiet"}, _FORMAT, True),
    "ps": ({}, _FORMAT, False),
    "pause": ({}, {}, True),
    "resume": ({}, {}, True),
    "update": ({}, {"-r": "resources", "--resources": "resources", **resources.FLAGS}, True),
    "events": ({"--stats": "stats"}, {"--interval": "interval"}, True),
    "spec": ({}, _BUNDLE, True),
    "features": ({}, {}, True),
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """The exit code: 0, 1 for what went wrong, 2 for a wrong command line; run and exec have the process's own."""
    options: Optional[Parsed] = None
    verb = ""
    try:
        options = parse(sys.argv[1:] if argv is None else argv, _GLOBAL_FLAGS, _GLOBAL_VALUED, interleaved=False)
        verb = options.rest[0] if options.rest else ""
        return _dispatch(options)
    except UsageError as error:
        _log(options, "error", str(error))
        return 2
    except KeyboardInterrupt:
        return 130
    except (VesselError, OSError) as error:
        _log(options, "error", _sentence(error), **_details(error))
        return NOT_STARTED if verb == "exec" else 1


def _dispatch(options: Parsed) -> int:
    if options["version"]:
        from .._runtime.spec import OCI_VERSION, VERSION

        say(f"vessel-runtime version {VERSION}\nspec: {OCI_VERSION}")
        return 0
    if options["help"] or not options.rest:
        say(USAGE, end="")
        return 0 if options["help"] else 2
    if options["systemd"] and not booted_by_systemd():
        raise VesselError("--systemd-cgroup: systemd does not run here", hint="use the cgroupfs manager")
    if last(options["format"], "text") not in ("text", "json"):
        raise UsageError(f"--log-format: {last(options['format'])!r} is not one of text, json")
    verb, *rest = options.rest
    if verb not in VERBS:
        raise UsageError(f"no such verb: {verb}", hint="vessel-runtime --help lists them")
    from .runtime_verbs import Runtime

    flags, valued, interleaved = VERBS[verb]
    root = os.path.abspath(last(options["root"], DEFAULT_ROOT))
    runtime = Runtime(root, warn=lambda text: _log(options, "warning", text), systemd=options["systemd"])
    return runtime.do(verb, parse(rest, flags, valued, interleaved=interleaved))


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    return str(error)


def _details(error: BaseException) -> dict[str, Any]:
    """What a program wants to know of a start that failed: it must not have to read sentences."""
    return {"step": error.step, "errno": error.errno} if isinstance(error, StartError) else {}


def _log(options: Optional[Parsed], level: str, text: str, **details: Any) -> None:
    """On stderr for people, and in the log for who called us; as JSON with the details."""
    complain(f"vessel-runtime: {'' if level == 'error' else f'{level}: '}{text}")
    path = last(options["log"]) if options is not None else ""
    if not path:
        return
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    as_json = options is not None and last(options["format"], "text") == "json"
    entry = {"level": level, "msg": text, "time": moment, **details}
    line = json.dumps(entry) if as_json else f'time="{moment}" level={level} msg={json.dumps(text)}'
    try:
        with open(path, "a") as file:
            file.write(f"{line}\n")
    except OSError:
        pass  # stderr has it
