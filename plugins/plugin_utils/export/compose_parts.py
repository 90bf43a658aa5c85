# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a compose file says of images, networks and volumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

from . import spelling
from .containerfile import is_built, render
from .declaration import OPTIONS, Stack
from .losses import Losses, Where
from .secrets import Names
from .service import FORM, Service, key
from .table import Rule, Rules, lacks, of_task, only_default, put, together, write

# images


def _build(path: str) -> Rule:
    """A part of ``build``."""
    return key(f"build.{path}")


def _containerfile(place: Service, value: str, at: Where) -> None:
    place.put("build.dockerfile_inline" if "\n" in value else "build.dockerfile", value)


def _build_secrets(place: Service, value: list[dict[str, Any]], at: Where) -> None:
    for secret in value:
        place.names.add_build(secret)
        place.put("build.secrets", [secret["id"]])


def _source(place: Service, value: str, at: Where) -> None:
    if value != "registry":
        at.lacks(value, f"it takes images from registries or builds them; push what the {value} makes to a registry")


def _image_labels(place: Service, value: dict[str, str], at: Where) -> None:
    if is_built(place.stack.images[place.spec["image"]]):
        return  # they stand in its Containerfile
    if "build" in place.body:
        place.put("build.labels", value)
    else:
        at.lacks(value, "only a build gives an image labels")


def _of_build(place: Service, value: Any, at: Where) -> None:
    if not is_built(place.stack.images[place.spec["image"]]):
        at.lacks(value, "only a Containerfile says so; write it there")


_ACCESS = "how a registry is reached is set up for docker itself (docker login, /etc/docker)"
_INLINE = Rule("`build.dockerfile_inline`", _of_build, "with `from`")
IMAGE: Rules = {
    "source": Rule("`image` of the services", _source, "`registry` only"),
    "pull": together("`pull_policy`"),
    "platform": key("platform"),
    "public_key": lacks("it verifies no signatures"),
    **dict.fromkeys(
        ("mirrors", "tls_verify", "ca_path", "client_cert", "client_key", "auth_file", "username", "password"),
        lacks(_ACCESS),
    ),
    "push": of_task("`docker compose push` pushes"),
    "verify": of_task("it reads again what is stored"),
    **dict.fromkeys(
        ("path", "src", "archive_name", "template", "template_options", "container"),
        lacks("it takes images from registries or builds them"),
    ),
    "from": together("`build.dockerfile_inline`"),
    "layers": Rule("`build.dockerfile_inline`", _of_build, "no files of the target"),
    "max_size": lacks("it has no limit for layers"),
    "device_nodes": lacks("docker decides on device nodes in layers"),
    "containerfile": Rule("`build.dockerfile` or `build.dockerfile_inline`", _containerfile),
    "context": _build("context"),
    "build_args": _build("args"),
    "target": _build("target"),
    "secrets": Rule("`build.secrets`", _build_secrets, "as a file; a value is never written"),
    **dict.fromkeys(
        ("cmd", "entrypoint", "env", "user", "working_dir", "exposed_ports", "volumes", "stop_signal", "healthcheck"),
        _INLINE,
    ),
    "labels": Rule("`build.labels`", _image_labels),
}


def image(place: Service, losses: Losses) -> None:
    """What the stack declares of the image stands with each service that has it."""
    name = place.spec["image"]
    body = place.stack.images.get(name)
    if body is None:
        return
    # What can't be said is said once for each image, however many services have it.
    at = Where(Losses(FORM) if name in place.names.images else losses, ("images", name), f"images.{name}")
    place.names.images.add(name)
    if is_built(body):
        place.put("build", {"context": ".", "dockerfile_inline": render(place.stack, name, at)})
    write(IMAGE, OPTIONS["images"], body, place, at)
    if "build" in place.body:
        place.body["build"].setdefault("context", ".")
    if body.get("pull") and not place.spec.get("pull"):
        place.put("pull_policy", body["pull"])


def images_of_none(stack: Stack, names: Names, losses: Losses) -> None:
    """Those that no container has; others may be built on them."""
    for name in stack.images:
        if name not in names.images:
            image(Service("", stack, Names(stack), {"image": name}), losses)


# networks and volumes


@dataclass
class Part:
    """A network or a volume, while it is written."""

    body: dict[str, Any]
    spec: dict[str, Any]

    def put(self, path: str, value: Any) -> None:
        put(self.body, path, value)


def _option(name: str, convert: Callable[[Any], str]) -> Rule:
    """A driver's option; their names have dots."""

    def writer(place: Part, value: Any, at: Where) -> None:
        place.body.setdefault("driver_opts", {})[name] = convert(value)

    return Rule(f"`driver_opts`: `{name}`", writer)


NETWORK: Rules = {
    "driver": only_default("`driver`", "docker makes bridges alone without a swarm"),
    **dict.fromkeys(("subnet", "gateway", "ip_range", "subnet6", "gateway6"), together("`ipam.config`")),
    "ipv6": key("enable_ipv6"),
    "internal": key("internal"),
    "isolate": _option("isolate", lambda value: "true"),
    "mtu": _option("com.docker.network.driver.mtu", str),
    **dict.fromkeys(("vni", "peers", "port", "local", "device"), lacks("docker has them with a swarm alone")),
    "names": lacks("it is said by the extra_hosts of each service"),
    "allow": lacks("docker has no rules between containers"),
    "labels": key("labels"),
}


def network(name: str, spec: dict[str, Any], losses: Losses) -> dict[str, Any]:
    place = Part({"name": name}, spec)
    write(NETWORK, OPTIONS["networks"], spec, place, Where(losses, ("networks", name), f"networks.{name}"))
    pools = [
        {"subnet": spec.get("subnet"), "gateway": spec.get("gateway"), "ip_range": spec.get("ip_range")},
        {"subnet": spec.get("subnet6"), "gateway": spec.get("gateway6")},
    ]
    if spec.get("subnet6"):
        place.put("enable_ipv6", True)
    config = [{name: value for name, value in pool.items() if value} for pool in pools]
    if any(config):
        place.put("ipam.config", [pool for pool in config if pool])
    return place.body


def _of_tmpfs(place: Part, value: Any, at: Where) -> None:
    if place.spec.get("driver") != "tmpfs":
        at.lacks(value, "docker's volumes take owner and mode from the image's directory")
    elif at.path.endswith((".owner", ".group")) and not isinstance(value, int):
        at.lacks(value, "it is a name of the host's; give its number")


def _driver(place: Part, value: str, at: Where) -> None:
    """As mount(2) has it, which is how docker's own driver makes a tmpfs and mounts what is there."""
    if value == "loop":
        at.lacks(value, "docker has volumes of a size of their own in memory alone")
    elif value == "mount":
        place.put("driver_opts", {name: word for name, word in _mount_options(place.spec).items() if word})
    else:
        place.put("driver_opts", {"type": "tmpfs", "device": "tmpfs", "o": spelling.tmpfs_options(place.spec)})


def _mount_options(spec: dict[str, Any]) -> dict[str, str]:
    device, words = str(spec.get("device") or ""), spelling.mounted(spec)
    if spec.get("fstype") in ("nfs", "nfs4"):
        server, dummy, path = device.rpartition(":")
        device, words = f":{path}", ",".join(word for word in (f"addr={server.strip('[]')}", words) if word)
    return {"type": str(spec.get("fstype") or ""), "device": device, "o": words}


def _of_mount(place: Part, value: Any, at: Where) -> None:
    if place.spec.get("driver") != "mount":
        at.lacks(value, "docker has no such volume")
    elif at.path.endswith(".options"):
        for word in value:
            if word.startswith("credentials="):
                at.lacks(word, "docker asks the kernel, which reads no such file")


_MOUNTED = "of a mount"
VOLUME: Rules = {
    "driver": Rule(
        "`driver_opts`: `type: tmpfs`, or what is mounted", _driver, "a tmpfs lasts while a container has it"
    ),
    "device": Rule("`driver_opts`: `device`", _of_mount, _MOUNTED),
    "fstype": Rule("`driver_opts`: `type`", _of_mount, _MOUNTED),
    "options": Rule("`driver_opts`: `o`", _of_mount, _MOUNTED),
    "preallocate": lacks("docker has no volume of a file"),
    "sharing": lacks("docker's local driver knows of no other host"),
    "lease_duration": lacks("docker's local driver knows of no other host"),
    "size": together("`driver_opts`: `o: size=`", "of a tmpfs"),
    "owner": Rule("`driver_opts`: `o: uid=`", _of_tmpfs, "of a tmpfs, by number"),
    "group": Rule("`driver_opts`: `o: gid=`", _of_tmpfs, "of a tmpfs, by number"),
    "mode": Rule("`driver_opts`: `o: mode=`", _of_tmpfs, "of a tmpfs"),
    "labels": key("labels"),
}


def volume(name: str, spec: dict[str, Any], losses: Losses) -> dict[str, Any]:
    place = Part({"name": name}, spec)
    write(VOLUME, OPTIONS["volumes"], spec, place, Where(losses, ("volumes", name), f"volumes.{name}"))
    return place.body
