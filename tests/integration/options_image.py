# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of module image. What is declared is called thing, and a container that is made from it is asked."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._image.store import Store

from . import options_container as container
from .options_box import Box
from .options_table import Also, rows
from .warm import TRAP, WarmPlace

row = rows("image")

# things to make images from; they are made once, below the installation


def materials(place: WarmPlace) -> Path:
    """tree/ and tree.tar, archive.tar with images first and second, a template and a mmdebstrap that tell of their words."""
    base = Path(place.root).parent / "materials"
    if not base.exists():
        base.mkdir()
        _tree(base / "tree", "tree")
        with tarfile.open(base / "tree.tar", "w") as tar:
            tar.add(base / "tree", ".")
        _archive(base)
        (base / "secret").write_text("sesame")
        _script(base / "template", 'cp -a "$(dirname "$0")/tree/." "$LXC_ROOTFS"; echo "$@" > "$LXC_ROOTFS/arguments"')
        (base / "bin").mkdir()
        _script(
            base / "bin/mmdebstrap", 'for word; do test ! -d "$word" || to=$word; done; echo "$@" > "$to/arguments"'
        )
    return base


def _tree(path: Path, word: str) -> None:
    (path / "bin").mkdir(parents=True)
    (path / "bin/sh").write_bytes(Path("/bin/busybox").read_bytes())
    (path / "bin/sh").chmod(0o755)
    (path / "word").write_text(word)


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh -e\n{text}\n")
    path.chmod(0o755)


def _archive(base: Path) -> None:
    """As docker save writes it, by hand."""
    entries = []
    with tarfile.open(base / "archive.tar", "w") as out:
        for word in ("first", "second"):
            _tree(base / word, word)
            layer = io.BytesIO()
            with tarfile.open(fileobj=layer, mode="w") as tar:
                tar.add(base / word, ".")
            diff_id = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
            config = {
                "os": "linux",
                "architecture": "amd64",
                "rootfs": {"type": "layers", "diff_ids": [diff_id]},
                "config": {},
            }
            _add(out, f"{word}.json", json.dumps(config).encode())
            _add(out, f"{word}/layer.tar", layer.getvalue())
            entries.append({"Config": f"{word}.json", "RepoTags": [f"{word}:latest"], "Layers": [f"{word}/layer.tar"]})
        _add(out, "manifest.json", json.dumps(entries).encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


class Material:
    """A path of materials, as a value."""

    def __init__(self, path: str) -> None:
        self.path = path


# who is asked


def inside(ask: Callable[[Box], Any], **args: Any) -> Callable[[WarmPlace], Any]:
    """Ask a container of the image."""

    def of(place: WarmPlace) -> Any:
        box = Box(place)
        box.make(image="thing", **args)
        return ask(box)

    return of


def has(*paths: str) -> Callable[[WarmPlace], Any]:
    return inside(lambda box: [box.path(path).exists() for path in paths])


def word_of(place: WarmPlace) -> str:
    """A file of the image, where the image has nothing that could run."""
    store = Store(place.paths)
    return (Path(store.directories(store.need("thing:latest"))[-1]) / "word").read_text()


def arguments(place: WarmPlace) -> str:
    store = Store(place.paths)
    return (Path(store.directories(store.need("thing:latest"))[-1]) / "arguments").read_text()


def known(place: WarmPlace) -> bool:
    return bool(place.task("image_info", name="thing")["images"])


def known_in_use(place: WarmPlace) -> bool:
    """Known, and used by a container that goes on running when its image's name is taken away."""
    box = Box(place)
    if not known(place):
        return not box.pid
    box.make(image="thing")
    return True


def config(key: str) -> Callable[[WarmPlace], Any]:
    """What the image's configuration says to whom it concerns: nothing of it is the kernel's."""
    return lambda place: place.task("image_info", name="thing")["images"][0]["config"].get(key)


def owner(path: str) -> Callable[[WarmPlace], Any]:
    return inside(lambda box: box.sh(f"stat -c %u:%g:%a {path}"))


def build(*layers: dict[str, Any], **more: Any) -> Also:
    return Also(**{"from": "bb", "layers": list(layers), **more})


def copied(**more: Any) -> Also:
    return build({"copy": {"content": "x", "dest": "/x", **more}})


FROM = {"from": "bb"}
# where it comes from
row("name", known, (Also(**{"name": "thing", "from": "bb"}), True), made=False)
row("state", known, (Also(state="absent"), False), **FROM)
row("force", known_in_use, (Also(state="absent", force=True), False), **FROM)
row("source", word_of, (Also(source="rootfs", path=Material("tree")), "tree"),
    (Also(source="archive", path=Material("archive.tar"), archive_name="first"), "first"),
    (Also(source="template", template=Material("template")), "tree"),
    source="archive", path=Material("archive.tar"), archive_name="second")  # fmt: skip
row("path", word_of, (Also(source="rootfs", path=Material("tree")), "tree"), (Also(source="rootfs", path=Material("first")),
    "first"), (Also(source="rootfs", path=Material("tree.tar")), "tree"), source="rootfs", path=Material("second"))  # fmt: skip
row("archive_name", word_of, (Also(source="archive", path=Material("archive.tar"), archive_name="second"), "second"),
    source="archive", path=Material("archive.tar"), archive_name="first")  # fmt: skip
row("template", has("/word"), (Also(source="template", template="busybox", cmd=["sleep", "60"]), [False]),
    source="rootfs", path=Material("tree"), cmd=["sh", "-c", "mkfifo /f; read x < /f"])  # fmt: skip


def template(**options: Any) -> Also:
    return Also(source="template", template=Material("template"), template_options=options)


def debian(**options: Any) -> Also:
    return Also(source="template", template="debian", template_options=options)


def told(word: str) -> Callable[[WarmPlace], bool]:
    """Does the tool that installs Debian get the word?"""
    return lambda place: word in arguments(place).split()


row("template_options", arguments, (template(release="2"), "--release=2\n", template(release=2)), (template(), "\n"),
    source="template", template=Material("template"), template_options={"release": "1"})  # fmt: skip
DEBIAN = debian().args
for option, value, word, same in (
    ("suite", "trixie", "trixie", None),
    ("variant", "apt", "--variant=apt", None),
    ("mirror", "http://127.0.0.1/debian", "http://127.0.0.1/debian", None),
    ("packages", ["b", "a"], "--include=a,b", ["a", "b"]),
    ("components", ["main", "contrib"], "--components=main,contrib", None),
    ("architecture", "arm64", "--architectures=arm64", None),
):
    row(f"template_options.{option}", told(word), (debian(**{option: value}), True, debian(**{option: same or value})),
        (debian(), False, debian(suite="bookworm", packages=[])), **DEBIAN)  # fmt: skip
row(
    "template_options.docs",
    told("--dpkgopt=path-exclude=/usr/share/man/*"),
    (debian(docs=True), False),
    (debian(), True),
    **DEBIAN,
)

# what it is built with
row(
    "from",
    has("/marker"),
    (Also(**{"from": "marked"}), [True], Also(**{"from": "marked:latest"})),
    (Also(**FROM), [False]),
    **FROM,
)
row("layers", has("/one", "/two"), (build({"run": "touch /one"}, {"run": "touch /two"}), [True, True]),
    (build({"run": "touch /two"}), [False, True]), (build(), [False, False]), **FROM)  # fmt: skip
row("layers.run", inside(lambda box: box.path("/made").exists() and box.read("/made")),
    (build({"run": "echo shell > /made"}), "shell\n"), (build({"run": ["sh", "-c", "echo list > /made"]}), "list\n"), **FROM)  # fmt: skip
row("layers.copy", has("/x"), (copied(), [True]), (build(), [False]), **FROM)
row("layers.copy.src", has("/word"), (build({"copy": {"src": Material("tree/word"), "dest": "/"}}), [True]), **FROM)
row("layers.copy.content", inside(lambda box: box.read("/x")), (copied(content="two"), "two"), **copied().args)
row("layers.copy.dest", has("/x", "/deep/y"), (copied(dest="/deep/y"), [False, True]), **copied().args)
row("layers.copy.owner", owner("/x"), (copied(owner=12), "12:0:644", copied(owner="12")), **copied().args)
row("layers.copy.group", owner("/x"), (copied(group=34), "0:34:644"), **copied().args)
row("layers.copy.mode", owner("/x"), (copied(mode="0600"), "0:0:600", copied(mode="600")), **copied().args)
row("layers.env", inside(container.environ), (build({"env": {"A": "1"}}, {"env": {"B": "2"}}), {"A": "1", "B": "2"}),
    (build(), {}), **FROM)  # fmt: skip

# what its containers are like


def over(**args: Any) -> Also:
    return Also(**{"from": "bb", **args})


row("cmd", inside(container.cmdline), (over(cmd="sleep 501"), "sleep 501", over(cmd=["sleep", "501"])),
    (over(cmd=["sh", "-c", TRAP]), f"sh -c {TRAP}"), cmd=["sleep", "500"], **FROM)  # fmt: skip
row(
    "entrypoint",
    inside(container.cmdline),
    (over(entrypoint=["sleep"], cmd=["502"]), "sleep 502"),
    (over(), f"sh -c {TRAP}"),
    **FROM,
)
row("env", inside(container.environ), (over(env={"A": "1", "B": 2}), {"A": "1", "B": "2"}), (over(), {}), **FROM)
row(
    "user",
    inside(container.ids),
    (over(user="nobody"), ("65534", "65534", "/nonexistent")),
    (over(), ("0", "0", "/root")),
    **FROM,
)
row("working_dir", inside(lambda box: box.sh("readlink /proc/1/cwd")), (over(working_dir="/tmp"), "/tmp", over(working_dir="/tmp/")),
    (over(), "/"), **FROM)  # fmt: skip
row("exposed_ports", config("ExposedPorts"), (over(exposed_ports=["80", "53/udp"]), {"80/tcp": {}, "53/udp": {}},
    over(exposed_ports=["53/udp", "80/tcp"])), (over(), None), **FROM)  # fmt: skip
row("volumes", config("Volumes"), (over(volumes=["/data", "/a"]), {"/data": {}, "/a": {}}, over(volumes=["/a", "/data/"])),
    (over(), None), **FROM)  # fmt: skip
row("labels", config("Labels"), (over(labels={"a": "1"}), {"a": "1"}, over(labels={"a": 1})), (over(), None), **FROM)
SAYS = ["sh", "-c", container.SAYS]
row("stop_signal", inside(container.stop_word, volumes=["data:/v"]), (over(stop_signal="USR1", cmd=SAYS), "USR1",
    over(stop_signal=10, cmd=SAYS), over(stop_signal="SIGUSR1", cmd=SAYS)), (over(cmd=SAYS), "TERM"), cmd=SAYS, **FROM)  # fmt: skip


def check(test: Any, **times: Any) -> Also:
    return over(healthcheck=container.check(test, **times))


def every(interval: str, test: str = container.BEAT, **times: Any) -> Also:
    return over(healthcheck={"test": test, "interval": interval, **times})


row("healthcheck", inside(container.which_ran), (check("touch /x"), "x"), (over(), ""), **FROM)
row(
    "healthcheck.test",
    inside(container.which_ran),
    (check(["CMD", "touch", "/y"]), "y", check(["touch", "/y"])),
    **check("touch /x").args,
)
row("healthcheck.interval", inside(container.often), (every("100ms"), True), **every("1h").args)
row("healthcheck.timeout", inside(container.verdict), (check("sleep 0.3", timeout="100ms", retries=1), "unhealthy"),
    **check("sleep 0.3", retries=1).args)  # fmt: skip
row(
    "healthcheck.retries",
    inside(container.verdict),
    (check("false", retries=2), "unhealthy"),
    **check("false", retries=1000).args,
)
row("healthcheck.start_period", inside(container.verdict), (check("false", retries=1, start_period="1h", start_interval="100ms"),
    "starting"), **check("false", retries=1).args)  # fmt: skip
row("healthcheck.start_interval", inside(container.often), (over(healthcheck=container.starting("100ms")), True),
    **over(healthcheck=container.starting("1h")).args)  # fmt: skip


def real(place: WarmPlace, value: Any) -> Any:
    """The value with the paths of this installation's materials in it."""
    if isinstance(value, Material):
        return str(materials(place) / value.path)
    if isinstance(value, dict):
        return {key: real(place, item) for key, item in value.items()}
    return [real(place, item) for item in value] if isinstance(value, list) else value


def environment(place: WarmPlace) -> dict[str, str]:
    """Where the programs of materials come before the host's."""
    return {"PATH": f"{materials(place)}/bin:{os.environ['PATH']}"}
