# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Twenty times SIGKILL for the supervisor, at random moments and under load: no container notices, no end is missed,
restarts are counted right, and tasks that run meanwhile succeed, or say why not and succeed when they are run again.

Where systemd is, it starts the next supervisor; elsewhere this does, as any task would.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import MonitorError
from ansible_collections.vessel.host.plugins.module_utils._monitor.client import connect
from ansible_collections.vessel.host.plugins.module_utils._paths import booted_by_systemd

from .warm import WarmPlace

pytestmark = pytest.mark.root

KILLS = 20
SLOW = float(os.environ.get("VESSEL_TEST_PATIENCE", "1"))  # more where the processor is emulated
CLOCK = "read up rest </proc/uptime"
PAUSE = 0.05 * SLOW
# A line each pause: its number, and seconds since the boot.
COUNT = f"i=0; while :; do i=$((i+1)); {CLOCK}; echo $i $up; %s; done"
# A life: the start time of the first process, which with the pid is its name, and when it ended by itself.
LIFE = f"""
read a b c d e f g h i j k l m n o p q r s t u start rest </proc/1/stat
echo start $start >>/data/$NAME
usleep %d
{CLOCK}
echo end $up >>/data/$NAME
exit %d
"""


def uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Killer(threading.Thread):
    """``gaps`` are the times without a supervisor."""

    def __init__(self, place: WarmPlace, seed: int) -> None:
        super().__init__(daemon=True)
        self.place = place
        self.random = random.Random(seed)
        self.gaps: list[tuple[float, float]] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            for dummy in range(KILLS):
                self.kill()
        except BaseException as error:
            self.error = error

    def kill(self) -> None:
        pid = supervisor(self.place)
        # Often in the first moments too, when it has just adopted the containers.
        time.sleep(self.random.choice((0.05, 0.4, 1.0)) * self.random.random() * SLOW)
        began = uptime()
        os.kill(pid, signal.SIGKILL)
        if not booted_by_systemd():
            time.sleep(0.1)  # as systemd does
            words = [f"{self.place.paths.bin}/vessel", "monitor", "--daemon"]
            subprocess.run(words, timeout=60 * SLOW, check=True, stdout=subprocess.DEVNULL)
        assert supervisor(self.place, pid) != pid
        self.gaps.append((began, uptime()))

    def within_a_gap(self, moment: float) -> bool:
        """The line is written before the process ends, and its time has two digits."""
        return any(began - 0.3 * SLOW <= moment <= ended + 0.01 for began, ended in self.gaps)


def supervisor(place: WarmPlace, before: int = 0) -> int:
    """The pid of the one that answers; another than ``before``."""
    until = time.monotonic() + 60 * SLOW
    while True:
        try:
            with connect(place.paths) as client:
                client.settimeout(60 * SLOW)
                pid = int(client.call("ping")["pid"])
                if pid != before:
                    return pid
        except MonitorError:
            pass
        assert time.monotonic() < until, "no supervisor answers"
        time.sleep(0.01)


class Life:
    """A container that ends by itself, and its file of lives; ``attempts`` is how many tasks it took to start it."""

    def __init__(self, world: World, name: str, seconds: float, code: int, **options: Any) -> None:
        self.world = world
        self.name = name
        self.path = world.data / name
        command = ["sh", "-c", LIFE % (int(seconds * 1e6), code)]
        self.attempts = world.insist("container", **world.options(name, command), **options)
        self.base = (0, 0)

    def lines(self) -> list[tuple[str, str]]:
        text = self.path.read_text() if self.path.exists() else ""
        return [(line.split()[0], line.split()[1]) for line in text.splitlines()]

    def starts(self) -> list[int]:
        return [int(value) for word, value in self.lines() if word == "start"]

    def mark(self) -> None:
        """A task that was run again may have started it again, which is no restart: count from here on."""
        self.base = self.world.wait_for(self._here)

    def _here(self) -> tuple[int, int] | None:
        status, starts = self.world.status(self.name), self.starts()
        if status["status"] == "running" and status["pid_start"] in starts:
            return starts.index(status["pid_start"]), status["restarts"]
        return None

    def counted(self) -> bool:
        """Is each start since the mark one restart? Asked again while something is under way."""
        before, starts = self.world.status(self.name), self.starts()
        done, restarts = len(starts) - 1 - self.base[0], before["restarts"] - self.base[1]
        if before != self.world.status(self.name) or before["status"] not in ("running", "restarting"):
            return False
        if before["status"] == "restarting":
            return done == restarts - 1
        return done == restarts and starts[-1] == before["pid_start"]

    def assert_one_at_a_time(self) -> None:
        words = [word for word, dummy in self.lines()]
        assert words == [("start", "end")[number % 2] for number in range(len(words))], self.lines()


class World:
    def __init__(self, place: WarmPlace) -> None:
        self.place = place
        self.data = place.volume("data")
        self.refusals: list[str] = []

    def options(self, name: str, command: list[str]) -> dict[str, Any]:
        return {
            "name": name,
            "image": "bb",
            "command": command,
            "network_mode": "none",
            "volumes": ["data:/data"],
            "env": {"NAME": name},
            "stop_timeout": 0,
        }

    def insist(self, module: str, **args: Any) -> int:
        """Run the task until it succeeds: how often. What it says when it does not is kept."""
        for attempt in range(1, 20):
            result = self.place.server.run(module, {"root": self.place.root, **args}, timeout=120 * SLOW)
            if not result.get("failed"):
                return attempt
            self.refusals.append(f"{module} {args.get('name')}: {result['msg']}")
        raise AssertionError(f"it does not heal: {self.refusals[-20:]}")

    def status(self, name: str) -> dict[str, Any]:
        return dict(json.loads(Path(self.place.paths.status(name)).read_text()))

    def wait_for(self, condition: Any) -> Any:
        until = time.monotonic() + 30 * SLOW
        while True:
            value = condition()
            if value:
                return value
            assert time.monotonic() < until, "it did not come true in time"
            time.sleep(0.02)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    place = WarmPlace(str(tmp_path_factory.mktemp("restless") / "vessel"))
    try:
        place.task("image", name="bb", source="template", template="busybox", cmd=["sleep", "100000"])
        place.task("volume", name="data")
        yield World(place)
    finally:
        place.remove()


def counters(world: World) -> dict[str, dict[str, Any]]:
    """Containers that count for ever, one of them with a health check: their status."""
    check = {"test": ["CMD", "true"], "interval": "500ms", "timeout": "30s"}
    for number in range(5):
        name = f"count{number}"
        command = ["sh", "-c", f"exec >>/data/{name}; {COUNT % f'usleep {PAUSE * 1e6:.0f}'}"]
        more = {"healthcheck": check, "state": "healthy"} if number == 0 else {}
        world.insist("container", **world.options(name, command), restart_policy="always", **more)
    return {name: world.status(name) for name in (f"count{number}" for number in range(5))}


def pauses(text: str) -> list[float]:
    """Seconds between the lines of a counter, none of which is missing."""
    lines = [line.split() for line in text.splitlines()]
    assert [int(number) for number, dummy in lines] == list(range(1, len(lines) + 1))
    times = [float(up) for dummy, up in lines]
    return [later - earlier for earlier, later in zip(times, times[1:])]


class Wave:
    """Eight containers that end by themselves, by their policies; their starts are tasks while supervisors die."""

    def __init__(self, world: World, number: int, luck: random.Random) -> None:
        self.names = []
        self.world = world

        def make(kind: str, seconds: float, code: int, **options: Any) -> Life:
            self.names.append(f"{kind}w{number}")
            return Life(world, self.names[-1], seconds, code, **options)

        always = {"restart_policy": "always"}
        self.always = [make(f"a{each}", luck.uniform(0.3, 1.0), each % 3, **always) for each in range(5)]
        for life in self.always:
            life.mark()
        once = {"restart_policy": "on-failure"}
        self.once = [make(f"o{each}", luck.uniform(0.3, 1.5) * SLOW, 0, **once) for each in range(2)]
        self.thrice = make("r", 0.1, 1, restart_policy="on-failure", restart_retries=3)

    def judge(self, killer: Killer) -> None:
        for life in self.always:
            self.world.wait_for(life.counted)
        for life in (*self.once, self.thrice):
            self.world.wait_for(lambda life=life: self.world.status(life.name)["status"] == "exited")
        for life in (*self.always, *self.once, self.thrice):
            life.assert_one_at_a_time()
        for life in self.once:
            status = self.world.status(life.name)
            assert status["exit_code"] == 0
            self._ran_again_only_when_nobody_saw_the_end(life, status["restarts"], killer)
        status, starts = self.world.status(self.thrice.name), self.thrice.starts()
        assert status["restarts"] == 3
        assert status["exit_code"] in (1, None)
        assert len(starts) == 4 or (self.thrice.attempts > 1 and 4 <= len(starts) <= 4 * self.thrice.attempts)

    def _ran_again_only_when_nobody_saw_the_end(self, life: Life, restarts: int, killer: Killer) -> None:
        if life.attempts == 1:
            ends = [float(value) for word, value in life.lines() if word == "end"]
            assert len(ends) == restarts + 1
            assert [end for end in ends[:-1] if not killer.within_a_gap(end)] == [], killer.gaps

    def remove(self) -> None:
        for name in self.names:
            self.world.insist("container", name=name, state="absent")


def visit(world: World) -> None:
    """What tasks do with one container, in all its states."""
    guest = world.options("guest", ["sleep", "100000"])
    for state in ({"state": "started"}, {"restart": True}, {"state": "stopped"}, {"state": "started"}):
        world.insist("container", **guest, **state)
        wanted = "exited" if state.get("state") == "stopped" else "running"
        world.wait_for(lambda wanted=wanted: world.status("guest")["status"] == wanted)
    world.insist("container", name="guest", state="absent")


def test_twenty_kills_under_load(world):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    before = counters(world)
    control = subprocess.Popen(["sh", "-c", COUNT % f"sleep {PAUSE}"], stdout=subprocess.PIPE, text=True)
    killer = Killer(world.place, seed)
    killer.start()
    luck = random.Random(seed)
    number = lives = 0
    try:
        while killer.is_alive() or number == 0:
            wave = Wave(world, number, luck)
            visit(world)
            wave.judge(killer)
            lives += sum(len(life.starts()) for life in wave.always)
            wave.remove()
            number += 1
        killer.join()
    finally:
        control.kill()
        said = control.communicate()[0]
    print(f"{number} waves, {lives} lives, {sum(b - a for a, b in killer.gaps):.1f} s without supervisor")
    print("\n".join(world.refusals))
    assert killer.error is None, killer.error
    assert len(killer.gaps) == KILLS
    assert_unnoticed(world, before, worst=max(pauses(said[: said.rindex("\n")])))
    for refusal in world.refusals:
        assert re.search("supervisor", refusal), refusal


def assert_unnoticed(world: World, before: dict[str, dict[str, Any]], worst: float) -> None:
    """``worst`` is how long a process of the host's had to wait for its turn meanwhile."""
    for name, was in before.items():
        now = world.status(name)
        for key in ("pid", "pid_start", "started_at", "finished_at", "restarts", "status", "wanted", "exit_code"):
            assert now[key] == was[key], (name, key)
        text = (world.data / name).read_text()
        assert max(pauses(text[: text.rindex("\n") + 1])) < 2 * worst + 0.5 * SLOW, name
    health = world.status("count0")["health"]
    assert (health["status"], health["failing_streak"]) == ("healthy", 0)
