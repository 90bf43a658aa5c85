# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Timers in their order, descriptors while they are watched."""

from __future__ import annotations

import os
import time

import pytest
from ansible_collections.vessel.host.plugins.module_utils._monitor.host import Slots
from ansible_collections.vessel.host.plugins.module_utils._monitor.loop import Loop


@pytest.fixture
def loop():
    loop = Loop()
    yield loop
    loop.close()


def test_timers_in_their_order(loop):
    done = []
    loop.after(0.03, lambda: done.append("c"))
    loop.after(0.0, lambda: done.append("a"))
    loop.after(0.01, lambda: done.append("b"))
    loop.after(0.005, lambda: done.append("never")).cancel()
    loop.after(0.05, loop.stop)
    loop.run()
    assert done == ["a", "b", "c"]


def test_same_time_first_come_first_served(loop):
    done = []
    for number in range(5):
        loop.after(0, lambda number=number: done.append(number))
    loop.turn(0.1)
    assert done == [0, 1, 2, 3, 4]


def test_cancelled_timers_do_not_wake(loop):
    loop.after(0.0, lambda: None).cancel()
    began = time.monotonic()
    loop.turn(0.05)
    assert time.monotonic() - began >= 0.04


def test_a_defect_of_one_does_not_end_the_others(loop, capsys):
    reader, writer = os.pipe()
    calls = []

    def broken():
        calls.append(1)
        raise RuntimeError("a defect")

    loop.watch(reader, broken)
    os.write(writer, b"x")
    loop.after(0.02, loop.stop)
    loop.run()
    assert calls == [1]  # not called again at once, for ever
    assert "a defect" in capsys.readouterr().err
    os.close(reader)
    os.close(writer)


def test_what_is_unwatched_in_the_same_turn_is_not_called(loop):
    pipes = [os.pipe() for dummy in range(2)]
    called = []

    def first(number):
        called.append(number)
        for reader, dummy in pipes:
            loop.unwatch(reader)

    for number, (reader, writer) in enumerate(pipes):
        loop.watch(reader, lambda number=number: first(number))
        os.write(writer, b"x")
    loop.turn(0.1)
    assert len(called) == 1
    for fd in sum(pipes, ()):
        os.close(fd)


def test_slots():
    slots = Slots(2)
    begun = []
    jobs = [lambda number=number: begun.append(number) for number in range(5)]
    for job in jobs:
        slots.ask(job)
    assert begun == [0, 1]
    assert slots.forget(jobs[3])
    assert not slots.forget(jobs[0])
    slots.leave()
    assert begun == [0, 1, 2]
    slots.leave()
    slots.leave()
    assert begun == [0, 1, 2, 4]
