# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the verbs of ``vessel-runtime`` do: flags into arguments of the runtime, its answers into text."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from .._errors import VesselError
from .._kernel import process
from .._runtime import state as states
from . import resources
from .options import Parsed, UsageError, last
from .output import say

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Runtime:
    """Verbs by their names; each returns the exit code."""

    def __init__(self, root: str, warn: Callable[[str], None], *, systemd: bool = False) -> None:
        self.root = root
        self.warn = warn
        self.systemd = systemd

    def do(self, verb: str, parsed: Parsed) -> int:
        action: Callable[[Parsed], int] = getattr(self, verb)
        return action(parsed)

    def create(self, parsed: Parsed) -> int:
        from .._runtime.create import create

        state = create(
            self.root, _id(parsed), last(parsed["bundle"], "."), **_create_options(parsed), systemd=self.systemd
        )
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
        config = load(bundle)
        options.update(config=config, warn=self.warn, systemd=self.systemd)
        terminal = bool(config["process"].get("terminal"))
        if terminal and not options["console_socket"] and not parsed["detach"]:
            return self._run_at_terminal(parsed, bundle, options)
        if terminal:
            _require_socket(options)
        with _Held():
            state = run(self.root, _id(parsed), bundle, **options)
            _write_pid(parsed, state.pid)
            if parsed["detach"]:
                return 0
            pidfd = _follow(state)
        return self._attend(parsed, state, pidfd)

    def _run_at_terminal(self, parsed: Parsed, bundle: str, options: dict[str, Any]) -> int:
        from .._runtime.run import run
        from . import terminal

        os.makedirs(self.root, mode=0o711, exist_ok=True)
        _size_of_ours(options["config"]["process"])
        with terminal.Console(self.root) as console:
            state = run(self.root, _id(parsed), bundle, **{**options, "console_socket": console.address})
            master = console.receive()
        _write_pid(parsed, state.pid)
        terminal.attend(master, interactive=True)
        return self._attend(parsed, state, _follow(state))

    def _attend(self, parsed: Parsed, state: states.State, pidfd: int) -> int:
        """Wait for our child and take it away, as a foreground run does."""
        from .._runtime.delete import delete

        code = process.exit_code(os.waitpid(state.pid, 0)[1])
        os.close(pidfd)
        if not parsed["keep"]:
            delete(self.root, state.id, force=True, warn=self.warn)
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

        delete(self.root, _id(parsed), force=parsed["force"], warn=self.warn)
        return 0

    def exec(self, parsed: Parsed) -> int:
        from .._runtime import exec as runtime_exec

        container, spec = _id(parsed), self._exec_spec(parsed)
        options: dict[str, Any] = {
            "console_socket": last(parsed["console"]),
            "preserve": _preserve(parsed),
            "paused": parsed["ignore_paused"],
        }
        if spec.get("terminal") and not options["console_socket"] and not parsed["detach"]:
            return self._exec_at_terminal(parsed, spec, options)
        if spec.get("terminal"):
            _require_socket(options)
        with _Held():
            started = runtime_exec.exec(self.root, container, spec, **options)
            _write_pid(parsed, started.pid)
            if parsed["detach"]:
                return 0
            _forward(started.pidfd)
        return started.wait()

    def _exec_at_terminal(self, parsed: Parsed, spec: dict[str, Any], options: dict[str, Any]) -> int:
        from .._runtime import exec as runtime_exec
        from . import terminal

        _size_of_ours(spec)
        with terminal.Console(self.root) as console:
            options["console_socket"] = console.address
            started = runtime_exec.exec(self.root, _id(parsed), spec, **options)
            master = console.receive()
        _write_pid(parsed, started.pid)
        terminal.attend(master, interactive=True)
        _forward(started.pidfd)
        return started.wait()

    def _exec_spec(self, parsed: Parsed) -> dict[str, Any]:
        """The container's own process with what the flags say, or the whole of --process."""
        if parsed["process"]:
            return resources.read_object("process", last(parsed["process"]))
        if len(parsed.rest) < 2:
            raise UsageError("exec needs a command behind the container's id")
        from .._runtime.bundle import load

        spec = dict(load(states.load(self.root, _id(parsed)).bundle)["process"])
        spec.update(args=parsed.rest[1:], terminal=bool(parsed["tty"]))
        spec["env"] = [*(spec.get("env") or []), *parsed["env"]]
        for name, key in (("cwd", "cwd"), ("label", "selinuxLabel"), ("apparmor", "apparmorProfile")):
            if parsed[name]:
                spec[key] = last(parsed[name])
        user = dict(spec.get("user") or {})
        if parsed["user"]:
            uid, dummy, gid = last(parsed["user"]).partition(":")
            user.update(uid=_number("--user", uid), gid=_number("--user", gid or "0"))
        if parsed["gids"]:
            more = [_number("--additional-gids", gid) for gid in parsed["gids"]]
            user["additionalGids"] = [*(user.get("additionalGids") or []), *more]
        spec["user"] = user
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
        elif _format(parsed) == "json":
            say(json.dumps([state.to_oci() for state in found]))
        else:
            rows = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
            for state in found:
                oci = state.to_oci()
                rows.append((state.id, str(oci["pid"]), oci["status"], state.bundle, state.created, "root"))
            _table(rows)
        return 0

    def ps(self, parsed: Parsed) -> int:
        from .._runtime import ps

        if _format(parsed) == "json":
            say(json.dumps(ps.pids(self.root, _id(parsed))))
        else:
            _table([ps.HEAD, *ps.table(self.root, _id(parsed))])
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

        path = last(parsed["resources"])
        found = resources.read_object("linux.resources", path) if path else resources.from_flags(parsed.values)
        if not found:
            raise UsageError("update needs something to change")
        update(self.root, _id(parsed), found)
        return 0

    def events(self, parsed: Parsed) -> int:
        if not parsed["stats"]:
            raise UsageError("events are given once, with --stats")
        from .._runtime.ps import stats

        say(json.dumps(stats(self.root, _id(parsed))))
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


def _id(parsed: Parsed) -> str:
    if not parsed.rest:
        raise UsageError("the container's id is missing")
    return parsed.rest[0]


def _format(parsed: Parsed) -> str:
    word = last(parsed["format"], "table")
    if word not in ("table", "json"):
        raise UsageError(f"--format: {word!r} is not one of table, json")
    return word


def _number(option: str, text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"{option}: {text!r} is no number")
    return int(text)


def _preserve(parsed: Parsed) -> list[int]:
    """Descriptors that go in: N of them, behind those of a socket activation (sd_listen_fds(3))."""
    count = _number("--preserve-fds", last(parsed["preserve"], "0")) + _number("LISTEN_FDS", _listen_fds())
    for fd in range(3, 3 + count):
        try:
            os.fstat(fd)
        except OSError:
            raise UsageError(f"--preserve-fds: descriptor {fd} is not open") from None
    return list(range(3, 3 + count))


def _listen_fds() -> str:
    return os.environ.get("LISTEN_FDS") or "0"


def _create_options(parsed: Parsed) -> dict[str, Any]:
    return {
        "console_socket": last(parsed["console"]),
        "preserve": _preserve(parsed),
        "pivot": not parsed["no_pivot"],
        "keyring": not parsed["no_keyring"],
        # Whoever activated us by a socket meant the container.
        "env": [f"LISTEN_FDS={_listen_fds()}", "LISTEN_PID=1"] if _listen_fds() != "0" else [],
    }


def _require_socket(options: dict[str, Any]) -> None:
    if not options["console_socket"]:
        raise UsageError("a terminal that is detached from ours needs --console-socket")


def _size_of_ours(spec: dict[str, Any]) -> None:
    """The terminal inside is as large as ours, unless config.json says how large it is."""
    from .terminal import window

    rows, columns = window(0)
    if rows and not spec.get("consoleSize"):
        spec["consoleSize"] = {"height": rows, "width": columns}


class _Held:
    """Signals wait while this lasts: until they can be handed on, one would end us and leave the process."""

    def __enter__(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)

    def __exit__(self, *error: object) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)


def _follow(state: states.State) -> int:
    """A descriptor of our child, to which signals are handed on from now."""
    pidfd = os.pidfd_open(state.pid)
    _forward(pidfd)
    return pidfd


def _forward(pidfd: int) -> None:
    for number in _FORWARDED:
        signal.signal(number, lambda number, frame: process.send(pidfd, number))


def _write_pid(parsed: Parsed, pid: int) -> None:
    """Found whole or not at all."""
    path = last(parsed["pid_file"])
    if path:
        new = f"{path}.{os.getpid()}.new"
        with open(new, "w") as file:
            file.write(str(pid))
        os.rename(new, path)


def _signal(text: str) -> int:
    if text.isdecimal():
        return int(text)
    word = text.upper()
    number = getattr(signal, word if word.startswith("SIG") else f"SIG{word}", None)
    if not isinstance(number, signal.Signals):
        raise UsageError(f"no such signal: {text}")
    return int(number)


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
