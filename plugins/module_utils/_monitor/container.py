# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One container as the supervisor sees it: created -> running (-> paused) -> exited -> restarting -> ...

Every verb returns at once; what it leads to is told to ``listeners`` at each change, after status.json has it.
"""

from __future__ import annotations

import os
import signal as signals
import sys
import time
from typing import Any, Callable, Optional

from .._cgroup.manager import open_manager
from .._errors import StartError, StateError, VesselError
from .._kernel.process import heeds
from .._paths import container_of
from .._runtime import bundle as bundles
from .._runtime import pause as freezer
from . import settings as settings_file
from . import status as s
from .checking import Checker
from .ending import Ending, oom_killed
from .health import Health
from .host import Host
from .leases import Leases
from .loop import Timer
from .process import Watched, age
from .restart import next_delay
from .settings import Settings
from .starting import Failure, Start, require_mounts

# After SIGKILL. A process in uninterruptible sleep ends when its device answers, or never.
KILL_PATIENCE = 30.0

Listener = Callable[["Container"], None]


class Container:
    """``name`` is the id of an instance; ``title`` is what its container is called."""

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.name = name
        self.title = f"container {container_of(name)}"
        self.bundle = host.paths.bundle(name)
        self.cgroup = host.paths.cgroup(name)
        self.settings = Settings({})
        self.status = s.Status()
        self.listeners: list[Listener] = []
        self.process: Optional[Watched] = None
        self._start: Optional[Start] = None
        self.stuck = False  # not even SIGKILL has ended it so far
        self._starters: list[Callable[[Failure], None]] = []
        self._automatic = False  # this start is the policy's, not the user's
        self._ending = False
        self._again = False  # a start was asked for while it ended
        self._timer: Optional[Timer] = None  # the back-off's, or the one that ends the patience of a stop
        self._checker: Optional[Checker] = None
        self.leases = Leases(host, name, self.fence, self._waits)
        self._taking = False
        self._fenced = ""  # why it was ended by us

    # what others ask
    @property
    def busy(self) -> bool:
        """Is it being started or cleaned up?"""
        return self._start is not None or self._taking or self._ending or self.leases.releasing

    @property
    def settled(self) -> bool:
        """Has it ended, with no restart to come?"""
        return self.status.status == s.EXITED and not self.busy

    def changed(self) -> None:
        """Write it down, then tell."""
        if self._checker is not None:
            self.status.health = self._checker.health.to_dict()
        try:
            self.status.save(self.host.paths.status(self.name))
        except OSError as error:
            sys.stderr.write(f"{self.name}: status.json: {error}\n")
        for listener in list(self.listeners):
            listener(self)

    def read_settings(self) -> None:
        self.settings = settings_file.load(self.bundle)

    # start
    def start(self, done: Callable[[Failure], None]) -> None:
        """By a user: counts and back-off begin anew."""
        if self.status.status == s.RUNNING:
            done(None)
            return
        ending = self._ending or self.leases.releasing
        if self.status.status in (s.PAUSED, s.STOPPING) and not ending:
            what = "is paused; resume it" if self.status.status == s.PAUSED else "is being stopped"
            done(StateError(f"{self.title} {what}"))
            return
        self._starters.append(done)
        self.status.wanted = s.WANT_RUNNING
        self.status.restarts, self.status.backoff = 0, 0.0
        self._automatic = False
        if ending:
            self._again = True
        elif self._start is None and not self._taking:
            self._begin()

    def _begin(self) -> None:
        self._cancel_timer()
        self._again = False
        self.status.status, self.status.error, self._fenced = s.CREATED, "", ""
        try:
            self.read_settings()
            require_mounts(self.settings)  # else the lease would lie below
        except VesselError as error:
            self._started(None, error)
            return
        self.status.pid, self.status.pid_start, self.status.health = 0, 0, None
        self._taking = True
        self.leases.take(self.settings.leases, self._leased)
        self.changed()

    def _leased(self, error: Failure) -> None:
        self._taking = False
        if error is not None:
            self._started(None, error)
            return
        self.status.error = ""
        self._start = Start(self.host, self.name, self.settings, self._started, lambda: not self.leases.over)

    def _waits(self, text: str) -> None:
        """For whom, while it is to be started and another has the lease of a volume."""
        if self.status.error != text:
            self.status.error = text
            self.changed()

    def fence(self, reason: str) -> None:
        """It must not write any more, and not say goodbye either."""
        sys.stderr.write(f"{self.name}: {reason}\n")
        self._fenced = reason
        manager = open_manager(self.cgroup)
        if manager.exists():
            manager.kill()
            self._thaw()  # a frozen process is killed when it thaws
        if self._start is not None:
            self._start.cancel(reason)
        elif self.process is not None:
            self._suspend_check()
            self.process.signal(signals.SIGKILL)

    def _started(self, watched: Optional[Watched], error: Failure) -> None:
        start, self._start = self._start, None
        if watched is None or start is None:
            self._not_started(error)
        else:
            self.status.exit_code, self.status.oom_killed = None, False
            self.status.started_at, self.status.finished_at = s.timestamp(), ""
            self.run(watched, start.process_spec, s.RUNNING)
        self._answer(error)

    def _answer(self, error: Failure) -> None:
        starters, self._starters = self._starters, []
        for done in starters:
            done(error)

    def _not_started(self, error: Failure) -> None:
        self.status.exit_code = error.exit_code if isinstance(error, StartError) else 126
        self.status.error = str(error)
        self.status.finished_at = s.timestamp()
        self._after_end(ran=0.0, may_restart=self._automatic)

    def run(self, watched: Watched, process: dict[str, Any], status: str) -> None:
        """From here on it is supervised: it has been started, or adopted."""
        self.process = watched
        self.status.status = status
        self.status.pid, self.status.pid_start = watched.pid, watched.start_time
        self.host.loop.watch(watched.pidfd, self._exited)
        self._check(process)
        self.changed()

    # health
    def _check(self, process: dict[str, Any]) -> None:
        check = self.settings.health
        if self._checker is not None:
            self._checker.suspend()
            self._checker = None
        if check is None or self.process is None:
            self.status.health = None
            return
        began = time.monotonic() - age(self.process.start_time)
        health = Health.resumed(check, began, self.status.health)
        self._checker = Checker(self.host, self.name, self.cgroup, process, health, self.changed)
        if self.status.status == s.RUNNING:
            self._checker.resume()

    def reload(self) -> None:
        """monitor.json was written anew."""
        before = self.settings.data
        self.read_settings()
        if self.process is not None and before.get("health") != self.settings.data.get("health"):
            self.status.health = None
            self._check(self.process_spec())
        self.leases.keep(self.settings.leases)
        if self.status.status == s.RESTARTING and not self._policy_restarts():
            self._settle_by(self._settle)
        else:
            self.changed()

    def process_spec(self) -> dict[str, Any]:
        """config.json's process, as it would be started."""
        config = bundles.load(self.bundle)
        self.host.adjust(config)
        return dict(config["process"])

    # the end
    def stop(self, timeout: Optional[float] = None, signal: Optional[int] = None) -> None:
        """It shall be stopped; listeners hear when it is."""
        self.status.wanted = s.WANT_STOPPED
        if self._again:
            self._again = False
            self._answer(self._interrupted())
        if self._start is not None:
            self._start.cancel()
        elif self.leases.cancel():
            self._settle_by(lambda: self._leased(self._interrupted()))
            return
        elif self.status.status == s.RESTARTING:
            self._settle_by(self._settle)
            return
        elif self.process is not None:
            self._stop(self.process, timeout, signal)
        self.changed()

    def _settle_by(self, last: Callable[[], None]) -> None:
        """Nothing may come after it: who hears that it has settled may have asked for its removal, and takes the bundle
        away."""
        self._cancel_timer()
        self.changed()
        last()

    def _interrupted(self) -> StateError:
        return StateError(f"{self.title} was stopped while it was being started")

    def _stop(self, process: Watched, timeout: Optional[float], signal: Optional[int]) -> None:
        timeout = self.settings.stop_timeout if timeout is None else timeout
        signal = signal or self.settings.stop_signal
        if not heeds(process.pid, signal):
            timeout = 0  # it would not even be told, and nothing would come of waiting
        self._suspend_check()
        self.status.status = s.STOPPING
        process.signal(signals.SIGKILL if timeout <= 0 else signal)
        self._thaw()
        self._cancel_timer()
        if timeout > 0:
            self._timer = self.host.loop.after(timeout, self._stop_timed_out)
        else:
            self._timer = self.host.loop.after(KILL_PATIENCE, self._kill_timed_out)

    def _stop_timed_out(self) -> None:
        if self.process is not None:
            self.process.signal(signals.SIGKILL)
            self._timer = self.host.loop.after(KILL_PATIENCE, self._kill_timed_out)

    def _kill_timed_out(self) -> None:
        """Who waits for the stop is told; when it does end after all, that is taken as ever."""
        self.stuck = True
        self.changed()

    def _thaw(self) -> None:
        """A frozen process takes no signal but in its sleep."""
        manager = open_manager(self.cgroup)
        if manager.exists() and manager.frozen():
            manager.freeze(False)

    def kill(self, signal: int) -> None:
        """A signal and nothing else: what follows is the policy's."""
        if self.process is None:
            raise StateError(f"{self.title} is {self.status.status}; there is nothing to signal")
        self.process.signal(signal)

    def _exited(self) -> None:
        process = self.process
        if process is not None:
            self.host.loop.unwatch(process.pidfd)
            self.host.exits.ask(process.pid, process.reap(), self._reaped)

    def _reaped(self, code: Optional[int]) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.close()
            self.ended(code, age(process.start_time))

    def ended(self, code: Optional[int], ran: float) -> None:
        """The first process is gone. The code is written down before anything else: it can't be asked for again.

        A supervisor that is killed before that leaves an end that the next one finds; after that, one that is known:
        it is counted once either way, by who goes on.
        """
        self._cancel_timer()
        self._suspend_check()
        self.stuck = False
        self.status.status = s.STOPPING
        self.status.exit_code = code
        since = self.status.pid_start / os.sysconf("SC_CLK_TCK")
        self.status.oom_killed = oom_killed(self.cgroup, code, since)
        self.status.finished_at = s.timestamp()
        self.status.pid = 0
        self.status.error, self._fenced = self._fenced, ""
        self.changed()
        self.clean(ran)

    def clean(self, ran: float) -> None:
        """Take away what is left of the life that has been written down as ended; then the policy decides."""
        self._ending = True
        Ending(self.host, self.name, self.cgroup, lambda: self._cleaned(ran))

    def _cleaned(self, ran: float) -> None:
        self._ending = False
        if self._again:
            self._begin()
        else:
            self._after_end(ran=ran, may_restart=True)

    def _policy_restarts(self) -> bool:
        wanted = self.status.wanted == s.WANT_RUNNING
        return wanted and self.settings.policy.restarts(self.status.exit_code, self.status.restarts)

    def _after_end(self, *, ran: float, may_restart: bool) -> None:
        if may_restart and self._policy_restarts():
            self.status.restarts += 1
            self.status.backoff = next_delay(self.status.backoff, ran)
            self.await_restart(self.status.backoff)
            self.changed()
        else:
            self._settle()

    def _settle(self) -> None:
        """It has ended for good: its leases are for others before anybody hears of it."""
        self.leases.release(self._settled)

    def _settled(self) -> None:
        if self._again:
            self._begin()
        else:
            self.status.status = s.EXITED
            self.changed()

    def await_restart(self, delay: float) -> None:
        self._cancel_timer()
        self._automatic = True
        self.status.status = s.RESTARTING
        self._timer = self.host.loop.after(delay, self._begin)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _suspend_check(self) -> None:
        """The last results stay in the status."""
        if self._checker is not None:
            self._checker.suspend()
            self.status.health = self._checker.health.to_dict()
            self._checker = None

    # the freezer
    def pause(self) -> None:
        self._require(s.RUNNING, "pause")
        freezer.pause(self.host.paths.runtime, self.name)
        self.status.status = s.PAUSED
        if self._checker is not None:
            self._checker.suspend()
        self.changed()

    def resume(self) -> None:
        self._require(s.PAUSED, "resume")
        freezer.resume(self.host.paths.runtime, self.name)
        self.status.status = s.RUNNING
        if self._checker is not None:
            self._checker.resume()
        self.changed()

    def _require(self, status: str, verb: str) -> None:
        if self.status.status != status or self.process is None:
            raise StateError(f"{self.title} is {self.status.status}; {verb} needs it {status}")

    def forget(self) -> None:
        """It is removed: nothing of it is ours any more, but the bundle is the caller's."""
        try:
            os.unlink(self.host.paths.status(self.name))
        except FileNotFoundError:
            pass
