# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of HTTP. It is passed in, for only ``_ansible`` may import Ansible's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Optional, Protocol, Union

from ..tarstream import Readable

_DIGITS_MAX = 19  # of what fits into 64 bits

Body = Optional[Union[bytes, Readable]]


class Tls(NamedTuple):
    """Paths of PEM files, empty where there is none; ``client_cert`` may hold the key as well."""

    verify: bool = True
    ca_path: str = ""
    client_cert: str = ""
    client_key: str = ""


def content_length(headers: Mapping[str, str]) -> int:
    """Bytes; -1 where the header says nothing, or nothing that makes sense."""
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS_MAX else -1


class Response(Protocol):
    """An answer with any status. The names of ``headers`` are in lower case; one that came twice has both values."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def read(self, size: int, /) -> bytes:
        """At most so many bytes, none only at the end; NetworkError when that came before its time."""

    def close(self) -> None: ...


class Transport(Protocol):
    """Redirects are answers: who follows them decides what goes along."""

    def request(
        self, method: str, url: str, headers: Mapping[str, str], body: Body = None, *, timeout: float, tls: Tls
    ) -> Response:
        """``timeout`` are seconds without a byte. Raises NetworkError, and OptionError for a file of ``tls``."""
