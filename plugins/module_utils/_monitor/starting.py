# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One start of one container: its set-up, its gate, its exec; nothing of it makes the loop wait."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, Callable, Optional

from .._errors import StartError, StateError, VesselError
from .._kernel import mount, process
from .._paths import container_of
from .._runtime import bundle as bundles
from .._runtime import create, start
from .._runtime.channel import Channel
from .._runtime.delete import delete
from .._runtime.state import State
from .host import Host
from .logs import open_stdio
from .loop import Timer
from .process import Watched
from .settings import Settings

# A mount of a file system whose server is gone may hang for ever.
LONGEST_SETUP = 120.0

Failure = Optional[Exception]


def require_mounts(settings: Settings) -> None:
    """Without its volumes a container would write below them."""
    for path, fstype in settings.mounts.items():
        found = mount.mounted(path)
        if not found or fstype not in ("", found):
            hint = "vessel restore mounts it, and so does a task that has the volume or the container"
            raise StartError(f"the volume at {path} is not mounted", step="volumes", hint=hint)


class Start:
    """``done`` is called once: with the process, or with the error and nothing of the container left.

    ``may_go`` is asked last, when nothing is left but to let it run.
    """

    def __init__(
        self,
        host: Host,
        name: str,
        settings: Settings,
        done: Callable[[Optional[Watched], Failure], None],
        may_go: Callable[[], bool] = lambda: True,
    ) -> None:
        self._host = host
        self._name = name
        self._settings = settings
        self._done = done
        self._may_go = may_go
        self._config: dict[str, Any] = {}
        self._creation: Optional[create.Creation] = None
        self._state: Optional[State] = None
        self._channel: Optional[Channel] = None
        self._timer: Optional[Timer] = None
        self._reason: Failure = None  # why we ended it ourselves
        host.slots.ask(self._go)

    def cancel(self, reason: str = "") -> None:
        """It is not wanted any more; ``done`` is called with an error soon."""
        text = f"container {container_of(self._name)} was stopped while it was being started"
        self._end(StateError(reason or text))

    def _end(self, reason: Exception) -> None:
        self._reason = self._reason or reason
        if self._host.slots.forget(self._go):
            self._host.loop.after(0, lambda: self._done(None, self._reason))
        elif self._creation is not None:
            process.send(self._creation.pidfd, signal.SIGKILL)  # its end of the channel closes, and we hear that

    def _go(self) -> None:
        try:
            self._begin()
        except (VesselError, OSError) as error:
            # Not from within the call that asked for the start: it has not stored us yet.
            failure = error
            self._host.loop.after(0, lambda: self._finish(None, failure))

    def _begin(self) -> None:
        paths = self._host.paths
        if os.path.lexists(f"{paths.runtime}/{self._name}"):
            delete(paths.runtime, self._name, force=True)  # what a killed supervisor left half done
        bundle = paths.bundle(self._name)
        self._config = bundles.load(bundle)
        self._host.adjust(self._config)
        require_mounts(self._settings)
        stdio = open_stdio(self._settings.log)
        try:
            self._creation = create.begin(paths.runtime, self._name, bundle, config=self._config, stdio=stdio.fds)
        finally:
            stdio.close()
        self._host.loop.watch(self._creation.fd, self._created)
        self._timer = self._host.loop.after(LONGEST_SETUP, self._too_long)

    def _too_long(self) -> None:
        text = f"container {container_of(self._name)}: its set-up took longer than {LONGEST_SETUP:g} s"
        self._end(StartError(text, step="set-up"))

    def _created(self) -> None:
        creation = self._creation
        if creation is None:
            return
        self._host.loop.unwatch(creation.fd)
        try:
            self._state = creation.finish()
        except (VesselError, OSError) as error:
            self._creation = None  # finish has taken everything away
            self._finish(None, error)
            return
        try:
            if not self._may_go():
                text = f"container {container_of(self._name)}: a lease was over before it could be started"
                raise StartError(text, step="leases")
            self._channel = start.knock(self._state)
        except (VesselError, OSError) as error:
            self._discard()
            self._finish(None, error)
            return
        self._host.loop.watch(self._channel.fileno(), self._heard)

    def _heard(self) -> None:
        channel, state, creation = self._channel, self._state, self._creation
        if channel is None or state is None or creation is None:
            return
        self._host.loop.unwatch(channel.fileno())
        try:
            start.hear(state, channel)
            if self._reason is not None:
                raise self._reason  # silence, but because we killed it
            start.poststart(state)
        except (VesselError, OSError) as error:
            self._discard()
            self._finish(None, error)
            return
        finally:
            channel.close()
        self._finish(Watched(creation.pid, creation.pidfd, state.start_time), None)

    def _discard(self) -> None:
        """Whatever the child is, it ends here; delete would not reap what has ended already."""
        if self._creation is not None:
            pidfd = self._creation.pidfd
            process.send(pidfd, signal.SIGKILL)
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
            os.close(pidfd)
            self._creation = None
        try:
            delete(self._host.paths.runtime, self._name, force=True)
        except (VesselError, OSError) as error:
            sys.stderr.write(f"{self._name}: after a failed start: {error}\n")

    def _finish(self, watched: Optional[Watched], error: Failure) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._host.slots.leave()
        self._done(watched, error if error is None else self._reason or error)

    @property
    def process_spec(self) -> dict[str, Any]:
        """config.json's process as it was started."""
        return dict(self._config.get("process") or {})
