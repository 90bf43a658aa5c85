# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of containers on a network, and which of them can't be.

Names are lines of a hosts file, and what such a file can do is less than a name server: a name that stands in it twice
leads to both addresses, in the order of the lines, which is that of the containers' names. glibc and musl hand a
program both, and it tries them in that order; nothing takes turns. That serves containers that share an alias, where
the second is asked when the first does not answer. It does not serve an alias that is another container's own name:
who asks for that container would get somebody else, so that is refused from either side.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..._errors import OptionError
from ..._network.names import RESERVED
from ..host import Host
from . import attach

Spec = Mapping[str, Any]


class Index:
    """Who is called what on each network. A hosts file does not tell large letters from small ones."""

    def __init__(self, places: Iterable[tuple[str, str, Iterable[str]]]) -> None:
        """``places`` are (network, container, its aliases there)."""
        self._names: dict[tuple[str, str], str] = {}
        self._aliases: dict[tuple[str, str], list[str]] = {}
        for network, container, aliases in places:
            self._names[network, container.lower()] = container
            for alias in aliases:
                self._aliases.setdefault((network, alias.lower()), []).append(container)

    def check(self, name: str, spec: Spec, *, path: str = "", but: Collection[str] = ()) -> None:
        """Raise OptionError, its option below ``path``, when a name is another's; those in ``but`` do not count."""
        for number, entry in enumerate(attach.network_names(spec)):
            network = entry["name"]
            for alias in entry["aliases"]:
                owner = self._names.get((network, alias.lower()), name)
                if owner != name and owner not in but:
                    problem = f"is the name of the container {owner} on the network {network}; choose another alias"
                    raise OptionError(f"{path}networks[{number}].aliases", alias, problem)
            for owner in self._aliases.get((network, name.lower()), ()):
                if owner != name and owner not in but:
                    problem = f"is an alias of the container {owner} on the network {network}; take it off there first"
                    raise OptionError(f"{path}name", name, problem)


def check(host: Host, name: str, spec: Spec) -> None:
    """Raise OptionError when a name is another container's on a network of this host. Those that are declared with it
    are looked at together (together.py): what they are called now may be about to change."""
    if name.lower() in RESERVED and attach.network_names(spec):
        raise OptionError("name", name, "stands for something else in every hosts file; choose another one")
    host.once("aliases", lambda: _index(host)).check(name, spec, but=host.coming_containers)


def _index(host: Host) -> Index:
    return Index(
        (endpoint.network, endpoint.container, endpoint.aliases)
        for attachment in host.attachments.values()
        for endpoint in attachment.endpoints
    )
