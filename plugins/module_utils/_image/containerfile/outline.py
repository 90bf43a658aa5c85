# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Containerfile's stages: which of them the target needs, and which images those are made from."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from ..config import architecture
from .mounts import options_of
from .source import Instruction, Source
from .words import ExpandError, expand, raw_words

# A proxy is for the build alone: it need not be declared, and makes no other layer.
PROXIES = tuple(
    spelt
    for name in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for spelt in (name, name.upper())
)


@dataclass(frozen=True)
class Base:
    """An image that a stage is made from, or that something is copied from."""

    name: str
    platform: str
    instruction: Instruction


@dataclass
class Outline:
    """A stage before anything of it is made. ``base`` is an earlier stage's number, an image, or None for scratch;
    ``needs`` are numbers of stages, ``images`` what it copies from beside them."""

    number: int
    name: str
    instruction: Instruction
    base: int | Base | None
    instructions: list[Instruction] = field(default_factory=list)
    needs: set[int] = field(default_factory=set)
    images: list[Base] = field(default_factory=list)


def platform_args() -> dict[str, str]:
    """What a build knows of the machine, as BuildKit names it."""
    arch = architecture()
    variant = "v7" if platform.machine() == "armv7l" else ""
    known = {"PLATFORM": f"linux/{arch}{'/' if variant else ''}{variant}", "OS": "linux", "ARCH": arch,
             "VARIANT": variant}  # fmt: skip
    return {f"{where}{name}": value for where in ("TARGET", "BUILD") for name, value in known.items()}


def outline(source: Source, build_args: Mapping[str, str]) -> tuple[list[Outline], dict[str, str]]:
    """(all stages, global arguments). Raises ContainerfileError."""
    known = platform_args()
    declared: dict[str, str] = {}
    stages: list[Outline] = []
    for instruction in source.instructions:
        if instruction.verb == "FROM":
            stages.append(_stage(instruction, stages, {**known, **declared}, source.escape))
        elif stages:
            stages[-1].instructions.append(instruction)
        elif instruction.verb == "ARG":
            for name, value in arguments(instruction, {**known, **declared}, source.escape).items():
                given = build_args.get(name, value)
                if given is not None:
                    declared[name] = given
        else:
            raise instruction.error("stands before the first FROM; only ARG may")
    if not stages:
        raise source.instructions[-1].error("no FROM follows; a Containerfile begins with one")
    for stage in stages:
        _find_needs(stage, stages)
    return stages, declared


def arguments(instruction: Instruction, variables: Mapping[str, str], escape: str) -> dict[str, Optional[str]]:
    """ARG's names, each with its default."""
    found: dict[str, Optional[str]] = {}
    for word in raw_words(instruction.rest, escape):
        name, equals, value = word.partition("=")
        seen = {**variables, **{key: text for key, text in found.items() if text is not None}}
        name = expanded(instruction, name, seen, escape)
        if not name:
            raise instruction.error(f"{word!r} has no name")
        found[name] = expanded(instruction, value, seen, escape) if equals else None
    return found


def expanded(instruction: Instruction, text: str, variables: Mapping[str, str], escape: str) -> str:
    try:
        return expand(text, variables, escape)
    except ExpandError as error:
        raise instruction.error(str(error)) from None


def _stage(instruction: Instruction, before: Sequence[Outline], variables: Mapping[str, str], escape: str) -> Outline:
    flags, rest = instruction.flags("platform")
    words = [expanded(instruction, word, variables, escape) for word in raw_words(rest, escape)]
    named = len(words) == 3 and words[1].upper() == "AS"
    if not words or not words[0]:
        raise instruction.error(f"{rest!r} names no image; an ARG before the first FROM has no value")
    if len(words) != 1 and not named:
        raise instruction.error(f"{rest!r} is not IMAGE or IMAGE AS NAME")
    name = words[2].lower() if named else ""
    if name and any(stage.name == name for stage in before):
        raise instruction.error(f"the stage {name} is there already")
    wanted = expanded(instruction, flags.get("platform", [""])[-1], variables, escape)
    return Outline(len(before), name, instruction, _base(instruction, words[0], wanted, before))


def _base(instruction: Instruction, name: str, wanted: str, before: Sequence[Outline]) -> int | Base | None:
    if name == "scratch":
        return None
    for stage in before:
        if stage.name and stage.name == name.lower():
            return stage.number
    return Base(name, wanted, instruction)


def _find_needs(stage: Outline, stages: Sequence[Outline]) -> None:
    if isinstance(stage.base, int):
        stage.needs.add(stage.base)
    elif stage.base is not None:
        stage.images.append(stage.base)
    for instruction in stage.instructions:
        for name in _sources(instruction):
            other = find(instruction, name, stages[: stage.number])
            if isinstance(other, int):
                stage.needs.add(other)
            else:
                stage.images.append(other)


def _sources(instruction: Instruction) -> list[str]:
    """Names of stages and images in --from and --mount."""
    if instruction.verb == "COPY":
        return instruction.flags("from", "chown", "chmod", "link", "exclude")[0].get("from", [])
    if instruction.verb == "RUN":
        mounts = instruction.flags("mount", "network")[0].get("mount", [])
        return [options["from"] for options in map(options_of, mounts) if options.get("from")]
    return []


def find(instruction: Instruction, name: str, before: Sequence[Outline]) -> int | Base:
    """What --from means: a stage by name or number, else an image."""
    for stage in before:
        if stage.name and stage.name == name.lower():
            return stage.number
    if name.isdecimal():
        if int(name) < len(before):
            return int(name)
        raise instruction.error(f"--from={name} is no earlier stage; there are {len(before)}, and the first is 0")
    return Base(name, "", instruction)


def needed(stages: Sequence[Outline], target: str) -> list[Outline]:
    """Those that the target, by default the last, is made from, in order. LookupError for a target that is none."""
    wanted = len(stages) - 1
    if target:
        numbers = [stage.number for stage in stages if target.lower() == stage.name]
        numbers += [int(target)] if target.isdecimal() and int(target) < len(stages) else []
        if not numbers:
            raise LookupError(", ".join(stage.name or str(stage.number) for stage in stages))
        wanted = numbers[0]
    todo, found = [wanted], set()
    while todo:
        number = todo.pop()
        if number not in found:
            found.add(number)
            todo += stages[number].needs
    return [stages[number] for number in sorted(found)]
