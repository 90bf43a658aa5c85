# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of images: which image in them is meant, and what is refused before anything is unpacked."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError, StoreError
from ansible_collections.vessel.host.plugins.module_utils._image import archive
from ansible_collections.vessel.host.plugins.module_utils._image.config import architecture
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._image.tarball import Archive
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from ....image_tars import Layout, digest, docker_archive, entry, link, named, tar

EMPTY = bytes(1024)  # a layer with nothing in it, so that nobody has to be root
OTHER = bytes(2048)
needs_zstd = pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed")
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
def store(tmp_path):
    return Store(Paths.at(str(tmp_path / "vessel")))


@pytest.fixture
def load(store, tmp_path):
    def load(data, wanted="", name="x:1", **options):
        path = tmp_path / "image.tar"
        path.write_bytes(data)
        return archive.load(store, str(path), name, wanted, **options)

    return load


def two():
    """A layout with two images."""
    layout = Layout()
    one, other = layout.image([(EMPTY, EMPTY)]), layout.image([(OTHER, OTHER)])
    return layout, one, other


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_docker_save(load, store, pack):
    image = load(pack(docker_archive([EMPTY, OTHER], ["debian:12"], config={"created": "2020-01-01T00:00:00Z"})))
    assert (image.name, image.layers, image.config) == ("x:1", (digest(EMPTY), digest(OTHER)), {"Cmd": ["sh"]})
    assert image.created == "2020-01-01T00:00:00Z"
    assert digest(store.configuration(image)) == image.id
    assert store.names() == ["x:1"]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("stored", [bytes, gzip.compress])
def test_an_oci_layout(load, store, pack, stored):
    layout = Layout()
    image = load(pack(layout.tar(layout.image([(stored(EMPTY), EMPTY)], config={"config": {"User": "1"}}))))
    assert (image.layers, image.config) == ((digest(EMPTY),), {"User": "1"})
    assert store.manifest(image)["layers"][0]["size"] == len(stored(EMPTY))


@pytest.mark.parametrize(
    ("wanted", "name", "layer"),
    [("one", "x:1", 0), ("docker.io/library/other:latest", "x:1", 1), ("other", "x:1", 1), ("", "other:latest", 1),
     ("", "repo:one", 0)],
)  # fmt: skip
def test_one_of_several_is_chosen_by_name(load, wanted, name, layer):
    layout, one, other = two()
    data = layout.tar(named(one, "one"), named(other, "docker.io/library/other:latest"))
    assert load(data, wanted, name).layers == (digest((EMPTY, OTHER)[layer]),)


def test_one_of_several_of_docker_save(load):
    first, second = docker_archive([EMPTY], ["a:1", "a:2"]), docker_archive([OTHER], ["localhost/b:latest"])
    entries, manifests = [], []
    for index, data in enumerate((first, second)):
        with tarfile.open(fileobj=io.BytesIO(data)) as source:
            for member in source:
                content = source.extractfile(member).read()
                if member.name == "manifest.json":
                    value = json.loads(content)[0]
                    manifests.append({**value, "Layers": [f"{index}-{path}" for path in value["Layers"]]})
                else:
                    name = member.name if member.name.endswith("json") else f"{index}-{member.name}"
                    entries.append(entry(name, data=content))
    data = tar(*entries, entry("manifest.json", data=json.dumps(manifests).encode()))
    assert load(data, "a:2").layers == (digest(EMPTY),)
    assert load(data, "localhost/b").layers == (digest(OTHER),)
    with pytest.raises(StoreError) as caught:
        load(data)
    assert str(caught.value).endswith("image.tar has 2 images (choose with archive_name: a:1, a:2, localhost/b:latest)")


def test_the_index_of_this_machine(load):
    layout, one, other = two()
    foreign = {**one, "platform": {"os": "linux", "architecture": "pdp11"}}
    ours = {**other, "platform": {"os": "linux", "architecture": architecture()}}
    attested = {**one, "platform": {"os": "unknown", "architecture": "unknown"}}
    assert load(layout.tar(layout.index([foreign, layout.index([ours, attested]), ours]))).layers == (digest(OTHER),)
    assert load(layout.tar(ours, attested)).layers == (digest(OTHER),)
    with pytest.raises(StoreError, match=rf"has no image for linux/{architecture()} \(it has linux/pdp11\)"):
        load(layout.tar(layout.index([foreign])))


def test_dockers_links_between_equal_layers(load):
    config = json.dumps({"rootfs": {"diff_ids": [digest(EMPTY)] * 3}}).encode()
    manifest = [{"Config": "c.json", "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"]}]
    image = load(
        tar(
            entry("./a/layer.tar", data=EMPTY),
            link("./b/layer.tar", "../a/layer.tar"),
            link("c/layer.tar", "a/layer.tar", tarfile.LNKTYPE),
            entry("c.json", data=config),
            entry("./manifest.json", data=json.dumps(manifest).encode()),
        )
    )
    assert image.layers == (digest(EMPTY),) * 3


def docker(**parts):
    """A docker-save archive with parts of one's own."""
    config = {"rootfs": {"diff_ids": [digest(EMPTY)]}, **parts.pop("config", {})}
    manifest = {"Config": "c.json", "Layers": ["l.tar"], **parts.pop("manifest", {})}
    return tar(
        entry("l.tar", data=EMPTY),
        entry("c.json", data=json.dumps(config).encode()),
        entry("manifest.json", data=parts.pop("raw", json.dumps([manifest]).encode())),
    )


def oci(change):
    """An OCI layout after ``change`` to its descriptor, manifest or blobs."""
    layout = Layout()
    image = layout.image([(EMPTY, EMPTY)])
    return layout.tar(change(layout, image, json.loads(layout.blobs[image["digest"]])) or image)


def manifest_with(**parts):
    def change(layout, image, manifest):
        return layout.blob({**manifest, **parts}, image["mediaType"])

    return oci(change)


def descriptor_with(**parts):
    return oci(lambda layout, image, manifest: {**image, **parts})


def layer_with(**parts):
    def change(layout, image, manifest):
        return layout.blob({**manifest, "layers": [{**manifest["layers"][0], **parts}]}, image["mediaType"])

    return oci(change)


def nested():
    layout = Layout()
    index = layout.image([(EMPTY, EMPTY)])
    for _number in range(9):
        index = {**layout.index([index]), "platform": {"os": "linux", "architecture": architecture()}}
    return layout.tar(index)


def for_others():
    layout = Layout()
    entries = [{**layout.image([(EMPTY, EMPTY)]), "platform": {"os": "linux", "architecture": name}} for name in "ab"]
    return layout.tar(layout.index(entries))


BAD = [
    (b"", "is not a tar archive, or damaged: empty file"),
    (b"garbage" * 1000, "is not a tar archive, or damaged: "),
    (gzip.compress(b"garbage" * 1000), "is not a tar archive, or damaged: "),
    (gzip.compress(docker())[:-20], "image.tar is cut short"),
    (docker()[:1500], "is not a tar archive, or damaged: "),
    (tar(entry("etc/passwd")), "is no image (it has neither docker-save's manifest.json nor OCI's index.json"),
    (docker(raw=b"["), "manifest.json is not JSON"),
    (docker(raw=b"{}"), "manifest.json is not the list that it must be"),
    (docker(raw=b"[[]]"), "manifest.json is not the list that it must be"),
    (docker(raw=b"[]"), "image.tar has 0 images (choose with archive_name: it names none)"),
    (docker(raw=b"[" * 100000), "manifest.json is not JSON"),
    (docker(raw=b" " * (5 << 20)), "manifest.json has more than 4194304 bytes"),
    (docker(manifest={"Config": None}), "manifest.json names no Config"),
    (docker(manifest={"Config": "nothing.json"}), "lacks nothing.json, which its manifest names"),
    (docker(manifest={"Config": "../../etc/passwd"}), "lacks ../../etc/passwd, which its manifest names"),
    (docker(manifest={"Layers": "l.tar"}), "manifest.json: Layers is not the list that it must be"),
    (docker(manifest={"Layers": [7]}), "manifest.json: Layers is not the list that it must be"),
    (docker(manifest={"Layers": ["gone.tar"]}), "lacks gone.tar, which its manifest names"),
    (docker(manifest={"Layers": []}), "the manifest has 0 layers and the configuration 1"),
    (docker(manifest={"RepoTags": {}}), None),
    (docker(manifest={"RepoTags": 7}), "manifest.json: RepoTags is not the list that it must be"),
    (docker(config={"rootfs": {"diff_ids": [digest(OTHER)]}}), f"l.tar: the layer has the digest {digest(EMPTY)}, and"),
    (docker(config={"rootfs": None}), "its configuration has no rootfs.diff_ids"),
    (docker(config={"rootfs": {"diff_ids": ["sha256:x"]}}), "'sha256:x' is not a sha256 digest"),
    (docker(config={"architecture": "pdp11"}), f"the image is for pdp11, and this host is {architecture()}"),
    (docker(config={"os": "windows"}), "the image is for windows, and this host is linux"),
    (docker(config={"config": [1]}), "configuration is malformed: config is not a mapping"),
    (docker(config={"config": {"Cmd": "sh"}}), "malformed: Cmd is not a list of strings"),
    (docker(config={"config": {"Env": [7]}}), "malformed: Env is not a list of strings"),
    (docker(config={"config": {"Env": ["A=\0"]}}), "malformed: Env is not a list of strings"),
    (docker(config={"config": {"User": 7}}), "malformed: User is not a string"),
    (docker(config={"config": {"Labels": []}}), "malformed: Labels is not a mapping"),
    (docker(config={"config": {"Healthcheck": "true"}}), "malformed: Healthcheck is not a mapping"),
    (docker(config={"config": {"Healthcheck": {"Test": "true"}}}), "Healthcheck.Test is not a list of strings"),
    (docker(config={"config": {"Healthcheck": {"Retries": True}}}), "malformed: Healthcheck.Retries is not a number"),
    (docker(config={"history": 7}), "malformed: history is not a list of mappings"),
    (docker(config={"history": ["x"]}), "malformed: history is not a list of mappings"),
    (docker(config={"history": [{"created_by": ["x"]}]}), "malformed: history: created_by is not a string"),
    (docker(config={"author": {}}), "malformed: author is not a string"),
    (docker(config={"created": 7}), "malformed: created is not a string"),
    (docker(config={"history": None, "author": None, "created": None}), None),
    (docker(raw=b'[{"Config": ' + b"9" * 5000 + b"}]"), "manifest.json is not JSON"),
    (docker(config={"config": {"Cmd": None, "Env": None, "User": "", "Healthcheck": None, "Volumes": None}}), None),
    (descriptor_with(size=7), "has 355 bytes, and it should have 7"),
    (descriptor_with(size=-7), "is -7"),
    (descriptor_with(size=None), "is None"),
    (descriptor_with(size=1e400), "is inf"),
    (descriptor_with(size=10**19), "has 355 bytes, and it should have 10000000000000000000"),
    (descriptor_with(digest=digest(b"other")), "lacks blobs/sha256/"),
    (descriptor_with(digest="md5:x"), "'md5:x' is not a sha256 digest"),
    (descriptor_with(digest="sha256:../../../etc/passwd"), "is not a sha256 digest"),
    (oci(lambda layout, image, manifest: layout.blobs.update({image["digest"]: b"{}" + b" " * 390})), "has the digest"),
    (manifest_with(config={"mediaType": "application/vnd.cncf.helm.config.v1+json"}), "and no container image"),
    (manifest_with(config=7), "what it holds is None, and no container image"),
    (manifest_with(layers={}), "layers is not the list that it must be"),
    (layer_with(mediaType="application/x-foreign"), "a layer is of the unknown kind application/x-foreign"),
    (layer_with(size=7), "has 1024 bytes, and it should have 7"),
    (layer_with(digest=digest(OTHER)), "lacks blobs/sha256/"),
    (oci(lambda layout, image, manifest: layout.blobs.update({digest(EMPTY): OTHER})), "the layer has the digest"),
    (manifest_with(layers=[]), "the manifest has 0 layers and the configuration 1"),
    (for_others(), f"has no image for linux/{architecture()} (it has linux/a, linux/b)"),
    (nested(), "its indexes lead to indexes, and to no image"),
]


@pytest.mark.parametrize(("data", "sentence"), BAD, ids=[str(sentence)[:60] for _data, sentence in BAD])
def test_what_lies_is_refused_in_a_sentence_and_leaves_nothing(load, store, data, sentence):
    if sentence is None:
        load(data)
        return
    with pytest.raises(StoreError) as caught:
        load(data)
    assert sentence in str(caught.value)
    assert str(caught.value).count("\n") == 0
    assert not os.path.exists(store.paths.state)


def test_a_compressed_blob_with_another_digest(load):
    layout = Layout()
    stored = gzip.compress(EMPTY)
    image = layout.image([(stored, EMPTY)])
    layout.blobs[digest(stored)] = gzip.compress(EMPTY, 1, mtime=1)
    with pytest.raises(StoreError, match=r"has the digest|bytes, and it should have"):
        load(layout.tar(image))


def bomb(*, zstd=False):
    """100 MB in a few kilobytes."""
    data = b"".join((docker()[:-1024], tar(entry("zeros"))[:512], bytes(100 << 20)))
    command = ["zstd", "-c"] if zstd else ["gzip", "-1c"]
    return subprocess.run(command, input=data, check=True, capture_output=True).stdout


@pytest.mark.parametrize("zstd", [False, pytest.param(True, marks=needs_zstd)])
def test_a_compressed_archive_is_a_bomb(load, store, tmp_path, zstd):
    data = bomb(zstd=zstd)
    assert len(data) < 1 << 20
    with pytest.raises(StoreError) as caught:
        load(data, limit=10_000_000)
    assert str(caught.value) == (
        f"{tmp_path}/image.tar unpacks to more than the 10000000 bytes that are allowed (max_size says how many)"
    )
    assert not os.path.exists(store.paths.state)
    assert load(gzip.compress(docker()), limit=20_000).layers == (digest(EMPTY),)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_entries_without_number(load, store, pack):
    """Each would be kept in memory."""
    (member, _data) = entry("x")
    with pytest.raises(StoreError, match="is no image: it has too many entries"):
        load(pack(member.tobuf() * 10001))
    many = tar(*(entry("x", pax_headers={"comment": "c" * 1000000}) for _number in range(20)))
    with pytest.raises(StoreError, match="is no image: it has too many entries"):
        load(pack(many))
    assert not os.path.exists(store.paths.state)


def test_links_out_of_an_archive_lead_nowhere(load):
    data = tar(link("manifest.json", "/etc/passwd"))
    with pytest.raises(StoreError, match=r"lacks manifest.json"):
        load(data)
    with pytest.raises(StoreError, match=r"lacks manifest.json"):
        load(tar(link("manifest.json", "manifest.json")))


def test_no_file(store, tmp_path):
    with pytest.raises(KernelError, match=r"open .*/nothing.tar: No such file or directory \[ENOENT\]"):
        archive.load(store, str(tmp_path / "nothing.tar"), "x:1")


def test_a_layer_that_is_there_is_not_read_again(load, monkeypatch):
    load(docker())
    monkeypatch.setattr(Archive, "layer", lambda *given: pytest.fail("it is read again"))
    assert load(docker(config={"config": {"Cmd": ["other"]}})).config == {"Cmd": ["other"]}
