# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry in a thread, honest until a test gives it a rule; what it was asked is kept."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from .image_tars import Layout, digest

OCI = "application/vnd.oci.image"
MANIFEST, INDEX = f"{OCI}.manifest.v1+json", f"{OCI}.index.v1+json"


class Asked(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """``cut``: so many bytes of the body are sent, and the connection is closed, or with ``hang`` left open."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = {}  # noqa: RUF012
    cut: int = -1
    hang: bool = False


Rule = Callable[[Asked], "Answer | None"]


class Registry:
    def __init__(self) -> None:
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[Asked] = []
        self.rules: list[Rule] = []
        self.ranges = True
        self.ended = threading.Event()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                with contextlib.suppress(ConnectionError):
                    super().handle_one_request()

            def log_message(self, *args: Any) -> None:
                pass

            def answer(self) -> None:
                registry.answer(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.other_name = f"localhost:{self.server.server_port}"

    # what it has
    def image(self, repository: str, tag: str, layers: list[tuple[bytes, bytes]], **config: Any) -> dict[str, Any]:
        """``layers`` are (as stored, as unpacked). The manifest, which a test may change and put again."""
        layout = Layout()
        descriptor = layout.image(layers, config=config)
        self.blobs.update(layout.blobs)
        manifest = layout.blobs[descriptor["digest"]]
        self.put(repository, tag, manifest)
        return json.loads(manifest)

    def put(self, repository: str, tag: str, value: Any, kind: str = MANIFEST) -> str:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        for name in (tag, digest(data)):
            self.manifests[f"{repository}/manifests/{name}"] = kind, data
        return digest(data)

    def rule(self, pattern: str, *answers: Answer | Callable[[Asked], Answer | None], method: str = "") -> None:
        """For a path that matches: one answer after the other; then it is honest again. One alone holds for good."""
        left = list(answers)

        def rule(asked: Asked) -> Answer | None:
            if not re.search(pattern, asked.path) or (method and asked.method != method) or not left:
                return None
            one = left[0] if len(answers) == 1 else left.pop(0)
            return one(asked) if callable(one) else one

        self.rules.append(rule)

    def requests(self, pattern: str = "", method: str = "") -> list[Asked]:
        return [one for one in self.asked if re.search(pattern, one.path) and method in ("", one.method)]

    # how it answers
    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {key.lower(): value for key, value in handler.headers.items()}
        asked = Asked(handler.command, handler.path, headers, body)
        self.asked.append(asked)
        answer = next((found for found in (rule(asked) for rule in self.rules) if found), None) or self.honest(asked)
        handler.send_response(answer.status)
        for key, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            if value:
                handler.send_header(key, value)
        handler.end_headers()
        if asked.method != "HEAD":
            handler.wfile.write(answer.body if answer.cut < 0 else answer.body[: answer.cut])
        if answer.hang:
            self.ended.wait(60)
        handler.close_connection = True

    def honest(self, asked: Asked) -> Answer:
        return self._taken(asked) if asked.method in ("POST", "PUT", "DELETE") else self._given(asked)

    def _taken(self, asked: Asked) -> Answer:
        """What is pushed. Blobs are of all repositories, as mounts have it."""
        path, _mark, query = asked.path.removeprefix("/v2/").partition("?")
        said = dict(urllib.parse.parse_qsl(query))
        if asked.method == "POST":
            if said.get("mount") in self.blobs:
                return Answer(201)
            return Answer(202, b"", {"Location": f"/v2/{path}{len(self.asked)}?state=x"})
        if asked.method == "DELETE":
            return Answer(204)
        if "/manifests/" in path:
            repository, _middle, tag = path.partition("/manifests/")
            self.put(repository, tag, asked.body, asked.headers["content-type"])
            return Answer(201, b"", {"Docker-Content-Digest": digest(asked.body)})
        if digest(asked.body) != said.get("digest"):
            return Answer(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"another digest"}]}')
        self.blobs[said["digest"]] = asked.body
        return Answer(201)

    def _given(self, asked: Asked) -> Answer:
        path = asked.path.partition("?")[0].removeprefix("/v2/")
        if path in self.manifests:
            kind, data = self.manifests[path]
            return Answer(200, data, {"Content-Type": kind, "Docker-Content-Digest": digest(data)})
        name = path.rpartition("/blobs/")[2]
        if name in self.blobs:
            return self._blob(asked, self.blobs[name])
        errors = [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]
        return Answer(404, json.dumps({"errors": errors}).encode(), {"Content-Type": "application/json"})

    def _blob(self, asked: Asked, data: bytes) -> Answer:
        match = re.fullmatch(r"bytes=(\d+)-", asked.headers.get("range", ""))
        if not match or not self.ranges:
            return Answer(200, data)
        start = int(match[1])
        return Answer(206, data[start:], {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"})

    def hang(self, asked: Asked) -> Answer:
        self.ended.wait(60)
        return Answer(500)


@contextlib.contextmanager
def serving() -> Iterator[Registry]:
    registry = Registry()
    thread = threading.Thread(target=registry.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        registry.ended.set()
        registry.server.shutdown()
        thread.join()
        registry.server.server_close()
