# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pushes to registries that break off, refuse, and send elsewhere."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import NetworkError, RegistryError
from ansible_collections.vessel.host.plugins.module_utils._image import archive, config
from ansible_collections.vessel.host.plugins.module_utils._image.registry import pull, push
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from .....image_tars import digest, docker_archive, entry, tar
from .....registry_server import INDEX, Answer

US = {"uid": os.getuid(), "gid": os.getgid()}
ONE, TWO = tar(entry("one", data=os.urandom(100_000), **US)), tar(entry("two", **US))
OTHER = "sha256:" + "0" * 64
JOE = {"username": "joe", "password": "hunter2"}


@pytest.fixture
def store(tmp_path):
    return Store(Paths.at(str(tmp_path / "vessel")))


@pytest.fixture
def image(store, tmp_path):
    path = tmp_path / "image.tar"
    path.write_bytes(docker_archive([ONE, TWO, ONE], ["x:1"], config={"architecture": config.architecture()}))
    return archive.load(store, str(path), "x:1")


@pytest.fixture
def send(store, image, client, name):
    def send(path="app:1", what=image, **settings):
        return push.push(store, what, name(path), client(**settings))

    return send


def sent(server, method="PUT"):
    return server.requests("/blobs/uploads/", method)


def test_all_of_an_image(store, image, server, send, client, name, tmp_path):
    done = send()
    assert done.changed
    assert len(sent(server)) == 3  # a configuration and two layers, one of which is there twice
    other = Store(Paths.at(str(tmp_path / "other")))
    got = pull.pull(other, "x:1", name(), client())
    assert (got.id, got.layers) == (image.id, (digest(ONE), digest(TWO), digest(ONE)))
    assert other.origins(got)[-1]["digest"] == done.digest
    assert store.origins(image)[-1]["digest"] == done.digest
    assert not [one for one in os.listdir(store.layers) if one.startswith(".")]


def test_nothing_twice(server, send):
    first = send()
    server.asked.clear()
    assert send() == (first.digest, False)
    assert [one.method for one in server.requests("/v2/")] == ["HEAD"]
    server.asked.clear()
    assert send("app:2") == (first.digest, True)
    assert not sent(server, "POST")
    assert len(server.requests("manifests", "PUT")) == 1


def test_another_host_s_push_of_the_same_is_seen(store, server, send, image):
    """By the configuration, for what this store remembers says nothing of it."""
    first = send()
    os.unlink(f"{store.paths.images}/{image.id[7:]}/origins.json")
    assert send() == (first.digest, False)


def test_an_index_under_the_name_is_replaced(server, send):
    before = server.put("app", "1", {"manifests": []}, INDEX)
    assert send().changed
    assert server.manifests["app/manifests/1"][1] != server.manifests[f"app/manifests/{before}"][1]


def test_blobs_are_mounted(server, send):
    send("app:1")
    server.asked.clear()
    server.rule("/v2/web/blobs/sha256", Answer(404), method="HEAD")
    assert send("web:1").changed
    assert len(server.requests("mount=sha256.*from=app", "POST")) == 3
    assert not sent(server)


def test_a_mount_that_the_registry_does_not_want(server, send):
    send("app:1")
    server.asked.clear()
    server.rule("/v2/web/blobs/sha256", Answer(404), method="HEAD")
    server.rule("mount=", Answer(202, b"", {"Location": "/v2/web/blobs/uploads/1"}))
    assert send("web:1").changed
    assert len(sent(server, "DELETE")) >= 3
    assert len(sent(server)) == 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_upload_is_begun_again(server, send, waits, status):
    """In a child, so that what it waited for is known by the requests only."""
    server.rule("/blobs/uploads/.*digest=", *[Answer(status)] * 2, lambda asked: None, method="PUT")
    assert send().changed
    assert len(sent(server)) == 5
    assert len(sent(server, "POST")) == 5


def test_an_upload_that_breaks_off(server, send):
    def close(asked):
        raise ConnectionResetError

    server.rule("/blobs/uploads/.*digest=", close, close, lambda asked: None, method="PUT")
    assert send().changed


def test_not_for_ever(store, server, send, image):
    def close(asked):
        raise ConnectionResetError

    server.rule("/blobs/uploads/.*digest=", close, method="PUT")
    with pytest.raises(NetworkError, match=f"^{server.host}: closed the connection$"):
        send(attempts=2)
    assert not store.origins(image)
    assert not [one for one in os.listdir(store.layers) if one.startswith(".")]


@pytest.mark.parametrize(
    ("path", "method", "answer", "sentence"),
    [
        ("/blobs/uploads/", "POST", Answer(403, b'{"errors":[{"code":"DENIED","message":"read only"}]}'),
         r"upload of sha256:.* to app: forbidden \(403\): read only \[DENIED\]"),
        ("/blobs/uploads/", "POST", Answer(202), "it does not say where an upload goes"),
        ("/blobs/uploads/", "POST", Answer(202, b"", {"Location": "ftp://x/y"}), "which is no web address"),
        ("/blobs/uploads/", "PUT", Answer(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}'), r"\[DIGEST_INVALID\]"),
        ("/blobs/uploads/", "PUT", Answer(413), r"\(413\)"),
        ("/manifests/", "PUT", Answer(400, b'{"errors":[{"code":"MANIFEST_INVALID","message":"bad"}]}'),
         r"manifest 1 of app: status \(400\): bad \[MANIFEST_INVALID\]"),
        ("/manifests/", "PUT", Answer(201, b"", {"Docker-Content-Digest": OTHER}), "it should have sha256:0"),
        ("/manifests/", "HEAD", Answer(405), r"not allowed \(405\)"),
    ],
)  # fmt: skip
def test_refusals_are_sentences(store, server, send, image, path, method, answer, sentence):
    server.rule(path, answer, method=method)
    with pytest.raises(RegistryError, match=sentence):
        send()
    assert not store.origins(image)


def ask(asked):
    return None if "authorization" in asked.headers else Answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})


def test_uploads_that_lie_elsewhere_get_no_credentials(server, other, send):
    """And are what they must be all the same."""
    server.rule("^/v2/", ask)
    server.rule("uploads/", lambda asked: Answer(202, b"", {"Location": f"http://{other.host}/v2/app/blobs/uploads/1"}),
                method="POST")  # fmt: skip
    assert send(**JOE).changed
    assert len(other.blobs) == 3
    assert other.asked
    assert not any("authorization" in one.headers for one in other.asked)


def test_a_token_that_ends_while_a_blob_is_sent(server, send):
    """The body was read, so that it is sent again from its beginning."""
    seen = []

    def token(asked):
        return Answer(200, json.dumps({"token": f"t{len(server.requests('^/token'))}"}).encode())

    def needed(asked):
        shown = asked.headers.get("authorization")
        if shown and not (asked.method == "PUT" and "uploads" in asked.path and not seen):
            return None
        seen.extend([asked] if shown else [])
        return Answer(401, b"", {"WWW-Authenticate": f'Bearer realm="http://{server.host}/token"'})

    server.rule("^/token", token)
    server.rule("^/v2/", needed)
    assert send().changed
    assert len(server.requests("^/token")) >= 2
    scopes = [one.path for one in server.requests("^/token")]
    assert any("pull%2Cpush" in one for one in scopes)


def test_mirrors_are_not_asked(server, other, send):
    assert send(mirrors=(other.host,)).changed
    assert not other.asked
