# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pulls from registries that break off, lie and hide things: one sentence, nothing half stored, and what was finished
is not fetched again.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import signal
import subprocess
from functools import partial

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import (
    NetworkError,
    RegistryError,
    StoreError,
    VesselError,
)
from ansible_collections.vessel.host.plugins.module_utils._image import manifest
from ansible_collections.vessel.host.plugins.module_utils._image.progress import Progress
from ansible_collections.vessel.host.plugins.module_utils._image.registry import parallel, pull
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from .....image_tars import digest, entry, listing, tar
from .....registry_server import INDEX, Answer

FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
US = {"uid": os.getuid(), "gid": os.getgid()}  # nobody has to be root


def files(name, size=0):
    return tar(entry(name, data=os.urandom(size), **US))


SMALL, LARGE = files("small"), files("large", 3 << 20)


@pytest.fixture
def store(tmp_path):
    return Store(Paths.at(str(tmp_path / "vessel")))


@pytest.fixture
def get(store, client, name):
    def get(path="app:1", settings=None, **options):
        return pull.pull(store, "x:1", name(path), client(**(settings or {})), **options)

    return get


@pytest.fixture
def app(server):
    return server.image("app", "1", [(gzip.compress(SMALL), SMALL), (LARGE, LARGE)], config={"User": "1"})


def nothing_left(store):
    return not os.path.exists(store.paths.state)


def blobs_of(server):
    """Which blobs were fetched, each as often as it was."""
    return sorted(one.path.rpartition("/")[2] for one in server.requests("/blobs/", "GET"))


def digests(value):
    return sorted([value["config"]["digest"], *(layer["digest"] for layer in value["layers"])])


def test_an_image(get, store, server, app):
    image = get()
    assert (image.name, image.layers, image.config) == ("x:1", (digest(SMALL), digest(LARGE)), {"User": "1"})
    assert image.id == app["config"]["digest"]
    assert store.manifest(image) == app
    assert sorted(os.listdir(store.layer_path(image.layers[1]))) == ["large"]
    assert blobs_of(server) == digests(app)
    assert store.origins(image) == [
        {"repository": f"{server.host}/app", "digest": digest(json.dumps(app).encode()),
         "manifest": digest(json.dumps(app).encode())}
    ]  # fmt: skip
    assert sorted(os.listdir(store.layers)) == sorted(
        [one for layer in image.layers for one in (layer[7:], f"{layer[7:]}.headers", f"{layer[7:]}.json")]
    )


def test_what_is_there_is_not_fetched(get, store, server, app):
    get()
    server.asked.clear()
    image = get()
    assert [one.method for one in server.asked] == ["GET"]
    server.image("app", "2", [(SMALL, SMALL), (LARGE, LARGE), (b"", bytes(1024))])
    server.blobs[digest(bytes(1024))] = bytes(1024)
    with pytest.raises(StoreError):  # the third layer is empty, and no tar
        get("app:2")
    assert store.get("x:1") == image


def test_the_same_layer_twice_is_fetched_once(get, server):
    server.image("app", "1", [(SMALL, SMALL), (SMALL, SMALL), (gzip.compress(SMALL), SMALL)])
    assert get().layers == (digest(SMALL),) * 3
    assert len(blobs_of(server)) == 2


def test_unchanged_when_the_digest_is(get, store, server, app, client, name):
    image, reference = get(), name()
    assert pull.is_current(store, image, reference, pull.resolve(reference, client()))
    server.image("app", "1", [(SMALL, SMALL)])
    assert not pull.is_current(store, image, reference, pull.resolve(reference, client()))
    assert not pull.is_current(store, image, name("web:1"), store.origins(image)[0]["digest"])


def index(server, app, *platforms, **more):
    data = json.dumps(app).encode()
    found = [{"mediaType": "x", "digest": digest(data), "size": len(data), "platform": one} for one in platforms]
    return server.put("app", "all", {"schemaVersion": 2, "manifests": found, **more}, INDEX)


def host(**more):
    own = manifest.host_platform()
    return {"os": own.os, "architecture": own.architecture, **more}


def test_an_index(get, store, server, app, client, name):
    top = index(server, app, {"os": "linux", "architecture": "pdp11"}, host())
    image = get("app:all")
    (origin,) = store.origins(image)
    assert origin["digest"] == top
    assert origin["manifest"] == digest(json.dumps(app).encode())
    assert pull.is_current(store, image, name("app:all"), pull.resolve(name("app:all"), client()))


def test_another_platform_when_it_is_asked_for(get, server):
    other = server.image("app", "other", [(SMALL, SMALL)], architecture="s390x")
    index(server, other, {"os": "linux", "architecture": "s390x"}, host())
    assert get("app:all", platform="linux/s390x").layers == (digest(SMALL),)
    with pytest.raises(StoreError, match=r"the image is for s390x, and this host is "):
        get("app:other")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda server, app: index(server, app, {"os": "linux", "architecture": "pdp11"}),
         r"has no image for linux/\w+ \(it has linux/pdp11\)"),
        (index, r"has no image for linux/\w+ \(it has none\)"),
        (lambda server, app: index(server, app, host(), layers=[]), "is both a manifest and an index"),
        (lambda server, app: server.put("app", "all", {"fsLayers": []}), "is a manifest of schema 1"),
        (lambda server, app: server.put("app", "all", []), "is no manifest"),
        (lambda server, app: server.put("app", "all", b"{half"), "is not JSON"),
        (lambda server, app: server.put("app", "all", {**app, "layers": app["layers"][:1]}),
         "the manifest has 1 layers and the configuration 2"),
        (lambda server, app: server.put("app", "all", {**app, "config": {**app["config"], "mediaType": "x"}}),
         "what it holds is x, and no container image"),
        (lambda server, app: server.put("app", "all", {**app, "layers": [{**app["layers"][0], "mediaType": FOREIGN}]}),
         "which is not kept with the image"),
    ],
)  # fmt: skip
def test_manifests_that_are_refused(get, store, server, app, make, sentence):
    make(server, app)
    with pytest.raises(StoreError, match=sentence) as caught:
        get("app:all")
    assert str(caught.value).startswith(f"{server.host}/app:all")
    assert nothing_left(store)


def test_an_index_in_an_index(get, store, server, app):
    inner = index(server, app, host())
    for depth in range(5):
        outer = {"manifests": [{"digest": inner, "size": 1, "platform": host()}]}
        inner = server.put("app", f"depth{depth}", outer, INDEX)
    assert get("app:depth1").layers
    with pytest.raises(StoreError, match="its indexes lead to indexes, and to no image"):
        get("app:depth4")


# blobs that lie
BAD = {
    "other content": (lambda data: Answer(200, gzip.compress(files("other"))[: len(data)].ljust(len(data), b"\0")),
                      "has the digest sha256:"),
    "one bit": (lambda data: Answer(200, data[:90] + bytes([data[90] ^ 1]) + data[91:]),
                r"has the digest sha256:|is damaged"),
    "longer": (lambda data: Answer(200, data + b"x"), r"has \d+ bytes, and it should have \d+"),
    "longer, unsaid": (lambda data: Answer(200, data + b"x", {"Content-Length": ""}), "has more than the "),
    "shorter": (lambda data: Answer(200, data[:-1]), r"has \d+ bytes, and it should have \d+"),
    "a page": (lambda data: Answer(200, b"<html>", {"Content-Type": "text/html"}), "has 6 bytes, and it should have"),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "sentence"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("number", [0, 1])
def test_blobs_that_are_not_what_they_should_be(get, store, server, app, number, answer, sentence):
    name = app["layers"][number]["digest"]
    server.rule(name, answer(server.blobs[name]))
    with pytest.raises(StoreError, match=sentence) as caught:
        get()
    assert str(caught.value).startswith(f"{server.host}/app:1: layer {name}")
    assert not store.has_layer(digest((SMALL, LARGE)[number]))
    assert store.names() == []


def test_a_configuration_that_is_not_what_it_should_be(get, store, server, app):
    name = app["config"]["digest"]
    for data, sentence in ((b"{}", "has 2 bytes"), (b"x" * app["config"]["size"], "has the digest")):
        server.rules.clear()
        server.rule(name, Answer(200, data))
        with pytest.raises(RegistryError, match=f"blob {name} of app {sentence}"):
            get()
        assert nothing_left(store)


def test_a_layer_that_is_another_than_the_configuration_says(get, store, server, app):
    server.put("app", "1", {**app, "layers": app["layers"][::-1]})
    with pytest.raises(StoreError, match=r"the layer has the digest .*, and it should have"):
        get()
    assert store.names() == []


def test_a_truncated_gzip_with_its_own_digest(get, store, server):
    server.image("app", "1", [(gzip.compress(LARGE)[:-100], LARGE)])
    with pytest.raises(StoreError, match=r"layer sha256:.* is cut short"):
        get()
    assert nothing_left(store)


def test_a_bomb(get, store, server):
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
        for _turn in range(100):
            file.write(bytes(1 << 20))
    server.image("app", "1", [(packed.getvalue(), b"x")])
    with pytest.raises(StoreError, match="unpacks to more than the 10000000 bytes that are allowed"):
        get(limit=10_000_000)
    assert nothing_left(store)


def test_a_blob_that_is_not_there(get, store, server, app):
    del server.blobs[app["layers"][1]["digest"]]
    with pytest.raises(RegistryError, match=r"blob sha256:.* of app: not there \(404\)"):
        get()
    assert store.names() == []


# what breaks off
def cut(server, size):
    """So many bytes more, and the connection is closed."""

    def answer(asked):
        whole = server.honest(asked)
        return whole._replace(cut=size)

    return answer


@pytest.mark.parametrize("ranges", [True, False])
def test_a_transfer_that_breaks_goes_on(get, store, server, app, ranges):
    server.ranges = ranges
    name = app["layers"][1]["digest"]
    sizes = (100_000, 1_500_000, 10, 0) if ranges else (100_000, 1_500_000, 1_500_001)
    server.rule(name, *[cut(server, size) for size in sizes], lambda asked: None)
    image = get()
    assert store.has_layer(image.layers[1])
    starts = [one.headers.get("range", "") for one in server.requests(name)]
    assert starts[0] == ""
    assert starts[1] == "bytes=100000-"
    assert len(starts) == len(sizes) + 1
    sent = sum(int(one.partition("=")[2].rstrip("-") or 0) for one in starts[-1:])
    assert sent == (1_600_010 if ranges else 1_500_001)


def test_it_does_not_go_on_for_ever(get, store, server, app):
    name = app["layers"][1]["digest"]
    server.rule(name, cut(server, 10))
    with pytest.raises(NetworkError, match=r"closed the connection after 10 of \d+ bytes"):
        get()
    assert len(server.requests(name)) == 5
    assert store.names() == []


@pytest.mark.parametrize("said", ["bytes 0-10/20", "", "bytes */20", "lines 100000-", f"bytes {'1' * 5000}-"])
def test_a_range_that_was_not_asked_for(get, server, app, said):
    name = app["layers"][1]["digest"]
    server.rule(name, cut(server, 100_000), lambda asked: Answer(206, LARGE[:50], {"Content-Range": said}))
    server.rule(name, Answer(206, LARGE[:50], {"Content-Range": said}))
    with pytest.raises(RegistryError, match="it was asked for from byte 100000 on, and came from another"):
        get()


def test_one_that_hangs_in_a_blob(get, store, server, app):
    name = app["layers"][1]["digest"]
    server.rule(name, Answer(200, LARGE, cut=1000, hang=True), lambda asked: None)
    assert store.has_layer(get(settings={"timeout": 0.3}).layers[1])
    assert [one.headers.get("range") for one in server.requests(name)] == [None, "bytes=1000-"]


def test_a_mirror_that_lacks_a_blob(get, store, server, other, app):
    other.manifests.update({key.replace("app/", "hub/app/"): value for key, value in server.manifests.items()})
    other.blobs = {name: data for name, data in server.blobs.items() if name != app["layers"][1]["digest"]}
    image = get(settings={"mirrors": (f"{other.host}/hub",)})
    assert all(map(store.has_layer, image.layers))
    assert blobs_of(server) == [app["layers"][1]["digest"]]
    assert server.requests("manifests") == []


def test_blobs_that_lie_elsewhere_are_fetched_without_credentials(get, store, server, other, app):
    other.blobs = server.blobs

    def away(asked):
        if "authorization" not in asked.headers:
            return Answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
        return Answer(307, b"", {"Location": f"http://{other.host}/v2/{asked.path.rpartition('/v2/')[2]}?signed"})

    server.rule("/blobs/", away)
    image = get(settings={"username": "joe", "password": "hunter2"})
    assert all(map(store.has_layer, image.layers))
    assert len(other.requests("signed")) == 3
    assert not any("authorization" in one.headers for one in other.asked)


# what never comes right, asked for anything, beside an image that is there
NEVER = {
    "too many": (Answer(429), r"too many requests \(429\)"),
    "too many, come back later": (Answer(429, b"", {"Retry-After": "3600"}), "it asks for 3600 s"),
    "an error": (Answer(500, b"<html>oops"), r"it has an error of its own \(500\)"),
    "an error in words": (
        Answer(500, b'{"errors":[{"message":"oh\\n\\u001bno","code":"X"}]}'),
        r"oh no \[X\]",
    ),
    "closed": (lambda server, asked: server.honest(asked)._replace(cut=100), "closed the connection|ended after"),
    "a page": (Answer(200, b"<html>", {"Content-Type": "text/html"}), "answers with text/html|has 6 bytes, and it"),
    "nothing": (Answer(200), "answers with nothing|has 0 bytes, and it"),
    "a secret door": (Answer(401), r"it wants to know who asks \(401\)"),
    "not there": (Answer(404), r"not there \(404\)"),
    "teapot": (Answer(418), r"status \(418\)"),
    "in a circle": (lambda server, asked: Answer(302, b"", {"Location": asked.path}), "redirects in a circle"),
    "to a file": (Answer(302, b"", {"Location": "file:///etc/passwd"}), "which is no web address"),
}


@pytest.mark.parametrize(("answer", "sentence"), NEVER.values(), ids=NEVER)
@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_what_never_comes_right(get, store, server, what, answer, sentence):
    server.image("good", "1", [(SMALL, SMALL)])
    get("good:1")
    before = listing(store.paths.root, times=False)
    value = server.image("app", "1", [(gzip.compress(LARGE), LARGE)])
    path = {"manifest": "manifests/1", "config": value["config"]["digest"], "layer": value["layers"][0]["digest"]}
    server.rule(f"app/.*{path[what]}", partial(answer, server) if callable(answer) else answer)
    with pytest.raises(VesselError, match=sentence) as caught:
        get()
    text = str(caught.value)
    assert text.startswith(server.host)
    assert text.isprintable()
    assert listing(store.paths.root, times=False) == before


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_one_that_hangs_for_ever(get, store, server, what):
    server.image("good", "1", [(SMALL, SMALL)])
    get("good:1")
    before = listing(store.paths.root, times=False)
    value = server.image("app", "1", [(gzip.compress(LARGE), LARGE)])
    path = {"manifest": "manifests/1", "config": value["config"]["digest"], "layer": value["layers"][0]["digest"]}
    server.rule(f"app/.*{path[what]}", server.hang)
    with pytest.raises(NetworkError, match=f"^{server.host}: no (answer|byte)|it did not answer|said nothing"):
        get(settings={"timeout": 0.2})
    assert listing(store.paths.root, times=False) == before


# what was finished
def test_a_finished_layer_survives_a_pull_that_failed(get, store, server, app):
    name = app["layers"][1]["digest"]
    server.rule(name, Answer(404), lambda asked: None)
    server.rule(name, Answer(404))
    with pytest.raises(RegistryError):
        get()
    assert store.has_layer(digest(SMALL)) or nothing_left(store)  # it may have been too slow
    server.rules.clear()
    get()
    assert store.collect(keep_cache=False) == 0


def test_such_a_layer_is_of_the_cache_until_an_image_has_it(get, store, server, app):
    server.image("small", "1", [(SMALL, SMALL)])
    server.rule("/v2/small/manifests", lambda asked: None)

    class Killed(Exception):
        pass

    def put(*args, **more):
        raise Killed

    store.put, own = put, store.put
    with pytest.raises(Killed):
        get("small:1")
    assert store.collect() == 0
    assert store.has_layer(digest(SMALL))
    store.put = own
    server.asked.clear()
    get("small:1")
    assert len(blobs_of(server)) == 1  # the configuration
    store.untag("x:1")
    store.collect()
    assert nothing_left(store)


# children
def test_what_children_give():
    jobs = [parallel.Job(f"job {number}", lambda number=number: number**2) for number in range(7)]
    assert parallel.run(jobs, 3) == [0, 1, 4, 9, 16, 25, 36]


def test_an_error_of_a_child_is_its_own():
    def fail():
        raise RegistryError("it is so", status=404, hint="do this")

    with pytest.raises(RegistryError) as caught:
        parallel.run([parallel.Job("x", fail)], 3)
    assert (str(caught.value), caught.value.status) == ("it is so (do this)", 404)


def test_the_first_that_fails_ends_the_others(tmp_path):
    def wait():
        (tmp_path / str(os.getpid())).touch()
        signal.pause()

    def fail():
        while not list(tmp_path.iterdir()):
            pass
        raise StoreError("no")

    with pytest.raises(StoreError, match=r"^no$"):
        parallel.run([parallel.Job("wait", wait), parallel.Job("fail", fail), parallel.Job("never", wait)], 2)
    (waited,) = tmp_path.iterdir()
    assert not os.path.exists(f"/proc/{waited.name}")


@pytest.mark.parametrize(
    ("do", "error", "sentence"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), VesselError, r"^job: its process ended too early \(signal 9\)"),
        (lambda: os.stat("/no/such"), VesselError, "^job /no/such: No such file or directory"),
        (lambda: 1 / 0, RuntimeError, "job: Traceback .*"),
        (lambda: signal.raise_signal(signal.SIGTERM), VesselError, "signal 15"),
        (lambda: os._exit(0), VesselError, "nothing said"),
    ],
)
def test_a_child_that_ends_otherwise(do, error, sentence):
    with pytest.raises(error, match=sentence):
        parallel.run([parallel.Job("job", do)], 1)


def test_children_end_with_their_parent(tmp_path):
    def wait():
        (tmp_path / str(os.getpid())).touch()
        signal.pause()

    parent = os.fork()
    if parent == 0:
        parallel.run([parallel.Job("wait", wait)] * 2, 2)
        os._exit(0)
    while len(list(tmp_path.iterdir())) < 2:
        pass
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    for child in tmp_path.iterdir():
        while os.path.exists(f"/proc/{child.name}/exe"):
            pass


def test_progress(get, server, app, tmp_path):
    class File(Progress):
        def blob(self, what, done, total):
            with open(tmp_path / "told", "a") as file:
                file.write(f"{what} {done} {total}\n")

        def say(self, what, text):
            with open(tmp_path / "told", "a") as file:
                file.write(f"{what} {text}\n")

    get(progress=File())
    told = (tmp_path / "told").read_text().splitlines()
    large = digest(LARGE)
    assert [line for line in told if large in line][-2:] == [f"{large} {len(LARGE)} {len(LARGE)}", f"{large} unpacked"]
    get(progress=File())
    assert (tmp_path / "told").read_text().splitlines()[len(told) :] == [f"{digest(SMALL)} exists", f"{large} exists"]


@pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed")
def test_layers_that_zstd_has_packed(server, get, store):
    packed = subprocess.run(["zstd", "-c"], input=LARGE, capture_output=True, check=True).stdout
    server.image("app", "zstd", [(gzip.compress(SMALL), SMALL), (packed, LARGE)])
    image = get("app:zstd")
    assert image.layers == (digest(SMALL), digest(LARGE))
    assert os.path.getsize(f"{store.layer_path(digest(LARGE))}/large") == 3 << 20
