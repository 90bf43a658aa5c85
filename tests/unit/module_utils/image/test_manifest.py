# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests: what is an image that can be had, and which of an index fits a platform."""

from __future__ import annotations

import json

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError, StoreError
from ansible_collections.vessel.host.plugins.module_utils._image import config, manifest
from ansible_collections.vessel.host.plugins.module_utils._image.manifest import Platform, parse_platform

HEX = "sha256:" + "a" * 64


def descriptor(kind, **more):
    return {"mediaType": kind, "digest": HEX, "size": 1, **more}


def entries(*names):
    keys = ("os", "architecture", "variant")
    return [{"platform": dict(zip(keys, name.split("/"))), "name": name} for name in names]


@pytest.mark.parametrize(
    ("wanted", "offered", "found"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], "linux/amd64"),
        ("linux/x86_64", ["linux/amd64/v2", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/amd64/v1"], "linux/amd64/v1"),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v4", "linux/amd64/v2"], "linux/amd64/v2"),
        ("linux/arm64", ["linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/arm64/v8", ["linux/arm64"], "linux/arm64"),
        ("linux/arm", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm/v5", "linux/arm/v6"], "linux/arm/v6"),
        ("linux/arm/v8", ["linux/arm/v5", "linux/arm"], "linux/arm"),
        ("linux/armhf", ["linux/arm/v5"], "linux/arm/v5"),
        ("linux/riscv64", ["linux/riscv64"], "linux/riscv64"),
        ("linux/s390x", ["unknown/unknown", "windows/s390x", "linux/s390x"], "linux/s390x"),
    ],
)
def test_the_nearest_that_runs_there_is_chosen(wanted, offered, found):
    assert manifest.choose(entries(*offered), parse_platform(wanted, "platform"), "x")["name"] == found


@pytest.mark.parametrize(
    ("wanted", "offered", "hint"),
    [
        ("linux/amd64", ["linux/amd64/v2", "linux/arm/v7"], "it has linux/amd64/v2, linux/arm/v7"),
        ("linux/arm/v6", ["linux/arm"], "it has linux/arm/v7"),
        ("linux/amd64", ["unknown/unknown"], "it has none"),
        ("linux/amd64", [], "it has none"),
    ],
)
def test_what_does_not_run_there_is_not(wanted, offered, hint):
    with pytest.raises(StoreError, match=f"^x has no image for {wanted} \\({hint}\\)$"):
        manifest.choose(entries(*offered), parse_platform(wanted, "platform"), "x")


def test_an_index_may_say_nonsense_of_platforms():
    odd = [{"platform": 5}, {"platform": {"os": ["linux"], "architecture": {}}}, {}]
    assert manifest.choose(odd + entries("linux/386"), Platform("linux", "386"), "x")["name"] == "linux/386"


@pytest.mark.parametrize("text", ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "windows/amd64"])
def test_no_platform(text):
    with pytest.raises(OptionError, match="platform: "):
        parse_platform(text, "platform")


@pytest.mark.parametrize(
    ("machine", "platform"),
    [("x86_64", "linux/amd64"), ("aarch64", "linux/arm64"), ("armv7l", "linux/arm/v7"), ("armv6l", "linux/arm/v6"),
     ("i686", "linux/386"), ("riscv64", "linux/riscv64"), ("ppc64le", "linux/ppc64le")],
)  # fmt: skip
def test_this_host(monkeypatch, machine, platform):
    monkeypatch.setattr(config.platform, "machine", lambda: machine)
    assert str(manifest.host_platform()) == platform


OCI, DOCKER = "application/vnd.oci.image", "application/vnd.docker"
CONFIG, LAYER = f"{OCI}.config.v1+json", f"{OCI}.layer.v1.tar+gzip"


def image(*kinds, config=CONFIG, **more):
    return {"schemaVersion": 2, "config": descriptor(config), "layers": [descriptor(kind) for kind in kinds], **more}


def read(value):
    return manifest.image(manifest.parse(json.dumps(value).encode(), "x"), "x")


@pytest.mark.parametrize("value", [
    image(LAYER, f"{OCI}.layer.v1.tar", f"{OCI}.layer.v1.tar+zstd"),
    image(f"{DOCKER}.image.rootfs.diff.tar.gzip", config=f"{DOCKER}.container.image.v1+json"),
    image(),
])  # fmt: skip
def test_both_kinds_of_image(value):
    found = read(value)
    assert found.config == (value["config"]["mediaType"], HEX, 1)
    assert [layer.media_type for layer in found.layers] == [layer["mediaType"] for layer in value["layers"]]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, "x is a manifest of schema 1, which is out of use"),
        ({"fsLayers": []}, "x is a manifest of schema 1"),
        ([], "x is no manifest"),
        (image(manifests=[]), "x is both a manifest and an index"),
        (image(f"{OCI}.layer.nondistributable.v1.tar+gzip"), "which is not kept with the image"),
        (image(f"{DOCKER}.image.rootfs.foreign.diff.tar.gzip"), "which is not kept with the image"),
        (image("application/vnd.cncf.helm.chart.content.v1.tar+gzip"), "x: a layer is of the unknown kind"),
        (image(config="application/vnd.cncf.helm.config.v1+json"), "helm.config.v1.json, and no container image"),
        (image(artifactType="application/spdx"), "x: what it holds is application/spdx, and no container image"),
        ({"schemaVersion": 2}, "x: what it holds is None"),
        ({"config": 5}, "x: what it holds is None"),
        ({"config": descriptor(CONFIG), "layers": {}}, "x: layers is not the list that it must be"),
        ({"config": descriptor(CONFIG), "layers": [5]}, "x: layers is not the list that it must be"),
        ({"config": descriptor(CONFIG), "layers": [descriptor(LAYER, size=-1)]}, "x: the size of sha256:a"),
        ({"config": descriptor(CONFIG), "layers": [descriptor(LAYER, size=True)]}, "x: the size of sha256:a"),
        ({"config": descriptor(CONFIG, digest="sha256:../../x"), "layers": []}, "is not a sha256 digest"),
        ({"config": descriptor(CONFIG, digest=["a"]), "layers": []}, "is not a sha256 digest"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(value, sentence):
    with pytest.raises(StoreError, match=sentence):
        read(value)


@pytest.mark.parametrize("data", [b"", b"<html>", b"[" * 100000, b"\xff"])
def test_no_json(data):
    with pytest.raises(StoreError, match=r"^x is not JSON$"):
        manifest.parse(data, "x")


@pytest.mark.parametrize(
    ("value", "wanted", "sentence"),
    [
        ({"architecture": "pdp11"}, None, "x: the image is for pdp11, and this host is "),
        ({"architecture": "pdp11"}, Platform("linux", "arm64", "v8"), "x: the image is for pdp11, and linux/arm64 was"),
        ({"os": "windows"}, None, "x: the image is for windows, and this host is linux"),
        ({"config": {"Env": "A=b"}}, None, "x: the image's configuration is malformed: Env is not a list of strings"),
        ({"rootfs": {"diff_ids": []}}, None, "x: the manifest has 1 layers and the configuration 0"),
        ({"rootfs": {"diff_ids": ["../x"]}}, None, "is not a sha256 digest"),
        ({"rootfs": 5}, None, "x: its configuration has no rootfs.diff_ids"),
    ],
)
def test_a_configuration_that_can_not_run_here(value, wanted, sentence):
    data = json.dumps({"rootfs": {"diff_ids": [HEX]}, **value}).encode()
    with pytest.raises(StoreError, match=sentence):
        manifest.checked_config(data, 1, "x", wanted)


def test_a_configuration_of_another_platform_when_that_is_asked_for():
    data = json.dumps({"architecture": "arm", "os": "linux", "rootfs": {"diff_ids": [HEX]}}).encode()
    assert manifest.checked_config(data, 1, "x", Platform("linux", "arm", "v7")) == (HEX,)
