# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every rung of the tests shares: their order, who may run them, and what the host looked like before."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
from ansible_collections.vessel.host.tests import leftovers

TESTS = Path(__file__).parent
# What takes longest comes first, so that those who share the work end together; what proves that nothing was left comes
# after all.
RUNGS = ("molecule", "machines", "integration", "kernel", "collection", "unit")
LAST = "test_zz_nothing_left.py"
BEFORE = pytest.StashKey[leftovers.Snapshot]()
# OR-tools imports NumPy, whose OpenBLAS starts threads. A child of clone3(2) has none of them, but waits for their end
# when it forks (pthread_atfork(3)).
os.environ["OPENBLAS_NUM_THREADS"] = "1"


def rung(item: pytest.Item) -> int:
    first = item.path.relative_to(TESTS).parts[0]
    if first == LAST:
        return len(RUNGS) + 1
    return RUNGS.index(first) if first in RUNGS else len(RUNGS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=rung)  # a stable sort: within a rung the order stays


def pytest_addoption(parser: pytest.Parser) -> None:
    words = "what the host was like: written here by the first of several runs, for the last one"
    parser.addoption("--host-before", metavar="FILE", type=Path, help=words)
    words = "a directory in which runs that go on side by side write down who has taken which file of tests"
    parser.addoption("--shared", metavar="DIRECTORY", type=Path, help=words)


def pytest_sessionstart(session: pytest.Session) -> None:
    kept = session.config.getoption("host_before")
    if kept and not kept.exists() and os.geteuid() == 0:
        kept.write_bytes(pickle.dumps(leftovers.take()))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """File by file, those that no other run has taken. Not by xdist: its workers have threads, and with threads nobody
    goes into namespaces as tests do (setns(2))."""
    shared = session.config.getoption("shared")
    if not shared or session.config.option.collectonly or session.testsfailed:
        return None
    for path, items in groupby(session.items, key=lambda item: item.path):
        if _taken(shared, path):
            _run(session, list(items))
    return True


def _taken(shared: Path, path: Path) -> bool:
    try:
        (shared / str(path.relative_to(TESTS)).replace("/", "+")).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _run(session: pytest.Session, items: list[pytest.Item]) -> None:
    for item, following in zip(items, [*items[1:], None]):
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail or session.shouldstop:
            raise session.Interrupted(session.shouldfail or session.shouldstop)


def pytest_collection_finish(session: pytest.Session) -> None:
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:  # clone3(2) and setns(2) want one
        raise pytest.UsageError(f"threads that the imports of the tests have started: {threads - 1}")
    if any(item.path.name == LAST for item in session.items) and os.geteuid() == 0:
        kept = session.config.getoption("host_before")
        session.config.stash[BEFORE] = pickle.loads(kept.read_bytes()) if kept else leftovers.take()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid():
        if os.environ.get("CI"):
            pytest.fail("CI runs every test, and this one needs root", pytrace=False)
        pytest.skip("needs root")


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: object) -> Iterator[None]:
    """When a test's time is up, what it has started is told first: the stack alone does not say what it waited for."""
    found = yield
    over = signal.getsignal(signal.SIGALRM)

    def tell(number: int, frame: object) -> None:
        print("\n".join(_below(os.getpid())), file=sys.stderr)
        over(number, frame)

    signal.signal(signal.SIGALRM, tell)
    return found


def _below(top: int) -> list[str]:
    """Lines of ps, the processes below one."""
    command = ["ps", "-eww", "-o", "pid=,ppid=,etimes=,stat=,wchan:20=,args="]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    parents = {int(line.split()[0]): int(line.split()[1]) for line in lines}

    def is_below(pid: int) -> bool:
        while pid not in (top, 0):
            pid = parents.get(pid, 0)
        return pid == top

    return [line for line in lines if is_below(int(line.split()[0]))]


@pytest.fixture
def before(request: pytest.FixtureRequest) -> leftovers.Snapshot:
    """The host as it was before the first test."""
    return request.config.stash[BEFORE]
