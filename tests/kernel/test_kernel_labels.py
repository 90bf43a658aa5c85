# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels of files: the xattr is there without SELinux too. What SELinux makes of it, molecule/vm_selinux sees."""

from __future__ import annotations

import os

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError
from ansible_collections.vessel.host.plugins.module_utils._kernel import selinux

pytestmark = pytest.mark.root
ONE, OTHER = "system_u:object_r:one_t:s0", "system_u:object_r:other_t:s0:c1,c2"


@pytest.fixture
def tree(tmp_path):
    """A directory with everything that can be in one, and a neighbour that links in it lead to."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("host's")
    top = tmp_path / "top"
    (top / "deep/deeper").mkdir(parents=True)
    (top / "deep/file").write_text("x")
    (top / "to-a-file").symlink_to("../outside/file")
    (top / "deep/to-a-directory").symlink_to(tmp_path / "outside")
    (top / "to-nowhere").symlink_to("/not/there")
    os.mkfifo(top / "fifo")
    return top


def labels(top):
    """Of the directory and all in it, links themselves and not what they lead to."""
    paths = [top, *top.rglob("*")]
    return {os.getxattr(path, selinux.XATTR, follow_symlinks=False).rstrip(b"\0").decode() for path in paths}


def test_all_of_a_tree_is_labelled(tree):
    selinux.relabel(str(tree), ONE)
    assert labels(tree) == {ONE}
    selinux.relabel(str(tree), OTHER)
    assert labels(tree) == {OTHER}


def test_no_link_in_it_is_followed(tree):
    selinux.relabel(str(tree), ONE)
    for path in (tree.parent / "outside", tree.parent / "outside/file"):
        assert selinux.file_label(str(path)) == ""


def test_the_top_may_be_a_link(tree):
    (tree.parent / "link").symlink_to(tree)
    selinux.relabel(str(tree.parent / "link"), ONE)
    assert labels(tree) == {ONE}


def test_a_second_time_writes_nothing(tree):
    selinux.relabel(str(tree), ONE)
    before = {path: path.lstat().st_ctime_ns for path in [tree, *tree.rglob("*")]}
    selinux.relabel(str(tree), ONE)
    assert {path: path.lstat().st_ctime_ns for path in before} == before


def test_whether_a_label_was_another_is_told(tree):
    assert selinux.set_file_label(str(tree), ONE)
    assert not selinux.set_file_label(str(tree), ONE)
    assert selinux.file_label(str(tree)) == ONE


def test_a_file_that_is_gone_is_an_error_with_its_name(tmp_path):
    with pytest.raises(KernelError, match=rf"label {tmp_path}/none {ONE}: .*ENOENT"):
        selinux.set_file_label(f"{tmp_path}/none", ONE)


def test_a_file_system_without_labels_is_left():
    assert not selinux.set_file_label("/proc/sys", ONE)


def test_what_a_policy_names_for_containers(tmp_path):
    contexts = tmp_path / "strict/contexts"
    contexts.mkdir(parents=True)
    (contexts / "lxc_contexts").write_text('# comment\nprocess = "a:b:c_t:s0"\n\nro_file = "a:b:r_t:s0"\nodd\n')
    (tmp_path / "config").write_text("# SELINUXTYPE=none\nSELINUX=enforcing\nSELINUXTYPE=strict\n")
    assert selinux.lxc_contexts(str(tmp_path / "config")) == {"process": "a:b:c_t:s0", "ro_file": "a:b:r_t:s0"}
    assert selinux.lxc_contexts(str(tmp_path / "none")) == {}
