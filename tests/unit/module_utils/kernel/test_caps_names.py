# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and numbers of capabilities."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._kernel import caps

HEADER = Path("/usr/include/linux/capability.h")


def test_all_41_are_known():
    assert sorted(caps.NUMBERS.values()) == list(range(41))
    assert (caps.NUMBERS["CAP_CHOWN"], caps.NUMBERS["CAP_SYS_ADMIN"]) == (0, 21)
    assert caps.NUMBERS["CAP_CHECKPOINT_RESTORE"] == 40


@pytest.mark.skipif(not HEADER.exists(), reason="no kernel headers")
def test_numbers_are_the_headers():
    declared = re.findall(r"^#define (CAP_[A-Z_]+)\s+(\d+)$", HEADER.read_text(), re.MULTILINE)
    assert {name: int(number) for name, number in declared} == caps.NUMBERS


def test_what_the_kernel_does_not_know_is_left_out():
    assert caps.numbers(["CAP_CHOWN", "CAP_BPF", "CAP_PERFMON"], 37) == [0]
    assert caps.numbers(["CAP_BPF"], 40) == [39]
