# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that must be signed: by this key, for this name, and this very image."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import (
    DependencyError,
    OptionError,
    RegistryError,
    SignatureError,
)
from ansible_collections.vessel.host.plugins.module_utils._image.registry import pull
from ansible_collections.vessel.host.plugins.module_utils._image.registry.signature import verify
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from ..... import signing
from .....image_tars import digest, entry, tar
from .....registry_server import Answer

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return signing.Key(tmp_path_factory.mktemp("keys") / "key")


@pytest.fixture
def image(server):
    return server.put("app", "1", {"schemaVersion": 2})


@pytest.fixture
def sign(server, image, key):
    """Put signatures of these payloads beside the image."""

    def sign(*payloads, by=None, image=image):
        signed = [(data, (by or key).sign(data)) for data in payloads]
        server.blobs.update({digest(data): data for data in payloads})
        server.put("app", f"sha256-{image[7:]}.sig", signing.manifest(signed))

    return sign


@pytest.fixture
def check(client, name, image, key):
    def check(path="app:1", digests=(image,), public=None):
        verify(name(path), digests, client(), str(public or key.public))

    return check


@pytest.mark.parametrize("kind", signing.KINDS)
def test_what_is_signed_is_taken(server, sign, check, image, tmp_path, kind):
    own = signing.Key(tmp_path / "own", kind)
    sign(signing.payload(f"{server.host}/app", image), by=own)
    check(public=own.public)
    with pytest.raises(SignatureError, match="its signature is refused: the key has not made it"):
        check()  # another key


@pytest.mark.parametrize("tag", [":1", ""])
def test_a_tag_that_is_signed_counts(server, sign, check, image, tag):
    sign(signing.payload(f"{server.host}/app{tag}", image))
    check("app:1")
    check(f"app@{image}")
    if tag:
        with pytest.raises(SignatureError, match=f"it is for {server.host}/app:1"):
            check("app:2")
    else:
        check("app:2")


def test_one_of_several_is_enough(server, sign, check, image):
    sign(b"{}", signing.payload("other/app", image), signing.payload(f"{server.host}/app", image))
    check()


def test_the_index_or_the_manifest(server, sign, check, image):
    """Who has signed an index has signed all that it names."""
    sign(signing.payload(f"{server.host}/app", image))
    check(digests=("sha256:" + "0" * 64, image))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"{}", "its payload names no image"),
        (b"[]", "its payload names no image"),
        (b"\x00", "its payload names no image"),
        (b'{"critical": []}', "its payload names no image"),
        (signing.payload("HOST/app", "sha256:" + "1" * 64), "it is for sha256:1111"),
        (signing.payload("HOST/other", "IMAGE"), "it is for .*/other"),
        (signing.payload("app", "IMAGE"), "it is for app"),
        (signing.payload("../..", "IMAGE"), r"it is for \.\./\.\."),
        (signing.payload("HOST/app", "IMAGE", "atomic container signature"), "it is a atomic container signature"),
    ],
)
def test_what_is_signed_for_something_else(server, sign, check, image, data, sentence):
    sign(data.replace(b"HOST", server.host.encode()).replace(b"IMAGE", image.encode()))
    with pytest.raises(SignatureError, match=f"^{server.host}/app:1: its signature is refused: {sentence}"):
        check()


def test_a_payload_that_was_changed(server, sign, check, image, key):
    data = signing.payload(f"{server.host}/app", image)
    other = data.replace(b'"optional": {}', b'"optional": null')
    server.blobs[digest(other)] = other
    server.put("app", f"sha256-{image[7:]}.sig", signing.manifest([(other, key.sign(data))]))
    with pytest.raises(SignatureError, match="the key has not made it"):
        check()


def test_the_payload_of_another_blob(server, sign, check, image):
    data = signing.payload(f"{server.host}/app", image)
    sign(data)
    server.rule(digest(data), Answer(200, b"x" * len(data)))
    with pytest.raises(RegistryError, match="has the digest"):
        check()


@pytest.mark.parametrize("value", [{}, {"layers": []}, {"layers": [{"digest": "sha256:" + "0" * 64, "size": 1}]}])
def test_no_signature(server, check, image, value):
    for put in (False, True):
        if put and "layers" in value:
            server.put("app", f"sha256-{image[7:]}.sig", value)
        with pytest.raises(SignatureError, match=f"^{server.host}/app:1 is not signed .sign it with cosign"):
            check()


@pytest.mark.parametrize(
    ("text", "problem"), [(None, "is no file on the target"), ("nonsense", "is no public key in PEM")]
)
def test_no_key(check, tmp_path, text, problem):
    path = tmp_path / "key"
    if text:
        path.write_text(text)
    with pytest.raises(OptionError, match=f"public_key: .* {problem}"):
        check(public=path)


def test_a_private_key_is_none(check, key):
    with pytest.raises(OptionError, match="is no public key in PEM"):
        check(public=key.private)


def test_without_openssl(check, monkeypatch):
    monkeypatch.setenv("PATH", "/no/such")
    with pytest.raises(DependencyError, match="by openssl, which is not on the target"):
        check()


def test_nothing_is_fetched_of_what_is_not_signed(server, client, name, key, tmp_path):
    data = tar(entry("x", uid=os.getuid(), gid=os.getgid()))
    made = digest(json.dumps(server.image("app", "1", [(data, data)])).encode())
    store = Store(Paths.at(str(tmp_path / "vessel")))
    with pytest.raises(SignatureError):
        pull.pull(store, "x:1", name(), client(), public_key=str(key.public))
    assert not os.path.exists(store.paths.state)
    assert not server.requests(digest(data))
    payload = signing.payload(f"{server.host}/app", made)
    server.blobs[digest(payload)] = payload
    server.put("app", f"sha256-{made[7:]}.sig", signing.manifest([(payload, key.sign(payload))]))
    assert pull.pull(store, "x:1", name(), client(), public_key=str(key.public)).layers == (digest(data),)
