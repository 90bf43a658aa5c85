# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layered builds on real overlays; commands run in a chroot here, for containers are another room's."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError, StoreError
from ansible_collections.vessel.host.plugins.module_utils._image import pack, template
from ansible_collections.vessel.host.plugins.module_utils._image.build import make, plan
from ansible_collections.vessel.host.plugins.module_utils._image.build.layers import compiled
from ansible_collections.vessel.host.plugins.module_utils._image.build.steps import RunRequest, Stage
from ansible_collections.vessel.host.plugins.module_utils._image.build.tree import Tree
from ansible_collections.vessel.host.plugins.module_utils._image.copy import OVERLAY_OPTIONS
from ansible_collections.vessel.host.plugins.module_utils._image.store import NOTHING, Image, Store
from ansible_collections.vessel.host.plugins.module_utils._kernel.openat2 import open_root
from ansible_collections.vessel.host.plugins.module_utils._kernel.overlay import open_overlay
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from ..image_tars import listing

pytestmark = pytest.mark.root


@pytest.fixture
def store(tmp_path):
    return Store(Paths.at(str(tmp_path / "vessel")))


@pytest.fixture
def base(store):
    return Image("busybox", "", (template.build(store, "busybox", {}, "busybox"),))


def run(request: RunRequest) -> None:
    """The command over the layers, in a child: the overlay is mounted nowhere, and the child's root."""
    root = open_overlay(request.layers[::-1], request.upper, request.work, OVERLAY_OPTIONS)
    child = os.fork()
    if child == 0:
        os.fchdir(root)
        os.chroot(".")
        os.execve(request.command[0], request.command, {"PATH": "/bin", **request.env})
    os.close(root)
    if os.waitpid(child, 0)[1]:
        raise StoreError(f"step {request.number}: {request.command[-1]} failed")


@pytest.fixture
def host():
    tree = Tree(open_root("/"))
    yield tree
    tree.close()


@pytest.fixture
def built(store, base, host):
    """Build layers as the option has them."""

    def build(*layers, over=None, name="app:1", **options):
        stages = [Stage(over or base, compiled(layers, host, lambda name, option: store.need(name)))]
        return make.build(store, name, stages, options, run)

    return build


@pytest.fixture
def planned(store, base, host):
    def of(*layers):
        return plan.plan(store, [Stage(base, compiled(layers, host, lambda name, option: store.need(name)))])

    return of


def top(store, image):
    return Path(store.directories(image)[-1])


def names(path):
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))


def test_a_layer_is_what_the_step_wrote(store, built):
    image = built(
        {"run": "echo one > /one; rm /etc/group; rm -r /home; mkdir /home; chmod 4755 /bin/busybox"},
        {"env": {"WORD": "two words"}},
        {"run": ["/bin/sh", "-c", 'echo "$WORD" > /two; mv /one /etc/']},
    )
    first, second = (Path(path) for path in store.directories(image)[1:])
    assert names(first) == ["bin", "bin/busybox", "etc", "etc/group", "home", "one"]
    assert stat.S_ISCHR(os.lstat(first / "etc/group").st_mode)
    assert os.getxattr(first / "home", "trusted.overlay.opaque") == b"y"
    assert stat.S_IMODE(os.stat(first / "bin/busybox").st_mode) == 0o4755
    assert os.stat(first / "bin/busybox").st_size == os.stat(Path(store.directories(image)[0]) / "bin/busybox").st_size
    assert (second / "two").read_text() == "two words\n"
    assert (second / "etc/one").read_text() == "one\n"
    assert stat.S_ISCHR(os.lstat(second / "one").st_mode)


def test_a_directory_of_below_that_is_moved_is_whole_in_its_layer(store, built):
    image = built({"run": "mkdir -p /a/b && echo x > /a/b/file"}, {"run": "mv /a /c && chown 5:6 /c/b/file"})
    path = top(store, image)
    assert (path / "c/b/file").read_text() == "x\n"
    leftover = {name for p in path.rglob("*") for name in os.listxattr(p, follow_symlinks=False)}
    assert leftover & {"trusted.overlay.redirect", "trusted.overlay.metacopy"} == set()


def test_a_step_is_done_once(store, built):
    steps = [{"run": "mktemp -u > /when"}, {"run": "cat /when > /copy"}]
    one = built(*steps)
    assert built(*steps).id == one.id
    assert built(steps[0], {"run": "true"}).layers[:2] == one.layers[:2]
    # The name has gone to another image; what was built stays in the cache.
    store.collect()
    assert built(*steps).id == one.id
    store.collect(keep_cache=False)
    assert built(*steps, cmd=["sh"]).layers == one.layers


def test_a_cached_builds_image_is_foreseen(store, base, host, tmp_path):
    """Stages, layers that change nothing and options go into the id as build() has it."""
    (tmp_path / "file").write_text("content")
    first = [{"run": "echo 1 > /1"}, {"workdir": "/bin"}, {"env": {"A": "b"}}]
    second = [{"copy": {"src": str(tmp_path / "file"), "dest": "/f/"}}, {"workdir": "/srv/app"}, {"run": "echo 2 > 2"}]

    def stages():
        made = [compiled(layers, host, lambda name, option: store.need(name)) for layers in (first, second)]
        return [Stage(base, made[0]), Stage(0, made[1])]

    assert make.foreseen(store, stages(), {"cmd": ["sh"]}) == ""
    kept = set(os.listdir(store.layers)), store.names()
    image = make.build(store, "app:1", stages(), {"cmd": ["sh"]}, run)
    assert kept != (set(os.listdir(store.layers)), store.names())
    kept = set(os.listdir(store.layers)), store.names()
    assert make.foreseen(store, stages(), {"cmd": ["sh"]}) == image.id
    assert make.foreseen(store, stages(), {"cmd": ["ls"]}) not in ("", image.id)
    assert (set(os.listdir(store.layers)), store.names()) == kept  # who looks makes nothing
    second[0]["copy"]["dest"] = "/g/"
    assert make.foreseen(store, stages(), {"cmd": ["sh"]}) == ""


def test_a_failed_step_leaves_those_before(store, built, planned):
    with pytest.raises(StoreError, match="step 2: exit 3 failed"):
        built({"run": "echo 1 > /1"}, {"run": "exit 3"})
    assert store.names() == []
    assert [name for name in os.listdir(store.layers) if name.startswith(".")] == []
    assert planned({"run": "echo 1 > /1"})[0].layer


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_top_is_as_below_whatever_the_umask(store, base, built, umask):
    os.chmod(store.layer_path(base.layers[0]), 0o751)
    os.chown(store.layer_path(base.layers[0]), 3, 4)
    before = os.umask(umask)
    try:
        image = built({"run": "true"}, {"copy": {"content": "x", "dest": "/x/y"}})
    finally:
        os.umask(before)
    for path in store.directories(image):
        info = os.stat(path)
        assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o751, 3, 4)


# copies
@pytest.fixture
def source(tmp_path):
    path = tmp_path / "src"
    (path / "sub").mkdir(parents=True)
    (path / "file").write_text("file")
    (path / "sub/tool").write_text("tool")
    (path / "sub/tool").chmod(0o755)
    (path / "sub").chmod(0o700)
    (path / "link").symlink_to("sub/tool")
    (path / "out").symlink_to("/etc/passwd")
    for entry in (path / "file", path / "sub"):
        os.utime(entry, (1000, 1000))
    return path


@pytest.fixture
def copied(store, built):
    return lambda **step: top(store, built({"copy": step}))


def test_a_tree(copied, source):
    path = copied(src=str(source), dest="/srv/app", owner="5", group="6")
    found = {name: value[:4] + value[7:] for name, value in listing(str(path)).items()}
    assert set(found) == {
        f"srv{n}" for n in ("", "/app", "/app/file", "/app/link", "/app/out", "/app/sub", "/app/sub/tool")
    }
    assert found["srv/app"][:3] == ("drwxr-xr-x", 5, 6)
    assert found["srv/app/sub"] == ("drwx------", 5, 6, None, 1000 * 10**9)
    assert found["srv/app/sub/tool"][:3] == ("-rwxr-xr-x", 5, 6)
    assert found["srv/app/file"][4] == 1000 * 10**9
    assert found["srv/app/link"][1:4] == (5, 6, "sub/tool")
    assert found["srv/app/out"][3] == "/etc/passwd"


def test_a_tree_over_what_is_there(store, built, source):
    first = {"run": "mkdir -p /srv/sub /srv/link.d; chown 7:7 /srv; echo kept > /srv/kept; echo old > /srv/file"}
    image = built(first, {"copy": {"src": str(source), "dest": "/srv"}})
    root = open_overlay(store.directories(image)[::-1], *scratch(store), OVERLAY_OPTIONS)
    found = listing(f"/proc/self/fd/{root}")
    os.close(root)
    assert found["srv"][:3] == ("drwxr-xr-x", 7, 7)  # what was there keeps its owner
    assert found["srv/file"][3][0] == 4
    assert "srv/kept" in found


def scratch(store):
    path = Path(store.paths.state).parent / f"scratch{time.monotonic_ns()}"
    (path / "u").mkdir(parents=True)
    (path / "w").mkdir()
    return str(path / "u"), str(path / "w")


def test_modes_of_files_and_of_directories_that_hold_them(copied, source):
    path = copied(src=str(source), dest="/srv", mode=0o640)
    found = {name: value[0] for name, value in listing(str(path)).items()}
    assert (found["srv/file"], found["srv/sub/tool"], found["srv/sub"]) == ("-rw-r-----", "-rw-r-----", "drwxr-x---")


@pytest.mark.parametrize(
    ("dest", "at"),
    [("/f", "f"), ("/a/b/f", "a/b/f"), ("/srv/", "srv/file"), ("/srv", "srv/file"), ("/new/", "new/file"),
     ("/usr/bin/f", "bin/f"), ("/usr/sbin/", "bin/file"), ("/sbin", "bin/file"), ("/var/run/f", "run/f")],
)  # fmt: skip
def test_where_a_file_goes(copied, source, dest, at):
    """busybox's /usr/bin, /usr/sbin, /sbin and /var/run are symlinks."""
    path = copied(src=str(source / "file"), dest=dest)
    assert (path / at).read_text() == "file"
    assert not (path / "usr/bin").exists()


def test_content(copied):
    path = copied(content="naïve\n", dest="/etc/app.conf", owner="1", group="2", mode=0o600)
    assert listing(str(path))["etc/app.conf"][:3] == ("-rw-------", 1, 2)
    assert (path / "etc/app.conf").read_text() == "naïve\n"
    assert stat.S_IMODE(os.stat(copied(content="", dest="/e") / "e").st_mode) == 0o644


def test_symlinks_of_the_image_lead_nowhere_out(store, built, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    up = "../" * 20
    image = built(
        {
            "run": f"mkdir -p {outside}; ln -s {outside} /abs; ln -s {up}{outside} /up; ln -s {outside}/file /file; "
            "ln -s nowhere /dangling"
        },
        {"copy": {"content": "x", "dest": "/abs/in"}},
        {"copy": {"content": "x", "dest": "/up/in2"}},
        {"copy": {"content": "mine", "dest": "/file"}},
        {"copy": {"content": "x", "dest": "/dangling"}},
    )
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"file": "precious"}
    assert (top(store, image) / "dangling").read_text() == "x"
    file = Path(store.directories(image)[-2]) / "file"
    assert (file.is_symlink(), file.read_text()) == (False, "mine")
    # As the container sees it: below its own root.
    inside = Path(store.directories(image)[2]) / str(outside).lstrip("/") / "in"
    assert inside.read_text() == "x"


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        ({"content": "x", "dest": "/etc"}, "etc: Is a directory"),
        ({"content": "x", "dest": "/etc/passwd/x"}, "enter /etc/passwd: Not a directory"),
        ({"content": "x", "dest": "/loop/x"}, "Too many levels of symbolic links"),
        ({"content": "x", "dest": "/way/x"}, "/way leads through a symlink"),
        ({"src": "SRC", "dest": "/etc/passwd"}, "enter /etc/passwd: Not a directory"),
        ({"src": "FIFO", "dest": "/srv"}, "fifo is no file, directory or symlink"),
        ({"content": "x", "dest": "/" + "n" * 300}, "File name too long"),
        ({"content": "x", "dest": "/x", "owner": "nobody-here"}, "'nobody-here' is no user in the image's /etc/passwd"),
        ({"content": "x", "dest": "/x", "group": "none-here"}, "'none-here' is no group in the image's /etc/group"),
    ],
)
def test_a_copy_that_can_not_be(store, built, source, step, sentence):
    if step.get("src") == "FIFO":
        os.mkfifo(source / "fifo")
    step = {**step, **({"src": str(source)} if "src" in step else {})}
    with pytest.raises(StoreError) as caught:
        built({"run": "ln -s loop /loop; ln -s nowhere /way"}, {"copy": step})
    assert str(caught.value).startswith(f"step 2: copy {step.get('src', 'content')} to {step['dest']}: ")
    assert sentence in str(caught.value)
    assert store.names() == []
    assert [name for name in os.listdir(store.layers) if name.startswith(".")] == []


def test_a_build_of_many_layers(store, built):
    """More than one page of mount options, and more than one fsconfig word."""
    image = built(*({"copy": {"content": str(number), "dest": f"/{number}"}} for number in range(70)))
    assert len(image.layers) == 71
    image = built({"run": "cat /0 /69 > /all"}, over=image, name="more:1")
    assert (top(store, image) / "all").read_text() == "069"


def test_from_nothing(store, built):
    image = built({"copy": {"content": "x", "dest": "/x"}}, over=NOTHING)
    assert names(top(store, image)) == ["x"]


# scripts and busybox
@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / "script"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return write


def test_a_script_with_lxcs_environment(store, script):
    made = "mkdir $VESSEL_ROOTFS/dev; mknod $LXC_ROOTFS/dev/n c 1 3"
    path = script(f'echo "$LXC_NAME $VESSEL_NAME $*" > $LXC_ROOTFS/said; {made}')
    diff_id = template.build(store, path, {"release": "1", "arch": "x"}, "app:1")
    layer = Path(store.layer_path(diff_id))
    assert (layer / "said").read_text() == "app:1 app:1 --release=1 --arch=x\n"
    assert os.listdir(layer / "dev") == []
    assert store.layer_for(template.key(path, {"release": "1", "arch": "x"})) == diff_id


def test_what_a_script_mounts_and_starts_ends_with_it(store, script):
    path = script("mount -t tmpfs x /mnt && sleep 12345 & sleep 0.2; ls /proc > $LXC_ROOTFS/seen")
    diff_id = template.build(store, path, {}, "x")
    seen = (Path(store.layer_path(diff_id)) / "seen").read_text().split()
    assert len([name for name in seen if name.isdigit()]) < 10  # its own processes and no others
    mounted = Path("/proc/self/mountinfo").read_text()
    assert " /mnt " not in mounted
    assert store.layer_path(diff_id) not in mounted
    assert not running("sleep 12345")


def running(words):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().replace(b"\0", b" ").strip() == words.encode():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_a_script_that_fails_says_why_and_leaves_nothing(store, script):
    for text, sentence in (
        ("for i in 1 2 3 4 5 6 7 8; do echo line $i; done; exit 4", "ended with 4: line 3 | line 4 | line 5 | line 6"),
        ("exit 1", "ended with 1: it said nothing"),
        ("kill -9 $$", "ended with 137: it said nothing"),
        ("true", "left its root file system empty (it is to fill $LXC_ROOTFS)"),
    ):
        with pytest.raises(StoreError) as caught:
            template.build(store, script(text), {}, "x")
        assert sentence in str(caught.value)
        assert not os.path.exists(store.paths.state)


def test_a_script_that_is_no_program(store, tmp_path):
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELFnot")
    path.chmod(0o755)
    with pytest.raises(StoreError, match=r"ended with 127: .*Exec format error"):
        template.build(store, str(path), {}, "x")


def test_a_template_dies_with_its_maker(store, script, tmp_path):
    path = script("touch $LXC_ROOTFS/begun; sleep 23456")
    child = os.fork()
    if child == 0:
        template.build(Store(store.paths), path, {}, "x")
        os._exit(0)
    deadline = time.monotonic() + 10
    while not running("sleep 23456") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert running("sleep 23456")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    deadline = time.monotonic() + 10
    while running("sleep 23456") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not running("sleep 23456")
    store.collect()
    assert not os.path.exists(store.paths.state)


def test_fsync_does_nothing_in_a_template(store, script):
    program = "import os, sys; fd = os.open(sys.argv[1], os.O_RDONLY | os.O_PATH); os.fsync(fd)"
    # fsync(2) of an O_PATH descriptor is EBADF, unless it is not made.
    path = script(f'touch $LXC_ROOTFS/x; {sys.executable} -c "{program}" $LXC_ROOTFS/x && echo done > $LXC_ROOTFS/x')
    assert (Path(store.layer_path(template.build(store, path, {}, "x"))) / "x").read_text() == "done\n"


# staged in memory
def staged(tmp_path, text, size=8 << 20):
    """(exit code, words, what is on the disk then)"""
    target = tmp_path / "target"
    target.mkdir(exist_ok=True)
    around = template._Staged(str(target), size)
    code, words = template._run(["/bin/sh", "-c", text, "sh", str(target)], {}, around)
    return code, words, around.found, target


def test_what_is_made_in_memory_comes_to_the_disk(tmp_path):
    made = "cd $1; mkdir dev etc; mknod dev/null c 1 3; echo x > etc/x; chmod 4755 etc/x; ln etc/x etc/y; chmod 711 ."
    code, words, found, target = staged(tmp_path, f"{made}; sleep 34567 & echo said; findmnt -no FSTYPE $1 >&2")
    assert (code, words) == (0, "said\ntmpfs\n")
    assert found == pack.measure(str(target))
    entries = listing(str(target))
    assert set(entries) == {"dev", "etc", "etc/x", "etc/y"}
    assert (entries["etc/x"][0], entries["etc/y"][5]) == ("-rwsr-xr-x", "etc/x")
    assert stat.S_IMODE(target.stat().st_mode) == 0o711
    assert not running("sleep 34567")
    assert str(target) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize(
    ("text", "size", "words"),
    [("echo why; exit 3", 8 << 20, "why\n"), ("dd if=/dev/zero of=$1/big bs=1M count=9", 1 << 20, template._FULL[0])],
)
def test_what_fails_in_memory_brings_nothing(tmp_path, text, size, words):
    code, said, found, target = staged(tmp_path, text, size)
    assert code != 0
    assert words in said
    assert found is None
    assert os.listdir(target) == []


def test_a_disk_that_has_no_room_for_what_was_made(tmp_path, monkeypatch):
    def full(stream, directory):
        raise KernelError("unpack", "x", 28)

    monkeypatch.setattr(template.layer, "unpack", full)
    with pytest.raises(KernelError, match="No space left"):
        staged(tmp_path, "dd if=/dev/zero of=$1/big bs=1M count=4")


def test_busybox_is_the_same_layer_every_time(store, base, tmp_path):
    other = Store(Paths.at(str(tmp_path / "other")))
    time.sleep(0.01)
    assert template.build(other, "busybox", {}, "y") == base.layers[0]
    layer = Path(store.layer_path(base.layers[0]))
    assert os.readlink(layer / "bin/sh") == "busybox"
    assert stat.S_IMODE(os.stat(layer / "tmp").st_mode) == 0o1777
    done = subprocess.run(
        ["chroot", layer, "/bin/sh", "-c", "id -un; ls /usr/bin/awk"], check=True, capture_output=True
    )
    assert done.stdout == b"root\n/usr/bin/awk\n"
