# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that a stack builds in steps, as a Containerfile: the steps have the directives of one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError
from ansible_collections.vessel.host.plugins.module_utils._options.container import HEALTHCHECK_DEFAULTS

from . import spelling
from .declaration import Stack
from .losses import Losses, Where

SHELL = ["/bin/sh", "-c"]
# Options of an image that say what its configuration is, by the directive of a step that says the same.
CONFIG = {
    "env": "env",
    "user": "user",
    "working_dir": "workdir",
    "exposed_ports": "expose",
    "volumes": "volume",
    "labels": "label",
    "stop_signal": "stop_signal",
    "healthcheck": "healthcheck",
    "entrypoint": "entrypoint",
    "cmd": "cmd",
}


def is_built(body: dict[str, Any]) -> bool:
    """Is it made of another image, by steps or by its configuration alone?"""
    return bool(body.get("from"))


def render(stack: Stack, name: str, at: Where) -> str:
    """Its Containerfile; what it needs of the stack's other images is built in stages before its own."""
    text = _Text(stack)
    lines = text.image(name, at)
    return "\n".join([*text.stages_before, *lines]) + "\n"


class _Text:
    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.stages: dict[str, str] = {}
        self.stages_before: list[str] = []
        self.path: list[str] = []

    def image(self, name: str, at: Where, stage: str = "") -> list[str]:
        """Its lines; the stages of others are put before all."""
        body = self.stack.images[name]
        self.path.append(name)
        lines = [f"FROM {self.origin(body['from'], at.at('from'))}{stage and f' AS {stage}'}"]
        lines += self.steps(body.get("layers") or (), at.at("layers"))
        for option, directive in CONFIG.items():
            if body.get(option) is not None:
                lines += _DIRECTIVES[directive](body[option], at.at(option))
        self.path.pop()
        return lines

    def origin(self, name: str, at: Where) -> str:
        """The image's name, or that of its stage."""
        if name in self.path:
            raise OptionError(at.path, name, f"is a cycle: {' -> '.join([*self.path, name])}")
        if name in self.stages or not is_built(self.stack.images.get(name, {})):
            return self.stages.get(name) or spelling.qualified(name)
        stage = f"stage{len(self.stages)}"
        # What can't be said of that one is said where it is itself.
        lines = self.image(name, Where(Losses(""), at.owner, f"images.{name}"), stage)
        self.stages[name] = stage
        self.stages_before += [*lines, ""]
        return stage

    def steps(self, steps: Sequence[dict[str, Any]], at: Where) -> list[str]:
        lines: list[str] = []
        shell = SHELL
        for index, step in enumerate(steps):
            here = at.item(index)
            if "run" in step:
                lines += _run(step, shell, here)
            elif "copy" in step:
                lines += self.copy(step["copy"], here.at("copy"))
            for directive, value in step.items():
                if directive in _DIRECTIVES:
                    lines += _DIRECTIVES[directive](value, here.at(directive))
            shell = step.get("shell", shell)
        return lines

    def copy(self, copy: dict[str, Any], at: Where) -> list[str]:
        flags = _flags(copy)
        if "from" in copy:
            flags = [f"--from={self.origin(copy['from'], at)}", *flags]
        elif "content" in copy:
            return _content(copy, flags, at)
        else:
            at.at("src").lacks(copy["src"], "a build copies files of its context, and these are the target's own")
            return []
        return [_join("COPY", *flags, json.dumps([*copy["src"], copy["dest"]]))]


def _join(*words: str) -> str:
    return " ".join(word for word in words if word)


def _flags(copy: dict[str, Any]) -> list[str]:
    owner = ":".join(str(copy.get(name, "0")) for name in ("owner", "group"))
    flags = [f"--chown={owner}"] if "owner" in copy or "group" in copy else []
    return [*flags, *([f"--chmod={spelling.mode(copy['mode'])}"] if "mode" in copy else [])]


def _content(copy: dict[str, Any], flags: list[str], at: Where) -> list[str]:
    """A here-document, which ends with a line break, and in whose quoted form nothing is a variable."""
    content, end = copy["content"], "EOF"
    if not content.endswith("\n"):
        at.at("content").lacks("...", "a here-document ends with a line break, and this content has none there")
    while end in content.splitlines():
        end += "_"
    if any(char.isspace() for char in copy["dest"]):
        at.at("dest").lacks(copy["dest"], "a here-document goes to no path with blanks")
        return []
    lines = content[:-1] if content.endswith("\n") else content
    return [_join("COPY", *flags, f'<<"{end}"', _expanded(copy["dest"])), *lines.split("\n"), end]


def _run(step: dict[str, Any], shell: list[str], at: Where) -> list[str]:
    flags = [f"--network={step['network']}"] if step.get("network") else []
    flags += [f"--mount=type=secret,id={name},required" for name in step.get("secrets") or ()]
    flags += [_mount(mount, at.at("mounts")) for mount in step.get("mounts") or ()]
    run = step["run"]
    if isinstance(run, list):
        return [_join("RUN", *flags, json.dumps(run))]
    return [_join("RUN", *flags, json.dumps([*shell, run]) if _is_special(run) else run)]


def _is_special(text: str) -> bool:
    """Would a Containerfile read it as something else than words for the shell?"""
    return "\n" in text or "<<" in text or text[0] in "[-" or text.endswith("\\") or text != text.strip()


def _mount(fields: dict[str, Any], at: Where) -> str:
    """The fields of _image/containerfile/mounts.py as the words that they came from."""
    kind = fields["kind"]
    if kind == "bind" and "from" not in fields:
        at.lacks(fields["source"], "a build mounts files of its context, and these are the target's own")
        return ""
    names = ("target", "from", "source", "id", "sharing", "uid", "gid", "size", "env")
    words = [f"type={kind}", *(f"{name}={fields[name]}" for name in names if fields.get(name))]
    words += [f"mode={spelling.mode(fields['mode'])}"] if "mode" in fields else []
    words += ["ro"] if kind == "cache" and fields["readonly"] else []
    words += ["rw"] if kind == "bind" and not fields["readonly"] else []
    return f"--mount={','.join([*words, *(['required'] if fields.get('required') else [])])}"


def _add(add: dict[str, Any], at: Where) -> list[str]:
    if "checksum" not in add:
        at.at("src").lacks(add["src"], "a build adds files of its context, and these are the target's own")
        return []
    flags = [f"--checksum=sha256:{add['checksum']}", *_flags(add)]
    return [_join("ADD", *flags, json.dumps([*add["src"], add["dest"]]))]


def _expanded(text: str) -> str:
    """Where a Containerfile would put in a variable, a word that has none."""
    return text.replace("\\", "\\\\").replace("$", "\\$")


def _quoted(text: str, at: Where) -> str:
    if "\n" in text:
        at.lacks(text, "a Containerfile has no line breaks in a value")
    return '"' + _expanded(text).replace('"', '\\"').replace("\n", " ") + '"'


def _pairs(word: str) -> Any:
    def render_pairs(value: dict[str, str], at: Where) -> list[str]:
        return [f"{word} {_name(name)}={_quoted(text, at.at(name))}" for name, text in value.items()]

    def _name(name: str) -> str:
        return name if word == "ENV" else '"' + _expanded(name).replace('"', '\\"') + '"'

    return render_pairs


def _words(word: str) -> Any:
    return lambda value, at: [f"{word} {json.dumps(value)}"]


def _healthcheck(value: dict[str, Any], at: Where) -> list[str]:
    if not value:
        return ["HEALTHCHECK NONE"]
    flags = []
    for name, default in HEALTHCHECK_DEFAULTS.items():
        if value[name] != default:
            text = str(value[name]) if name == "retries" else spelling.duration(value[name])
            flags.append(f"--{name.replace('_', '-')}={text}")
    kind, *test = value["test"]
    if kind == "CMD-SHELL":
        text = json.dumps([*SHELL, *test]) if _is_special(test[0]) else test[0]
    else:
        text = json.dumps(test)
    return [_join("HEALTHCHECK", *flags, "CMD", text)]


_DIRECTIVES: dict[str, Any] = {
    "add": _add,
    "env": _pairs("ENV"),
    "workdir": lambda value, at: [f"WORKDIR {_expanded(value)}"],
    "user": lambda value, at: [f"USER {_expanded(value)}"],
    "expose": lambda value, at: [f"EXPOSE {' '.join(value)}"],
    "label": _pairs("LABEL"),
    "volume": _words("VOLUME"),
    "entrypoint": _words("ENTRYPOINT"),
    "cmd": _words("CMD"),
    "shell": _words("SHELL"),
    "stop_signal": lambda value, at: [f"STOPSIGNAL {value}"],
    "healthcheck": _healthcheck,
}
