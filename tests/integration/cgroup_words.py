# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's cgroup, asked and written to in the words of v1 whichever version the host has.

So the same tables of options judge both. What v2 counts on another scale is told as the number that was declared, by
pairs that are written down here and not computed: the product's own formula must not judge itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
UNIFIED = (ROOT / "cgroup.controllers").exists()
UNLIMITED = "9223372036854771712"  # bytes: what v1 shows for no limit
# cpu.weight by cpu.shares, and io.weight by blkio.weight, as runc writes them.
_WEIGHTS = {"1": "2", "3": "77", "10": "256", "12": "300", "20": "512", "30": "768", "39": "1024", "79": "2048"}
_IO_WEIGHTS = {"100": "100", "2930": "300", "4950": "500"}


def where(controller: str, path: str) -> Path:
    """The directory of the group ``path``; v2 has one for all controllers."""
    return Path(f"{ROOT if UNIFIED else ROOT / controller}{path}")


def read(directory: Path, file: str) -> str:
    """What v1's ``file`` would say."""
    return _READ[file](directory) if UNIFIED and file in _READ else (directory / file).read_text().strip()


def write(directory: Path, file: str, value: str) -> None:
    """Write as if to v1's ``file``."""
    if UNIFIED and file in _WRITE:
        file, convert = _WRITE[file]
        value = convert(value)
    (directory / file).write_text(value)


def _v2(file: str) -> Callable[[Path], str]:
    return lambda directory: (directory / file).read_text().strip()


def _bytes(file: str, unlimited: str = "max") -> Callable[[Path], str]:
    def say(directory: Path) -> str:
        found = _v2(file)(directory)
        return UNLIMITED if found == unlimited else found

    return say


def _memory_and_swap(directory: Path) -> str:
    both = [_v2(file)(directory) for file in ("memory.max", "memory.swap.max")]
    return UNLIMITED if "max" in both else str(sum(map(int, both)))


def _quota(directory: Path) -> str:
    quota = _v2("cpu.max")(directory).split()[0]
    return "-1" if quota == "max" else quota


def _shares(directory: Path) -> str:
    weight = _v2("cpu.weight")(directory)
    return "1024" if weight == "100" else _WEIGHTS.get(weight, f"a weight of {weight}")


def _blkio_weight(directory: Path) -> str:
    weight = _v2("io.weight")(directory).split()[-1]
    return _IO_WEIGHTS.get(weight, f"a weight of {weight}")


def _cpu_time(directory: Path) -> str:
    lines = dict(line.split() for line in _v2("cpu.stat")(directory).splitlines())
    return str(int(lines["usage_usec"]) * 1000)


def _freezer(directory: Path) -> str:
    lines = dict(line.split() for line in _v2("cgroup.events")(directory).splitlines())
    return "FROZEN" if lines["frozen"] == "1" else "THAWED"


def _set(file: str) -> Callable[[Path], str]:
    """An empty set is all that the parent has; v1 writes that out."""
    return lambda directory: _v2(file)(directory) or _v2(f"{file}.effective")(directory)


def _rate(word: str) -> Callable[[Path], str]:
    """Lines of "MAJ:MIN RATE", from "MAJ:MIN rbps=N wbps=max …"."""

    def say(directory: Path) -> str:
        found = []
        for line in _v2("io.max")(directory).splitlines():
            device, *pairs = line.split()
            rate = dict(pair.split("=") for pair in pairs)[word]
            found += [f"{device} {rate}"] if rate != "max" else []
        return "\n".join(found)

    return say


# blkio.throttle.X_device by v1, a word of io.max by v2.
_RATES = {"read_bps": "rbps", "write_bps": "wbps", "read_iops": "riops", "write_iops": "wiops"}
_READ: dict[str, Callable[[Path], str]] = {
    "memory.limit_in_bytes": _bytes("memory.max"),
    "memory.soft_limit_in_bytes": _bytes("memory.low", "0"),
    "memory.memsw.limit_in_bytes": _memory_and_swap,
    "memory.max_usage_in_bytes": _v2("memory.peak"),
    "cpu.cfs_quota_us": _quota,
    "cpu.shares": _shares,
    "cpuacct.usage": _cpu_time,
    "cpuset.cpus": _set("cpuset.cpus"),
    "cpuset.mems": _set("cpuset.mems"),
    "blkio.bfq.weight": _blkio_weight,
    "freezer.state": _freezer,
    **{f"blkio.throttle.{name}_device": _rate(word) for name, word in _RATES.items()},
}
_WRITE: dict[str, tuple[str, Callable[[str], str]]] = {
    "memory.limit_in_bytes": ("memory.max", str),
    "cpu.shares": ("cpu.weight", {shares: weight for weight, shares in _WEIGHTS.items()}.__getitem__),
    "cpu.cfs_quota_us": ("cpu.max", lambda value: "max" if value == "-1" else value),
    "blkio.throttle.read_bps_device": ("io.max", lambda value: " rbps=".join(value.split())),
}
