# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys, and signatures of images as cosign makes them, by openssl."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

from .image_tars import digest

KINDS = {
    "ecdsa": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "rsa": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    "ed25519": ("-algorithm", "ed25519"),
}
SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
CONFIG = b"{}"


def openssl(*words: Any) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=30)


class Key:
    def __init__(self, directory: Path, kind: str = "ecdsa") -> None:
        directory.mkdir()
        self.directory, self.kind = directory, kind
        self.private, self.public = directory / "private.pem", directory / "public.pem"
        openssl("genpkey", *KINDS[kind], "-out", self.private)
        openssl("pkey", "-in", self.private, "-pubout", "-out", self.public)

    def sign(self, payload: bytes) -> bytes:
        data, out = self.directory / "payload", self.directory / "signature"
        data.write_bytes(payload)
        if self.kind == "ed25519":
            openssl("pkeyutl", "-sign", "-inkey", self.private, "-rawin", "-in", data, "-out", out)
        else:
            openssl("dgst", "-sha256", "-sign", self.private, "-out", out, data)
        return out.read_bytes()


def payload(name: str, image: str, kind: str = "cosign container image signature") -> bytes:
    critical = {"identity": {"docker-reference": name}, "image": {"docker-manifest-digest": image}, "type": kind}
    return json.dumps({"critical": critical, "optional": {}}).encode()


def manifest(signed: list[tuple[bytes, bytes]]) -> bytes:
    """For (payload, signature) pairs; its blobs are the payloads and CONFIG."""
    layers = [
        {
            "mediaType": SIMPLE,
            "digest": digest(data),
            "size": len(data),
            "annotations": {"dev.cosignproject.cosign/signature": base64.b64encode(signature).decode()},
        }
        for data, signature in signed
    ]
    kind = "application/vnd.oci.image"
    config = {"mediaType": f"{kind}.config.v1+json", "digest": digest(CONFIG), "size": len(CONFIG)}
    value = {"schemaVersion": 2, "mediaType": f"{kind}.manifest.v1+json", "config": config, "layers": layers}
    return json.dumps(value).encode()
