# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who we are to a registry: challenges, tokens and their end, auth files and helper programs."""

from __future__ import annotations

import base64
import json
import time
import urllib.parse

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import (
    DependencyError,
    OptionError,
    RegistryError,
    StoreError,
)
from ansible_collections.vessel.host.plugins.module_utils._image.registry import keychain
from ansible_collections.vessel.host.plugins.module_utils._image.registry.auth import (
    Authenticator,
    Credentials,
    Reply,
    challenges,
)

from .....registry_server import Answer

JOE = {"username": "joe", "password": "hunter2"}


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Bearer realm="https://x/t",service="y",scope="repository:a/b:pull,push"',
         [("bearer", {"realm": "https://x/t", "service": "y", "scope": "repository:a/b:pull,push"})]),
        ("Basic realm=x", [("basic", {"realm": "x"})]),
        ('BASIC realm="a \\"b\\" c", Bearer realm="z" , service = "q"',
         [("basic", {"realm": 'a "b" c'}), ("bearer", {"realm": "z", "service": "q"})]),
        ("Negotiate, Basic", [("negotiate", {}), ("basic", {})]),
        ('realm="x"', []),
        ("", []),
        ('Bearer realm="unended', [("bearer", {})]),
        ("\x00\xff=,,,", []),
    ],
)  # fmt: skip
def test_challenges(header, found):
    assert challenges(header) == found


@pytest.mark.parametrize(
    "text", ["a" + " " * 65000 + "b", "a" + "," * 65000 + "=", 'a b="' + "\\" * 65000, "a " * 30000], ids=range(4)
)
def test_a_long_challenge_is_read_at_once(text):
    begun = time.monotonic()
    challenges(text)
    assert time.monotonic() - begun < 5


class Tokens:
    """Rules of a registry that asks for a token, and the token server that gives it."""

    def __init__(self, server, **reply):
        self.server, self.reply, self.given = server, reply, 0
        self.refused = set()
        server.rule("^/token", self.token)
        server.rule("^/v2/", self.ask)

    def token(self, asked):
        self.given += 1
        return Answer(200, json.dumps({"token": f"t{self.given}", **self.reply}).encode())

    def ask(self, asked):
        shown = asked.headers.get("authorization", "")
        if shown.startswith("Bearer t") and shown not in self.refused:
            return None
        realm = f'Bearer realm="http://{self.server.host}/token",service="the service"'
        return Answer(401, b"", {"WWW-Authenticate": realm})

    def queries(self):
        return [urllib.parse.parse_qs(urllib.parse.urlsplit(one.path).query) for one in self.server.requests("^/token")]


def test_a_token_is_asked_for_once(client, name, server):
    tokens = Tokens(server)
    server.put("app", "1", {})
    made = client()
    for _turn in range(3):
        made.manifest(name())
    assert tokens.queries() == [{"service": ["the service"], "scope": ["repository:app:pull"]}]
    assert len(server.requests("^/v2/")) == 4
    assert "authorization" not in server.requests("^/token")[0].headers


def test_with_a_password_it_is_asked_for_in_its_name(client, name, server):
    tokens = Tokens(server)
    server.put("app", "1", {})
    client(**JOE).manifest(name())
    assert tokens.queries()[0]["account"] == ["joe"]
    (asked,) = server.requests("^/token")
    assert asked.headers["authorization"] == "Basic " + base64.b64encode(b"joe:hunter2").decode()
    assert "hunter2" not in asked.path


def test_each_repository_has_its_own(client, name, server):
    tokens = Tokens(server)
    server.put("app", "1", {})
    server.put("web", "1", {})
    made = client()
    for path in ("app:1", "web:1", "app:1"):
        made.manifest(name(path))
    assert [one["scope"] for one in tokens.queries()] == [["repository:app:pull"], ["repository:web:pull"]]


def test_one_that_is_not_taken_any_more_is_changed_once(client, name, server):
    tokens = Tokens(server)
    server.put("app", "1", {})
    made = client()
    made.manifest(name())
    tokens.refused.add("Bearer t1")
    made.manifest(name())
    assert tokens.given == 2
    tokens.refused.add("Bearer t2")
    tokens.refused.add("Bearer t3")
    with pytest.raises(RegistryError, match=r"it wants to know who asks \(401\)"):
        made.manifest(name())
    assert tokens.given == 3


def test_one_that_has_ended_is_not_shown(server):
    now = [0.0]
    replies = iter([Reply(200, {"access_token": "a", "expires_in": 300}), Reply(200, {"token": "b"})])
    auth = Authenticator("x", lambda *args: next(replies), lambda: None, clock=lambda: now[0])
    challenge = 'Bearer realm="https://auth/t"'
    assert auth.header(["s"]) == {}
    assert auth.answer(challenge, ["s"], secure=True)
    for now[0], shown in ((294, "a"), (296, "")):
        assert auth.header(["s"]) == ({"Authorization": f"Bearer {shown}"} if shown else {})
    auth.answer(challenge, ["s"], secure=True)
    for now[0], shown in ((296 + 54, "b"), (296 + 56, "")):
        assert auth.header(["s"]) == ({"Authorization": f"Bearer {shown}"} if shown else {})


def test_an_identity_token_is_posted_and_never_in_an_address(client, name, server, tmp_path):
    Tokens(server)
    server.put("app", "1", {})
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"auths": {server.host: {"identitytoken": "long lived"}}}))
    client(auth_file=str(file)).manifest(name())
    (asked,) = server.requests("^/token")
    assert (asked.method, asked.path) == ("POST", "/token")
    form = urllib.parse.parse_qs(asked.body.decode())
    assert form["grant_type"] == ["refresh_token"]
    assert form["refresh_token"] == ["long lived"]
    assert form["scope"] == ["repository:app:pull"]


@pytest.mark.parametrize(
    ("answer", "settings", "sentence"),
    [
        (Answer(401), JOE, "refuses the credentials .those of username and password were refused: are they those for"),
        (Answer(403), {}, "refuses a token to who has no username .it may be private"),
        (Answer(200, b"<html>"), {}, r"gave no token \(status 200\)"),
        (Answer(200, b"[]"), {}, r"gave no token"),
        (Answer(200, b'{"token": "a\\r\\nX: y"}'), {}, "gave no token"),
        (Answer(200, b'{"token": ["a"]}'), {}, "gave no token"),
        (Answer(500), {}, r"gave no token \(status 500\)"),
        (Answer(302, b"", {"Location": "/token"}), {}, "redirects in a circle"),
    ],
)
def test_no_token(client, name, server, answer, settings, sentence):
    server.rule("^/token", answer)
    Tokens(server)
    with pytest.raises(RegistryError, match=sentence) as caught:
        client(**settings).manifest(name())
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("realm", "sentence"),
    [
        ("http://auth/t", "which has no TLS"),
        ("file:///etc/passwd", "which is no web address"),
        ("https://u:p@auth/", "which is no web address"),
        ("nonsense", "which is no web address"),
    ],
)
def test_a_password_goes_to_no_realm_without_tls(realm, sentence):
    auth = Authenticator("x", lambda *args: pytest.fail("it was asked"), lambda: Credentials("joe", "hunter2"))
    with pytest.raises(RegistryError, match=sentence):
        auth.answer(f'Bearer realm="{realm}"', ["s"], secure=True)


def test_a_wrong_password_is_shown_once(client, name, server):
    server.rule("", Answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'}))
    with pytest.raises(
        RegistryError,
        match=r"\(401\) \(those of username and password were refused: are they those for .*, and may they do this\?\)",
    ):
        client(**JOE).manifest(name())
    assert len(server.requests("manifests")) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_who_gave_what_was_refused_is_told(client, name, server, tmp_path, monkeypatch, status):
    """The option, or the file that nobody named."""
    asking = Answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
    server.rule("", lambda asked: Answer(status) if asked.headers.get("authorization") else asking)
    kept = json.dumps({"auths": {str(name().domain): packed("joe:hunter2")}})
    (tmp_path / "auth.json").write_text(kept)
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(RegistryError, match=rf"those of auth_file {tmp_path}/auth.json were refused"):
        client(auth_file=f"{tmp_path}/auth.json").manifest(name())
    with pytest.raises(RegistryError, match=r"none were given: give username and password, or auth_file"):
        client().manifest(name())
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text(kept)
    with pytest.raises(RegistryError, match=rf"those of the file {tmp_path}/.docker/config.json were refused"):
        client().manifest(name())


def test_credentials_show_nothing():
    shown = repr(Credentials("joe", "hunter2", "long lived"))
    assert "joe" in shown
    assert "hunter2" not in shown
    assert "long" not in shown


# files
def packed(text):
    return {"auth": base64.b64encode(text.encode()).decode()}


@pytest.fixture
def file(tmp_path):
    def file(**value):
        path = tmp_path / "auth.json"
        path.write_text(json.dumps(value))
        return str(path)

    return file


@pytest.mark.parametrize(
    ("host", "path", "username"),
    [
        ("quay.io", "a/b", "image"),
        ("quay.io", "a/c", "space"),
        ("quay.io", "ab", "host"),
        ("quay.io:8443", "a/b", "port"),
        ("docker.io", "library/debian", "hub"),
        ("old.example", "x", "old"),
        ("other.example", "x", ""),
    ],
)
def test_the_longest_key_counts(file, host, path, username):
    path_of_file = file(auths={
        "quay.io": packed("host:p"), "quay.io/a": packed("space:p"), "quay.io/a/b": packed("image:p"),
        "quay.io:8443": packed("port:p"), "https://index.docker.io/v1/": packed("hub:p"),
        "http://old.example/v2/": packed("old:p:q"), "empty.example": {},
    })  # fmt: skip
    found = keychain.find(host, path, path_of_file)
    assert (found.username if found else "") == username
    if username == "old":
        assert found.password == "p:q"


@pytest.mark.parametrize(
    ("text", "error", "sentence"),
    [
        (None, OptionError, "auth_file: .* can't be read: No such file"),
        ("nonsense", StoreError, "it is no auth file"),
        ("[]", StoreError, "it is no auth file"),
        ('{"auths": {"x": {"auth": "%%%"}}}', StoreError, "auths: x: auth is not the base64 of NAME:PASSWORD"),
        ('{"auths": {"x": {"auth": "Zm9v"}}}', StoreError, "auths: x: auth is not the base64"),
        ('{"credHelpers": {"x": "../../bin/sh"}}', StoreError, "can't be a credential helper's name"),
        ('{"credsStore": "no-such-helper"}', DependencyError, "docker-credential-no-such-helper, which is not on"),
    ],
)
def test_a_file_that_is_none(tmp_path, text, error, sentence):
    path = tmp_path / "auth.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=sentence):
        keychain.find("x", "y", str(path))


@pytest.mark.parametrize(
    "value", [{}, {"auths": []}, {"auths": {"x": 5}}, {"auths": {"x": {"auth": 5}}}, {"auths": None}]
)
def test_a_file_without_it(file, value):
    assert keychain.find("x", "y", file(**value)) is None


def test_the_places_where_podman_and_docker_look(tmp_path):
    environ = {"HOME": "/home/joe", "REGISTRY_AUTH_FILE": "/a", "XDG_RUNTIME_DIR": "/run/user/5"}
    assert [one for one in keychain.default_files(environ) if not one.startswith("/run/containers/")] == [
        "/a", "/run/user/5/containers/auth.json",
        "/home/joe/.config/containers/auth.json", "/home/joe/.docker/config.json",
    ]  # fmt: skip
    first, second = tmp_path / ".config/containers/auth.json", tmp_path / ".docker/config.json"
    for path, user in ((first, "podman"), (second, "docker")):
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"auths": {user: packed(f"{user}:p"), "both": packed(f"{user}:p")}}))
    for host, user in (("podman", "podman"), ("docker", "docker"), ("both", "podman")):
        assert keychain.find(host, "x", environ={"HOME": str(tmp_path)}).username == user
    assert keychain.find("none", "x", environ={"HOME": str(tmp_path)}) is None


HELPER = """#!/bin/sh
read -r server
case "$server" in
quay.io) echo '{"ServerURL": "quay.io", "Username": "joe", "Secret": "s3"}' ;;
https://index.docker.io/v1/) echo '{"Username": "<token>", "Secret": "identity"}' ;;
odd) echo 'hello' ;;
*) echo "credentials not found in native keychain"; exit 1 ;;
esac
"""


@pytest.mark.parametrize(
    ("settings", "host", "found"),
    [
        ({"credsStore": "test"}, "quay.io", Credentials("joe", "s3")),
        ({"credHelpers": {"quay.io": "test"}}, "quay.io", Credentials("joe", "s3")),
        ({"credHelpers": {"quay.io": "test"}}, "ghcr.io", None),
        ({"credHelpers": {"quay.io": "test"}, "auths": {"ghcr.io": packed("a:b")}}, "ghcr.io", Credentials("a", "b")),
        ({"credsStore": "test"}, "docker.io", Credentials(identity_token="identity")),
        ({"credsStore": "test"}, "ghcr.io", None),
        ({"credsStore": "test", "auths": {"ghcr.io": {}}}, "ghcr.io", None),
    ],
)
def test_a_helper_program(file, tmp_path, monkeypatch, settings, host, found):
    program = tmp_path / "docker-credential-test"
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert keychain.find(host, "x", file(**settings)) == found
    with pytest.raises(StoreError, match="docker-credential-test: what it says of odd are no credentials"):
        keychain.find("odd", "x", file(credsStore="test"))
