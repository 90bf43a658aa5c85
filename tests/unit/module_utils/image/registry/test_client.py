# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client against registries that refuse, lie, hang, send elsewhere, or are none."""

from __future__ import annotations

import email.utils
import json
import time
import urllib.parse

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import NetworkError, OptionError, RegistryError
from ansible_collections.vessel.host.plugins.module_utils._image import reference
from ansible_collections.vessel.host.plugins.module_utils._image.manifest import JSON_MAX
from ansible_collections.vessel.host.plugins.module_utils._image.registry import endpoint as endpoints
from ansible_collections.vessel.host.plugins.module_utils._image.registry.transport import Tls

from .....image_tars import digest
from .....registry_server import MANIFEST, Answer

HTML = Answer(200, b"<html>hello</html>", {"Content-Type": "text/html; charset=utf-8"})


@pytest.fixture
def manifest(server):
    return server.put("app", "1", {"schemaVersion": 2, "some": "manifest"})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("debian", "registry-1.docker.io/library/debian"),
        ("docker.io/debian:12", "registry-1.docker.io/library/debian"),
        ("index.docker.io/a/b", "registry-1.docker.io/a/b"),
        ("localhost/x", "localhost/x"),
        ("quay.io:443/a/b/c@sha256:" + "0" * 64, "quay.io:443/a/b/c"),
        ("[::1]:5000/x", "[::1]:5000/x"),
    ],
)
def test_where_a_name_leads(text, found):
    assert [str(one) for one in endpoints.endpoints(reference.parse(text, "name"))] == [found]


def test_mirrors_come_first():
    found = endpoints.endpoints(reference.parse("debian", "name"), ["mirror:5000", "[::1]/hub/proxy"])
    assert [str(one) for one in found] == [
        "mirror:5000/library/debian", "[::1]/hub/proxy/library/debian", "registry-1.docker.io/library/debian"
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "https://x", "x/", "/x", "x//y", "x y", "u:p@x", "x/Y", "x/../y/"])
def test_no_mirror(text):
    with pytest.raises(OptionError, match=r"mirrors: .* is no mirror"):
        endpoints.parse_mirror(text, "mirrors")


def test_a_manifest(client, name, manifest, server):
    found = client().manifest(name())
    assert (found.digest, found.media_type, str(found.endpoint)) == (manifest, MANIFEST, f"{server.host}/app")
    assert digest(found.data) == manifest
    assert MANIFEST in server.asked[-1].headers["accept"]
    assert "authorization" not in server.asked[-1].headers


def test_a_digest_needs_a_head_alone(client, name, manifest, server):
    assert client().digest(name()) == manifest
    assert [one.method for one in server.asked if one.path.startswith("/v2/")] == ["HEAD"]


@pytest.mark.parametrize("said", ["", "sha256:short", "md5:" + "a" * 32])
def test_a_digest_that_the_head_does_not_tell(client, name, manifest, server, said):
    server.rule("manifests/1", Answer(200, b"", {"Docker-Content-Digest": said}), method="HEAD")
    assert client().digest(name()) == manifest


# what it says
@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (Answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'),
         r"manifest 1 of app: not there \(404\): manifest unknown \[MANIFEST_UNKNOWN\]$"),
        (Answer(403, b'{"errors":[{"code":"DENIED","message":"no \x1b[31m red\n"}]}'), r"forbidden \(403\) \("),
        (Answer(403, b'{"errors":[{"code":"DENIED","message":"no \\u001b[31mred\\nline"}]}'),
         r"\(403\): no \[31mred line \[DENIED\] \(it may be private"),
        (Answer(404, b"<html>not found</html>"), r"not there \(404\)$"),
        (Answer(404, b'{"errors":5}'), r"\(404\)$"),
        (Answer(404, b'{"errors":[{"message":"' + b"x" * 5000 + b'"}]}'), r"x{300}…$"),
        (Answer(404, b"", cut=0), r"\(404\)$"),
        (Answer(418, b""), r"status \(418\)$"),
        (Answer(304, b""), r"status \(304\)$"),
        (Answer(302, b""), r"status \(302\)$"),
        (Answer(401, b""), r"it wants to know who asks \(401\) \(it may be private"),
        (HTML, r"it answers with text/html instead of a manifest \(is it a registry\?\)$"),
        (Answer(200, b"x", {"Content-Type": "a\tb" * 40}), "instead of a manifest"),
        (Answer(200, b"{" + b" " * JSON_MAX), f"has more than {JSON_MAX} bytes$"),
        (Answer(200, b"{}", {"Docker-Content-Digest": "sha256:" + "0" * 64}), "and it should have sha256:0"),
        (Answer(200, b"{}", {"Docker-Content-Digest": "lies"}), "and it should have lies$"),
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_a_sentence(client, name, server, answer, sentence):
    server.rule("manifests/1", answer)
    with pytest.raises(RegistryError, match=sentence) as caught:
        client().manifest(name())
    assert str(caught.value).startswith(f"{server.host}: manifest 1 of app")
    assert str(caught.value).isprintable()


def test_a_manifest_by_digest_must_have_it(client, name, server):
    wanted = "sha256:" + "1" * 64
    lie = Answer(200, b"{}", {"Docker-Content-Digest": wanted})
    server.rule("manifests/", lie)
    with pytest.raises(RegistryError, match=f"and it should have {wanted}"):
        client().manifest(name(f"app@{wanted}"))


# patience
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_it_is_asked_again(client, name, manifest, server, waits, status):
    server.rule("manifests", *[Answer(status, HTML.body)] * 3)
    assert client().manifest(name()).digest == manifest
    assert len(waits) == 3
    assert all(0.25 <= one <= 2 for one in waits)
    assert waits[2] > waits[0]


def test_not_for_ever(client, name, server, waits):
    server.rule("manifests", Answer(503))
    with pytest.raises(RegistryError, match=r"not available \(503\)$"):
        client(attempts=3).manifest(name())
    assert (len(server.requests("manifests")), len(waits)) == (3, 2)


@pytest.mark.parametrize("status", [400, 403, 404, 501])
def test_what_does_not_change_is_not_asked_again(client, name, server, waits, status):
    server.rule("manifests", Answer(status))
    with pytest.raises(RegistryError):
        client().manifest(name())
    assert waits == []


@pytest.mark.parametrize("as_date", [False, True])
def test_it_waits_as_long_as_it_is_asked_to(client, name, manifest, server, waits, as_date):
    said = email.utils.formatdate(time.time() + 50, usegmt=True) if as_date else "49"
    server.rule("manifests", Answer(429, b"", {"Retry-After": said}), lambda asked: None)
    assert client().manifest(name()).digest == manifest
    assert [30 < one <= 50 for one in waits] == [True]


@pytest.mark.parametrize(
    ("said", "hint"), [("3600", r" \(it asks for 3600 s of patience\)$"), ("9" * 50, r" \(it asks for 999999999 s")]
)
def test_but_not_for_an_hour(client, name, server, waits, said, hint):
    server.rule("manifests", Answer(429, b"", {"Retry-After": said}))
    with pytest.raises(RegistryError, match=rf"too many requests \(429\){hint}"):
        client().manifest(name())
    assert waits == []


@pytest.mark.parametrize("said", ["soon", "-5", "Mon, 99 Foo", "1.5e400"])
def test_a_time_that_makes_no_sense(client, name, manifest, server, waits, said):
    server.rule("manifests", Answer(503, b"", {"Retry-After": said}), lambda asked: None)
    assert client().manifest(name()).digest == manifest
    assert [one <= 0.5 for one in waits] == [True]


def test_one_that_hangs(client, name, server, waits):
    server.rule("manifests", server.hang)
    with pytest.raises(NetworkError, match=f"^{server.host}: no answer within 1 s$"):
        client(timeout=1.0).manifest(name())
    assert len(server.requests("manifests")) == 2


def test_one_that_hangs_in_the_middle(client, name, manifest, server):
    server.rule("manifests", Answer(200, b"{}" * 50, cut=50, hang=True), lambda asked: None)
    assert client(timeout=0.2).manifest(name()).digest == manifest
    server.rules.clear()
    server.rule("manifests", Answer(200, b"{}" * 50, cut=50, hang=True))
    with pytest.raises(NetworkError, match=f"^{server.host}: no answer within 0.2 s$"):
        client(timeout=0.2).manifest(name())


@pytest.mark.parametrize(
    "answer",
    [Answer(200, b"{}" * 50, cut=10), Answer(200, b"{}", {"Content-Length": "1000"})],
    ids=["closes midway", "a length that lies"],
)
def test_a_body_that_is_cut_off_is_asked_for_again(client, name, manifest, server, waits, answer):
    server.rule("manifests", answer, answer, lambda asked: None)
    assert client().manifest(name()).digest == manifest
    assert len(waits) == 2
    server.rules.clear()
    server.rule("manifests", answer)
    with pytest.raises(NetworkError, match=r"closed the connection after \d+ of 1?0+ bytes"):
        client().manifest(name())


def test_nobody_there(client, server, name):
    reference = name()
    server.server.shutdown()
    server.server.server_close()
    with pytest.raises(NetworkError, match=f"^{server.host}: Connection refused$"):
        client().manifest(reference)


def test_a_host_that_nobody_knows(client):
    with pytest.raises(NetworkError, match=r"^no\.such\.host\.invalid: "):
        client().manifest(reference.parse("no.such.host.invalid/x", "name"))


def test_no_tls_where_tls_is_asked_for(client, name, server):
    with pytest.raises(NetworkError, match=rf"^{server.host}: it speaks no TLS .*set tls_verify: false"):
        client(tls=Tls()).manifest(name())
    assert server.asked == []


@pytest.mark.parametrize("option", ["ca_path", "client_cert"])
def test_files_of_tls_that_can_not_be_used(client, name, tmp_path, option):
    with pytest.raises(OptionError, match=f"{option}: '/no/such' can't be read: No such file"):
        client(tls=Tls(**{option: "/no/such"})).manifest(name())
    (tmp_path / "empty").write_text("nothing")
    with pytest.raises(OptionError, match=f"{option}: .* can't be used: "):
        client(tls=Tls(**{option: str(tmp_path / "empty")})).manifest(name())


# elsewhere
SECRET = {"username": "joe", "password": "hunter2"}


def basic(asked):
    if "authorization" not in asked.headers:
        return Answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
    return None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_credentials_do_not_follow_to_another_host(client, name, manifest, server, other, status):
    other.manifests.update(server.manifests)
    server.rule("manifests", basic)
    server.rule("manifests", Answer(status, b"", {"Location": f"http://{other.host}/v2/app/manifests/1"}))
    assert client(**SECRET).manifest(name()).digest == manifest
    assert "authorization" in server.asked[-1].headers
    assert [(one.path, "authorization" in one.headers) for one in other.asked] == [("/v2/app/manifests/1", False)]


def test_nor_to_another_port_or_name_and_back(client, name, server):
    """The same machine under another name is another host."""
    server.rule("manifests/1", basic)
    server.rule("manifests/1", Answer(307, b"", {"Location": f"http://{server.other_name}/v2/app/manifests/2"}))
    server.rule("manifests/2", Answer(307, b"", {"Location": f"http://{server.host}/v2/app/manifests/3"}))
    server.rule("manifests/3", Answer(200, b"{}"))
    assert client(**SECRET).manifest(name()).data == b"{}"
    shown = [(one.path[-1], "authorization" in one.headers) for one in server.asked if "/manifests/" in one.path]
    assert shown == [("1", False), ("1", True), ("2", False), ("3", True)]


def test_a_redirect_on_the_same_host_keeps_them(client, name, server):
    server.rule("manifests/1", basic)
    server.rule("manifests/1", Answer(307, b"", {"Location": "2"}))
    server.rule("manifests/2", basic)
    server.rule("manifests/2", Answer(200, b"{}"))
    assert client(**SECRET).manifest(name()).data == b"{}"


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("file:///etc/shadow", "it redirects to file:///etc/shadow, which is no web address"),
        ("http://joe:pass@localhost/", "which is no web address"),
        ("ftp://x/y", "which is no web address"),
        ("1", "it redirects in a circle, at last to http://"),
    ],
)
def test_redirects_that_lead_nowhere(client, name, server, target, sentence):
    server.rule("manifests", Answer(302, b"", {"Location": target}))
    with pytest.raises(RegistryError, match=sentence):
        client().manifest(name())
    assert len(server.requests("manifests")) <= 6


# mirrors
def test_a_mirror_is_asked_first(client, name, server, other):
    wanted = other.put("hub/app", "1", {"from": "the mirror"})
    found = client(mirrors=(f"{other.host}/hub",)).manifest(name())
    assert (found.digest, str(found.endpoint)) == (wanted, f"{other.host}/hub/app")
    assert server.asked == []


@pytest.mark.parametrize("mirror", ["no.such.host.invalid", "OTHER"])
def test_the_registry_itself_when_mirrors_fail(client, name, manifest, other, mirror):
    assert client(mirrors=(mirror.replace("OTHER", other.host),)).manifest(name()).digest == manifest


def test_when_all_fail_each_has_its_word(client, name, server, other):
    with pytest.raises(RegistryError) as caught:
        client(mirrors=(other.host,)).manifest(name())
    assert str(caught.value) == (
        f"{server.host}: manifest 1 of app: not there (404): manifest unknown [MANIFEST_UNKNOWN] "
        f"(mirror {other.host}: manifest 1 of app: not there (404): manifest unknown [MANIFEST_UNKNOWN])"
    )


def test_a_mirror_never_sees_the_registry_s_password(client, name, server, other):
    other.rule("", basic)
    server.rule("manifests", basic)
    server.put("app", "1", {})
    assert client(mirrors=(other.host,), **SECRET).manifest(name()).data == b"{}"
    assert not any("authorization" in one.headers for one in other.asked)


TOKEN = "a/token=="


def token(asked):
    if asked.path.startswith("/token"):
        return Answer(200, json.dumps({"token": TOKEN}).encode())
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{asked.headers["host"]}/token"'}
    return None if "authorization" in asked.headers else Answer(401, b"", challenge)


def echo(asked):
    """All that it was shown, in the distribution-spec's form."""
    shown = asked.headers["authorization"]
    shown = [shown, "hunter2", urllib.parse.quote_plus(shown.partition(" ")[2])]
    said = [{"code": "DENIED", "message": text} for text in shown]
    return Answer(403, json.dumps({"errors": said}).encode())


@pytest.mark.parametrize("challenge", [basic, token])
def test_a_registry_that_says_what_it_was_shown(client, name, server, challenge):
    server.rule("", challenge)
    server.rule("manifests", echo)
    with pytest.raises(RegistryError, match=r"forbidden \(403\): B[a-z]+ \*{8} \[DENIED\]; ") as caught:
        client(**SECRET).manifest(name())
    told = str(caught.value)
    assert not [secret for secret in ("hunter2", "am9lOmh1bnRlcjI", TOKEN, "a%2Ftoken") if secret in told]


@pytest.mark.parametrize("target", ["http://joe:hunter2@localhost/", "ftp://x/?was=am9lOmh1bnRlcjI%3D"])
def test_a_redirect_that_holds_it(client, name, server, target):
    server.rule("manifests", basic)
    server.rule("manifests", Answer(302, b"", {"Location": target}))
    with pytest.raises(RegistryError, match=r"it redirects to .*\*{8}.*, which is no web address") as caught:
        client(**SECRET).manifest(name())
    assert "hunter2" not in str(caught.value)
    assert "am9lOmh1bnRlcjI" not in str(caught.value)


def test_nothing_that_is_shown_holds_a_secret(client):
    made = client(**SECRET)
    assert "hunter2" not in repr(made.settings)
    assert "hunter2" not in json.dumps(vars(made), default=repr)
