# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Method calls over a bus of our own. systemd itself answers in the scenario vm."""

from __future__ import annotations

import os
import subprocess

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import BusError
from ansible_collections.vessel.host.plugins.module_utils._kernel.sd_bus import Bus

DAEMON = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
CONFIG = """\
<busconfig><type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy></busconfig>
"""


class Daemon:
    def __init__(self, directory):
        self.config = directory / "bus.conf"
        self.config.write_text(CONFIG.format(path=directory / "bus"))

    def start(self):
        command = ["dbus-daemon", f"--config-file={self.config}", "--nofork", "--nopidfile", "--print-address"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        return self.process.stdout.readline().decode().partition(",")[0]  # the rest is of this daemon alone

    def end(self):
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture
def daemon(tmp_path, monkeypatch):
    daemon = Daemon(tmp_path)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", daemon.start())
    yield daemon
    daemon.end()


@pytest.fixture
def bus(daemon):
    bus = Bus()
    yield bus
    bus.close()


def test_a_call_returns(bus):
    bus.call(*DAEMON, "RequestName", ("s", "u"), "org.example.Vessel", 0)
    bus.call(*DAEMON, "GetNameOwner", ("s",), "org.example.Vessel")


def test_an_error_has_its_name_and_words(bus):
    with pytest.raises(BusError) as caught:
        bus.call(*DAEMON, "GetNameOwner", ("s",), "org.example.Nobody")
    assert caught.value.name == "org.freedesktop.DBus.Error.NameHasNoOwner"
    assert "org.example.Nobody" in str(caught.value)
    bus.call(*DAEMON, "GetId", ())  # and the next one goes on


def test_values_go_as_declared(bus):
    """The daemon takes a signature at its word, and refuses another one by naming what came."""
    values = [
        ("Slice", ("s", "x.slice")),
        ("PIDs", ("au", [1, 2])),
        ("Delegate", ("b", True)),
        ("TasksMax", ("t", 2**64 - 1)),
    ]
    with pytest.raises(BusError, match=r"ssa\(sv\)a\(sa\(sv\)\)"):
        bus.call(*DAEMON, "GetNameOwner", ("s", "s", "a(sv)", "a(sa(sv))"), "a.scope", "fail", values, [])


def test_a_daemon_that_was_started_again_is_found_again(bus, daemon):
    bus.call(*DAEMON, "GetId", ())
    daemon.end()
    with pytest.raises(BusError):
        bus.call(*DAEMON, "GetId", ())
    daemon.start()
    bus.call(*DAEMON, "GetId", ())


def test_a_child_has_a_connection_of_its_own(bus):
    bus.call(*DAEMON, "GetId", ())
    child = os.fork()
    if child == 0:
        try:
            bus.call(*DAEMON, "GetId", ())
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    bus.call(*DAEMON, "GetId", ())


def test_without_a_bus_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    with pytest.raises(
        BusError, match=r"the system bus does not answer: No such file or directory \[ENOENT\] \(is dbus"
    ):
        Bus().call(*DAEMON, "GetId", ())
