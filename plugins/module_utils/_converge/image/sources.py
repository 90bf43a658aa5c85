# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image, or the lowest layer of one, is made from: one class a source.

Each tells the digest of all that goes into it, so that nothing is made twice, and can make its image.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Optional

from ..._errors import NotFoundError, OptionError
from ..._image import archive, directory, layer, rootfs, template
from ..._image.progress import Progress
from ..._image.reference import parse
from ..._image.store import NOTHING, Image, Store
from ..._options.image import parse_template_options
from ..._paths import Paths
from .. import users
from ..files import File, OnTarget, file_of
from .registries import Remote

if TYPE_CHECKING:
    from .building import Containerfile as Found

Desired = Mapping[str, Any]
_NO_FILE = OnTarget("")
_NOWHERE = Remote("")


@dataclass(frozen=True)
class Source:
    """``origin`` is what the source's own option says."""

    origin: str
    option: ClassVar[str]
    verb: ClassVar[str]
    # Is what it makes an image with a configuration of its own, and not a layer alone?
    whole: ClassVar[bool] = True

    @classmethod
    def of(cls, paths: Paths, desired: Desired) -> Source:
        """As declared. Raises OptionError where that can't be, whatever is in the store."""
        return cls(desired[cls.option])

    def describe(self) -> str:
        return f"{self.verb} {self.origin}"

    def images(self) -> Iterator[tuple[str, str]]:
        """(name, platform or nothing) of each image that it takes from the store."""
        return iter(())

    def key(self, store: Store) -> str:
        """The digest of all that it makes its image from; OptionError where that is not there."""
        raise NotImplementedError

    def cached(self, store: Store) -> Optional[Image]:
        """What make() would give, when the store has it."""
        return None

    def lacks(self) -> str:
        """The file of the controller's that must be sent before make() can make what is not cached."""
        return ""

    def make(self, store: Store, name: str, key: str, *, force: bool, progress: Progress) -> Image:
        """The image; a source that is whole gives it the name, and says by the key what it was made from.

        Without a key it is only what others are built on.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Unpacked(Source):
    """A source that is somebody else's tar."""

    limit: int = 0
    devices: str = layer.REFUSE

    def how(self, store: Store) -> dict[str, Any]:
        return {"limit": self.limit, "devices": self.devices, "below": users.layers(store.paths)}


@dataclass(frozen=True)
class Filed(Unpacked):
    """One that is a file, on the target or on the controller."""

    option = "path"
    file: File = _NO_FILE

    def lacks(self) -> str:
        return self.file.lacks()


@dataclass(frozen=True)
class Archive(Filed):
    verb = "load archive"
    archive_name: str = ""

    @classmethod
    def of(cls, paths: Paths, desired: Desired) -> Archive:
        file = file_of(desired)
        return cls(file.name, *_unpacking(desired), file, desired.get("archive_name", ""))

    def key(self, store: Store) -> str:
        return hashlib.sha256(f"{self.file.key(store)} {self.archive_name} {self.devices}".encode()).hexdigest()

    def make(self, store: Store, name: str, key: str, *, force: bool, progress: Progress) -> Image:
        with self.file.opened() as path:
            how = {**self.how(store), "key": key, "progress": progress}
            image = archive.load(store, path, name, self.archive_name, **how)
        self.file.remember(store)
        return image


@dataclass(frozen=True)
class Layout(Unpacked):
    """A directory with an OCI image layout, on the target."""

    option, verb = "path", "load layout"
    name: str = ""
    archive_name: str = ""

    @classmethod
    def of(cls, paths: Paths, desired: Desired) -> Layout:
        return cls(desired["path"], *_unpacking(desired), desired["name"], desired.get("archive_name", ""))

    def key(self, store: Store) -> str:
        if not os.path.isdir(self.origin):
            raise OptionError("path", self.origin, "is no directory on the target")
        return f"{directory.key(self.origin, self.archive_name, self.name)} {self.devices}"

    def make(self, store: Store, name: str, key: str, *, force: bool, progress: Progress) -> Image:
        how = {**self.how(store), "key": key, "progress": progress}
        return archive.load(store, self.origin, name, self.archive_name, **how)


@dataclass(frozen=True)
class Rootfs(Filed):
    verb, whole = "import", False

    @classmethod
    def of(cls, paths: Paths, desired: Desired) -> Rootfs:
        file = file_of(desired)
        return cls(file.name, *_unpacking(desired), file)

    def key(self, store: Store) -> str:
        return self.file.key(store)

    def cached(self, store: Store) -> Optional[Image]:
        return _one_layer(self.describe(), store.layer_for(self.key(store)))

    def make(self, store: Store, name: str, key: str, *, force: bool, progress: Progress) -> Image:
        made = self.key(store)
        diff_id = "" if force else store.layer_for(made)
        if not diff_id:
            with self.file.opened() as path:
                diff_id = rootfs.load(store, path, limit=self.limit, progress=progress)
            store.set_key(made, diff_id)
        self.file.remember(store)
        return Image(self.describe(), "", (diff_id,))


@dataclass(frozen=True)
class Template(Source):
    option, verb, whole = "template", "make template", False
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, paths: Paths, desired: Desired) -> Template:
        origin = desired["template"]
        template.check(origin, "template")
        return cls(origin, parse_template_options(origin, desired.get("template_options") or {}))

    def key(self, store: Store) -> str:
        return template.key(self.origin, self.options)

    def cached(self, store: Store) -> Optional[Image]:
        return _one_layer(self.describe(), store.layer_for(self.key(store)))

    def make(self, store: Store, name: str, key: str, *, force: bool, progress: Progress) -> Image:
        diff_id = "" if force else store.layer_for(self.key(store))
        diff_id = diff_id or template.build(store, self.origin, self.options, name)
        return Image(self.describe(), "", (diff_id,))


@dataclass(frozen=True)
class From(Source):
    """Another image of this host."""

    option, verb = "from", "build from"

    def images(self) -> Iterator[tuple[str, str]]:
        yield self.origin, ""

    def key(self, store: Store) -> str:
        # Not its name, which may move on, and not its layers: its configuration goes in too.
        return self.cached(store).id

    def cached(self, store: Store) -> Image:
        base = store.get(self.origin)
        if base is None:
            hint = "declare it with vessel.host.image first"
            raise OptionError("from", self.origin, "is no such image on this host", hint=hint)
        return base

    def make(self, store: Store, name: str, key: str, *, force: bool, progress: Progress) -> Image:
        base = self.cached(store)
        return store.tag(base, name, key) if key else base


@dataclass(frozen=True)
class Containerfile(Source):
    """A text whose stages name their bases themselves."""

    option, verb, whole = "", "build from", False
    found: Found

    @classmethod
    def of(cls, paths: Paths, desired: Desired) -> Containerfile:
        from . import building

        found = building.Containerfile.of(desired)
        return cls(found.file, found)

    def images(self) -> Iterator[tuple[str, str]]:
        for base in self.found.bases():
            yield str(parse(base.name, base.instruction.verb)), base.platform

    def key(self, store: Store) -> str:
        """The stages say all. Of a context that is not here its digest does, with all that the text names."""
        sent, found = self.found.sent, self.found
        if sent is None:
            return ""
        bases = [image.id if (image := store.get(name)) else "" for name, dummy in self.images()]
        what = [sent.known(), found.text, found.build_args, found.target, bases]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()

    def lacks(self) -> str:
        sent = self.found.sent
        return sent.name if sent is not None and not sent.path else ""

    def unpacked(self, directory: str) -> Containerfile:
        """With the context that was sent, unpacked there."""
        sent = self.found.sent
        if sent is None or not sent.path:
            problem = "was not sent, for what was made of it was there, and has gone meanwhile; run the task again"
            raise OptionError("src", sent.name if sent else None, problem)
        from ..._image.build.unpack import unpack

        with open(sent.path, "rb") as file:
            unpack(file.fileno(), directory, sent.name)
        return replace(self, found=replace(self.found, context=directory))

    def cached(self, store: Store) -> Image:
        return NOTHING

    def make(self, store: Store, name: str, key: str, *, force: bool, progress: Progress) -> Image:
        return NOTHING


@dataclass(frozen=True)
class Container(Source):
    """What a container has written, as a layer over its image."""

    option, verb = "container", "commit container"
    base: str  # the id of its image
    upper: str

    @classmethod
    def of(cls, paths: Paths, desired: Desired) -> Container:
        from ..container import prepare

        name = desired["container"]
        spec = prepare.look(paths, name).spec
        if spec is None:
            raise OptionError("container", name, "is no container of this host")
        return cls(name, spec["image_id"], f"{paths.home(name)}/upper")

    def key(self, store: Store) -> str:
        return hashlib.sha256(f"{self.base} {rootfs.directory_key(self.upper)}".encode()).hexdigest()

    def make(self, store: Store, name: str, key: str, *, force: bool, progress: Progress) -> Image:
        from ..._image.commit import commit

        base = store.get(self.base)
        if base is None:
            raise OptionError("container", self.origin, "is of an image whose configuration this host has no more")
        return commit(store, base, self.upper, name, key, created_by=self.describe())


@dataclass(frozen=True)
class Registry(Unpacked):
    """The image that a reference leads to. It is what has the name: no key says more of it."""

    option, verb = "name", "pull"
    policy: str = "missing"
    platform: str = ""
    remote: Remote = _NOWHERE
    public_key: str = ""

    @classmethod
    def of(cls, paths: Paths, desired: Desired) -> Registry:
        remote = Remote(desired["name"], desired)
        policy, platform = desired.get("pull") or "missing", desired.get("platform") or ""
        return cls(str(remote), *_unpacking(desired), policy, platform, remote, desired.get("public_key") or "")

    def key(self, store: Store) -> str:
        return ""

    def wanted(self, store: Store, present: Optional[Image], *, force: bool) -> bool:
        """Is it to be fetched? Raises NotFoundError where it is not there and may not be."""
        if self.policy == "never":
            if present is None:
                raise NotFoundError("image", self.remote.name, hint="pull: never forbids to fetch it")
            return False
        if present is None or force or not self._fits(store, present) or self._lacks_devices(store, present):
            return True
        return self.policy == "always" and not self.remote.leads_to(store, present)

    def _lacks_devices(self, store: Store, present: Image) -> bool:
        return self.devices == layer.MAKE and any(map(store.skipped, present.layers))

    def _fits(self, store: Store, present: Image) -> bool:
        if not self.platform:
            return True
        words = store.raw(present)
        have = [words.get("os"), words.get("architecture"), words.get("variant")]
        wanted = self.platform.split("/")
        return have[: len(wanted)] == wanted

    def make(self, store: Store, name: str, key: str, *, force: bool, progress: Progress) -> Image:
        how = {**self.how(store), "platform": self.platform, "public_key": self.public_key}
        return self.remote.pull(store, name, **how, key=key, progress=progress)


def _unpacking(desired: Desired) -> tuple[int, str]:
    return desired.get("max_size") or 0, desired.get("device_nodes") or layer.REFUSE


def _one_layer(name: str, diff_id: str) -> Optional[Image]:
    return Image(name, "", (diff_id,)) if diff_id else None


SOURCES: dict[str, type[Source]] = {
    "archive": Archive,
    "container": Container,
    "containerfile": Containerfile,
    "from": From,
    "layout": Layout,
    "registry": Registry,
    "rootfs": Rootfs,
    "template": Template,
}
