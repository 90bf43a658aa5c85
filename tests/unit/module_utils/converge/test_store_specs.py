# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Specs are there whole or not at all, and a lock is one process's."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import store
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError, StoreError
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
from ansible_collections.vessel.host.tests.unit.forks import parallel


@pytest.fixture
def paths(tmp_path):
    return Paths.at(str(tmp_path))


@contextlib.contextmanager
def limited_files(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)


def test_what_was_written_is_read(paths):
    assert store.read_spec(paths, "volumes", "data") is None
    store.write_spec(paths, "volumes", "data", {"driver": "tmpfs", "size": 1})
    assert store.read_spec(paths, "volumes", "data") == {"driver": "tmpfs", "size": 1}
    assert store.names(paths, "volumes") == ["data"]


def test_a_disk_that_takes_no_more_is_named_with_the_file(paths):
    store.write_spec(paths, "volumes", "data", {"size": 1})
    with limited_files(10), pytest.raises(KernelError, match=r"write .*/volumes/data/spec.json: File too large"):
        store.write_spec(paths, "volumes", "data", {"size": 2, "labels": {"a": "b" * 100}})
    assert store.read_spec(paths, "volumes", "data") == {"size": 1}
    assert os.listdir(paths.resource("volumes", "data")) == ["spec.json"]


def test_only_root_may_pass_the_top(paths):
    store.write_spec(paths, "volumes", "data", {})
    assert os.stat(paths.state).st_mode & 0o777 == 0o700
    assert os.stat(store.spec_path(paths, "volumes", "data")).st_mode & 0o777 == 0o600


def test_removing_leaves_the_data_of_others(paths):
    store.write_spec(paths, "volumes", "data", {})
    os.mkdir(f"{paths.resource('volumes', 'data')}/upper")
    store.remove_spec(paths, "volumes", "data")
    assert os.listdir(paths.resource("volumes", "data")) == ["upper"]
    assert store.names(paths, "volumes") == []


def test_removing_is_idempotent_and_leaves_no_empty_directory(paths):
    store.write_spec(paths, "volumes", "data", {})
    store.remove_spec(paths, "volumes", "data")
    store.remove_spec(paths, "volumes", "data")
    assert not os.path.exists(paths.state)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1'])
def test_damage_is_named(paths, text):
    store.write_spec(paths, "networks", "shop", {})
    with open(store.spec_path(paths, "networks", "shop"), "w") as file:
        file.write(text)
    with pytest.raises(StoreError, match=r"shop/spec\.json: damaged"):
        store.read_spec(paths, "networks", "shop")


def test_a_value_that_is_no_json_leaves_the_old_file(paths):
    store.write_spec(paths, "networks", "shop", {"mtu": 1500})
    with pytest.raises(TypeError):
        store.write_spec(paths, "networks", "shop", {"mtu": object()})
    assert store.read_spec(paths, "networks", "shop") == {"mtu": 1500}
    assert os.listdir(paths.resource("networks", "shop")) == ["spec.json"]


def test_what_a_killed_writer_left_is_swept(paths):
    store.write_spec(paths, "networks", "shop", {})
    with open(f"{store.spec_path(paths, 'networks', 'shop')}.99999.new", "w") as file:
        file.write("{")
    assert store.read_spec(paths, "networks", "shop") == {}
    store.remove_spec(paths, "networks", "shop")
    assert not os.path.exists(paths.resource("networks", "shop"))


def test_a_lock_keeps_others_out_and_its_file_goes(paths):
    read, write = os.pipe()
    held, tell = os.pipe()
    pid = os.fork()  # before there is a lock: a child inherits those that there are
    if pid == 0:
        try:
            os.read(held, 1)
            with store.lock(paths, "images", "debian/base:12"):
                os.write(write, b"child")
        finally:
            os._exit(0)
    with store.lock(paths, "images", "debian/base:12"):
        os.write(tell, b"x")
        time.sleep(0.05)
        os.set_blocking(read, False)
        with pytest.raises(BlockingIOError):
            os.read(read, 5)
        os.write(write, b"mine ")
    os.waitpid(pid, 0)
    assert os.read(read, 10) == b"mine child"
    assert not os.path.exists(paths.run)


def test_a_killed_holder_does_not_hold(paths):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with store.lock(paths, "images", "x"):
            os.write(write, b"x")
            signal.pause()
    os.read(read, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with store.lock(paths, "images", "x"):
        pass


def test_many_come_and_go_at_once(paths):
    """Each takes the directories along when they are empty."""

    def busy(number):
        name = f"v{number}"
        for turn in range(5000):
            with store.lock(paths, "volumes", name):
                store.write_spec(paths, "volumes", name, {"size": turn})
                store.remove_spec(paths, "volumes", name)

    assert parallel(busy, range(4)) == [0] * 4
    assert not os.path.exists(paths.state)
    assert not os.path.exists(paths.run)
