# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of attributes against the specification's own schema.

The schema itself is on no package index; compose-spec has pydantic models that are made from it, and nothing but them
is asked of that package.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.plugin_utils.compose import attributes, merge, services
from ansible_collections.vessel.host.plugins.plugin_utils.compose.attributes import TOP, Attribute, Fate
from compose_spec.models import ComposeSpecification
from pydantic import BaseModel

# What services.py has no function for, because something else has it.
ELSEWHERE = {
    "image": "images",
    "build": "images",
    "platform": "images",
    "pull_policy": "images",
    "configs": "images",
    "container_name": "Replica.name",
    "scale": "replicas",
    "environment": "_environment",
    "env_file": "_environment",
    "labels": "_labels",
    "label_file": "_labels",
    "mac_address": "networks",
    "profiles": "Project",
    "extends": "Loader",
}


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model with attributes that a type may be, or may hold."""
    if hasattr(annotation, "__value__"):  # a type's alias
        yield from models(annotation.__value__)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from models(part)


def below(model: type[BaseModel], path: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """(path, of what) of every attribute of the schema."""
    for name, field in model.model_fields.items():
        where = f"{path}.{field.alias or name}".removeprefix(".")
        yield where, model.__name__
        for inner in models(field.annotation):
            if depth < 8:
                yield from below(inner, where, depth + 1)


def known(table: tuple[Attribute, ...], path: str = "") -> Iterator[tuple[str, Attribute]]:
    for attribute in table:
        where = f"{path}.{attribute.name}".removeprefix(".")
        yield where, attribute
        yield from known(attribute.below, where)


TABLE = dict(known(TOP))
SCHEMA = {path for path, dummy in below(ComposeSpecification)}


def test_every_attribute_of_the_schema_is_mapped_or_refused() -> None:
    refused = {path for path, attribute in TABLE.items() if attribute.fate is Fate.refused}
    missing = {path for path in SCHEMA - set(TABLE) if not any(path.startswith(f"{above}.") for above in refused)}
    assert missing == set()
    assert len(SCHEMA) > 300


def test_no_attribute_is_of_our_own_making() -> None:
    assert set(TABLE) - SCHEMA == set()


@pytest.mark.parametrize("name", [attribute.name for attribute in attributes.SERVICE if attribute.fate is Fate.mapped])
def test_what_is_said_to_be_mapped_is(name: str) -> None:
    found = [table for table in (services.DIRECT, services.HANDLERS, ELSEWHERE) if name in table]
    assert len(found) == 1


def test_nothing_refused_has_a_function() -> None:
    fates = {attribute.name: attribute.fate for attribute in attributes.SERVICE}
    assert {fates[name] for name in (*services.DIRECT, *services.HANDLERS)} == {Fate.mapped}


def test_rules_of_merging_are_of_attributes_that_there_are() -> None:
    for pattern in merge._RULES:
        path = ".".join(part for part in pattern if part != "*")
        assert path in TABLE, path
    names = {path.rpartition(".")[2] for path in TABLE}
    assert set(merge._KEYS) <= names


def test_a_refusal_says_why() -> None:
    for path, attribute in TABLE.items():
        if attribute.fate is Fate.refused:
            assert attribute.text, path
