# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both ends of the protocol over a socket pair."""

from __future__ import annotations

import json
import os
import socket
import threading

import pytest
from ansible_collections.vessel.host.plugins.module_utils import _errors
from ansible_collections.vessel.host.plugins.module_utils._errors import (
    KernelError,
    MonitorError,
    NotFoundError,
    OptionError,
    StartError,
)
from ansible_collections.vessel.host.plugins.module_utils._monitor import protocol
from ansible_collections.vessel.host.plugins.module_utils._monitor.client import Client, connect
from ansible_collections.vessel.host.plugins.module_utils._monitor.connection import Connection
from ansible_collections.vessel.host.plugins.module_utils._monitor.loop import Loop
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths


@pytest.mark.parametrize(
    "error",
    [
        StartError("exec /x: it failed", step="exec", errno=2, hint="look"),
        KernelError("mount", "/proc", 1),
        NotFoundError("container", "a", hint="there is b"),
        OptionError("memory", "x", "is no size"),
        MonitorError("odd"),
    ],
)
def test_an_error_arrives_as_its_type(error):
    message = json.loads(json.dumps(protocol.error_to_message(error)))
    again = protocol.error_from_message(message)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.hint == error.hint
    for key in ("errno", "step", "kind", "name", "option"):
        assert getattr(again, key, None) == getattr(error, key, None)


def test_every_type_of_ours_can_arrive():
    kinds = [kind for kind in vars(_errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 10
    for kind in kinds:
        again = protocol.error_from_message({"type": kind.__name__, "message": "m", "hint": "h"})
        assert again.__class__ is kind
        assert str(again) == "m (h)"


@pytest.mark.parametrize("name", ["Nonsense", "os", "annotations", "", "_errno"])
def test_a_type_that_is_not_ours(name):
    again = protocol.error_from_message({"type": name, "message": "m"})
    assert again.__class__ is MonitorError


def test_errors_of_the_system():
    said = protocol.error_to_message(FileNotFoundError(2, "No such file or directory", "/x"))
    assert (said["type"], said["message"], said["errno"]) == ("MonitorError", "/x: No such file or directory", 2)
    assert protocol.error_to_message(KeyError("x"))["message"] == "KeyError: 'x'"


@pytest.mark.parametrize("field", ["timeout", "signal"])
@pytest.mark.parametrize(
    "number", ["NaN", "-1", "-0.5", "Infinity", "-Infinity", "1e999", "true", '"5"', "1" + "0" * 400]
)
def test_numbers_that_can_not_be(field, number):
    request = protocol.decode(f'{{"op": "stop", "{field}": {number}}}'.encode())
    with pytest.raises(MonitorError, match=f"stop: {field}: .* use "):
        protocol.check_numbers(request)


def test_numbers_that_can_be():
    for numbers in ({}, {"timeout": None}, {"timeout": 0, "signal": 9}, {"timeout": 0.5}):
        protocol.check_numbers({"op": "stop", **numbers})
    with pytest.raises(MonitorError, match=r"signal: 1\.5 is not the number of a signal; use 1 to"):
        protocol.check_numbers({"op": "kill", "signal": 1.5})


def test_lines_come_in_pieces():
    lines = protocol.Lines(10)
    assert lines.feed(b"ab") == []
    assert lines.feed(b"c\nde\nf") == [b"abc", b"de"]
    assert lines.feed(b"\n\n") == [b"f", b""]
    with pytest.raises(MonitorError, match="longer than 10 bytes"):
        lines.feed(b"x" * 11)


class Pair:
    """A client, and the server's end with what it was asked; the loop is turned by hand."""

    def __init__(self):
        ours, theirs = socket.socketpair()
        self.loop = Loop()
        self.requests = []
        self.closed = []
        self.connection = Connection(
            self.loop, theirs, lambda *request: self.requests.append(request), self.closed.append
        )
        self.client = Client(ours)
        self.raw = ours

    def request(self, message, reply):
        self.requests.append((message, reply))

    def turn(self):
        self.loop.turn(0.05)


@pytest.fixture
def pair():
    pair = Pair()
    yield pair
    pair.client.close()
    pair.connection.close()
    pair.loop.close()


def test_many_in_flight_answered_in_any_order(pair):
    first, second = pair.client.submit("a", name="x"), pair.client.submit("b")
    pair.turn()
    assert [message["op"] for message, dummy in pair.requests] == ["a", "b"]
    pair.requests[1][1].ok(value=2)
    pair.requests[0][1].error(NotFoundError("container", "x"))
    pair.requests[0][1].ok()  # once is enough
    assert pair.client.next() == (second, {"id": second, "ok": True, "value": 2})
    number, reply = pair.client.next()
    assert number == first
    with pytest.raises(NotFoundError, match="no such container: x"):
        pair.client.result(reply)


def test_call_keeps_the_answers_to_others(pair):
    early = pair.client.submit("early")

    def serve():
        while len(pair.requests) < 2:
            pair.turn()
        for message, reply in pair.requests:
            reply.ok(op=message["op"])

    thread = threading.Thread(target=serve)
    thread.start()
    assert pair.client.call("late")["op"] == "late"
    thread.join()
    assert pair.client.next()[0] == early


def test_nonsense_ends_the_connection(pair):
    pair.raw.sendall(b"{nonsense\n")
    pair.turn()
    assert pair.closed == [pair.connection]
    with pytest.raises(MonitorError, match="is not JSON"):
        pair.client.result(pair.client.next()[1])
    with pytest.raises(MonitorError, match="gone away"):
        pair.client.next()


@pytest.mark.parametrize("line", [b"[1]\n", b"x" * 70000])
def test_what_is_no_request(pair, line):
    pair.raw.sendall(line)
    for dummy in range(3):
        pair.turn()
    assert pair.closed == [pair.connection]
    assert pair.requests == []


def test_a_client_that_left_is_not_answered(pair):
    pair.client.submit("a")
    pair.turn()
    dummy, reply = pair.requests[0]
    assert reply.wanted
    pair.raw.close()
    pair.turn()
    assert not reply.wanted
    reply.ok()


def test_a_client_that_does_not_read_is_let_go(pair):
    pair.client.submit("a")
    pair.turn()
    pair.requests[0][1].ok(big="x" * (17 << 20))
    assert pair.closed == [pair.connection]


def test_a_big_answer_arrives_whole(pair):
    pair.client.submit("a")
    pair.turn()
    pair.requests[0][1].ok(big="x" * 3_000_000)
    arrived = threading.Event()

    def serve():
        while not arrived.is_set():
            pair.turn()

    thread = threading.Thread(target=serve)
    thread.start()
    assert len(pair.client.next()[1]["big"]) == 3_000_000
    arrived.set()
    thread.join()


def test_nobody_listens(tmp_path):
    paths = Paths.at(str(tmp_path))
    with pytest.raises(MonitorError, match=r"no supervisor at .*monitor\.sock: No such file"):
        connect(paths)
    os.makedirs(paths.run)
    with pytest.raises(MonitorError, match="no supervisor"):
        connect(paths)
    socket.socket(socket.AF_UNIX).bind(paths.monitor_socket)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MonitorError, match="Connection refused"):
        connect(paths)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_path_longer_than_a_socket_address(tmp_path):
    paths = Paths.at(str(tmp_path / ("d" * 120)))
    os.makedirs(paths.run)
    fd = os.open(paths.run, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{fd}/monitor.sock")
        server.listen(1)
        connect(paths).close()
    os.close(fd)
