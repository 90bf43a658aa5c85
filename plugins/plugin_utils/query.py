# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JMESPath, where there is some: https://jmespath.org/specification.html."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.basic import missing_required_lib

try:
    import jmespath
except ImportError:
    jmespath = None


class Query:
    """Whether a mapping is meant: by the expression's truth, as JMESPath's own filters have it."""

    def __init__(self, option: str, text: str) -> None:
        """AnsibleError where ``text`` is no expression, or nothing is there that could tell; empty means all."""
        self._option, self._text = option, text
        self._expression: Any = None
        if not text:
            return
        if jmespath is None:
            raise AnsibleError(
                f"{option}: {missing_required_lib('jmespath', url='https://pypi.org/project/jmespath/')}"
            )
        try:
            self._expression = jmespath.compile(str(text))
        except jmespath.exceptions.JMESPathError as error:
            raise AnsibleError(f"{option}: {text!r} is no JMESPath expression: {error}") from error

    def means(self, data: Mapping[str, Any]) -> bool:
        """AnsibleError where the expression can't be asked of such data, as of a function with a wrong type."""
        if self._expression is None:
            return True
        try:
            found = self._expression.search(data)
        except jmespath.exceptions.JMESPathError as error:
            raise AnsibleError(f"{self._option}: {self._text!r}: {error}") from error
        # Numbers are true there, nought too.
        return bool(found) or (isinstance(found, (int, float)) and found is not False)
