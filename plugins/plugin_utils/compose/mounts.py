# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service has in its file system: volumes, directories of the host, memory, secrets; and files that are read."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, Any

from ansible_collections.vessel.host.plugins.module_utils._options.container import BY_NAME
from ansible_collections.vessel.host.plugins.module_utils._options.volume import OPTIONS as VOLUME_OPTIONS

from . import places
from .errors import NOTHING
from .networks import external_name
from .project import At, Project
from .values import is_true, text, texts

if TYPE_CHECKING:
    from .services import Replica

Options = dict[str, Any]
_VOLUME = {option.name: option for option in VOLUME_OPTIONS}
_NAME_MAX = 63
_SECRETS = "/run/secrets/"
# What docker's clients on other systems need, and what is so: a volume is not filled from the image.
_EMPTY_WORDS = ("cached", "delegated", "consistent", "nocopy")


def on_controller(project: Project, path: str) -> str:
    return os.path.normpath(os.path.join(project.directory, os.path.expanduser(path)))


def read(project: Project, path: str, at: At, *, missing: bool = False) -> str | None:
    """A file's text; None for one that is missing and may be."""
    found = on_controller(project, path)
    if missing and not os.path.exists(found):
        return None
    return project.files.text(found, path, at.error(path, "").file, at.text)


# volumes


def volumes(replica: Replica, value: Any, at: At) -> Options:
    mounted: list[str] = []
    memory: list[str] = []
    for index, volume in enumerate(value):
        here = at.below(index)
        found = _long(volume, here) if isinstance(volume, dict) else _short(volume, here)
        if found["type"] == "tmpfs":
            memory.append(":".join([found["target"], *([",".join(found["words"])] if found["words"] else [])]))
            here.item(BY_NAME["tmpfs"], memory[-1])
        else:
            source = _source(replica, found, here)
            mounted.append(":".join([source, found["target"], *([",".join(found["words"])] if found["words"] else [])]))
            here.item(BY_NAME["volumes"], mounted[-1])
    return {**({"volumes": mounted} if mounted else {}), **({"tmpfs": memory} if memory else {})}


def _short(volume: str, at: At) -> dict[str, Any]:
    parts = volume.split(":")
    if len(parts) > 3 or not all(parts):
        raise at.error(volume, "is not [SOURCE:]TARGET[:MODE]")
    source, target = (parts[0], parts[1]) if len(parts) > 1 else ("", parts[0])
    words = [word for word in (parts[2].split(",") if len(parts) == 3 else []) if word not in _EMPTY_WORDS]
    return {"type": "bind" if places.is_place(source) else "volume", "source": source, "target": target, "words": words}


def _long(volume: dict[str, Any], at: At) -> dict[str, Any]:
    kind, source = volume["type"], volume.get("source") or ""
    for other in ("bind", "volume", "tmpfs"):
        if volume.get(other) and other != kind:
            raise at.below(other).error(volume[other], f"is for the type {other}, and this is {kind}")
    words = ["ro"] if is_true(volume.get("read_only")) else []
    if kind == "bind":
        bind = volume.get("bind") or {}
        if not source:
            raise at.below("source").error(NOTHING, "is missing; give the path on the host")
        words += [bind[name] for name in ("propagation", "selinux") if bind.get(name)]
    elif kind == "tmpfs":
        words += _memory(volume.get("tmpfs") or {}, at.below("tmpfs"))
    return {"type": kind, "source": source, "target": volume["target"], "words": words}


def _memory(options: dict[str, Any], at: At) -> list[str]:
    words = []
    if options.get("size") is not None:
        words.append(f"size={text(options['size'])}")
    if options.get("mode") is not None:
        words.append(f"mode={mode(options['mode'], at.below('mode'))}")
    return words


def mode(value: Any, at: At) -> str:
    """Octal digits: YAML has made a number of 0440, and a word of "0440" is one."""
    digits = f"{value:04o}" if isinstance(value, int) else str(value)
    if not re.fullmatch("0?o?[0-7]{1,4}", digits):
        raise at.error(value, "is not a mode such as 0440")
    return digits.replace("o", "")


def _source(replica: Replica, volume: dict[str, Any], at: At) -> str:
    if volume["type"] == "bind":
        return _directory(replica.project, volume["source"], at)
    if not volume["source"]:
        return at.name(_anonymous(replica, volume["target"]))
    replica.project.declared("volumes", volume["source"], at)
    return called(replica.project, volume["source"])


def _directory(project: Project, source: str, at: At) -> str:
    """A path on the target."""
    if source.startswith("/"):
        return source
    if source.startswith("~"):
        raise at.error(
            source, "is in a home, and it is not said whose and on which host", "write the path on the target"
        )
    if not project.target_directory:
        hint = "give compose_target_directory, where that is on the target, or write the path on the target"
        raise at.error(source, "is relative to the project's directory, which is on the controller", hint)
    return os.path.normpath(os.path.join(project.target_directory, source))


def called(project: Project, name: str) -> str:
    """A volume's name on the host."""
    body = project.resources("volumes").get(name) or {}
    return external_name(body, name) or body.get("name") or f"{project.name}_{name}"


def _anonymous(replica: Replica, target: str) -> str:
    """The name of a volume that has none: it stays with the container's."""
    words = re.sub("[^a-zA-Z0-9.-]+", "-", target).strip("-.")
    name = f"{replica.name}_{words}"
    if len(name) <= _NAME_MAX:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name[: _NAME_MAX - 13]}-{digest}"


def declared(project: Project, mounted: list[str]) -> dict[str, Options]:
    """The volumes of these mounts that are the stack's own."""
    named = {called(project, name): (name, body or {}) for name, body in project.resources("volumes").items()}
    result: dict[str, Options] = {}
    for source in dict.fromkeys(mount.partition(":")[0] for mount in mounted):
        name, body = named.get(source, ("", {}))
        if source.startswith("/") or external_name(body, name):
            continue
        at = project.at("volumes", name)
        labels = {"labels": texts(body["labels"])} if body.get("labels") else {}
        given = body.get("driver_opts")
        result[at.name(source)] = {**labels, **(_mounted(given, at.below("driver_opts")) if given else {})}
    return result


def _mounted(given: dict[str, Any], at: At) -> Options:
    """What docker's driver would give to mount(2)."""
    for name, value in given.items():
        if name not in ("type", "device", "o"):
            raise at.below(name).error(value, "is no option of docker's local driver; there are type, device and o")
    fstype, words = given.get("type") or "", [word for word in str(given.get("o") or "").split(",") if word]
    if not fstype:
        raise at.below("type").error(NOTHING, "is missing; give the type of the file system, or none for a directory")
    if fstype == "tmpfs":
        return _in_memory(words, at.below("o"))
    device = given.get("device")
    if not device:
        raise at.below("device").error(NOTHING, "is missing; give what is to be mounted")
    if fstype in ("nfs", "nfs4"):
        device, words = _export(str(device), words)
    found = {"driver": "mount", "fstype": fstype, "device": device, "options": words}
    for name, key in (("fstype", "type"), ("device", "device"), ("options", "o")):
        found[name] = at.below(key).checked(_VOLUME[name], found[name])
    return found


def _export(device: str, words: list[str]) -> tuple[str, list[str]]:
    """docker looks the server up by ``addr``; mount.nfs does so by the device."""
    server = next((word.partition("=")[2] for word in words if word.startswith("addr=")), "")
    if not device.startswith(":") or not server:
        return device, words
    name = f"[{server}]" if ":" in server else server
    return f"{name}{device}", [word for word in words if not word.startswith("addr=")]


def _in_memory(words: list[str], at: At) -> Options:
    found: Options = {"driver": "tmpfs"}
    names = {"size": "size", "uid": "owner", "gid": "group", "mode": "mode"}
    for word in words:
        key, dummy, value = word.partition("=")
        if key in names:
            found[names[key]] = mode(value, at) if key == "mode" else value
            at.checked(_VOLUME[names[key]], found[names[key]])
        elif word not in ("rw", "nosuid", "nodev", "defaults"):
            raise at.error(word, f"can't be had for a volume in memory; there are {', '.join(names)}")
    return found


# secrets, and what configs have in common with them


def secrets(replica: Replica, value: Any, at: At) -> Options:
    found = []
    for index, given in enumerate(value):
        here = at.below(index)
        entry = {"source": given} if isinstance(given, str) else given
        name = str(entry.get("target") or entry["source"]).removeprefix(_SECRETS)
        if "/" in name:
            raise here.below("target").error(name, f"is a path; secrets are files below {_SECRETS}")
        content = content_of(replica.project, "secrets", entry["source"], here)
        secret = {"name": name, "content": content, "mode": mode(entry.get("mode", "0444"), here.below("mode"))}
        secret.update({key: entry[key] for key in ("uid", "gid") if entry.get(key) is not None})
        here.item(BY_NAME["secrets"], secret)
        found.append(secret)
    return {"secrets": found}


def content_of(project: Project, kind: str, name: str, at: At) -> str:
    """What the secret or the config holds."""
    body = project.declared(kind, name, at)
    sources = [key for key in ("file", "content", "environment") if body.get(key) is not None]
    where = project.at(kind, name)
    if len(sources) != 1:
        raise where.error(NOTHING, f"needs one of file{', content' if kind == 'configs' else ''} and environment")
    source = sources[0]
    if source == "content":
        return str(body["content"])
    if source == "file":
        return read(project, body["file"], where.below("file")) or ""
    value = project.variables.get(body["environment"])
    if value is None:
        raise where.below("environment").error(
            body["environment"], "is a variable that is not set", "set it in compose_env, or in an env file"
        )
    return value
