# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option is said in every form, or refused with a reason; none is dropped in silence, and no secret is told."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleTemplatePluginError
from ansible_collections.vessel.host.plugins.module_utils._options import container as container_options
from ansible_collections.vessel.host.plugins.module_utils._options import image as image_options
from ansible_collections.vessel.host.plugins.module_utils._options import network as network_options
from ansible_collections.vessel.host.plugins.module_utils._options import stack as stack_options
from ansible_collections.vessel.host.plugins.module_utils._options import volume as volume_options
from ansible_collections.vessel.host.plugins.plugin_utils.export import (
    compose,
    compose_parts,
    declaration,
    kubernetes,
    manifests,
    quadlet,
    quadlet_parts,
    service,
)
from ansible_collections.vessel.host.plugins.plugin_utils.export.filtering import (
    to_compose,
    to_kubernetes,
    to_quadlet,
)
from ansible_collections.vessel.host.tests import declared

FILTERS = {"compose": to_compose, "quadlet": to_quadlet, "kubernetes": to_kubernetes}
ORDER = ("containers", "networks", "volumes", "images")
TABLES = {
    "compose": (compose.CONTAINER, compose_parts.NETWORK, compose_parts.VOLUME, compose_parts.IMAGE),
    "quadlet": (quadlet.CONTAINER, quadlet_parts.NETWORK, quadlet_parts.VOLUME, quadlet_parts.IMAGE),
    "kubernetes": (kubernetes.CONTAINER, manifests.NETWORK, manifests.VOLUME, kubernetes.IMAGE),
}
STACK = {option.name: option for option in stack_options.OPTIONS}
RECORDS = {kind: {option.name: option for option in STACK[kind].each} for kind in declared.KINDS}
CASES = list(declared.stacks())
IDS = [case[0] for case in CASES]
# Said in so many words by what the form does anyway, which the table names.
NO_DIFFERENCE = {
    ("kubernetes", "healthcheck", 4),  # an image's own check is not heeded there
    ("kubernetes", "ipc_mode", 1),  # who may be joined; who joins is refused
    ("kubernetes", "restart_policy", 0),  # what is not said is restarted there
    ("kubernetes", "restart_policy", 1),
}


def test_the_records_are_those_of_the_modules():
    """The stack's own records have all of what each module declares."""
    assert RECORDS["containers"].keys() >= container_options.BY_NAME.keys()
    for kind, module in (("networks", network_options), ("volumes", volume_options), ("images", image_options)):
        assert RECORDS[kind].keys() == {option.name for option in module.OPTIONS}


def test_what_else_a_stack_has_is_of_the_task():
    assert STACK.keys() == {"name", "state", *declaration.KINDS, *declaration.DIRECTIVES, *declaration.READ_BY_TASK}


@pytest.mark.parametrize("form", FILTERS)
def test_a_compose_file_is_not_passed_over(form):
    with pytest.raises(AnsibleTemplatePluginError, match=r"compose: 'compose\.yaml' is of the controller's"):
        FILTERS[form]({"name": "site", "compose": "compose.yaml"}, lossy=True)


@pytest.mark.parametrize("form", TABLES)
def test_every_option_has_its_rule(form):
    for kind, rules in zip(ORDER, TABLES[form]):
        assert sorted(rules) == sorted(RECORDS[kind]), kind


@pytest.mark.parametrize("form", TABLES)
def test_every_rule_says_where_or_why(form):
    for rules in TABLES[form]:
        for name, rule in rules.items():
            assert rule.words or rule.why, name
            assert bool(rule.words) == (rule.write is not None), name


@pytest.mark.parametrize("kind", declared.KINDS)
def test_every_option_has_a_sample(kind):
    assert sorted(declared.KINDS[kind][1]) == sorted(RECORDS[kind])


@pytest.mark.parametrize("form", FILTERS)
def test_what_all_can_say_is_refused_by_none(form):
    assert FILTERS[form](declared.base()) == FILTERS[form](declared.base(), lossy=True)


def left_out(form, told):
    """What the output itself says is missing in it."""
    if form == "compose":
        return set(told.get(service.LEFT_OUT, ()))
    if form == "quadlet":
        lines = [line for text in told.values() for line in text.splitlines()]
        return {line.removeprefix("# left out: ") for line in lines if line.startswith("# left out: ")}
    notes = [manifest["metadata"].get("annotations", {}).get(manifests.LEFT_OUT, "") for manifest in told]
    return {line for note in notes for line in note.splitlines()}


@pytest.mark.parametrize("form", FILTERS)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_no_option_is_dropped_in_silence(form, case):
    name, kind, option, without, with_it = case
    before, after = FILTERS[form](without, lossy=True), FILTERS[form](with_it, lossy=True)
    assert "hunter2" not in json.dumps(after)
    missing = left_out(form, after) - left_out(form, before)
    rule = dict(zip(ORDER, TABLES[form]))[kind][option]
    if rule.of_task or (form, option, int(name.rpartition("[")[2][:-1])) in NO_DIFFERENCE:
        assert before == after
    else:
        assert before != after
    subject = declared.KINDS[kind][0] + (":latest" if kind == "images" else "")
    # Whose namespace is joined is waited for, too, whether that is said or not.
    joined = ("containers.web.depends_on",) if option in ("network_mode", "pid_mode", "ipc_mode") else ()
    own = (f"{kind}.{subject}.{option}", *joined)
    assert all(line.startswith(own) for line in missing)
    if left_out(form, after):
        with pytest.raises(AnsibleTemplatePluginError) as error:
            FILTERS[form](with_it)
        assert all(line in str(error.value) for line in left_out(form, after))
        assert "hunter2" not in str(error.value)
    else:
        assert FILTERS[form](with_it) == after


def test_secret_values_are_written_when_they_are_asked_for():
    stack = declared.base()
    stack["containers"]["web"]["secrets"] = [{"name": "key", "content": declared.SECRET}]
    manifests_without, manifests_with = to_kubernetes(stack), to_kubernetes(stack, secret_values=True)
    assert [found["kind"] for found in manifests_without].count("Secret") == 0
    (secret,) = [found for found in manifests_with if found["kind"] == "Secret"]
    assert secret["stringData"] == {"key": declared.SECRET}
    (mounted,) = [
        volume["secret"]["secretName"]
        for found in manifests_without
        if found["kind"] == "Deployment"
        for volume in found["spec"]["template"]["spec"].get("volumes", ())
    ]
    assert mounted == secret["metadata"]["name"]


def test_secrets_of_one_name_and_two_contents_are_two():
    stack = declared.base()
    for name in ("web", "other"):
        stack["containers"][name]["secrets"] = [{"name": "key", "content": name}, {"name": "same", "content": "same"}]
    assert sorted(to_compose(stack)["secrets"]) == ["other-key", "same", "web-key"]
    assert "Secret=site-web-key,type=mount,mode=0400,target=key" in to_quadlet(stack)["site-web.container"]


def test_a_bad_value_is_told_without_the_secret_beside_it():
    stack = declared.base()
    stack["containers"]["web"]["secrets"] = [{"name": "key", "content": 123456.5}]
    for form in FILTERS.values():
        with pytest.raises(AnsibleTemplatePluginError, match=r"containers\.web\.secrets\[0\]\.content") as error:
            form(stack)
        assert "123456.5" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"stat": "present"}, "stat: 'present' belongs to no option"),
        ({"state": "absent"}, "state: 'absent' declares nothing"),
        ({"containers": {"web": {}}}, "containers.web.image: is missing"),
        ({"containers": {"web": {"image": "a", "memory": "x"}}}, "containers.web.memory: 'x' is not a size"),
        ({"containers": {"web": {"image": "a", "depends_on": ["b"]}}}, "names b, which is no container of the stack"),
    ],
)
def test_what_a_task_would_refuse_is_refused(change, told):
    for form in FILTERS.values():
        with pytest.raises(AnsibleTemplatePluginError) as error:
            form({**declared.base(), **change}, lossy=True)
        assert told in str(error.value)


def test_an_owner_is_not_looked_up_here():
    """root is nobody's name but the target's."""
    stack = declared.base()
    stack["volumes"]["memory"] = {"driver": "tmpfs", "owner": "root"}
    with pytest.raises(AnsibleTemplatePluginError, match=r"volumes\.memory\.owner: 'root' can't be said"):
        to_compose(stack)


def test_a_path_of_the_target_stays_as_it_is_written(monkeypatch):
    monkeypatch.setenv("HOME", "/home/here")
    stack = declared.base()
    stack["images"] = {"busybox": {"auth_file": "~/$WHERE/auth.json"}}
    assert "AuthFile=~/$$WHERE/auth.json" in to_quadlet(stack)["site-busybox.image"]
