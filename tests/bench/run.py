# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Side by side with containers.podman, in one run on one machine: time, memory, and how both grow.

Both sides get the same Ansible, whole processes of ansible-playbook, the same busybox, a bridge and the same limits.
Writes a table to the terminal and everything measured to tests/output/bench.json. Needs root; leaves nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from playing import CHECKOUT, Failed, file_system, prepare_venv, run
from podman import Podman
from vessel import Vessel

OUTPUT = CHECKOUT / "tests" / "output" / "bench.json"
BAR = {"from nothing": 25, "no change": 30}  # times as fast as containers.podman
Result = dict[str, object]
Side = TypeVar("Side", Podman, Vessel)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def expect(what: str, found: object, wanted: object) -> None:
    """A figure of something that did not happen is worth nothing."""
    if found != wanted:
        raise Failed(f"{what}: {found}, not {wanted}")


def one_side(side: Podman | Vessel, count: int) -> Result:
    """From nothing to running, then the same again; memory in between; then nothing again."""
    first = side.up(count)
    expect("containers running", side.running(), count)
    expect("changed by the first run", first.changed > 0, True)
    memory = side.resident()
    again = side.up(count)
    expect("changed by the second run", again.changed, 0)
    side.down(count)
    say(f"{type(side).__name__}, {count} containers: {first.seconds:.2f} s, no change {again.seconds:.2f} s")
    return {"from nothing": first.seconds, "no change": again.seconds, "resident kB": memory}


@contextmanager
def ready(kind: type[Side], directory: Path) -> Iterator[Side]:
    """One side on a file system of its own, with its image and all that is installed once; nothing of it stays."""
    with file_system(directory / kind.__name__.lower()) as place:
        side = kind(place)
        try:
            side.prepare()
            yield side
        finally:
            side.remove()


def side_by_side(kinds: list[type[Any]], directory: Path, count: int, runs: int) -> dict[str, list[Result]]:
    """In turns, so that whatever else the machine does meets both."""
    found: dict[str, list[Result]] = {"podman": [], "vessel": []}
    for _turn in range(runs):
        for kind in kinds:
            with ready(kind, directory) as side:
                found[kind.__name__.lower()].append(one_side(side, count))
    return found


def growth(directory: Path, counts: list[int]) -> dict[str, Result]:
    found = {}
    for count in counts:
        with ready(Vessel, directory) as vessel:
            found[str(count)] = one_side(vessel, count)
    return found


def empty(vessel: Vessel) -> float:
    """What ansible-playbook costs with nothing to do."""
    return statistics.median(vessel.ansible.play("empty.yml").seconds for _turn in range(3))


def batches(directory: Path, count: int, runs: int) -> list[float]:
    """Engine milliseconds a container in a batch."""
    found = []
    for _turn in range(runs):
        with ready(Vessel, directory) as vessel:
            found.append(1000 * vessel.batch(count) / count)
            expect("containers running", vessel.running(), count)
            vessel.down(count)
    return found


def one_at_a_time(vessel: Vessel, root: Path, count: int) -> list[float]:
    """Milliseconds of ``runc run -d`` on bundles that our converger wrote: the same work, by the same files."""
    vessel.up(count)
    vessel.ansible.play("vessel.yml", root=vessel.root, count=count, state="stopped")
    found = []
    for number in range(count):
        bundle = vessel.paths.bundle(f"bench{number}")
        start = time.monotonic()
        run_detached("runc", "--root", str(root), "run", "--detach", "--bundle", bundle, f"runc{number}")
        found.append(1000 * (time.monotonic() - start))
    for number in range(count):
        run("runc", "--root", str(root), "delete", "--force", f"runc{number}")
    vessel.down(count)
    return found


def run_detached(*argv: str) -> None:
    """The container keeps its stdout open: a pipe to it would never end."""
    status = os.spawnvpe(
        os.P_WAIT, "sh", ["sh", "-c", 'exec "$@" </dev/null >/dev/null 2>&1', "sh", *argv], dict(os.environ)
    )
    expect(f"exit code of {' '.join(argv)}", status, 0)


def machine() -> Result:
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) >> 20
    return {"cpus": os.cpu_count(), "memory GiB": memory, "kernel": platform.release(), "load": os.getloadavg()[0]}


def middle(results: list[Result], what: str) -> float:
    return statistics.median(float(str(result[what])) for result in results)


def rows(found: Result) -> list[tuple[str, ...]]:
    """The table: what, theirs, ours, how many times."""
    both: dict[str, list[Result]] = found["side by side"]  # type: ignore[assignment]
    lines = [("", "containers.podman", "vessel.host", "ratio", "bar")]
    for what, wanted in BAR.items():
        ours = middle(both["vessel"], what)
        if both["podman"]:
            theirs = middle(both["podman"], what)
            lines.append((f"{what}, s", f"{theirs:.2f}", f"{ours:.2f}", f"{theirs / ours:.1f}", f"{wanted}"))
        else:
            lines.append((f"{what}, s", "", f"{ours:.2f}", "", f"{wanted}"))
    memory = {side: max((sum(r["resident kB"].values()) for r in both[side]), default=0) for side in both}  # type: ignore[attr-defined]
    ratio = f"{memory['podman'] / memory['vessel']:.1f}"
    lines.append(("resident, MB", f"{memory['podman'] / 1024:.1f}", f"{memory['vessel'] / 1024:.1f}", ratio, ""))
    runc, engine = (statistics.median(found[key]) for key in ("runc ms", "engine ms"))  # type: ignore[call-overload]
    lines.append(
        ("ms a container (runc run -d; engine, batch)", f"{runc:.1f}", f"{engine:.1f}", f"{runc / engine:.1f}", "")
    )
    return lines


def growth_rows(found: Result) -> list[tuple[str, ...]]:
    base = float(str(found["empty playbook"]))
    lines = [("containers", "from nothing, s", "ms a container", "no change, s", "ms a container", "resident, MB")]
    for count, result in found["growth"].items():  # type: ignore[attr-defined]
        line = [count]
        for what in BAR:
            seconds = result[what]
            line += [f"{seconds:.2f}", f"{1000 * (seconds - base) / int(count):.2f}"]
        lines.append((*line, f"{sum(result['resident kB'].values()) / 1024:.1f}"))
    return lines


def show(lines: list[tuple[str, ...]]) -> None:
    """As Markdown, which reads well in a terminal too."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    head, *rest = lines
    for line in [head, tuple("-" * width for width in widths), *rest]:
        print(f"| {' | '.join(word.ljust(width) for word, width in zip(line, widths))} |")
    print()


def measure(arguments: argparse.Namespace, directory: Path) -> Result:
    found: Result = {"machine": machine(), "containers": arguments.count}
    kinds: list[type[Any]] = [Vessel] if arguments.ours else [Podman, Vessel]
    if Podman in kinds:
        found["podman"] = run("podman", "--version").strip()
    found["side by side"] = side_by_side(kinds, directory, arguments.count, arguments.runs)
    found["engine ms"] = batches(directory, arguments.count, arguments.runs)
    with ready(Vessel, directory) as vessel:
        found["empty playbook"] = empty(vessel)
        found["runc ms"] = one_at_a_time(vessel, directory / "runc", min(arguments.count, 20))
    found["growth"] = growth(directory, arguments.growth)
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="containers of the comparison")
    parser.add_argument("--runs", type=int, default=3, help="how often; the median counts")
    parser.add_argument(
        "--growth", type=int, nargs="*", default=[10, 100, 1000], help="how many containers, for growth"
    )
    parser.add_argument("--ours", action="store_true", help="leave podman out")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    prepare_venv()
    directory = Path(tempfile.mkdtemp(prefix="vessel-bench-"))
    try:
        found = measure(arguments, directory)
    finally:
        shutil.rmtree(directory / "runc", ignore_errors=True)
        directory.rmdir()  # what is still mounted must not be removed
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(found, indent=2) + "\n")
    show(rows(found))
    show(growth_rows(found))
    print(f"an ansible-playbook with nothing to do: {found['empty playbook']:.2f} s; all figures: {OUTPUT}")


if __name__ == "__main__":
    main()
