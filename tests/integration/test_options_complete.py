# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No option is forgotten: each record and each documented option has a row, or a test of its own that is named here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.vessel.host.plugins.doc_fragments.installation import ModuleDocFragment
from ansible_collections.vessel.host.plugins.module_utils._converge import draining, prune
from ansible_collections.vessel.host.plugins.module_utils._options import container as container_options
from ansible_collections.vessel.host.plugins.module_utils._options import image as image_options
from ansible_collections.vessel.host.plugins.module_utils._options import network as network_options
from ansible_collections.vessel.host.plugins.module_utils._options import stack as stack_options
from ansible_collections.vessel.host.plugins.module_utils._options import volume as volume_options
from ansible_collections.vessel.host.plugins.module_utils._options.record import Option

# They fill the table.
from . import options_build, options_container, options_image, options_resources  # noqa: F401 # pylint: disable=unused-import
from .options_actions import ACTS
from .options_table import ROWS
from .warm import MODULES, WarmPlace

RECORDS: dict[str, tuple[Option, ...]] = {
    "container": (*container_options.OPTIONS, *container_options.DIRECTIVES),
    "volume": (*volume_options.OPTIONS, *volume_options.DIRECTIVES),
    "network": (*network_options.OPTIONS, *network_options.DIRECTIVES),
    "image": (*image_options.OPTIONS, *image_options.DIRECTIVES),
    "stack": stack_options.OPTIONS,
    "prune": prune.OPTIONS,
    "drain": draining.OPTIONS,
    **{
        name: import_module(f"ansible_collections.vessel.host.plugins.modules.{name}").OPTIONS
        for name in ("container_exec", "container_copy", "container_logs", "volume_info")
    },
}
# Options that are more than a value which goes from one to another: the file and the function that is their test.
OWN_TESTS = {
    "container": {
        "name": "test_options_actions.test_state",
        "state": "test_options_actions.test_state",
        "healthy_wait_timeout": "test_options_actions.test_state",
        "paused": "test_options_actions.test_paused",
        "restart": "test_options_actions.test_made_anew_each_time",
        "recreate": "test_options_actions.test_made_anew_each_time",
        "max_disruption": "test_options_actions.test_max_disruption",
        "pull": "test_options_registry.test_pull_of_a_container",
    },
    "volume": {"break_lease": "test_volume_moves.test_a_lease_is_broken_for_a_host_that_is_known_to_be_off"},
    "stack": {
        "name": "test_options_stack.test_containers_and_name",
        "containers": "test_options_stack.test_containers_and_name",
        "containers.depends_on": "test_options_stack.test_depends_on",
        "images": "test_options_stack.test_images_networks_volumes",
        "networks": "test_options_stack.test_images_networks_volumes",
        "volumes": "test_options_stack.test_images_networks_volumes",
        "state": "test_options_stack.test_state",
        "prune": "test_options_stack.test_prune",
        "revision": "test_options_stack.test_history",
        "history_limit": "test_options_stack.test_history",
        "recreate": "test_options_stack.test_recreate",
        "max_disruption": "test_options_stack.test_max_disruption",
        "wait_timeout": "test_options_stack.test_wait_timeout",
        "compose": "test_compose.test_an_application_and_its_database",
        "compose_env": "test_compose.test_configs",
        "compose_env_files": "test_compose.test_files_that_are_somewhere_else",
        "compose_profiles": "test_compose.test_anchors_profiles_and_one_that_ends",
        "compose_project_directory": "test_compose.test_files_that_are_somewhere_else",
        "compose_target_directory": "test_compose.test_what_is_built_here",
    },
    "image": {
        "pull": "test_options_registry.test_pull",
        "push": "test_options_registry.test_push",
        "verify": "test_options_registry.test_verify",
        "public_key": "test_options_registry.test_public_key",
        "platform": "test_options_registry.test_platform",
        "mirrors": "test_options_registry.test_mirrors",
        "tls_verify": "test_options_registry.test_tls_verify_and_ca_path",
        "ca_path": "test_options_registry.test_tls_verify_and_ca_path",
        "client_cert": "test_options_registry.test_client_cert_and_client_key",
        "client_key": "test_options_registry.test_client_cert_and_client_key",
        "auth_file": "test_options_registry.test_auth_file",
        "username": "test_options_registry.test_username_and_password",
        "password": "test_options_registry.test_username_and_password",
        "container": "test_options_registry.test_container_is_committed",
        "layers.add.checksum": "test_options_registry.test_a_file_is_added_from_an_address",
        "max_size": "test_options_registry.test_max_size",
        "device_nodes": "test_options_registry.test_device_nodes",
        "src": "test_image_controller.test_a_file_is_sent_once",
    },
    "stack_info": {"name": "test_options_stack.test_history"},
    "image_export": dict.fromkeys(("name", "path", "format", "compress", "force"), "test_options_registry.test_export"),
    "prune": dict.fromkeys(prune.KINDS, "test_options_actions.test_prune"),
    "engine": {"state": "test_options_actions.test_engine"},
    "drain": dict.fromkeys(("state", "stop"), "test_drain.test_what_runs_stops_in_order_and_comes_back"),
}


def flat(options: Iterable[Option], path: str = "") -> Iterator[str]:
    for option in options:
        yield f"{path}{option.name}"
        yield from flat(option.options, f"{path}{option.name}.")


def documented(module: str) -> Iterator[str]:
    text = import_module(f"ansible_collections.vessel.host.plugins.modules.{module}").DOCUMENTATION
    return words(yaml.safe_load(text).get("options") or {})


def words(options: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, body in options.items():
        yield f"{path}{name}"
        yield from words(body.get("suboptions") or {}, f"{path}{name}.")


def having_rows(module: str) -> set[str]:
    rows = {row.option for row in ROWS.get(module, [])}
    return rows | {act.option for act in ACTS if act.module == module} | set(OWN_TESTS.get(module, {}))


@pytest.mark.parametrize("module", MODULES)
def test_every_option_has_a_row(module: str) -> None:
    wanted = {*documented(module), *flat(RECORDS.get(module, ()))}
    if module == "image":
        wanted |= set(flat(image_options.TEMPLATE_OPTIONS, "template_options."))
    if module == "stack":
        wanted.add("containers.depends_on")
    assert wanted - having_rows(module) == set()
    assert having_rows(module) - wanted == set(), "a row of an option that there is not"


@pytest.mark.parametrize("test", sorted({test for tests in OWN_TESTS.values() for test in tests.values()}))
def test_own_tests_are_there(test: str) -> None:
    file, name = test.split(".")
    assert callable(getattr(import_module(f"ansible_collections.vessel.host.tests.integration.{file}"), name))


def test_the_option_that_all_modules_have() -> None:
    assert set(yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]) == {"root"}


@pytest.mark.root
def test_root_and_its_variable(shared: WarmPlace, tmp_path: Path) -> None:
    """Two installations know nothing of each other; the variable of the target names one too."""
    other = str(tmp_path / "vessel")
    shared.task("volume", name="thing")
    assert shared.server.run("volume_info", {"root": other})["volumes"] == []
    for module in MODULES:
        if module.endswith("_info") and module != "host_info":
            here = shared.server.run(module, {}, environ={"VESSEL_ROOT": shared.root})
            assert here == shared.task(module)
    assert shared.server.run("volume", {"root": other, "name": "thing"})["changed"]
    assert (tmp_path / "vessel/lib/volumes/thing/data").is_dir()
    shared.task("volume", name="thing", state="absent")
    assert shared.server.run("volume", {"root": other, "name": "thing", "state": "absent"})["changed"]
    assert not (tmp_path / "vessel/lib").exists()
    assert shared.server.run("host_info", {"root": other})["host"]["kernel"]
