# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to registries: authorized, tried again where that may help, and redirected by ourselves, for who follows
decides what goes along.
"""

from __future__ import annotations

import json
import random
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Callable, NamedTuple, Optional

from ..._errors import NetworkError, RegistryError
from ..manifest import JSON_MAX
from . import keychain
from .auth import Authenticator, Credentials, Reply, clean, login_hint, shown_address
from .endpoint import Endpoint
from .transport import Body, Response, Tls, Transport

PULL, PUSH = "pull", "pull,push"
_REDIRECTS = (301, 302, 303, 307, 308)
_REDIRECTS_MAX = 5
RETRIED = (408, 429, 500, 502, 503, 504)
_WAIT_FIRST, _WAIT_MAX = 0.5, 8.0
_RETRY_AFTER_MAX = 60.0
_ERROR_MAX = 64 << 10  # of an error's text


@dataclass(frozen=True)
class Settings:
    """What a task says of its registry. ``attempts`` are those of one request; ``timeout`` seconds without a byte.

    ``username`` and ``password`` are the registry's, never a mirror's.
    """

    tls: Tls = field(default_factory=Tls)
    username: str = ""
    password: str = field(default="", repr=False)
    auth_file: str = ""
    mirrors: tuple[str, ...] = ()
    timeout: float = 30.0
    attempts: int = 5


class _Secret(NamedTuple):
    """Headers that go to the origin of the address ``home``, and to no other."""

    home: str
    headers: Mapping[str, str]


class Session:
    """One for a task. What it learned of hosts (tokens, who speaks no TLS) is known to the children that it forks."""

    def __init__(
        self, transport: Transport, settings: Optional[Settings] = None, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.settings = settings or Settings()
        self._transport = transport
        self._sleep = sleep
        self._plain: set[str] = set()
        self._auth: dict[str, Authenticator] = {}

    def request(
        self,
        method: str,
        endpoint: Endpoint,
        path: str,
        what: str,
        *,
        headers: Optional[Mapping[str, str]] = None,
        body: Body = None,
        action: str = PULL,
        more_scopes: Sequence[str] = (),
        expected: Sequence[int] = (200,),
    ) -> Response:
        """An answer with one of the expected statuses; RegistryError for any other.

        ``path`` is below the repository; it may be an address that an answer gave, elsewhere too.
        """
        scopes = (f"repository:{endpoint.repository}:{action}", *more_scopes)
        auth = self._authenticator(endpoint)
        for again in (True, False):
            home = f"https://{endpoint.host}/v2/{endpoint.repository}/"
            secret = _Secret(home, auth.header(scopes))
            response = self._patient(method, self._target(home, path), endpoint.host, headers or {}, secret, body)
            if response.status in expected:
                return response
            if response.status == 401 and again:
                response.close()
                challenge = response.headers.get("www-authenticate", "")
                if auth.answer(challenge, scopes, secure=self._is_secure(endpoint.host)) and _can_be_sent_again(body):
                    continue
            break
        raise self._refusal(response, endpoint, what, auth)

    def _authenticator(self, endpoint: Endpoint) -> Authenticator:
        key = f"{endpoint.domain} {endpoint.is_mirror}"
        if key not in self._auth:

            def fetch(url: str, headers: dict[str, str], form: Optional[bytes]) -> Reply:
                return self._token(url, endpoint.host, headers, form)

            self._auth[key] = Authenticator(endpoint.host, fetch, lambda: self._credentials(endpoint))
        return self._auth[key]

    def _credentials(self, endpoint: Endpoint) -> Optional[Credentials]:
        if self.settings.username and not endpoint.is_mirror:
            return Credentials(self.settings.username, self.settings.password, source="username and password")
        return keychain.find(endpoint.domain, endpoint.repository, self.settings.auth_file)

    def _token(self, url: str, host: str, headers: dict[str, str], form: Optional[bytes]) -> Reply:
        method = "POST" if form else "GET"
        ask = partial(self._patient, method, url, host, {}, _Secret(url, headers), form)
        response, data = self.whole(ask, host, "token")
        try:
            return Reply(response.status, json.loads(data))
        except (ValueError, RecursionError):
            return Reply(response.status, None)

    def _patient(
        self, method: str, url: str, host: str, headers: Mapping[str, str], secret: _Secret, body: Body
    ) -> Response:
        """Tried again where another attempt may do better. A body that can be sent only once is sent once."""
        attempts = self.settings.attempts if _can_be_sent_again(body) else 1
        for attempt in range(1, attempts + 1):
            wait = back_off(attempt)
            try:
                response = self._follow(method, url, host, headers, secret, body)
            except NetworkError as error:
                if attempt == attempts or not self.worth(error, attempt):
                    raise
            else:
                asked = _retry_after(response)
                if response.status not in RETRIED or attempt == attempts or asked > _RETRY_AFTER_MAX:
                    return response
                response.close()
                wait = asked or wait
            self._sleep(wait)
        raise AssertionError("contract violation: no attempt was made")

    def _follow(
        self, method: str, url: str, host: str, headers: Mapping[str, str], secret: _Secret, body: Body
    ) -> Response:
        """Redirects, by ourselves: what is secret, and our certificate, go to the host that was meant and no other."""
        for dummy in range(_REDIRECTS_MAX + 1):
            own = _origin(self.spoken(url)) == _origin(self.spoken(secret.home))
            tls = self.settings.tls if own and _host(url) == host else self._tls_of_others()
            sent = {**headers, **(secret.headers if own else {})}
            response = self._once(method, url, sent, body, tls)
            target = response.headers.get("location", "")
            if response.status not in _REDIRECTS or not target or method not in ("GET", "HEAD"):
                return response
            response.close()
            url = self._target(self.spoken(url), target)
        raise RegistryError(f"{host}: it redirects in a circle, at last to {self._shown(url)}")

    def _tls_of_others(self) -> Tls:
        return self.settings.tls._replace(client_cert="", client_key="")

    def _target(self, url: str, location: str) -> str:
        """Where an answer sends us, or what of a registry is asked for."""
        target = urllib.parse.urljoin(url, location)
        parts = urllib.parse.urlsplit(target)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise RegistryError(f"{_host(url)}: it redirects to {self._shown(target)}, which is no web address")
        if self.settings.tls.verify and parts.scheme != "https":
            raise RegistryError(f"{_host(url)}: it redirects to {self._shown(target)}, which has no TLS")
        return target

    def _shown(self, url: str) -> str:
        for auth in self._auth.values():
            url = auth.hide(url)
        return shown_address(url)

    def _once(self, method: str, url: str, headers: Mapping[str, str], body: Body, tls: Tls) -> Response:
        """Without verification, who speaks no TLS is spoken to without it, as podman has it."""
        try:
            url = self.spoken(url)
            return self._transport.request(method, url, headers, body, timeout=self.settings.timeout, tls=tls)
        except NetworkError as error:
            if tls.verify or not error.not_tls or not url.startswith("https:"):
                if error.not_tls:
                    error.hint = "set tls_verify: false for a registry without TLS"
                raise
        self._plain.add(_host(url))
        return self._transport.request(method, self.spoken(url), headers, body, timeout=self.settings.timeout, tls=tls)

    def spoken(self, url: str) -> str:
        """The address as the host takes it, if it is one that speaks no TLS."""
        return url.replace("https:", "http:", 1) if _host(url) in self._plain else url

    def _is_secure(self, host: str) -> bool:
        return self.settings.tls.verify and host not in self._plain

    def pause(self, seconds: float) -> None:
        self._sleep(seconds)

    def whole(self, ask: Callable[[], Response], host: str, what: str) -> tuple[Response, bytes]:
        """A small answer with its body; one that is cut off is asked for again."""
        for attempt in range(1, self.settings.attempts + 1):
            response = ask()
            try:
                return response, self._small(response, host, what)
            except NetworkError as error:
                if not self.worth(error, attempt):
                    raise
            finally:
                response.close()
            self._sleep(back_off(attempt))
        raise AssertionError("contract violation: no attempt was made")

    def left(self, attempt: int) -> bool:
        """Is there another attempt after this one?"""
        return attempt < self.settings.attempts

    def worth(self, error: NetworkError, attempt: int) -> bool:
        """Is another attempt worth it? Who says nothing for so long is asked twice, not five times."""
        return error.temporary and attempt < (2 if error.timed_out else self.settings.attempts)

    @staticmethod
    def _small(response: Response, host: str, what: str) -> bytes:
        parts: list[bytes] = []
        size = 0
        while size <= JSON_MAX:
            data = response.read(1 << 16)
            if not data:
                return b"".join(parts)
            parts.append(data)
            size += len(data)
        raise RegistryError(f"{host}: {what} has more than {JSON_MAX} bytes")

    def _refusal(self, response: Response, endpoint: Endpoint, what: str, auth: Authenticator) -> RegistryError:
        try:
            said = _words(response.read(_ERROR_MAX), auth) if response.status != 401 else ""
        except NetworkError:
            said = ""
        finally:
            response.close()
        status = response.status
        text = f"{endpoint.host}: {what}: {_NAMES.get(status, 'status')} ({status}){f': {said}' if said else ''}"
        hint = login_hint(auth) if status in (401, 403) else ""
        if _retry_after(response):
            hint = f"it asks for {_retry_after(response):.0f} s of patience"
        return RegistryError(text, status=status, hint=hint)


_NAMES = {
    401: "it wants to know who asks",
    403: "forbidden",
    404: "not there",
    405: "not allowed",
    429: "too many requests",
    500: "it has an error of its own",
    502: "what is behind it does not answer",
    503: "not available",
    504: "what is behind it does not answer in time",
}


def _can_be_sent_again(body: Body) -> bool:
    return body is None or isinstance(body, bytes)


def back_off(attempt: int) -> float:
    """Longer each time, and never the same for two who were turned away together."""
    return min(_WAIT_FIRST * 2.0 ** (attempt - 1), _WAIT_MAX) * random.uniform(0.5, 1.0)


def _retry_after(response: Response) -> float:
    """Seconds, from a number or a date; 0 where it says nothing that makes sense."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0


def _words(data: bytes, auth: Authenticator) -> str:
    """The distribution-spec's errors; of a page for people nothing."""
    try:
        errors = json.loads(data)["errors"]
        told = [f"{item.get('message') or ''} [{item.get('code')}]" for item in errors]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
    return clean(auth.hide("; ".join(told[:3])), 300)


def _origin(url: str) -> tuple[str, str, Optional[int]]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc
