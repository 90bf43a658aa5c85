# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a build, as data. A module's ``layers`` and a Containerfile both become these, so that there is one
builder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from ..store import Image
from .tree import Tree

SHELL = ("/bin/sh", "-c")
NETWORKS = ("host", "none")
SHARING = ("shared", "private", "locked")
# Whence something is copied: a directory of the target, an image, or an earlier stage by its number.
Origin = Union[Tree, Image, int]


@dataclass(frozen=True)
class Mount:
    """What a command sees at ``target`` for as long as it runs, and no layer has afterwards.

    ``kind`` is secret, cache, tmpfs or bind. ``env`` is a variable that holds the secret instead of a file, or too.
    ``size`` (tmpfs) is in bytes, 0 for the kernel's half of the memory. ``origin`` (bind, cache) with the pattern
    ``source`` is what is there at the beginning.
    """

    kind: str
    target: str = ""
    id: str = ""
    source: str = ""
    origin: Optional[Origin] = None
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    size: int = 0
    sharing: str = "shared"
    env: str = ""
    required: bool = False
    readonly: bool = False


@dataclass(frozen=True)
class Step:
    """``where`` is where it is written, for errors; ``shown`` what a plan says of it."""

    where: str
    shown: str


@dataclass(frozen=True)
class Config(Step):
    """No layer: ``options`` of the configuration as config.merge() takes them; a relative working_dir is below the
    one before. ``created_by`` is the history's line, as docker writes it."""

    options: Mapping[str, Any] = field(default_factory=dict)
    created_by: str = ""


@dataclass(frozen=True)
class Workdir(Step):
    """Where commands and containers start, made where it is missing."""

    path: str = "/"


@dataclass(frozen=True)
class Run(Step):
    """A string is for the shell, a sequence is a program and its arguments.

    ``args`` are variables for this command alone, which the environment of the image comes before; ``hidden`` too,
    but what they hold makes no other layer (proxies). ``scripts`` are (path, content) of executables.
    """

    command: Union[str, Sequence[str]] = ""
    network: str = "host"
    mounts: tuple[Mount, ...] = ()
    args: Mapping[str, str] = field(default_factory=dict)
    hidden: Mapping[str, str] = field(default_factory=dict)
    scripts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Copy(Step):
    """``sources`` are patterns in ``origin``, ``inline`` (name in a directory, content) of files that are written
    here, ``urls`` (address, sha256 digest).

    ``user`` and ``group`` are names or numbers, None for what ``keep`` says: the owner there, or root. ``mode`` and
    ``directory_mode`` are None for what the source has. ``unpack`` makes of a local tar what is in it.
    """

    dest: str = "/"
    origin: Optional[Origin] = None
    sources: tuple[str, ...] = ()
    inline: tuple[tuple[str, str], ...] = ()
    urls: tuple[tuple[str, str], ...] = ()
    excluded: tuple[str, ...] = ()
    user: Optional[str] = None
    group: Optional[str] = None
    mode: Optional[int] = None
    directory_mode: Optional[int] = None
    unpack: bool = False
    keep: bool = False

    @property
    def verb(self) -> str:
        return "ADD" if self.unpack else "COPY"


@dataclass(frozen=True)
class Stage:
    """``base`` is an image, or an earlier stage by its number in the build's list."""

    base: Union[Image, int]
    steps: tuple[Step, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class RunRequest:
    """A command to be run over the layers (the base first), its writes going to ``upper``.

    ``place`` is where it is written: a line, or a step's number. ``env`` is all of its environment that the build
    knows; ``user`` and ``cwd`` are as in an image's configuration. Paths inside lead through no symlink: ``binds`` are
    (path inside, path on the host, readonly), ``tmpfs`` (path inside, mount), ``secrets`` (path inside, mount,
    content), ``scripts`` (path inside, content) of executables.
    """

    number: int
    place: str
    command: list[str]
    shown: str
    env: dict[str, str]
    layers: list[str]
    upper: str
    work: str
    user: str = ""
    cwd: str = "/"
    network: str = "host"
    binds: tuple[tuple[str, str, bool], ...] = ()
    tmpfs: tuple[tuple[str, Mount], ...] = ()
    secrets: tuple[tuple[str, Mount, bytes], ...] = ()
    scripts: tuple[tuple[str, str], ...] = ()
