# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of modules that do or tell something: exec, copy, logs, and those that end in _info.

Each is run as check, apply, apply, check too, and what must be changed of the four is part of the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import cgroup_words
from .options_box import Box

ACTS: list[Act] = []
Answer = Callable[[Mapping[str, Any], Box], Any]


@dataclass(frozen=True)
class Act:
    """``answer`` is asked of the first real run's result and of the container."""

    module: str
    option: str
    args: Mapping[str, Any]
    answer: Answer
    wanted: Any
    changes: str
    label: str = ""

    def __str__(self) -> str:
        return f"{self.module.removeprefix('container_')}-{self.option}{'-' if self.label else ''}{self.label}"


def act(
    module: str, option: str, answer: Answer, wanted: Any, *, changes: str = "nnnn", label: str = "", **args: Any
) -> None:
    ACTS.append(Act(module, option, args, answer, wanted, changes, label))


# exec: it runs each time, and in check mode not at all, but where a path of the container says whether it has to


def said(result: Mapping[str, Any], box: Box) -> Any:
    return result["stdout"]


def run(option: str, answer: Answer, wanted: Any, *, changes: str = "nCCn", **args: Any) -> None:
    act("container_exec", option, answer, wanted, changes=changes, container="box", **args)


def words_of(needle: str) -> Answer:
    """Is such a process in the container's cgroup now?"""

    def ask(result: Mapping[str, Any], box: Box) -> bool:
        path = cgroup_words.where("pids", box.place.paths.cgroup("box")) / "cgroup.procs"
        return any(
            needle in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in path.read_text().split()
        )

    return ask


run("container", said, "box", command="hostname")
run("command", said, "a b|c|", command='printf "%s|" "a b" c')
run("argv", said, "a b|c|", argv=["printf", "%s|", "a b", "c"])
run("user", said, "12 34", argv=["sh", "-c", "echo $(id -u) $(id -g)"], user="12:34")
run("chdir", said, "/etc", command="pwd", chdir="/etc")
run("env", said, "x y", argv=["sh", "-c", "echo $A $B"], env={"A": "x", "B": "y"})
run("stdin", said, "1", command="wc -l", stdin="line")
run("stdin_add_newline", said, "0", command="wc -l", stdin="line", stdin_add_newline=False)
run("strip_empty_ends", said, "x\n\n", argv=["printf", "x\\n\\n"], strip_empty_ends=False)
run("tty", lambda result, box: result["stdout"].startswith("/dev/pts/"), True, command="tty", tty=True)
run("detach", words_of("sleep 4711"), True, command="sleep 4711", detach=True)
run("timeout", said, "in time", command="echo in time", timeout="20s")
run(
    "creates",
    lambda result, box: box.path("/made").exists(),
    True,
    command="touch /made",
    creates="/made",
    changes="CCnn",
)
run(
    "removes",
    lambda result, box: box.path("/kept").exists(),
    False,
    command="rm /kept",
    removes="/kept",
    changes="CCnn",
)
run("fail_on_rc", lambda result, box: result["rc"], 3, argv=["sh", "-c", "exit 3"], fail_on_rc=False)

# copy: what is there already is not copied


def into(option: str, answer: Answer, wanted: Any, *, changes: str = "CCnn", label: str = "", **args: Any) -> None:
    given = {"container": "box", "container_path": "/copied", "content": "x", "mode": "0644", **args}
    given = {key: value for key, value in given.items() if value is not None}
    act("container_copy", option, answer, wanted, changes=changes, label=label, **given)


def seen(result: Mapping[str, Any], box: Box) -> str:
    return box.sh("cat /copied; stat -c :%u:%g:%a /copied").replace("\n", "")


FILE = {"content": None, "mode": None}
into("container", seen, "x:0:0:644")
into("container_path", lambda result, box: box.read("/etc/other"), "x", container_path="/etc/other")
into("path", seen, "from a file:0:0:751", path="{files}/file", **FILE)
into("content", seen, "text:0:0:644", content="text")
into("direction", lambda result, box: (box.place.files / "out").read_text(), "inside", direction="out", path="{files}/out",
     container_path="/kept", **FILE)  # fmt: skip
into("mode", seen, "x:0:0:4711", mode="4711")
into("owner_id", seen, "x:12:0:644", owner_id=12)
into("group_id", seen, "x:0:34:644", group_id=34)
into(
    "follow",
    lambda result, box: (box.path("/link").is_symlink(), box.read("/target")),
    (True, "x"),
    container_path="/link",
    follow=True,
)
into(
    "local_follow",
    lambda result, box: box.sh("readlink /copied"),
    "file",
    path="{files}/link",
    local_follow=False,
    **FILE,
)
into("force", seen, "x:0:0:644", force=True, changes="CCCC")
into(
    "force",
    lambda result, box: box.read("/kept"),
    "inside",
    container_path="/kept",
    force=False,
    changes="nnnn",
    label="false",
)

# logs and facts: they change nothing

act("container_logs", "container", lambda result, box: result["lines"], ["one", "two"], container="box")
act("container_logs", "tail", lambda result, box: result["lines"], ["two"], container="box", tail=1)
act(
    "container_info",
    "name",
    lambda result, box: [found["pid"] == box.pid for found in result["containers"]],
    [True],
    name="box",
)
act("container_info", "name", lambda result, box: result["containers"], [], name="nobody", label="of-nobody")
act("image_info", "name", lambda result, box: [found["name"] for found in result["images"]], ["bb:latest"], name="bb")
act("volume_info", "name", lambda result, box: [Path(found["mountpoint"], "in-data").exists() for found in result["volumes"]], [True],
    name="data")  # fmt: skip
act(
    "volume_info",
    "usage",
    lambda result, box: result["volumes"][0]["usage"] > 0,
    True,
    **{"name": "data", "usage": True},
)
act("network_info", "name", lambda result, box: [Path("/sys/class/net", found["bridge"]).exists() for found in result["networks"]], [True],
    name="one")  # fmt: skip
