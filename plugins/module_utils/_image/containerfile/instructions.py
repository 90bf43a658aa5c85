# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each instruction of a stage as a step, with Dockerfile's meaning."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Optional, Union

from ..build.layers import created_by, is_url
from ..build.plan import State, apply
from ..build.steps import NETWORKS, SHELL, Config, Copy, Mount, Run, Step, Workdir
from ..build.tree import Tree
from ..store import Image
from . import mounts
from .outline import PROXIES, Base, Outline, arguments, expanded, find, platform_args
from .source import Instruction, is_heredoc
from .words import ExpandError, expand_words, raw_words

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TIMES = ("interval", "timeout", "start-period", "start-interval")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_FORBIDDEN_TRIGGERS = ("ONBUILD", "FROM", "MAINTAINER")


class Compiler:
    """``state`` is the stage's configuration so far, ``args`` its arguments that have a value."""

    def __init__(
        self, stage: Outline, outlines: Sequence[Outline], state: State, args: dict[str, str], escape: str,
        build_args: Mapping[str, str], declared: Mapping[str, str], context: Optional[Tree],
        origin: Callable[[Union[int, Base]], Union[Image, int]],
    ) -> None:  # fmt: skip
        self.stage = stage
        self.before = outlines[: stage.number]
        self.state = state
        self.args = args
        self.escape = escape
        self.build_args = build_args
        self.declared = declared
        self.context = context
        self.origin = origin

    def compile(self, instruction: Instruction) -> Iterator[Step]:
        found = getattr(self, f"_{instruction.verb.lower()}")(instruction)
        for step in found if isinstance(found, list) else [found]:
            if not isinstance(step, (Run, Copy)):
                apply(self.state, step)
            yield step

    # words
    def _variables(self) -> dict[str, str]:
        return {**self.args, **dict(entry.partition("=")[::2] for entry in self.state.config.get("Env") or [])}

    def _expand(self, instruction: Instruction, text: str) -> str:
        return expanded(instruction, text, self._variables(), self.escape)

    def _words(self, instruction: Instruction, text: str) -> list[str]:
        try:
            return expand_words(text, self._variables(), self.escape)
        except ExpandError as error:
            raise instruction.error(str(error)) from None

    def _pairs(self, instruction: Instruction) -> dict[str, str]:
        """NAME=VALUE …, or the old form NAME VALUE. All see the variables as they were before."""
        words = raw_words(instruction.rest, self.escape)
        if "=" not in words[0]:
            value = instruction.rest[len(words[0]) :].strip()
            if not value:
                raise instruction.error(f"{words[0]!r} has no value; write {words[0]}=VALUE")
            return {self._expand(instruction, words[0]): self._expand(instruction, value)}
        found = {}
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or not name:
                raise instruction.error(f"{word!r} is not NAME=VALUE; quotes go around a value with blanks")
            found[self._expand(instruction, name)] = self._expand(instruction, value)
        return found

    def _command(self, instruction: Instruction, text: str) -> list[str]:
        """For the configuration: the shell form has the shell in it."""
        words = instruction.json(text)
        return [*(self.state.config.get("Shell") or SHELL), text] if words is None else words

    def _config(self, instruction: Instruction, options: Mapping[str, Any], value: Any = None) -> Config:
        told = created_by(instruction.verb, instruction.rest if value is None else value)
        return Config(_where(instruction), _shown(instruction), options, told)

    # the configuration
    def _arg(self, instruction: Instruction) -> Config:
        for name, default in arguments(instruction, self._variables(), self.escape).items():
            fallback = self.declared.get(name, platform_args().get(name)) if default is None else default
            value = self.build_args.get(name, fallback)
            if value is not None:
                self.args[name] = value
        return self._config(instruction, {})

    def _env(self, instruction: Instruction) -> Config:
        found = self._pairs(instruction)
        return self._config(instruction, {"env": found}, found)

    def _label(self, instruction: Instruction) -> Config:
        found = self._pairs(instruction)
        return self._config(instruction, {"labels": found}, found)

    def _maintainer(self, instruction: Instruction) -> Config:
        return self._config(instruction, {"author": instruction.rest})

    def _expose(self, instruction: Instruction) -> Config:
        ports = []
        for word in self._words(instruction, instruction.rest):
            match = _PORT.fullmatch(word)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
            if not match or not 1 <= first <= last <= 65535:
                raise instruction.error(f"{word!r} is not a port such as 80, 53/udp or 8000-8010")
            ports += [f"{port}/{(match[3] or 'tcp').lower()}" for port in range(first, last + 1)]
        return self._config(instruction, {"exposed_ports": ports})

    def _volume(self, instruction: Instruction) -> Config:
        paths = instruction.json(instruction.rest)
        paths = raw_words(instruction.rest, self.escape) if paths is None else paths
        paths = [self._expand(instruction, path) for path in paths]
        if not all(path.strip() for path in paths) or not paths:
            raise instruction.error("a volume has no path")
        return self._config(instruction, {"volumes": paths})

    def _user(self, instruction: Instruction) -> Config:
        user = self._expand(instruction, instruction.rest)
        if not user:
            raise instruction.error(f"{instruction.rest!r} is nobody; a variable in it is not set")
        return self._config(instruction, {"user": user})

    def _workdir(self, instruction: Instruction) -> Workdir:
        path = self._expand(instruction, instruction.rest)
        if not path:
            raise instruction.error(f"{instruction.rest!r} is no path; a variable in it is not set")
        return Workdir(_where(instruction), _shown(instruction), path)

    def _cmd(self, instruction: Instruction) -> Config:
        words = self._command(instruction, instruction.rest)
        return self._config(instruction, {"cmd": words}, words)

    def _entrypoint(self, instruction: Instruction) -> Config:
        words = self._command(instruction, instruction.rest)
        return self._config(instruction, {"entrypoint": words}, words)

    def _shell(self, instruction: Instruction) -> Config:
        words = instruction.json(instruction.rest)
        if not words:
            raise instruction.error('takes a JSON list, such as ["/bin/bash", "-c"]')
        return self._config(instruction, {"shell": words}, words)

    def _stopsignal(self, instruction: Instruction) -> Config:
        word = self._expand(instruction, instruction.rest)
        name = word.upper().removeprefix("SIG")
        number = int(word) if word.isdecimal() else 0
        known = number and 1 <= number <= signal.SIGRTMAX
        if not known and not hasattr(signal, f"SIG{name.partition('+')[0]}"):
            raise instruction.error(f"{word!r} is no signal")
        return self._config(instruction, {"stop_signal": word})

    def _healthcheck(self, instruction: Instruction) -> Config:
        flags, rest = instruction.flags(*_TIMES, "retries")
        kind, dummy, text = rest.partition(" ")
        if kind.upper() == "NONE" and not text.strip():
            return self._config(instruction, {"healthcheck": {}})
        if kind.upper() != "CMD" or not text.strip():
            raise instruction.error(f"{rest!r} is neither NONE nor CMD with a command")
        words = instruction.json(text.strip())
        check: dict[str, Any] = {"test": ["CMD-SHELL", text.strip()] if words is None else ["CMD", *words]}
        for name in _TIMES:
            if name in flags:
                check[name.replace("-", "_")] = _seconds(instruction, name, flags[name][-1])
        retries = flags.get("retries", ["0"])[-1]
        if not retries.isdecimal():
            raise instruction.error(f"--retries={retries} is no number")
        return self._config(instruction, {"healthcheck": {**check, "retries": int(retries)}})

    def _onbuild(self, instruction: Instruction) -> Config:
        verb = instruction.rest.split()[0].upper()
        if verb in _FORBIDDEN_TRIGGERS:
            raise instruction.error(f"{verb} can't be a trigger")
        body = "".join(heredoc.source() for heredoc in instruction.heredocs)
        text = f"{instruction.rest}\n{body}" if body else instruction.rest
        return self._config(instruction, {"onbuild": [*(self.state.config.get("OnBuild") or []), text]})

    def without_triggers(self, instruction: Instruction) -> Config:
        """The base's triggers are done once, and not handed down."""
        return Config(_where(instruction), _shown(instruction), {"onbuild": []}, created_by("ONBUILD", "[]"))

    # layers
    def _run(self, instruction: Instruction) -> Run:
        flags, rest = instruction.flags("mount", "network")
        network = {"default": "host"}.get(flags.get("network", ["host"])[-1], flags.get("network", ["host"])[-1])
        if network not in NETWORKS:
            raise instruction.error(f"--network={network} is not one of default, {', '.join(NETWORKS)}")
        command, scripts = self._script(instruction, rest)
        args = {name: value for name, value in self.args.items() if name not in PROXIES}
        hidden = {name: self.build_args.get(name, self.args.get(name, "")) for name in PROXIES
                  if name in self.build_args or name in self.args}  # fmt: skip
        found = tuple(self._mount(instruction, text) for text in flags.get("mount", ()))
        return Run(_where(instruction), _shown(instruction), command, network, found, args, hidden, scripts)

    def _script(self, instruction: Instruction, rest: str) -> tuple[Union[str, list[str]], tuple[tuple[str, str], ...]]:
        """(command, files that it needs). A heredoc alone is a script for the shell, or for whom its first line names;
        others are the shell's own."""
        words = instruction.json(rest)
        if words is not None:
            if not words:
                raise instruction.error("an empty list is no command")
            return words, ()
        if len(instruction.heredocs) == 1 and is_heredoc(rest):
            heredoc = instruction.heredocs[0]
            if not heredoc.text().startswith("#!"):
                return heredoc.text(), ()
            path = f"/dev/pipes/{heredoc.name}"
            return [path], ((path, heredoc.text()),)
        body = "".join(heredoc.source() for heredoc in instruction.heredocs)
        return f"{rest}\n{body}" if body else rest, ()

    def _mount(self, instruction: Instruction, text: str) -> Mount:
        try:
            fields = mounts.parse(text.strip("\"'"), lambda value: self._expand(instruction, value))
        except ValueError as error:
            raise instruction.error(f"--mount={text}: {error}") from None
        name = fields.pop("from", "")
        origin: Any = None
        if name:
            origin = self.origin(find(instruction, name, self.before))
        elif fields["kind"] == "bind":
            origin = self._context(instruction)
        return Mount(origin=origin, **fields)

    def _context(self, instruction: Instruction) -> Tree:
        if self.context is None:
            raise instruction.error("there is no context to take it from; give context")
        return self.context

    def _copy(self, instruction: Instruction) -> Copy:
        flags, rest = instruction.flags("from", "chown", "chmod", "link", "exclude")
        return self._files(instruction, flags, rest)

    def _add(self, instruction: Instruction) -> Copy:
        flags, rest = instruction.flags("chown", "chmod", "link", "exclude", "checksum", "keep-git-dir")
        return self._files(instruction, flags, rest)

    def _files(self, instruction: Instruction, flags: Mapping[str, list[str]], rest: str) -> Copy:
        words = instruction.json(rest)
        raw = raw_words(rest, self.escape) if words is None else words
        heredocs = {heredoc.name: heredoc for heredoc in instruction.heredocs}
        plain = [word for word in raw if words is not None or is_heredoc(word) not in heredocs]
        *sources, dest = [self._expand(instruction, word) for word in plain] or [""]
        if not dest or not (sources or heredocs):
            raise instruction.error(f"{rest!r} is not SOURCE … DESTINATION")
        if len(sources) + len(heredocs) > 1 and not dest.endswith("/"):
            raise instruction.error(f"{dest!r} takes several sources, so that it has to end with /")
        urls = [source for source in sources if instruction.verb == "ADD" and _is_remote(instruction, source)]
        user, group = self._owner(instruction, flags)
        mode = self._mode(instruction, flags)
        name = flags.get("from", [""])[-1]
        local = tuple(source for source in sources if source not in urls)
        origin = self.origin(find(instruction, name, self.before)) if name else \
            self._context(instruction) if local else None  # fmt: skip
        return Copy(
            _where(instruction), _shown(instruction), dest, origin, local,
            tuple((heredoc.name, self._heredoc(instruction, heredoc)) for heredoc in instruction.heredocs),
            tuple((url, self._checksum(instruction, flags, url)) for url in urls),
            tuple(flags.get("exclude", ())), user, group, mode, mode,
            unpack=instruction.verb == "ADD", keep=bool(name),
        )  # fmt: skip

    def _heredoc(self, instruction: Instruction, heredoc: Any) -> str:
        """Variables are replaced unless the delimiter is in quotes; quotes in it stay what they are."""
        if heredoc.literal:
            return str(heredoc.text())
        text = re.sub(r"([\"'])", lambda match: self.escape + match[1], heredoc.text())
        return self._expand(instruction, text)

    def _owner(self, instruction: Instruction, flags: Mapping[str, list[str]]) -> tuple[Optional[str], Optional[str]]:
        if "chown" not in flags:
            return None, None
        text = self._expand(instruction, flags["chown"][-1])
        user, dummy, group = text.partition(":")
        if not user and not group:
            raise instruction.error(f"--chown={flags['chown'][-1]} names nobody")
        return user or "0", group or None

    def _mode(self, instruction: Instruction, flags: Mapping[str, list[str]]) -> Optional[int]:
        if "chmod" not in flags:
            return None
        text = self._expand(instruction, flags["chmod"][-1])
        if not re.fullmatch(r"[0-7]{1,4}|0[0-7]{4}", text):
            raise instruction.error(f"--chmod={text} is no octal number such as 755")
        return int(text, 8)

    def _checksum(self, instruction: Instruction, flags: Mapping[str, list[str]], url: str) -> str:
        text = self._expand(instruction, flags.get("checksum", [""])[-1])
        match = _DIGEST.fullmatch(text)
        if not match:
            raise instruction.error(f"{url} has to be given with its content's digest; --checksum=sha256:…")
        return match[1]


def _is_remote(instruction: Instruction, source: str) -> bool:
    if source.startswith(("git@", "git://", "ssh://")) or (
        is_url(source) and source.partition("#")[0].endswith(".git")
    ):
        raise instruction.error(f"{source} is a git repository; clone it into the context")
    return is_url(source)


def _where(instruction: Instruction) -> str:
    return f"{instruction.file}:{instruction.line}"


def _shown(instruction: Instruction) -> str:
    """The instruction on one line."""
    return f"{instruction.verb} {' '.join(instruction.rest.split())}"


def _seconds(instruction: Instruction, name: str, text: str) -> float:
    parts = _DURATION.findall(text)
    if text == "0":
        return 0.0
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise instruction.error(f"--{name}={text} is no duration such as 30s or 1m30s")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if 0 < seconds < 0.001:
        raise instruction.error(f"--{name}={text} is too short; use 1ms or more")
    return seconds
