# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host without nft: only who declares a network needs it."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import firewall, store
from ansible_collections.vessel.host.plugins.module_utils._errors import DependencyError
from ansible_collections.vessel.host.plugins.module_utils._network.observe import Snapshot
from ansible_collections.vessel.host.plugins.module_utils._options.network import OPTIONS, complete
from ansible_collections.vessel.host.plugins.module_utils._options.record import parse_options
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths


@pytest.fixture
def paths(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return Paths.at(str(tmp_path / "vessel"))


def test_nobody_misses_it(paths):
    assert firewall.differences(paths) == []
    assert not firewall.plan(paths)
    assert not firewall.sync(paths)


def test_a_network_does_and_before_anything_is_changed(paths):
    with pytest.raises(DependencyError, match="nft is missing"):
        firewall.plan(paths, changed=True)
    given = parse_options(OPTIONS, {"subnet": "10.1.2.0/24"})
    seen = Snapshot({}, {}, [])
    store.write_spec(paths, "networks", "n", complete(given, None, name="n", tag="", taken=[], whole=False, seen=seen))
    with pytest.raises(DependencyError, match="install nftables"):
        firewall.differences(paths)
