# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle on disk: the directory that holds config.json (runtime-spec, bundle.md)."""

from __future__ import annotations

import json
import os
from typing import Any

from .._errors import SpecError
from . import validate

Config = dict[str, Any]


def load(bundle: str) -> Config:
    """The bundle's config.json, parsed and checked."""
    path = os.path.join(bundle, "config.json")
    try:
        with open(path, "rb", buffering=0) as file:
            config = json.loads(file.readall())
    except FileNotFoundError:
        raise SpecError("file", f"there is none in {bundle}") from None
    except ValueError as error:
        raise SpecError("file", f"{path} is not JSON: {error}") from None
    validate.check(config)
    return dict(config)


def rootfs(config: Config, bundle: str) -> str:
    """The directory that becomes /."""
    path = os.path.join(bundle, config["root"]["path"])
    if not os.path.isdir(path):
        raise SpecError("root.path", f"{path} is not a directory")
    return os.path.realpath(path)
