# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The power is cut in the middle of a task: the host boots, nothing in its store is half made, the next run heals.

Each case begins on the same disk. When the power goes is drawn within the time that an uninterrupted run took; the
seed is told, and VESSEL_CUT_SEED takes it.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import ansible.release
import pytest

from .installed import on_the_controller
from .machine import machine, until

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.timeout(3600)]

HERE = Path(__file__).parent
VERSION = HERE.parents[1] / "plugins/module_utils/_cli/version.py"
PLAY = HERE / "stack_in_machine.yml"
SEED = os.environ.get("VESSEL_CUT_SEED") or str(random.randrange(1 << 32))
MOMENTS = 3  # of each kind
# Where there are directories that are renamed when they are whole.
PLACES = "/var/lib/vessel/layers /usr/local/libexec/vessel"
# An image of many files, of which each is known.
FILES = """
set -e
mkdir -p /root/tree/d
head -c 24000000 /dev/urandom | split -b 60000 -a 3 - /root/tree/d/f
(cd /root/tree && find d -type f | xargs sha256sum > /root/SUMS && mv /root/SUMS .)
tar -C /root/tree -cf /root/big.tar . && rm -r /root/tree
sync
"""
IMPORT = {"name": "big", "images": {"big": {"source": "rootfs", "path": "/root/big.tar"}}}
_SERVE = {"image": "busybox", "networks": [{"name": "n"}], "restart_policy": "always"}
SHOP = {
    "name": "shop",
    "images": {"busybox": {"source": "template", "template": "busybox"}},
    "networks": {"n": {"subnet": "10.85.0.0/24"}},
    "volumes": {"pages": {}},
    "containers": {
        "writer": {
            **_SERVE,
            "command": ["sh", "-c", "trap 'exit 0' TERM; echo shop > /pages/index.html; sleep 1000000 & wait"],
            "volumes": ["pages:/pages"],
            "healthcheck": {"test": ["CMD", "test", "-s", "/pages/index.html"], "interval": "1s"},
        },
        "web": {
            **_SERVE,
            "command": ["sh", "-c", "trap 'exit 0' TERM; httpd -f -p 80 -h /pages & wait"],
            "volumes": ["pages:/pages:ro"],
            "published_ports": ["18080:80"],
            "depends_on": {"writer": "healthy"},
        },
    },
}


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """With an archive and nothing of ours; ``clean`` is this state."""
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("needs QEMU: make test-vm installs it")
    name = f"power-cut-{os.getpid()}"
    tmp = tmp_path_factory.mktemp("machine")
    words = ("--publish", "18080", "--memory", "768")
    with machine(name, tmp, *words, collections=on_the_controller(tmp)) as made:
        made.ssh(FILES)
        made.write("/root/store_whole.py", (HERE / "store_whole.py").read_text())
        made.write("/root/version.py", VERSION.read_text())
        made.save("clean")
        yield made


@pytest.fixture(scope="module")
def shop_takes(host):
    return uninterrupted(host, SHOP)


@pytest.fixture(scope="module")
def import_takes(host):
    return uninterrupted(host, IMPORT)


def uninterrupted(host, stack) -> float:
    """Seconds of a run."""
    host.load("clean")
    start = time.monotonic()
    host.play(PLAY, stack=stack)
    return time.monotonic() - start


def moment(kind: str, number: int) -> float:
    """A part of the whole: in the first half the module is on its way, then one moment in each part of the rest."""
    return 0.5 + 0.5 * (number + random.Random(f"{SEED} {kind} {number}").random()) / MOMENTS


def cut(host, stack, seconds: float) -> None:
    with host.begin(PLAY, stack=stack) as playing:
        time.sleep(seconds)
        host.cut_power()
        playing.kill()
    host.power_on()


def failed_units(host) -> list[str]:
    return [line.split()[0] for line in host.ssh("systemctl --failed --plain --no-legend").splitlines()]


def comes_back(host) -> None:
    """It booted from a journal that was not closed; what is there is whole, and who could not restore said why."""
    assert "EXT4-fs" in host.ssh("journalctl --boot --dmesg --grep 'EXT4-fs.*(recovery complete|recovering)'")
    assert host.ssh(f"python3 /root/store_whole.py /root/version.py {ansible.release.__version__}") == ""
    failed = failed_units(host)
    assert set(failed) <= {"vessel-restore.service"}
    if failed:
        said = host.ssh("journalctl --boot --unit vessel-restore.service --output cat")
        assert "vessel: " in said, said
        assert "Traceback" not in said, said


def heals(host, stack) -> None:
    host.play(PLAY, stack=stack)
    assert "changed=0" in host.play(PLAY, stack=stack)
    left = host.ssh(f"find {PLACES} -type d -name '*.new' -o -name '.tmp-*' 2>/dev/null || true")  # not all are there
    assert left == "", "what the cut left half made was not swept"


@pytest.mark.parametrize("number", range(MOMENTS))
def test_in_the_middle_of_a_convergence(host, shop_takes, number):
    part = moment("shop", number)
    print(f"seed {SEED}, cut at {part:.2f} of {shop_takes:.1f} s")
    host.load("clean")
    cut(host, SHOP, part * shop_takes)
    comes_back(host)
    heals(host, SHOP)
    assert until("the page", lambda: host.page(18080)) == "shop\n"


@pytest.mark.parametrize("number", range(MOMENTS))
def test_in_the_middle_of_an_import(host, import_takes, number):
    part = moment("big", number)
    print(f"seed {SEED}, cut at {part:.2f} of {import_takes:.1f} s")
    host.load("clean")
    cut(host, IMPORT, part * import_takes)
    comes_back(host)
    heals(host, IMPORT)
    assert host.ssh(f"python3 /root/store_whole.py /root/version.py {ansible.release.__version__}") == ""
