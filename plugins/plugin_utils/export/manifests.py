# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stack as Kubernetes' objects: what runs its pods, what finds them, and what they keep and need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Callable

from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError
from ansible_collections.vessel.host.plugins.module_utils._network.model import Port, parse_port
from ansible_collections.vessel.host.plugins.module_utils._options.container import volume_parts

from . import kubernetes
from .declaration import OPTIONS, STOPPED, Stack
from .losses import Losses, Owner, Where
from .pod import FORM, Pod, is_label, named
from .table import Rule, Rules, lacks, only_default, together, write

LEFT_OUT = "vessel.host/left-out"
NETWORK_LABEL = "network.vessel.host"
ALIAS_LABEL = "alias.vessel.host"
_DNS = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Export:
    """``storage`` is what a claim asks for; ``secret_values``: whether the contents of secrets are written."""

    stack: Stack
    losses: Losses
    storage: str
    secret_values: bool

    def where(self, kind: str, name: str) -> Where:
        return Where(self.losses, (kind, name), f"{kind}.{name}")

    def silent(self, kind: str, name: str) -> Where:
        """For a name whose loss is told elsewhere."""
        return Where(Losses(FORM), (kind, name), f"{kind}.{name}")

    def name(self, kind: str, name: str) -> str:
        return named(name, self.silent(kind, name))

    def common(self) -> dict[str, str]:
        """The labels that all have."""
        fits = self.stack.name and is_label("a", self.stack.name)
        return {"app.kubernetes.io/part-of": self.stack.name} if fits else {}

    def selector(self, container: str) -> dict[str, str]:
        return {"app.kubernetes.io/name": self.name("containers", container), **self.common()}


def manifest(version: str, kind: str, name: str, labels: dict[str, str], spec: dict[str, Any]) -> Manifest:
    metadata = {"name": name, **({"labels": dict(labels)} if labels else {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


# what runs


def _workload(export: Export, name: str) -> Manifest:
    kind, claims = _kind(export.stack, name)
    place = kubernetes.pod(export.stack, name, export.losses, claims)
    _image(export, place)
    at = export.where("containers", name)
    named(name, at)
    selector = export.selector(name)
    labels = {**place.labels, **selector}
    template = {"metadata": {"labels": {**labels, **_memberships(export, name)}}, "spec": _pod_spec(place)}
    if place.annotations:
        template["metadata"]["annotations"] = dict(place.annotations)
    spec = _KINDS[kind](export, name, selector, template, claims)
    version = "batch/v1" if kind == "Job" else "apps/v1"
    found = manifest(version, kind, selector["app.kubernetes.io/name"], labels, spec)
    if place.annotations:
        found["metadata"]["annotations"] = dict(place.annotations)
    return found


def _kind(stack: Stack, name: str) -> tuple[str, list[str]]:
    """What runs it, and the volumes for which a StatefulSet makes the claims: those that it has to itself."""
    body = stack.containers[name]
    if "completed" in stack.awaited(name) or body.get("restart_policy") in ("no", "on-failure"):
        return "Job", []
    sources = {volume_parts(text)[0] for text in body.get("volumes") or ()}
    claims = [
        volume
        for volume, spec in stack.volumes.items()
        if volume in sources and spec.get("driver") != "tmpfs" and kubernetes.users(stack, volume) == [name]
    ]
    return ("StatefulSet" if claims else "Deployment"), claims


def _pod_spec(place: Pod) -> dict[str, Any]:
    if place.mounts:
        place.container["volumeMounts"] = place.mounts
    ports = [parse_port(text, "")[0] for text in place.spec.get("published_ports") or ()]
    if ports:
        inside = dict.fromkeys((port.container_port, port.protocol.upper()) for port in ports)
        place.container["ports"] = [{"containerPort": port, "protocol": protocol} for port, protocol in inside]
    return {
        **place.body,
        "containers": [place.container],
        **({"volumes": list(place.volumes.values())} if place.volumes else {}),
    }


def _memberships(export: Export, name: str) -> dict[str, str]:
    found = {}
    for network in export.stack.attached(name):
        found[f"{NETWORK_LABEL}/{export.name('networks', network['name'])}"] = "true"
        for alias in network["aliases"]:
            found[f"{ALIAS_LABEL}/{export.name('containers', alias)}"] = "true"
    return found


def _replicas(export: Export, name: str) -> int:
    return 0 if export.stack.containers[name].get("state") in STOPPED else 1


_SURGE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def _starts_first(export: Export, name: str) -> bool:
    """Else there are never two at once, as here."""
    return export.stack.containers[name].get("update_order") == "start_first"


def _deployment(
    export: Export, name: str, selector: dict[str, str], template: Any, claims: list[str]
) -> dict[str, Any]:
    return {
        "replicas": _replicas(export, name),
        "strategy": _SURGE if _starts_first(export, name) else {"type": "Recreate"},
        "selector": {"matchLabels": selector},
        "template": template,
    }


def _stateful_set(
    export: Export, name: str, selector: dict[str, str], template: Any, claims: list[str]
) -> dict[str, Any]:
    if _starts_first(export, name):
        at = export.where("containers", name).at("update_order")
        at.lacks("start_first", "with a volume of its own it is a StatefulSet, which replaces a pod in its place")
    return {
        "replicas": _replicas(export, name),
        "serviceName": selector["app.kubernetes.io/name"],
        "selector": {"matchLabels": selector},
        "template": template,
        "volumeClaimTemplates": [_claim(export, volume, shared=False) for volume in claims],
    }


def _job(export: Export, name: str, selector: dict[str, str], template: Any, claims: list[str]) -> dict[str, Any]:
    body = export.stack.containers[name]
    again = body.get("restart_policy") == "on-failure"
    template["spec"]["restartPolicy"] = "OnFailure" if again else "Never"
    limit = (body.get("restart_retries") or kubernetes.UNLIMITED) if again else 0
    stopped = {} if _replicas(export, name) else {"suspend": True}
    return {**stopped, "backoffLimit": limit, "template": template}


_KINDS: dict[str, Callable[..., dict[str, Any]]] = {
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "Job": _job,
}


def _image(export: Export, place: Pod) -> None:
    name = place.spec["image"]
    body = export.stack.images.get(name)
    if body is not None:
        # What can't be said of it is said once, see images().
        write(kubernetes.IMAGE, OPTIONS["images"], body, place, export.silent("images", name))


def _images(export: Export) -> None:
    for name, body in export.stack.images.items():
        write(kubernetes.IMAGE, OPTIONS["images"], body, Pod("", export.stack, {}), export.where("images", name))


# what finds


def _services(export: Export, name: str) -> Iterator[Manifest]:
    """By the container's name; its address whether it is ready or not, as here. Without ports, so it has all."""
    if export.stack.attached(name):
        yield _headless(export, export.name("containers", name), export.selector(name))
    published = _published(export, name)
    if published:
        spec = {"type": "LoadBalancer", "selector": export.selector(name), "ports": published}
        title = f"{export.name('containers', name)[:53]}-published"  # 63 in all
        yield manifest("v1", "Service", title, export.selector(name), spec)


def _headless(export: Export, name: str, selector: dict[str, str]) -> Manifest:
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": selector}
    return manifest("v1", "Service", name, export.common(), spec)


def _aliases(export: Export) -> Iterator[Manifest]:
    """One for all who have it."""
    found: dict[str, Where] = {}
    for name in export.stack.containers:
        for index, network in enumerate(export.stack.attached(name)):
            for alias in network["aliases"]:
                found.setdefault(alias, export.where("containers", name).at(f"networks[{index}].aliases"))
    for alias, at in found.items():
        name = named(alias, at)
        yield _headless(export, name, {f"{ALIAS_LABEL}/{name}": "true", **export.common()})


def _published(export: Export, name: str) -> list[dict[str, Any]]:
    at = export.where("containers", name).at("published_ports")
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for text in export.stack.containers[name].get("published_ports") or ():
        (port,) = parse_port(text, at.path)
        if port.host_ip not in ("0.0.0.0", "::"):
            at.lacks(text, "a Service has no certain address of a host")
            continue
        found[port.protocol, port.host_port or port.container_port] = _service_port(port)
    return list(found.values())


def _service_port(port: Port) -> dict[str, Any]:
    outer = port.host_port or port.container_port
    return {
        "name": f"{port.protocol}-{outer}",
        "port": outer,
        "targetPort": port.container_port,
        "protocol": port.protocol.upper(),
    }


# what is between

_ADDRESSES = "addresses are the cluster's to give"
NETWORK: Rules = {
    "driver": only_default("the cluster's network", "it is the cluster's"),
    **dict.fromkeys(("subnet", "gateway", "ip_range", "ipv6", "subnet6", "gateway6"), lacks(_ADDRESSES)),
    "internal": together("a NetworkPolicy for who is on no other"),
    "isolate": lacks("a NetworkPolicy keeps others from its pods, but not its pods from others"),
    **dict.fromkeys(("mtu", "vni", "peers", "port", "local", "device"), lacks("it is the cluster's")),
    "names": lacks("it is said by a Service without a selector"),
    "allow": lacks("it is of networks, and a NetworkPolicy is of all that reaches a pod"),
    "labels": lacks("there is no object for a network"),
}


def _networks(export: Export) -> None:
    for name, body in export.stack.networks.items():
        write(NETWORK, OPTIONS["networks"], body, None, export.where("networks", name))


def _policy(export: Export, name: str) -> Iterator[Manifest]:
    """For a container that is on internal networks only: its neighbours there, and the cluster's name server."""
    names = [network["name"] for network in export.stack.attached(name)]
    if not names or not all(export.stack.networks.get(network, {}).get("internal") for network in names):
        return
    peers = [
        {"podSelector": {"matchLabels": {f"{NETWORK_LABEL}/{export.name('networks', network)}": "true"}}}
        for network in names
    ]
    server = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    spec = {
        "podSelector": {"matchLabels": export.selector(name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": peers}],
        "egress": [{"to": peers}, {"to": [server], "ports": _DNS}],
    }
    title = f"{export.name('containers', name)}-internal"
    yield manifest("networking.k8s.io/v1", "NetworkPolicy", title, export.selector(name), spec)


# what is kept


def _volume_labels(place: dict[str, Any], value: dict[str, str], at: Where) -> None:
    if place["driver"] == "tmpfs":
        at.lacks(value, "an emptyDir has no labels")
        return
    for name, text in value.items():
        if is_label(name, text):
            place["labels"][name] = text
        else:
            at.at(name).lacks(text, "it is no label there")


_PROVIDED = "what a claim gets is decided by the cluster's storage class"
_OWNER = "whose a volume is is decided by what provides it; see fsGroup"
VOLUME: Rules = {
    "driver": together("a PersistentVolumeClaim, or `emptyDir` for a tmpfs", "of one container"),
    "device": lacks(_PROVIDED),
    "fstype": lacks(_PROVIDED),
    "options": lacks(_PROVIDED),
    "preallocate": lacks(_PROVIDED),
    "lease_duration": lacks("how long a claim outlives its node is the cluster's affair"),
    "sharing": together("`accessModes`: `onewriter` is `ReadWriteOncePod`"),
    "size": together("`emptyDir.sizeLimit`, or the claim's `storage` of a loop"),
    "owner": lacks(_OWNER),
    "group": lacks(_OWNER),
    "mode": lacks(_OWNER),
    "labels": Rule("`labels` of the claim", _volume_labels),
}


def _claims(export: Export) -> Iterator[Manifest]:
    """For volumes that no StatefulSet makes its claims for."""
    own = {volume for name in export.stack.containers for volume in _kind(export.stack, name)[1]}
    for name, body in export.stack.volumes.items():
        named(name, export.where("volumes", name))
        if body.get("driver") == "tmpfs":
            _labels_of(export, name, export.where("volumes", name))
        elif name not in own:
            yield {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **_claim(export, name, shared=True)}


def _labels_of(export: Export, name: str, at: Where) -> dict[str, str]:
    body = export.stack.volumes[name]
    labels: dict[str, str] = {}
    write(VOLUME, OPTIONS["volumes"], body, {"driver": body.get("driver"), "labels": labels}, at)
    return labels


def _claim(export: Export, name: str, *, shared: bool) -> dict[str, Any]:
    labels = {**_labels_of(export, name, export.where("volumes", name)), **export.common()}
    many = shared and len(kubernetes.users(export.stack, name)) > 1
    body = export.stack.volumes[name]
    mode = "ReadWriteOncePod" if body.get("sharing") == "onewriter" else "ReadWriteMany" if many else "ReadWriteOnce"
    return {
        "metadata": {"name": export.name("volumes", name), **({"labels": labels} if labels else {})},
        "spec": {
            "accessModes": [mode],
            "resources": {"requests": {"storage": str(body.get("size") or export.storage)}},
        },
    }


def _secret(export: Export, name: str) -> Iterator[Manifest]:
    secrets = export.stack.containers[name].get("secrets")
    if secrets and export.secret_values:
        metadata = {"name": kubernetes.secret_name(export.name("containers", name)), "labels": export.selector(name)}
        contents = {secret["name"]: secret["content"] for secret in secrets}
        yield {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "stringData": contents}


# the whole


def export(stack: Stack, losses: Losses, *, storage: str = "1Gi", secret_values: bool = False) -> list[Manifest]:
    """The manifests, what others need first."""
    this = Export(stack, losses, storage, secret_values)
    names = list(stack.containers)
    _check_names(this)
    if stack.name and not this.common():
        Where(losses, ("stack", stack.name), "name").lacks(stack.name, "it is no value of a label there")
    _networks(this)
    _images(this)
    secrets = [found for name in names for found in _secret(this, name)]
    claims = list(_claims(this))
    services = [found for name in names for found in _services(this, name)]
    workloads = {("containers", name): _workload(this, name) for name in names}
    policies = [found for name in names for found in _policy(this, name)]
    services += _aliases(this)
    _annotate(workloads, losses)
    return [*secrets, *claims, *services, *workloads.values(), *policies]


def _check_names(export: Export) -> None:
    """Two that become one would be one object."""
    for kind in ("containers", "volumes", "networks"):
        known: dict[str, str] = {}
        for name in getattr(export.stack, kind):
            other = known.setdefault(export.name(kind, name), name)
            if other != name:
                raise OptionError(f"{kind}.{name}", name, f"has the name of {other} in Kubernetes, which knows no more")


def _annotate(workloads: dict[Owner, Manifest], losses: Losses) -> None:
    """What was left out, on the workload; what is no container's, on the first."""
    homeless = [loss.owner for loss in losses.found if loss.owner not in workloads]
    for index, (owner, found) in enumerate(workloads.items()):
        texts = losses.of(owner, *(homeless if index == 0 else ()))
        if texts:
            found["metadata"].setdefault("annotations", {})[LEFT_OUT] = "\n".join(texts)
