# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine on a host: installed by content, its supervisor started, replaced and removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cli import install
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError, MonitorError, VesselError
from ansible_collections.vessel.host.plugins.module_utils._kernel.file import remove_tree
from ansible_collections.vessel.host.plugins.module_utils._monitor.client import connect
from ansible_collections.vessel.host.plugins.module_utils._monitor.process import age

from .monitor_host import Site, children, wait_for

pytestmark = pytest.mark.root

ENGINE = Path(__file__).parents[2] / "plugins" / "module_utils"
PACKAGE = "ansible_collections/vessel/host/plugins/module_utils"
SERVICE = ["/bin/sleep", "1000"]
_ENSURE = f"""
import sys
sys.path.insert(0, sys.argv[1])
from {PACKAGE.replace("/", ".")}._cli.install import ensure
from {PACKAGE.replace("/", ".")}._paths import Paths
client = ensure(Paths.at(sys.argv[2]))
answer = client.call("ping")
print(answer["pid"], answer["version"])
"""


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path / "site")
    yield site
    try:
        with connect(site.paths) as client:
            pid = client.call("ping")["pid"]
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not os.path.exists(f"/proc/{pid}"))
    except MonitorError:
        pass
    site.close()


def ensure_from(place, site):
    """(pid, version) of the supervisor after a process that has the engine in ``place`` made sure of it."""
    done = subprocess.run(
        [sys.executable, "-c", _ENSURE, str(place), str(site.root)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    pid, version = done.stdout.split()
    return int(pid), version


def test_the_supervisor_is_as_nice_as_any_daemon(site):
    """Whose task was the first does not say how much of the CPU all containers get from then on."""
    command = ["nice", "-n", "7", sys.executable, "-c", _ENSURE, install.install(site.paths), str(site.root)]
    pid = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0])
    assert os.getpriority(os.PRIO_PROCESS, pid) == 0


def copy_of_the_engine(directory: Path) -> Path:
    target = directory / PACKAGE
    shutil.copytree(ENGINE, target, ignore=shutil.ignore_patterns("__pycache__"))
    return directory


def test_the_tree_is_whole_and_needs_nothing_else(site):
    directory = install.install(site.paths)
    installed = {str(path.relative_to(directory)) for path in Path(directory).rglob("*.py")}
    expected = {f"{PACKAGE}/{path}" for path in install.sources()}
    assert {path for path in installed if not path.endswith("__init__.py")} == expected
    assert not Path(directory, "ansible").exists()  # Ansible's own files come along in a module's payload alone
    for path in installed:
        compiled = list((Path(directory, path).parent / "__pycache__").glob(Path(path).stem + ".*.pyc"))
        assert len(compiled) == 1, path
        assert compiled[0].read_bytes()[4:8] == b"\x01\0\0\0"  # by hash, and not looked at (PEP 552)
    text = subprocess.run([f"{site.paths.bin}/vessel", "version"], capture_output=True, text=True, check=True).stdout
    assert f"vessel {os.path.basename(directory)}" in text


def test_every_module_can_be_imported_without_site_packages(site):
    """pyroute2 is the one thing that the engine needs from elsewhere, and only the network does."""
    directory = install.install(site.paths)
    names = [path[:-3].replace("/", ".") for path in install.sources() if not path.startswith("_network/")]
    program = "import importlib, sys\nsys.path.insert(0, sys.argv[1])\n"
    program += f"for name in sys.argv[2:]:\n    importlib.import_module('{PACKAGE.replace('/', '.')}.' + name)\n"
    supervised = [
        name for name in names if name.split(".")[0] in ("_monitor", "_runtime", "_kernel", "_cgroup", "_rootfs")
    ]
    done = subprocess.run(
        [sys.executable, "-IS", "-c", program, directory, *supervised], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_twice_changes_nothing(site):
    directory = install.install(site.paths)

    def picture():
        return {str(path): path.lstat().st_mtime_ns for path in Path(site.root).rglob("*")}

    before = picture()
    assert install.install(site.paths) == directory
    assert picture() == before


def test_links_lead_to_the_version(site):
    directory = install.install(site.paths)
    for name in ("vessel", "vessel-runtime"):
        assert os.readlink(f"{site.paths.bin}/{name}") == f"{directory}/vessel"
    os.unlink(f"{site.paths.bin}/vessel")
    Path(site.paths.bin, "vessel").write_text("another")
    install.install(site.paths)
    assert os.readlink(f"{site.paths.bin}/vessel") == f"{directory}/vessel"


def test_a_bin_that_can_not_be_written_is_named(site):
    Path(site.paths.bin).write_text("in the way")
    with pytest.raises(KernelError, match=rf"install the engine: {site.paths.bin}.*directory must be writable"):
        install.install(site.paths)


@pytest.mark.parametrize("spoil", [lambda path: os.chmod(path, 0o777), lambda path: os.chown(path, 65534, 65534)])
def test_what_others_may_write_to_is_not_run(site, spoil):
    directory = install.install(site.paths)
    spoil(directory)
    with pytest.raises(VesselError, match=f"others may write to {directory}"):
        install.install(site.paths)


def test_a_killed_installation_is_swept(site):
    os.makedirs(f"{site.paths.libexec}/0123456789abcdef.999999999.new/ansible_collections")
    os.makedirs(f"{site.paths.libexec}/0123456789abcdef.{os.getpid()}.new")
    directory = install.install(site.paths)
    left = set(os.listdir(site.paths.libexec))
    assert left == {os.path.basename(directory), f"0123456789abcdef.{os.getpid()}.new"}


def test_a_version_has_no_name_any_more_when_its_files_go(site, monkeypatch):
    """Who is about to run from it finds all of it, or nothing."""
    old = Path(site.paths.libexec, "0123456789abcdef")
    (old / "ansible").mkdir(parents=True)
    seen = []

    def look(path):
        with pytest.raises(BlockingIOError), open_directory(path) as fd:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        seen.append(old.exists())
        remove_tree(path)

    monkeypatch.setattr(install, "remove_tree", look)
    with open_directory(old) as fd:  # somebody runs from it
        fcntl.flock(fd, fcntl.LOCK_SH)
        directory = install.install(site.paths)
        assert old.exists()
    shutil.rmtree(directory)
    install.install(site.paths)
    assert seen == [False]
    assert os.listdir(site.paths.libexec) == [os.path.basename(directory)]


@contextlib.contextmanager
def open_directory(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def test_ensure_starts_one_supervisor(site):
    with install.ensure(site.paths) as client:
        pid = client.call("ping")["pid"]
        assert client.call("ping")["version"] == install.version()
        stat = Path(f"/proc/{pid}/stat").read_text()
        fields = stat[stat.rindex(")") + 2 :].split()
        session, terminal = int(fields[3]), int(fields[4])
        assert session != os.getsid(0)
        assert terminal == 0
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        fds = {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        assert fds["0"] == "/dev/null"
        assert fds["1"] == fds["2"] == f"{site.paths.run}/monitor.log"
        assert not [target for target in fds.values() if target.startswith("pipe:")]
        with install.ensure(site.paths) as again:
            assert again.call("ping")["pid"] == pid
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"))  # nothing to do: it goes by itself


def test_two_at_once(site):
    command = [sys.executable, "-c", _ENSURE, str(ENGINE.parents[1] / "collection"), str(site.root)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for dummy in range(4)]
    answers = {process.communicate()[0] for process in both}
    assert len(answers) == 1
    assert re.fullmatch(r"\d+ [0-9a-f]{16}\n", answers.pop())


def test_from_a_zip_it_is_the_same_version(site, tmp_path):
    """As AnsiballZ has it: the engine is imported from an archive."""
    place = copy_of_the_engine(tmp_path / "copy")
    dummy, version = ensure_from(place, site)
    archive = tmp_path / "payload.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(place.rglob("*.py")):
            file.write(path, path.relative_to(place))
        for package in {parent for path in place.rglob("*.py") for parent in path.relative_to(place).parents}:
            if package.parts:
                file.writestr(f"{package}/__init__.py", "")
    pid, from_zip = ensure_from(archive, site)
    assert from_zip == version
    assert ensure_from(archive, site) == (pid, version)


def test_another_version_takes_over_and_no_container_notices(site, tmp_path):
    old = copy_of_the_engine(tmp_path / "old")
    new = copy_of_the_engine(tmp_path / "new")
    with open(new / PACKAGE / "_monitor" / "server.py", "a") as file:
        file.write("# newer\n")
    first, old_version = ensure_from(old, site)
    site.bundle("a", SERVICE, restart={"policy": "always"})
    with connect(site.paths) as client:
        pid = client.call("start", name="a")["pid"]
    started = site.status("a")["pid_start"]
    second, new_version = ensure_from(new, site)
    assert second != first
    assert new_version != old_version
    wait_for(lambda: not os.path.exists(f"/proc/{first}"))
    with connect(site.paths) as client:
        status = client.call("status", name="a")["status"]
        assert (status["pid"], status["pid_start"], status["restarts"]) == (pid, started, 0)
        assert age(started) > 0
        assert os.readlink(f"{site.paths.bin}/vessel") == f"{site.paths.libexec}/{new_version}/vessel"
        client.call("remove", name="a")
    # the old one was in use when the new one came; the next installation takes it away
    shutil.rmtree(f"{site.paths.libexec}/{new_version}")
    ensure_from(new, site)
    assert os.listdir(site.paths.libexec) == [new_version]


def test_a_supervisor_that_can_not_start_says_why(site):
    os.makedirs(site.paths.run)
    os.mkdir(site.paths.monitor_socket)
    with pytest.raises(MonitorError, match=r"start the supervisor: .*directory"):
        install.ensure(site.paths)
    os.rmdir(site.paths.monitor_socket)


def test_remove_leaves_nothing(site):
    site.bundle("a", SERVICE)
    with install.ensure(site.paths) as client:
        client.call("start", name="a")
        with pytest.raises(VesselError, match="1 containers are left"):
            install.remove(site.paths)
        client.call("remove", name="a")
    shutil.rmtree(site.paths.bundle("a"))
    shutil.rmtree(site.paths.resource("containers", "a"))
    install.remove(site.paths)
    left = [str(path.relative_to(site.root)) for path in Path(site.root).rglob("*") if "layer" not in path.parts]
    assert left == ["lib", "lib/containers"]
    install.remove(site.paths)


# /proc/PID/exe


def test_our_python_can_not_be_overwritten_from_a_container(site):
    """CVE-2019-5736: a container that sees us, with every capability, opens our executable and waits until we end."""
    with install.ensure(site.paths) as client:
        supervisor = client.call("ping")["pid"]
        script = f"""
            exec 3</proc/{supervisor}/exe && echo opened
            ( echo evil > /proc/{supervisor}/exe ) 2>&1
            while [ -e /proc/{supervisor} ]; do usleep 10000; done
            ( echo evil > /proc/self/fd/3 ) 2>&1
            head -c 4 /proc/self/fd/3
            exec sleep 1000
        """
        from ansible_collections.vessel.host.plugins.module_utils._kernel.caps import NUMBERS

        held = int(re.search(r"CapBnd:\s+(\w+)", Path("/proc/self/status").read_text())[1], 16)
        everything = sorted(name for name, number in NUMBERS.items() if held >> number & 1)
        home = Path(site.paths.resource("containers", "a"))
        process = site.config("a", home, script)["process"]
        process["capabilities"] = {"bounding": everything, "effective": everything, "permitted": everything}
        kinds = [{"type": kind} for kind in ("mount", "ipc", "uts", "network")]
        linux = {"namespaces": kinds, "cgroupsPath": site.paths.cgroup("a"), "resources": {}}
        site.bundle("a", script, config={"process": process, "linux": linux})
        client.call("start", name="a")
        wait_for(lambda: "opened" in site.output("a"))
        wait_for(lambda: "Text file busy" in site.output("a") or "Read-only file system" in site.output("a"))
    before = Path(sys.executable).read_bytes()
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: "ELF" in site.output("a"))
    assert site.output("a").count("Read-only file system") >= 1
    assert "Read-only file system" in site.output("a").split("\n", 2)[2]
    assert Path(sys.executable).read_bytes() == before
    with install.ensure(site.paths) as client:
        client.call("remove", name="a")


def test_exec_is_protected_too(site):
    site.bundle("a", SERVICE)
    with install.ensure(site.paths) as client:
        client.call("start", name="a")
        command = [f"{site.paths.bin}/vessel", "exec", "a", "/bin/sleep", "77"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        pid = site.status("a")["pid"]
        namespace = os.readlink(f"/proc/{pid}/ns/pid")

        def inside():
            found = [child for child in children(process.pid) if os.readlink(f"/proc/{child}/ns/pid") == namespace]
            return [child for child in found if Path(f"/proc/{child}/comm").read_text() == "sleep\n"]

        wait_for(inside)
        assert os.statvfs(f"/proc/{process.pid}/exe").f_flag & os.ST_RDONLY
        os.kill(inside()[0], signal.SIGKILL)
        assert process.wait(10) == 137
        client.call("remove", name="a")


# memory


def memory(pid):
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {key: int(value) for key, value in re.findall(r"^(Rss|Pss|Private_Dirty):\s+(\d+) kB", text, re.M)}


def test_one_process_for_a_hundred_containers(site):
    names = [f"c{number}" for number in range(100)]
    check = {"test": ["CMD", "/bin/true"], "interval": 60.0}
    for name in names:
        site.bundle(name, SERVICE, health=check, log={"max_size": 1 << 20, "max_file": 3})
    with install.ensure(site.paths) as client:
        pid = client.call("ping")["pid"]
        empty = memory(pid)
        began = time.monotonic()
        for name in names:
            client.submit("start", name=name)
        for dummy in names:
            assert client.next()[1]["ok"]
        seconds = time.monotonic() - began
        full = memory(pid)
        print(f"100 containers in {seconds:.2f} s; memory without {empty}, with {full}")
        assert len(children(pid)) == 100
        # each child is the container's own command already
        assert {Path(f"/proc/{child}/comm").read_text() for child in children(pid)} == {"sleep\n"}
        assert full["Rss"] < 30_000
        assert full["Rss"] - empty["Rss"] < 6_000
        for name in names:
            client.submit("remove", name=name)
        for dummy in names:
            assert client.next()[1]["ok"]
        assert children(pid) == []
    site.assert_clean()
