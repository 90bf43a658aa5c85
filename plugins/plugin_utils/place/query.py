# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Constraints: JMESPath over what is known of a host, true or false of each."""

from __future__ import annotations

import functools
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._errors import DependencyError, OptionError

try:
    import jmespath  # type: ignore[import-untyped]
except ImportError:
    jmespath = None


@functools.cache
def _parsed(text: str) -> Any:
    return jmespath.compile(text)


def compiled(text: str, option: str) -> Any:
    if jmespath is None:
        raise DependencyError(
            f"{option}: the Python library jmespath is not installed on the controller",
            hint="install it beside ansible-core: pip install jmespath",
        )
    try:
        return _parsed(text)
    except jmespath.exceptions.JMESPathError as error:
        why = " ".join(str(error).split("\n", maxsplit=1)[0].split())
        raise OptionError(option, text, f"is not JMESPath: {why}", hint="strings are in single quotes") from None


def holds(text: str, document: dict[str, Any], option: str) -> bool:
    """As JMESPath has it: false, null and what is empty are false, all else is true (0 too)."""
    try:
        found = compiled(text, option).search(document)
    except jmespath.exceptions.JMESPathError as error:
        where = f"can't be asked of host {document['name']}: {str(error).splitlines()[0]}"
        raise OptionError(option, text, where) from None
    return not (found is None or found is False or found in ("", [], {}))
