# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The leases of one container: taken before it is started, renewed while it runs, given back when it has ended.

A lease lasts ``duration`` after it was last renewed. Its holder counts two thirds of that, from before it asked for the
renewal, and ends the container then; who waits counts all of it, from after it saw the last one. In between are the
moments that killing takes. What is held is in the bundle's leases.json, by which the next supervisor goes on, and by
which the guard knows when to act in place of one that is no more.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from typing import Any, Callable, Optional

from .._errors import StateError
from .._paths import container_of
from . import lease
from .errands import Call
from .holding import load, now, path_of
from .host import Host
from .lease import Record, Seen
from .loop import Timer
from .settings import LeaseSetting
from .status import timestamp

Failure = Optional[Exception]
# Parts of a lease's duration.
RENEWALS, HOLD = 1 / 6, 2 / 3
_RELEASE_PATIENCE = 5.0


class Held:
    """One lease that is ours. ``lost`` is called once, when it is no longer."""

    def __init__(self, leases: Leases, top: str, data: dict[str, Any]) -> None:
        self.top = top
        self.volume: str = data["volume"]
        self.number: int = data["number"]
        self.record: Record = data["record"]
        self.renewed: float = data["renewed"]
        self._leases = leases
        self._call: Optional[Call] = None
        self._timers: list[Timer] = []
        self._wait()

    @property
    def duration(self) -> float:
        return float(self.record["duration"])

    @property
    def deadline(self) -> float:
        return self.renewed + self.duration * HOLD

    def to_dict(self) -> dict[str, Any]:
        names = ("volume", "number", "record", "renewed")
        return {**{name: getattr(self, name) for name in names}, "deadline": self.deadline}

    def _wait(self) -> None:
        self._cancel_timers()
        after, present = self._leases.host.loop.after, now()
        self._timers = [
            after(max(0.0, self.deadline - present), self._expire),
            after(max(0.0, self.renewed + self.duration * RENEWALS - present), self._renew),
        ]

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _renew(self) -> None:
        if self._call is not None and not self._call.gone():
            self._later()
            return
        # Never one that was written before, also not by an errand of a supervisor that is gone: who waits would see no
        # sign of life in it.
        began = now()
        record = {**self.record, "beat": began}

        def done(held: Any, error: Failure) -> None:
            if error is not None:
                sys.stderr.write(f"{self._leases.name}: lease of volume {self.volume}: {error}\n")
                self._later()
            elif not held:
                self._leases.lose(self, "another took it, or somebody removed it")
            elif not self._look_late():
                self.record, self.renewed = record, began
                self._wait()
                self._leases.written()

        top, number = self.top, self.number
        left = max(0.1, self.deadline - began)
        self._call = Call(self._leases.host.loop, lambda: lease.renew(top, number, record), left, top, done)

    def _later(self) -> None:
        pause = self.duration * RENEWALS / 2
        self._timers.append(self._leases.host.loop.after(pause, self._renew))

    def _expire(self) -> None:
        self._look_late()

    def _look_late(self) -> bool:
        """The time is over: others may take it soon."""
        if now() < self.deadline:
            return False
        self._leases.lose(self, f"it could not be renewed for {now() - self.renewed:.1f} s")
        return True

    def drop(self) -> None:
        self._cancel_timers()
        if self._call is not None:
            self._call.cancel()


class Taking:
    """One lease that is not ours yet."""

    def __init__(self, leases: Leases, top: str, setting: LeaseSetting, done: Callable[[Failure], None]) -> None:
        self._leases = leases
        self._top = top
        self._setting = setting
        self._done = done
        self._seen: Optional[Seen] = None
        self._since = 0.0  # when we first saw it as it is
        self._call: Optional[Call] = None
        self._timer: Optional[Timer] = None
        self._look()

    def _ask(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        def told(result: Any, error: Failure) -> None:
            self._done(self._hinted(error)) if error is not None else done(result)

        patience = self._setting.duration * HOLD
        self._call = Call(self._leases.host.loop, work, patience, self._top, told)

    def _hinted(self, error: Exception) -> Exception:
        text = f"volume {self._setting.volume}: no lease can be taken: {error}"
        return StateError(text, hint="root of this host must be able to write at the top of the volume")

    def _look(self) -> None:
        top = self._top
        self._ask(lambda: lease.look(top), self._looked)

    def _looked(self, found: Any) -> None:
        seen = Seen(*found) if found else None
        if seen is None or seen.released or seen.nonce in self._leases.nonces:
            self._claim(seen.number if seen else 0)
        elif self._seen is None:
            # The waiter's clock must not run while its host sleeps: nothing is seen then.
            self._seen, self._since = seen, time.monotonic()
            self._wait(seen)
        elif seen != self._seen:
            self._done(self._refusal(seen))
        elif time.monotonic() - self._since >= seen.duration:
            self._claim(seen.number)
        else:
            self._wait(seen)

    def _wait(self, seen: Seen) -> None:
        left = max(0.0, self._since + seen.duration - time.monotonic())
        until = timestamp(time.time() + left)
        self._leases.waits(f"{self._sentence(seen)}; unless that renews it, it is over at {until}")
        self._timer = self._leases.host.loop.after(min(left, seen.duration * RENEWALS / 2), self._look)

    def _sentence(self, seen: Seen) -> str:
        who = f"container {seen.word('container')} of host {seen.word('host')}"
        return f"volume {self._setting.volume}: {who} has the lease since {seen.word('since')}"

    def _refusal(self, seen: Seen) -> StateError:
        hint = "stop it there; if that host is off, break_lease: true of the volume takes the lease away"
        return StateError(f"{self._sentence(seen)}, and renews it", hint=hint)

    def _claim(self, after: int) -> None:
        began = now()
        record: Record = {
            "nonce": lease.nonce(),
            "host": socket.gethostname(),
            "container": container_of(self._leases.name),
            "since": timestamp(),
            "duration": self._setting.duration,
            "beat": began,
        }
        top = self._top
        self._leases.nonces.add(record["nonce"])  # it may be ours though we never hear of it

        def claimed(ours: Any) -> None:
            if ours:
                data = {"volume": self._setting.volume, "number": after + 1, "record": record, "renewed": began}
                self._done(self._leases.hold(top, data))
            else:  # another one was faster: it is alive
                self._seen = Seen(after, "")
                self._look()

        self._ask(lambda: lease.claim(top, after, record), claimed)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._call is not None:
            self._call.cancel()


class Leases:
    """``fence`` is called when one is lost: the container must not write from then on. ``waits`` tells whom it waits
    for."""

    def __init__(
        self, host: Host, name: str, fence: Callable[[str], None], waits: Callable[[str], None] = lambda text: None
    ) -> None:
        self.host = host
        self.name = name
        self.waits = waits
        self.nonces: set[str] = set()  # of all that were ours since the bundle was made
        self._fence = fence
        self._held: dict[str, Held] = {}
        self._taking: Optional[Taking] = None
        self._releasing: list[Call] = []

    @property
    def releasing(self) -> bool:
        return bool(self._releasing)

    def take(self, wanted: dict[str, LeaseSetting], done: Callable[[Failure], None]) -> None:
        """One after the other, always in the same order: two that want two never wait for each other."""
        self._know()
        missing = [top for top in sorted(wanted) if top not in self._held]
        if not missing:
            self._taking = None
            done(None)
            return

        def taken(error: Failure) -> None:
            if error is None:
                self.take(wanted, done)
            else:
                self._taking = None
                done(error)

        self._taking = Taking(self, missing[0], wanted[missing[0]], taken)

    def cancel(self) -> bool:
        """Was one waited for? Then nobody is told any more."""
        taking, self._taking = self._taking, None
        if taking is not None:
            taking.cancel()
        return taking is not None

    def hold(self, top: str, data: dict[str, Any]) -> Failure:
        """What is not written down is no good: the guard would not know of it."""
        self.nonces.add(data["record"]["nonce"])
        self._held[top] = Held(self, top, data)
        try:
            self.save()
            self.host.guard.watch()
        except OSError as error:
            return StateError(f"volume {data['volume']}: its lease can't be written down: {error}")
        return None

    def lose(self, held: Held, reason: str) -> None:
        held.drop()
        self._held.pop(held.top, None)
        self.save()
        self._fence(f"volume {held.volume}: its lease is lost: {reason}")

    def written(self) -> None:
        """Where it can't be written down, the guard ends the container when it was to be over before."""
        try:
            self.save()
            self.host.guard.watch()
        except OSError as error:
            sys.stderr.write(f"{self.name}: leases.json: {error}\n")

    @property
    def over(self) -> bool:
        """Is it too late for one of those that are held, and we have only not come to it yet?"""
        return any(now() >= held.deadline for held in self._held.values())

    def resume(self) -> None:
        """What the supervisor before us held goes on, if it is time yet."""
        for top, data in load(self.host.paths.bundle(self.name)).items():
            self.hold(top, data)

    def _know(self) -> None:
        if not self._held:
            found = load(self.host.paths.bundle(self.name)).values()
            self.nonces.update(data["record"]["nonce"] for data in found)

    def keep(self, wanted: dict[str, LeaseSetting]) -> None:
        """Those of other volumes are given back."""
        self._release([held for top, held in self._held.items() if top not in wanted], lambda: None)

    def release(self, done: Callable[[], None]) -> None:
        self._release(list(self._held.values()), done)

    def _release(self, going: list[Held], done: Callable[[], None]) -> None:
        """``done`` is called soon, also where the storage does not answer."""
        if not going:
            done()
            return
        left = len(going)

        def told(dummy: Any, error: Failure) -> None:
            nonlocal left
            left -= 1
            if error is not None:
                sys.stderr.write(f"{self.name}: a lease is left to expire: {error}\n")
            if not left:
                self._releasing = []
                self.save()
                done()

        calls = []
        for held in going:
            held.drop()
            del self._held[held.top]
            calls.append(self._give_back(held, told))
        self._releasing = calls

    def _give_back(self, held: Held, told: Callable[[Any, Failure], None]) -> Call:
        top, number, record = held.top, held.number, held.record
        return Call(self.host.loop, lambda: lease.release(top, number, record), _RELEASE_PATIENCE, top, told)

    def save(self) -> None:
        path = path_of(self.host.paths.bundle(self.name))
        try:
            if not self._held:
                os.unlink(path)
                self.host.guard.look()
                return
            with open(f"{path}.new", "w") as file:
                json.dump({top: held.to_dict() for top, held in self._held.items()}, file)
            os.rename(f"{path}.new", path)
        except FileNotFoundError:
            pass  # there was none; or the container is being removed, with its bundle
