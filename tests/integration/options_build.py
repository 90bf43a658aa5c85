# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of module image that say how one is built: directives of layers, Containerfiles, secrets of steps."""

from __future__ import annotations

import hashlib
from typing import Any

from . import options_container as container
from .options_image import FROM, Material, build, config, has, inside, owner, row
from .options_table import Also
from .warm import TRAP, WarmPlace

ADDED = Material("tree.tar")


def reads(path: str) -> Any:
    """What the file in a container of the image holds; nothing where there is none."""
    return inside(lambda box: box.read(path) if box.path(path).exists() else "")


def added(**more: Any) -> Also:
    return build({"add": {"src": ADDED, "dest": "/x/", **more}})


def said(command: str, *before: dict[str, Any], **run: Any) -> Also:
    """A command's output is in /said."""
    return build(*before, {"run": f"({command}) > /said 2>&1; true", **run})


# a step's command
row("layers.network", reads("/said"), (said("ls /sys/class/net | wc -l", network="none"), "1\n"), **FROM)
SECRET = {"secrets": [{"id": "key", "value": "sesame"}]}
row(
    "layers.secrets",
    reads("/said"),
    (Also(**said("wc -c < /run/secrets/key", secrets=["key"]).args, **SECRET), "6\n"),
    **FROM,
)
row("layers.mounts", reads("/said"), (said("stat -f -c %T /t", mounts=["type=tmpfs,target=/t"]), "tmpfs\n"), **FROM)

# files
row("layers.copy.from", has("/marker"), (build({"copy": {"from": "marked", "src": "/marker", "dest": "/"}}), [True]),
    (build(), [False]), **FROM)  # fmt: skip
row("layers.add", has("/x/word"), (added(), [True]), (build(), [False]), **FROM)
row("layers.add.src", reads("/x/word"), (added(src=[Material("first/word")]), "first"), (added(), "tree"), **FROM)
row("layers.add.dest", has("/x/word", "/y/word"), (added(dest="/y/"), [False, True]), **added().args)
FILE = Material("tree/word")
row("layers.add.owner", owner("/x/word"), (added(src=FILE, owner=12), "12:0:644", added(src=FILE, owner="12")),
    **added(src=FILE).args)  # fmt: skip
row("layers.add.group", owner("/x/word"), (added(src=FILE, group=34), "0:34:644"), **added(src=FILE).args)
row("layers.add.mode", owner("/x/word"), (added(src=FILE, mode="0600"), "0:0:600"), **added(src=FILE).args)

# what later steps and containers are told
row("layers.workdir", inside(lambda box: box.sh("readlink /proc/1/cwd")), (build({"workdir": "/w"}), "/w"),
    (build({"workdir": "/w"}, {"workdir": "deep"}), "/w/deep"), **FROM)  # fmt: skip
row("layers.user", inside(container.ids), (build({"user": "nobody"}), ("65534", "65534", "/nonexistent")), **FROM)
row(
    "layers.expose",
    config("ExposedPorts"),
    (build({"expose": [80]}), {"80/tcp": {}}, build({"expose": ["80/tcp"]})),
    **FROM,
)
row("layers.label", config("Labels"), (build({"label": {"a": 1}}), {"a": "1"}), **FROM)
row("layers.volume", config("Volumes"), (build({"volume": ["/v"]}), {"/v": {}}), **FROM)
row(
    "layers.entrypoint",
    inside(container.cmdline),
    (build({"entrypoint": ["sleep"]}, {"cmd": ["503"]}), "sleep 503"),
    **FROM,
)
row("layers.cmd", inside(container.cmdline), (build({"cmd": "sleep 504"}), "sleep 504", build({"cmd": ["sleep", "504"]})),
    (build({"cmd": ["sh", "-c", TRAP]}), f"sh -c {TRAP}"), **FROM)  # fmt: skip
row("layers.shell", reads("/said"), (build({"shell": ["/bin/sh", "-xc"]}, {"run": "echo $- > /said"}), "xc\n"), **FROM)
row(
    "layers.stop_signal",
    config("StopSignal"),
    (build({"stop_signal": "USR1"}), "SIGUSR1", build({"stop_signal": 10})),
    **FROM,
)


def checked(**check: Any) -> Also:
    return build({"healthcheck": {"test": ["CMD", "true"], **check}})


def health(key: str) -> Any:
    return lambda place: (config("Healthcheck")(place) or {}).get(key)


row("layers.healthcheck", health("Test"), (checked(), ["CMD", "true"]), (build(), None), **FROM)
row("layers.healthcheck.test", health("Test"), (checked(test="touch /x"), ["CMD-SHELL", "touch /x"]), **checked().args)
for option, word in (
    ("interval", "Interval"),
    ("timeout", "Timeout"),
    ("start_period", "StartPeriod"),
    ("start_interval", "StartInterval"),
):
    row(f"layers.healthcheck.{option}", health(word), (checked(**{option: "7s"}), 7 * 10**9), **checked().args)
row("layers.healthcheck.retries", health("Retries"), (checked(retries=7), 7), **checked().args)

# Containerfiles
TWO = "FROM bb AS one\nARG WORD=none\nRUN echo one $WORD > /said\nFROM one AS two\nRUN echo two > /two\n"


def written(text: str = TWO, **more: Any) -> Also:
    return Also(containerfile=text, **more)


row("containerfile", has("/said", "/two"), (written(), [True, True]), (written("FROM bb\nCOPY <<EOF /two\nx\nEOF\n"), [False, True]),
    **FROM)  # fmt: skip
row("context", reads("/word"), (written("FROM bb\nCOPY word /\n", context=Material("tree")), "tree"),
    (written("FROM bb\nCOPY word /\n", context=Material("first")), "first"), **FROM)  # fmt: skip
row("build_args", reads("/said"), (written(build_args={"WORD": "a"}), "one a\n"), (written(), "one none\n"), **FROM)
row("target", has("/said", "/two"), (written(target="one"), [True, False], written(target="0")), (written(target="two"),
    [True, True], written()), **FROM)  # fmt: skip

# secrets
ASKS = said("sha256sum < /run/secrets/key", secrets=["key"]).args


def known(place: WarmPlace) -> bool:
    """Was the step given sesame?"""
    return hashlib.sha256(b"sesame").hexdigest() in reads("/said")(place)


row("secrets", known, (Also(**ASKS, **SECRET), True), **FROM)
row("secrets.id", known, (Also(**said("sha256sum < /run/secrets/other", secrets=["other"]).args,
    secrets=[{"id": "other", "value": "sesame"}]), True), **FROM)  # fmt: skip
row("secrets.value", known, (Also(**ASKS, secrets=[{"id": "key", "value": "sesame"}]), True), **FROM)
row("secrets.src", known, (Also(**ASKS, secrets=[{"id": "key", "src": Material("secret")}]), True), **FROM)
