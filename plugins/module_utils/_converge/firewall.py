# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The installation's nftables table, rendered from all that is declared and read back from the kernel.

The kernel prints rules in words of its own, so two digests are kept of the last write: of what we asked for, and of
what the kernel then showed. The first says that the declaration changed, the second that somebody else was there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any, Optional

from .._errors import DependencyError
from .._kernel.file import write_atomic
from .._network import conntrack, nft_compare, nftables
from .._network.bridge import Difference
from .._network.dump import Reader
from .._network.model import Endpoint, Network, Port
from .._network.nftables import Target
from .._paths import Paths
from . import store
from .network_options import to_model
from .plan import Plan, Step


def networks(paths: Paths) -> dict[str, Network]:
    """Every declared network."""
    found = {}
    for name in store.names(paths, "networks"):
        spec = store.read_spec(paths, "networks", name)
        if spec is not None:
            found[name] = to_model(paths, name, spec)
    return found


def endpoint_files(paths: Paths) -> Iterator[tuple[str, dict[str, Any]]]:
    """(container, what the container's converger wrote of its attachments)."""
    directory = f"{paths.run}/endpoints"
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return
    for name in names:
        if not name.endswith(".json"):
            continue
        try:
            with open(f"{directory}/{name}", encoding="utf-8") as file:
                yield name[: -len(".json")], json.load(file)
        except (FileNotFoundError, ValueError):
            continue  # it went while we read, or it is to be written anew


def endpoints(paths: Paths, network: str = "") -> list[Endpoint]:
    """All attachments, or those to one network."""
    found = [
        Endpoint(**{**body, "aliases": tuple(body.get("aliases", ()))})
        for entry in dict(endpoint_files(paths)).values()
        for body in entry.get("endpoints", [])
    ]
    return [endpoint for endpoint in found if network in ("", endpoint.network)]


def targets(paths: Paths) -> list[Target]:
    """Where each published port of a running container leads."""
    found = []
    for entry in dict(endpoint_files(paths)).values():
        if not entry.get("running"):
            continue
        ports = [Port(**body) for body in entry.get("ports", [])]
        addresses = _addresses(entry.get("endpoints", []))
        found += [Target(port, address) for port in ports if port.host_port for address in addresses]
    return found


def elsewhere(paths: Paths) -> list[tuple[str, Port]]:
    """(whose it is, port) of what other installations of this host publish. No socket listens for a published port, so
    nothing but their tables tells of it."""
    found = []
    for table in nftables.tables():
        if table != paths.nft_table and f"{table}-".startswith(f"{Paths().nft_table}-"):
            objects = nftables.read(table)
            whose = nft_compare.owner(objects) or f"the installation of the table {table}"
            found += [(whose, target.port) for target in nft_compare.targets(objects)]
    return found


def _addresses(bodies: Iterable[dict[str, Any]]) -> list[str]:
    """The first address of each family: the first network is the one that has the default route."""
    found = []
    for key in ("ipv4", "ipv6"):
        values = [body[key].partition("/")[0] for body in bodies if body.get(key)]
        found += values[:1]
    return found


def render(paths: Paths, known: Optional[dict[str, Network]] = None) -> list[dict[str, Any]]:
    """The commands for the whole installation; empty when it declares nothing that needs a rule."""
    known = networks(paths) if known is None else known
    declared = [known[name] for name in sorted(known)]
    wanted = targets(paths)
    owner = f"the installation at {paths.root}" if paths.root else "the installation of this host"
    return nftables.render(paths.nft_table, declared, wanted, owner=owner) if declared or wanted else []


def differences(paths: Paths) -> list[Difference]:
    """What of the table is not as declared."""
    wanted = render(paths)
    return _compare(wanted, _present(paths, needed=bool(wanted)), _last(paths))


def _present(paths: Paths, *, needed: bool) -> list[Any]:
    """The table as it is. Who declares no network does not miss the program nft."""
    try:
        return nftables.read(paths.nft_table)
    except DependencyError:
        if needed:
            raise
        return []


def _compare(wanted: list[Any], present: list[Any], last: dict[str, Any]) -> list[Difference]:
    stale = _stale(wanted, present, last)
    if not stale:
        return []
    if not wanted or not present:
        return [Difference("table", *(("present", "absent") if present else ("absent", "present")))]
    return nft_compare.differences(wanted, present) or [Difference("rules", stale, "as declared")]


def _stale(wanted: list[Any], present: list[Any], last: dict[str, Any]) -> str:
    """Why the table is to be written, in a word; empty when it is as declared. That something differs the digests say:
    another version of nft may tell the same rules in other words."""
    if not wanted or not present:
        return "there" if present else "absent" if wanted else ""
    if last.get("asked") != nftables.digest(wanted):
        return "of an older declaration"
    return "changed by hand" if last.get("shown") != nftables.digest(present) else ""


def sync(paths: Paths) -> bool:
    """Make the table as declared, in one transaction; True when something was to do."""
    with store.lock(paths, "firewall", "table"):
        wanted = render(paths)
        present = _present(paths, needed=bool(wanted))
        if not _stale(wanted, present, _last(paths)):
            return False
        if wanted:
            nftables.apply(wanted)
            shown = nftables.digest(nftables.read(paths.nft_table))
            body = {"asked": nftables.digest(wanted), "shown": shown}
            os.makedirs(paths.run, 0o700, exist_ok=True)
            write_atomic(_file(paths), json.dumps(body).encode(), mode=0o600, durable=False)
        else:
            nftables.delete(paths.nft_table)
            _forget(paths)
        _let_go(present, targets(paths))
        return True


def _let_go(present: list[Any], wanted: list[Target]) -> None:
    """Flows of a port that led elsewhere until now. Only once the rules are others would they not come back."""
    before = nft_compare.targets(present)
    if conntrack.changed(before, wanted):
        with Reader() as reader:
            local = {address.partition("/")[0] for found in reader.addresses().values() for address in found}
        conntrack.let_go(before, wanted, local)


def plan(paths: Paths, *, planned: Optional[dict[str, Network]] = None, changed: bool = False) -> Plan:
    """One step when the table is not as declared, or will not be once the steps before it are done.

    ``planned`` are the networks as they will be then; ``changed`` says that ports or attachments will be others.
    """
    wanted, last = render(paths), _last(paths)
    present = _present(paths, needed=bool(wanted or planned or changed))
    drift = _compare(wanted, present, last)
    coming = _compare(render(paths, planned), present, last) if planned is not None else []
    if not (drift or changed or coming):
        return Plan()
    found = drift or coming
    before, after = ({item.what: getattr(item, side) for item in found} or None for side in ("before", "after"))
    action = f"{'mend' if drift else 'update'}{_named(found)}"
    return Plan([Step(f"firewall {paths.nft_table}", action, lambda: sync(paths), before=before, after=after)])


def _named(found: list[Difference]) -> str:
    """The first of what differs; the diff has all."""
    names = [item.what for item in found if item.what != "table"]
    more = [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return "".join(f" {text}" for text in [", ".join(names[:_NAMED]), *more] if text)


_NAMED = 4


def _file(paths: Paths) -> str:
    return f"{paths.run}/firewall.json"


def _last(paths: Paths) -> dict[str, Any]:
    try:
        with open(_file(paths), encoding="utf-8") as file:
            body = json.load(file)
            return body if isinstance(body, dict) else {}
    except (FileNotFoundError, ValueError):
        return {}


def _forget(paths: Paths) -> None:
    try:
        os.unlink(_file(paths))
    except FileNotFoundError:
        pass
