# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed anywhere: SIGKILL before and after each side effect; the next run ends as declared, and absent leaves nothing.

The module is killed from inside its own process, at the n-th call or return of a function that has a side effect, and
in one more sweep by strace at the n-th system call of those that change something.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from .place import Place
from .test_bad_input import ours

pytestmark = pytest.mark.root

STACK = {
    "name": "s",
    "networks": {"m": {"subnet": "10.79.6.0/24"}},
    "volumes": {"data": {}},
    "containers": {
        "a": {"image": "bb", "networks": [{"name": "m"}], "volumes": ["data:/data"], "memory": "32m"},
        "b": {
            "image": "bb",
            "networks": [{"name": "m"}],
            "published_ports": ["127.0.0.1:28955:80"],
            "secrets": [{"name": "word", "content": "swordfish"}],
            "depends_on": ["a"],
        },
    },
}
GONE = {"name": "s", "state": "absent"}
# Functions of the engine with a side effect, by name; the sweep meets each before and after.
EFFECTS = [
    "write_spec",
    "remove_spec",
    "write_atomic",
    "ensure",
    "create",
    "save_attachment",
    "drop_attachment",
    "home",
    "bundle",
    "write",
    "write_in_place",
    "sync",
    "apply",
    "submit",
    "disconnect",
    "delete",
    "discard",
    "remove_tree",
    "add_veth",
    "add_bridge",
    "add_address",
    "mount",
    "set_default_route",
    "install",
    "spawn",
]
# The default is a sample that suits every run; VESSEL_KILL_STRIDE=1 sweeps them all.
STRIDE = int(os.environ.get("VESSEL_KILL_STRIDE", "9"))

PROGRAM = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
from importlib import import_module
from ansible.module_utils.testing import patch_module_args
main = import_module("ansible_collections.vessel.host.plugins.modules.stack").main
effects, at, seen = set(sys.argv[3].split()), int(sys.argv[2]), 0
def watch(frame, event, argument):
    global seen
    code = frame.f_code
    if event in ("call", "return") and code.co_name in effects and "module_utils/_" in code.co_filename:
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)
try:
    with patch_module_args(json.load(sys.stdin)):
        sys.setprofile(watch)
        main()
finally:
    sys.setprofile(None)
    print(seen, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(str(tmp_path_factory.mktemp("killed") / "vessel"))
    place.busybox()
    yield place
    place.remove()


def killed(
    place: Place, args: dict[str, Any], at: int, strace: list[str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the module in a process that dies at the n-th effect (0: it lives, and tells how many there are)."""
    given = {"root": place.root, **args, "_ansible_check_mode": False, "_ansible_module_name": "vessel.host.stack"}
    collections = os.path.join(os.path.dirname(__file__), "..", "..", "collection")
    command = [sys.executable, "-c", PROGRAM, collections, str(at), " ".join(EFFECTS)]
    done = subprocess.run(
        [*(strace or []), *command], input=json.dumps(given), capture_output=True, text=True, timeout=120, check=False
    )
    return done


def heals(place: Place, clean: set[str]) -> None:
    """The next run ends as declared, the one after changes nothing, and absent leaves what was there before."""
    place.task("stack", **STACK)
    again = place.task("stack", **STACK)
    assert not again["changed"], again["actions"]
    assert [again["containers"][name]["state"] for name in ("a", "b")] == ["running", "running"]
    assert place.sh("b", "cat /run/secrets/word; grep -c 10.79.6 /etc/hosts") == "swordfish3"
    gone(place, clean)


def gone(place: Place, clean: set[str]) -> None:
    place.task("stack", **GONE)
    place.task("volume", name="data", state="absent")
    assert ours(place) == clean
    assert not place.task("stack", **GONE)["changed"]


def test_at_each_effect_of_making(place):
    clean = ours(place)
    count = 0
    for dummy in range(2):  # the first of all installs the engine too
        done = killed(place, STACK, 0)
        assert done.returncode == 0, done.stdout
        count = int(done.stderr.split()[-1])
        gone(place, clean)
    assert count > 60
    for at in range(1, count, STRIDE):
        dead = killed(place, STACK, at)
        assert dead.returncode == -9, f"effect {at}: {dead.stdout} {dead.stderr}"
        heals(place, clean)


def test_at_each_effect_of_removing(place):
    clean = ours(place)
    place.task("stack", **STACK)
    done = killed(place, GONE, 0)
    count = int(done.stderr.split()[-1])
    gone(place, clean)
    assert count > 10
    for at in range(1, count, STRIDE):
        place.task("stack", **STACK)
        assert killed(place, GONE, at).returncode == -9
        gone(place, clean)


def test_absent_alone_cleans_up_after_a_kill(place):
    clean = ours(place)
    for at in (5, 25, 45, 65):
        killed(place, STACK, at)
        gone(place, clean)


CALLS = "rename,mkdir,mount,unlink,unlinkat,rmdir,move_mount,unshare,ftruncate,fsync,sendto"


def test_at_system_calls(place):
    """For one run, by strace: the process dies on entry to the n-th call that changes something."""
    clean = ours(place)
    survived = 0
    for at in range(1, 400, 8 * STRIDE):
        strace = [
            "strace",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            f"trace={CALLS}",
            "-e",
            f"inject={CALLS}:signal=KILL:when={at}",
        ]
        dead = killed(place, STACK, 0, strace)
        survived += dead.returncode == 0
        heals(place, clean)
        if survived > 1:
            break
    assert survived < 2 or at > 40
