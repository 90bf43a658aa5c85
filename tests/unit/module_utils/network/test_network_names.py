# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hosts, resolv.conf, and how they are written under a reader."""

from __future__ import annotations

import os

import pytest
from ansible_collections.vessel.host.plugins.module_utils._network import names
from ansible_collections.vessel.host.plugins.module_utils._network.model import Endpoint, Name

DB = Endpoint("db", "shop", "eth0", "ve1", "10.89.0.2/24", "fd00::2/64", aliases=("mysql", "db"))
PHP = Endpoint("php", "shop", "eth0", "ve2", "10.89.0.3/24")


def test_network_lines_name_each_address_once():
    assert names.network_lines([DB, PHP]) == "10.89.0.2\tdb mysql\nfd00::2\tdb mysql\n10.89.0.3\tphp\n"


def test_names_of_elsewhere_come_after_those_that_are_here():
    elsewhere = [
        Name("web", ("10.89.1.2", "fd00::102")),
        Name("db", ("10.89.1.9",)),  # it is here now, whatever others have been told
        Name("mysql", ("10.89.0.2", "10.89.1.3")),  # an alias of containers of two hosts
        Name("store", ("10.89.0.2",)),  # a name for what has come here, which must not go with it
    ]
    lines = names.network_lines([DB], elsewhere).splitlines()
    assert lines[:2] == names.network_lines([DB]).splitlines()
    assert lines[2:] == ["10.89.1.2\tweb", "fd00::102\tweb", "10.89.1.3\tmysql", "10.89.0.2\tstore"]


def test_hosts_begins_with_loopback_and_ones_own_names():
    text = names.hosts("web1", "example.org", [PHP], [names.network_lines([DB])], {"printer": "10.0.0.9"})
    lines = text.splitlines()
    assert lines[:2] == ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    assert lines[5:] == [
        "10.89.0.3\tweb1.example.org web1",
        "10.0.0.9\tprinter",
        "10.89.0.2\tdb mysql",
        "fd00::2\tdb mysql",
    ]


def test_who_has_no_network_finds_itself_all_the_same():
    assert "127.0.1.1\tweb1\n" in names.hosts("web1", "", [], [], {})


@pytest.fixture
def host(monkeypatch):
    files = {}
    monkeypatch.setattr(names, "_read", lambda path: files.get(path, ""))
    return files


def test_declared_resolver_wins_and_the_rest_is_the_hosts(host):
    host["/etc/resolv.conf"] = (
        "# made by hand\nnameserver 10.0.0.1\nsearch a.example\nsearch b.example c\noptions rotate\n"
    )
    assert names.resolv_conf([], [], []) == "nameserver 10.0.0.1\nsearch b.example c\noptions rotate\n"
    assert names.resolv_conf(["9.9.9.9"], ["x"], []) == "nameserver 9.9.9.9\nsearch x\noptions rotate\n"


def test_stub_on_loopback_is_looked_behind(host):
    host["/etc/resolv.conf"] = "nameserver 127.0.0.53\nsearch lan\n"
    assert names.resolv_conf([], [], []) == "search lan\n"
    host["/run/systemd/resolve/resolv.conf"] = "nameserver 10.0.0.1\nnameserver ::1\nsearch lan\n"
    assert names.resolv_conf([], [], []) == "nameserver 10.0.0.1\nsearch lan\n"


def test_resolved_that_is_not_in_use_is_not_asked(host):
    host["/etc/resolv.conf"] = "nameserver 10.0.0.1\n"
    host["/run/systemd/resolve/resolv.conf"] = "nameserver 10.0.0.2\n"
    assert names.resolv_conf([], [], []) == "nameserver 10.0.0.1\n"


@pytest.mark.parametrize("content", ["shorter\n", "longer than it was before\n", ""])
def test_written_in_place_and_only_when_it_differs(tmp_path, content):
    path = tmp_path / "hosts"
    assert names.write_in_place(str(path), "as it was\n")
    before = os.stat(path)
    with open(path) as reader:
        assert names.write_in_place(str(path), content)
        assert os.stat(path).st_ino == before.st_ino
        assert reader.read() == content
    assert not names.write_in_place(str(path), content)
