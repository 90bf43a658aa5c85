# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP for the engine by ansible.module_utils.urls, which is imported when something is fetched: it takes 0.1 s."""

from __future__ import annotations

import os
import socket
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._errors import NetworkError, OptionError
from .._image.registry.transport import Body, Response, Tls, Transport, content_length

if TYPE_CHECKING:
    import ssl

_AGENT = "vessel.host"


class Urls(Transport):
    """Proxies are the environment's; ~/.netrc and cookies count for nothing."""

    def __init__(self) -> None:
        self._contexts: dict[Tls, ssl.SSLContext] = {}

    def request(
        self, method: str, url: str, headers: Mapping[str, str], body: Body = None, *, timeout: float, tls: Tls
    ) -> Response:
        from http.client import HTTPException
        from urllib.error import HTTPError

        from ansible.module_utils.urls import Request

        host = urllib.parse.urlsplit(url).netloc
        opener = Request(use_netrc=False, follow_redirects="none", decompress=False, http_agent=_AGENT)
        context = self._context(tls)
        try:
            answer = opener.open(method, url, data=body, headers=dict(headers), timeout=timeout, context=context)
        except HTTPError as error:
            answer = error
        except (OSError, HTTPException, ValueError) as error:
            raise network_error(host, error, timeout) from None
        return _Answer(host, answer, timeout, empty=method == "HEAD")

    def _context(self, tls: Tls) -> ssl.SSLContext:
        if tls not in self._contexts:
            self._contexts[tls] = _context(tls)
        return self._contexts[tls]


class _Answer:
    def __init__(self, host: str, answer: Any, timeout: float, *, empty: bool) -> None:
        self._host = host
        self._answer = answer
        self._timeout = timeout
        self.status = int(answer.code)
        self.headers: Mapping[str, str] = _headers(answer.headers)
        known = "transfer-encoding" not in self.headers and not empty
        self._length = content_length(self.headers) if known else -1
        self._got = 0

    def read(self, size: int, /) -> bytes:
        """As soon as some are there: what came before a connection broke is not lost."""
        from http.client import HTTPException

        # The end is where the length says; on a connection that the other side keeps, read1() may wait for more.
        if self._got == self._length:
            return b""
        try:
            data: bytes = self._answer.read1(size)
        except (OSError, HTTPException, ValueError) as error:
            raise network_error(self._host, error, self._timeout) from None
        self._got += len(data)
        if not data and self._got < self._length:
            reason = f"closed the connection after {self._got} of {self._length} bytes"
            raise NetworkError(self._host, reason, temporary=True)
        return data

    def close(self) -> None:
        self._answer.close()


def _headers(message: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in message.items():
        name = key.lower()
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _context(tls: Tls) -> ssl.SSLContext:
    """The system's authorities, and the one that was given."""
    import ssl

    context = ssl.create_default_context()
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.ca_path:
        where = {"capath" if os.path.isdir(tls.ca_path) else "cafile": tls.ca_path}
        try:
            context.load_verify_locations(**where)
        except OSError as error:
            raise _unusable("ca_path", tls.ca_path, error) from None
    if tls.client_cert:
        try:
            # A key with a passphrase would ask for it on a terminal.
            context.load_cert_chain(tls.client_cert, tls.client_key or None, lambda: "")
        except OSError as error:
            raise _unusable("client_cert", tls.client_cert, error) from None
    return context


def _unusable(option: str, path: str, error: OSError) -> OptionError:
    import ssl

    if isinstance(error, ssl.SSLError):
        return OptionError(option, path, f"can't be used: {error.reason or error}; PEM without a passphrase is needed")
    return OptionError(option, path, f"can't be read: {error.strerror or error}")


def network_error(host: str, error: Exception, timeout: float) -> NetworkError:
    """What urllib, http.client, ssl and socket say, in words for who knows none of them."""
    import http.client
    import ssl

    reason = getattr(error, "reason", None)
    if isinstance(reason, Exception):
        error = reason  # urllib.error.URLError is a wrapper
    if isinstance(error, socket.timeout):  # TimeoutError from 3.10 on
        return NetworkError(host, f"no answer within {timeout:g} s", temporary=True, timed_out=True)
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "name its authority with ca_path"
        return NetworkError(host, f"its certificate is refused: {error.verify_message}", hint=hint)
    if isinstance(error, ssl.SSLError):
        return _tls_error(host, str(error.reason or error))
    if isinstance(error, socket.gaierror):
        return NetworkError(host, error.strerror or "unknown host", temporary=error.errno == socket.EAI_AGAIN)
    if isinstance(error, (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected)):
        return NetworkError(host, "closed the connection", temporary=True)
    if isinstance(error, http.client.IncompleteRead):
        return NetworkError(host, "closed the connection in the middle", temporary=True)
    if isinstance(error, http.client.HTTPException):
        return NetworkError(host, f"what it speaks is no HTTP ({type(error).__name__})")
    return NetworkError(host, getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _tls_error(host: str, reason: str) -> NetworkError:
    words = reason.lower().replace("_", " ")
    if "alert" in words:
        hint = "it may want a certificate of ours; give client_cert" if "certificate" in words else ""
        return NetworkError(host, f"its TLS refuses ours: {words}", hint=hint)
    return NetworkError(host, f"it speaks no TLS ({words})", not_tls=True)
