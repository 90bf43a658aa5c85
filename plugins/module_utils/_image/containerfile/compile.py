# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Containerfile as the steps of a build: the same that a module's ``layers`` become."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Optional, Union

from ..._errors import ContainerfileError
from ..build.plan import State
from ..build.steps import Stage
from ..build.tree import Tree
from ..store import NOTHING, Image
from .instructions import Compiler
from .outline import PROXIES, Base, Outline, needed, outline, platform_args
from .source import Instruction, one, read

# Finds an image by its name and platform (empty for the host's); the error is about the instruction.
Resolve = Callable[[Base], Image]


def bases(text: str, file: str, build_args: Mapping[str, str], target: str = "") -> list[Base]:
    """The images that the target is made from, so that they can be pulled before compile(). Those that only a
    trigger of ONBUILD names are not among them."""
    source = read(text, file)
    stages = _wanted(outline(source, build_args)[0], file, target)
    return [image for stage in stages for image in stage.images]


def compile(
    text: str, file: str, context: Optional[Tree], build_args: Mapping[str, str], resolve: Resolve, target: str = ""
) -> tuple[Stage, ...]:
    """The stages that the target needs. ``file`` is what errors call the text. Raises ContainerfileError, and what
    ``resolve`` raises."""
    source = read(text, file)
    outlines, declared = outline(source, build_args)
    made = _Made(source.escape, context, build_args, declared, resolve, outlines)
    for stage in _wanted(outlines, file, target):
        made.add(stage)
    return tuple(made.stages)


def unused(text: str, file: str, build_args: Mapping[str, str]) -> list[str]:
    """Names of build arguments that no ARG of the file declares."""
    outlines, declared = outline(read(text, file), build_args)
    return sorted(set(build_args) - _declared(outlines) - set(declared) - {*PROXIES, *platform_args()})


def _wanted(stages: list[Outline], file: str, target: str) -> list[Outline]:
    try:
        return needed(stages, target)
    except LookupError as error:
        line = stages[-1].instruction.line
        raise ContainerfileError(
            file, line, f"there is no stage {target!r} to be the target; its stages are {error}"
        ) from None


def _declared(stages: list[Outline]) -> set[str]:
    arguments = (line for stage in stages for line in stage.instructions if line.verb == "ARG")
    return {word.partition("=")[0] for line in arguments for word in line.rest.split()}


class _Made:
    """Stages as they are compiled; what one needs was compiled before it."""

    def __init__(
        self, escape: str, context: Optional[Tree], build_args: Mapping[str, str], declared: Mapping[str, str],
        resolve: Resolve, outlines: list[Outline],
    ) -> None:  # fmt: skip
        self.escape = escape
        self.context = context
        self.build_args = build_args
        self.declared = declared
        self.resolve = resolve
        self.outlines = outlines
        self.stages: list[Stage] = []
        self.compilers: dict[int, tuple[int, Compiler]] = {}  # by the outline's number: the stage's number

    def add(self, stage: Outline) -> None:
        base, config, inherited = self._base(stage)
        compiler = Compiler(
            stage, self.outlines, State(dict(config), []), dict(inherited), self.escape, self.build_args,
            self.declared, self.context, self._origin,
        )  # fmt: skip
        instructions = [*self._triggers(stage, config), *stage.instructions]
        compiler.state.config.pop("OnBuild", None)
        steps = [step for instruction in instructions for step in compiler.compile(instruction)]
        if config.get("OnBuild"):
            steps.insert(0, compiler.without_triggers(stage.instruction))
        self.stages.append(Stage(base, tuple(steps), stage.name or str(stage.number)))
        self.compilers[stage.number] = len(self.stages) - 1, compiler

    def _base(self, stage: Outline) -> tuple[Union[Image, int], Mapping[str, Any], Mapping[str, str]]:
        """(what it is made on, its configuration, the arguments that it hands down)"""
        if isinstance(stage.base, int):
            number, compiler = self.compilers[stage.base]
            return number, compiler.state.config, compiler.args
        image = NOTHING if stage.base is None else self.resolve(stage.base)
        return image, image.config, {}

    def _triggers(self, stage: Outline, config: Mapping[str, Any]) -> Iterator[Instruction]:
        """ONBUILD's of the base, which are done as if they stood behind FROM."""
        for text in config.get("OnBuild") or ():
            yield one(text, stage.instruction.file, stage.instruction.line, self.escape)

    def _origin(self, found: Union[int, Base]) -> Union[Image, int]:
        if isinstance(found, int):
            if found not in self.compilers:
                stage = self.outlines[found]
                raise stage.instruction.error("a trigger of the base copies from this stage, which is not built")
            return self.compilers[found][0]
        return self.resolve(found)
