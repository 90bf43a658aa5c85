# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vessel-runtime``: the OCI runtime's command line, with runc's verbs and flags."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Optional

from .._errors import SpecError, VesselError
from .._kernel import process
from .._runtime import state as states
from .options import Parsed, UsageError, last, parse
from .output import complain, say

DEFAULT_ROOT = "/run/vessel-runtime"
USAGE = """\
usage: vessel-runtime [--root DIR] [--log FILE] [--log-format text|json] [--debug] VERB ...
  create [-b BUNDLE] [--console-socket S] [--pid-file F] [--no-pivot] [--no-new-keyring] [--preserve-fds N] ID
  start ID                     state ID
  kill [-a] ID [SIGNAL]        delete [-f] ID
  run [-d] [options of create] ID
  exec [-t] [-d] [-u UID[:GID]] [-e K=V] [--cwd DIR] [-p FILE] [--pid-file F] [--console-socket S] ID COMMAND ...
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
_CREATE = {**_BUNDLE, "--console-socket": "console", "--pid-file": "pid_file", "--preserve-fds": "preserve"}
_CREATE_FLAGS = {"--no-pivot": "no_pivot", "--no-new-keyring": "no_keyring"}
_DETACH = {"-d": "detach", "--detach": "detach"}
_FORMAT = {"-f": "format", "--format": "format"}


class Runtime:
    def __init__(self, root: str) -> None:
        self.root = root

    def create(self, parsed: Parsed) -> int:
        from .._runtime.create import create

        state = create(self.root, _id(parsed), last(parsed["bundle"], "."), **_create_options(parsed))
        _write_pid(parsed, state.pid)
        return 0

    def start(self, parsed: Parsed) -> int:
        from .._runtime.start import start

        start(self.root, _id(parsed))
        return 0

    def run(self, parsed: Parsed) -> int:
        from .._runtime.bundle import load
        from .._runtime.run import run

        bundle, options = last(parsed["bundle"], "."), _create_options(parsed)
        terminal = bool(load(bundle)["process"].get("terminal"))
        if terminal and not options["console_socket"]:
            if parsed["detach"]:
                raise UsageError("a detached container with a terminal needs --console-socket")
            return self._run_at_terminal(parsed, bundle, options)
        state = run(self.root, _id(parsed), bundle, **options)
        _write_pid(parsed, state.pid)
        return 0 if parsed["detach"] else self._attend(state)

    def _run_at_terminal(self, parsed: Parsed, bundle: str, options: dict[str, Any]) -> int:
        from .._runtime.run import run
        from . import terminal

        os.makedirs(self.root, mode=0o711, exist_ok=True)
        with terminal.Console(self.root) as console:
            state = run(self.root, _id(parsed), bundle, **{**options, "console_socket": console.address})
            master = console.receive()
        _write_pid(parsed, state.pid)
        terminal.attend(master, interactive=True)
        return self._attend(state)

    def _attend(self, state: states.State) -> int:
        """Wait for our child and take it away, as a foreground run does."""
        from .._runtime.delete import delete

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, lambda number, dummy: os.kill(state.pid, number))
        code = process.exit_code(os.waitpid(state.pid, 0)[1])
        delete(self.root, state.id, force=True)
        return code

    def state(self, parsed: Parsed) -> int:
        say(json.dumps(states.load(self.root, _id(parsed)).to_oci(), indent=2))
        return 0

    def kill(self, parsed: Parsed) -> int:
        from .._runtime.kill import kill

        kill(self.root, _id(parsed), _signal(parsed.rest[1] if len(parsed.rest) > 1 else "TERM"), all=parsed["all"])
        return 0

    def delete(self, parsed: Parsed) -> int:
        from .._runtime.delete import delete

        delete(self.root, _id(parsed), force=parsed["force"])
        return 0

    def exec(self, parsed: Parsed) -> int:
        from .._runtime import exec as runtime_exec
        from . import terminal

        container, spec = _id(parsed), self._exec_spec(parsed)
        options: dict[str, Any] = {
            "console_socket": last(parsed["console"]),
            "preserve": _preserve(parsed),
            "paused": parsed["ignore_paused"],
        }
        if spec.get("terminal") and not options["console_socket"]:
            with terminal.Console(self.root) as console:
                started = runtime_exec.exec(
                    self.root, container, spec, **{**options, "console_socket": console.address}
                )
                master = console.receive()
            terminal.attend(master, interactive=True)
        else:
            started = runtime_exec.exec(self.root, container, spec, **options)
        _write_pid(parsed, started.pid)
        if parsed["detach"]:
            return 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, lambda number, dummy: process.send(started.pidfd, number))
        return started.wait()

    def _exec_spec(self, parsed: Parsed) -> dict[str, Any]:
        """The container's own process with what the flags say, or the whole of --process."""
        if parsed["process"]:
            with open(last(parsed["process"])) as file:
                return dict(json.load(file))
        from .._runtime.bundle import load

        spec = dict(load(states.load(self.root, _id(parsed)).bundle)["process"])
        if len(parsed.rest) < 2:
            raise UsageError("exec needs a command behind the container's id")
        spec.update(args=parsed.rest[1:], terminal=bool(parsed["tty"]))
        spec["env"] = [*(spec.get("env") or []), *parsed["env"]]
        if parsed["cwd"]:
            spec["cwd"] = last(parsed["cwd"])
        if parsed["user"]:
            uid, dummy, gid = last(parsed["user"]).partition(":")
            spec["user"] = {**spec.get("user", {}), "uid": int(uid), "gid": int(gid or 0)}
        if parsed["gids"]:
            user = spec.setdefault("user", {})
            user["additionalGids"] = [*(user.get("additionalGids") or []), *map(int, parsed["gids"])]
        if parsed["no_new_privs"]:
            spec["noNewPrivileges"] = True
        if parsed["cap"]:
            sets = {name: list(caps or []) for name, caps in (spec.get("capabilities") or {}).items()}
            for name in ("bounding", "effective", "permitted"):
                sets[name] = sorted({*sets.get(name, []), *parsed["cap"]})
            spec["capabilities"] = sets
        return spec

    def list(self, parsed: Parsed) -> int:
        found = [states.load(self.root, name) for name in states.ids(self.root)]
        if parsed["quiet"]:
            say("".join(f"{state.id}\n" for state in found), end="")
        elif last(parsed["format"], "table") == "json":
            say(json.dumps([state.to_oci() for state in found]))
        else:
            rows = [("ID", "PID", "STATUS", "BUNDLE", "CREATED")]
            for state in found:
                oci = state.to_oci()
                rows.append((state.id, str(oci["pid"]), oci["status"], state.bundle, state.created))
            _table(rows)
        return 0

    def ps(self, parsed: Parsed) -> int:
        pids = states.load(self.root, _id(parsed)).manager().pids()
        if last(parsed["format"], "table") == "json":
            say(json.dumps(pids))
            return 0
        rows = [("PID", "COMMAND")]
        for pid in pids:
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    rows.append((str(pid), file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()))
            except FileNotFoundError:
                continue
        _table(rows)
        return 0

    def pause(self, parsed: Parsed) -> int:
        from .._runtime.pause import pause

        pause(self.root, _id(parsed))
        return 0

    def resume(self, parsed: Parsed) -> int:
        from .._runtime.pause import resume

        resume(self.root, _id(parsed))
        return 0

    def update(self, parsed: Parsed) -> int:
        from .._runtime.update import update

        update(self.root, _id(parsed), _resources(parsed))
        return 0

    def events(self, parsed: Parsed) -> int:
        if not parsed["stats"]:
            raise UsageError("events are given once, with --stats")
        state = states.load(self.root, _id(parsed))
        say(json.dumps({"type": "stats", "id": state.id, "data": state.manager().stats()}))
        return 0

    def spec(self, parsed: Parsed) -> int:
        from .._runtime.spec import template

        path = os.path.join(last(parsed["bundle"], "."), "config.json")
        try:
            with open(path, "x") as file:
                json.dump(template(), file, indent=4)
        except FileExistsError:
            raise VesselError(f"{path} exists already", hint="remove it first") from None
        return 0

    def features(self, parsed: Parsed) -> int:
        from .._runtime.spec import features

        say(json.dumps(features(), indent=2))
        return 0


# Verb: its flags, its options with a value, and whether options may stand behind the first word.
_EXEC_FLAGS = {
    "-t": "tty",
    "--tty": "tty",
    **_DETACH,
    "--no-new-privs": "no_new_privs",
    "--ignore-paused": "ignore_paused",
}
_EXEC = {
    "--console-socket": "console",
    "--pid-file": "pid_file",
    "--preserve-fds": "preserve",
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
_UPDATE = {
    "-r": "resources",
    "--resources": "resources",
    "--memory": "memory.limit",
    "--memory-reservation": "memory.reservation",
    "--memory-swap": "memory.swap",
    "--cpu-period": "cpu.period",
    "--cpu-quota": "cpu.quota",
    "--cpu-share": "cpu.shares",
    "--cpu-shares": "cpu.shares",
    "--cpuset-cpus": "cpu.cpus",
    "--cpuset-mems": "cpu.mems",
    "--pids-limit": "pids.limit",
    "--blkio-weight": "blockIO.weight",
}
_VERBS: dict[str, tuple[dict[str, str], dict[str, str], bool]] = {
    "create": (_CREATE_FLAGS, _CREATE, True),
    "start": ({}, {}, True),
    "run": ({**_CREATE_FLAGS, **_DETACH, "--keep": "keep"}, _CREATE, True),
    "state": ({}, {}, True),
    "kill": ({"-a": "all", "--all": "all"}, {}, True),
    "delete": ({"-f": "force", "--force": "force"}, {}, True),
    "exec": (_EXEC_FLAGS, _EXEC, False),
    "list": ({"-q": "quiet", "--quiet": "quiet"}, _FORMAT, True),
    "ps": ({}, _FORMAT, False),
    "pause": ({}, {}, True),
    "resume": ({}, {}, True),
    "update": ({}, _UPDATE, True),
    "events": ({"--stats": "stats"}, {"--interval": "interval"}, True),
    "spec": ({"--rootless": "rootless"}, _BUNDLE, True),
    "features": ({}, {}, True),
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = list(sys.argv[1:] if argv is None else argv)
    options: Optional[Parsed] = None
    try:
        options = parse(args, _GLOBAL_FLAGS, _GLOBAL_VALUED, interleaved=False)
        return _dispatch(options)
    except UsageError as error:
        _complain(options, error)
        return 2
    except (VesselError, OSError) as error:
        _complain(options, error)
        return 1


def _dispatch(options: Parsed) -> int:
    if options["version"]:
        from .._runtime.spec import OCI_VERSION, VERSION

        say(f"vessel-runtime version {VERSION}\nspec: {OCI_VERSION}")
        return 0
    if options["help"] or not options.rest:
        say(USAGE, end="")
        return 0 if options["help"] else 2
    if options["systemd"] and not os.path.isdir("/run/systemd/system"):
        raise VesselError("--systemd-cgroup: systemd does not run here", hint="use the cgroupfs manager")
    verb, *rest = options.rest
    if verb not in _VERBS:
        raise UsageError(f"no such verb: {verb}")
    flags, valued, interleaved = _VERBS[verb]
    action: Callable[[Parsed], int] = getattr(Runtime(last(options["root"], DEFAULT_ROOT)), verb)
    return action(parse(rest, flags, valued, interleaved=interleaved))


def _complain(options: Optional[Parsed], error: BaseException) -> None:
    """On stderr for people, and in the log for who called us."""
    complain(f"vessel-runtime: {error}")
    path = last(options["log"]) if options is not None else ""
    if not path:
        return
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    entry = {"level": "error", "msg": str(error), "time": moment}
    as_json = options is not None and last(options["format"], "text") == "json"
    line = json.dumps(entry) if as_json else f'time="{moment}" level=error msg={json.dumps(str(error))}'
    try:
        with open(path, "a") as file:
            file.write(f"{line}\n")
    except OSError:
        pass  # stderr has it


def _id(parsed: Parsed) -> str:
    if not parsed.rest:
        raise UsageError("the container's id is missing")
    return parsed.rest[0]


def _preserve(parsed: Parsed) -> list[int]:
    return list(range(3, 3 + int(last(parsed["preserve"], "0"))))


def _create_options(parsed: Parsed) -> dict[str, Any]:
    return {
        "console_socket": last(parsed["console"]),
        "preserve": _preserve(parsed),
        "pivot": not parsed["no_pivot"],
        "keyring": not parsed["no_keyring"],
    }


def _write_pid(parsed: Parsed, pid: int) -> None:
    path = last(parsed["pid_file"])
    if path:
        with open(f"{path}.new", "w") as file:
            file.write(str(pid))
        os.rename(f"{path}.new", path)


def _signal(text: str) -> int:
    if text.isdigit():
        return int(text)
    number = getattr(signal, f"SIG{text.upper().removeprefix('SIG')}", None)
    if not isinstance(number, int):
        raise UsageError(f"no such signal: {text}")
    return int(number)


def _resources(parsed: Parsed) -> dict[str, Any]:
    """linux.resources of --resources, of standard input for -, or of the single flags."""
    path = last(parsed["resources"])
    if path:
        try:
            with sys.stdin if path == "-" else open(path) as file:
                return dict(json.load(file))
        except ValueError as error:
            raise SpecError("linux.resources", f"{path} is not JSON: {error}") from None
    found: dict[str, Any] = {}
    for name, values in parsed.values.items():
        group, dot, key = name.partition(".")
        if dot and values:
            text = last(values)
            found.setdefault(group, {})[key] = text if key in ("cpus", "mems") else int(text)
    return found


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
