# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Containerfile that is written for steps is read as the same steps again, by the engine's own reader."""

from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError
from ansible_collections.vessel.host.plugins.module_utils._image.build import layers
from ansible_collections.vessel.host.plugins.module_utils._image.build.steps import SHELL, Config, Copy, Run
from ansible_collections.vessel.host.plugins.module_utils._image.containerfile.compile import compile
from ansible_collections.vessel.host.plugins.module_utils._image.store import Image
from ansible_collections.vessel.host.plugins.module_utils._options.container import HEALTHCHECK_DEFAULTS
from ansible_collections.vessel.host.plugins.module_utils._options.image import OPTIONS
from ansible_collections.vessel.host.plugins.module_utils._options.record import parse_options
from ansible_collections.vessel.host.plugins.plugin_utils.export import declaration
from ansible_collections.vessel.host.plugins.plugin_utils.export.containerfile import render
from ansible_collections.vessel.host.plugins.plugin_utils.export.losses import Losses, Where
from ansible_collections.vessel.host.tests import declared

HOST = object()  # the target's files, of which none is looked up when steps are compiled


def rendered(**images):
    """The text for app, and what could not be said in it."""
    stack = declaration.read({"containers": {"web": {"image": "app"}}, "images": images})
    losses = Losses("there")
    return render(stack, "app:latest", Where(losses, ("images", "app:latest"), "images.app")), losses.found


def image(name, *dummy):
    return Image(name.removeprefix("docker.io/library/"), "", (), {})


def read(text):
    return compile(text, "Containerfile", HOST, {}, lambda base: image(base.name))


def plain(steps):
    """What the steps do: without where they stand, and each command with its shell."""
    found, shell = [], list(SHELL)
    for step in steps:
        if isinstance(step, Config) and "shell" in step.options:
            shell = list(step.options["shell"])
        changes = {"where": "", "shown": ""}
        if isinstance(step, Run):
            command = [*shell, step.command] if isinstance(step.command, str) else list(step.command)
            changes.update(command=command, hidden={}, mounts=sorted(map(repr, step.mounts)))
        if isinstance(step, Config):
            check = step.options.get("healthcheck")
            options = {**step.options, **({"healthcheck": {**HEALTHCHECK_DEFAULTS, **_said(check)}} if check else {})}
            changes.update(created_by="", options=options)
        if isinstance(step, Copy) and not step.sources:
            # A here-document has a name, which is of no use in a file's place; a directory on the way to it is theirs.
            changes.update(origin=None, inline=[content for dummy, content in step.inline], directory_mode=None)
        found.append(dataclasses.replace(step, **changes))
    return found


def _said(check):
    """A Containerfile has 0 for retries that it does not name."""
    return {name: value for name, value in check.items() if name != "retries" or value}


def lost(steps):
    return rendered(app={"from": "debian", "layers": steps})[1]


def test_what_can_not_be_said_is_told():
    told = [loss for steps in declared.IMAGE["layers"] for loss in lost(steps)]
    assert [loss.path.partition(".layers")[2] for loss in told] == [
        "[0].copy.content",  # no line break at its end
        "[0].copy.dest",  # a blank in it
        "[0].copy.src",  # a file of the target
    ]


@pytest.mark.parametrize("steps", [steps for steps in declared.IMAGE["layers"] if not lost(steps)])
def test_it_is_read_as_the_same_steps(steps):
    (stage,) = read(rendered(app={"from": "debian", "layers": steps})[0])
    body = parse_options(OPTIONS, {"layers": steps})
    assert plain(stage.steps) == plain(layers.compiled(body["layers"], HOST, image))


def test_what_a_build_is_based_on_is_a_stage_before_it():
    base = {"from": "debian", "layers": [{"run": "base"}]}
    copy = {"copy": {"from": "tools", "src": "/x", "dest": "/x"}}
    app = {"from": "base", "layers": [copy, {"run": "app"}], "cmd": ["a", "b"]}
    text, missing = rendered(base=base, tools={"from": "base", "layers": [{"run": "tools"}]}, app=app)
    assert missing == []
    stages = read(text)
    assert [getattr(stage.base, "name", stage.base) for stage in stages] == ["debian:latest", 0, 0]
    assert [step.command for stage in stages for step in stage.steps if isinstance(step, Run)] == [
        "base",
        "tools",
        "app",
    ]
    assert stages[2].steps[0].origin == 1


def test_images_that_are_built_on_one_another_are_refused():
    with pytest.raises(OptionError, match=r"images\.\S+\.from: .* is a cycle: app:latest -> b:latest -> app:latest"):
        rendered(app={"from": "b"}, b={"from": "app"})
