# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store: names, images, layers; what is collected, what is swept, and who has to wait."""

from __future__ import annotations

import json
import os
import signal
import stat
import tempfile
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import NotFoundError, StoreError
from ansible_collections.vessel.host.plugins.module_utils._image.store import Image, Store
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
from ansible_collections.vessel.host.tests.unit.forks import parallel

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


@pytest.fixture
def store(tmp_path):
    """In memory where that can be: these tests write a thousand small files to the disk, one by one."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=memory) as path:
        yield Store(Paths.at(f"{path}/vessel"))


def layer(store, diff_id, text="x", size=100):
    with store.work() as work:
        directory = work.directory()
        Path(directory, "file").write_text(text)
        work.adopt(directory, diff_id, size)
    return diff_id


def config(*layers, **more):
    return {"config": more, "rootfs": {"type": "layers", "diff_ids": list(layers)}}


def everything(store):
    top = store.paths.state
    return sorted(str(path.relative_to(top)) for path in Path(top).rglob("*"))


# names and images
def test_a_name_leads_to_an_image(store):
    layer(store, A)
    image = store.put("debian:latest", config(A, Cmd=["sh"]), "key")
    assert (image.name, image.layers, image.config, image.key) == ("debian:latest", (A,), {"Cmd": ["sh"]}, "key")
    assert store.get("debian:latest") == image
    assert store.get(image.id) == Image("", image.id, (A,), {"Cmd": ["sh"]})
    assert store.directories(image) == [f"{store.layers}/{'a' * 64}"]
    assert store.raw(image) == config(A, Cmd=["sh"])
    assert sum(map(store.layer_size, set(image.layers))) == 100
    assert store.get("other:latest") is None
    assert store.get(B) is None
    with pytest.raises(NotFoundError, match="no such image: other:latest"):
        store.need("other:latest")


def test_the_id_is_the_digest_of_the_bytes_that_came(store):
    layer(store, A)
    data = json.dumps(config(A), indent=8).encode()
    image = store.put("x:1", data, manifest=b'{"schemaVersion": 2}')
    assert store.configuration(image) == data
    assert store.manifest(image) == {"schemaVersion": 2}
    assert image.id != store.put("y:1", config(A)).id


def test_equal_configurations_are_one_image_with_two_names(store):
    layer(store, A)
    one, other = store.put("a:1", {"x": 1, **config(A)}), store.put("b:1", {**config(A), "x": 1})
    assert one.id == other.id
    assert store.names() == ["a:1", "b:1"]
    assert store.names_of(one.id) == ["a:1", "b:1"]
    assert store.tag(one, "c:1").id == one.id
    store.untag("a:1")
    store.untag("a:1")
    assert store.names() == ["b:1", "c:1"]


def test_created_is_when_the_name_first_got_it(store, monkeypatch):
    layer(store, A)
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2026, 1, 2, 3, 4, 5, 0, 0, 0)))
    image = store.put("a:1", config(A))
    assert image.created == "2026-01-02T03:04:05Z"
    monkeypatch.undo()
    assert store.put("a:1", config(A), "another key").created == image.created
    assert store.put("a:1", config(A, Cmd=["x"])).created > image.created
    assert store.put("b:1", {**config(A), "created": "1999-01-01T00:00:00Z"}).created == "1999-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "name", ["x:1.new", "x:1.json", "a/b/c:1", "localhost:5000/x:1", "x@" + A, "d.io/" + "n" * 240 + ":" + "t" * 128]
)
def test_names_of_every_form_are_kept(store, name):
    layer(store, A)
    image = store.put(name, config(A))
    assert store.names() == [name]
    store.collect()
    assert store.get(name) == image


@pytest.mark.parametrize("name", ["", A])
def test_a_name_that_is_none(store, name):
    layer(store, A)
    with pytest.raises(StoreError, match="can't be an image's name"):
        store.put(name, config(A))


@pytest.mark.parametrize("bad", [{}, {"rootfs": {}}, {"rootfs": {"diff_ids": [7]}}, {"rootfs": {"diff_ids": ["../x"]}}])
def test_a_configuration_without_layers_is_refused(store, bad):
    with pytest.raises(StoreError, match=r"rootfs.diff_ids|is not a sha256 digest"):
        store.put("x:1", bad)
    assert store.names() == []


def test_an_image_needs_its_layers(store):
    layer(store, A)
    with pytest.raises(StoreError, match=f"image x:1: its layer {B} is not in the store"):
        store.put("x:1", config(A, B))


def test_a_damaged_image_says_so_and_hinders_nothing(store):
    layer(store, A)
    layer(store, B)
    bad, good = store.put("bad:1", config(A)), store.put("good:1", config(B))
    Path(store.images_dir, bad.id[7:], "config.json").write_text("{")
    with pytest.raises(StoreError, match=r"config.json is damaged \(remove it"):
        store.get("bad:1")
    assert store.get("good:1") == good
    assert store.names() == ["bad:1", "good:1"]
    store.collect()
    store.untag("bad:1")
    store.collect()
    assert store.names() == ["good:1"]
    assert store.has_layer(B)


def test_only_root_may_pass(store):
    layer(store, A)
    store.put("x:1", config(A))
    for path in (store.paths.state, store.layers, store.keys_dir, store.images_dir, store.names_dir):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700, path


def test_a_layers_top_is_open_whatever_the_umask(store):
    before = os.umask(0o077)
    try:
        layer(store, A)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(store.layer_path(A)).st_mode) == 0o755


# keys
def test_keys_lead_to_layers_that_are_there(store):
    layer(store, A)
    store.set_key("k" * 64, A)
    assert store.layer_for("k" * 64) == A
    assert store.layer_for("n" * 64) == ""
    store.set_key("k" * 64, B)
    assert store.layer_for("k" * 64) == ""


# layers
def test_a_layer_is_on_the_disk_once(store):
    layer(store, A, "first")
    layer(store, A, "second")
    assert Path(store.layer_path(A), "file").read_text() == "first"
    assert [name for name in os.listdir(store.layers) if name.startswith(".")] == []


def test_a_work_that_fails_leaves_nothing(store):
    def fail():
        with store.work() as work:
            Path(work.directory(), "file").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not os.path.exists(store.paths.state)


def test_a_work_in_a_work_is_the_same(store):
    with store.work() as outer:
        with store.work() as inner:
            assert inner is outer
        assert os.path.isdir(outer.path)
    assert not os.path.exists(outer.path)


# collecting
def test_what_no_name_leads_to_goes(store):
    for diff_id in (A, B, C):
        layer(store, diff_id)
    base = store.put("base:1", config(A))
    top = store.put("top:1", config(A, B))
    store.set_key("c" * 64, C)
    assert store.unused() == ([], [], [], [])
    assert store.unused(keep_cache=False) == ([], ["c" * 64], ["c" * 64], [])
    assert store.unused(without=["top:1"]) == ([top.id[7:]], ["b" * 64], [], [])
    store.untag("top:1")
    assert store.unused(keep=[B]) == ([top.id[7:]], [], [], [])
    assert store.collect() == 100
    assert (store.has_layer(A), store.has_layer(B), store.has_layer(C)) == (True, False, True)
    assert store.get(top.id) is None
    store.untag("base:1")
    assert store.collect(keep_cache=False) == 200
    assert not os.path.exists(store.paths.state)
    assert store.get(base.id) is None


def test_a_key_whose_layer_is_gone_goes_too(store):
    layer(store, A)
    store.set_key("a" * 64, A)
    store.set_key("b" * 64, B)
    assert store.unused() == ([], [], ["b" * 64], [])


def test_nothing_is_made_by_looking(store):
    assert (store.names(), store.images(), store.collect(), store.unused()) == ([], [], 0, ([], [], [], []))
    store.sweep()
    assert not os.path.exists(store.paths.state)


def test_a_writer_at_work_keeps_what_it_counts_on(store):
    layer(store, A)
    other = Store(store.paths)
    with store.work() as work:
        assert work.pin(A)
        assert not work.pin(C)
        work.adopt(work.directory(), B, 5)
        assert other.collect(keep_cache=False) == 0
        assert store.put("x:1", config(A, B)).layers == (A, B)
    assert other.collect() == 0
    store.untag("x:1")
    other.collect()
    assert not os.path.exists(store.paths.state)


# killed
def in_child(act):
    """``act`` in a child, which then kills itself."""
    child = os.fork()
    if child == 0:
        try:
            act()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def test_what_a_killed_writer_left_is_swept_by_the_next(store):
    def begin():
        with store.work() as work:
            Path(work.directory(), "file").write_text("x")
            work.pin(A)
            os.kill(os.getpid(), signal.SIGKILL)

    layer(store, A)
    in_child(begin)
    assert any(name.startswith(".tmp-") for name in os.listdir(store.layers))
    with store.work():
        assert [name for name in os.listdir(store.layers) if name.startswith(".tmp-")] == [
            f".tmp-{os.getpid()}-" + os.path.basename(store._work.path).rpartition("-")[2]
        ]
    store.collect()
    assert not os.path.exists(store.paths.state)


@pytest.mark.parametrize("at", ["os.rename", "os.fsync", "os.mkdir", "os.unlink", "os.rmdir"])
@pytest.mark.parametrize("after", [1, 2, 3, 4, 5, 6])
def test_killed_at_any_call_the_next_run_is_as_the_first(store, monkeypatch, at, after):
    """The n-th call of a kind is the writer's last."""
    module = {"os": os, "json": json}[at.partition(".")[0]]
    name, calls = at.partition(".")[2], []
    real = getattr(module, name)

    def counted(*args, **options):
        calls.append(1)
        if len(calls) == after:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)

    def run():
        layer(store, A)
        store.set_key("a" * 64, A)
        store.put("x:1", config(A), "key", manifest=b"{}")
        store.untag("x:1")
        store.collect(keep_cache=False)

    def hooked():
        setattr(module, name, counted)
        run()

    in_child(hooked)
    layer(store, A)
    image = store.put("y:1", config(A))
    store.sweep()
    names = everything(store)
    assert [n for n in names if ".new" in n or ".tmp" in n or ".lock" in n] == []
    assert store.get("y:1") == image
    for known in store.names():
        store.untag(known)
    store.collect(keep_cache=False)
    assert not os.path.exists(store.paths.state)


def test_the_lock_of_a_thing_is_waited_for(store, tmp_path):
    """Of two that would make the same, the second finds it made."""
    made = tmp_path / "made"

    def make():
        with store.work(), store.once("x" * 64):
            if not made.exists():
                time.sleep(0.2)
                made.write_text(str(os.getpid()))
                with open(tmp_path / "times", "a") as file:
                    file.write("1")

    children = []
    for _number in range(4):
        child = os.fork()
        if child == 0:
            make()
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert (tmp_path / "times").read_text() == "1"
    assert not os.path.exists(store.paths.state)


def test_a_sweeper_leaves_the_lock_of_whoever_comes_next(store):
    """The file of a lock goes with its holder, and comes again under the same name; a sweeper may have the old one."""

    def busy(sweeps):
        own = Store(store.paths)
        for _turn in range(3000):
            if sweeps:
                own.sweep()
            else:
                with own.once("x"):
                    pass

    with store.work():
        assert parallel(busy, [False, False, True, True]) == [0] * 4


def test_a_symlink_to_nowhere_is_waited_for_by_nobody(store):
    """As of a disk that is not mounted."""
    os.makedirs(os.path.dirname(store.paths.state), exist_ok=True)
    os.symlink(f"{store.paths.state}.nowhere", store.paths.state)
    with pytest.raises(FileExistsError, match=store.paths.state), store.locked():
        pass


def test_many_writers_and_collectors_at_once(store):
    """They make, name, forget and collect the same layers; none fails, and nothing is left."""

    def busy(number):
        own = Store(store.paths)
        for turn in range(15):
            with own.work() as work:
                diff_id = f"sha256:{(number + turn) % 3:064x}"
                with own.once(diff_id[7:]):
                    if not work.pin(diff_id):
                        work.adopt(work.directory(), diff_id, 1)
                own.put(f"x{number}:1", config(diff_id))
            own.collect(keep_cache=False)
            assert own.has_layer(diff_id)
            own.untag(f"x{number}:1")
            own.collect(keep_cache=False)

    assert parallel(busy, range(4)) == [0] * 4
    assert not os.path.exists(store.paths.state)
