# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests and indexes (image-spec, manifest.md and image-index.md; docker's schema 2): nobody vouches for them.

``where`` is what they came from, and what every error begins with.
"""

from __future__ import annotations

import json
import platform as machine
from typing import Any, NamedTuple, Optional

from .._errors import OptionError, StoreError
from .config import ARCHITECTURES, architecture, malformed
from .record import diff_ids, hexes

JSON_MAX = 4 << 20  # of a manifest or a configuration, as registries have it
DEPTH_MAX = 4  # of indexes in indexes
_DIGITS_MAX = 20  # of a number: those of 64 bits
_OCI, _DOCKER = "application/vnd.oci.image", "application/vnd.docker"
INDEX, MANIFEST = f"{_OCI}.index.v1+json", f"{_OCI}.manifest.v1+json"
DOCKER_LIST = f"{_DOCKER}.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = f"{_DOCKER}.distribution.manifest.v2+json"
TYPES = (MANIFEST, DOCKER_MANIFEST, INDEX, DOCKER_LIST)
CONFIG = f"{_OCI}.config.v1+json"
CONFIG_TYPES = (CONFIG, f"{_DOCKER}.container.image.v1+json")
LAYER, LAYER_GZIP = f"{_OCI}.layer.v1.tar", f"{_OCI}.layer.v1.tar+gzip"
_DIFF = f"{_DOCKER}.image.rootfs.diff.tar"
LAYER_TYPES = (
    *(f"{_OCI}.layer.v1.tar{packed}" for packed in ("", "+gzip", "+zstd")),
    *(f"{_DIFF}{packed}" for packed in ("", ".gzip", ".zstd")),
)
# The oldest and the newest variant of each architecture; without a word it is the default.
_VARIANTS = {"arm": (5, 8, 7), "arm64": (8, 9, 8), "amd64": (1, 4, 1)}
_UNSAID = (("amd64", "v1"), ("arm64", "v8"))
_ALIASES = {"armhf": ("arm", "v7"), "armel": ("arm", "v6"), "i386": ("386", "")}


class Descriptor(NamedTuple):
    """What a blob must be; ``digest`` is sha256:HEX."""

    media_type: str
    digest: str
    size: int


class Manifest(NamedTuple):
    """An image's parts, the base's layer first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


class Platform(NamedTuple):
    """``variant`` is vN, or empty where the architecture has none."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        """As docker shows it."""
        shown = self[:2] if (self.architecture, self.variant) in _UNSAID else self
        return "/".join(part for part in shown if part)


# platforms
def host_platform() -> Platform:
    """What this machine runs; a 32-bit ARM one also runs what is for older ones."""
    name = architecture()
    variant = machine.machine()[3:5] if name == "arm" else ""  # armv6l, armv7l
    return _normal("linux", name, variant)


def parse_platform(text: str, option: str) -> Platform:
    """OS/ARCHITECTURE[/VARIANT], as docker has it; raises OptionError."""
    parts = text.split("/")
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise OptionError(option, text, "is not OS/ARCHITECTURE[/VARIANT]", hint=f"this host is {host_platform()}")
    if parts[0] != "linux":
        raise OptionError(option, text, "is not for linux, and nothing else runs here")
    return _normal(*parts)


def _normal(system: str, name: str, variant: str = "") -> Platform:
    """One spelling for each platform: docker leaves out amd64's v1, arm64's v8, and takes arm for v7."""
    name = ARCHITECTURES.get(name, name)
    if name in _ALIASES:
        name, variant = _ALIASES[name]
    if not variant and name in _VARIANTS:
        variant = f"v{_VARIANTS[name][2]}"
    return Platform(system, name, variant)


def _fitting(wanted: Platform) -> list[Platform]:
    """What runs there, the best first: a variant runs what was made for those before it."""
    oldest = _VARIANTS.get(wanted.architecture, (0, 0, 0))[0]
    number = wanted.variant[1:]
    if not oldest or not number.isdecimal():
        return [wanted]
    return [wanted._replace(variant=f"v{one}") for one in range(int(number), oldest - 1, -1)]


def choose(entries: list[dict[str, Any]], wanted: Platform, where: str) -> dict[str, Any]:
    """The index's entry for the platform, or for the nearest that runs there."""
    offered: dict[Platform, dict[str, Any]] = {}
    for entry in entries:
        found = entry.get("platform")
        if isinstance(found, dict) and not is_attestation(entry):
            texts = [found.get(key) or "" for key in ("os", "architecture", "variant")]
            if all(isinstance(text, str) for text in texts):
                offered.setdefault(_normal(*texts), entry)
    for candidate in _fitting(wanted):
        if candidate in offered:
            return offered[candidate]
    names = ", ".join(sorted(map(str, offered)))
    raise StoreError(f"{where} has no image for {wanted}", hint=f"it has {names or 'none'}")


def is_attestation(entry: dict[str, Any]) -> bool:
    """What a builder tells of an image, beside it."""
    platform = entry.get("platform")
    return isinstance(platform, dict) and platform.get("os") == "unknown"


# shapes
def parse(data: bytes, where: str) -> dict[str, Any]:
    """A manifest or an index; one of the two, for readers must not differ about which."""
    value = json_of(data, where)
    if not isinstance(value, dict):
        raise StoreError(f"{where} is no manifest")
    if value.get("schemaVersion") == 1 or "fsLayers" in value:
        hint = "push it again with a tool of this decade"
        raise StoreError(f"{where} is a manifest of schema 1, which is out of use", hint=hint)
    if "manifests" in value and ("layers" in value or "config" in value):
        raise StoreError(f"{where} is both a manifest and an index")
    return value


def is_index(value: dict[str, Any]) -> bool:
    return "manifests" in value


def image(value: dict[str, Any], where: str) -> Manifest:
    """The manifest of an image that can be unpacked here; raises StoreError for any other."""
    config = value.get("config")
    kind = config.get("mediaType") if isinstance(config, dict) else None
    if not isinstance(config, dict) or kind not in CONFIG_TYPES or value.get("artifactType"):
        raise StoreError(f"{where}: what it holds is {value.get('artifactType') or kind}, and no container image")
    layers = descriptors(value, "layers", where)
    for layer in layers:
        kind = str(layer.get("mediaType"))
        if ".foreign." in kind or ".nondistributable." in kind:
            raise StoreError(f"{where}: a layer is of the kind {kind}, which is not kept with the image")
        if kind not in LAYER_TYPES:
            raise StoreError(f"{where}: a layer is of the unknown kind {layer.get('mediaType')}")
    return Manifest(descriptor(config, where), tuple(descriptor(layer, where) for layer in layers))


def descriptor(value: dict[str, Any], where: str) -> Descriptor:
    digest, size = value.get("digest"), value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise StoreError(f"{where}: the size of {digest} is {size!r}")
    hexes(digest)
    return Descriptor(str(value.get("mediaType") or ""), str(digest), size)


def descriptors(value: Any, name: str, where: str) -> list[dict[str, Any]]:
    return list_of(value.get(name) if isinstance(value, dict) else None, f"{where}: {name}")


def list_of(value: Any, where: str, kind: type = dict) -> list[Any]:
    if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
        raise StoreError(f"{where} is not the list that it must be")
    return value


def json_of(data: bytes, where: str) -> Any:
    try:
        return json.loads(data, parse_int=_integer)
    except (ValueError, RecursionError):
        raise StoreError(f"{where} is not JSON") from None


def _integer(text: str) -> int:
    """One of a million digits would take minutes, or more digits than Python shows."""
    if len(text) > _DIGITS_MAX:
        raise ValueError
    return int(text)


def checked_config(data: bytes, layers: int, where: str, wanted: Optional[Platform] = None) -> tuple[str, ...]:
    """The diff_ids, if the configuration is one that can run on the platform, and has that many layers."""
    config = json_of(data, f"{where}: the image's configuration")
    found = diff_ids(config, where)
    if len(found) != layers:
        raise StoreError(f"{where}: the manifest has {layers} layers and the configuration {len(found)}")
    platform = wanted or host_platform()
    for field, own in (("architecture", platform.architecture), ("os", platform.os)):
        if config.get(field) not in (own, None, ""):
            asked = f"{wanted} was asked for" if wanted else f"this host is {own}"
            raise StoreError(f"{where}: the image is for {config[field]}, and {asked}")
    what = malformed(config)
    if what:
        raise StoreError(f"{where}: the image's configuration is malformed: {what}")
    return found
