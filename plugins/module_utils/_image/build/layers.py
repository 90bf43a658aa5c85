# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module's ``layers`` as steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..._errors import OptionError
from ..store import Image
from .ignore import literal
from .steps import Config, Copy, Mount, Origin, Run, Step, Workdir
from .tree import Tree

# Directive: option of the configuration.
CONFIG = {"env": "env", "user": "user", "expose": "exposed_ports", "label": "labels", "volume": "volumes",
          "entrypoint": "entrypoint", "cmd": "cmd", "healthcheck": "healthcheck", "shell": "shell",
          "stop_signal": "stop_signal"}  # fmt: skip
DIRECTIVES = ("run", "copy", "add", "workdir", *CONFIG)
Layer = Mapping[str, Any]


def compiled(
    layers: Sequence[Layer], target: Tree, image: Callable[[str, str], Image], path: str = "layers"
) -> tuple[Step, ...]:
    """``target`` is the whole of the target's file system; ``image`` finds one by its name, and raises OptionError
    with the option (its second argument) when there is none. The layers are as the options' parsers give them."""
    return tuple(_step(layer, f"{path}[{index}]", target, image) for index, layer in enumerate(layers))


def describe(layer: Layer) -> str:
    """A line of a plan."""
    verb = next(verb for verb in DIRECTIVES if layer.get(verb) is not None)
    value = layer[verb]
    if verb in ("copy", "add"):
        sources = value.get("src") or ["content"]
        return f"{verb} {' '.join([sources] if isinstance(sources, str) else sources)} to {value['dest']}"
    if verb in ("env", "label"):
        return f"{verb} {' '.join(sorted(value))}"
    if isinstance(value, Mapping):
        return verb
    return f"{verb} {value if isinstance(value, str) else ' '.join(value)}"


def _step(layer: Layer, where: str, target: Tree, image: Callable[[str, str], Image]) -> Step:
    shown = describe(layer)
    if layer.get("run") is not None:
        return Run(where, shown, layer["run"], layer.get("network") or "host", _mounts(layer, where, target, image))
    if layer.get("workdir") is not None:
        return Workdir(where, shown, layer["workdir"])
    for verb in ("copy", "add"):
        if layer.get(verb) is not None:
            return _copy(layer[verb], where, shown, target, image, unpack=verb == "add")
    verb = next(verb for verb in CONFIG if layer.get(verb) is not None)
    return Config(where, shown, {CONFIG[verb]: layer[verb]}, created_by(verb.upper(), layer[verb]))


def created_by(verb: str, value: Any) -> str:
    """As docker's history has it."""
    if isinstance(value, Mapping):
        if verb == "HEALTHCHECK":
            return f"HEALTHCHECK {_words(value.get('test') or ['NONE'])}"
        return f"{verb} {' '.join(f'{name}={text}' for name, text in value.items())}"
    return f"{verb} {value if isinstance(value, str) else _words(value)}"


def _words(words: Sequence[str]) -> str:
    import json

    return json.dumps(list(words))


def _mounts(layer: Layer, where: str, target: Tree, image: Callable[[str, str], Image]) -> tuple[Mount, ...]:
    secrets = [Mount("secret", f"/run/secrets/{name}", name, mode=0o400, required=True)
               for name in layer.get("secrets") or ()]  # fmt: skip
    mounts = []
    for index, fields in enumerate(layer.get("mounts") or ()):
        given = dict(fields)
        origin: Any = given.pop("from", None)
        if origin is not None:
            origin = image(origin, f"{where}.mounts[{index}]")
        elif given["kind"] == "bind":
            origin = target
        mounts.append(Mount(origin=origin, **given))
    return (*secrets, *mounts)


def _copy(
    given: Layer, where: str, shown: str, target: Tree, image: Callable[[str, str], Image], *, unpack: bool
) -> Copy:
    option = f"{where}.{'add' if unpack else 'copy'}"
    sources = given.get("src") or ()
    sources = [sources] if isinstance(sources, str) else list(sources)
    origin: Origin = image(given["from"], f"{option}.from") if given.get("from") else target
    urls = [source for source in sources if is_url(source)]
    if len(sources) > 1 and not given["dest"].endswith("/"):
        raise OptionError(f"{option}.dest", given["dest"], "takes several sources, so that it has to end with /")
    user, group, mode = given.get("owner"), given.get("group"), given.get("mode")
    if user is not None or group is not None:
        user, group = user or "0", group or "0"
    return Copy(
        where,
        shown,
        given["dest"],
        origin,
        tuple(literal(source) for source in sources if source not in urls),
        (("", given["content"]),) if given.get("content") is not None else (),
        tuple((url, given.get("checksum") or "") for url in urls),
        user=user,
        group=group,
        mode=mode,
        directory_mode=None if mode is None else searchable(mode),
        unpack=unpack,
        keep=origin is not target,
    )


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def searchable(mode: int) -> int:
    """A directory's mode for its files' mode: who may read may enter."""
    return mode | (mode & 0o444) >> 2
