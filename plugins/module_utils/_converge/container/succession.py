# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The new instance before the old one: made beside it, in its place once it is well (``update_order: start_first``).

What is kept by the container's name is the container's: its declaration, its log, its categories for SELinux. The rest
is each instance's own: writable layer, bundle, network namespace with links and addresses, cgroup (Paths.instance).

Which instance counts is told by one link, and there is one rule for who finds two: the one that the link leads to is
the container, the other is taken away. Killed before the link was changed, a run has left the old one as it was;
killed after that, the new one serves. The declaration is written just before the link: a kill between the two leaves
a container that is not as declared, and the next run begins again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._errors import OptionError
from ..._kernel.proc_pid_net import tcp
from ..._options.container import revived
from .. import firewall, jobs, secrets, store, users, volumes
from ..host import Host
from ..jobs import Call, Job
from ..plan import Plan
from . import attach, lifecycle, prepare
from .prepare import KIND, Present

Spec = Mapping[str, Any]
START_FIRST, MANNER = "start_first", "start first"
JOINING = ("network_mode", "pid_mode", "ipc_mode")


def starts_first(spec: Spec) -> bool:
    return bool(spec["update_order"] == START_FIRST)


# before the first side effect


def check(host: Host, name: str, spec: Spec) -> None:
    """Raise OptionError for what two instances can't both have, for however short a time."""
    _check_joined(host, spec)
    if not starts_first(spec):
        return
    for problem in (_of_network(spec), _of_devices(spec), _of_volumes(host, spec)):
        if problem:
            raise _refused(problem)
    for other, theirs in users.specs(host.paths):
        for option in JOINING:
            if theirs.get(option) == f"container:{name}":
                raise in_namespaces("", other, option, name)


def _refused(problem: str, path: str = "") -> OptionError:
    hint = "update_order: stop_first stops the old instance before it starts the new one"
    return OptionError(f"{path}update_order", START_FIRST, problem, hint=hint)


def in_namespaces(path: str, other: str, option: str, name: str) -> OptionError:
    """The other container would stay with the old instance."""
    return _refused(f"can't be while the container {other} is in its namespaces ({option}: container:{name})", path)


def _of_network(spec: Spec) -> str:
    mode = spec["network_mode"] or ""
    if mode == "host" or mode.startswith("container:"):
        return f"can't be with network_mode: {mode}, where both instances would listen to the same ports"
    for entry in attach.network_names(spec):
        for key in ("ipv4_address", "ipv6_address", "mac_address"):
            if entry.get(key):
                return f"can't be with {key}: {entry[key]} on the network {entry['name']}, which only one can have"
    return ""


def _of_devices(spec: Spec) -> str:
    if not spec["devices"]:
        return ""
    return f"can't be with devices: {', '.join(spec['devices'])}, which may be for one at a time"


def _of_volumes(host: Host, spec: Spec) -> str:
    for name in sorted(users.volumes_of(spec)):
        coming = host.coming_volumes.get(name)
        if volumes.has_one_writer(coming or store.read_spec(host.paths, volumes.KIND, name) or {}):
            return f"can't be with the volume {name}, to which one container at a time may write"
    return ""


def _check_joined(host: Host, spec: Spec) -> None:
    """From the other side: who joins a container would stay with the old instance of it."""
    for option in JOINING:
        kind, dummy, other = (spec[option] or "").partition(":")
        theirs = store.read_spec(host.paths, KIND, other) if kind == "container" else None
        if theirs and starts_first({"update_order": "", **theirs}):
            problem = f"joins {other}, whose next instance is another one, beside it (its update_order is start_first)"
            raise OptionError(option, spec[option], problem, hint=f"give {other} update_order: stop_first")


# the steps


def leftover(host: Host, present: Present, spec: Spec) -> Plan:
    """Takes away what a run that was killed has left beside the container, for whose connections there is as much time
    as is declared by now."""
    name = present.name
    if not prepare.has_other(host, name):
        return Plan()
    instance = host.paths.other_instance(name)
    calls = [
        Call(before=lambda: _lead(host, name, [])),
        *_ending(instance, spec),
        Call(before=lambda: _clear(host, name)),
    ]
    action = "remove the instance beside it, which an interrupted update left"
    return Plan([lifecycle.job_step(host, f"container {name}", action, Job(name, calls))])


def step(host: Host, present: Present, spec: Spec, result: Plan, timeout: float | None, stopped: bool | None) -> None:
    """The successor takes over, or is taken away when it does not get well."""
    change = _Succession(host, present, spec, timeout, stopped)
    job, target = Job(present.name, change.calls()), f"container {present.name}"
    result.add(lifecycle.job_step(host, target, "replace", job, undo=change.undo, hidden=True))


class _Succession:
    def __init__(self, host: Host, present: Present, spec: Spec, timeout: float | None, stopped: bool | None) -> None:
        self.host, self.name, self.spec, self.timeout, self.stopped = host, present.name, dict(spec), timeout, stopped
        self.present = present
        self.old = revived(present.spec or {})
        self.was_stopped = prepare.is_stopped(host.paths, self.name)
        self.before, self.after = host.paths.instance(self.name), host.paths.other_instance(self.name)
        self.leads = self.done = False

    def calls(self) -> list[Call]:
        ready: dict[str, Any] = {"until": "ready"}
        return [
            Call(before=self._make),
            Call("start", instance=self.after),
            Call("wait", ready, instance=self.after, before=lambda: ready.update(self._gate())),
            Call(before=self._take_over),
            *_ending(self.before, self.spec),
            Call(before=self._end),
        ]

    def _make(self) -> None:
        """All that the successor has of its own. Nobody is told of it, and nothing is led to it, until it counts."""
        self.old["secrets"] = secrets.held(self.host.paths, self.name, self.old["secrets"])
        self.spec["secrets"] = _with_contents(self.spec["secrets"], self.old["secrets"])
        beside = Host(self.host.paths.seen_with(self.after))
        beside.__dict__["_rtnl"] = attach.rtnl(self.host)
        lifecycle.reserve(beside, [(self.name, self.spec)])
        lifecycle.make_ready(beside, self.name, self.spec)
        lines = attach.network_lines(beside, attach.networks_of(beside, [self.name]))
        attach.write_names(beside, self.name, self.spec, lines)
        firewall.sync(self.host.paths)  # where a network says who may talk to whom, it may what the old one may

    def _gate(self) -> dict[str, Any]:
        """What it is waited for: where the old one listens to a port that is published, it has to listen too."""
        published = {port.container_port for port in attach.parse_all(self.spec) if port.protocol == "tcp"}
        pid = prepare.look(self.host.paths.seen_with(self.before), self.name).pid
        listened = tcp(pid)[0] if pid and published else set()
        return {"ports": sorted(published & listened), "timeout": self.timeout or self.host.wait_timeout}

    def _take_over(self) -> None:
        """The link decides; rules follow in one transaction, and the names that neighbours have."""
        host, name = self.host, self.name
        networks = [endpoint.network for endpoint in attach.endpoints(host, name)]
        store.write_spec(host.paths, KIND, name, lifecycle.declared(host, name, self.spec))
        prepare.take_over(host.paths, self.after)
        if self.stopped is not None:
            prepare.remember_stopped(host.paths, name, self.stopped)
        _lead(host, name, networks)
        self.leads = True

    def _end(self) -> None:
        _clear(self.host, self.name)
        self.done = True

    def undo(self) -> None:
        """Until all leads to the new one nothing has happened to the old one. Once that is gone, and all was well with
        this container but not with another of the stack, it comes back as the new one came. In between it is its end
        that has failed: the new one stays."""
        host, name = self.host, self.name
        if not self.leads:
            self._stay()
        elif self.done:
            back = _Succession(host, prepare.look(host.paths, name), self.old, self.timeout, self.was_stopped)
            jobs.run(host, [Job(name, back.calls())], host.wait_timeout)
            store.write_spec(host.paths, KIND, name, lifecycle.declared_again(self.present))

    def _stay(self) -> None:
        host, name = self.host, self.name
        store.write_spec(host.paths, KIND, name, lifecycle.declared_again(self.present))
        if host.paths.instance(name) != self.before:
            prepare.take_over(host.paths, self.before)
            prepare.remember_stopped(host.paths, name, self.was_stopped)
            _lead(host, name, [endpoint.network for endpoint in attach.endpoints(host, name)])
        host.client().call("remove", name=self.after, timeout=0)
        _clear(host, name)


def _lead(host: Host, name: str, networks: list[str]) -> None:
    """Rules and names to the instance that counts by now; ``networks`` are others that knew the name."""
    host.read_anew("attachments")
    attach.touch(host, name, [*networks, *(endpoint.network for endpoint in attach.endpoints(host, name))])
    attach.commit(host)


def _ending(instance: str, spec: Spec) -> list[Call]:
    """Once its connections are over, as it was declared to be stopped. Who is not known to the supervisor has ended."""
    drained = {"until": "idle", "timeout": spec["drain_timeout"]}
    return [Call("wait", drained, instance=instance), Call("remove", instance=instance)]


def _clear(host: Host, name: str) -> None:
    host.read_anew("attachments")
    attach.remove_other(host, name)
    prepare.discard_instance(host.paths.seen_with(host.paths.other_instance(name)), name)
    firewall.sync(host.paths)


def _with_contents(wanted: list[dict[str, Any]], held: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A task that says nothing of them has no contents; the old instance has."""
    contents = {secret["name"]: secret["content"] for secret in held if "content" in secret}
    kept = [{"content": contents[one["name"]]} if one["name"] in contents else {} for one in wanted]
    return [{**content, **secret} for content, secret in zip(kept, wanted)]
