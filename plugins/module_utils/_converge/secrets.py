# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets: files in memory, and what of them is written down so that a later declaration can be compared.

Written down is a keyed hash (HMAC, RFC 2104) under a random key of 256 bits that lies beside the contents, on the
same tmpfs, and has their life: it goes with the last of them, or with the reboot that takes them all. Who has the
state files, a backup of them or the whole disk can't test a single guess, however short the secret is. Who can read
the key is root of the running host, and reads the contents themselves in the file next to it.

What that gives up: after a reboot what is written down says nothing any more. Nothing is lost by it, for the contents
are gone too, and whoever starts the container has to bring them again; whether they are others than before is not told.
A slow hash with a salt, which needs no key, would tell. But it makes guesses dear only by as much as it makes every
run dear: at 18 ms a secret, a thousand took 18 s each time, and a PIN of four digits was still found in three minutes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from .._errors import StateError
from .._kernel import mount as m
from .._kernel.file import remove_tree, write_atomic
from .._paths import Paths
from . import store
from .container.labels import UNLABELLED, Labels, label_files

Secret = Mapping[str, Any]
_KEY = ".key"  # no container's name begins with a dot
_KEY_BYTES = 32


def stored(paths: Paths, owner: str, secrets: Sequence[Secret]) -> list[dict[str, Any]]:
    """Secrets of the container ``owner`` as they may lie on a disk: who may read them, and the content's digest."""
    if not any("content" in secret for secret in secrets):
        return [dict(secret) for secret in secrets]
    with store.lock(paths, "secrets", "all"):
        key = _key(paths) or _new_key(paths)
        # The owner is somebody who has secrets from here on, so that nobody takes the key away as the last one.
        os.makedirs(paths.secrets(owner), mode=0o755, exist_ok=True)
    return [_stored(key, owner, secret) for secret in secrets]


def _stored(key: bytes, owner: str, secret: Secret) -> dict[str, Any]:
    kept = {name: value for name, value in secret.items() if name != "content"}
    return {**kept, **_digests(key, owner, secret)} if "content" in secret else kept


def _digests(key: bytes, owner: str, secret: Secret) -> dict[str, str]:
    """``digest`` of the content, and by ``key`` which key that was. Two secrets of one content look like two."""
    import hashlib  # with hmac it brings OpenSSL along, which a run without secrets need not load
    import hmac

    what = b"\0".join((owner.encode(), secret["name"].encode(), secret["content"].encode()))
    return {"key": hashlib.sha256(key).hexdigest()[:16], "digest": hmac.digest(key, what, "sha256").hex()}


def same(paths: Paths, owner: str, declared: Sequence[Secret], present: Sequence[Secret], *, running: bool) -> bool:
    """Are the declared ones those that are there? See ``rotated`` for their contents."""

    def shown(secrets: Sequence[Secret]) -> dict[str, Any]:
        return {secret["name"]: [secret[key] for key in ("uid", "gid", "mode")] for secret in secrets}

    return shown(declared) == shown(present) and not rotated(paths, owner, declared, present, running=running)


def rotated(
    paths: Paths, owner: str, declared: Sequence[Secret], present: Sequence[Secret], *, running: bool
) -> set[str]:
    """Names of those that are there with another content. Where the key is gone nobody knows; a container that does
    not run gets the declared content when it starts, so nothing is to be changed now."""
    have, key = {secret["name"]: secret for secret in present}, _key(paths)
    found = set()
    for secret in declared:
        other = have.get(secret["name"])
        if other is not None and not _same_content(key, owner, secret, other, running=running):
            found.add(secret["name"])
    return found


def _same_content(key: Optional[bytes], owner: str, declared: Secret, present: Secret, *, running: bool) -> bool:
    if "content" not in declared:
        return bool(declared.get("digest") == present.get("digest"))
    if "content" in present:
        return bool(declared["content"] == present["content"])
    wanted = _digests(key, owner, declared) if key else {"key": "", "digest": ""}
    if wanted["key"] != present.get("key"):
        return not running
    return wanted["digest"] == present.get("digest")


# in memory


def write(paths: Paths, name: str, secrets: Sequence[Secret], own: Labels = UNLABELLED) -> None:
    """A directory is bound inside, so that a file that is replaced is seen. What is made in it has its type."""
    with store.lock(paths, "secrets", "all"):
        _mount(paths)
        directory = paths.secrets(name)
        os.makedirs(directory, mode=0o755, exist_ok=True)
        label_files(own, directory)
        wanted = {secret["name"]: secret for secret in secrets}
        for file in os.listdir(directory):
            if file not in wanted:
                os.unlink(f"{directory}/{file}")
        for file, secret in wanted.items():
            _write(name, f"{directory}/{file}", secret)


def _write(name: str, path: str, secret: Secret) -> None:
    if "content" in secret:
        write_atomic(path, secret["content"].encode(), mode=0o600, durable=False)
    if not os.path.exists(path):
        hint = "secrets are kept in memory alone; run the play that has them"
        raise StateError(f"container {name}: the content of the secret {secret['name']} is gone", hint=hint)
    os.chown(path, secret["uid"], secret["gid"])
    os.chmod(path, secret["mode"])


def held(paths: Paths, name: str, secrets: Sequence[Secret]) -> list[dict[str, Any]]:
    """With their contents, which lie in memory and nowhere else: who may have to bring them back reads them first."""
    directory = paths.secrets(name)
    found = []
    for secret in secrets:
        try:
            with open(f"{directory}/{secret['name']}", encoding="utf-8", newline="") as file:
                found.append({**secret, "content": file.read()})
        except (FileNotFoundError, UnicodeDecodeError):
            found.append(dict(secret))
    return found


def remove(paths: Paths, name: str) -> None:
    """The container's, and with the last one the file system that they lie on: a key without any is what is left of a
    process that was killed."""
    directory, base = paths.secrets(name), _base(paths)
    if not (os.path.isdir(directory) or _is_left(base)):
        return
    with store.lock(paths, "secrets", "all"):
        remove_tree(directory)
        if _is_left(base):
            if os.path.ismount(base):
                m.umount2(base, m.MNT_DETACH)
            os.rmdir(base)


def _is_left(base: str) -> bool:
    """Is it there for nobody?"""
    try:
        return set(os.listdir(base)) <= {_KEY}
    except FileNotFoundError:
        return False


def _base(paths: Paths) -> str:
    return os.path.dirname(paths.secrets(_KEY))


def _mount(paths: Paths) -> None:
    base = _base(paths)
    os.makedirs(base, mode=0o700, exist_ok=True)
    if not os.path.ismount(base):
        m.mount("vessel-secrets", base, "tmpfs", m.MS_NOSUID | m.MS_NODEV | m.MS_NOEXEC, "mode=700,size=16m")


def _key(paths: Paths) -> Optional[bytes]:
    """None when there is none, as when nobody has a secret."""
    try:
        with open(f"{_base(paths)}/{_KEY}", "rb") as file:
            return file.read() or None
    except FileNotFoundError:
        return None


def _new_key(paths: Paths) -> bytes:
    _mount(paths)
    key = os.urandom(_KEY_BYTES)
    write_atomic(f"{_base(paths)}/{_KEY}", key, mode=0o600, durable=False)
    return key
