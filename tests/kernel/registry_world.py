# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registries of Debian's docker-registry on loopback, authorities, and the tools that others make images with."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.tests import podman_settings

TIMEOUT = 120
NEEDED = ("docker-registry", "skopeo", "umoci", "podman", "buildah", "htpasswd", "openssl")
needs_peers = pytest.mark.skipif(
    not all(map(shutil.which, NEEDED)), reason=f"one of {', '.join(NEEDED)} is not installed"
)


def run(*words: Any, env: dict[str, str] | None = None, check: bool = True) -> str:
    done = subprocess.run(
        list(map(str, words)),
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout.strip() if done.returncode == 0 else done.stdout + done.stderr


class Hub:
    """A docker-registry. ``http`` and ``more`` go into its configuration (which is YAML, so that JSON does)."""

    def __init__(self, directory: Path, http: dict[str, Any] | None = None, **more: Any) -> None:
        directory.mkdir()
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{found.getsockname()[1]}"
        self.data = directory / "data"
        settings = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.data)}, "delete": {"enabled": True}},
            "http": {"addr": self.host, **(http or {})},
            **more,
        }
        config = directory / "config.yml"
        config.write_text(json.dumps(settings))
        self.log = directory / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", config], stdout=log, stderr=log)

    def wait(self) -> None:
        host, _colon, port = self.host.rpartition(":")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
                return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def stop(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def blobs(self) -> int:
        """How many it has."""
        return len(list(self.data.glob("docker/registry/v2/blobs/sha256/*/*/data")))


@contextlib.contextmanager
def hub(directory: Path, http: dict[str, Any] | None = None, **more: Any) -> Iterator[Hub]:
    made = Hub(directory, http, **more)
    try:
        made.wait()
        yield made
    finally:
        made.stop()


class Authority:
    """A CA of the test's own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.cert, self.key = directory / "ca.crt", directory / "ca.key"
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-subj", "/CN=test CA",
            "-keyout", self.key, "-out", self.cert)  # fmt: skip

    def issue(self, name: str) -> tuple[Path, Path]:
        """(certificate, key), for 127.0.0.1."""
        cert, key, asked = (self.directory / f"{name}.{end}" for end in ("crt", "key", "csr"))
        names = self.directory / "names"
        names.write_text("subjectAltName = IP:127.0.0.1\n")
        run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", asked)
        signed = ("-CA", self.cert, "-CAkey", self.key, "-CAcreateserial", "-days", 2, "-extfile", names)
        run("openssl", "x509", "-req", "-in", asked, *signed, "-out", cert)
        return cert, key


class Peers:
    """podman, buildah, skopeo and umoci, in directories of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        (root / "auth.json").write_text("{}")
        self.env = {
            **podman_settings.write(root, driver="vfs"),
            "REGISTRY_AUTH_FILE": str(root / "auth.json"),
            "TMPDIR": str(root),
            "HOME": str(root),
        }

    def podman(self, *words: Any, check: bool = True) -> str:
        return run("podman", *words, env=self.env, check=check)

    def buildah(self, *words: Any) -> str:
        return run("buildah", *words, env=self.env)

    def skopeo(self, *words: Any, check: bool = True) -> str:
        return run("skopeo", "--insecure-policy", *words, env=self.env, check=check)
