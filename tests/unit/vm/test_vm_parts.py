# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM helper's parts that need no VM: archive, module order, command line, and which process is meant."""

from __future__ import annotations

import dataclasses
import lzma
import os
import shutil
import subprocess
import sys
import time

import pytest
from ansible_collections.vessel.host.tests.vm.virt import cache, cli, cpio, image, initrd, process, qemu
from ansible_collections.vessel.host.tests.vm.virt.errors import VmError
from ansible_collections.vessel.host.tests.vm.virt.machine import Machine

HARDWARE = qemu.Hardware("/images/x", "cgroup2", "tcg", memory=512, cpus=1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VESSEL_VM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def sleeper():
    """(process, a directory whose pid file it names among its arguments, as QEMU does)."""
    directory = cache.directory("machines", "one")
    path = directory / "qemu.pid"
    program = "import time; time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", program, "-pidfile", str(path)])
    # Popen returns when exec has closed its pipe, which is a moment before the new arguments can be read.
    deadline = time.monotonic() + 10
    while not process.has_argument(child.pid, str(path)) and time.monotonic() < deadline:
        time.sleep(0.001)
    path.write_text(f"{child.pid}\n")
    yield child, directory
    child.kill()
    child.wait()


@pytest.mark.skipif(not shutil.which("busybox"), reason="needs busybox, which reads newc")
def test_another_program_reads_the_archive(tmp_path):
    packed = cpio.pack({"d": cpio.directory(), "d/five": cpio.program(b"12345"), "d/none": cpio.program(b"")})
    subprocess.run(["busybox", "cpio", "-i"], input=packed, cwd=tmp_path, check=True, timeout=30, capture_output=True)
    assert (tmp_path / "d/five").read_bytes() == b"12345"
    assert (tmp_path / "d/none").read_bytes() == b""
    assert (tmp_path / "d/five").stat().st_mode & 0o777 == 0o755


def test_a_module_comes_after_all_that_it_needs():
    dependencies = "k/blk.ko: k/ring.ko k/virtio.ko\nk/pci.ko: k/modern.ko k/ring.ko k/virtio.ko\n"
    dependencies += "k/virtio.ko:\nk/ring.ko: k/virtio.ko\nk/modern.ko:\n"
    found = initrd.ordered(dependencies, ("pci", "blk"))
    assert sorted(found) == ["k/blk.ko", "k/modern.ko", "k/pci.ko", "k/ring.ko", "k/virtio.ko"]
    assert found.index("k/virtio.ko") < found.index("k/ring.ko") < found.index("k/pci.ko") < found.index("k/blk.ko")


@pytest.mark.parametrize(
    ("suffix", "packed", "built_in", "expected"),
    [("", bytes, "", b"virtio"), (".xz", lzma.compress, "", b"virtio"), ("", bytes, "kernel/virtio_pci.ko", None)],
)
def test_the_initrd_has_what_the_kernel_has_not(tmp_path, suffix, packed, built_in, expected):
    modules = tmp_path / "root/usr/lib/modules/1"
    (modules / "kernel").mkdir(parents=True)
    (modules / "modules.builtin").write_text(f"kernel/virtio_blk.ko\n{built_in}\n")
    (modules / "modules.dep").write_text(f"kernel/virtio_pci.ko{suffix}:\n")
    (modules / f"kernel/virtio_pci.ko{suffix}").write_bytes(packed(b"virtio"))
    (tmp_path / "boot/bin").mkdir(parents=True)
    (tmp_path / "boot/bin/busybox").write_bytes(b"busybox")
    packed_initrd = initrd.make(tmp_path / "boot", tmp_path / "root", "1")
    assert (b"modules/virtio_pci\0" in packed_initrd) == (expected is not None)
    assert (b"\0virtio\0" in packed_initrd) == (expected is not None)
    assert b"modules/virtio_blk" not in packed_initrd


def test_a_bare_image_has_nothing_that_we_ask_for():
    wanted = image.Wanted(variant="bare")
    assert {"python3", "openssh-server", "systemd"} <= set(wanted.all_packages)
    assert not {"nftables", "python3-pyroute2", "busybox-static", "apparmor"} & set(wanted.all_packages)


def test_the_command_line(tmp_path):
    argv = qemu.command(tmp_path, HARDWARE, qemu.Wires({22: 0, 80: 8080}, offline=True), "ready")
    wires = argv[argv.index("-netdev") + 1]
    assert wires.split(",")[2:] == ["restrict=on", "hostfwd=tcp:127.0.0.1:0-:22", "hostfwd=tcp:127.0.0.1:8080-:80"]
    assert argv[-2:] == ["-loadvm", "ready"]
    assert "-no-reboot" not in argv


def test_ports_are_read_from_the_monitor():
    table = """Hub -1 (net):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  13       127.0.0.1 40123       10.0.2.15    22     0     0
  TCP[ESTABLISHED]   19       127.0.0.1 40123       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]  12       127.0.0.1 40999       10.0.2.15    80     0     0
"""
    assert qemu.forwarded(table) == {22: 40123, 80: 40999}


def test_what_is_made_is_whole_or_not_there():
    target = cache.directory("things") / "one"

    def fail(new):
        (new / "half").touch()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.made(target, fail)
    assert [path.name for path in target.parent.iterdir()] == [".one.lock"]
    cache.made(target, lambda new: (new / "file").touch())
    cache.made(target, fail)  # it is there: nothing is made
    assert (target / "file").exists()


def test_a_process_is_known_by_its_beginning(sleeper):
    child, dummy = sleeper
    identity = process.identify(child.pid)
    assert process.is_alive(identity)
    assert not process.is_alive((identity[0], "1"))
    process.kill((identity[0], "1"))  # another's number: nothing happens
    assert child.poll() is None
    process.kill(identity)
    assert not process.is_alive(identity)


def test_a_machine_whose_record_was_not_finished_is_found_by_its_pid_file(sleeper):
    child, directory = sleeper
    machine = Machine(directory, HARDWARE, qemu.Wires())
    assert machine.running() == process.identify(child.pid)
    (directory / "qemu.pid").write_text(f"{os.getpid()}\n")
    assert machine.running() is None


def test_destroy_ends_the_process_and_leaves_nothing(sleeper):
    child, directory = sleeper
    Machine(directory, HARDWARE, qemu.Wires({22: 1}), owner=(child.pid, "1")).save()
    assert cli.main(["destroy", "--orphans"]) == 0
    assert child.wait(10) < 0
    assert not directory.exists()


def test_list_shows_whose_owner_is_gone(capsys):
    for name, owner in (("kept", process.identify(os.getpid())), ("lost", (os.getpid(), "1"))):
        Machine(cache.directory("machines", name), HARDWARE, qemu.Wires({22: 1}), owner=owner).save()
    assert cli.main(["list"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(line[0], line[1], line[-1] == "orphan") for line in lines] == [
        ("kept", "off", False),
        ("lost", "off", True),
    ]
    assert cli.main(["destroy", "--orphans"]) == 0
    assert not (cache.directory("machines") / "lost").exists()
    assert (cache.directory("machines") / "kept").exists()


def test_no_qemu_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["start", "one"]) == 1
    assert "apt-get install --no-install-recommends qemu-system-x86" in capsys.readouterr().err
    assert not (cache.directory("machines") / "one").exists()


@pytest.mark.parametrize("name", ["", "-x", "A", "a/b", "../x", "a b", "x" * 32])
@pytest.mark.parametrize("verb", ["start", "destroy", "kill"])
def test_a_name_is_a_hosts(verb, name, capsys):
    assert cli.main([verb, "--", name]) == 1
    assert "is no host's name" in capsys.readouterr().err


def test_two_on_one_wire(tmp_path):
    wired = dataclasses.replace(HARDWARE, wire=True)
    ends, addresses = [], []
    for name, peer in (("a", "b"), ("b", "a")):
        argv = qemu.command(tmp_path / name, wired, qemu.Wires({22: 0}, peer=peer))
        last = len(argv) - 1 - argv[::-1].index("-netdev")
        words = dict(word.partition("=")[::2] for word in f"{argv[last + 1]},{argv[last + 3]}".split(","))
        ends.append((words["local.path"], words["remote.path"]))
        addresses.append(words["mac"])
    assert ends == [(f"{tmp_path}/a/wire.sock", f"{tmp_path}/b/wire.sock"), tuple(reversed(ends[0]))]
    assert len(set(addresses)) == 2
    with pytest.raises(VmError, match=r"too long for a socket's name"):
        qemu.command(tmp_path / ("x" * 100), wired, qemu.Wires({22: 0}, peer="b"))
    assert "hubport,id=wire,hubid=0" in qemu.command(tmp_path, wired, qemu.Wires({22: 0}))  # that of a snapshot
