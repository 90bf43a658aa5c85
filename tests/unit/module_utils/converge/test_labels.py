# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels as far as no kernel is asked: their parts, pairs of categories, and which volume is to have which."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge.container import compile as compiling
from ansible_collections.vessel.host.plugins.module_utils._converge.container import labels
from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError
from ansible_collections.vessel.host.plugins.module_utils._options.container import parse_security_opts, parse_volume

OWN = "system_u:object_r:container_file_t:s0:c1,c2"
SHARED = "system_u:object_r:container_file_t:s0"
HOSTS = "system_u:object_r:var_t:s0"
LABELS = labels.Labels("system_u:system_r:container_t:s0:c1,c2", OWN)


@pytest.mark.parametrize(
    ("parts", "context"),
    [
        ({}, "a:b:c_t:s0"),
        ({"level": "s0:c3,c4"}, "a:b:c_t:s0:c3,c4"),
        ({"user": "u", "role": "r", "type": "t"}, "u:r:t:s0"),
        ({"type": "", "filetype": "x"}, "a:b:c_t:s0"),
    ],
)
def test_parts_of_a_context(parts, context):
    assert labels.with_parts("a:b:c_t:s0", parts) == context


def test_categories_take_the_place_of_categories():
    assert labels.with_parts(OWN, {"level": "s0"}) == SHARED


def test_a_pair_is_ordered_and_nobody_elses():
    everything = {f"s0:c{low},c{high}" for low in range(1024) for high in range(low + 1, 1024)}
    everything.remove("s0:c17,c1000")
    assert labels.free_level(everything) == "s0:c17,c1000"


@pytest.mark.parametrize(
    ("volume", "present", "label"),
    [
        ("/srv/x:/x", HOSTS, ""),
        ("/srv/x:/x:z", HOSTS, SHARED),
        ("/srv/x:/x:z", OWN, SHARED),
        ("/srv/x:/x:ro,Z", HOSTS, OWN),
        ("/srv/x:/x:Z", SHARED, OWN),
        ("data:/x", HOSTS, SHARED),
        ("data:/x", "", SHARED),
        ("data:/x", OWN, ""),
        ("data:/x", "system_u:object_r:container_file_t:s0:c8,c9", ""),
        ("data:/x:Z", SHARED, OWN),
    ],
)
def test_the_label_of_a_volume(volume, present, label):
    assert labels.volume_label(parse_volume(volume, "volumes[0]"), LABELS, present) == label


def test_without_labels_no_volume_is_touched():
    assert labels.volume_label(parse_volume("/srv/x:/x:Z", "volumes[0]"), labels.Labels(), HOSTS) == ""


def test_no_word_for_labels_reaches_a_mount():
    assert compiling._volume(parse_volume("/srv/x:/x:ro,Z", "volumes[0]"), {})["options"] == ["rbind", "ro", "rprivate"]


@pytest.mark.parametrize("top", ["/", "/etc", "/usr/", "//home", "/var/lib"])
def test_what_the_host_needs_is_not_relabelled(top):
    with pytest.raises(OptionError, match="leave the z out"):
        parse_volume(f"{top}:/x:z", "volumes[0]")
    assert parse_volume(f"{top}:/x", "volumes[0]").endswith(":/x:rw")


def test_two_spellings_of_a_security_option_are_one():
    old, new = ["label:type:x_t", "apparmor:p"], ["apparmor=p", "label=type:x_t"]
    assert parse_security_opts(old, "security_opts") == parse_security_opts(new, "security_opts") == new


@pytest.mark.parametrize(
    "value", ["", "label", "label=", "label=type", "label=level:s0:x", "label=type:a b", "seccomp=unconfined", "type=x"]
)
def test_what_is_no_security_option(value):
    with pytest.raises(OptionError):
        parse_security_opts([value], "security_opts")


def test_parts_by_their_names():
    spec = {"security_opts": ["apparmor=mine", "label=level:s0:c1,c2", "label=type:x_t"]}
    assert labels.asked(spec, "label") == {"level": "s0:c1,c2", "type": "x_t"}
    assert labels.asked(spec, "apparmor") == {"mine": ""}
