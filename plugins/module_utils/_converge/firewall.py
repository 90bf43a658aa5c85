# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The installation's nftables tables, rendered from all that is declared and read back from the kernel: one for what
is routed, and one for what passes between the containers of a network where a network says who may talk to whom.

The kernel prints rules in words of its own, so two digests are kept of the last write: of what we asked for, and of
what the kernel then showed. The first says that the declaration changed, the second that somebody else was there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any, Optional

from .._errors import DependencyError, VesselError
from .._kernel.file import write_atomic
from .._network import conntrack, nft_compare, nft_replace, nftables, policy
from .._network.bridge import Difference
from .._network.dump import Reader
from .._network.model import Endpoint, Network, Port
from .._network.nftables import Target
from .._network.policy import Member
from .._options.network import to_model
from .._paths import Paths, container_of
from . import store
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
    """(container, what the container's converger wrote of its attachments); ``other`` of it where its name stands for
    another instance than that one."""
    directory = os.path.dirname(paths.endpoints("x"))
    try:
        files = sorted(os.listdir(directory))
    except FileNotFoundError:
        return
    for file in files:
        instance, dummy, kind = file.rpartition(".")
        if kind != "json":
            continue
        name = container_of(instance)
        try:
            with open(f"{directory}/{file}", encoding="utf-8") as stream:
                yield name if paths.instance(name) == instance else other(name), json.load(stream)
        except (FileNotFoundError, ValueError):
            continue  # it went while we read, or it is to be written anew


def other(name: str) -> str:
    """What stands for the other instance of a container, among the names of those that count."""
    return f"+{name}"


def is_other(key: str) -> bool:
    return key.startswith("+")


def seen(paths: Paths, key: str) -> tuple[Paths, str]:
    """(where its container's name stands for the instance that the key stands for, that name)."""
    if not is_other(key):
        return paths, key
    return paths.seen_with(paths.other_instance(key[1:])), key[1:]


def endpoints(paths: Paths, network: str = "") -> list[Endpoint]:
    """All attachments, or those to one network."""
    found = [endpoint for dummy, entry in endpoint_files(paths) for endpoint in _endpoints(entry)]
    return [endpoint for endpoint in found if network in ("", endpoint.network)]


def _endpoints(entry: dict[str, Any]) -> Iterator[Endpoint]:
    for body in entry.get("endpoints", []):
        yield Endpoint(**{**body, "aliases": tuple(body.get("aliases", ()))})


def targets(paths: Paths) -> list[Target]:
    """Where each published port of a running container leads."""
    found = []
    for key, entry in endpoint_files(paths):
        if is_other(key) or not entry.get("running"):
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
    if not (declared or wanted):
        return []
    owner = f"the installation at {paths.root}" if paths.root else "the installation of this host"
    rules = nftables.render(paths.nft_table, declared, wanted, owner=owner)
    return [*rules, *policy.render(paths.nft_table, declared, members(paths, declared))]


def members(paths: Paths, declared: Iterable[Network]) -> list[Member]:
    """The containers on networks that say who may talk to whom."""
    asking = {network.name for network in declared if network.allow is not None}
    found = []
    for key, entry in endpoint_files(paths) if asking else ():
        on = [endpoint for endpoint in _endpoints(entry) if endpoint.network in asking]
        spec = _spec(paths, key) if on else {}
        for endpoint in on:
            found.append(
                Member(
                    endpoint.network,
                    endpoint.peer,
                    endpoint.mac,
                    tuple(address.partition("/")[0] for address in endpoint.addresses()),
                    (endpoint.container, *endpoint.aliases),
                    spec.get("labels") or {},
                )
            )
    return found


def _spec(paths: Paths, key: str) -> dict[str, Any]:
    """What an attachment's container is declared as, or the other instance of it was made from."""
    if not is_other(key):
        return store.read_spec(paths, "containers", key) or {}
    its, name = seen(paths, key)
    try:
        with open(f"{its.bundle(name)}/applied.json", encoding="utf-8") as file:
            body = json.load(file)
            return body if isinstance(body, dict) else {}
    except (FileNotFoundError, ValueError):
        return {}


def differences(paths: Paths) -> list[Difference]:
    """What of the table is not as declared."""
    wanted, last = render(paths), _last(paths)
    return _compare(wanted, _present(paths, wanted, last, needed=bool(wanted)), last)


def _present(paths: Paths, wanted: list[Any], last: dict[str, Any], *, needed: bool) -> list[Any]:
    """The tables as they are. Who declares no network does not miss the program nft."""
    try:
        present = nftables.read(paths.nft_table)
        if policy.is_in(wanted) or last.get("policy"):
            present += nftables.read(paths.nft_table, policy.FAMILY)
        return present
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
        wanted, last = render(paths), _last(paths)
        present = _present(paths, wanted, last, needed=bool(wanted))
        if not _stale(wanted, present, last):
            return False
        if wanted:
            if policy.is_in(wanted) and not last.get("policy"):
                _note(paths, {**last, "policy": True})  # first, so that who is killed here leaves nothing unknown
            _replace(wanted, present)
            shown = nftables.digest(_present(paths, wanted, {}, needed=True))
            _note(paths, {"asked": nftables.digest(wanted), "shown": shown, "policy": policy.is_in(wanted)})
        else:
            nftables.delete(paths.nft_table)
            if last.get("policy"):
                nftables.delete(paths.nft_table, policy.FAMILY)
            _forget(paths)
        _let_go(present, targets(paths))
        return True


def _replace(wanted: list[Any], present: list[Any]) -> None:
    try:
        nftables.apply(nft_replace.replacement(wanted, present))
    except VesselError:  # as where somebody else has changed it since it was read
        nftables.apply(nft_replace.anew(wanted, present))


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
    future = render(paths, planned) if planned is not None else []
    present = _present(paths, wanted, last, needed=bool(wanted or planned or changed))
    drift = _compare(wanted, present, last)
    coming = _compare(future, present, last) if planned is not None else []
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


def _note(paths: Paths, body: dict[str, Any]) -> None:
    os.makedirs(paths.run, 0o700, exist_ok=True)
    write_atomic(_file(paths), json.dumps(body).encode(), mode=0o600, durable=False)


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
