# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shop, as ``make demo`` converges it: nginx, php-fpm and MariaDB, in an installation of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .place import Place

pytestmark = pytest.mark.root

CHECKOUT = Path(__file__).parents[2]
PORT = 28080
ROW = "INSERT INTO shop.goods VALUES ('a kept row', 5)"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(str(tmp_path_factory.mktemp("shop") / "vessel"))
    yield place
    place.task("stack", name="shop", state="absent")
    place.task("prune", build_cache=True, images=True)
    place.remove()


def converge(place: Place) -> str:
    """What ansible-playbook prints."""
    play = [str(Path(sys.executable).parent / "ansible-playbook"), "playbooks/shop.yml"]
    play += ["-e", f"shop_port={PORT}", "-e", "shop_subnet=10.88.77.0/24"]
    environ = {**os.environ, "VESSEL_ROOT": place.root, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")}
    done = subprocess.run(play, cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def page() -> str:
    fetch = ["curl", "-fs", "--retry", "20", "--retry-all-errors", "--retry-delay", "1", f"http://127.0.0.1:{PORT}/"]
    return subprocess.run(fetch, capture_output=True, text=True, timeout=60, check=True).stdout


def test_the_shop_runs_twice_and_keeps_its_data(place):
    first = converge(place)
    assert "a vessel costs 19.90" in first
    again = converge(place)
    assert "changed=0" in again
    assert page() == "a vessel costs 19.90\n"
    assert place.inside("db", "mariadb", "-e", ROW).returncode == 0
    for name in ("nginx", "php", "db"):
        place.task("container", name=name, state="absent")
    converge(place)
    assert page() == "a kept row costs 5.00\na vessel costs 19.90\n"


def test_the_bases_layer_is_on_the_disk_once_and_in_all_three(place):
    base = place.task("image_info", name="debian")["images"][0]["layers"][0]
    lowest = set()
    for name in ("db", "php", "nginx"):
        mounts = Path(f"/proc/{place.facts(name)['pid']}/mountinfo").read_text().splitlines()
        root = next(line for line in mounts if line.split()[4] == "/")
        lowest.add(root.partition("lowerdir=")[2].partition(",")[0].split(":")[-1])
    assert len(lowest) == 1
    digest = base["digest"] if isinstance(base, dict) else base
    assert lowest.pop().endswith(digest.rpartition(":")[2])


def test_one_main_process_each_and_the_declared_limits(place):
    commands = {"db": "mariadbd", "php": "php-fpm8.2", "nginx": "nginx"}
    for name, command in commands.items():
        assert Path(f"/proc/{place.facts(name)['pid']}/comm").read_text().strip() == command
    limits = place.facts("nginx")["limits"]
    assert limits["memory"]["limit"] == 64 << 20
    assert limits["cpu"]["shares"] == 512
    assert limits["cpu"]["cpus"] == "0"
    assert limits["pids"]["limit"] == 10


def test_they_started_in_their_order(place):
    started = [place.facts(name)["started_at"] for name in ("db", "php", "nginx")]
    assert started == sorted(started)


def test_no_secret_is_in_the_state_or_the_processes(place):
    secret = b"for-the-demonstration-only"
    for top in (place.paths.state, f"{place.paths.run}/bundles"):
        for path in Path(top).rglob("*"):
            if path.is_file() and "upper" not in path.parts and "layers" not in path.parts and "data" not in path.parts:
                assert secret not in path.read_bytes(), path
    for name in ("db", "php", "nginx"):
        pid = place.facts(name)["pid"]
        assert secret not in Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
