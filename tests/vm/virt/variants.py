# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds of host: what each has besides the common packages, and what its kernel is told."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Variant:
    packages: tuple[str, ...] = ()
    kernel: tuple[str, ...] = ()
    #: programs of the image's own, run in it when all else is there
    finish: tuple[tuple[str, ...], ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    #: without what the collection asks of a host, which somebody is to install
    bare: bool = False


VARIANTS = {
    "cgroup2": Variant(),
    "bare": Variant(bare=True),
    "cgroup1": Variant(kernel=("systemd.unified_cgroup_hierarchy=0",)),
    "selinux": Variant(
        packages=("selinux-policy-default", "selinux-utils", "policycoreutils", "auditd"),
        kernel=("security=selinux", "selinux=1", "enforcing=1"),
        # Enforced on files without labels, the policy lets nobody in.
        finish=(("setfiles", "-F", "/etc/selinux/default/contexts/files/file_contexts", "/"),),
        files={"etc/selinux/config": "SELINUX=enforcing\nSELINUXTYPE=default\n"},
    ),
}
