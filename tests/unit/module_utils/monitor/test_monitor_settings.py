# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""monitor.json, status.json and the log's descriptors."""

from __future__ import annotations

import json
import os
import socket
import stat

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError, SpecError, StartError
from ansible_collections.vessel.host.plugins.module_utils._monitor import logs, settings, status
from ansible_collections.vessel.host.plugins.module_utils._monitor.settings import Log, Settings


def test_defaults():
    it = Settings({})
    assert it.policy.policy == "no"
    assert it.health is None
    assert it.log.driver == "none"
    assert (it.stop_signal, it.stop_timeout) == (15, 10.0)


def test_all_of_it():
    it = Settings(
        {
            "restart": {"policy": "on-failure", "retries": 4},
            "health": {"test": ["CMD", "x"], "interval": 1.5, "retries": 2},
            "log": {"driver": "file", "path": "/l", "max_size": 10, "max_file": 3, "tag": "t"},
            "stop": {"signal": 2, "timeout": 0},
        }
    )
    assert (it.policy.policy, it.policy.retries) == ("on-failure", 4)
    assert (it.health.interval, it.health.timeout, it.health.retries) == (1.5, 30.0, 2)
    assert (it.log.path, it.log.max_size, it.log.max_file, it.log.tag) == ("/l", 10, 3, "t")
    assert (it.stop_signal, it.stop_timeout) == (2, 0.0)


@pytest.mark.parametrize("test", [None, [], ["NONE"]])
def test_no_health_check(test):
    assert Settings({"health": {"test": test}}).health is None


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"restart": {"policy": "x"}}, "monitor.restart.policy"),
        ({"log": {"driver": "x"}}, "monitor.log.driver"),
        ({"health": {"test": ["x"]}}, "monitor.health.test"),
        ({"health": {"test": ["CMD"]}}, "monitor.health.test"),
        ({"health": {"test": ["CMD", "x"], "interval": float("nan")}}, "monitor.health.interval"),
        ({"stop": {"timeout": float("inf")}}, "monitor.stop.timeout"),
        ({"stop": {"timeout": -1}}, "monitor.stop.timeout"),
        ({"stop": {"signal": "9"}}, "monitor.stop.signal"),
        ({"restart": {"retries": True}}, "monitor.restart.retries"),
        ({"log": {"max_size": 10**400}}, "monitor.log.max_size"),
    ],
)
def test_what_can_not_be(data, field):
    with pytest.raises(SpecError, match=field):
        Settings(data)


def test_load(tmp_path):
    assert settings.load(str(tmp_path)).data == {}
    (tmp_path / "monitor.json").write_text('{"stop": {"signal": 9}}')
    assert settings.load(str(tmp_path)).stop_signal == 9
    (tmp_path / "monitor.json").write_text("{")
    with pytest.raises(SpecError, match="is not JSON"):
        settings.load(str(tmp_path))


def test_status_and_back(tmp_path):
    path = str(tmp_path / "status.json")
    assert status.load(path) is None
    it = status.Status()
    it.pid, it.exit_code, it.health = 7, 3, {"status": "healthy"}
    it.save(path)
    assert status.load(path).to_dict() == it.to_dict()
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["status.json"]
    (tmp_path / "status.json").write_text(json.dumps({"pid": 8, "later": True}))
    assert status.load(path).pid == 8
    for damaged in ("", "[]", "{"):
        (tmp_path / "status.json").write_text(damaged)
        assert status.load(path) is None


def test_timestamp():
    assert status.timestamp(0.5) == "1970-01-01T00:00:00.500Z"


def test_log_file(tmp_path):
    path = tmp_path / "deep" / "log"
    stdio = logs.open_stdio(Log({"driver": "file", "path": str(path)}))
    stdin, stdout, stderr = stdio.fds
    assert stdout == stderr
    assert os.fstat(stdin).st_rdev == os.stat("/dev/null").st_rdev
    os.write(stdout, b"a\n")
    os.truncate(path, 0)
    os.write(stdout, b"b\n")
    assert path.read_text() == "b\n"  # appended, wherever the end is
    stdio.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_log_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KernelError, match="ELOOP"):
        logs.open_stdio(Log({"driver": "file", "path": str(tmp_path / "log")}))
    assert not (tmp_path / "elsewhere").exists()


def test_no_log():
    stdio = logs.open_stdio(Log({"driver": "none"}))
    assert len(set(stdio.fds)) == 1
    stdio.close()


def test_journal(tmp_path):
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(2)
        stdio = logs.open_stdio(Log({"driver": "journald", "tag": "vessel-a"}), journal=path)
        for fd in stdio.fds[1:]:
            os.write(fd, b"hello\n")
        stdio.close()
        said = []
        for dummy in range(2):
            connection, dummy = server.accept()
            with connection.makefile() as file:
                said.append(file.read())
            connection.close()
    assert said == [f"vessel-a\n\n{priority}\n1\n0\n0\n0\nhello\n" for priority in (6, 3)]


def test_no_journal(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StartError, match=r"log driver journald: .*ENOENT.*use the log driver file"):
        logs.open_stdio(Log({"driver": "journald", "tag": "x"}), journal=str(tmp_path / "none"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_tail(tmp_path):
    path = tmp_path / "log"
    assert logs.tail(str(path)) == ""
    path.write_text("".join(f"line {number}\n" for number in range(1000)))
    assert logs.tail(str(path), 2) == "line 998\nline 999"
