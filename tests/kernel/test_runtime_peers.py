# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""podman with our runtime, and runc with our containers' bundles."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.vessel.host.tests.integration.place import Place
from ansible_collections.vessel.host.tests.sweeping import remove_cgroups

from .test_runtime_command import SCRIPT

pytestmark = pytest.mark.root

CONF = """
[containers]
default_ulimits = []
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


@pytest.fixture(scope="module")
def podman(tmp_path_factory):
    if not shutil.which("podman"):
        if os.environ.get("CI"):
            pytest.fail("podman is missing, and CI runs every test", pytrace=False)
        pytest.skip("podman is not installed")
    # Paths of podman's sockets have 108 bytes.
    top = tmp_path_factory.mktemp("pod")
    parent = list(Path("/sys/fs/cgroup").glob("*/libpod_parent"))
    (top / "containers.conf").write_text(CONF)
    script = top / "vessel-runtime"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    rootfs = top / "rootfs" / "bin"
    rootfs.mkdir(parents=True)
    shutil.copy("/bin/busybox", rootfs / "busybox")
    for name in ("sh", "id", "sleep", "cat", "test", "hostname"):
        (rootfs / name).symlink_to("busybox")
    subprocess.run(["tar", "-C", str(top / "rootfs"), "-cf", str(top / "image.tar"), "."], check=True)
    base = ["podman", "--root", f"{top}/r", "--runroot", f"{top}/rr", "--storage-driver", "vfs"]
    base += ["--cgroup-manager", "cgroupfs", "--runtime", str(script)]

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "CONTAINERS_CONF": f"{top}/containers.conf"}
        return subprocess.run([*base, *args], capture_output=True, text=True, timeout=120, env=environ, check=False)

    assert run("import", f"{top}/image.tar", "bb").returncode == 0
    yield run
    run("rm", "-af", "-t", "0")
    run("rmi", "-af")
    if not parent:
        remove_cgroups("/libpod_parent")  # podman makes it and leaves it


def test_run(podman):
    done = podman("run", "--rm", "--network", "none", "bb", "sh", "-c", "id -u; exit 5")
    assert (done.stdout, done.returncode) == ("0\n", 5)


def test_detached_exec_stop_remove(podman):
    assert (
        podman("run", "-d", "--name", "one", "--network", "none", "--memory", "64m", "bb", "sleep", "100").returncode
        == 0
    )
    assert podman("exec", "one", "hostname").returncode == 0
    assert podman("exec", "-u", "7:8", "one", "id", "-u").stdout == "7\n"
    assert podman("exec", "one", "sh", "-c", "exit 3").returncode == 3
    assert podman("ps", "--format", "{{.Names}}").stdout == "one\n"
    assert podman("pause", "one").returncode == 0
    assert podman("unpause", "one").returncode == 0
    assert podman("stop", "-t", "0", "one").returncode == 0
    assert podman("start", "one").returncode == 0
    assert podman("rm", "-f", "-t", "0", "one").returncode == 0


def test_read_only_and_user(podman):
    done = podman(
        "run", "--rm", "--read-only", "--user", "7:8", "--network", "none", "bb", "sh", "-c", "id -u; echo x > /x"
    )
    assert done.stdout == "7\n"
    assert "Read-only file system" in done.stderr


def test_missing_command_has_the_usual_exit_code(podman):
    done = podman("run", "--rm", "--network", "none", "bb", "nosuch")
    assert done.returncode == 127
    assert "not found" in done.stderr


def test_bundle_of_ours_runs_under_runc(tmp_path_factory):
    """The converger's config.json is a standard bundle: runc runs it, over the same layers, in the same network."""
    place = Place(str(tmp_path_factory.mktemp("runc") / "vessel"))
    place.busybox()
    container = {"name": "std", "image": "bb", "memory": "64m", "env": {"WORD": "same"}, "state": "present"}
    place.task("container", command=["sh", "-c", "echo $WORD; hostname; cat /proc/self/mountinfo"], **container)
    bundle = place.paths.bundle("std")
    try:
        command = ["runc", "--root", f"{place.root}/runc", "run", "-b", bundle, "std"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[:2] == ["same", "std"]
        assert any(" / / " in line and "overlay" in line for line in lines)
        assert json.loads(Path(bundle, "config.json").read_text())["mounts"][0]["type"] == "overlay"
    finally:
        place.remove()
