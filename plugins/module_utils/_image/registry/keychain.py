# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials as docker and podman keep them (containers-auth.json(5)): a file, or a helper program that it names."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Optional

from ..._errors import DependencyError, OptionError, StoreError
from .auth import Credentials

_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
_HELPER_TIMEOUT = 60
_FILE_MAX = 4 << 20
_TOKEN = "<token>"  # what a helper says in a username's place


def find(
    host: str, path: str, auth_file: str = "", environ: Optional[Mapping[str, str]] = None
) -> Optional[Credentials]:
    """Those for the repository ``path`` of a registry; None where none are kept.

    A file that the task names must be there; of those in the default places the first that knows the registry counts.
    """
    files = [auth_file] if auth_file else default_files(os.environ if environ is None else environ)
    for file in files:
        value = _load(file, needed=bool(auth_file))
        found = _in_file(value, file, host, path) if value else None
        if found:
            return replace(found, source=f"auth_file {file}" if auth_file else f"the file {file}")
    return None


def default_files(environ: Mapping[str, str]) -> list[str]:
    """Where podman and docker look, in podman's order."""
    home = environ.get("HOME") or os.path.expanduser("~")
    run = environ.get("XDG_RUNTIME_DIR") or ""
    places = [
        environ.get("REGISTRY_AUTH_FILE") or "",
        f"{run}/containers/auth.json" if run else "",
        f"/run/containers/{os.getuid()}/auth.json",
        f"{environ.get('XDG_CONFIG_HOME') or f'{home}/.config'}/containers/auth.json",
        f"{environ.get('DOCKER_CONFIG') or f'{home}/.docker'}/config.json",
    ]
    return [place for place in dict.fromkeys(places) if place]


def _load(file: str, *, needed: bool) -> Optional[dict[str, Any]]:
    try:
        with open(file, "rb") as stream:
            data = stream.read(_FILE_MAX)
        value = json.loads(data)
    except OSError as error:
        if needed:
            raise OptionError("auth_file", file, f"can't be read: {error.strerror}") from None
        return None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise StoreError(
            f"{file}: it is no auth file", hint='as docker login writes it: {"auths": {HOST: {"auth": …}}}'
        )
    return value


def _in_file(value: dict[str, Any], file: str, host: str, path: str) -> Optional[Credentials]:
    helpers, auths = value.get("credHelpers"), value.get("auths")
    hosts = _HUB if host in _HUB else (host,)
    for name in hosts:
        if isinstance(helpers, dict) and helpers.get(name):
            return _ask(helpers[name], name, file)
    if isinstance(auths, dict):
        kept = {_normal(key): entry for key, entry in auths.items()}
        for key in _keys(hosts, path):
            found = _entry(kept.get(key), key, file)
            if found:
                return found
    if value.get("credsStore"):
        # docker login keeps the hub's under the address that its first index had.
        server = "https://index.docker.io/v1/" if host in _HUB else host
        return _ask(value["credsStore"], server, file)
    return None


def _keys(hosts: tuple[str, ...], path: str) -> Iterator[str]:
    """The longest first: a repository may have credentials of its own."""
    parts = path.split("/")
    for count in range(len(parts), -1, -1):
        for host in hosts:
            yield "/".join([host, *parts[:count]])


def _normal(key: str) -> str:
    """Older files have addresses: https://index.docker.io/v1/."""
    for scheme in ("https://", "http://"):
        if key.startswith(scheme):
            return key[len(scheme) :].partition("/")[0]
    return key.rstrip("/")


def _entry(entry: Any, key: str, file: str) -> Optional[Credentials]:
    if not isinstance(entry, dict):
        return None
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials(identity_token=token)
    auth = entry.get("auth")
    if not isinstance(auth, str) or not auth:
        return None
    try:
        name, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        colon = ""
    if not colon:
        raise StoreError(f"{file}: auths: {key}: auth is not the base64 of NAME:PASSWORD")
    return Credentials(name, password.rstrip("\0"))


def _ask(helper: Any, server: str, file: str) -> Optional[Credentials]:
    """A program that reads the server's name and writes the secret (docker-credential-helpers)."""
    if not isinstance(helper, str) or not _HELPER.fullmatch(helper):
        raise StoreError(f"{file}: {helper!r} can't be a credential helper's name")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"], input=server.encode(), capture_output=True, check=False, timeout=_HELPER_TIMEOUT
        )
    except FileNotFoundError:
        raise DependencyError(f"{file} names the credential helper {program}, which is not on the target") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StoreError(f"{program}: {type(error).__name__} instead of credentials for {server}") from None
    if done.returncode:
        return None  # so it says that it has none; whatever else is wrong shows by the registry's refusal
    try:
        value = json.loads(done.stdout)
        name, secret = value["Username"], value["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        name, secret = None, None
    if not isinstance(name, str) or not isinstance(secret, str):
        raise StoreError(f"{program}: what it says of {server} are no credentials")
    return Credentials(identity_token=secret) if name == _TOKEN else Credentials(name, secret)
