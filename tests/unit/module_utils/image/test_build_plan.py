# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build steps: what makes another layer of one, and what does not; what the configuration says in the end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError
from ansible_collections.vessel.host.plugins.module_utils._image import build, config, nosync, rootfs
from ansible_collections.vessel.host.plugins.module_utils._image.store import Image, Store
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


@pytest.fixture
def store(tmp_path):
    return Store(Paths.at(str(tmp_path / "vessel")))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "src"
    (path / "sub").mkdir(parents=True)
    (path / "sub/file").write_text("one")
    (path / "link").symlink_to("sub")
    return path


def keys(store, *steps, base=None):
    return [planned.key for planned in build.plan(store, base or Image("base:1", "", (A,)), steps)]


def copy(source, **more):
    return {"copy": {"src": str(source), "dest": "/srv", **more}}


def test_a_key_is_the_digest_of_all_that_goes_in(store):
    steps = [{"run": "a"}, {"run": "b"}]
    assert keys(store, *steps) == keys(store, *steps)
    assert keys(store, *steps)[0] == keys(store, steps[0])[0]
    different = [
        keys(store, *steps)[1],
        keys(store, {"run": "b"})[0],
        keys(store, {"run": ["b"]})[0],
        keys(store, {"run": "x"}, {"run": "b"})[1],
        keys(store, {"env": {"A": "1"}}, *steps)[2],
        keys(store, {"env": {"A": "2"}}, *steps)[2],
        keys(store, *steps, base=Image("base:1", "", (A, B)))[1],
        keys(store, *steps, base=Image("base:1", "", (A,), {"User": "nobody"}))[1],
        keys(store, *steps, base=Image("base:1", "", (A,), {"WorkingDir": "/srv"}))[1],
        keys(store, *steps, base=Image("base:1", "", (A,), {"Env": ["A=1"]}))[1],
    ]
    assert len(set(different)) == len(different)
    assert keys(store, *steps) == keys(store, *steps, base=Image("other:2", "sha256:x", (A,), {"Cmd": ["sh"]}))
    assert keys(store, steps[0], {"env": {"A": "1"}})[0] == keys(store, steps[0])[0]  # env is for what follows


CHANGES = [
    lambda path: (path / "sub/file").write_text("two"),
    lambda path: (path / "sub/file").rename(path / "sub/elif"),
    lambda path: (path / "sub/more").write_text(""),
    lambda path: (path / "sub/file").chmod(0o600),
    lambda path: (path / "sub").chmod(0o700),
    lambda path: ((path / "link").unlink(), (path / "link").symlink_to("bus")),
    lambda path: ((path / "link").unlink(), (path / "link").mkdir()),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_copied_goes_into_the_key(store, source, change):
    before = keys(store, copy(source))
    change(source)
    assert keys(store, copy(source)) != before


def test_when_it_was_written_does_not(store, source):
    before = keys(store, copy(source), copy(source / "sub/file"))
    os.utime(source / "sub/file", (1, 1))
    os.utime(source, (1, 1))
    assert keys(store, copy(source), copy(source / "sub/file")) == before


def test_where_it_goes_and_whose_it_is_do(store, source):
    file = source / "sub/file"
    found = [
        keys(store, step)[0]
        for step in (
            copy(file),
            copy(file, dest="/srv/"),
            copy(file, uid=1),
            copy(file, gid=1),
            copy(file, mode=0o600),
            {"copy": {"content": "one", "dest": "/srv"}},
            {"copy": {"content": "two", "dest": "/srv"}},
        )
    ]
    assert len(set(found)) == len(found)


def test_a_source_that_is_not_there(store, tmp_path):
    with pytest.raises(OptionError) as caught:
        keys(store, {"run": "x"}, copy(tmp_path / "nothing"))
    path = tmp_path / "nothing"
    assert str(caught.value) == (f"layers[1].copy.src: '{path}' can't be read on the target: No such file or directory")


def adopt(store, key, diff_id):
    with store.work() as work:
        work.adopt(work.directory(), diff_id, 1)
        store.set_key(key, diff_id)


def test_after_a_step_that_runs_again_all_do(store):
    base, steps = Image("base:1", "", (A,)), [{"run": "a"}, {"env": {"X": "1"}}, {"run": "b"}, {"run": "c"}]
    one, _env, _two, three = keys(store, *steps, base=base)
    adopt(store, one, B)
    adopt(store, three, C)
    assert [planned.layer for planned in build.plan(store, base, steps)] == [B, "", "", ""]
    assert [planned.describes for planned in build.plan(store, base, steps)] == ["run a", "env X", "run b", "run c"]


def test_a_cached_build_runs_nothing(store):
    adopt(store, "0" * 64, A)
    base, steps = Image("base:1", "", (A,), {"Env": ["P=/bin"]}), [{"run": "a"}, {"env": {"X": "1"}}]
    adopt(store, keys(store, *steps, base=base)[0], B)
    image = build.build(store, "app:1", base, steps, {"cmd": ["x"], "env": {"Y": "2"}}, None, "key")
    assert (image.layers, image.key) == ((A, B), "key")
    assert image.config == {"Env": ["P=/bin", "X=1", "Y=2"], "Cmd": ["x"]}
    assert [line["created_by"] for line in store.raw(image)["history"]] == ["from base:1", "run a", "env X"]
    assert "created" not in store.raw(image)
    assert build.build(store, "app:2", base, steps, {"cmd": ["x"], "env": {"Y": "2"}}, None).id == image.id


def test_a_step_that_fails_leaves_the_ones_before(store, monkeypatch):
    """Without root: the layer is made by hand."""
    adopt(store, "0" * 64, A)
    monkeypatch.setattr(os, "chown", lambda *args, **options: None)
    seen = []

    def run(request):
        seen.append((request.number, request.command, request.env, len(request.layers)))
        assert stat.S_IMODE(os.stat(request.upper).st_mode) == 0o755
        if request.command[-1] == "bad":
            raise ZeroDivisionError
        Path(request.upper, "made").write_text("x")

    steps = [{"env": {"A": "1"}}, {"run": "good"}, {"run": ["/bin/bad", "bad"]}]
    base = Image("base:1", "", (A,))
    with pytest.raises(ZeroDivisionError):
        build.build(store, "app:1", base, steps, {}, run)
    assert seen == [(2, ["/bin/sh", "-c", "good"], {"A": "1"}, 1), (3, ["/bin/bad", "bad"], {"A": "1"}, 2)]
    assert [bool(planned.layer) for planned in build.plan(store, base, steps)] == [False, True, False]
    assert store.names() == []
    assert [name for name in os.listdir(store.layers) if name.startswith(".")] == []


# mount points
def test_what_only_the_set_up_made_is_no_part_of_the_layer(tmp_path):
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    (lower / "etc").mkdir(parents=True)
    (lower / "etc/hosts").write_text("its own")
    for path in ("proc", "sys", "dev", "etc", "usr/sbin"):
        (upper / path).mkdir(parents=True)
    for path in ("etc/hosts", "etc/resolv.conf", "etc/hostname", "usr/sbin/policy-rc.d"):
        (upper / path).write_text("")
    (upper / "etc/hostname").write_text("written by the step")
    build.clean(str(upper), [str(lower)])
    assert sorted(str(path.relative_to(upper)) for path in upper.rglob("*")) == [
        "etc", "etc/hostname", "etc/hosts", "usr", "usr/sbin",
    ]  # fmt: skip


def test_a_directory_that_it_only_passed_through_goes(tmp_path):
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    for top in (lower, upper):
        (top / "etc").mkdir(parents=True)
        (top / "usr/sbin").mkdir(parents=True)
    (upper / "usr/sbin").chmod(0o700)  # by the step
    (upper / "etc/resolv.conf").write_text("")
    (upper / "usr/sbin/policy-rc.d").write_text("")
    build.clean(str(upper), [str(lower)])
    assert sorted(str(path.relative_to(upper)) for path in upper.rglob("*")) == ["usr", "usr/sbin"]


# configuration
BASE = {"Cmd": ["a"], "Entrypoint": ["e"], "Env": ["A=1", "B=2"], "Labels": {"x": "1"}, "ExposedPorts": {"80/tcp": {}}}


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({}, {}),
        ({"cmd": ["b"]}, {"Cmd": ["b"]}),
        ({"cmd": []}, {"Cmd": []}),
        ({"entrypoint": ["f"]}, {"Entrypoint": ["f"], "Cmd": None}),
        ({"entrypoint": ["f"], "cmd": ["c"]}, {"Entrypoint": ["f"], "Cmd": ["c"]}),
        ({"env": {"B": "3", "C": "4"}}, {"Env": ["A=1", "B=3", "C=4"]}),
        ({"env": {}}, {}),
        ({"user": "u", "working_dir": "/w", "stop_signal": "SIGQUIT"},
         {"User": "u", "WorkingDir": "/w", "StopSignal": "SIGQUIT"}),
        ({"labels": {"y": "2"}}, {"Labels": {"x": "1", "y": "2"}}),
        ({"exposed_ports": ["53/udp"]}, {"ExposedPorts": {"80/tcp": {}, "53/udp": {}}}),
        ({"volumes": ["/v"]}, {"Volumes": {"/v": {}}}),
        ({"healthcheck": {}}, {"Healthcheck": {"Test": ["NONE"]}}),
        ({"healthcheck": {"test": ["CMD", "x"], "interval": 1.5, "timeout": 0, "retries": 3}},
         {"Healthcheck": {"Test": ["CMD", "x"], "Interval": 1500000000, "Retries": 3}}),
    ],
)  # fmt: skip
def test_options_over_the_bases_configuration(options, changed):
    expected = {key: value for key, value in {**BASE, **changed}.items() if value is not None}
    assert config.merge(BASE, options) == expected
    assert BASE["Env"] == ["A=1", "B=2"]


def test_calls_that_do_nothing_are_allowed_in_no_other_rule():
    allow = {"names": ["read", "fsync", "sync"], "action": "SCMP_ACT_ALLOW"}
    only = {"names": ["fsync"], "action": "SCMP_ACT_ALLOW"}
    found = nosync.without_sync({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [allow, only]})
    assert found["syscalls"] == [nosync.rule(), {"names": ["read"], "action": "SCMP_ACT_ALLOW"}]
    assert found["defaultAction"] == "SCMP_ACT_ERRNO"


# root file systems
def test_a_tars_key_is_that_of_its_bytes(store, tmp_path):
    path, other = tmp_path / "a.tar", tmp_path / "b.tar"
    path.write_bytes(b"x" * 100)
    other.write_bytes(b"x" * 100)
    os.utime(other, (1, 1))
    assert rootfs.key(str(path)) == rootfs.key(str(other)) == rootfs.key(str(path), store)
    other.write_bytes(b"y" * 100)
    assert rootfs.key(str(path)) != rootfs.key(str(other))
    assert not os.path.exists(store.paths.state)


def test_a_tar_that_is_remembered_is_not_read_again(store, tmp_path, monkeypatch):
    path = tmp_path / "a.tar"
    path.write_bytes(b"x" * 100)
    known = rootfs.remember(store, str(path))
    real = rootfs._file_key
    monkeypatch.setattr(rootfs, "_file_key", None)
    assert rootfs.key(str(path), store) == known
    monkeypatch.setattr(rootfs, "_file_key", real)
    info = os.stat(path)
    path.write_bytes(b"y" * 100)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))  # the time of change gives it away
    assert rootfs.key(str(path), store) != known


def test_a_directorys_key_is_what_stat_says_of_all_in_it(tmp_path, source):
    before = rootfs.key(str(source))
    assert rootfs.key(str(source)) == before
    moved = tmp_path / "moved"
    source.rename(moved)
    assert rootfs.key(str(moved)) == before
    (moved / "dev").mkdir()
    with_dev = rootfs.key(str(moved))
    (moved / "dev/null").write_text("no part of an image")
    assert rootfs.key(str(moved)) == with_dev
    for change in CHANGES:
        change(moved) if (moved / "sub/file").exists() else (moved / "sub/file").write_text("")
        assert rootfs.key(str(moved)) != before
