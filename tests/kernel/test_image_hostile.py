# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile layers by every way into a store that holds an image already: each is refused in one sentence about what was
given, and everything is as it was, in the store and around it.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import shutil
import subprocess
import tarfile
from typing import NamedTuple

import pytest
from ansible_collections.vessel.host.plugins.module_utils._ansible.urls import Urls
from ansible_collections.vessel.host.plugins.module_utils._converge.image import images
from ansible_collections.vessel.host.plugins.module_utils._converge.image.registries import set_transport
from ansible_collections.vessel.host.plugins.module_utils._errors import StoreError, VesselError
from ansible_collections.vessel.host.plugins.module_utils._image import archive
from ansible_collections.vessel.host.plugins.module_utils._image.copy import OVERLAY_OPTIONS
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._image.verify import verify
from ansible_collections.vessel.host.plugins.module_utils._kernel.overlay import open_overlay
from ansible_collections.vessel.host.plugins.module_utils._options.image import DIRECTIVES, OPTIONS
from ansible_collections.vessel.host.plugins.module_utils._options.record import parse_options
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from ..image_tars import Layout, digest, docker_archive, entry, extract, folder, hard, link, listing, tar
from ..registry_server import serving
from .test_image_layer import HOSTILE, aimed

pytestmark = pytest.mark.root

needs_zstd = pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed")
LIMIT = 10_000_000
GOOD = tar(folder("."), entry("etc/passwd", data=b"root"), link("bin", "usr/bin"))


class World(NamedTuple):
    """``here`` holds all that a hostile tar could reach: the store, and ``outside`` with what is precious."""

    here: str
    store: Store
    outside: str
    given: str

    def look(self):
        """All that is there; what is outside with its times."""
        found = {name: value[:7] for name, value in listing(self.here).items()}
        found.pop("vessel/lib/layers/keys", None)  # it comes and goes; what is in it is seen
        return found, listing(self.outside)


@pytest.fixture
def world(tmp_path):
    here, given = tmp_path / "here", tmp_path / "given"
    outside = here / "outside"
    for path in (here, outside, given):
        path.mkdir()
    (outside / "file").write_text("precious")
    store = Store(Paths.at(str(here / "vessel")))
    good = given / "good.tar"
    good.write_bytes(docker_archive([GOOD], ["good:1"]))
    archive.load(store, str(good), "good:1")
    set_transport(Urls)
    return World(str(here), store, str(outside), str(given))


# ways in: each gives the options, and what an error must begin with
def by_archive(world, data, plain, server):
    path = f"{world.given}/image.tar"
    with open(path, "wb") as file:
        file.write(docker_archive([plain], ["x:1"]) if data is plain else oci(data, plain))
    return {"source": "archive", "path": path}, path


def by_compressed_archive(world, data, plain, server):
    path = f"{world.given}/image.tar.gz"
    with open(path, "wb") as file:
        file.write(gzip.compress(oci(data, plain), 1))
    return {"source": "archive", "path": path}, path


def by_layout(world, data, plain, server):
    path = f"{world.given}/layout"
    with tarfile.open(fileobj=io.BytesIO(oci(data, plain))) as packed:
        extract(packed, path)
    return {"source": "layout", "path": path}, path


def by_rootfs(world, data, plain, server):
    path = f"{world.given}/rootfs.tar"
    with open(path, "wb") as file:
        file.write(data)
    return {"source": "rootfs", "path": path}, path


def by_registry(world, data, plain, server):
    server.image("app", "1", [(data, plain)])
    name = f"{server.host}/app:1"
    return {"name": name, "tls_verify": False}, name


def oci(data, plain):
    layout = Layout()
    return layout.tar(layout.image([(data, plain)]))


WAYS = {way.__name__[3:]: way for way in (by_archive, by_compressed_archive, by_layout, by_rootfs, by_registry)}


@pytest.fixture(scope="module")
def server():
    with serving() as registry:
        yield registry


def refused(world, way, data, sentence, server, *, plain=None, **options):
    """The image is refused, and nothing else has happened."""
    given, about = way(world, data, data if plain is None else plain, server)
    desired = parse_options((*DIRECTIVES, *OPTIONS), {"name": "x:1", **options, **given})
    before = world.look()
    with pytest.raises(VesselError) as caught:
        images.plan(world.store.paths, desired).apply()
    text = str(caught.value)
    assert text.startswith(about), text
    assert sentence in text
    assert "\n" not in text
    assert len(text) < 700
    assert world.look() == before
    assert world.store.names() == ["good:1"]


# What a root file system is not refused for: it comes without its devices, and nobody says which digest it has.
NOT_OF_ROOTFS = ("holds the device", "the layer has the digest")


def by_every_way(cases):
    """Each of the cases (name, what it is made from, sentence) with each of the ways."""
    return pytest.mark.parametrize(
        ("way", "make", "sentence"),
        [
            pytest.param(way, make, sentence, id=f"{word}-{name}", marks=[needs_zstd] if "zstd" in name else [])
            for name, make, sentence in cases
            for word, way in WAYS.items()
            if way is not by_rootfs or not sentence.startswith(NOT_OF_ROOTFS)
        ],
    )


@by_every_way([(f"{number} {sentence}", entries, sentence) for number, (entries, sentence) in enumerate(HOSTILE)])
def test_entries(world, server, way, make, sentence):
    kind = tarfile.GNU_FORMAT if "-1" in sentence else tarfile.PAX_FORMAT
    refused(world, way, tar(*aimed(make, world.outside), kind=kind), sentence, server)


# damaged
PLAIN = tar(folder("d"), entry("d/f", data=os.urandom(100000)), entry("g", data=b"g"))


def packed(command, data=PLAIN):
    return subprocess.run(command, input=data, check=True, capture_output=True).stdout


def zstd(data=PLAIN):
    return packed(["zstd", "-c"], data)


def flipped(data, at=50000):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGED = {
    "plain, cut short": (lambda: PLAIN[:70000], "the archive is cut short"),
    "plain, cut in a header": (lambda: PLAIN[:300], "the archive is damaged, cut short, or no tar"),
    "plain, a bit": (lambda: flipped(PLAIN), "the layer has the digest sha256:"),
    "plain, a bit of a header": (lambda: flipped(PLAIN, 20), "bad checksum"),
    "another": (lambda: tar(entry("x")), "the layer has the digest sha256:"),
    "gzip, cut short": (lambda: gzip.compress(PLAIN)[:-20], "is cut short"),
    "gzip, cut after its magic": (lambda: gzip.compress(PLAIN)[:5], "is cut short"),
    "gzip, a bit": (lambda: flipped(gzip.compress(PLAIN)), " is damaged: Error -3 while decompressing data"),
    "gzip, another checksum": (lambda: flipped(gzip.compress(PLAIN), -5), "incorrect data check"),
    "gzip, garbage behind": (lambda: gzip.compress(PLAIN) + b"garbage", "incorrect header check"),
    "zstd, cut short": (lambda: zstd()[:-20], "is damaged, or cut short"),
    "zstd, a bit": (lambda: flipped(zstd()), "is damaged, or cut short"),
    "a page": (lambda: b"<!DOCTYPE html><html>" + b"x" * 1000, "damaged, cut short, or no tar"),
    "nothing": (lambda: b"", "damaged, cut short, or no tar"),
    "xz": (lambda: lzma.compress(PLAIN), "damaged, cut short, or no tar"),
}


@by_every_way([(name, *case) for name, case in DAMAGED.items()])
def test_damaged_blobs(world, server, way, make, sentence):
    refused(world, way, make(), sentence, server, plain=PLAIN)


# bombs
def sparse(form):
    """10 GB that are a hole, but for one word."""

    def make(directory):
        with open(f"{directory}/bomb", "wb") as file:
            file.truncate(10 << 30)
            file.seek(5 << 30)
            file.write(b"word")
        return packed(["tar", "--sparse", *form.split(), "-cf", "-", "-C", directory, "bomb"], b"")

    return make


def zeros(command):
    def make(directory):
        (member, _data) = entry("bomb")
        member.size = 100 << 20
        return packed(command, member.tobuf() + bytes((100 << 20) + 1024))

    return make


def headers(directory):
    """Headers alone, each with a record of a megabyte."""
    one = extended(b"1000018 comment=" + b"c" * 1_000_001 + b"\n") + tar(entry("x"))[:512]
    return gzip.compress(one * 12 + bytes(1024), 1)


BOMBS = {
    "old GNU sparse": sparse("--format=gnu"),
    "sparse 0.0": sparse("--format=posix --sparse-version=0.0"),
    "sparse 0.1": sparse("--format=posix --sparse-version=0.1"),
    "sparse 1.0": sparse("--format=posix"),
    "gzip": zeros(["gzip", "-1c"]),
    "zstd": zeros(["zstd", "-c"]),
    "gzip in many": lambda directory: gzip.compress(
        tar(*(entry(f"f{index}", data=bytes(900_000)) for index in range(12)))
    ),
    "behind the end": lambda directory: gzip.compress(tar(entry("x")) + bytes(20_000_000), 1),
    "headers": headers,
}


@by_every_way([(name, make, f"unpacks to more than the {LIMIT} bytes") for name, make in BOMBS.items()])
def test_bombs(world, server, way, make, sentence, tmp_path):
    data = make(str(tmp_path))
    assert len(data) < 1 << 20
    refused(world, way, data, sentence, server, max_size=LIMIT)


def global_headers():
    one = tar(entry("x"), kind=tarfile.USTAR_FORMAT)[:512]
    return b"".join(
        extended(b"100012 k%d=%s\n" % (number, b"v" * 100000), tarfile.XGLTYPE) + one for number in range(10, 30)
    )


def extended(data, kind=tarfile.XHDTYPE):
    member = tarfile.TarInfo("x")
    member.type, member.size = kind, len(data)
    return member.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


HEADERS = {
    "5 MB": (
        lambda: extended(b"5000012 x=" + b"1" * 5000001 + b"\n") + tar(entry("x")),
        "says that it has 5000012 bytes",
    ),
    "digits": (lambda: extended(b"1" * (1 << 20)) + tar(entry("x")), "an extended header's record is none"),
    "for all that follow": (global_headers, "headers for all entries have more than 1048576 bytes"),
    "in a row": (lambda: extended(b"8 x=abc\n") * 1000 + tar(entry("x")), "more than 16 headers"),
}


@by_every_way([(name, *case) for name, case in HEADERS.items()])
def test_headers(world, server, way, make, sentence):
    refused(world, way, make(), sentence, server)


# between layers
def test_a_directory_that_is_a_symlink_in_a_layer_between(world, tmp_path):
    """A layer's entries go into that layer; what is merged is the kernel's business, which follows no symlink there."""
    layers = [
        tar(folder("d"), entry("d/low", data=b"low"), folder("e"), entry("e/low", data=b"low")),
        tar(link("d", world.outside), link("e", "../../../../outside")),
        tar(folder("d", mode=0o700), entry("d/high", data=b"high"), entry("e/file", data=b"evil")),
    ]
    before = listing(world.outside)
    path = tmp_path / "image.tar"
    path.write_bytes(docker_archive(layers, ["x:1"]))
    image = archive.load(world.store, str(path), "x:1")
    assert listing(world.outside) == before
    upper, work = tmp_path / "upper", tmp_path / "work"
    upper.mkdir()
    work.mkdir()
    top_first = world.store.directories(image)[::-1]
    fd = open_overlay(top_first, str(upper), str(work), OVERLAY_OPTIONS)
    try:
        seen = listing(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    assert sorted(seen) == ["d", "d/high", "e", "e/file"]
    assert seen["d"][0] == "drwx------"
    assert listing(world.outside) == before


def test_a_hard_link_through_the_symlink_of_a_layer_below(world):
    """In one layer they are refused; a hard link to what only the layer below has leads to no file."""
    path = f"{world.given}/image.tar"
    layers = [tar(link("d", world.outside)), tar(hard("stolen", "d/file"))]
    with open(path, "wb") as file:
        file.write(docker_archive(layers, ["x:1"]))
    before = listing(world.outside)
    with pytest.raises(StoreError, match="which is no file in it"):
        archive.load(world.store, path, "x:1")
    assert listing(world.outside) == before
    world.store.collect(keep_cache=False)
    assert world.store.names() == ["good:1"]


# devices
NODES = tar(folder("dev"), entry("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3), entry("f", data=b"f"))


def made(world, given, **options):
    """(was anything to be done, what the image's layer has)."""
    plan = images.plan(world.store.paths, parse_options((*DIRECTIVES, *OPTIONS), {"name": "x:1", **given, **options}))
    plan.apply()
    (directory,) = world.store.directories(world.store.need(given.get("name", "x:1")))
    return bool(plan), set(listing(directory))


BARE, WHOLE = {"dev", "f"}, {"dev", "dev/null", "f"}


@pytest.mark.parametrize("way", [by_archive, by_layout, by_registry])
@pytest.mark.parametrize("data", [NODES, tar(entry("f", data=b"old"))[:1024] + NODES], ids=["headers", "packed"])
def test_devices_that_were_left_out_come_when_they_are_asked_for(world, server, way, data):
    given, _about = way(world, gzip.compress(data), data, server)
    assert made(world, given, device_nodes="skip") == (True, BARE)
    assert world.store.skipped(digest(data)) == "dev/null"
    assert made(world, given, device_nodes="skip") == (False, BARE)
    assert made(world, given, device_nodes="make") == (True, WHOLE)
    assert world.store.skipped(digest(data)) == ""
    assert made(world, given, device_nodes="make") == (False, WHOLE)
    assert verify(world.store, world.store.need(given.get("name", "x:1"))) == []
    assert made(world, given, device_nodes="skip")[1] == WHOLE  # the other is satisfied, too


@pytest.mark.parametrize("way", [by_archive, by_layout, by_registry])
def test_but_not_below_a_container(world, server, way):
    given, about = way(world, gzip.compress(NODES), NODES, server)
    made(world, given, device_nodes="skip")
    container = f"{world.store.paths.state}/containers/c"
    os.makedirs(container)
    with open(f"{container}/base.json", "w") as file:
        json.dump({"layers": [digest(NODES)]}, file)
    before = world.look()
    with pytest.raises(StoreError, match="without its device 'dev/null', and containers are over it") as caught:
        made(world, given, device_nodes="make")
    assert str(caught.value).startswith(about)
    assert world.look() == before
    assert made(world, given, device_nodes="skip") == (False, BARE)
