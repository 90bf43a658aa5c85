# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""podman's unit files of images, networks and volumes."""

from __future__ import annotations

from typing import Any

from . import spelling
from .containerfile import is_built, render
from .declaration import OPTIONS, Stack
from .losses import Losses, Where
from .secrets import Names
from .table import Rule, Rules, lacks, of_task, only_default, together, write
from .unit import Unit, argument, line, pairs, stem, true

DIRECTORY = "/etc/containers/systemd"  # where the files are to lie

# images


def kind_of(body: dict[str, Any]) -> str:
    """build, image, or empty for one that needs no file of its own."""
    if is_built(body) or body.get("containerfile") or body.get("context"):
        return "build"
    return "image" if any(body.get(name) is not None for name in ("platform", "auth_file", "tls_verify")) else ""


def image_name(stack: Stack, name: str) -> str:
    kind = kind_of(stack.images.get(name, {}))
    return f"{stem(stack, name)}.{kind}" if kind else spelling.qualified(name)


def _labels(place: Unit, value: dict[str, str], at: Where) -> None:
    if place.own != "Build":
        at.lacks(value, "only a build gives an image labels")
    elif not is_built(place.spec):  # those of the others stand in its Containerfile
        for name, text in value.items():
            place.words("Label", f"{name}={text}")


def _config(place: Unit, value: Any, at: Where) -> None:
    if not is_built(place.spec):
        at.lacks(value, "only a Containerfile says so; write it there")


def _source(place: Unit, value: str, at: Where) -> None:
    if value != "registry":
        at.lacks(
            value, f"quadlets pull images from registries or build them; push what the {value} makes to a registry"
        )


def _containerfile(place: Unit, value: str, at: Where) -> None:
    if "\n" not in value:
        place.line("File", value, at)
        return
    name = f"{stem(place.stack, at.owner[1])}.Containerfile"
    place.names.texts[name] = value
    # A relative path is below the unit's directory only while that is the context, too.
    place.line("File", f"{DIRECTORY}/{name}" if place.spec.get("context") else f"./{name}", at)


def _build_args(place: Unit, value: dict[str, str], at: Where) -> None:
    for name, text in value.items():
        place.argument(f"--build-arg={name}={text}")


def _build_secrets(place: Unit, value: list[dict[str, Any]], at: Where) -> None:
    for secret in value:
        place.words("Secret", f"id={secret['id']},src={secret.get('src') or '/run/secrets/' + secret['id']}")


_CONFIG = Rule("the `.Containerfile`", _config, "with `from`")
_NOT = "podman itself is told"
IMAGE: Rules = {
    "source": Rule("`Image=`", _source, "`registry` only"),
    "pull": together("`Pull=` of the container or of the `.build` file"),
    "platform": argument("--platform"),
    "public_key": lacks(f"{_NOT} whose signatures it wants (containers-policy.json(5))"),
    "mirrors": lacks(f"{_NOT} of mirrors (containers-registries.conf(5))"),
    "tls_verify": true("TLSVerify"),
    **dict.fromkeys(("ca_path", "client_cert", "client_key"), lacks(f"{_NOT} of certificates (containers-certs.d(5))")),
    "auth_file": line("AuthFile"),
    **dict.fromkeys(("username", "password"), lacks("they would stand in the file; use podman login and auth_file")),
    "push": of_task("`podman push` pushes"),
    "verify": of_task("it reads again what is stored"),
    **dict.fromkeys(
        ("path", "src", "archive_name", "template", "template_options", "container"),
        lacks("quadlets pull images from registries or build them"),
    ),
    "from": together("a `.build` file with a `.Containerfile`"),
    "layers": Rule("a `.build` file with a `.Containerfile`", _config, "no files of the target"),
    "max_size": lacks("podman has no limit for layers"),
    "device_nodes": lacks("podman decides on device nodes in layers"),
    "containerfile": Rule("`File=` of a `.build` file", _containerfile),
    "context": line("SetWorkingDirectory"),
    "build_args": Rule("`PodmanArgs=--build-arg`", _build_args),
    "target": line("Target"),
    "secrets": Rule("`Secret=` of a `.build` file", _build_secrets, "as a file; a value is never written"),
    **dict.fromkeys(
        ("cmd", "entrypoint", "env", "user", "working_dir", "exposed_ports", "volumes", "stop_signal", "healthcheck"),
        _CONFIG,
    ),
    "labels": Rule("`Label=` of a `.build` file", _labels),
}


def image(stack: Stack, name: str, names: Names, losses: Losses) -> Unit:
    """A ``.build`` or ``.image`` file; of one that needs neither, the losses alone."""
    body = stack.images[name]
    kind = kind_of(body)
    place = Unit("Build" if kind == "build" else "Image", ("images", name), stack, names, body, losses)
    at = Where(losses, place.owner, f"images.{name}")
    if kind == "build":
        # The first part of a name that has none is podman's word for what was built here.
        tag = name if spelling.qualified(name) == name else f"localhost/{name}"
        place.line("ImageTag", tag, at)
        if body.get("pull"):
            place.line("Pull", body["pull"], at)
        if is_built(body):
            _containerfile(place, render(stack, name, at), at)
        if not body.get("context"):
            place.line("SetWorkingDirectory", "unit", at)
        place.plain("Service", "TimeoutStartSec", "infinity")
    elif kind:
        place.line("Image", spelling.qualified(name), at)
    write(IMAGE, OPTIONS["images"], body, place, at)
    return place


# networks and volumes

NETWORK: Rules = {
    "driver": only_default("`Driver=`", "podman has no such driver"),
    "subnet": line("Subnet"),
    "gateway": line("Gateway"),
    "ip_range": line("IPRange"),
    "ipv6": true("IPv6"),
    "subnet6": line("Subnet"),
    "gateway6": line("Gateway"),
    "internal": true("Internal"),
    "isolate": line("Options", lambda value: "isolate=true"),
    "mtu": line("Options", lambda value: f"mtu={value}"),
    **dict.fromkeys(("vni", "peers", "port", "local", "device"), lacks("podman has no networks across hosts")),
    "names": lacks("it is said by AddHost= of each container"),
    "allow": lacks("podman has no rules between containers"),
    "labels": pairs("Label"),
}


def network(stack: Stack, name: str, names: Names, losses: Losses) -> Unit:
    spec = stack.networks.get(name, {})
    place = Unit("Network", ("networks", name), stack, names, spec, losses)
    at = Where(losses, place.owner, f"networks.{name}")
    place.line("NetworkName", stem(stack, name), at)
    write(NETWORK, OPTIONS["networks"], _paired(spec, at), place, at)
    return place


def _paired(spec: dict[str, Any], at: Where) -> dict[str, Any]:
    """podman tells by their order which gateway is of which subnet."""
    if spec.get("gateway6") and spec.get("subnet") and not spec.get("gateway"):
        at.at("gateway6").lacks(spec["gateway6"], "podman would take it for that of the IPv4 subnet; give gateway, too")
        return {name: value for name, value in spec.items() if name != "gateway6"}
    return {**spec, **({"ipv6": True} if spec.get("subnet6") else {})}


def _owner(key: str, option: str) -> Rule:
    """A number; quadlet looks a name up on its own host, which may have it or not."""

    def writer(place: Unit, value: Any, at: Where) -> None:
        if place.spec.get("driver") == "tmpfs":
            if not isinstance(value, int):
                at.lacks(value, "it is a name of the host's; give its number")
        else:
            place.line(key, str(value), at)

    return Rule(f"`{key}=`", writer)


def _mode(place: Unit, value: int, at: Where) -> None:
    if place.spec.get("driver") != "tmpfs":
        at.lacks(spelling.mode(value), "podman sets no mode for a directory of its own")


def _driver(place: Unit, value: str, at: Where) -> None:
    if value == "loop":
        at.lacks(value, "podman has volumes of a size of their own in memory alone")
    elif value == "mount":
        for key, word in (("Type", place.spec["fstype"]), ("Device", place.spec["device"])):
            place.line(key, word, at)
        if place.spec.get("options"):
            place.line("Options", spelling.mounted(place.spec), at)
    else:
        place.line("Type", "tmpfs", at)
        place.line("Device", "tmpfs", at)
        place.line("Options", spelling.tmpfs_options(place.spec), at)


def _of_mount(place: Unit, value: Any, at: Where) -> None:
    if place.spec.get("driver") != "mount":
        at.lacks(value, "podman has no such volume")


VOLUME: Rules = {
    "driver": Rule("`Type=tmpfs`, or what is mounted", _driver, "a tmpfs lasts while a container has it"),
    "device": Rule("`Device=`", _of_mount, "of a mount"),
    "fstype": Rule("`Type=`", _of_mount, "of a mount"),
    "options": Rule("`Options=`", _of_mount, "of a mount"),
    "preallocate": lacks("podman has no volume of a file"),
    "sharing": lacks("podman knows of no other host"),
    "lease_duration": lacks("podman knows of no other host"),
    "size": together("`Options=size=`", "of a tmpfs"),
    "owner": _owner("User", "uid"),
    "group": _owner("Group", "gid"),
    "mode": Rule("`Options=mode=`", _mode, "of a tmpfs"),
    "labels": pairs("Label"),
}


def volume(stack: Stack, name: str, names: Names, losses: Losses) -> Unit:
    spec = stack.volumes[name]
    place = Unit("Volume", ("volumes", name), stack, names, spec, losses)
    at = Where(losses, place.owner, f"volumes.{name}")
    place.line("VolumeName", stem(stack, name), at)
    write(VOLUME, OPTIONS["volumes"], spec, place, at)
    return place
