# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a container, one record each, and the parsers that only containers need."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from .._errors import OptionError
from .._network import model
from .._network.names import RESERVED
from . import limits
from .parse import (
    Parser,
    choice,
    integer,
    listing,
    mapping,
    number,
    parse_command,
    parse_duration,
    parse_mode,
    parse_name,
    parse_path,
    parse_signal,
    parse_size,
    parse_str,
    parse_word,
    size,
)
from .record import Compare, Cost, Option, check_each_once, flag, group, parse_options

STATES = ("present", "started", "healthy", "stopped", "absent")
UPDATE_ORDERS = ("stop_first", "start_first")
PIDS_MAX = 1 << 22  # PID_MAX_LIMIT of include/linux/threads.h
CPU_PERIOD = 100_000  # microseconds; the kernel's own default (sched-bwc.rst)


def container_or(*words: str) -> Parser:
    """A parser of one of the words or ``container:NAME``."""

    def parse(value: Any, option: str) -> str:
        text = parse_word(value, option)
        kind, colon, name = text.partition(":")
        if colon and kind == "container":
            parse_name(name, option)
        elif text not in words:
            raise OptionError(option, text, f"is not one of {', '.join(words)} or container:NAME")
        return text

    return parse


def or_none(parse: Parser) -> Parser:
    """A parser that also takes an empty string, which takes the setting back: the image or the engine decides."""

    def parse_or_none(value: Any, option: str) -> Any:
        return None if isinstance(value, str) and not value.strip() else parse(value, option)

    return parse_or_none


def parse_entrypoint(value: Any, option: str) -> list[str] | None:
    """A list; one empty string, which Ansible makes a list of, takes the setting back."""
    return None if value in ("", [""]) else parse_command(value, option)


def unlimited(parse: Parser) -> Parser:
    """A parser for which -1 is 0, which are two words for no limit."""

    def parse_limit(value: Any, option: str) -> Any:
        result = parse(value, option)
        return 0 if result == -1 else result

    return parse_limit


def parse_line(value: Any, option: str) -> str:
    """A string that becomes a line, or a part of one."""
    text = parse_word(value, option)
    if len(text.splitlines()) > 1 or text != text.strip():
        raise OptionError(option, text, "has line breaks or blanks around it; give one line")
    return text


def parse_image(value: Any, option: str) -> str:
    from .._image.reference import parse as parse_reference

    return str(parse_reference(parse_word(value, option), option))


def parse_capability(value: Any, option: str) -> str:
    from .._kernel.caps import NUMBERS

    text = parse_word(value, option).upper()
    name = text if text == "ALL" or text.startswith("CAP_") else f"CAP_{text}"
    if name != "ALL" and name not in NUMBERS:
        raise OptionError(option, value, "is not a capability; capabilities(7) lists them, for example NET_ADMIN")
    return name


def parse_cpuset(value: Any, option: str) -> str:
    """A list of numbers as in cpuset(7), "0-2,5"; the canonical form joins neighbours."""
    if isinstance(value, bool):
        raise OptionError(option, value, "is a boolean, not a list such as '0-2,4'")
    text = str(value).strip()
    if text == "":
        return ""
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        raise OptionError(option, value, "is not a list of numbers such as '0-2,4'")
    numbers: set[int] = set()
    for part in text.split(","):
        first, dummy, last = part.partition("-")
        low, high = int(first), int(last or first)
        if high < low or high >= 8192:
            raise OptionError(option, value, f"has the range {part}, which is not one")
        numbers.update(range(low, high + 1))
    return format_cpuset(numbers)


def format_cpuset(numbers: set[int]) -> str:
    """Numbers as the kernel prints them: neighbours as a range."""
    parts: list[str] = []
    ordered = sorted(numbers)
    while ordered:
        first = last = ordered.pop(0)
        while ordered and ordered[0] == last + 1:
            last = ordered.pop(0)
        parts.append(str(first) if first == last else f"{first}-{last}")
    return ",".join(parts)


def parse_ulimit(value: Any, option: str) -> str:
    """``nofile:1024`` or ``nofile:1024:2048`` (soft, hard), -1 or unlimited; canonical is name:soft:hard."""
    import resource

    text = parse_word(value, option).replace("=", ":").lower()
    name, dummy, limits = text.partition(":")
    parts = limits.split(":") if limits else []
    if not hasattr(resource, f"RLIMIT_{name.upper()}"):
        raise OptionError(option, value, f"names no limit of getrlimit(2): {name}", hint="for example nofile:1024:2048")
    values = [_ulimit_value(part) for part in parts]
    if len(values) not in (1, 2) or None in values:
        raise OptionError(option, value, "is not name:soft or name:soft:hard", hint="for example nofile:1024:2048")
    soft, hard = values[0], values[-1]
    if _beyond(soft, hard):
        raise OptionError(option, value, "has a soft limit above the hard one")
    return f"{name}:{soft}:{hard}"


def _ulimit_value(text: str) -> int | None:
    if text in ("-1", "unlimited"):
        return -1
    # What the kernel has no bits for is no number of it (RLIM_INFINITY, getrlimit(2)).
    return int(text) if text.isdecimal() and int(text) < 1 << 63 else None


def _beyond(soft: int | None, hard: int | None) -> bool:
    return hard != -1 and hard is not None and soft is not None and (soft == -1 or soft > hard)


def parse_ulimits(value: Any, option: str) -> list[str]:
    limits: list[str] = listing(parse_ulimit, ordered=False)(value, option)
    names = [limit.split(":")[0] for limit in limits]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(option, value, f"names {name} twice")
    return limits


def parse_volume(value: Any, option: str) -> str:
    """``SOURCE:TARGET[:MODE]``; SOURCE is a volume's name or an absolute path. Canonical is source:target:mode,…"""
    text = parse_word(value, option)
    parts = text.split(":")
    if len(parts) not in (2, 3):
        raise OptionError(
            option, text, "is not SOURCE:TARGET or SOURCE:TARGET:MODE", hint="for example data:/var/lib/data:ro"
        )
    source = parse_path(parts[0], option) if parts[0].startswith("/") else parse_name(parts[0], option)
    target = parse_path(parts[1], option)
    if target == "/":
        raise OptionError(option, text, "mounts over the root; the image is there")
    words = [word for word in (parts[2] if len(parts) == 3 else "rw").split(",") if word]
    known = {"ro", "rw", "noexec", "nosuid", "nodev", *_PROPAGATION, *RELABEL}
    for word in words:
        if word not in known:
            raise OptionError(option, text, f"has the mode {word}; use {', '.join(sorted(known))}")
    _refuse_contradiction(words, (("ro", "rw"), _PROPAGATION, RELABEL), text, option)
    if relabel_word(words) and source in NEVER_RELABELLED:
        problem = f"would give all files below {source} a label for containers, and programs of the host lose them"
        raise OptionError(option, text, problem, hint=f"leave the {relabel_word(words)} out")
    access = "ro" if "ro" in words else "rw"
    return ":".join((source, target, ",".join([access, *sorted(set(words) - {"ro", "rw"})])))


# SELinux labels for what all containers share, and for what is one's own (docker's words). No mount option.
RELABEL = ("z", "Z")
# As docker and podman have it (go-selinux, "exclude_paths").
_TOPS = (
    "bin",
    "boot",
    "dev",
    "etc",
    "home",
    "lib",
    "lib64",
    "media",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "sbin",
    "srv",
)
_MORE = (
    "sys",
    "tmp",
    "usr",
    "usr/local",
    "var",
    "var/lib",
    "var/log",
    "var/run",
    "etc/passwd",
    "etc/pki",
    "etc/shadow",
)
NEVER_RELABELLED = frozenset(("/", *(f"/{path}" for path in (*_TOPS, *_MORE))))
_PROPAGATION = ("private", "rprivate", "slave", "rslave", "shared", "rshared")


def _refuse_contradiction(words: list[str], choices: Iterable[tuple[str, ...]], text: str, option: str) -> None:
    """Of a choice one word may stand in a mode, and once: whoever wrote two meant one of them."""
    for words_of_one in choices:
        found = [word for word in words if word in words_of_one]
        if len(set(found)) > 1:
            raise OptionError(option, text, f"says both {found[0]} and {found[1]}; give one")
    for word in words:
        if words.count(word) > 1:
            raise OptionError(option, text, f"says {word} twice; once is enough")


def volume_parts(volume: str) -> tuple[str, str, list[str]]:
    """(source, target, mode words) of a canonical volume."""
    source, target, mode = volume.split(":")
    return source, target, mode.split(",")


def relabel_word(words: Iterable[str]) -> str:
    """z, Z, or empty."""
    return next((word for word in words if word in RELABEL), "")


def mount_words(words: Iterable[str]) -> list[str]:
    """Those that mount(8) knows."""
    return [word for word in words if word not in RELABEL]


def parse_security_opt(value: Any, option: str) -> str:
    """``label=…`` or ``apparmor=…``, as docker and podman have them; canonical with = after the kind."""
    text = parse_word(value, option)
    kind, separator, rest = text.partition("=" if "=" in text.partition(":")[0] else ":")
    if not rest or not separator or kind not in ("label", "apparmor"):
        hint = "use label=disable, label=type:T, label=level:L, label=user:U, label=role:R, apparmor=PROFILE"
        raise OptionError(option, text, "is no security option", hint=hint)
    if kind == "label" and rest != "disable":
        part, dummy, word = rest.partition(":")
        pattern = _LABEL_PARTS.get(part)
        if pattern is None:
            raise OptionError(option, text, f"sets {part}; a label has {', '.join(_LABEL_PARTS)}, or disable")
        if not re.fullmatch(pattern, word):
            raise OptionError(option, text, f"has no {part} that SELinux could have: {word!r}")
    return f"{kind}={rest}"


_LABEL_WORD = r"[A-Za-z0-9_.-]+"
_LABEL_PARTS = {
    **dict.fromkeys(("user", "role", "type", "filetype"), _LABEL_WORD),
    "level": r"s\d+(-s\d+)?(:c\d+([.,]c\d+)*)?",
}


def parse_security_opts(value: Any, option: str) -> list[str]:
    entries: list[str] = listing(parse_security_opt, ordered=False)(value, option)
    kinds = [entry.partition(":")[0] if entry.startswith("label=") else "apparmor" for entry in entries]
    for kind, count in Counter(kinds).items():
        if count > 1:
            raise OptionError(option, value, f"has {kind} twice; give one")
    if "label=disable" in kinds and len([kind for kind in kinds if kind.startswith("label=")]) > 1:
        raise OptionError(option, value, "sets a part of the label and disables it; give one of both")
    return entries


def parse_volumes(value: Any, option: str) -> list[str]:
    volumes = listing(parse_volume)(value, option)
    _refuse_same_place([volume_parts(volume)[1] for volume in volumes], value, option)
    return sorted(volumes, key=lambda volume: volume_parts(volume)[1])


def _refuse_same_place(targets: list[str], value: Any, option: str) -> None:
    for index, target in enumerate(targets):
        if target in targets[:index]:
            raise OptionError(
                f"{option}[{index}]", value[index], f"is at {target}, as another one is; give one of both"
            )


def parse_tmpfs(value: Any, option: str) -> str:
    """``PATH[:OPTIONS]`` with the options of tmpfs(5)."""
    path, dummy, options = parse_word(value, option).partition(":")
    words = sorted(word for word in options.split(",") if word)
    for word in words:
        key, dummy, text = word.partition("=")
        if key == "size":
            parse_size(text, f"{option} size")
        elif key == "mode":
            parse_mode(text, f"{option} mode")
        elif key in ("uid", "gid", "nr_inodes"):
            integer(0, 2**32 - 2)(text, f"{option} {key}")
        elif not any(word in choice for choice in _TMPFS_CHOICES):
            raise OptionError(option, value, f"has the option {word}; use size, mode, uid, gid, nr_inodes, ro, noexec")
    _refuse_contradiction([word.partition("=")[0] for word in words], _TMPFS_CHOICES, str(value), option)
    path = parse_path(path, option)
    if path in ("/", "/proc", "/sys"):
        raise OptionError(option, value, f"hides {path}, which the container needs")
    return ":".join([path, *([",".join(words)] if words else [])])


_TMPFS_CHOICES = (("ro", "rw"), ("noexec", "exec"), ("nosuid", "suid"), ("nodev", "dev"))


def tmpfs_target(entry: str) -> str:
    """PATH of a canonical ``PATH[:OPTIONS]``."""
    return entry.partition(":")[0]


def parse_tmpfs_list(value: Any, option: str) -> list[str]:
    entries = listing(parse_tmpfs)(value, option)
    _refuse_same_place([tmpfs_target(entry) for entry in entries], value, option)
    return sorted(entries)


def parse_device(value: Any, option: str) -> str:
    """``/dev/HOST[:/dev/INSIDE[:rwm]]``."""
    parts = parse_word(value, option).split(":")
    if len(parts) > 3:
        raise OptionError(option, value, "is not PATH[:PATH[:rwm]]")
    host = parse_path(parts[0], option)
    inside = parse_path(parts[1], option) if len(parts) > 1 else host
    access = parts[2] if len(parts) == 3 else "rwm"
    if not access or set(access) - set("rwm") or len(set(access)) != len(access):
        raise OptionError(option, value, f"has the access {access}; use letters of rwm, each once")
    if inside == "/":
        raise OptionError(option, value, "would be made in place of the root; name a path such as /dev/x")
    return f"{host}:{inside}:{''.join(letter for letter in 'rwm' if letter in access)}"


def parse_devices(value: Any, option: str) -> list[str]:
    devices = listing(parse_device)(value, option)
    _refuse_same_place([device.split(":")[1] for device in devices], value, option)
    return sorted(devices)


def parse_address(value: Any, option: str) -> str:
    text = parse_word(value, option)
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise OptionError(option, text, "is not an IP address") from None


def parse_hosts(value: Any, option: str) -> dict[str, str]:
    """A mapping name: address, or a list of ``name:address``."""
    if isinstance(value, list):
        pairs = [parse_word(item, f"{option}[{index}]").partition(":") for index, item in enumerate(value)]
        for name, count in Counter(name for name, dummy, dummies in pairs).items():
            if count > 1:
                raise OptionError(option, value, f"names {name} twice; a name has one address here")
        value = {name: address for name, dummy, address in pairs}
    return {
        parse_host(name, option): parse_address(address, f"{option}.{name}") for name, address in _items(value, option)
    }


def _items(value: Any, option: str) -> list[tuple[Any, Any]]:
    if not isinstance(value, dict):
        raise OptionError(option, value, "is not a mapping; write name: value")
    return sorted(value.items(), key=str)


def parse_host(value: Any, option: str) -> str:
    """A host name (RFC 1123): labels of letters, digits and hyphens, 63 bytes each, 253 in all."""
    text = parse_word(value, option)
    label = r"[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?"
    if len(text) > 253 or not re.fullmatch(rf"{label}(\.{label})*", text):
        raise OptionError(option, text, "is not a host name; use letters, digits, - and dots")
    return text


def parse_alias(value: Any, option: str) -> str:
    """A host name that no hosts file has for something else."""
    text = parse_host(value, option)
    if text.lower() in RESERVED:
        raise OptionError(option, text, "stands for something else in every hosts file; choose another alias")
    if text.replace(".", "").isdecimal():
        raise OptionError(option, text, "is read as an address, not as a name; choose another alias")
    return text


def parse_hostname(value: Any, option: str) -> str:
    text = parse_host(value, option)
    # __NEW_UTS_LEN, uname(2)
    if len(text) > 64:
        raise OptionError(option, text, "is too long; the kernel keeps 64 bytes")
    return text


def parse_env(value: Any, option: str) -> dict[str, str]:
    """A mapping name: value; numbers and booleans must be quoted, so that what runs sees what was written."""
    result = {}
    for key, text in _items(value, option):
        name = parse_word(key, option)
        if "=" in name:
            raise OptionError(option, name, "holds =; it parts a name from its value")
        where = f"{option}.{name}"
        if isinstance(text, float):
            raise OptionError(where, text, "is a number that YAML may have rounded", hint="put the value in quotes")
        result[name] = "" if text is None else parse_str(text, where)
    return result


def parse_sysctl_key(value: Any, option: str) -> str:
    name = parse_word(value, option).replace("/", ".")
    allowed = name.startswith(("net.", "fs.mqueue.", "kernel.msg", "kernel.sem", "kernel.shm")) and ".." not in name
    if not allowed:
        raise OptionError(
            option, name, "belongs to the host; a container has net.*, fs.mqueue.*, kernel.msg*, sem and shm*"
        )
    return name


def parse_ports(value: Any, option: str) -> list[str]:
    """Published ports in docker's forms; canonical as HOST_IP:HOST_PORT:PORT/PROTOCOL, ranges taken apart."""
    items = value if isinstance(value, list) else [value]
    ports = []
    for index, item in enumerate(items):
        where = f"{option}[{index}]"
        if isinstance(item, (int, float)):
            raise OptionError(
                where, item, "is a number, and YAML reads 22:22 as 1342", hint="put ports in quotes, as in '8080:80'"
            )
        ports += model.parse_port(parse_word(item, where), where)
    texts = [str(port) for port in ports]
    for text, count in Counter(texts).items():
        if count > 1:
            raise OptionError(option, text, "stands in the list twice")
    known: dict[tuple[str, int], list[model.Port]] = {}
    for port in ports:
        for other in known.setdefault(port.key, []):
            # One port of the container on two addresses of the host is docker's way to say IPv4 and IPv6.
            if port.overlaps(other) and port.container_port != other.container_port:
                raise OptionError(option, str(port), f"has the host port of {other}; choose another one")
        known[port.key].append(port)
    return sorted(texts)


def parse_user(value: Any, option: str) -> str:
    """``USER[:GROUP]``, each a name or a number."""
    text = parse_word(value, option)
    if not re.fullmatch(r"[^\s:]+(:[^\s:]+)?", text):
        raise OptionError(option, text, "is not USER or USER:GROUP")
    for part in text.split(":"):
        if part.isdecimal() and int(part) >= 2**32 - 1:
            raise OptionError(option, text, "is no user id; ids end at 4294967294")
    return text


def parse_test(value: Any, option: str) -> list[str]:
    """A health check: a string for the shell, a list CMD, CMD-SHELL or NONE as compose has it, or a bare command."""
    if isinstance(value, (list, tuple)):
        words = [parse_str(word, f"{option}[{index}]") for index, word in enumerate(value)]
        if words and words[0] in ("CMD", "CMD-SHELL", "NONE"):
            if words[0] != "NONE" and len(words) < 2:
                raise OptionError(option, value, "names no command")
            return words
        if not words:
            raise OptionError(option, value, "names no command")
        return ["CMD", *words]
    text = parse_word(value, option)
    return ["NONE"] if text == "NONE" else ["CMD-SHELL", text]


def parse_mac(value: Any, option: str) -> str:
    text = parse_word(value, option).lower().replace("-", ":")
    if not re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", text):
        raise OptionError(option, value, "is not a MAC address such as 02:42:0a:00:00:02", hint="put it in quotes")
    if text == "00:00:00:00:00:00":
        raise OptionError(option, value, "is no address; leave the option out for one that is free")
    if int(text[:2], 16) & 1:
        raise OptionError(option, value, "is a multicast address; make the first byte even")
    return text


def parse_ipv(version: int) -> Parser:
    def parse(value: Any, option: str) -> str:
        text = parse_address(value, option)
        if ipaddress.ip_address(text).version != version:
            raise OptionError(option, text, f"is not an IPv{version} address")
        return text

    return parse


HEALTHCHECK = (
    Option("test", parse_test, "raw", required=True),
    Option("interval", parse_duration, "str"),
    Option("timeout", parse_duration, "str"),
    Option("retries", integer(1), "int"),
    Option("start_period", parse_duration, "str"),
    Option("start_interval", parse_duration, "str"),
)
HEALTHCHECK_DEFAULTS = {"interval": 30.0, "timeout": 30.0, "retries": 3, "start_period": 0.0, "start_interval": 5.0}


def parse_healthcheck(value: Any, option: str) -> dict[str, Any] | None:
    """All keys filled in; None when the test is NONE."""
    check = group(*HEALTHCHECK)(value, option)
    for key in ("interval", "timeout", "start_interval"):
        if key in check and check[key] < 0.001:
            raise OptionError(f"{option}.{key}", value[key], "is too short; use 1ms or more")
    return {} if check["test"] == ["NONE"] else {**HEALTHCHECK_DEFAULTS, **check}


def parse_own_healthcheck(value: Any, option: str) -> dict[str, Any] | None:
    """An empty test takes the setting back: the image decides."""
    emptied = isinstance(value, dict) and value.get("test") == ""
    return None if emptied else parse_healthcheck(value, option)


NETWORK = (
    Option("name", parse_name, required=True),
    Option("ipv4_address", parse_ipv(4)),
    Option("ipv6_address", parse_ipv(6)),
    Option("aliases", listing(parse_alias, unique=True, ordered=False), "list", elements="str"),
    Option("mac_address", parse_mac),
)


def parse_networks(value: Any, option: str) -> list[dict[str, Any]]:
    networks: list[dict[str, Any]] = listing(group(*NETWORK))(value, option)
    check_each_once(networks, "name", option)
    return [{**network, "aliases": network.get("aliases", [])} for network in networks]


SECRET = (
    Option("name", parse_name, required=True),
    Option("content", parse_str, required=True, secret=True),
    Option("uid", integer(0, 2**32 - 2), "int"),
    Option("gid", integer(0, 2**32 - 2), "int"),
    Option("mode", parse_mode),
)


def parse_secrets(value: Any, option: str) -> list[dict[str, Any]]:
    """Each with owner and mode filled in; the content is replaced by its digest before anything is stored."""
    secrets: list[dict[str, Any]] = listing(group(*SECRET))(value, option)
    names = [secret["name"] for secret in secrets]
    if len(set(names)) != len(names):
        raise OptionError(option, names, "names a secret twice")
    filled = [{"uid": 0, "gid": 0, "mode": 0o400, **secret} for secret in secrets]
    return sorted(filled, key=lambda secret: str(secret["name"]))


def parse_log_options(value: Any, option: str) -> dict[str, Any]:
    known = (
        Option("max_size", size(4096), aliases=("max-size",)),
        Option("max_file", integer(1, 100), aliases=("max-file",)),
    )
    return parse_options(known, dict(_items(value, option)), option)


def _rates(name: str) -> Option:
    options = limits.BYTES if name.endswith("_bps") else limits.OPERATIONS
    return Option(
        name, limits.parse_rates(*options), "list", elements="dict", options=options, default=[], cost=Cost.live
    )


live, signalled, restart, recreate = Cost.live, Cost.signal, Cost.restart, Cost.recreate
_list, _set = Compare.strict, Compare.set

OPTIONS: tuple[Option, ...] = (
    Option("image", parse_image, cost=recreate),
    Option("command", or_none(parse_command), "raw", cost=restart),
    Option("entrypoint", parse_entrypoint, "list", elements="str", cost=restart),
    Option("env", parse_env, "dict", default={}, cost=restart),
    Option("user", or_none(parse_user), cost=restart),
    Option("groups", listing(parse_word, ordered=False), "list", elements="str", default=[], cost=restart),
    Option("working_dir", or_none(parse_path), "path", cost=restart),
    Option("hostname", or_none(parse_hostname), cost=live),
    Option("domainname", or_none(parse_hostname), cost=live),
    Option("labels", mapping(parse_str), "dict", default={}, cost=live),
    Option("networks", parse_networks, "list", elements="dict", options=NETWORK, default=None, cost=live),
    Option("network_mode", or_none(container_or("host", "none")), cost=restart),
    Option("published_ports", parse_ports, "list", elements="str", default=[], cost=live),
    Option("dns_servers", listing(parse_address), "list", elements="str", default=[], cost=live),
    Option("dns_search_domains", listing(parse_host), "list", elements="str", default=[], cost=live),
    Option("dns_opts", listing(parse_line), "list", elements="str", default=[], cost=live),
    Option("etc_hosts", parse_hosts, "dict", default={}, cost=live),
    Option("volumes", parse_volumes, "list", elements="str", default=[], cost=live),
    Option("tmpfs", parse_tmpfs_list, "list", elements="str", default=[], cost=restart),
    Option("shm_size", size(4096), default=64 << 20, cost=live),
    flag("read_only", cost=restart),
    Option("memory", unlimited(size(also=(-1,))), default=0, cost=live),
    Option("memory_reservation", size(), default=0, cost=live),
    Option("memory_swap", unlimited(size(also=(-1,))), default=0, cost=live),
    Option("memory_high", unlimited(size(also=(-1,))), default=0, cost=live),
    Option("memory_min", size(), default=0, cost=live),
    flag("oom_group", cost=live),
    Option("hugepage_limits", limits.parse_hugepages, "dict", default={}, cost=live),
    Option("cpus", number(), "float", default=0.0, cost=live),
    Option("cpu_shares", integer(2, 262144, also=(0,)), "int", default=0, cost=live),
    Option("cpuset_cpus", parse_cpuset, default="", cost=live),
    Option("cpuset_mems", parse_cpuset, default="", cost=live),
    Option("pids_limit", unlimited(integer(1, PIDS_MAX, also=(-1, 0))), "int", default=0, cost=live),
    Option("blkio_weight", integer(10, 1000, also=(0,)), "int", default=0, cost=live),
    *(_rates(name) for name in limits.RATES),
    Option("oom_score_adj", integer(-1000, 1000), "int", default=0, cost=live),
    Option("ulimits", parse_ulimits, "list", elements="str", default=[], cost=live),
    Option("sysctls", mapping(parse_line, parse_sysctl_key), "dict", default={}, cost=live),
    Option("devices", parse_devices, "list", elements="str", default=[], cost=restart),
    Option("capabilities", listing(parse_capability, ordered=False), "list", elements="str", default=[], cost=restart),
    Option("cap_drop", listing(parse_capability, ordered=False), "list", elements="str", default=[], cost=restart),
    flag("privileged", cost=restart),
    Option("security_opts", parse_security_opts, "list", elements="str", default=[], cost=restart),
    Option("pid_mode", container_or("host", "private"), default="private", cost=restart),
    Option("ipc_mode", container_or("host", "private", "shareable"), default="private", cost=restart),
    Option("uts", choice("host", "private"), choices=("host", "private"), default="private", cost=restart),
    Option("cgroupns_mode", choice("host", "private"), choices=("host", "private"), default="private", cost=restart),
    Option(
        "restart_policy",
        choice("no", "on-failure", "always", "unless-stopped"),
        choices=("no", "on-failure", "always", "unless-stopped"),
        default="no",
        cost=live,
    ),
    Option("restart_retries", integer(0), "int", default=0, cost=live),
    Option("healthcheck", parse_own_healthcheck, "dict", options=HEALTHCHECK, default=None, cost=live),
    Option("stop_signal", or_none(parse_signal), default=None, cost=live),
    Option("stop_timeout", parse_duration, "str", default=10.0, cost=live),
    Option("update_order", choice(*UPDATE_ORDERS), choices=UPDATE_ORDERS, default=UPDATE_ORDERS[0], cost=live),
    Option("drain_timeout", parse_duration, "str", default=10.0, cost=live),
    flag("init", cost=restart),
    Option("secrets", parse_secrets, "list", elements="dict", options=SECRET, default=[], cost=live),
    Option(
        "log_driver",
        choice("file", "journald", "none"),
        choices=("file", "journald", "none"),
        default="file",
        cost=restart,
    ),
    Option("log_options", parse_log_options, "dict", default={}, cost=live),
)
BY_NAME = {option.name: option for option in OPTIONS}

PULL = ("missing", "always", "never")
# What a task says of the container that is no part of what the container is.
DIRECTIVES: tuple[Option, ...] = (
    Option("name", parse_name, required=True),
    Option("state", choice(*STATES), choices=STATES, default="started", shown_default="started"),
    Option("paused", BY_NAME["read_only"].parse, "bool"),
    Option("restart", BY_NAME["read_only"].parse, "bool", default=False, shown_default=False),
    Option("recreate", BY_NAME["read_only"].parse, "bool", default=False, shown_default=False),
    Option(
        "max_disruption",
        choice(*(cost.name for cost in Cost)),
        choices=tuple(cost.name for cost in Cost),
        default="recreate",
        shown_default="recreate",
    ),
    Option("healthy_wait_timeout", parse_duration, default=300.0),
    Option("pull", choice(*PULL), choices=PULL, default="missing", shown_default="missing"),
)


def defaults() -> dict[str, Any]:
    """A whole declaration with nothing declared."""
    return {option.name: option.default for option in OPTIONS}


def revived(old: Mapping[str, Any]) -> dict[str, Any]:
    """What was stored, as a whole declaration of the same container: of the same image, whoever has its name now."""
    known = {*defaults(), "image_id"}
    return {**defaults(), **{key: value for key, value in old.items() if key in known}}


def shown(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The options that say something, for a diff; of secrets their names."""
    base = defaults()
    visible = {key: value for key, value in spec.items() if key in base and value != base[key]}
    if visible.get("secrets"):
        visible["secrets"] = [secret["name"] for secret in visible["secrets"]]
    return visible
