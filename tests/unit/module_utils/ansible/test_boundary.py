# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task gives, what a task gets back, and what it reads when something is wrong."""

from __future__ import annotations

import json
import os

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.vessel.host.plugins.module_utils._ansible import module as border
from ansible_collections.vessel.host.plugins.module_utils._converge.plan import Plan, Staged, Step
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError, NotFoundError, StoreError
from ansible_collections.vessel.host.plugins.module_utils._options import parse
from ansible_collections.vessel.host.plugins.module_utils._options import stack as stack_options
from ansible_collections.vessel.host.plugins.module_utils._options.record import Cost, Option, flag

OPTIONS = (
    Option("name", parse.parse_name, required=True),
    Option("state", parse.choice("present", "absent"), choices=("present", "absent"), shown_default="present",
           default="present"),
    Option("version", parse.parse_str),
    Option("size", parse.parse_size, aliases=("bytes",)),
    Option("count", parse.integer(0, 9), "int"),
    Option("mode", parse.parse_mode),
    Option("words", parse.listing(parse.parse_word), "list", elements="str"),
    Option("table", parse.mapping(parse.parse_str), "dict"),
    Option("password", parse.parse_str, secret=True),
    flag("force"),
)  # fmt: skip


@pytest.fixture(autouse=True)
def as_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def task(tmp_path, capsys):
    """The result of a task with these options; ``converge`` sees the module."""

    def call(converge=lambda module: (Plan(), dict), *, check=False, diff=False, **args):
        args = {"root": str(tmp_path / "vessel"), **args, "_ansible_check_mode": check, "_ansible_diff": diff}
        with patch_module_args(args), pytest.raises(SystemExit):
            border.run(OPTIONS, converge)
        result = json.loads(capsys.readouterr().out)
        result.pop("invocation")
        return result

    return call


def desired(task, **args):
    seen = {}

    def converge(module):
        seen.update(module.desired)
        return Plan(), dict

    result = task(converge, **args)
    assert "failed" not in result, result
    return seen


def test_options_arrive_in_canonical_form(task):
    assert desired(task, name="x", bytes="1k", mode="0640", count="3", force="yes", table={"a": 1}) == {
        "name": "x", "state": "present", "size": 1024, "mode": 0o640, "count": 3, "force": True, "table": {"a": "1"},
    }  # fmt: skip


def test_what_was_not_given_is_not_there(task):
    assert desired(task, name="x", version=None) == {"name": "x", "state": "present"}


def test_one_string_for_a_list_or_a_mapping_as_on_the_command_line(task):
    assert desired(task, name="x", words="a,b", table="a=1 b=2") == {
        "name": "x", "state": "present", "words": ["a", "b"], "table": {"a": "1", "b": "2"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        # Ansible would take the first five as 'True', '1.1', '493', 3 and 'no' without a word
        ({"version": True}, "version: True is a boolean, not a string"),
        ({"version": 1.10}, "version: 1.1 is a number that YAML may have rounded (put the value in quotes)"),
        ({"mode": 0o755}, "mode: 493 is a number; put the octal mode in quotes, as in '0755'"),
        ({"count": 3.7}, "count: 3.7 is not a whole number"),
        ({"table": {"a": False}}, "table.a: False is a boolean, not a string"),
        ({"count": "many"}, "count: 'many' is not a whole number"),
        ({"words": {"a": 1}}, "words: {'a': 1} is not a list"),
        ({"state": "presnt"}, "state: 'presnt' is not one of present, absent"),
        ({"name": "a/b"}, "name: 'a/b' is not a name"),
        ({"force": "perhaps"}, "force: 'perhaps' is not a boolean"),
        ({"root": "/srv/a,b:c"}, "root: '/srv/a,b:c' has , and : in it, by which overlayfs parts its options; use"),
        ({"root": "/srv/a\\b"}, "root: '/srv/a\\\\b' has \\ in it"),
    ],
)
def test_what_yaml_mangled_is_refused_by_name_value_and_remedy(task, args, sentence):
    result = task(**{"name": "x", **args})
    assert result["failed"] is True
    assert result["msg"].startswith(sentence)
    assert "\n" not in result["msg"]


@pytest.mark.parametrize(
    ("args", "text"),
    [({"name": "x", "nmae": "y"}, "Unsupported parameters"), ({"version": True}, "missing required arguments: name")],
)
def test_ansible_says_itself_what_is_unknown_or_missing(task, args, text):
    assert text in task(**args)["msg"]


def test_a_secret_in_a_mapping_by_name_is_not_in_the_invocation(tmp_path, capsys):
    """Ansible itself knows no options below a stack's images and containers."""
    secrets = [{"name": "key", "content": "hunter2"}]
    args = {
        "name": "shop",
        "images": {"app": {"username": "me", "password": "hunter3"}},
        "containers": {"web": {"image": "app", "secrets": secrets}},
        "root": str(tmp_path / "vessel"),
    }
    with patch_module_args(args), pytest.raises(SystemExit):
        border.run(stack_options.OPTIONS, lambda module: (Plan(), dict))
    said = capsys.readouterr().out
    assert "hunter" not in said
    assert json.loads(said)["invocation"]["module_args"]["images"]["app"]["username"] == "me"


@pytest.mark.parametrize("secret", [12345.5, "two\nlines\0", ["hunter2"]])
def test_a_secret_is_not_in_the_error(task, secret):
    result = task(name="x", password=secret)
    assert result["failed"] is True
    for word in ("12345", "two", "hunter2"):
        assert word not in json.dumps(result)


def test_without_root_become_is_named(task, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "needs root, and runs as uid 1000 (set become: true" in task(name="x")["msg"]


def plan_of(done):
    return Plan(
        [
            Step("volume x", "create", lambda: done.append("create")),
            Step("volume x", "set mtu", lambda: done.append("mtu"), option="mtu", before=1, after=2, cost=Cost.live),
        ]
    )


def test_changes_are_made_and_told(task):
    done = []
    result = task(lambda module: (plan_of(done), lambda: {"volume": {"steps": len(done)}}), name="x", diff=True)
    assert done == ["create", "mtu"]
    assert result == {
        "changed": True,
        "actions": ["volume x: create", "volume x: set mtu (live)"],
        "diff": {"before": {"volume x": {"create": None, "mtu (live)": 1}},
                 "after": {"volume x": {"create": None, "mtu (live)": 2}}},
        "volume": {"steps": 2},
    }  # fmt: skip


def test_check_mode_tells_the_same_and_does_nothing(task):
    done = []
    result = task(lambda module: (plan_of(done), dict), name="x", check=True)
    assert done == []
    assert result["changed"] is True
    assert result["actions"] == ["volume x: create", "volume x: set mtu (live)"]
    assert "diff" not in result


def test_nothing_to_do_is_not_changed(task):
    assert task(name="x") == {"changed": False, "actions": []}


@pytest.mark.parametrize(
    ("error", "sentence", "kind"),
    [
        (KernelError("mount", "/proc", 1, hint="try"), "mount /proc: Operation not permitted [EPERM] (try)",
         "KernelError"),
        (NotFoundError("image", "a"), "no such image: a", "NotFoundError"),
        (StoreError("damaged"), "damaged", "StoreError"),
        (FileNotFoundError(2, "No such file or directory", "/x"), "/x: No such file or directory [ENOENT]",
         "FileNotFoundError"),
        (OSError(28, "No space left on device", b"/x", None, "/y"), "/x -> /y: No space left on device [ENOSPC]",
         "OSError"),
    ],
)  # fmt: skip
def test_an_error_of_the_engine_is_one_sentence(task, error, sentence, kind):
    def converge(module):
        raise error

    result = task(converge, name="x")
    assert (result["failed"], result["msg"], result["error_type"]) == (True, sentence, kind)


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [("one", "two", "one; while undoing: two"), ("full", "full", "full; undoing fails in the same way")],
)
def test_what_failed_while_undoing_travels_along(task, first, second, told):
    def fail(error):
        raise error

    def converge(module):
        return Plan([Step("a", "do", lambda: fail(StoreError(first)), undo=lambda: fail(StoreError(second)))]), dict

    result = task(converge, name="x")
    assert result["msg"] == told
    assert (result["changed"], result["actions"]) == (True, ["a: do"])  # half done


def test_a_failure_tells_what_stays_done(task):
    done = []

    def fail():
        raise StoreError("no")

    def undo():
        raise StoreError("it can't be undone")

    def step(target, **options):
        return Step(target, "do", lambda: done.append(target), **options)

    def converge(*steps):
        return lambda module: (Plan([*steps, Step("last", "do", fail), step("never")]), dict)

    undone = step("undone", undo=lambda: done.remove("undone"))
    result = task(converge(undone), name="x")
    assert (result["failed"], result["changed"], result["actions"]) == (True, False, [])
    result = task(converge(step("stays"), undone, step("hidden", hidden=True), step("half", undo=undo)), name="x")
    assert (result["changed"], result["actions"]) == (True, ["stays: do", "half: do"])
    assert done == ["stays", "hidden", "half"]


def test_a_failed_stage_tells_what_stays_done_of_those_before(task):
    def fail():
        raise StoreError("no")

    def converge(module):
        first = Plan([Step("first", "do", lambda: None), Step("undone", "do", lambda: None, undo=lambda: None)])
        second = Plan([Step("second", "do", lambda: None), Step("third", "do", fail)])
        return Staged([lambda preview: first, lambda preview: second]), dict

    result = task(converge, name="x")
    assert (result["changed"], result["actions"]) == (True, ["first: do", "second: do"])


def test_a_defect_of_ours_says_so_with_its_traceback(task):
    result = task(lambda module: {}["gone"], name="x")
    assert result["msg"].startswith("unexpected KeyError: 'gone'; this is a defect of vessel.host")
    assert "test_boundary.py" in result["traceback"]


def test_locks_are_held_while_converging_and_leave_nothing(tmp_path, capsys):
    held = []

    def converge(module):
        held.append(sorted(os.listdir(f"{module.paths.run}/locks")))
        return Plan(), dict

    with patch_module_args({"name": "x", "root": str(tmp_path)}), pytest.raises(SystemExit):
        border.run(OPTIONS, converge, locks=lambda paths, desired: [("volumes", desired["name"])])
    assert held == [["volumes-x"]]
    assert os.listdir(tmp_path) == []


def test_the_environment_of_the_target_names_the_installation(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("VESSEL_ROOT", str(tmp_path))
    with patch_module_args({"name": "x"}), pytest.raises(SystemExit):
        border.report(OPTIONS, lambda module: {"state": module.paths.state})
    assert json.loads(capsys.readouterr().out)["state"] == f"{tmp_path}/lib"
