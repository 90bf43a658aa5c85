# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who we are to a registry: WWW-Authenticate answered by Basic or by a token (distribution-spec, token authentication).

Credentials are in no argument list, log, error or repr().
"""

from __future__ import annotations

import base64
import re
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple, Optional

from ..._errors import RegistryError

_CLIENT = "vessel.host"
_LIFE = 60.0  # of a token whose server does not say, in seconds
_MARGIN = 5.0
_HIDDEN = "********"
# Blanks and commas in one go, for else many of them are tried in all ways of dividing them.
_PARAMETER = re.compile(r"""[\s,]*([\w.-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))""", re.ASCII)
_SCHEME = re.compile(r"[\s,]*([A-Za-z][A-Za-z0-9-]*)(?=\s|,|$)")


@dataclass(frozen=True)
class Credentials:
    """A name with its password, or a token that stands for both and is changed for others (OAuth2).

    ``source`` is who gave them, an option or a file, for who has to look there.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    source: str = field(default="", compare=False)

    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class Challenge(NamedTuple):
    """``scheme`` is in lower case."""

    scheme: str
    parameters: dict[str, str]


class Reply(NamedTuple):
    """What a token server answered."""

    status: int
    value: Any


# (url, headers, form or None) -> Reply
Fetch = Callable[[str, "dict[str, str]", "Optional[bytes]"], Reply]


def challenges(header: str) -> list[Challenge]:
    """Those of a WWW-Authenticate header; where it makes no sense it ends."""
    found: list[Challenge] = []
    at = 0
    while at < len(header):
        parameter = _PARAMETER.match(header, at)
        scheme = None if parameter else _SCHEME.match(header, at)
        match = parameter or scheme
        if match is None:
            break
        if scheme:
            found.append(Challenge(scheme[1].lower(), {}))
        elif parameter and found:
            value = parameter[3] if parameter[2] is None else re.sub(r"\\(.)", r"\1", parameter[2])
            found[-1].parameters[parameter[1].lower()] = value
        at = match.end()
    return found


class Authenticator:
    """For one registry; what it was given is kept for as long as it is good."""

    def __init__(
        self,
        host: str,
        fetch: Fetch,
        credentials: Callable[[], Optional[Credentials]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = host
        self._fetch = fetch
        self._find = credentials
        self._found: Optional[Credentials] = None
        self._looked = False
        self._clock = clock
        self._basic = ""
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}

    @property
    def credentials(self) -> Optional[Credentials]:
        """Looked for when a registry asks: a helper program may take its time, and many ask for none."""
        if not self._looked:
            self._found, self._looked = self._find(), True
        return self._found

    def hide(self, text: str) -> str:
        """What others said, without what they were shown of ours: they may say it again."""
        secrets = {token for token, dummy in self._tokens.values()}
        if self._found:
            secrets |= {self._found.password, self._found.identity_token, self._found.basic().partition(" ")[2]}
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            for form in (secret, urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret)):
                text = text.replace(form, _HIDDEN)
        return text

    def header(self, scopes: Sequence[str]) -> dict[str, str]:
        """Authorization, when there is something to show."""
        if self._basic:
            return {"Authorization": self._basic}
        token, until = self._tokens.get(tuple(scopes), ("", 0.0))
        return {"Authorization": f"Bearer {token}"} if token and self._clock() < until else {}

    def answer(self, header: str, scopes: Sequence[str], *, secure: bool) -> bool:
        """Get what the registry asks for by a 401; False when there is nothing better than was shown.

        ``secure``: the registry vouched for itself by TLS, and so must the server that it sends us to.
        """
        for scheme, parameters in challenges(header):
            if scheme == "bearer" and parameters.get("realm"):
                self._tokens[tuple(scopes)] = self._token(parameters, scopes, secure)
                return True
            if scheme == "basic" and self.credentials and self.credentials.username and not self._basic:
                self._basic = self.credentials.basic()
                return True
        return False

    def _token(self, parameters: Mapping[str, str], scopes: Sequence[str], secure: bool) -> tuple[str, float]:
        realm = parameters["realm"]
        self._check_realm(realm, secure)
        asked = parameters.get("scope", "")
        wanted = list(scopes) or ([asked] if asked else [])
        fields = [("service", parameters["service"])] if parameters.get("service") else []
        token = self.credentials.identity_token if self.credentials else ""
        by = self._by_refresh_token(realm, token, fields, wanted) if token else self._by_password(realm, fields, wanted)
        return self._read(realm, by)

    def _check_realm(self, realm: str, secure: bool) -> None:
        parts = urllib.parse.urlsplit(realm)
        shown = shown_address(self.hide(realm))
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.username is not None:
            raise RegistryError(f"{self.host}: it sends us for a token to {shown}, which is no web address")
        if secure and parts.scheme != "https":
            raise RegistryError(f"{self.host}: it sends us for a token to {shown}, which has no TLS")

    def _by_password(self, realm: str, fields: list[tuple[str, str]], scopes: list[str]) -> Reply:
        headers = {}
        if self.credentials and self.credentials.username:
            fields = [("account", self.credentials.username), *fields]
            headers["Authorization"] = self.credentials.basic()
        query = urllib.parse.urlencode([*fields, *(("scope", scope) for scope in scopes)])
        joined = "&" if urllib.parse.urlsplit(realm).query else "?"
        return self._fetch(f"{realm}{joined}{query}" if query else realm, headers, None)

    def _by_refresh_token(self, realm: str, token: str, fields: list[tuple[str, str]], scopes: list[str]) -> Reply:
        form = [("grant_type", "refresh_token"), ("refresh_token", token), *fields]
        form += [("client_id", _CLIENT), ("scope", " ".join(scopes))]
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._fetch(realm, headers, urllib.parse.urlencode(form).encode())

    def _read(self, realm: str, reply: Reply) -> tuple[str, float]:
        where = urllib.parse.urlsplit(realm).netloc
        if reply.status in (400, 401, 403):
            refused = "the credentials" if self.credentials else "a token to who has no username"
            raise RegistryError(f"{self.host}: {where} refuses {refused}", status=401, hint=login_hint(self))
        value = reply.value if isinstance(reply.value, dict) else {}
        token = value.get("token") or value.get("access_token")
        if reply.status != 200 or not isinstance(token, str) or not _fits_a_header(token):
            raise RegistryError(f"{self.host}: {where} gave no token (status {reply.status})", status=reply.status)
        life = value.get("expires_in")
        seconds = float(life) if isinstance(life, (int, float)) and life > 0 else _LIFE
        return token, self._clock() + max(seconds - _MARGIN, 1.0)


def login_hint(auth: Authenticator) -> str:
    if auth.credentials:
        whence = f"those of {auth.credentials.source}" if auth.credentials.source else "the credentials"
        return f"{whence} were refused: are they those for {auth.host}, and may they do this?"
    return "it may be private, or not be there at all; none were given: give username and password, or auth_file"


def _fits_a_header(token: str) -> bool:
    return token.isascii() and token.isprintable()


def clean(text: str, most: int = 200) -> str:
    """What others said, fit to be shown: without control characters, and not endless."""
    shown = "".join(char if char.isprintable() else " " for char in text[: 2 * most])
    shown = " ".join(shown.split())
    return shown if len(shown) <= most else f"{shown[:most]}…"


def shown_address(url: str) -> str:
    """An address that others gave, without a name and a password in it."""
    return clean(re.sub(r"//[^/?#]*@", f"//{_HIDDEN}@", url))
