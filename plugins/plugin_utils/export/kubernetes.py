# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stack's containers in Kubernetes' words: the tables, and the pod that each container becomes."""

from __future__ import annotations

import math
import re
import signal
from typing import Any, Optional

from ansible_collections.vessel.host.plugins.module_utils._options.container import (
    HEALTHCHECK_DEFAULTS,
    tmpfs_target,
    volume_parts,
)
from ansible_collections.vessel.host.plugins.module_utils._options.parse import parse_size

from . import spelling
from .declaration import OPTIONS, Stack
from .losses import Losses, Where
from .pod import FORM, LABEL, LABEL_KEY, Pod, is_label, key, literal, named, of_pod, quantity
from .table import Rule, Rules, lacks, of_task, together, write

_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
UNLIMITED = 2**31 - 1  # the most that an int32 of the API holds
_PROPAGATION = {"private": "None", "rprivate": "None", "rslave": "HostToContainer", "rshared": "Bidirectional"}


def _command(place: Pod, value: list[str], at: Where) -> None:
    entrypoint = place.spec.get("entrypoint")
    if entrypoint == []:
        place.put("command", [literal(text) for text in value])  # there is nothing that it is handed to
    elif value:
        place.put("args", [literal(text) for text in value])
    elif entrypoint is None:
        at.lacks(value, "no arguments at all are the image's own there")


def _entrypoint(place: Pod, value: list[str], at: Where) -> None:
    if value:
        place.put("command", [literal(text) for text in value])
    elif not place.spec.get("command"):
        at.lacks(value, "no entrypoint is the image's own there; give the command")


def _env(place: Pod, value: dict[str, str], at: Where) -> None:
    for name in value:
        if not _ENV_NAME.fullmatch(name):
            at.lacks(name, "names of variables there have letters, digits, -, _ and .")
    kept = {name: text for name, text in value.items() if _ENV_NAME.fullmatch(name)}
    place.put("env", [{"name": name, "value": literal(text)} for name, text in kept.items()])


def _user(place: Pod, value: str, at: Where) -> None:
    parts = value.split(":")
    if not all(part.isdecimal() for part in parts):
        at.lacks(value, "users and groups there are numbers")
        return
    for name, part in zip(("runAsUser", "runAsGroup"), parts):
        place.put(f"securityContext.{name}", int(part))


def _groups(place: Pod, value: list[str], at: Where) -> None:
    numbers = [int(group) for group in value if group.isdecimal()]
    if len(numbers) != len(value):
        at.lacks(value, "users and groups there are numbers")
    if numbers:
        place.put_pod("securityContext.supplementalGroups", numbers)


def _labels(place: Pod, value: dict[str, str], at: Where) -> None:
    """Those that aren't labels there by their value are annotations."""
    for name, text in value.items():
        if is_label(name, text):
            place.labels[name] = text
        elif LABEL_KEY.fullmatch(name):
            place.annotations[name] = text
        else:
            at.at(name).lacks(text, "it is no name of a label there")


def _networks(place: Pod, value: list[dict[str, Any]], at: Where) -> None:
    if not value:
        at.lacks(value, "a pod is always on the cluster's network")
    for index, network in enumerate(value):
        for name in ("ipv4_address", "ipv6_address", "mac_address"):
            if network.get(name):
                at.item(index).at(name).lacks(network[name], "addresses are the cluster's to give")


def _network_mode(place: Pod, value: str, at: Where) -> None:
    if value == "host":
        place.put_pod("hostNetwork", True)
        place.put_pod("dnsPolicy", "ClusterFirstWithHostNet")
    elif value == "none":
        at.lacks(value, "a pod is always on the cluster's network")
    else:
        at.lacks(value, "only containers of one pod share a network namespace; write that pod by hand")


def _host_namespace(path: str) -> Rule:
    def writer(place: Pod, value: str, at: Where) -> None:
        if value == "host":
            place.put_pod(path, True)
        elif value != "shareable":  # which is to be joined, and who joins it is refused
            at.lacks(value, "only containers of one pod share namespaces; write that pod by hand")

    return Rule(f"the pod's `{path}`", writer, "`host` only")


def _dns_opts(value: list[str]) -> list[dict[str, str]]:
    parts = [text.partition(":") for text in value]
    return [{"name": name, **({"value": option} if colon else {})} for name, colon, option in parts]


def _etc_hosts(value: dict[str, str]) -> list[dict[str, Any]]:
    addresses = dict.fromkeys(value.values())
    return [{"ip": ip, "hostnames": [name for name, other in value.items() if other == ip]} for ip in addresses]


def _volumes(place: Pod, value: list[str], at: Where) -> None:
    for index, text in enumerate(value):
        _volume(place, text, at.item(index))


def _volume(place: Pod, text: str, at: Where) -> None:
    source, target, words = volume_parts(text)
    name, volume = _source(place, source, at)
    if not name:
        return
    entry = place.mount(name, volume, target, read_only="ro" in words)
    for word in words:
        if word in _PROPAGATION:
            entry["mountPropagation"] = _PROPAGATION[word]
        elif word not in ("ro", "rw"):
            at.lacks(text, f"a mount there has no word for {word}")


def _source(place: Pod, source: str, at: Where) -> tuple[str, Optional[dict[str, Any]]]:
    """(name, the pod's volume); no volume for a claim that a StatefulSet makes, no name for what can't be said."""
    if source.startswith("/"):
        known = [name for name, volume in place.volumes.items() if volume.get("hostPath", {}).get("path") == source]
        name = known[0] if known else f"host-{len(place.volumes)}"
        return name, {"hostPath": {"path": source}}
    name = named(source, at)
    body = place.stack.volumes.get(source)
    if body is not None and body.get("driver") == "tmpfs":
        if len(users(place.stack, source)) > 1:
            at.lacks(source, "pods share no memory, and more than one container has this volume")
            return "", None
        return name, _memory(body.get("size") or 0)
    if source in place.claims:
        return name, None
    return name, {"persistentVolumeClaim": {"claimName": name}}


def users(stack: Stack, volume: str) -> list[str]:
    """The containers that mount it."""
    return [
        name
        for name, body in stack.containers.items()
        if any(volume_parts(text)[0] == volume for text in body.get("volumes") or ())
    ]


def _memory(size: int) -> dict[str, Any]:
    return {"emptyDir": {"medium": "Memory", **({"sizeLimit": quantity(size)} if size else {})}}


def _tmpfs(place: Pod, value: list[str], at: Where) -> None:
    for index, text in enumerate(value):
        options = [word.partition("=") for word in text.partition(":")[2].split(",") if word]
        size = next((parse_size(given, at.path) for name, dummy, given in options if name == "size"), 0)
        for name in (option[0] for option in options):
            if name not in ("size", "ro", "rw", "exec", "nosuid", "nodev"):
                at.item(index).lacks(text, f"an emptyDir has no word for {name}")
        read_only = any(option[0] == "ro" for option in options)
        place.mount(f"tmpfs-{index}", _memory(size), tmpfs_target(text), read_only=read_only)


def _hugepages(place: Pod, value: dict[str, int], at: Where) -> None:
    if not place.spec.get("memory") and not place.spec.get("cpus"):
        at.lacks(value, "huge pages need a limit of memory or cpus beside them")
        return
    for page, limit in value.items():
        if limit:  # none at all is what it has there unless it asks
            place.limit(f"hugepages-{page.removesuffix('B')}i", quantity(limit))


_SELINUX = ("user", "role", "type", "level")


def _security_opts(place: Pod, value: list[str], at: Where) -> None:
    for text in value:
        kind, dummy, rest = text.partition("=")
        part, dummy, name = rest.partition(":")
        if kind == "label" and part in _SELINUX:
            place.put_pod(f"securityContext.seLinuxOptions.{part}", name)
        elif kind == "apparmor":
            unconfined = {"type": "Unconfined"}
            local = {"type": "Localhost", "localhostProfile": rest}
            place.put_pod("securityContext.appArmorProfile", unconfined if rest == "unconfined" else local)
        else:
            at.lacks(text, "seLinuxOptions has no word for it")


def _healthcheck(place: Pod, value: dict[str, Any], at: Where) -> None:
    """Ready or not is what an unhealthy container makes a difference in here, too; nothing restarts it."""
    if not value:
        return  # an image's own check is not heeded there
    kind, *test = value["test"]
    probe: dict[str, Any] = {"exec": {"command": ["/bin/sh", "-c", *test] if kind == "CMD-SHELL" else test}}
    for name, path in (("interval", "periodSeconds"), ("timeout", "timeoutSeconds")):
        if value[name] != int(value[name]):
            at.at(name).lacks(value[name], "probes count whole seconds")
        probe[path] = max(1, math.ceil(value[name]))
    place.put("readinessProbe", {**probe, "failureThreshold": value["retries"]})
    if value["start_interval"] != HEALTHCHECK_DEFAULTS["start_interval"]:
        at.at("start_interval").lacks(
            value["start_interval"], "a probe that may fail at first ends the container later"
        )


def _stop_signal(place: Pod, value: int, at: Where) -> None:
    try:
        place.put("lifecycle", {"stopSignal": signal.Signals(value).name})
        place.put_pod("os", {"name": "linux"})  # without which the API refuses a signal
    except ValueError:
        at.lacks(value, "signals there are names")


def _stop_timeout(place: Pod, value: float, at: Where) -> None:
    if value != int(value):
        at.lacks(value, "it counts whole seconds")
    place.put_pod("terminationGracePeriodSeconds", math.ceil(value))


def secret_name(name: str) -> str:
    return f"{name}-secrets"


def _secrets(place: Pod, value: list[dict[str, Any]], at: Where) -> None:
    for index, secret in enumerate(value):
        for owner in ("uid", "gid"):
            if secret[owner]:
                at.item(index).at(owner).lacks(secret[owner], "a Secret's files are root's")
    items = [{"key": secret["name"], "path": secret["name"], "mode": secret["mode"]} for secret in value]
    name = secret_name(named(place.name, Where(Losses(FORM), at.owner)))
    place.mount("secrets", {"secret": {"secretName": name, "items": items}}, "/run/secrets", read_only=True)


_PULL = {"missing": "IfNotPresent", "always": "Always", "never": "Never"}
_CGROUP = "a pod's resources have no word for it"
_KUBELET = "it is the kubelet's to set"
CONTAINER: Rules = {
    "image": together("`image`"),
    "command": Rule("`args`", _command),
    "entrypoint": Rule("`command`", _entrypoint),
    "env": Rule("`env`", _env),
    "user": Rule("`securityContext.runAsUser`, `runAsGroup`", _user, "by number"),
    "groups": Rule("the pod's `securityContext.supplementalGroups`", _groups, "by number"),
    "working_dir": key("workingDir"),
    "hostname": together("the pod's `hostname`"),
    "domainname": lacks("a pod's domain is the cluster's"),
    "labels": Rule("`labels`, else `annotations`", _labels),
    "networks": Rule("a headless Service by the container's name, and by each alias", _networks, "no addresses"),
    "network_mode": Rule("the pod's `hostNetwork`", _network_mode, "`host` only"),
    "published_ports": together("a Service of the type LoadBalancer", "of no certain address of the host"),
    "dns_servers": lacks("the cluster's own has to be asked for the names of Services; tell that one"),
    "dns_search_domains": of_pod("dnsConfig.searches"),
    "dns_opts": of_pod("dnsConfig.options", _dns_opts),
    "etc_hosts": of_pod("hostAliases", _etc_hosts),
    "volumes": Rule("`volumeMounts` of a PersistentVolumeClaim or `hostPath`", _volumes, "no `noexec`, `z` and others"),
    "tmpfs": Rule("`emptyDir` with `medium: Memory`", _tmpfs, "no `mode`, `uid` and others"),
    "shm_size": Rule(
        "`emptyDir` at /dev/shm", lambda place, value, at: place.mount("shm", _memory(value), "/dev/shm") and None
    ),
    "read_only": key("securityContext.readOnlyRootFilesystem"),
    "memory": Rule(
        "`resources.limits.memory`", lambda place, value, at: place.limit("memory", quantity(value)), "without swap"
    ),
    "memory_reservation": key("resources.requests.memory", quantity),
    "memory_swap": lacks("swap is the kubelet's to give"),
    "memory_high": lacks(_CGROUP),
    "memory_min": lacks(_CGROUP),
    "oom_group": lacks(_KUBELET),
    "hugepage_limits": Rule("`resources.limits.hugepages-SIZE`", _hugepages),
    "cpus": Rule(
        "`resources.limits.cpu`", lambda place, value, at: place.limit("cpu", f"{max(1, round(value * 1000))}m")
    ),
    "cpu_shares": lacks("a request of CPU also reserves what a share only weighs; give resources.requests.cpu"),
    "cpuset_cpus": lacks(_KUBELET),
    "cpuset_mems": lacks(_KUBELET),
    "pids_limit": lacks(_KUBELET),
    "blkio_weight": lacks(_CGROUP),
    **dict.fromkeys(("device_read_bps", "device_write_bps", "device_read_iops", "device_write_iops"), lacks(_CGROUP)),
    "oom_score_adj": lacks(_KUBELET),
    "ulimits": lacks("limits of getrlimit(2) are the container runtime's"),
    "sysctls": of_pod(
        "securityContext.sysctls", lambda value: [{"name": name, "value": text} for name, text in value.items()]
    ),
    "devices": lacks("devices are given by a device plugin"),
    "capabilities": together("`securityContext.capabilities.add`", "containerd's default set, made ours"),
    "cap_drop": together("`securityContext.capabilities.drop`", "containerd's default set, made ours"),
    "privileged": key("securityContext.privileged"),
    "security_opts": Rule(
        "the pod's `securityContext.seLinuxOptions`, `appArmorProfile`", _security_opts, "no `label=disable`"
    ),
    "pid_mode": _host_namespace("hostPID"),
    "ipc_mode": _host_namespace("hostIPC"),
    "uts": lacks("it goes with hostNetwork"),
    "cgroupns_mode": lacks("it is the container runtime's"),
    "restart_policy": together("a Job for `no` and `on-failure`, else a Deployment or StatefulSet"),
    "restart_retries": together("the Job's `backoffLimit`"),
    "healthcheck": Rule("`readinessProbe`", _healthcheck, "whole seconds, no `start_interval`"),
    "stop_signal": Rule("`lifecycle.stopSignal`", _stop_signal, "Kubernetes 1.33 and newer"),
    "stop_timeout": Rule("the pod's `terminationGracePeriodSeconds`", _stop_timeout, "whole seconds"),
    "update_order": together("a Deployment's `strategy`", "a StatefulSet replaces a pod in its place"),
    "drain_timeout": lacks("connections have the time that a pod has to end"),
    "init": lacks("a container's first process is its own"),
    "secrets": Rule("a Secret, mounted at /run/secrets", _secrets, "files are root's"),
    "log_driver": lacks("logs are the kubelet's"),
    "log_options": lacks("logs are the kubelet's"),
    "state": together("`replicas: 0`, a Job's `suspend`", "of one that is not to run"),
    "paused": lacks("nothing in it is paused"),
    "pull": together("`imagePullPolicy`"),
    "depends_on": lacks("pods start together, and what needs another one has to try again"),
}

_BUILT = "it builds no images; build this one elsewhere, push it to a registry, and name that"
_PULL_SECRET = "make an imagePullSecret of it"
_NODE = "it is set up on the nodes, for the container runtime"


def _platform(place: Pod, value: str, at: Where) -> None:
    system, architecture, *variant = value.split("/")
    place.put_pod("nodeSelector", {"kubernetes.io/os": system, "kubernetes.io/arch": architecture})
    if variant:
        at.lacks(value, "nodes have no label for the variant of an architecture")


def _image_source(place: Pod, value: str, at: Where) -> None:
    if value != "registry":
        at.lacks(value, f"it takes images from registries; push what the {value} makes to one")


IMAGE: Rules = {
    "source": Rule("`image`", _image_source, "`registry` only"),
    "pull": together("`imagePullPolicy`"),
    "platform": Rule("the pod's `nodeSelector`", _platform),
    "public_key": lacks("signatures are verified by an admission controller"),
    **dict.fromkeys(("mirrors", "tls_verify", "ca_path", "client_cert", "client_key"), lacks(_NODE)),
    **dict.fromkeys(("auth_file", "username", "password"), lacks(_PULL_SECRET)),
    "push": of_task("what is to run there has to be pushed"),
    "verify": of_task("it reads again what is stored"),
    **dict.fromkeys(
        ("path", "src", "archive_name", "template", "template_options", "container", "from", "layers", "containerfile",
         "context", "build_args", "target", "secrets", "cmd", "entrypoint", "env", "user", "working_dir",
         "exposed_ports", "volumes", "labels", "stop_signal", "healthcheck"),
        lacks(_BUILT),
    ),
    "max_size": lacks(_NODE),
    "device_nodes": lacks(_NODE),
}  # fmt: skip


def pod(stack: Stack, name: str, losses: Losses, claims: list[str]) -> Pod:
    """The container as a pod; ``claims`` are volumes for which a StatefulSet makes claims of its own."""
    spec = stack.containers[name]
    at = Where(losses, ("containers", name), f"containers.{name}")
    place = Pod(name, stack, spec, claims=claims)
    place.container = {"name": named(name, Where(Losses(FORM), at.owner)), "image": spelling.qualified(spec["image"])}
    place.container["imagePullPolicy"] = _PULL[_pull(stack, spec)]  # latest would be pulled each time there
    write(CONTAINER, OPTIONS["containers"], spec, place, at)
    _hostname(place, at.at("hostname"))
    _privileges(place, at)
    # Here a process has ten seconds, and neither a token of the API nor variables for each Service.
    place.body.setdefault("terminationGracePeriodSeconds", 10)
    place.put_pod("automountServiceAccountToken", False)
    place.put_pod("enableServiceLinks", False)
    return place


def _pull(stack: Stack, spec: dict[str, Any]) -> str:
    return str(spec.get("pull") or stack.images.get(spec["image"], {}).get("pull") or "missing")


def _hostname(place: Pod, at: Where) -> None:
    """Otherwise a pod has a name made up for it."""
    name = place.spec.get("hostname") or place.name
    if place.spec.get("network_mode") == "host" or place.spec.get("uts") == "host":
        if place.spec.get("hostname"):
            at.lacks(name, "with the host's network a pod has the host's name")
    elif LABEL.fullmatch(name):
        place.put_pod("hostname", name)
    elif place.spec.get("hostname"):
        at.lacks(name, "a host name there has lower case, digits and -")


def _privileges(place: Pod, at: Where) -> None:
    if place.spec.get("privileged"):
        if place.spec.get("cap_drop"):
            at.at("cap_drop").lacks(place.spec["cap_drop"], "nothing is taken from a container that is privileged")
        return
    added, dropped = spelling.capabilities(place.spec, spelling.DOCKER_CAPS)
    if "SYS_ADMIN" in added or "ALL" in added:
        # The API refuses both at once (core/validation, ValidateSecurityContext).
        at.at("capabilities").lacks(place.spec["capabilities"], "with SYS_ADMIN there is no no_new_privs")
    else:
        place.put("securityContext.allowPrivilegeEscalation", False)
    for verb, names in (("add", added), ("drop", dropped)):
        if names:
            place.put(f"securityContext.capabilities.{verb}", names)
    place.put_pod("securityContext.seccompProfile", {"type": "RuntimeDefault"})
