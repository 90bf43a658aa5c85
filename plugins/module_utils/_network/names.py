# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names without a name server: the files hosts and resolv.conf of a container, kept up to date while it runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from .model import Endpoint, Name

# hosts(5) of a Debian system, which is what libc falls back on.
_LOCAL = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::\tip6-localnet\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)
# What stands there for something else already, on other systems' too.
RESERVED = frozenset(name for line in _LOCAL.splitlines() for name in line.split()[1:]) | {"localhost.localdomain"}
_RESOLVED = "/run/systemd/resolve/resolv.conf"


def network_lines(endpoints: Iterable[Endpoint], elsewhere: Iterable[Name] = ()) -> str:
    """Everybody on a network: computed once, and part of the file of each container on it. Who shares an alias stands
    there in the order given; a program gets all of them in this order, or the first alone (nothing takes turns).

    ``elsewhere`` is what is on the network and no container of this host. All hosts may be given the same names, those
    of a host's own containers among them: where such a container is, and that it is here, the host itself knows best.
    Another name for the address of one that is here is kept, as it is on the other hosts.
    """
    lines: list[str] = []
    own: set[str] = set()
    here: set[tuple[str, str]] = set()
    for endpoint in endpoints:
        names = dict.fromkeys([endpoint.container, *endpoint.aliases])
        addresses = [address.partition("/")[0] for address in endpoint.addresses()]
        lines += [f"{address}\t{' '.join(names)}\n" for address in addresses]
        own.add(endpoint.container.lower())
        here.update((address, name.lower()) for address in addresses for name in names)
    for name in elsewhere:
        called = name.name.lower()
        if called not in own:
            lines += [f"{address}\t{name.name}\n" for address in name.addresses if (address, called) not in here]
    return "".join(lines)


def hosts(
    hostname: str, domainname: str, own: Sequence[Endpoint], networks: Sequence[str], extra: Mapping[str, str]
) -> str:
    """``networks`` are the network_lines of each network that the container is on."""
    full = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    mine = [f"{address.partition('/')[0]}\t{full}\n" for endpoint in own for address in endpoint.addresses()]
    mine = mine or [f"127.0.1.1\t{full}\n"]
    more = [f"{address}\t{name}\n" for name, address in extra.items()]
    return "".join([_LOCAL, *mine, *more, *networks])


def resolv_conf(servers: Sequence[str], search: Sequence[str], options: Sequence[str]) -> str:
    """What is declared, and what the host has for the rest. The host's loopback resolvers mean nothing inside."""
    kept = {"nameserver": list(servers), "search": list(search), "options": list(options)}
    for key, values in _host_resolver().items():
        kept[key] = kept[key] or values
    lines = [f"nameserver {server}\n" for server in kept["nameserver"]]
    return "".join(lines + [f"{key} {' '.join(kept[key])}\n" for key in ("search", "options") if kept[key]])


def _host_resolver() -> dict[str, list[str]]:
    """The host's own file. Where it names but a stub on loopback, the file that systemd-resolved writes for others."""
    found = _parse(_read("/etc/resolv.conf"))
    return found if found["nameserver"] else _parse(_read(_RESOLVED) or _read("/etc/resolv.conf"))


def _parse(text: str) -> dict[str, list[str]]:
    kept: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    for line in text.splitlines():
        key, *values = line.split() or [""]
        if key == "nameserver" and values and not _loopback(values[0]):
            kept[key].append(values[0])
        elif key in ("search", "options"):
            kept[key] = values  # the last one counts (resolv.conf(5))
    return kept


def _loopback(server: str) -> bool:
    return server.startswith("127.") or server == "::1"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def write_in_place(path: str, content: str) -> bool:
    """Replace the content and keep the inode, for a bind mount shows it. True when something was written.

    A reader sees the old, the new or a mix, but never an empty file.
    """
    data = content.encode()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if os.fstat(fd).st_size == len(data) and os.pread(fd, len(data) + 1, 0) == data:
            return False
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
        return True
    finally:
        os.close(fd)
