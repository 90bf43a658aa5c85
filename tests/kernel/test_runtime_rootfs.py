# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root file system as a container finds it: mounts, devices, masks, and images that mean harm."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import StartError
from ansible_collections.vessel.host.plugins.module_utils._kernel import mount as m
from ansible_collections.vessel.host.plugins.module_utils._kernel.namespaces import CLONE_NEWNS, unshare
from ansible_collections.vessel.host.plugins.module_utils._runtime import create, delete, start

from .runtime_box import DEV, PROC, PTS, ConsoleSocket, mount, mountinfo

pytestmark = pytest.mark.root

ADMIN = {name: ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"] for name in ("bounding", "permitted", "effective")}


def bind(source: Path, destination: str, *options: str) -> dict:
    return mount(destination, "bind", "rbind", *options, source=str(source))


def with_mounts_of_our_own(work: Callable[[], None]) -> None:
    """In a mount namespace that goes with the child: what it mounts, the host does not see."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            unshare(CLONE_NEWNS)
            m.mount("none", "/", None, m.MS_REC | m.MS_PRIVATE)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def mount_points() -> set[tuple[str, str]]:
    """(place, file system) of all that is mounted here. It can become less by itself: a mount goes with its place."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return {(fields[4], fields[fields.index("-") + 1]) for fields in lines}


# mounts
def test_bind_has_the_flags_that_are_asked(box):
    volume = box.top / "volume"
    volume.mkdir()
    (volume / "file").write_text("content")
    binds = [
        bind(volume, "/ro", "ro"),
        bind(volume, "/rw", "rw", "nosuid", "nodev", "noexec"),
        bind(volume, "/deep/and/new", "noatime"),
        bind(volume, "/times", "strictatime", "rnoatime"),
        bind(volume / "file", "/etc/one", "ro"),
    ]
    text = box.run(
        "cat /proc/self/mountinfo; cat /etc/one /deep/and/new/file; echo >> /rw/file; echo >> /ro/file; true",
        mounts=[PROC, DEV, *binds],
    )
    found = mountinfo(text)
    assert found["/ro"][0].split(",")[0] == "ro"
    assert {"rw", "nosuid", "nodev", "noexec"} <= set(found["/rw"][0].split(","))
    assert "noatime" in found["/deep/and/new"][0]
    assert "noatime" in found["/times"][0]
    assert "contentcontent" in text
    assert "can't create /ro/file: Read-only file system" in text
    assert (volume / "file").read_text() == "content\n"


def test_relative_source_is_relative_to_the_bundle(box):
    config = box.config("cat /x", mounts=[PROC, DEV, mount("/x", "bind", "bind", source="beside")])
    with box.streams() as fds:
        name, directory = box.bundle(config)
        Path(directory, "beside").write_text("beside the bundle")
        state = create.create(box.root, name, directory, stdio=fds)
        start.start(box.root, name)
        os.waitpid(state.pid, 0)
        delete.delete(box.root, name)
        assert box.said() == "beside the bundle"


@pytest.mark.parametrize(
    ("words", "below"), [(["ro"], "ro"), (["rw"], "ro"), (["ro", "rrw"], "rw"), (["rnodev"], "ro")]
)
def test_what_is_mounted_below_a_bind(box, words, below):
    """ro holds for all of the tree, as nobody expects a hole in it; rw opens no mount that is read-only itself."""

    def work() -> None:
        volume = box.top / "volume"
        inner = volume / "inner"
        inner.mkdir(parents=True)
        m.mount("tmpfs", str(inner), "tmpfs", m.MS_RDONLY)
        text = box.run("cat /proc/self/mountinfo", mounts=[PROC, DEV, bind(volume, "/data", *words)])
        options = mountinfo(text)["/data/inner"][0].split(",")
        assert options[0] == below
        assert ("nodev" in options) == (words == ["rnodev"])

    with_mounts_of_our_own(work)
    assert not os.path.ismount(box.top / "volume" / "inner")


@pytest.mark.parametrize(
    ("word", "seen_inside", "seen_outside"),
    [("rprivate", "no", "no"), ("rslave", "yes", "no"), ("rshared", "yes", "yes")],
)
def test_propagation_of_a_volume(box, word, seen_inside, seen_outside):
    def work() -> None:
        volume = box.top / "volume"
        volume.mkdir()
        m.mount("tmpfs", str(volume), "tmpfs")
        m.mount("none", str(volume), None, m.MS_SHARED)
        for name in ("from_outside", "from_inside"):
            (volume / name).mkdir()
        with box.running(mounts=[PROC, DEV, bind(volume, "/data", word)], process__capabilities=ADMIN) as state:
            before = set(mountinfo(Path("/proc/self/mountinfo").read_text()))
            m.mount("tmpfs", str(volume / "from_outside"), "tmpfs")
            text = box.exec(state, "mount -t tmpfs none /data/from_inside; cat /proc/self/mountinfo")[1]
            assert ("/data/from_outside" in mountinfo(text)) == (seen_inside == "yes")
            after = set(mountinfo(Path("/proc/self/mountinfo").read_text()))
            expected = {str(volume / "from_outside")}
            assert after - before == expected | ({str(volume / "from_inside")} if seen_outside == "yes" else set())
        # Neither the container's mounts nor the end of its old root may reach us.
        assert set(mountinfo(Path("/proc/self/mountinfo").read_text())) == after

    with_mounts_of_our_own(work)


def test_tmpfs_size_and_read_only_tmpfs_with_a_mount_in_it(box):
    secret = box.top / "secret"
    secret.write_text("hush")
    mounts = [
        PROC,
        DEV,
        mount("/small", "tmpfs", "size=64k", "mode=1777", "nosuid"),
        mount("/run", "tmpfs", "ro", "noexec"),
        bind(secret, "/run/secrets/one", "ro"),
    ]
    text = box.run(
        "cat /run/secrets/one; echo; cat /proc/self/mountinfo; stat -c %a /small; touch /run/x; true", mounts=mounts
    )
    found = mountinfo(text)
    assert text.startswith("hush\n")
    assert found["/run"][0].startswith("ro,noexec")
    assert found["/small"][0].startswith("rw,nosuid")
    assert "\n1777\n" in text
    assert "touch: /run/x: Read-only file system" in text


def test_tmpcopyup(box):
    rootfs = box.rootfs
    (rootfs / "etc" / "sub").mkdir(mode=0o750)
    (rootfs / "etc" / "sub" / "file").write_text("from the image")
    os.chown(rootfs / "etc" / "sub" / "file", 5, 6)
    (rootfs / "etc" / "link").symlink_to("sub/file")
    os.mkfifo(rootfs / "etc" / "fifo")
    text = box.run(
        "cat /etc/link; stat -c '%u:%g %a' /etc/sub/file /etc/sub; ls /etc; echo new > /etc/new",
        mounts=[PROC, DEV, mount("/etc", "tmpfs", "tmpcopyup")],
    )
    assert text == "from the image5:6 644\n0:0 750\nlink\nsub\n"
    assert not (rootfs / "etc" / "new").exists()


@pytest.mark.parametrize("layers", [2, 120])
def test_overlay_as_the_root(box, layers):
    """mount(2) takes a page of options, which many layers exceed."""
    lower = []
    for number in range(layers - 1):
        directory = box.top / f"layer-with-a-long-name-{number:03}"
        directory.mkdir()
        (directory / f"from-{number}").touch()
        lower.append(str(directory))
    for name in ("upper", "work", "empty"):
        (box.top / name).mkdir()
    options = [
        f"lowerdir={':'.join([*lower, str(box.rootfs)])}",
        f"upperdir={box.top}/upper",
        f"workdir={box.top}/work",
    ]
    root = mount("/", "overlay", *options)
    text = box.run(
        "ls -d /from-* | wc -l; echo new > /made", root__path=str(box.top / "empty"), mounts=[root, PROC, DEV]
    )
    assert text == f"{layers - 1}\n"
    assert (box.top / "upper" / "made").read_text() == "new\n"
    assert os.listdir(box.top / "empty") == []
    subprocess.run(["rm", "-rf", str(box.top / "work")], check=True)


def test_read_only_root(box):
    text = box.outcome("echo x > /x; echo y > /dev/y; echo $?", root__readonly=True)[1]
    assert text == "/bin/sh: can't create /x: Read-only file system\n0\n"


@pytest.mark.parametrize("word", ["private", "slave", "shared", "unbindable"])
def test_propagation_of_the_root(box, word):
    def work() -> None:
        m.mount("none", "/", None, m.MS_REC | m.MS_SHARED)
        before = mount_points()
        line = box.run("grep ' / / ' /proc/self/mountinfo || cat /proc/self/mountinfo", linux__rootfsPropagation=word)
        tags = line.splitlines()[0].split(" - ")[0].split()[6:]
        assert [tag.split(":")[0] for tag in tags] == {"shared": ["shared"], "unbindable": ["unbindable"]}.get(word, [])
        assert mount_points() <= before

    with_mounts_of_our_own(work)


def test_without_pivot_root(box):
    text = box.run("cat /proc/self/mountinfo; ls /", options={"pivot": False})
    assert text.splitlines()[-6:] == ["bin", "dev", "etc", "proc", "sys", "tmp"]


# devices
def test_devices_that_are_declared(box):
    devices = [
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"path": "/devices/disk", "type": "b", "major": 7, "minor": 0},
        {"path": "/dev/fifo", "type": "p", "fileMode": 0o622},
    ]
    rootfs = box.rootfs
    os.mkfifo(rootfs / "bin" / "fifo")
    text = box.run(
        "stat -c '%F %t %T %a %u %g' /dev/mine /devices/disk /dev/fifo /dev/null",
        linux__devices=devices,
    )
    assert text.splitlines() == [
        "character special file 1 3 640 3 4",
        "block special file 7 0 666 0 0",
        "fifo 0 0 622 0 0",
        "character special file 1 3 666 0 0",
    ]


def test_devices_of_an_image_are_replaced(box):
    rootfs = box.rootfs
    (rootfs / "dev" / "null").write_text("not the device")
    (rootfs / "dev" / "ptmx").write_text("not the device")
    text = box.run("stat -c %F /dev/null; readlink /dev/ptmx", mounts=[PROC])
    assert text == "character special file\npts/ptmx\n"


def test_dev_of_the_caller_is_left_alone(box):
    own = box.top / "dev"
    own.mkdir()
    (own / "null").write_text("not the device")
    # What masks a file is checked to be the device, not found by its name.
    text = box.run(
        "ls -a /dev; cat /proc/version", mounts=[PROC, bind(own, "/dev")], linux__maskedPaths=["/proc/version"]
    )
    assert text == ".\n..\nnull\n"


# masks
def test_masked_and_read_only_paths(box):
    (box.rootfs / "etc" / "secret").write_text("hidden")
    (box.rootfs / "tmp" / "there").mkdir()
    text = box.run(
        "cat /proc/version; ls /proc/irq; cat /etc/secret; ls /tmp/there; touch /proc/sys/x /tmp/there/x /etc/x; true",
        linux__maskedPaths=["/proc/version", "/proc/irq", "/none", "/etc/secret"],
        linux__readonlyPaths=["/proc/sys", "/etc", "/none"],
    )
    assert "hidden" not in text
    assert "touch: /etc/x: Read-only file system" in text
    assert "touch: /proc/sys/x: Read-only file system" in text or "/proc/sys/x: No such file" in text
    assert "/tmp/there/x" not in text


# images that mean harm
LINKS = ["/", "..", "../../../../../..", "{victim}", "/proc/self/root{victim}", "../../../../..{victim}"]


@pytest.mark.parametrize("to", LINKS)
@pytest.mark.parametrize("place", ["dev", "etc", "opt", "run"])
def test_symlink_as_mount_point_stays_inside(box, place, to):
    """Where an image has a symlink, the mount lands where the container's own processes would go."""
    victim = box.top / "victim"
    victim.mkdir()
    rootfs = box.rootfs
    if (rootfs / place).exists():
        (rootfs / place).rmdir()
    (rootfs / place).symlink_to(to.format(victim=victim))
    file = box.top / "hosts"
    file.write_text("host's")
    own = {"dev": [DEV], "run": [mount("/run", "tmpfs")], "opt": [mount("/opt/a/b", "tmpfs")], "etc": []}[place]
    mounts = [*own, bind(file, f"/{place}/hosts", "ro")]

    def work() -> None:
        before = mount_points()
        assert box.run(f"cat /{place}/hosts", mounts=mounts) == "host's"
        assert mount_points() <= before
        assert os.listdir(victim) == []

    with_mounts_of_our_own(work)


@pytest.mark.parametrize("place", ["proc", "sys"])
@pytest.mark.parametrize("to", ["/tmp", "tmp", "/", "/data/evil"])
def test_proc_and_sys_must_be_ordinary_directories(box, place, to):
    """Else what is masked below them could be unmasked by who owns the place they lead to."""
    rootfs = box.rootfs
    (rootfs / place).rmdir()
    (rootfs / place).symlink_to(to)
    mounts = [mount("/proc", "proc"), DEV, mount("/sys", "sysfs", "ro")]
    with pytest.raises(StartError, match=rf"^mount (proc|sysfs) on /{place}: .*\[ELOOP\] \(it must be an ordinary"):
        box.run("true", mounts=mounts)


def test_dangling_symlink_is_followed_within_the_root(box):
    """Debian's /etc/resolv.conf, before systemd-resolved has run."""
    rootfs = box.rootfs
    (rootfs / "etc" / "resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    file = box.top / "resolv.conf"
    file.write_text("nameserver 192.0.2.1\n")
    text = box.run(
        "cat /etc/resolv.conf /run/systemd/resolve/stub-resolv.conf",
        mounts=[PROC, DEV, bind(file, "/etc/resolv.conf", "ro")],
    )
    assert text == "nameserver 192.0.2.1\n" * 2


def test_endless_symlinks_end(box):
    rootfs = box.rootfs
    (rootfs / "etc" / "a").symlink_to("b")
    (rootfs / "etc" / "b").symlink_to("a")
    file = box.top / "file"
    file.touch()
    with pytest.raises(StartError, match=r"^bind .* on /etc/a: .*\[ELOOP\]"):
        box.run("true", mounts=[PROC, DEV, bind(file, "/etc/a")])


def test_mount_point_of_the_wrong_kind(box):
    file, directory = box.top / "file", box.top / "directory"
    file.touch()
    directory.mkdir()
    with pytest.raises(StartError, match=r"^bind .*/directory on /bin/busybox: Not a directory \[ENOTDIR\]$"):
        box.run("true", mounts=[PROC, DEV, bind(directory, "/bin/busybox")])


@pytest.mark.parametrize("link", ["{victim}", "/etc/made"])
def test_console_of_an_image_leads_nowhere(box, link):
    """The terminal's place is made in the container's root, not where a symlink of the image points on the host."""
    victim = box.top / "victim"
    rootfs = box.rootfs
    (rootfs / "dev" / "pts").mkdir()
    (rootfs / "dev" / "console").symlink_to(link.format(victim=victim))
    console = ConsoleSocket(box.top)
    try:
        changes = {"process__terminal": True, "options": {"console_socket": console.path}}
        with box.created("tty", mounts=[PROC, PTS], **changes):
            os.close(console.receive()[0])
    finally:
        console.close()
    assert not victim.exists()


def test_terminal_of_a_false_devpts_is_refused(box):
    rootfs = box.rootfs
    (rootfs / "dev" / "pts").mkdir()
    os.mknod(rootfs / "dev" / "pts" / "ptmx", stat.S_IFREG | 0o666)
    console = ConsoleSocket(box.top)
    try:
        changes = {"process__terminal": True, "options": {"console_socket": console.path}}
        with (
            pytest.raises(StartError, match=r"^console: open /dev/pts/ptmx: .*needs a devpts"),
            box.created("tty", mounts=[PROC], **changes),
        ):
            pass
    finally:
        console.close()
