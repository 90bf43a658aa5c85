# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every attribute of the compose specification as data: what it may be, and what becomes of it.

From these records come the check of a file's form, the refusals, and the table in docs/compose.md; a test compares them
with models that are made from the specification's own JSON schema.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


class Fate(enum.Enum):
    mapped = "mapped"
    holds = "holds"  # what it asks for is so, whatever it says
    refused = "refused"


@dataclass(frozen=True)
class Attribute:
    """``kinds`` are the kinds of value that it takes: string, number, boolean, null, list, mapping.

    ``items`` are the kinds of a list's elements. ``below`` are the attributes of a mapping, or of a list's mappings.
    Where ``names`` is true a mapping's names are anybody's, and ``values`` are the kinds of what they lead to, which
    has ``below`` when it is a mapping. ``text`` is what a mapped attribute becomes, or the reason of a refusal.
    ``harmless`` are values of a refused one that ask for what is so anyway.
    """

    name: str
    kinds: str
    text: str = ""
    fate: Fate = Fate.mapped
    items: str = "string"
    below: tuple[Attribute, ...] = ()
    names: bool = False
    values: str = ""
    choices: tuple[str, ...] = ()
    harmless: tuple[Any, ...] = ()
    required: bool = False


_NUMBER, _FLAG, _SCALAR = "number string", "boolean string", "string number boolean"
_PAIR = "string number boolean null"


def text(name: str, what: str, **more: Any) -> Attribute:
    return Attribute(name, "string", what, **more)


def number(name: str, what: str, **more: Any) -> Attribute:
    return Attribute(name, _NUMBER, what, **more)


def flag(name: str, what: str, **more: Any) -> Attribute:
    return Attribute(name, _FLAG, what, **more)


def words(name: str, what: str, *, items: str = "string", **more: Any) -> Attribute:
    return Attribute(name, "list", what, items=items, **more)


def word_or_words(name: str, what: str, *, items: str = "string", **more: Any) -> Attribute:
    return Attribute(name, "string list", what, items=items, **more)


def pairs(name: str, what: str, **more: Any) -> Attribute:
    """A list of NAME=VALUE or a mapping."""
    return Attribute(name, "list mapping", what, items="string", names=True, values=_PAIR, **more)


def group(name: str, what: str, *below: Attribute, kinds: str = "mapping", **more: Any) -> Attribute:
    return Attribute(name, kinds, what, below=below, **more)


def each(name: str, what: str, *below: Attribute, kinds: str = "list", items: str = "mapping") -> Attribute:
    """A list whose mappings have these attributes."""
    return Attribute(name, kinds, what, items=items, below=below)


def by_name(name: str, what: str, *below: Attribute, values: str = "mapping null", kinds: str = "mapping") -> Attribute:
    return Attribute(name, kinds, what, names=True, values=values, below=below)


ANY = "string number boolean null list mapping"


def refused(name: str, reason: str, *, harmless: Iterable[Any] = ()) -> Attribute:
    return Attribute(name, ANY, reason, Fate.refused, items=ANY, names=True, values=ANY, harmless=tuple(harmless))


def holds(attribute: Attribute) -> Attribute:
    return Attribute(**{**attribute.__dict__, "fate": Fate.holds})


_LINUX = "is for Windows"
_ORDERS = ("stop-first", "start-first")
_SWARM = "is for Swarm, and a stack is on one host; a play rolls out over hosts"
_NO_DRIVERS = "takes drivers of docker's, and there are none here"

_FILE_OF = (
    text("source", "which one", required=True),
    text("target", "a secret's name below `/run/secrets`, or a config's path"),
    Attribute("uid", "string number", "`secrets[].uid`, or `images[].layers[].copy.owner`"),
    Attribute("gid", "string number", "`secrets[].gid`, or `images[].layers[].copy.group`"),
    number("mode", "`secrets[].mode`, or `images[].layers[].copy.mode`; without it `0444`"),
)
_BUILD_SECRET = (
    _FILE_OF[0],
    text("target", "`images[].secrets[].id`"),
    *(
        refused(name, "can't be set; a build step mounts a secret as its own mount says")
        for name in ("uid", "gid", "mode")
    ),
)
_EXTERNAL = (text("name", "the name that it has on the host"),)
_RATE = (text("path", "`path`", required=True), number("rate", "`rate`", required=True))

BUILD = (
    text("context", "`images[].src`: the directory on the controller is sent, without what `.dockerignore` leaves out"),
    text("dockerfile", "`images[].containerfile`"),
    text("dockerfile_inline", "`images[].containerfile`"),
    pairs("args", "`images[].build_args`"),
    pairs("labels", "`images[].labels`"),
    text("target", "`images[].target`"),
    each("secrets", "`images[].secrets`", *_BUILD_SECRET, items="string mapping"),
    words("tags", "an entry in `images` each, with `from`"),
    flag("pull", "`images[].pull: always`"),
    holds(words("cache_from", "layers are cached on the host, by the digest of all that goes in")),
    holds(words("cache_to", "layers are cached on the host, by the digest of all that goes in")),
    refused("no_cache", "would build anew with every run", harmless=(False,)),
    refused("additional_contexts", "can't be given; a Containerfile has one context, and images by `COPY --from`"),
    refused("entitlements", "can't be given to a build step"),
    refused("extra_hosts", "can't be given to a build step"),
    refused("isolation", _LINUX, harmless=("default",)),
    refused(
        "network",
        "can't be chosen for a whole build; write `RUN --network` in the Containerfile",
        harmless=("default",),
    ),
    refused("platforms", "can't be chosen; an image is built for the host that runs it"),
    refused("privileged", "can't be given to a build step", harmless=(False,)),
    refused("provenance", "is an attestation of BuildKit's", harmless=(False,)),
    refused("sbom", "is an attestation of BuildKit's", harmless=(False,)),
    refused("shm_size", "can't be set for a build step"),
    refused("ssh", "would give build steps an agent of the controller's"),
    refused("ulimits", "can't be set for a build step"),
)
HEALTHCHECK = (
    Attribute("test", "string list", "`healthcheck.test`"),
    text("interval", "`healthcheck.interval`"),
    text("timeout", "`healthcheck.timeout`"),
    number("retries", "`healthcheck.retries`"),
    text("start_period", "`healthcheck.start_period`"),
    text("start_interval", "`healthcheck.start_interval`"),
    flag("disable", "`healthcheck.test: NONE`"),
)
DEPLOY = (
    text(
        "mode",
        "`global` is one container on the host, `replicated` as many as `replicas` says",
        choices=("replicated", "global"),
    ),
    number("replicas", "so many containers, `PROJECT-SERVICE-1` and so on"),
    group(
        "resources",
        "",
        group(
            "limits",
            "",
            number("cpus", "`cpus`"),
            Attribute("memory", _NUMBER, "`memory`"),
            number("pids", "`pids_limit`"),
        ),
        group(
            "reservations",
            "",
            Attribute("memory", _NUMBER, "`memory_reservation`"),
            refused("cpus", "is room that a scheduler keeps free; `cpu_shares` weighs containers of one host"),
            refused("devices", "takes drivers of docker's; name the devices in `devices`"),
            refused("generic_resources", _SWARM),
        ),
    ),
    group(
        "restart_policy",
        "",
        text("condition", "`restart_policy`: `any` is `always`, `none` is `no`", choices=("none", "on-failure", "any")),
        number("max_attempts", "`restart_retries`"),
        refused("delay", "can't be set; the wait doubles from 0.1 s to 60 s"),
        refused("window", "can't be set; a container that runs is one that was started"),
    ),
    refused("endpoint_mode", "has no virtual address here; a name leads to the addresses of all", harmless=("dnsrr",)),
    refused("labels", "are a Swarm service's; give `labels` to the service, and its containers have them"),
    refused("placement", _SWARM),
    refused("rollback_config", _SWARM),
    group(
        "update_config",
        "",
        text("order", "`update_order`: which instance is first when one takes the place of another", choices=_ORDERS),
        *(refused(name, _SWARM) for name in ("parallelism", "delay", "failure_action", "monitor", "max_failure_ratio")),
    ),
)
PORT = (
    number("target", "the container's port", required=True),
    Attribute("published", "string number", "the host's port, or a range of which each replica has one"),
    text("host_ip", "the host's address"),
    text("protocol", "the protocol"),
    holds(text("mode", "a stack is on one host, where both are the same", choices=("host", "ingress"))),
    holds(text("name", "is for readers")),
    holds(text("app_protocol", "is for readers")),
)
VOLUME = (
    text("type", "`bind`, `volume` or `tmpfs`", choices=("bind", "volume", "tmpfs"), required=True),
    text("source", "a volume's name or a path"),
    text("target", "the path inside", required=True),
    flag("read_only", "the mode `ro`"),
    holds(text("consistency", "is for the Mac")),
    group(
        "bind",
        "",
        text("propagation", "the mode of that name"),
        text("selinux", "the modes `z` and `Z`", choices=("z", "Z")),
        refused(
            "create_host_path",
            "can't be; a path on the host is made by who knows its owner and mode",
            harmless=(False,),
        ),
        refused("recursive", "can't be; what is mounted below comes along", harmless=("enabled",)),
    ),
    group(
        "volume",
        "",
        refused("nocopy", "can't be false; a volume is not filled from the image", harmless=(True,)),
        refused("labels", "can't be here; give them to the volume"),
        refused("subpath", "can't be; mount the whole volume"),
    ),
    group("tmpfs", "", number("size", "the option `size`"), number("mode", "the option `mode`")),
    refused("image", "can't be mounted"),
)
ON_NETWORK = (
    words("aliases", "`networks[].aliases`, after the service's name"),
    text("ipv4_address", "`networks[].ipv4_address`"),
    text("ipv6_address", "`networks[].ipv6_address`"),
    text("mac_address", "`networks[].mac_address`"),
    number("priority", "the order of `networks`, the highest first"),
    number("gw_priority", "the order of `networks`, before `priority`: the first that leads out has the default route"),
    refused("interface_name", "can't be chosen"),
    refused("link_local_ips", "can't be given"),
    refused("driver_opts", _NO_DRIVERS),
)
LOGGING = (
    text(
        "driver", "`log_driver`: `json-file` and `local` are `file`", choices=("json-file", "local", "journald", "none")
    ),
    group(
        "options", "`log_options`: `max-size` and `max-file`", kinds="mapping", names=True, values="string number null"
    ),
)
DEPENDS_ON = (
    text(
        "condition",
        "`started`, `healthy` or `completed`",
        choices=("service_started", "service_healthy", "service_completed_successfully"),
    ),
    flag("required", "a service that is not there, for its profile, is not waited for"),
    refused("restart", "can't be; a container is restarted when it is changed itself", harmless=(False,)),
)
EXTENDS = (text("service", "which one", required=True), text("file", "the file that has it"))
ENV_FILE = (
    text("path", "on the controller", required=True),
    flag("required", "whether it must be there"),
    text("format", "`raw` takes each line as it is", choices=("raw",)),
)
ULIMIT = (number("soft", "`ulimits`", required=True), number("hard", "`ulimits`", required=True))
DEVICE = (text("source", "`devices`", required=True), text("target", "`devices`"), text("permissions", "`devices`"))

_OF_ANOTHER = "; `service:NAME` is `container:NAME` of its container"
SERVICE = (
    text("image", "`image`"),
    group("build", "an entry in `images`", *BUILD, kinds="string mapping"),
    text("platform", "`images[].platform`"),
    text(
        "pull_policy",
        "`pull`; `build` is what `build` does anyway",
        choices=("always", "never", "missing", "if_not_present", "build"),
    ),
    text("container_name", "the container's name; without it `PROJECT-SERVICE-1`"),
    Attribute("command", "string list null", "`command`"),
    Attribute("entrypoint", "string list null", "`entrypoint`"),
    pairs("environment", "`env`; a name alone has the value of that variable"),
    each("env_file", "`env`, before `environment`", *ENV_FILE, kinds="string list", items="string mapping"),
    Attribute("user", "string number", "`user`"),
    words("group_add", "`groups`", items="string number"),
    text("working_dir", "`working_dir`"),
    text("hostname", "`hostname`"),
    text("domainname", "`domainname`"),
    pairs("labels", "`labels`"),
    word_or_words("label_file", "`labels`, before `labels`"),
    by_name(
        "networks",
        "`networks`; without it the network `PROJECT_default`",
        *ON_NETWORK,
        kinds="list mapping",
    ),
    text("network_mode", f"`network_mode`; `bridge` is the network `default`{_OF_ANOTHER}"),
    text("mac_address", "`networks[0].mac_address`"),
    each("ports", "`published_ports`", *PORT, items="string number mapping"),
    holds(words("expose", "the containers of a network reach all ports of one another", items="string number")),
    word_or_words("dns", "`dns_servers`"),
    word_or_words("dns_search", "`dns_search_domains`"),
    words("dns_opt", "`dns_opts`"),
    Attribute("extra_hosts", "list mapping", "`etc_hosts`", names=True, values="string list"),
    words("links", "a dependency; the service's name leads to it on their network, another name is refused"),
    each("volumes", "`volumes`, and `tmpfs` for that type", *VOLUME, items="string mapping"),
    word_or_words("tmpfs", "`tmpfs`"),
    Attribute("shm_size", _NUMBER, "`shm_size`"),
    flag("read_only", "`read_only`"),
    each("secrets", "`secrets`", *_FILE_OF, items="string mapping"),
    each("configs", "a layer with the file over the service's image", *_FILE_OF, items="string mapping"),
    by_name("depends_on", "`depends_on`", *DEPENDS_ON, values="mapping", kinds="list mapping"),
    group("healthcheck", "`healthcheck`", *HEALTHCHECK),
    Attribute("restart", "string boolean", "`restart_policy`, and `restart_retries` for `on-failure:N`"),
    text("stop_signal", "`stop_signal`"),
    text("stop_grace_period", "`stop_timeout`"),
    flag("init", "`init`"),
    group("deploy", "", *DEPLOY, kinds="mapping null"),
    number("scale", "as `deploy.replicas`"),
    number("cpus", "`cpus`"),
    number("cpu_shares", "`cpu_shares`"),
    number("cpu_quota", "`cpus`"),
    number("cpu_period", "`cpus`; none but the kernel's own 100000"),
    text("cpuset", "`cpuset_cpus`"),
    Attribute("mem_limit", _NUMBER, "`memory`"),
    Attribute("mem_reservation", _NUMBER, "`memory_reservation`"),
    Attribute("memswap_limit", _NUMBER, "`memory_swap`"),
    number("oom_score_adj", "`oom_score_adj`"),
    number("pids_limit", "`pids_limit`"),
    group(
        "blkio_config",
        "",
        number("weight", "`blkio_weight`"),
        *(
            each(f"device_{way}_{unit}", f"`device_{way}_{unit}`", *_RATE)
            for way in ("read", "write")
            for unit in ("bps", "iops")
        ),
        refused("weight_device", "can't be set for one device; `weight` is for all"),
    ),
    by_name("ulimits", "`ulimits`", *ULIMIT, values="number string mapping"),
    pairs("sysctls", "`sysctls`"),
    each("devices", "`devices`", *DEVICE, items="string mapping"),
    words("cap_add", "`capabilities`"),
    words("cap_drop", "`cap_drop`"),
    flag("privileged", "`privileged`"),
    words("security_opt", "`security_opts`"),
    text("cgroup", "`cgroupns_mode`", choices=("host", "private")),
    Attribute("pid", "string null", f"`pid_mode`{_OF_ANOTHER}"),
    text("ipc", f"`ipc_mode`{_OF_ANOTHER}"),
    text("uts", "`uts`", choices=("host",)),
    group("logging", "", *LOGGING),
    words("profiles", "the service is left out unless one of them is in `compose_profiles`"),
    group("extends", "what the other service says, under what this one says", *EXTENDS, kinds="string mapping"),
    holds(flag("attach", "nothing is attached to the output; it is in the log")),
    refused("annotations", "can't be given; `labels` are what inventories and filters see"),
    refused("cgroup_parent", "can't be chosen; containers are in the engine's own part of the tree"),
    refused("cpu_count", _LINUX),
    refused("cpu_percent", _LINUX),
    refused("cpu_rt_period", "needs a scheduler of the kernel that distributions leave out"),
    refused("cpu_rt_runtime", "needs a scheduler of the kernel that distributions leave out"),
    refused("credential_spec", _LINUX),
    refused("develop", "is for `docker compose watch`; put it in a file that is not given here"),
    refused("device_cgroup_rules", "can't be given; name the devices in `devices`"),
    refused("external_links", "can't be; put both on one network, where names lead to containers"),
    refused("gpus", "takes drivers of docker's; name the devices in `devices`"),
    refused("isolation", _LINUX, harmless=("default",)),
    refused("mem_swappiness", "can't be set; cgroup v2 has no such file"),
    refused("models", "are run by docker's model runner"),
    refused("oom_kill_disable", "can't be; cgroup v2 has no such file", harmless=(False,)),
    refused("post_start", "can't be; run the command in a task, with vessel.host.container_exec"),
    refused("pre_stop", "can't be; handle `stop_signal` in the program"),
    refused("provider", "is a plugin of docker compose's"),
    refused("pull_refresh_after", "can't be; pull_policy is always, missing or never"),
    refused("runtime", "can't be chosen; the collection is the runtime"),
    refused("stdin_open", "can't be; a container's standard input is /dev/null", harmless=(False,)),
    refused("storage_opt", "can't be set; the writable layer has the host's file system"),
    refused("tty", "can't be; a container's output goes to its log", harmless=(False,)),
    refused("use_api_socket", "can't be; there is no daemon whose socket it could have", harmless=(False,)),
    refused("userns_mode", "can't be; containers are in the host's user namespace", harmless=("host", "")),
    refused("volumes_from", "can't be; name the volumes in both services"),
)
NETWORK = (
    text("name", "the network's name; without it `PROJECT_NAME`"),
    text("driver", "`driver`", choices=("bridge", "default")),
    flag("internal", "`internal`"),
    flag("enable_ipv6", "`ipv6`"),
    pairs("labels", "`labels`"),
    group("external", "it is not declared, and must be there", *_EXTERNAL, kinds="boolean string mapping"),
    group(
        "ipam",
        "",
        each(
            "config",
            "one of IPv4 and one of IPv6",
            text("subnet", "`subnet`, `subnet6`"),
            text("gateway", "`gateway`, `gateway6`"),
            text("ip_range", "`ip_range`"),
            refused("aux_addresses", "can't be kept free; choose an `ip_range` without them"),
        ),
        refused("driver", _NO_DRIVERS, harmless=("default",)),
        refused("options", _NO_DRIVERS),
    ),
    holds(flag("attachable", "any container can be on a network")),
    refused("enable_ipv4", "can't be switched off", harmless=(True,)),
    by_name("driver_opts", "`mtu`, for `com.docker.network.driver.mtu`; others are refused", values="string number"),
)
VOLUMES = (
    text("name", "the volume's name; without it `PROJECT_NAME`"),
    pairs("labels", "`labels`"),
    group("external", "it is not declared, and must be there", *_EXTERNAL, kinds="boolean string mapping"),
    text("driver", "`driver: directory`, and with `driver_opts` `mount` or `tmpfs`", choices=("local",)),
    by_name(
        "driver_opts",
        "what docker's `local` mounts: `type` is `fstype` (`tmpfs` a driver), `device` the same, `o` is `options` "
        "(of a tmpfs `size`, `owner`, `group` and `mode`); others are refused",
        values="string number",
    ),
)
SECRET = (
    text("name", "a name for readers; the service's own is what counts"),
    text("file", "the content of a file on the controller, which may be a vault"),
    text("environment", "the value of the variable"),
    refused("external", "can't be; there is no store of secrets: give `file` or `environment`", harmless=(False,)),
    refused("driver", _NO_DRIVERS),
    refused("driver_opts", _NO_DRIVERS),
    refused("template_driver", _NO_DRIVERS),
    holds(pairs("labels", "nothing on the host could have them")),
)
CONFIG = (
    text("name", "a name for readers; the service's own is what counts"),
    text("file", "the content of a file on the controller"),
    text("content", "the content itself"),
    text("environment", "the value of the variable"),
    refused(
        "external", "can't be; there is no store of configs: give `file`, `content` or `environment`", harmless=(False,)
    ),
    refused("template_driver", _NO_DRIVERS),
    holds(pairs("labels", "nothing on the host could have them")),
)
INCLUDE = (
    word_or_words("path", "files that override each other", required=True),
    word_or_words("env_file", "instead of the file `.env` there"),
    text("project_directory", "where their relative paths start"),
)
TOP = (
    holds(Attribute("version", "string number", "says nothing any more")),
    text("name", "the stack's name, unless the task gives one"),
    each("include", "their services, networks, volumes, secrets and configs", *INCLUDE, items="string mapping"),
    by_name("services", "`containers`", *SERVICE, values="mapping"),
    by_name("networks", "`networks`, those that services are on", *NETWORK),
    by_name("volumes", "`volumes`, those that services mount", *VOLUMES),
    by_name("secrets", "", *SECRET, values="mapping"),
    by_name("configs", "", *CONFIG, values="mapping"),
    refused("models", "are run by docker's model runner"),
)
