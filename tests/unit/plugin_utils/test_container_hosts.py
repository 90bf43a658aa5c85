# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken of a host's answer, and what becomes of it in an inventory."""

from __future__ import annotations

import json

import pytest
import yaml
from ansible.template import is_trusted_as_template
from ansible_collections.vessel.host.plugins.modules import container_info
from ansible_collections.vessel.host.plugins.plugin_utils import container_hosts
from ansible_collections.vessel.host.plugins.plugin_utils.container_hosts import (
    NoFacts,
    become_command,
    checked,
    connection,
    groups,
)

WEB = {
    "name": "web",
    "state": "running",
    "image": "shop/nginx:latest",
    "labels": {"app": "web", "com.example/tier": "front end", "bare": ""},
    "stacks": ["shop", "all-of-it"],
    "health": {"status": "healthy"},
}
SSH = (
    *("inventory_hostname", "ansible_host", "ansible_ssh_host", "ansible_port", "ansible_user", "ansible_pipelining"),
    *("ansible_password", "ansible_ssh_common_args"),
)
MARK = container_hosts.MARK


def answer(*containers, before="", after=""):
    return f"{before}{MARK}\r\n{json.dumps(containers)}\r\n{after}"


def test_the_facts_are_those_that_the_module_documents():
    documented = yaml.safe_load(container_info.RETURN)["containers"]["contains"]
    assert sorted(container_hosts.FACTS) == sorted(documented)


def test_an_answer():
    assert container_hosts.parse(answer(WEB)) == [WEB]
    assert container_hosts.parse(answer()) == []


def test_what_a_login_shell_says_before_is_not_the_answer():
    assert container_hosts.parse(answer(WEB, before='[{"name": "x"}] welcome\n')) == [WEB]


def test_what_is_no_fact_is_left_out():
    assert checked([{**WEB, "host": "other", "progress": True, "x y": 1}]) == [WEB]


def test_who_may_not_read_is_told_what_helps():
    denied = "\r\nvessel: /var/lib/vessel/stacks: Permission denied\r\n"
    assert container_hosts.reason(denied) == f"{denied.strip()}; only root can read that, so set become"
    assert container_hosts.reason("deploy@host: Permission denied (publickey)") == (
        "deploy@host: Permission denied (publickey)"
    )


@pytest.mark.parametrize("text", ["", "denied", MARK, f"{MARK} {{}}", f"{MARK} [1]", f"{MARK} {'[' * 100000}"])
def test_what_is_no_answer(text):
    with pytest.raises(NoFacts, match="did not answer"):
        container_hosts.parse(text)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"name": "web@other"}, "web@other"),
        ({"name": "a b"}, "'a b'"),
        ({"name": ["web"]}, "name"),
        ({"state": None}, "state of web"),
        ({"image": {}}, "image of web"),
        ({"labels": ["a"]}, "labels of web"),
        ({"labels": {"a": 1}}, "labels of web"),
        ({"stacks": "shop"}, "stacks of web"),
        ({"health": "good"}, "health of web"),
    ],
)
def test_facts_that_are_not_what_they_should_be(wrong, named):
    with pytest.raises(NoFacts) as caught:
        checked([{**WEB, **wrong}])
    assert named in str(caught.value)


def test_groups():
    assert list(groups(WEB, "h1", container_hosts.GROUPINGS)) == [
        "vessel_containers",
        "vessel_host_h1",
        "vessel_stack_shop",
        "vessel_stack_all-of-it",
        "vessel_label_app_web",
        "vessel_label_com.example/tier_front end",
        "vessel_label_bare",
        "vessel_image_shop/nginx:latest",
        "vessel_state_running",
        "vessel_health_healthy",
    ]
    assert list(groups({**WEB, "health": None}, "h1", ["health", "state"])) == [
        "vessel_containers",
        "vessel_state_running",
    ]


def test_no_fact_is_a_variable_that_ansible_connects_by():
    names = container_hosts.variables(dict.fromkeys(container_hosts.FACTS, ""), "h1")
    assert names["vessel_host"] == "h1"
    assert all(name.startswith("vessel_") for name in names)


def reached(own, templates=()):
    return connection("web", "h1", own, SSH, lambda value: value in templates)


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        ({}, {"ansible_host": "h1"}),
        ({"ansible_host": "10.0.0.1", "ansible_port": 22}, {"ansible_host": "10.0.0.1", "ansible_port": 22}),
        ({"ansible_ssh_host": "10.0.0.1"}, {"ansible_ssh_host": "10.0.0.1"}),
        ({"ansible_python_interpreter": "/x", "color": "red", "ansible_become": True}, {"ansible_host": "h1"}),
        ({"inventory_hostname": "h1", "ansible_pipelining": False}, {"ansible_host": "h1"}),
        ({"ansible_vessel_root": "/r"}, {"ansible_host": "h1", "ansible_vessel_root": "/r"}),
        ({"ansible_connection": "ssh", "ansible_vessel_container": "db"}, {"ansible_host": "h1"}),
    ],
)
def test_how_it_is_reached(own, wanted):
    always = {"ansible_connection": "vessel.host.container", "ansible_vessel_container": "web"}
    assert reached(own) == {**always, **wanted}


def test_templates_are_the_hosts_own_and_name_no_host():
    """A host's name may come from anywhere, and is not put into what is evaluated."""
    found = reached({"ansible_password": "{{ vault }}", "ansible_ssh_common_args": object()}, ["{{ vault }}"])
    for name in ("ansible_password", "ansible_ssh_common_args"):
        assert found[name] == f"{{{{ hostvars[vessel_host]['{name}'] }}}}"
        assert is_trusted_as_template(found[name])


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["sudo"], "sudo -n"),
        (["ansible.builtin.sudo", "root"], "sudo -n"),
        (["sudo", "admin", "/opt/my sudo"], "'/opt/my sudo' -n -u admin"),
        (["community.general.doas"], "doas -n"),
        (["su"], ""),
    ],
)
def test_how_one_becomes_root_on_the_host(words, command):
    assert become_command(*words) == command
