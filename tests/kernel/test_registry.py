# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registries as they are (Debian's, with TLS and passwords and without), and images that others make and read."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._ansible.urls import Urls
from ansible_collections.vessel.host.plugins.module_utils._errors import NetworkError, RegistryError, SignatureError
from ansible_collections.vessel.host.plugins.module_utils._image import archive, config, reference
from ansible_collections.vessel.host.plugins.module_utils._image.registry import pull, push
from ansible_collections.vessel.host.plugins.module_utils._image.registry.client import Client, Settings
from ansible_collections.vessel.host.plugins.module_utils._image.registry.endpoint import endpoints
from ansible_collections.vessel.host.plugins.module_utils._image.registry.transport import Tls
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from .. import signing
from ..image_tars import Layout, digest, docker_archive, entry, extract, folder, hard, link, listing, tar
from .module_runner import starting
from .registry_world import Authority, Peers, hub, needs_peers, run

pytestmark = [pytest.mark.root, needs_peers]
PLAIN = Tls(verify=False)
COLLECTIONS = Path(__file__).parents[2] / "collection"
BASE = tar(
    folder("etc", mode=0o750),
    entry("etc/passwd", data=b"root:x:0:0::/:/bin/sh\n", uid=5, gid=7),
    folder("usr/bin"),
    entry("usr/bin/su", data=b"su", mode=0o4755),
    hard("usr/bin/sudo", "usr/bin/su"),
    link("bin", "usr/bin"),
    entry("naïve" + "x" * 150, data=b"long"),
    entry("fifo", tarfile.FIFOTYPE),
    entry("capable", data=b"c", pax_headers={"SCHILY.xattr.user.x": "y"}),
)
TOP = tar(
    folder("etc", mode=0o750),
    entry("etc/.wh.passwd"),
    folder("usr"),
    entry("usr/.wh..wh..opq"),
    entry("usr/new", data=b"n"),
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    with hub(tmp_path_factory.mktemp("plain") / "hub") as made:
        yield made


@pytest.fixture(scope="module")
def peers(tmp_path_factory):
    return Peers(tmp_path_factory.mktemp("peers") / "root")


@pytest.fixture
def store(tmp_path):
    return Store(Paths.at(str(tmp_path / "vessel")))


def client(tls=PLAIN, **settings):
    return Client(Urls(), Settings(tls=tls, **settings))


def named(text):
    return reference.parse(text, "name")


def fetch(store, text, tls=PLAIN, **settings):
    return pull.pull(store, text, named(text), client(tls, **settings))


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """An OCI layout with two layers; tag "x"."""
    made = Layout()
    host = {"architecture": config.architecture(), "config": {"Cmd": ["sh"]}}
    descriptor = made.image([(gzip.compress(BASE), BASE), (gzip.compress(TOP), TOP)], config=host)
    manifest = json.loads(made.blobs[descriptor["digest"]])
    for one in manifest["layers"]:
        one["mediaType"] += "+gzip"
    descriptor = made.blob(manifest, descriptor["mediaType"])
    descriptor["annotations"] = {"org.opencontainers.image.ref.name": "x"}
    path = tmp_path_factory.mktemp("layout") / "layout"
    with tarfile.open(fileobj=io.BytesIO(made.tar(descriptor))) as archived:
        extract(archived, path)
    return path


def merged(store, image, directory, times):
    """The image as a container sees it."""
    lower = ":".join(store.directories(image)[::-1])
    os.mkdir(directory)
    upper, work = f"{directory}.upper", f"{directory}.work"
    os.mkdir(upper)
    os.mkdir(work)
    run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", directory)
    try:
        return listing(directory, times=times)
    finally:
        run("umount", directory)


def unpacked(layout, tag, directory, times):
    """The same, as umoci unpacks it."""
    run("umoci", "raw", "unpack", "--image", f"{layout}:{tag}", directory)
    return listing(directory, times=times)


@pytest.fixture
def same_as_umoci(store, peers, tmp_path):
    """Is what we have of the image what umoci makes of the registry's?"""

    def check(image, text, *, times=True):
        peers.skopeo("copy", "-q", "--src-tls-verify=false", f"docker://{text}", f"oci:{tmp_path}/oci:x")
        ours = merged(store, image, f"{tmp_path}/ours", times)
        assert ours == unpacked(f"{tmp_path}/oci", "x", f"{tmp_path}/theirs", times)
        return ours

    return check


# images of others
def by_skopeo(peers, layout, text):
    peers.skopeo("copy", "-q", "--dest-tls-verify=false", f"oci:{layout}:x", f"docker://{text}")


def by_skopeo_as_docker(peers, layout, text):
    peers.skopeo("copy", "-q", "--format=v2s2", "--dest-tls-verify=false", f"oci:{layout}:x", f"docker://{text}")


def by_podman(peers, layout, text):
    peers.podman("pull", "-q", f"oci:{layout}:x")
    identity = peers.podman("images", "-q", "--no-trunc").splitlines()[0]
    peers.podman("push", "-q", "--tls-verify=false", identity, f"docker://{text}")
    peers.podman("rmi", "-f", identity)


def by_buildah(peers, layout, text):
    box = peers.buildah("from", "--pull-never", "scratch")
    (peers.root / "content").write_text("hello")
    peers.buildah("copy", "--chown=5:6", box, peers.root / "content", "/some/where/")
    peers.buildah("commit", "-q", "--rm", box, "made")
    peers.buildah("push", "-q", "--tls-verify=false", "made", f"docker://{text}")
    peers.buildah("rmi", "made")


def by_umoci(peers, layout, text):
    copy = peers.root / "umoci"
    shutil.copytree(layout, copy)
    (peers.root / "new").write_text("new")
    run("umoci", "insert", "--image", f"{copy}:x", peers.root / "new", "/usr/new")
    run("umoci", "config", "--image", f"{copy}:x", "--config.user=5")
    by_skopeo(peers, copy, text)


MADE_BY = [by_skopeo, by_skopeo_as_docker, by_podman, by_buildah, by_umoci]


@pytest.mark.parametrize("make", MADE_BY, ids=[make.__name__ for make in MADE_BY])
def test_images_that_others_made(store, plain, peers, layout, same_as_umoci, make):
    text = f"{plain.host}/{make.__name__}/app:1"
    make(peers, layout, text)
    image = fetch(store, text)
    raw = peers.skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{text}")
    assert store.manifest(image) == json.loads(raw)
    told = peers.skopeo("inspect", "--tls-verify=false", "--format={{.Digest}}", f"docker://{text}")
    assert store.origins(image)[-1]["digest"] == told == pull.resolve(named(text), client())
    # umoci inserts a file without its directory, whose time is then that of the unpacking.
    assert same_as_umoci(image, text, times=make is not by_umoci)


# with passwords
@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    directory = tmp_path_factory.mktemp("guarded")
    file = directory / "htpasswd"
    file.write_text(run("htpasswd", "-Bbn", "joe", "hunter2") + "\n")
    with hub(directory / "hub", auth={"htpasswd": {"realm": "x", "path": str(file)}}) as made:
        yield made


def test_a_password(store, guarded, peers, layout, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    text = f"{guarded.host}/team/app:1"
    peers.podman("login", "--tls-verify=false", "-u", "joe", "-p", "hunter2", guarded.host)
    by_skopeo(peers, layout, text)
    with pytest.raises(RegistryError, match=r"it wants to know who asks \(401\) \(it may be private"):
        fetch(store, text)
    with pytest.raises(
        RegistryError, match=r"\(401\) \(those of username and password were refused: are they those for"
    ) as caught:
        fetch(store, text, username="joe", password="wrong guess")
    assert "wrong guess" not in str(caught.value)
    image = fetch(store, text, username="joe", password="hunter2")
    assert fetch(store, text, auth_file=peers.env["REGISTRY_AUTH_FILE"]) == image  # as podman login wrote it
    again = f"{guarded.host}/team/again:1"
    assert push.push(store, image, named(again), client(username="joe", password="hunter2")).changed


# with TLS
@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture(scope="module")
def secure(tmp_path_factory, authority):
    cert, key = authority.issue("server")
    with hub(tmp_path_factory.mktemp("secure") / "hub", {"tls": {"certificate": str(cert), "key": str(key)}}) as made:
        yield made


def test_tls(store, secure, peers, layout, authority):
    text = f"{secure.host}/app:1"
    by_skopeo(peers, layout, text)
    with pytest.raises(NetworkError, match=r"its certificate is refused: .*\(name its authority with ca_path"):
        fetch(store, text, Tls())
    image = fetch(store, text, Tls(ca_path=str(authority.cert)))
    assert fetch(store, text, PLAIN) == image
    assert not push.push(store, image, named(text), client(Tls(ca_path=str(authority.cert)))).changed


def test_an_expired_or_other_host_s_certificate(store, secure, authority):
    port = secure.host.partition(":")[2]
    with pytest.raises(NetworkError, match="its certificate is refused: Hostname mismatch"):
        fetch(store, f"localhost:{port}/app:1", Tls(ca_path=str(authority.cert)))


def test_a_certificate_of_the_client(store, tmp_path, peers, layout, authority):
    cert, key = authority.issue("server2")
    ours, our_key = authority.issue("joe")
    tls = {"certificate": str(cert), "key": str(key), "clientcas": [str(authority.cert)]}
    with hub(tmp_path / "hub", {"tls": tls}) as made:
        text = f"{made.host}/app:1"
        directory = tmp_path / "certs"
        directory.mkdir()
        for path, name in ((authority.cert, "ca.crt"), (ours, "x.cert"), (our_key, "x.key")):
            shutil.copy(path, directory / name)
        peers.skopeo("copy", "-q", f"--dest-cert-dir={directory}", f"oci:{layout}:x", f"docker://{text}")
        with pytest.raises(NetworkError, match=r"its TLS refuses ours: .*certificate.*give client_cert"):
            fetch(store, text, Tls(ca_path=str(authority.cert)))
        assert fetch(store, text, Tls(True, str(authority.cert), str(ours), str(our_key))).layers
        both = tmp_path / "both.pem"
        both.write_text(ours.read_text() + our_key.read_text())
        assert fetch(store, text, Tls(True, str(authority.cert), str(both))).layers


def test_a_mirror(store, plain, peers, layout):
    by_skopeo(peers, layout, f"{plain.host}/hub/library/debian:12")
    image = pull.pull(store, "debian:12", named("debian:12"), client(mirrors=(f"{plain.host}/hub",)))
    assert store.origins(image)[-1]["repository"] == "docker.io/library/debian"


# push
@pytest.fixture
def built(store, tmp_path):
    path = tmp_path / "docker.tar"
    made = {"architecture": config.architecture(), "config": {"Cmd": ["sh"], "Labels": {"a": "b"}}}
    path.write_bytes(docker_archive([BASE, TOP], ["x:1"], config=made))
    return archive.load(store, str(path), "localhost/x:1")


def test_what_is_pushed_is_what_others_read(store, plain, peers, built, same_as_umoci, tmp_path):
    text = f"{plain.host}/pushed/app:1"
    done = push.push(store, built, named(text), client())
    assert done.changed
    assert peers.skopeo("inspect", "--tls-verify=false", "--format={{.Digest}}", f"docker://{text}") == done.digest
    told = json.loads(peers.skopeo("inspect", "--tls-verify=false", f"docker://{text}"))
    assert (told["Labels"], len(told["Layers"])) == ({"a": "b"}, 2)
    image = fetch(store, text)
    same_as_umoci(image, text)
    peers.podman("pull", "-q", "--tls-verify=false", text)
    (inspected,) = json.loads(peers.podman("image", "inspect", text))
    assert inspected["Config"] == {"Cmd": ["sh"], "Labels": {"a": "b"}}
    assert f"sha256:{inspected['Id']}" == image.id
    assert inspected["RootFS"]["Layers"] == list(image.layers)
    peers.podman("rmi", text)


def test_pushed_again_nothing_is_sent(store, plain, built):
    text = f"{plain.host}/again/app:1"
    first = push.push(store, built, named(text), client())
    count = plain.blobs()
    assert push.push(store, built, named(text), client()) == (first.digest, False)
    second = push.push(store, built, named(f"{plain.host}/again/app:2"), client())
    assert second == (first.digest, True)
    assert plain.blobs() == count


def over_base_and_top(store, directory, name):
    path = directory / f"{name}.tar"
    made = {"architecture": config.architecture(), "config": {"Labels": {"name": name}}}
    path.write_bytes(docker_archive([BASE, TOP, tar(entry(name, data=b"1"))], ["x:1"], config=made))
    return archive.load(store, str(path), f"localhost/{name}:1")


def test_of_an_image_over_another_its_own_layer_alone_is_packed(store, plain, built, tmp_path):
    """What is under both was pushed with the first: it is mounted from there, and nothing is read for it."""
    push.push(store, built, named(f"{plain.host}/under/base:1"), client())
    over, damaged = over_base_and_top(store, tmp_path, "over"), over_base_and_top(store, tmp_path, "damaged")
    (Path(store.images_dir) / damaged.id.partition(":")[2] / "config.json").unlink()
    for layer in built.layers:  # packed again it would be another blob, or an error
        shutil.rmtree(store.layer_path(layer))
        os.mkdir(store.layer_path(layer))
    count = plain.blobs()
    done = push.push(store, over, named(f"{plain.host}/under/over:1"), client())
    assert plain.blobs() == count + 3  # its layer, its configuration and its manifest
    elsewhere = Store(Paths.at(str(tmp_path / "other")))
    assert fetch(elsewhere, f"{plain.host}/under/over@{done.digest}").layers == over.layers


def test_another_store_packs_the_same(store, plain, built, tmp_path):
    """Pushed from two hosts it is one image."""
    text = f"{plain.host}/same/app:1"
    first = push.push(store, built, named(text), client())
    other = Store(Paths.at(str(tmp_path / "other")))
    copy = archive.load(other, str(tmp_path / "docker.tar"), "x:1")
    assert push.push(other, copy, named(f"{plain.host}/same/app:2"), client()) == (first.digest, True)
    assert push.push(other, copy, named(f"{plain.host}/same/app:1"), client()) == (first.digest, False)


@pytest.mark.parametrize("make", [by_skopeo, by_skopeo_as_docker], ids=["oci", "docker"])
def test_what_was_pulled_keeps_its_digest(store, plain, peers, layout, make):
    """In another repository of the same registry its blobs are mounted."""
    text = f"{plain.host}/from/{make.__name__}:1"
    make(peers, layout, text)
    image, count = fetch(store, text), plain.blobs()
    wanted = store.origins(image)[-1]["digest"]
    assert push.push(store, image, named(text), client()) == (wanted, False)
    assert push.push(store, image, named(f"{plain.host}/to/{make.__name__}:1"), client()) == (wanted, True)
    assert plain.blobs() == count
    told = peers.skopeo(
        "inspect", "--tls-verify=false", "--format={{.Digest}}", f"docker://{plain.host}/to/{make.__name__}:1"
    )
    assert told == wanted


def test_another_image_under_the_name_is_replaced(store, plain, peers, layout, built):
    text = f"{plain.host}/replaced/app:1"
    by_skopeo(peers, layout, text)
    before = pull.resolve(named(text), client())
    done = push.push(store, built, named(text), client())
    assert done.changed
    assert pull.resolve(named(text), client()) == done.digest != before


# at once, killed, large
PROGRAM = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.vessel.host.plugins.module_utils._ansible.urls import Urls
from ansible_collections.vessel.host.plugins.module_utils._image import reference
from ansible_collections.vessel.host.plugins.module_utils._image.registry import pull
from ansible_collections.vessel.host.plugins.module_utils._image.registry.client import Client, Settings
from ansible_collections.vessel.host.plugins.module_utils._image.registry.transport import Tls
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
client = Client(Urls(), Settings(tls=Tls(verify=False)))
print(pull.pull(Store(Paths.at(sys.argv[2])), sys.argv[3], reference.parse(sys.argv[3], "name"), client).id)
"""


def start(store, text):
    command = [sys.executable, "-c", PROGRAM, COLLECTIONS, Path(store.paths.root), text]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def many(plain, peers, tmp_path_factory):
    """An image of six layers, the last of which is large."""
    layout, layers = Layout(), []
    for number in range(6):
        size = (40 if number == 5 else 2) << 20
        data = tar(*(entry(f"{number}/{part}", data=os.urandom(size // 8)) for part in range(8)))
        layers.append((data, data))
    descriptor = layout.image(layers, config={"architecture": config.architecture()})
    path = tmp_path_factory.mktemp("many") / "oci.tar"
    path.write_bytes(layout.tar({**descriptor, "annotations": {"org.opencontainers.image.ref.name": "x"}}))
    text = f"{plain.host}/many/app:1"
    peers.skopeo("copy", "-q", "--dest-tls-verify=false", f"oci-archive:{path}:x", f"docker://{text}")
    return text


def test_two_at_once_do_the_work_once(store, many):
    both = [start(store, many) for _turn in range(2)]
    said = [process.communicate(timeout=100)[0] for process in both]
    image = store.need(many)
    assert said == [f"{image.id}\n"] * 2
    assert all(map(store.has_layer, image.layers))
    assert not [name for name in os.listdir(store.layers) if name.startswith(".")]


def test_killed_in_the_middle_and_pulled_again(store, many):
    process = start(store, many)
    deadline = time.monotonic() + 60
    while not (os.path.isdir(store.layers) and [name for name in os.listdir(store.layers) if name.endswith(".json")]):
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 5
    while (left := run("pgrep", "-f", store.paths.root, check=False)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
    finished = {name for name in os.listdir(store.layers) if name.endswith(".json")}
    store.collect()
    assert {name for name in os.listdir(store.layers) if name.endswith(".json")} >= finished
    inodes = {name: os.stat(f"{store.layers}/{name}").st_ino for name in finished}
    image = fetch(store, many)
    assert {name: os.stat(f"{store.layers}/{name}").st_ino for name in finished} == inodes  # they were not made again
    assert all(map(store.has_layer, image.layers))
    assert store.collect(keep_cache=False) == 0
    assert not [name for name in os.listdir(store.layers) if name.startswith(".")]


def large(directory, sizes):
    """An OCI layout with one layer; every other of its files is not to be compressed."""
    path, hashes = directory / "layer.tar.gz", [hashlib.sha256(), hashlib.sha256()]
    noise = os.urandom(1 << 20)

    class Both:
        """What is written is hashed, and goes into the gzip."""

        def __init__(self, out):
            self.out, self.length = out, 0

        def write(self, data):
            hashes[0].update(data)
            self.length += len(data)
            return self.out.write(data)

        def tell(self):
            return self.length

    with gzip.open(path, "wb", compresslevel=1) as packed, tarfile.open(fileobj=Both(packed), mode="w|") as archived:
        for number, size in enumerate(sizes):
            member = tarfile.TarInfo(f"file{number}")
            member.size = size
            archived.addfile(member, _Pieces(bytes(1 << 20) if number % 2 else noise, size >> 20))
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            hashes[1].update(block)
    layout = directory / "layout"
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    value = Layout()
    body = value.blob(
        {"os": "linux", "architecture": config.architecture(),
         "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashes[0].hexdigest()}"]}},
        "application/vnd.oci.image.config.v1+json",
    )  # fmt: skip
    layer = {
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "digest": f"sha256:{hashes[1].hexdigest()}",
        "size": path.stat().st_size,
    }
    manifest = value.blob(
        {"schemaVersion": 2, "config": body, "layers": [layer]}, "application/vnd.oci.image.manifest.v1+json",
        annotations={"org.opencontainers.image.ref.name": "x"},
    )  # fmt: skip
    for name, data in value.blobs.items():
        (blobs / name[7:]).write_bytes(data)
    path.rename(blobs / hashes[1].hexdigest())
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    return layout


def peak(process):
    """The most memory of a process and all of its children together, in bytes."""
    found = 0
    while process.poll() is None:
        found = max(found, sum(_pss(pid) for pid in _family(process.pid)))
        time.sleep(0.01)
    assert process.returncode == 0
    return found


def test_a_large_layer_needs_little_memory(store, plain, peers, tmp_path):
    """600 MB, half of which is not to be compressed; the peak of all processes of the pull is below 100 MB."""
    layout, text = large(tmp_path, [100 << 20] * 6), f"{plain.host}/large/app:1"
    by_skopeo(peers, layout, text)
    shutil.rmtree(layout)
    found = peak(start(store, text))
    assert 0 < found < 100 << 20, f"{found >> 20} MB"


@pytest.mark.parametrize("source", ["registry", "layout", "archive"])
def test_so_does_the_whole_module_also_when_it_verifies(store, plain, peers, tmp_path, source):
    """One file of 300 MB; fetched or loaded, verified, and made again because it is damaged."""
    layout, text = large(tmp_path, [300 << 20]), f"{plain.host}/large/one:1"
    given = {"name": "large:1", "source": source, "path": str(layout)}
    if source == "registry":
        by_skopeo(peers, layout, text)
        given = {"name": text, "tls_verify": False}
    if source == "archive":
        given["path"] = f"{tmp_path}/image.tar.gz"
        run("tar", "-czf", given["path"], "-C", layout, ".")
    told = []
    for damage, args in ((False, given), (False, {**given, "verify": True}), (True, {**given, "verify": True})):
        if damage:
            (directory,) = store.directories(store.need(given["name"]))
            with open(f"{directory}/file0", "r+b") as file:
                file.write(b"damaged")
        process = starting("image", {"root": store.paths.root, **args}, stdout=subprocess.PIPE, text=True)
        found = peak(process)
        assert 0 < found < 100 << 20, f"{found >> 20} MB"
        told.append(json.loads(process.stdout.read())["changed"])
    assert told == [True, False, True]


class _Pieces:
    def __init__(self, piece, count):
        self.piece, self.left = piece, count * len(piece)

    def read(self, size):
        size = min(size, self.left, len(self.piece))
        self.left -= size
        return self.piece[:size]


def _family(pid):
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in _family(int(child)))]


def _pss(pid):
    """Bytes; a page that several have counts once among them."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0


# signatures
@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_signatures_are_where_a_policy_of_skopeo_s_finds_them(store, plain, peers, layout, tmp_path, kind):
    text, key = f"{plain.host}/signed/{kind}:1", signing.Key(tmp_path / "key", kind)
    by_skopeo(peers, layout, text)
    policy = {"type": "sigstoreSigned", "keyPath": str(key.public), "signedIdentity": {"type": "matchRepository"}}
    (tmp_path / "policy.json").write_text(json.dumps({"default": [policy]}))
    (tmp_path / "registries.d").mkdir()
    sources = {"docker": {plain.host: {"use-sigstore-attachments": True}}}
    (tmp_path / "registries.d" / "x.yaml").write_text(json.dumps(sources))

    def theirs():
        words = ("--policy", tmp_path / "policy.json", "--registries.d", tmp_path / "registries.d", "copy", "-q")
        options = ("--src-tls-verify=false", f"docker://{text}", f"dir:{tmp_path}/copy")
        return run("skopeo", *words, *options, env=peers.env, check=False)

    def ours():
        return pull.pull(store, text, named(text), client(), public_key=str(key.public))

    assert "A signature was required, but no signature exists" in theirs()
    with pytest.raises(SignatureError, match="is not signed"):
        ours()
    digest_of_image = pull.resolve(named(text), client())
    registry, endpoint = client(), endpoints(named(text))[-1]
    payload = signing.payload(text.rpartition(":")[0], digest_of_image)
    for data in (payload, signing.CONFIG):
        registry.upload(endpoint, digest(data), len(data), data)
    tag = f"{digest_of_image.replace(':', '-')}.sig"
    other = signing.Key(tmp_path / "other", kind)
    for signer, good in ((other, False), (key, True)):
        signed = signing.manifest([(payload, signer.sign(payload))])
        registry.put_manifest(endpoint, tag, signed, "application/vnd.oci.image.manifest.v1+json")
        said = theirs()
        assert "no signature exists" not in said
        assert "sigstore disabled" in said or (said == "") == good  # Debian's skopeo finds it, and looks no further
        if good:
            assert ours().layers
        else:
            with pytest.raises(SignatureError, match="the key has not made it"):
                ours()
