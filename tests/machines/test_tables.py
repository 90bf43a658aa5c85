# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of tests/integration on a host with systemd and cgroup v2 alone: every option twice, live, limits, drift,
isolation; a supervisor that is killed under load; new instances before old ones; volumes that go to other hosts. From
the same files, run there by pytest; a test here is a file there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ansible_collections.vessel.host.tests.collection.gates import CHECKOUT
from ansible_collections.vessel.host.tests.patience import patient

from .guest import Guest
from .installed import HOME, TREE, install

pytestmark = [
    pytest.mark.vm,
    pytest.mark.root,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="QEMU is not installed"),
]
INTEGRATION = CHECKOUT / "tests/integration"
OPTIONS = sorted(path.stem for path in INTEGRATION.glob("test_options_*.py"))
# The longest first.
FILES = [
    "test_options_container",
    "test_live",
    "test_start_first",
    "test_drift",
    "test_limits",
    "test_isolation",
    "test_supervisor_killed",
    "test_volume_moves",
    "test_network_of_another",
]
FILES += [name for name in OPTIONS if name not in FILES]
LOGS = CHECKOUT / "tests/output/machines"
# Besides those of every image: the option init needs one, registries need the others.
PACKAGES = "tini,openssl,docker-registry"
EMULATED = 5.0  # how much more patience an emulated processor needs
TOGETHER = 2  # files at a time, as many as the machine has cores
FILE_TIMEOUT = 3000.0
_PYTEST = """\
cd {tree}
export PATH={home}/venv/bin:$PATH PYTHONPATH={home}/collections PYTHONUNBUFFERED=1 VESSEL_TEST_PATIENCE={patience}
export ANSIBLE_COLLECTIONS_PATH={home}/collections CI=1
exec python -m pytest -v -ra --durations=10 --tb=short -p no:cacheprovider --import-mode=importlib --rootdir=. \\
    -o timeout={timeout} -o 'markers=root: needs root' --junitxml={home}/{name}.xml tests/integration/{name}.py
"""


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Path]]]:
    """By file: its report, in time. All that were asked for run, a few at a time."""
    names = [item.callspec.params["name"] for item in request.session.items if item.path == request.path]
    guest = Guest(f"tables-{os.getpid()}")
    pool = ThreadPoolExecutor(TOGETHER)
    try:
        guest.start("--memory", "1024", "--packages", PACKAGES)
        install(guest, tmp_path_factory.mktemp("tarball"))
        LOGS.mkdir(parents=True, exist_ok=True)
        for name in names:
            for old in LOGS.glob(f"{name}.*"):
                old.unlink()
        yield {name: pool.submit(play, guest, name) for name in names}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        guest.destroy()  # what still runs there ends with it
        pool.shutdown()


def play(guest: Guest, name: str) -> Path:
    """The report, in JUnit's form. What pytest says meanwhile is in the log beside it."""
    report = LOGS / f"{name}.xml"
    patience = patient(EMULATED if guest.emulated else 1.0)
    script = _PYTEST.format(tree=TREE, home=HOME, name=name, patience=patience, timeout=600 * patience)
    with open(report.with_suffix(".log"), "w", encoding="utf-8") as log:
        code = guest.stream(script, log, timeout=FILE_TIMEOUT)
    if code in (0, 1):  # all passed, or some failed; else it has no report
        guest.get(f"{HOME}/{name}.xml", report)
    return report


@pytest.mark.parametrize("name", FILES)
def test_table(runs: dict[str, Future[Path]], name: str) -> None:
    """Everything passed, and nothing was passed over: v2 and systemd have all that these files ask for."""
    report = runs[name].result()
    if not report.exists():
        pytest.fail(f"no report; the end of its log:\n{report.with_suffix('.log').read_text()[-4000:]}", pytrace=False)
    passed, problems = judge(report)
    print(f"{passed} passed")
    if problems:
        pytest.fail("\n".join([f"{passed} passed, {len(problems)} did not:", *problems]), pytrace=False)
    assert passed


def judge(report: Path) -> tuple[int, list[str]]:
    """(how many passed, what is to be said of each of the others)."""
    passed, problems = 0, []
    for case in ElementTree.parse(report).iter("testcase"):
        bad = [child for kind in ("failure", "error", "skipped") for child in case.findall(kind)]
        problems += [f"{case.get('name')}: {child.tag}: {child.get('message')}\n{child.text or ''}" for child in bad]
        passed += not bad
    return passed, problems
