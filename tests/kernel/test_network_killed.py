# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that is killed while it writes rules leaves none that no later run takes away."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import firewall, store
from ansible_collections.vessel.host.plugins.module_utils._kernel import namespaces
from ansible_collections.vessel.host.plugins.module_utils._network.observe import Snapshot
from ansible_collections.vessel.host.plugins.module_utils._options.network import OPTIONS, complete
from ansible_collections.vessel.host.plugins.module_utils._options.record import parse_options
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

pytestmark = pytest.mark.root


@pytest.fixture
def paths(tmp_path):
    """An installation in a network namespace of the test's thread."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    namespaces.unshare(namespaces.CLONE_NEWNET)
    try:
        yield Paths.at(str(tmp_path / "vessel"))
    finally:
        namespaces.setns(home, namespaces.CLONE_NEWNET)
        os.close(home)


def declare(paths, name, **options):
    given = parse_options(OPTIONS, options)
    seen = Snapshot({}, {}, [])
    store.write_spec(
        paths, "networks", name, complete(given, None, name=name, tag="", taken=[], whole=False, seen=seen)
    )


def tables():
    return subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout.split("\n")[:-1]


def killed_once_the_rules_are_there(paths):
    pid = os.fork()
    if not pid:
        try:
            firewall.nftables.digest = lambda value: os.kill(os.getpid(), signal.SIGKILL)
            firewall.sync(paths)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


def test_the_table_of_who_may_talk_goes(paths):
    declare(paths, "shop", subnet="10.1.2.0/24", allow=[])
    killed_once_the_rules_are_there(paths)
    assert tables() == [f"table bridge {paths.nft_table}", f"table inet {paths.nft_table}"]
    store.remove_spec(paths, "networks", "shop")
    assert firewall.sync(paths)
    assert tables() == []
    assert not firewall.sync(paths)
