# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same at once in several processes."""

from __future__ import annotations

import os
import traceback


def parallel(function, values):
    """How the processes ended that called the function, each with one of the values."""
    children = []
    for value in values:
        child = os.fork()
        if child == 0:
            try:
                function(value)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        children.append(child)
    return [os.waitpid(child, 0)[1] for child in children]
