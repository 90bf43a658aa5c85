# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image out of a registry on loopback: ``podman pull``, and the module as a task runs it on the host.

Whole processes by the clock, in turns, each side on a file system of its own that is new each time. Writes a table to
the terminal and everything measured to tests/output/pull.json. Needs root; leaves nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from playing import CHECKOUT, Failed, file_system, prepare_venv, run
from podman import Podman
from registry import registry
from run import machine, say, show
from vessel import install, run_module

OUTPUT = CHECKOUT / "tests" / "output" / "pull.json"
# As many entries and bytes as a small server's image has.
PACKAGES = ["perl", "python3-minimal", "libpython3-stdlib", "openssl", "ca-certificates", "curl", "python3-setuptools"]
BAR = {"from nothing": 0.6, "all layers there": 0.2}  # of podman's time from nothing


class Side(Protocol):
    def pull(self, reference: str) -> None: ...


class Theirs:
    """``podman pull`` with storage of its own."""

    def __init__(self, podman: Podman) -> None:
        self.podman = podman

    def pull(self, reference: str) -> None:
        self.podman.podman("pull", "--quiet", "--tls-verify=false", reference)


class Ours:
    """The module in a process of its own, by the very payload that a task sends to a host."""

    def __init__(self, place: Path) -> None:
        self.root = place / "vessel"
        install(self.root)

    def module(self, module: str, **args: Any) -> dict[str, Any]:
        return run_module(self.root, module, args)

    def pull(self, reference: str) -> None:
        result = self.module("image", name=reference, tls_verify=False, pull="always")
        if not result["changed"]:
            raise Failed(f"{reference} was there already")


def clock(act: Callable[[], None]) -> float:
    start = time.monotonic()
    act()
    return time.monotonic() - start


def turn(side: Side, address: str) -> dict[str, float]:
    """The second reference has the same layers and another configuration."""
    found = {
        "from nothing": clock(lambda: side.pull(f"{address}/debian:one")),
        "all layers there": clock(lambda: side.pull(f"{address}/debian:two")),
    }
    say(f"{type(side).__name__}: {found}")
    return found


def publish(directory: Path, address: str) -> dict[str, int]:
    """Debian by our template, pushed by skopeo; how many entries and bytes it has."""
    ours = Ours(directory / "made")
    template = {"source": "template", "template": "debian", "template_options": {"packages": PACKAGES}}
    ours.module("image", name="debian", **template)
    ours.module("image", name="two", labels={"a": "b"}, **{"from": "debian"})
    for name, tag in (("debian", "one"), ("two", "two")):
        archive = directory / f"{tag}.tar"
        ours.module("image_export", name=name, path=str(archive))
        there = f"docker://{address}/debian:{tag}"
        run("skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci-archive:{archive}", there, timeout=600)
        archive.unlink()
    (layer,) = (path.with_suffix("") for path in (directory / "made").glob("vessel/lib/layers/*.json"))
    entries = run("find", str(layer)).count("\n")
    size = int(run("du", "--summarize", "--bytes", str(layer)).split()[0])
    shutil.rmtree(directory / "made")
    return {"entries": entries, "bytes": size}


def measure(directory: Path, runs: int) -> dict[str, Any]:
    found: dict[str, Any] = {"machine": machine(), "podman": run("podman", "--version").strip(), "turns": {}}
    with registry(directory) as address:
        found["image"] = publish(directory, address)
        for _turn in range(runs):
            with file_system(directory / "theirs") as place:
                podman = Podman(place)
                try:
                    found["turns"].setdefault("podman", []).append(turn(Theirs(podman), address))
                finally:
                    podman.remove()
            with file_system(directory / "ours") as place:
                found["turns"].setdefault("vessel.host", []).append(turn(Ours(place), address))
    return found


def rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    middles = {
        side: {what: statistics.median(one[what] for one in turns) for what in BAR}
        for side, turns in found["turns"].items()
    }
    lines: list[tuple[str, ...]] = [("", *middles, "of podman's from nothing", "bar", "of podman's same")]
    for what, wanted in BAR.items():
        theirs, ours = middles["podman"][what], middles["vessel.host"][what]
        whole = middles["podman"]["from nothing"]
        lines.append(
            (f"{what}, s", f"{theirs:.2f}", f"{ours:.2f}", f"{ours / whole:.2f}", f"{wanted}", f"{ours / theirs:.2f}")
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="how often; the median counts")
    arguments = parser.parse_args()
    prepare_venv()
    directory = Path(tempfile.mkdtemp(prefix="vessel-bench-"))
    try:
        found = measure(directory, arguments.runs)
    finally:
        for name in ("registry", "made"):
            shutil.rmtree(directory / name, ignore_errors=True)
        for path in (*directory.glob("registry.*"), *directory.glob("*.tar")):
            path.unlink()
        directory.rmdir()  # what is still mounted must not be removed
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(found, indent=2) + "\n")
    print(f"{found['image']['entries']} entries, {found['image']['bytes'] / 1e6:.0f} MB\n")
    show(rows(found))


if __name__ == "__main__":
    main()
