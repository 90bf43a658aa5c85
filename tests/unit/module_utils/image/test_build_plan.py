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
from ansible_collections.vessel.host.plugins.module_utils._image import config, nosync, rootfs
from ansible_collections.vessel.host.plugins.module_utils._image.build import make, mounts, plan
from ansible_collections.vessel.host.plugins.module_utils._image.build.layers import compiled, created_by
from ansible_collections.vessel.host.plugins.module_utils._image.build.steps import Mount, Run, Stage
from ansible_collections.vessel.host.plugins.module_utils._image.build.tree import Tree
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


BASE = Image("base:1", "", (A,))


@pytest.fixture
def steps():
    """Compile layers as the option has them."""
    trees = []

    def of(*layers):
        trees.append(Tree(os.open("/", os.O_RDONLY | os.O_DIRECTORY)))
        return compiled(layers, trees[-1], lambda name, option: Image(name, "", (C,)))

    yield of
    for tree in trees:
        tree.close()


@pytest.fixture
def keys(steps):
    """Keys of the steps that make layers, each of which makes the layer B."""

    def of(*layers, base=BASE):
        state, found = plan.State.of(base), []
        for step in steps(*layers):
            if plan.makes_layer(step):
                found.append(plan.key(state, step, lambda origin: list(origin.layers)))
            plan.apply(state, step, B if plan.makes_layer(step) else "")
        return found

    return of


def copy(source, **more):
    return {"copy": {"src": [str(source)], "dest": "/srv", **more}}


def test_a_key_is_the_digest_of_all_that_goes_in(keys):
    layers = [{"run": "a"}, {"run": "b"}]
    assert keys(*layers) == keys(*layers)
    assert keys(*layers)[0] == keys(layers[0])[0]
    different = [
        keys(*layers)[1],
        keys({"run": "b"})[0],
        keys({"run": ["b"]})[0],
        keys({"run": "b", "network": "none"})[0],
        keys({"run": "b", "secrets": ["token"]})[0],
        keys({"env": {"A": "1"}}, *layers)[1],
        keys({"env": {"A": "2"}}, *layers)[1],
        keys({"user": "nobody"}, *layers)[1],
        keys({"shell": ["/bin/bash", "-c"]}, *layers)[1],
        keys({"workdir": "/opt"}, {"run": "b"})[1],
        keys(*layers, base=Image("base:1", "", (A, C)))[1],
        keys(*layers, base=Image("base:1", "", (A,), {"User": "daemon"}))[1],
        keys(*layers, base=Image("base:1", "", (A,), {"WorkingDir": "/srv"}))[1],
        keys(*layers, base=Image("base:1", "", (A,), {"Env": ["A=3"]}))[1],
    ]
    assert len(set(different)) == len(different)
    assert keys(*layers) == keys(*layers, base=Image("other:2", "sha256:x", (A,), {"Cmd": ["sh"]}))
    assert keys(layers[0], {"env": {"A": "1"}})[0] == keys(layers[0])[0]  # env is for what follows


@pytest.mark.parametrize(
    "before",
    [
        {"label": {"a": "b"}},
        {"expose": ["80/tcp"]},
        {"volume": ["/data"]},
        {"cmd": ["sh"]},
        {"entrypoint": ["sh"]},
        {"stop_signal": "SIGQUIT"},
        {"healthcheck": {"test": ["CMD", "x"], "retries": 3}},
    ],
)
def test_what_no_step_sees_runs_none_again(keys, before):
    assert keys(before, {"run": "a"}) == keys({"run": "a"})


def test_who_copies_sees_no_variables(keys, source):
    assert keys({"env": {"A": "1"}}, {"user": "x"}, copy(source)) == keys(copy(source))
    assert keys({"workdir": "/a"}, copy(source, dest="b"))[1] != keys({"workdir": "/b"}, copy(source, dest="b"))[1]


def test_what_came_before_goes_in_by_what_it_made(keys):
    """The same layer below is the same, whatever made it."""
    assert keys({"run": "x"}, {"run": "b"})[1] == keys({"run": "y"}, {"run": "b"})[1]


def test_a_secrets_content_is_no_input_and_an_arguments_value_is_one():
    def key(**fields):
        return plan.key(plan.State.of(BASE), Run("", "", "a", **fields), list)

    assert key(args={"A": "1"}) != key(args={"A": "2"})
    assert key(hidden={"http_proxy": "1"}) == key(hidden={"http_proxy": "2"}) == key()
    assert key(mounts=(Mount("secret", "/s", "one"),)) != key()


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
def test_what_is_copied_goes_into_the_key(keys, source, change):
    before = keys(copy(source))
    change(source)
    assert keys(copy(source)) != before


def test_when_it_was_written_does_not(keys, source):
    before = keys(copy(source), copy(source / "sub/file"))
    os.utime(source / "sub/file", (1, 1))
    os.utime(source, (1, 1))
    assert keys(copy(source), copy(source / "sub/file")) == before


def test_where_it_goes_and_whose_it_is_do(keys, source):
    file = source / "sub/file"
    found = [
        keys(layer)[0]
        for layer in (
            copy(file),
            copy(file, dest="/srv/"),
            copy(file, owner="1"),
            copy(file, group="1"),
            copy(file, mode=0o600),
            copy(file, **{"from": "other"}),
            {"add": {"src": [str(file)], "dest": "/srv"}},
            {"copy": {"content": "one", "dest": "/srv"}},
            {"copy": {"content": "two", "dest": "/srv"}},
        )
    ]
    assert len(set(found)) == len(found)


def test_a_source_that_is_not_there(keys, tmp_path):
    with pytest.raises(OptionError) as caught:
        keys({"run": "x"}, copy(tmp_path / "nothing"))
    path = tmp_path / "nothing"
    assert str(caught.value) == f"layers[1].copy.src: '{path}' is not there, or ignored"


def adopt(store, key, diff_id):
    with store.work() as work:
        work.adopt(work.directory(), diff_id, 1)
        store.set_key(key, diff_id)


def test_after_a_step_that_runs_again_all_do(store, steps, keys):
    layers = [{"run": "a"}, {"env": {"X": "1"}}, {"run": "b"}, {"run": "c"}]
    one, _two, three = keys(*layers)
    adopt(store, one, B)
    adopt(store, three, C)
    found = plan.plan(store, [Stage(BASE, steps(*layers))])
    assert [item.layer for item in found] == [B, "", ""]
    assert [item.step.shown for item in found] == ["run a", "run b", "run c"]


def test_a_cached_build_runs_nothing(store, steps, keys):
    adopt(store, "0" * 64, A)
    base = Image("base:1", "", (A,), {"Env": ["P=/bin"]})
    layers = [{"run": "a"}, {"env": {"X": "1"}}, {"workdir": "/"}]
    run, workdir = keys(*layers, base=base)
    adopt(store, run, B)
    store.set_key(workdir, B)  # it was there: the layer below is its result
    stages, options = [Stage(base, steps(*layers))], {"cmd": ["x"], "env": {"Y": "2"}}
    image = make.build(store, "app:1", stages, options, None, "key")
    assert (image.layers, image.key) == ((A, B), "key")
    assert image.config == {"Env": ["P=/bin", "X=1", "Y=2"], "Cmd": ["x"], "WorkingDir": "/"}
    assert store.raw(image)["history"] == [
        {"created_by": "from base:1"},
        {"created_by": "RUN /bin/sh -c a"},
        {"created_by": "ENV X=1", "empty_layer": True},
        {"created_by": "WORKDIR /", "empty_layer": True},
    ]
    assert "created" not in store.raw(image)
    assert make.build(store, "app:2", stages, options, None).id == image.id


def test_a_step_that_fails_leaves_the_ones_before(store, steps, monkeypatch):
    """Without root: the layer is made by hand."""
    adopt(store, "0" * 64, A)
    monkeypatch.setattr(os, "chown", lambda *args, **options: None)
    monkeypatch.setattr(make, "open_overlay", lambda lower, upper, *rest: os.open(upper, os.O_RDONLY))
    seen = []

    def run(request):
        seen.append((request.number, request.command, request.env, len(request.layers)))
        assert stat.S_IMODE(os.stat(request.upper).st_mode) == 0o755
        if request.command[-1] == "bad":
            raise ZeroDivisionError
        Path(request.upper, "made").write_text("x")

    stages = [Stage(BASE, steps({"env": {"A": "1"}}, {"run": "good"}, {"run": ["/bin/bad", "bad"]}))]
    with pytest.raises(ZeroDivisionError):
        make.build(store, "app:1", stages, {}, run)
    assert seen == [(2, ["/bin/sh", "-c", "good"], {"A": "1"}, 1), (3, ["/bin/bad", "bad"], {"A": "1"}, 2)]
    assert [bool(item.layer) for item in plan.plan(store, stages)] == [True, False]
    assert store.names() == []
    assert [name for name in os.listdir(store.layers) if name.startswith(".")] == []


@pytest.mark.parametrize(
    ("base", "path", "found"),
    [
        ("", "a", "/a"),
        ("/srv", "a/b", "/srv/a/b"),
        ("/srv", "../a", "/a"),
        ("/srv", "/b/", "/b/"),
        ("/srv", ".", "/srv/"),
        ("/srv", "./", "/srv/"),
        ("/srv", "../../..", "/"),
    ],
)
def test_a_path_below_the_working_directory(base, path, found):
    assert plan.State({"WorkingDir": base}, []).path(path) == found


def test_a_command_of_this_stage_outlives_its_entrypoint():
    state = plan.State({"Cmd": ["of the base"]}, [])
    state.configure({"entrypoint": ["e"]})
    assert "Cmd" not in state.config
    state.configure({"cmd": ["c"]})
    state.configure({"entrypoint": ["f"]})
    assert state.config == {"Entrypoint": ["f"], "Cmd": ["c"]}


def test_history_is_written_as_docker_does():
    assert created_by("CMD", ["a", "b c"]) == 'CMD ["a", "b c"]'
    assert created_by("LABEL", {"a": "1", "b": "2"}) == "LABEL a=1 b=2"
    assert created_by("USER", "nobody") == "USER nobody"
    assert created_by("HEALTHCHECK", {}) == 'HEALTHCHECK ["NONE"]'


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
    mounts.clean(str(upper), [str(lower)])
    assert sorted(str(path.relative_to(upper)) for path in upper.rglob("*")) == [
        "etc", "etc/hostname", "etc/hosts", "usr", "usr/sbin",
    ]  # fmt: skip


def test_a_mount_point_of_a_step_goes_with_the_directories_that_were_missing(tmp_path):
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    for top in (lower, upper):
        (top / "run").mkdir(parents=True)
    (upper / "run/secrets").mkdir()
    (upper / "run/secrets/token").write_text("")
    (upper / "cache").mkdir()
    (upper / "cache/left").write_text("by the step, below the mount")
    mounts.clean(str(upper), [str(lower)], ["run/secrets/token", "run/secrets", "cache"])
    assert sorted(str(path.relative_to(upper)) for path in upper.rglob("*")) == ["cache", "cache/left"]


def test_a_directory_that_it_only_passed_through_goes(tmp_path):
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    for top in (lower, upper):
        (top / "etc").mkdir(parents=True)
        (top / "usr/sbin").mkdir(parents=True)
    (upper / "usr/sbin").chmod(0o700)  # by the step
    (upper / "etc/resolv.conf").write_text("")
    (upper / "usr/sbin/policy-rc.d").write_text("")
    mounts.clean(str(upper), [str(lower)])
    assert sorted(str(path.relative_to(upper)) for path in upper.rglob("*")) == ["usr", "usr/sbin"]


# configuration
OPTIONED = {
    "Cmd": ["a"],
    "Entrypoint": ["e"],
    "Env": ["A=1", "B=2"],
    "Labels": {"x": "1"},
    "ExposedPorts": {"80/tcp": {}},
}


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
    expected = {key: value for key, value in {**OPTIONED, **changed}.items() if value is not None}
    assert config.merge(OPTIONED, options) == expected
    assert OPTIONED["Env"] == ["A=1", "B=2"]


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
