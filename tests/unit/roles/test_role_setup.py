# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role setup says in two places is the same in both, and what it ships from the controller can be imported."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile

import pytest
import yaml
from ansible_collections.vessel.host.plugins.module_utils._network import library
from ansible_collections.vessel.host.plugins.module_utils._paths import LIBRARY
from ansible_collections.vessel.host.tests.collection.gates import CHECKOUT

ROLE = CHECKOUT / "roles/setup"
PACK = ROLE / "files/pack_pyroute2.py"


def read(name):
    return yaml.safe_load((ROLE / name).read_text())


def test_documented_defaults_are_the_defaults():
    options = read("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert {name: option.get("default") for name, option in options.items()} == read("defaults/main.yml")


def test_each_family_has_the_same_words():
    families = read("vars/main.yml")["_setup_families"]
    features = read("meta/argument_specs.yml")["argument_specs"]["main"]["options"]["setup_features"]["choices"]
    words = {family: read(f"vars/{family}.yml") for family in families}
    assert sorted(path.stem for path in (ROLE / "vars").iterdir()) == sorted([*families, "main"])
    for family in families:
        assert words[family].keys() == words[families[0]].keys()
        assert sorted(words[family]["_setup_feature_packages"]) == sorted(features)


def test_the_engine_looks_where_the_role_puts_it():
    assert f"{read('vars/main.yml')['_setup_library']}/python" == LIBRARY


def test_the_floor_is_the_engines():
    scope = {}
    exec(compile(PACK.read_text(), str(PACK), "exec"), scope)
    assert scope["FLOOR"] == library.FLOOR


@pytest.fixture
def packed(tmp_path):
    """(hash, archive) of this interpreter's pyroute2, packed twice."""
    hashes = set()
    for name in ("one.tar", "two.tar"):
        argv = [sys.executable, "-I", str(PACK), str(tmp_path / name)]
        hashes.add(subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout.strip())
    assert len(hashes) == 1
    return hashes.pop(), tmp_path / "one.tar"


def test_what_is_packed_is_whole(packed, tmp_path):
    digest, archive = packed
    assert len(digest) == 16
    with tarfile.open(archive) as file:
        names = file.getnames()
        file.extractall(tmp_path / "tree")
    assert not [name for name in names if "__pycache__" in name or name.startswith(("/", ".."))]
    assert [name for name in names if "LICENSE" in name]
    program = "import json, sys; sys.path.insert(0, sys.argv[1]); import pyroute2\n"
    program += "from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket\n"
    program += "print(json.dumps([pyroute2.__file__, pyroute2.IPRoute.__name__]))"
    argv = [sys.executable, "-IS", "-c", program, str(tmp_path / "tree")]
    found = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert found == [str(tmp_path / "tree/pyroute2/__init__.py"), "IPRoute"]


def test_a_controller_without_it_is_told(tmp_path):
    argv = [sys.executable, "-IS", str(PACK), str(tmp_path / "x.tar")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "on the controller has no pyroute2 to ship" in done.stderr
    assert not list(tmp_path.iterdir())
