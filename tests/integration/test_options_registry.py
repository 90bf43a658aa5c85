# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of images that say where one comes from and how: a registry of the test's own tells what it was asked."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store

from ..image_tars import Layout, digest, entry, folder, link, tar
from ..registry_server import INDEX, Answer, Registry, serving
from .options_box import Box, until
from .warm import TRAP, WarmPlace

pytestmark = pytest.mark.root
BUSYBOX = Path("/bin/busybox")


def layer(word: str) -> bytes:
    """A root file system that says the word."""
    shell = entry("bin/sh", data=BUSYBOX.read_bytes(), mode=0o755)
    return tar(folder("bin"), shell, link("bin/sleep", "sh"), entry("word", data=word.encode()))


def publish(
    registry: Registry, tag: str, word: str, *, repository: str = "thing", architecture: str = "amd64"
) -> dict[str, Any]:
    data = layer(word)
    config = {"Cmd": ["/bin/sh", "-c", TRAP]}
    return registry.image(repository, tag, [(data, data)], architecture=architecture, config=config)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving() as registry:
        publish(registry, "one", "one")
        yield registry


@pytest.fixture
def place(shared: WarmPlace, box: Box) -> Iterator[WarmPlace]:
    """Afterwards there is no image of a registry."""
    yield shared
    box.remove()
    for image in shared.task("image_info")["images"]:
        if "/" in image["name"] or image["name"].startswith("thing"):
            shared.task("image", name=image["name"], state="absent")


@contextlib.contextmanager
def real_registry(directory: Path) -> Iterator[str]:
    """Debian's, as HOST:PORT."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": {"addr": host},
        "log": {"level": "error", "accesslog": {"disabled": True}},
    }
    (directory / "config.yml").write_text(json.dumps(config))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(directory / "config.yml")], stdout=log, stderr=log)
    try:
        until(lambda: process.poll() is not None or answers_at(host))
        yield host
    finally:
        process.terminate()
        process.wait(10)


def answers_at(host: str) -> bool:
    name, dummy, port = host.partition(":")
    with contextlib.suppress(OSError), socket.create_connection((name, int(port)), 1):
        return True
    return False


def args(registry: Registry, tag: str = "one", **more: Any) -> dict[str, Any]:
    return {"name": f"{registry.host}/thing:{tag}", "tls_verify": False, **more}


def word(place: WarmPlace, image: str) -> str:
    box = Box(place)
    box.make(image=image)
    return box.read("/word")


def test_source_is_a_registry_by_default(place: WarmPlace, registry: Registry) -> None:
    told = place.quartet("image", args(registry))
    assert told[0]["actions"] == [f"image {registry.host}/thing:one: pull {registry.host}/thing:one"]
    assert told[1]["image"]["repo_digests"][0].startswith(f"{registry.host}/thing@sha256:")
    assert word(place, f"{registry.host}/thing:one") == "one"
    place.quartet("image", args(registry, source="registry"), "nnnn")


def test_pull(place: WarmPlace, registry: Registry) -> None:
    result = place.task("image", fails=True, **args(registry, pull="never"))
    assert result["msg"] == f"no such image: {registry.host}/thing:one (pull: never forbids to fetch it)"
    place.quartet("image", args(registry, pull="missing"))
    publish(registry, "one", "two")
    asked = len(registry.asked)
    place.quartet("image", args(registry), "nnnn")
    place.quartet("image", args(registry, pull="never"), "nnnn")
    assert len(registry.asked) == asked
    place.quartet("image", args(registry, pull="always"))
    assert word(place, args(registry)["name"]) == "two"


def test_pull_of_a_container(place: WarmPlace, registry: Registry, box: Box) -> None:
    """Without a word of the image before: here by a mirror, for a container says nothing of TLS."""
    name = args(registry)["name"]
    place.task("image", **args(registry))
    place.task("image", name=name, state="absent")
    told = place.task("container", check=True, name="box", image=name, networks=[])
    assert told["actions"][0] == f"image {name}: pull {registry.host}/thing:one"
    refused = place.task("container", fails=True, name="box", image=name, networks=[])
    assert "speaks no TLS" in refused["msg"]
    assert place.task("container_info", name="box")["containers"] == []
    never = place.task("container", fails=True, name="box", image=name, networks=[], pull="never")
    assert never["msg"] == f"no such image: {name} (pull: never forbids to fetch it)"


def test_pull_of_a_container_whose_stack_says_how_the_registry_is_reached(place: WarmPlace, registry: Registry) -> None:
    about = args(registry)
    name = about.pop("name")
    box = {"image": name, "network_mode": "none", "command": ["sh", "-c", TRAP], "pull": "always"}
    body = {"name": "set", "images": {name: about}, "containers": {"box": box}}
    try:
        place.quartet("stack", body)
        publish(registry, "one", "two")
        place.quartet("stack", body)
        publish(registry, "one", "three")
        place.quartet("stack", {**body, "containers": {"box": {**box, "pull": "missing"}}}, "nnnn")
    finally:
        place.task("stack", name="set", state="absent")
    assert word(place, name) == "two"


def test_a_base_is_pulled(place: WarmPlace, registry: Registry) -> None:
    base = args(registry)
    built = {"name": "thing", "from": base.pop("name"), "layers": [{"copy": {"content": "x", "dest": "/x"}}], **base}
    told = place.quartet("image", built)
    assert told[0]["actions"][0] == f"image {built['from']}: pull {built['from']}"
    publish(registry, "one", "two")
    place.quartet("image", built, "nnnn")
    place.quartet("image", {**built, "pull": "always"})
    assert word(place, "thing") == "two"


def test_platform(place: WarmPlace, registry: Registry) -> None:
    entries = []
    for machine in ("amd64", "arm64"):
        manifest = publish(registry, machine, machine, architecture=machine)
        data = json.dumps(manifest).encode()
        descriptor = Layout().blob(data, manifest.get("mediaType") or "application/vnd.oci.image.manifest.v1+json")
        registry.put("thing", descriptor["digest"], data)
        entries.append({**descriptor, "platform": {"os": "linux", "architecture": machine}})
    registry.put("thing", "both", {"schemaVersion": 2, "manifests": entries}, INDEX)
    image = args(registry, "both")
    assert place.quartet("image", image)[1]["image"]["architecture"] == "amd64"
    assert place.quartet("image", {**image, "platform": "linux/arm64"})[1]["image"]["architecture"] == "arm64"
    place.quartet("image", {**image, "platform": "linux/amd64"})
    refused = place.task("image", fails=True, **{**image, "platform": "linux/s390x"})
    assert "linux/s390x" in refused["msg"]
    assert "linux/amd64, linux/arm64" in refused["msg"]


def test_mirrors(place: WarmPlace, registry: Registry) -> None:
    dead = "127.0.0.1:1"
    place.quartet("image", {**args(registry), "name": "nowhere.invalid/thing:one", "mirrors": [dead, registry.host]})
    assert word(place, "nowhere.invalid/thing:one") == "one"
    with serving() as deeper:
        data = layer("deep")
        deeper.image(
            "cache/hub/thing", "one", [(data, data)], architecture="amd64", config={"Cmd": ["/bin/sh", "-c", TRAP]}
        )
        mirrors = {"mirrors": [f"{deeper.host}/cache/hub"], "pull": "always"}
        place.quartet("image", {**args(registry), "name": "nowhere.invalid/thing:one", **mirrors})
    assert word(place, "nowhere.invalid/thing:one") == "deep"


def test_push(place: WarmPlace, registry: Registry, tmp_path: Path) -> None:
    """To a registry that takes; what it then has is what it gives."""
    with real_registry(tmp_path) as host:
        there = {"name": f"{host}/shop/thing:1", "tls_verify": False}
        told = place.quartet("image", {**there, "from": "marked", "push": True})
        assert told[0]["actions"] == [
            f"image {host}/shop/thing:1: {what}" for what in ("tag marked:latest", f"push to {host}/shop/thing:1")
        ]
        identity = told[1]["image"]["id"]
        place.task("image", name=there["name"], state="absent")
        assert place.quartet("image", there)[1]["image"]["id"] == identity
        place.quartet("image", {**there, "from": "marked", "push": True, "labels": {"a": "b"}})
        refused = place.task("image", fails=True, push=True, **there)
        assert refused["msg"].startswith("push: True has nothing to push")
    gone = place.task("image", fails=True, push=True, force=True, **{**there, "from": "marked"})
    assert gone["msg"].startswith(f"image {host}/shop/thing:1: push: {host}: ")


def test_a_file_is_added_from_an_address(place: WarmPlace, registry: Registry) -> None:
    """Once: while the checksum is the same, nothing is fetched."""
    registry.rule("/file$", Answer(200, b"fetched"))
    add = {"src": f"http://{registry.host}/file", "dest": "/x/"}
    built = {"name": "thing", "from": "marked", "layers": [{"add": {**add, "checksum": digest(b"fetched")}}]}
    place.quartet("image", built)
    assert len(registry.requests("/file$")) == 1
    place.quartet("image", {**built, "labels": {"a": "b"}})
    assert len(registry.requests("/file$")) == 1
    other = [{"add": {**add, "checksum": digest(b"other")}}]
    refused = place.task("image", fails=True, **{**built, "layers": other})
    assert digest(b"fetched").partition(":")[2] in refused["msg"]
    without = place.task("image", fails=True, **{**built, "layers": [{"add": add}]})
    assert without["msg"].startswith("layers[0].add.src: ")


# as files


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive", "oci"])
def test_export(place: WarmPlace, tmp_path: Path, form: str) -> None:
    path = tmp_path / "marked"
    args = {"name": "marked", "path": str(path), "format": form}
    place.quartet("image_export", args)
    assert path.is_dir() == (form == "oci")
    identity = place.task("image_info", name="marked")["images"][0]["id"]
    source = "layout" if form == "oci" else "archive"
    load = {"name": "thing", "source": source, "path": str(path), "archive_name": "marked:latest"}
    assert place.quartet("image", load)[1]["image"]["id"] == identity
    assert place.task("image_export", force=True, **args)["changed"]
    place.quartet("image_export", {**args, "name": "bb"})
    if form == "oci":
        place.quartet("image", load, "nnnn")
        smaller = {**args, "path": str(tmp_path / "smaller"), "compress": True}
        place.quartet("image_export", smaller)
        assert size(tmp_path / "smaller") < size(path)
    other = "oci" if form != "oci" else "oci-archive"
    assert place.task("image_export", fails=True, **{**args, "format": other})["msg"].startswith("path: ")
    nowhere = {**args, "path": "/nonexistent/x"}
    assert "there is no directory /nonexistent" in place.task("image_export", fails=True, **nowhere)["msg"]


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*"))


# who asks whom


class Certificates:
    """An authority, a registry's certificate and a client's, as files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = self._made("authority", "-x509", "-subj", "/CN=authority", "-addext", "keyUsage=keyCertSign")
        for name in ("server", "client"):
            self._signed(name)

    def _made(self, name: str, *words: str) -> Path:
        path = self.directory / f"{name}.pem"
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-batch", "-keyout",
                      f"{self.directory}/{name}.key", "-out", str(path), *words)  # fmt: skip
        return path

    def _signed(self, name: str) -> None:
        request = self._made(name, "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")
        self._openssl("x509", "-req", "-in", str(request), "-out", str(request), "-copy_extensions", "copy", "-CA",
                      str(self.authority), "-CAkey", f"{self.directory}/authority.key")  # fmt: skip

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def public_key(self, name: str) -> str:
        self._openssl("pkey", "-in", self.path(f"{name}.key"), "-pubout", "-out", self.path(f"{name}.pub"))
        return self.path(f"{name}.pub")

    def sign(self, name: str, data: bytes) -> bytes:
        (self.directory / "data").write_bytes(data)
        self._openssl(
            "dgst", "-sha256", "-sign", self.path(f"{name}.key"), "-out", self.path("signature"), self.path("data")
        )
        return (self.directory / "signature").read_bytes()

    @staticmethod
    def _openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def encrypt(registry: Registry, certificates: Certificates, *, ask: bool = False) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.path("server.pem"), certificates.path("server.key"))
    if ask:
        context.load_verify_locations(certificates.path("authority.pem"))
        context.verify_mode = ssl.CERT_REQUIRED
    registry.server.socket = context.wrap_socket(registry.server.socket, server_side=True)


def test_tls_verify_and_ca_path(place: WarmPlace, registry: Registry, certificates: Certificates) -> None:
    encrypt(registry, certificates)
    name = args(registry)["name"]
    refused = place.task("image", fails=True, name=name)
    assert "its certificate is refused" in refused["msg"]
    assert "ca_path" in refused["msg"]
    place.quartet("image", {"name": name, "ca_path": certificates.path("authority.pem")})
    place.task("image", name=name, state="absent")
    place.quartet("image", {"name": name, "tls_verify": False})


@pytest.mark.parametrize("joined", [False, True])
def test_client_cert_and_client_key(
    place: WarmPlace, registry: Registry, certificates: Certificates, joined: bool
) -> None:
    encrypt(registry, certificates, ask=True)
    given = {"name": args(registry)["name"], "ca_path": certificates.path("authority.pem")}
    assert registry.host in place.task("image", fails=True, **given)["msg"]
    given.update(client_cert=certificates.path("client.pem"), client_key=certificates.path("client.key"))
    if joined:
        both = Path(certificates.path("both.pem"))
        both.write_text("".join(Path(given.pop(key)).read_text() for key in ("client_cert", "client_key")))
        given["client_cert"] = str(both)
    place.quartet("image", given)


def guard(registry: Registry, user: str, password: str) -> None:
    wanted = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
    refusal = Answer(401, b"{}", {"WWW-Authenticate": 'Basic realm="registry"'})
    registry.rule("", lambda asked: None if asked.headers.get("authorization") == wanted else refusal)


def test_username_and_password(place: WarmPlace, registry: Registry) -> None:
    guard(registry, "me", "open sesame")
    refused = place.task("image", fails=True, **args(registry, username="me", password="abracadabra"))
    assert "it wants to know who asks (401)" in refused["msg"]
    told = place.quartet("image", args(registry, username="me", password="open sesame"))
    assert "sesame" not in json.dumps(told)
    assert "abracadabra" not in json.dumps(refused)


def test_auth_file(place: WarmPlace, registry: Registry, tmp_path: Path) -> None:
    guard(registry, "me", "open sesame")
    file = tmp_path / "auth.json"
    pair = base64.b64encode(b"me:open sesame").decode()
    file.write_text(json.dumps({"auths": {"other.example": {"auth": "b3RoZXI6"}}}))
    assert "(401)" in place.task("image", fails=True, **args(registry, auth_file=str(file)))["msg"]
    file.write_text(json.dumps({"auths": {registry.host: {"auth": pair}}}))
    place.quartet("image", args(registry, auth_file=str(file)))
    missing = place.task("image", fails=True, force=True, **args(registry, auth_file="/nonexistent"))
    assert missing["msg"].startswith("auth_file: '/nonexistent'")


def test_public_key(place: WarmPlace, registry: Registry, certificates: Certificates) -> None:
    """As cosign writes signatures: a tag of the digest's name, whose layer is what was signed."""
    key = certificates.public_key("client")
    image = args(registry, public_key=key)
    assert "is not signed" in place.task("image", fails=True, **image)["msg"]
    name = digest(registry.manifests["thing/manifests/one"][1])
    identity = {"docker-reference": f"{registry.host}/thing"}
    critical = {
        "type": "cosign container image signature",
        "image": {"docker-manifest-digest": name},
        "identity": identity,
    }
    payload = json.dumps({"critical": critical, "optional": None}).encode()
    signature = base64.b64encode(certificates.sign("client", payload)).decode()
    layout = Layout()
    blob = layout.blob(payload, "application/vnd.dev.cosign.simplesigning.v1+json")
    blob["annotations"] = {"dev.cosignproject.cosign/signature": signature}
    config = layout.blob({}, "application/vnd.oci.image.config.v1+json")
    registry.blobs.update(layout.blobs)
    registry.put("thing", f"{name.replace(':', '-')}.sig", {"schemaVersion": 2, "config": config, "layers": [blob]})
    other = args(registry, public_key=certificates.public_key("server"))
    assert "signature" in place.task("image", fails=True, **other)["msg"]
    place.quartet("image", image)


# what may be in it


def test_verify(place: WarmPlace, registry: Registry, box: Box) -> None:
    image = args(registry, verify=True)
    place.quartet("image", image)
    store = Store(place.paths)
    file = Path(store.directories(store.need(image["name"]))[0]) / "word"
    about = file.stat()
    file.write_text("two")
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    box.make(image=image["name"])
    refused = place.task("image", fails=True, **image)
    assert "containers are over it" in refused["msg"]
    assert "is damaged: sha256:" in refused["msg"]
    box.remove()
    told = place.quartet("image", image)
    assert "throw away sha256:" in told[0]["actions"][0]
    assert word(place, image["name"]) == "one"


def test_max_size(place: WarmPlace, registry: Registry) -> None:
    data = tar(entry("zeros", data=bytes(3 << 20)))
    registry.image("thing", "large", [(data, data)])
    refused = place.task("image", fails=True, **args(registry, "large", max_size="1m"))
    assert "max_size" in refused["msg"]
    assert place.task("image_info", name=args(registry, "large")["name"])["images"] == []
    place.quartet("image", args(registry, "large", max_size="4m"))


def test_device_nodes(place: WarmPlace, registry: Registry) -> None:
    console = entry("dev/console", b"3", devmajor=5, devminor=1)
    data = tar(folder("dev"), console, entry("word", data=b"with a device"))
    registry.image("thing", "device", [(data, data)])
    refused = place.task("image", fails=True, **args(registry, "device"))
    assert "device_nodes" in refused["msg"]
    place.quartet("image", args(registry, "device", device_nodes="skip"))
    place.task("image", name=args(registry, "device")["name"], state="absent")
    place.quartet("image", args(registry, "device", device_nodes="make"))


def test_container_is_committed(place: WarmPlace, box: Box) -> None:
    box.make(image="marked")
    box.sh("echo made > /made; rm /marker; ln /made /again")
    told = place.quartet("image", {"name": "thing", "source": "container", "container": "box"})
    assert told[0]["actions"] == ["image thing:latest: commit container box"]
    assert told[1]["image"]["config"]["Cmd"] == ["sh", "-c", TRAP]
    box.sh("echo more > /made")
    place.quartet("image", {"name": "thing", "source": "container", "container": "box", "cmd": ["sleep", "700"]})
    box.remove()
    box.make(image="thing")
    assert box.read("/made") == box.read("/again") == "more\n"
    assert not box.path("/marker").exists()
    assert box.proc("cmdline").split("\0")[:2] == ["sleep", "700"]
    refused = place.task("image", fails=True, name="thing", source="container", container="nobody")
    assert refused["msg"] == "container: 'nobody' is no container of this host"


def test_an_idle_container_is_the_same_image_whenever_it_is_committed(place: WarmPlace, box: Box) -> None:
    box.make(image="marked")
    box.sh("echo made > /made; rm /marker")
    commit = {"source": "container", "container": "box", "force": True}
    first = place.task("image", name="thing", **commit)["image"]["id"]
    time.sleep(1.1)  # a layer's times are in seconds
    assert place.task("image", name="thing", **commit)["image"]["id"] == first


BUSY = """mkdir /busy
for n in 1 2 3; do
    (i=0; while :; do
        i=$((i+1)); mkdir -p /busy/$n/$i/d; echo $i > /busy/$n/$i/d/f; ln -s f /busy/$n/$i/d/l
        mv /busy/$n/$i /busy/$n/moved$i; rm -rf /busy/$n/moved$((i-9)); ln -sfn /etc /busy/$n/d; rm /busy/$n/d
        dd if=/dev/zero of=/busy/t$n bs=1k count=$((i%300)); done) > /dev/null 2>&1 &
done
for i in $(seq 300); do mkdir -p /busy/many$i; echo $i > /busy/many$i/f; done"""


def test_a_container_that_writes_meanwhile_is_committed(place: WarmPlace, box: Box) -> None:
    box.make(image="marked")
    box.sh(BUSY)
    for dummy in range(10):
        place.task("image", name="thing", source="container", container="box", force=True)
    box.remove()
    box.make(image="thing")
    assert box.read("/busy/many300/f") == "300\n"
