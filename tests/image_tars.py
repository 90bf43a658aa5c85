# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tars as tests want them, honest and not, and what lies in a directory."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from typing import Any


def entry(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.mtime = kind, len(data), 1700000000
    member.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(member, field, value)
    return member, data


def folder(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.DIRTYPE, **fields)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, kind, linkname=target, **fields)


def hard(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return link(name, target, tarfile.LNKTYPE)


def tar(*entries: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind, encoding="utf-8", errors="surrogateescape") as archive:
        for member, data in entries:
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def extract(archive: tarfile.TarFile, path: Any) -> None:
    """All of it, as it is; Python before 3.11.4 has no filters, and later ones want one."""
    archive.extraction_filter = lambda member, dummy: member
    archive.extractall(path)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def listing(top: str, *, times: bool = True) -> dict[str, tuple[Any, ...]]:
    """All that a directory shows of its entries: kind and mode, owner, content or target, xattrs, links, device."""
    found = {}
    names: dict[int, str] = {}
    for directory, folders, files in os.walk(top):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = os.path.join(directory, name)
            info = os.lstat(path)
            first = names.setdefault(info.st_ino, path) if not stat.S_ISDIR(info.st_mode) else path
            found[os.path.relpath(path, top)] = (
                stat.filemode(info.st_mode),
                info.st_uid,
                info.st_gid,
                _content(path, info),
                {key: os.getxattr(path, key, follow_symlinks=False) for key in _xattrs(path)},
                os.path.relpath(first, top) if first != path else "",
                info.st_rdev,
                info.st_mtime_ns if times else 0,
            )
    return found


def _xattrs(path: str) -> list[str]:
    return sorted(key for key in os.listxattr(path, follow_symlinks=False) if key != "security.selinux")


def _content(path: str, info: os.stat_result) -> Any:
    if stat.S_ISREG(info.st_mode):
        with open(path, "rb") as file:
            return info.st_size, hashlib.sha256(file.read()).hexdigest()
    return os.readlink(path) if stat.S_ISLNK(info.st_mode) else None


def docker_archive(layers: list[bytes], tags: list[str], *, config: dict[str, Any] | None = None) -> bytes:
    """As docker save writes it."""
    body = json.dumps(
        {
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
            **(config or {}),
        }
    ).encode()
    name = f"{hashlib.sha256(body).hexdigest()}.json"
    paths = [f"{index}/layer.tar" for index in range(len(layers))]
    manifest = json.dumps([{"Config": name, "RepoTags": tags, "Layers": paths}]).encode()
    return tar(
        *(entry(path, data=data) for path, data in zip(paths, layers)),
        entry(name, data=body),
        entry("manifest.json", data=manifest),
    )


class Layout:
    """An OCI image layout that is put together by hand, so that any part of it can be wrong."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def blob(self, data: Any, media_type: str, **more: Any) -> dict[str, Any]:
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        name = digest(data)
        self.blobs[name] = data
        return {"mediaType": media_type, "digest": name, "size": len(data), **more}

    def image(self, layers: list[tuple[bytes, bytes]], *, config: dict[str, Any] | None = None) -> dict[str, Any]:
        """A manifest's descriptor; ``layers`` are (as stored, as unpacked)."""
        diff_ids = [digest(plain) for _stored, plain in layers]
        value = {"os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}, **(config or {})}
        manifest = {
            "schemaVersion": 2,
            "config": self.blob(value, "application/vnd.oci.image.config.v1+json"),
            "layers": [self.blob(stored, "application/vnd.oci.image.layer.v1.tar") for stored, _plain in layers],
        }
        return self.blob(manifest, "application/vnd.oci.image.manifest.v1+json")

    def index(self, manifests: list[dict[str, Any]]) -> dict[str, Any]:
        return self.blob({"schemaVersion": 2, "manifests": manifests}, "application/vnd.oci.image.index.v1+json")

    def tar(self, *manifests: dict[str, Any]) -> bytes:
        index = json.dumps({"schemaVersion": 2, "manifests": list(manifests)}).encode()
        blobs = [entry(f"blobs/{name.replace(':', '/')}", data=data) for name, data in self.blobs.items()]
        return tar(
            entry("oci-layout", data=b'{"imageLayoutVersion": "1.0.0"}'), entry("index.json", data=index), *blobs
        )


def named(descriptor: dict[str, Any], name: str) -> dict[str, Any]:
    return {**descriptor, "annotations": {"org.opencontainers.image.ref.name": name}}
