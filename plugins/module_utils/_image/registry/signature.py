# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures as cosign puts them beside an image: under the tag sha256-HEX.sig a manifest, each of whose layers is a
payload that names the image (simple signing), with the signature of it in an annotation.

The target's openssl looks at the keys; there is no cryptography of ours.
"""

from __future__ import annotations

import base64
import binascii
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional

from ..._errors import DependencyError, OptionError, RegistryError, SignatureError, VesselError
from .. import manifest, reference
from ..reference import Reference
from .auth import clean
from .client import Answer, Client
from .endpoint import home

_ANNOTATION = "dev.cosignproject.cosign/signature"
_KIND = "application/vnd.dev.cosign.simplesigning.v1+json"
_TYPE = "cosign container image signature"
_SIGNATURES_MAX = 64
_PAYLOAD_MAX = 1 << 20
_TIMEOUT = 30


class _Signature(NamedTuple):
    payload: bytes
    signature: bytes


def verify(name: Reference, digests: Sequence[str], client: Client, key: str, *, option: str = "public_key") -> None:
    """Raises SignatureError unless one of the digests is signed by the key for the name.

    ``digests`` are what the name leads to, and what that leads to: each names all below it. ``key`` is the path of a
    public key in PEM: ECDSA, RSA or ed25519. The first error of a signature that is no good is told when none is.
    """
    openssl = _Openssl(key, option)
    refused = ""
    for digest in dict.fromkeys(digests):
        for signature in _signatures(name, digest, client):
            problem = openssl.problem(signature) or _problem(signature.payload, name, digest)
            if not problem:
                return
            refused = refused or problem
    if refused:
        raise SignatureError(f"{name}: its signature is refused: {refused}")
    raise SignatureError(f"{name} is not signed", hint="sign it with cosign, or leave the key out")


def _signatures(name: Reference, digest: str, client: Client) -> Iterator[_Signature]:
    tag = f"{digest.replace(':', '-')}.sig"
    try:
        answer: Answer = client.first(name, lambda endpoint: client.manifest_at(endpoint, tag))
    except RegistryError as error:
        if error.status == 404:
            return
        raise
    where = f"{name}: its signatures"
    for layer in manifest.descriptors(manifest.parse(answer.data, where), "layers", where)[:_SIGNATURES_MAX]:
        blob = manifest.descriptor(layer, where)
        signature = _decoded(layer.get("annotations"))
        if blob.media_type == _KIND and signature and blob.size <= _PAYLOAD_MAX:
            yield _Signature(client.small_blob(answer.endpoint, blob.digest, blob.size), signature)


def _decoded(annotations: Any) -> bytes:
    text = annotations.get(_ANNOTATION) if isinstance(annotations, dict) else None
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        return b""


def _problem(payload: bytes, name: Reference, digest: str) -> str:
    """What of a payload that the key has signed does not say that this is the image; empty when it does."""
    try:
        critical = manifest.json_of(payload, "the payload")["critical"]
        kind, image, identity = critical["type"], critical["image"], critical["identity"]
        signed, wanted = image["docker-manifest-digest"], identity["docker-reference"]
    except (VesselError, KeyError, TypeError):
        return "its payload names no image"
    if kind != _TYPE:
        return f"it is a {clean(str(kind))}"
    if signed != digest:
        return f"it is for {clean(str(signed))}"
    return "" if _is_for(str(wanted), name) else f"it is for {clean(str(wanted))}"


def _is_for(wanted: str, name: Reference) -> bool:
    """cosign signs a repository, others also the tag; where a tag is signed, it is the one that was asked for."""
    try:
        signed = reference.parse(wanted, "")
    except OptionError:
        return False
    has_tag = wanted.partition("@")[0].rpartition("/")[2].count(":") == 1
    return home(signed) == home(name) and (not has_tag or bool(name.digest) or signed.tag == name.tag)


class _Openssl:
    def __init__(self, key: str, option: str) -> None:
        self._key = key
        if not os.path.isfile(key):
            raise OptionError(option, key, "is no file on the target")
        told = self._run("pkey", "-pubin", "-in", key, "-noout", "-text")
        if told is None:
            raise OptionError(option, key, "is no public key in PEM")
        self._raw = "ED25519" in told.upper()

    def problem(self, signature: _Signature) -> str:
        """Empty when the key has signed the payload."""
        with tempfile.TemporaryDirectory() as directory:
            paths = [f"{directory}/payload", f"{directory}/signature"]
            for path, data in zip(paths, signature):
                with open(path, "wb") as file:
                    file.write(data)
            if self._raw:
                signed = ["-rawin", "-in", paths[0], "-sigfile", paths[1]]
                how = ["pkeyutl", "-verify", "-pubin", "-inkey", self._key, *signed]
            else:
                how = ["dgst", "-sha256", "-verify", self._key, "-signature", paths[1], paths[0]]
            return "the key has not made it" if self._run(*how) is None else ""

    @staticmethod
    def _run(*words: str) -> Optional[str]:
        """What it says; None when it fails."""
        try:
            done = subprocess.run(
                ["openssl", *words], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_TIMEOUT
            )
        except FileNotFoundError:
            raise DependencyError("a signature is verified by openssl, which is not on the target") from None
        except subprocess.TimeoutExpired:
            return None
        return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
