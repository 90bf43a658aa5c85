# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""create: everything up to the user's process, which then waits at its gate for start."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, Optional

from .._cgroup.manager import Manager, open_manager, scope_path
from .._errors import InUseError, SpecError, StartError, VesselError
from .._kernel.process import start_time
from .._rootfs import plan as rootfs_plan
from . import bundle as bundles
from . import console, gate, hooks, init, launch, spawn
from .channel import Channel, raised
from .delete import discard
from .state import State, directory

OCI_VERSION = "1.0.2"
_BEFORE_START = ("prestart", "createRuntime", "createContainer", "startContainer")
_AFTER_START = ("poststart", "poststop")
_SILENCE = {"step": "set-up", "message": "the child ended without a word", "errno": 0, "hint": ""}


class Creation:
    """A child that sets itself up. ``fd`` is readable when it has something to say; then call finish()."""

    def __init__(self, state: State, config: dict[str, Any], channel: Channel, pidfd: int) -> None:
        self.state = state
        self.config = config
        self.channel = channel
        self.pid = state.pid
        self.pidfd = pidfd

    @property
    def fd(self) -> int:
        return self.channel.fileno()

    def finish(self) -> State:
        """Wait for the child's word; the created container, or StartError and nothing left of it."""
        try:
            message = self._hear()
            if "ready" not in message:
                raise raised(message)
        except BaseException:
            self.abort()
            raise
        finally:
            self.channel.close()
        return self.state

    def _hear(self) -> dict[str, Any]:
        while True:
            message = self.channel.receive()
            if message is None:
                return _SILENCE
            if "hooks" not in message:
                return message
            declared = self.config.get("hooks") or {}
            state = {**self.state.to_oci(), "status": "creating"}
            hooks.run_all(state, declared.get("prestart") or [], "prestart")
            hooks.run_all(state, declared.get("createRuntime") or [], "createRuntime")
            try:
                self.channel.send(go=True)
            except ConnectionError:
                return _SILENCE

    def abort(self) -> None:
        """Kill the child and take away what was made for it."""
        _kill(self.pid, self.pidfd)
        discard(self.state.directory, self.state.manager())


def _kill(pid: int, pidfd: int) -> None:
    try:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
    os.close(pidfd)


def begin(
    root: str,
    container: str,
    bundle: str,
    *,
    config: Optional[dict[str, Any]] = None,
    stdio: tuple[int, int, int] = (0, 1, 2),
    console_socket: str = "",
    preserve: Sequence[int] = (),
    pivot: bool = True,
    keyring: bool = True,
    env: Sequence[str] = (),
    systemd: bool = False,
) -> Creation:
    """Clone the container's first process, which sets itself up meanwhile; many may be begun before one is finished.

    ``config`` is the bundle's config.json where the caller has it already, and checked it; ``env`` is added to it.
    With ``systemd`` the cgroupsPath is systemd's form, and the group in a scope.
    """
    bundle = os.path.realpath(bundle)
    config = bundles.load(bundle) if config is None else config
    child = _child(config, bundle)
    child.stdio, child.pivot, child.keyring = stdio, pivot, keyring
    child.preserve = tuple(preserve)
    child.plan.env.update(launch.environment(list(env)))
    if child.terminal and not console_socket:
        raise StartError("process.terminal is true, and no console socket was given", hint="use --console-socket")
    path = directory(root, container)
    manager = open_manager(_cgroup_path(config, container, systemd=systemd))
    if manager.exists() and manager.pids():
        raise InUseError("cgroup", manager.path, [f"pid {pid}" for pid in manager.pids()[:5]])
    _claim(path, container)
    opened: list[int] = []
    try:
        manager.create()
        manager.apply((config.get("linux") or {}).get("resources") or {})
        child.operations = rootfs_plan.operations(config, bundle, _groups(manager))
        if child.terminal:
            child.console = console.connect(console_socket)
            opened.append(child.console)
        child.gate = gate.listen(path)
        state = State(root, _state(config, manager, container, bundle, child))
        return _launch(child, config, manager, state, spawn.open_all(config, opened))
    except BaseException:
        discard(path, manager)
        raise
    finally:
        for fd in opened:
            os.close(fd)
        if hasattr(child, "gate"):
            child.gate.close()


def create(root: str, container: str, bundle: str, **options: Any) -> State:
    """begin and finish."""
    creation = begin(root, container, bundle, **options)
    state = creation.finish()
    os.close(creation.pidfd)
    return state


def _cgroup_path(config: dict[str, Any], container: str, *, systemd: bool) -> str:
    path = (config.get("linux") or {}).get("cgroupsPath") or ""
    if systemd:
        return scope_path(path or f"system.slice:vessel-runtime:{container}")
    if path.count(":") == 2:
        raise SpecError("linux.cgroupsPath", f"{path!r} is systemd's form; use --systemd-cgroup with it, or a path")
    return "/" + "/".join(part for part in (path or f"vessel-runtime/{container}").split("/") if part)


def _claim(path: str, container: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
    try:
        os.mkdir(path, 0o711)
    except FileExistsError:
        raise VesselError(f"container {container} exists already", hint="delete it, or choose another id") from None


def _child(config: dict[str, Any], bundle: str) -> init.Child:
    """What config.json alone decides."""
    linux = config.get("linux") or {}
    child = init.Child()
    program, flags = launch.compile_seccomp(config)
    child.plan = launch.Plan(config["process"], program, flags)
    child.rootfs = bundles.rootfs(config, bundle)
    child.hostname = config.get("hostname") or ""
    child.domainname = config.get("domainname") or ""
    child.sysctls = linux.get("sysctl") or {}
    child.readonly = bool(config["root"].get("readonly"))
    child.terminal = bool(config["process"].get("terminal"))
    size = config["process"].get("consoleSize") or {}
    child.window = (int(size.get("height") or 0), int(size.get("width") or 0))
    kinds = {entry["type"]: entry.get("path") or "" for entry in linux.get("namespaces") or []}
    child.mapped = "user" in kinds
    child.new_cgroup = kinds.get("cgroup") == ""
    child.new_network = kinds.get("network") == ""
    child.protections = rootfs_plan.protections(config)
    child.root_propagation = rootfs_plan.root_propagation(config)
    return child


def _groups(manager: Manager) -> dict[str, str]:
    """Hierarchy: the container's own directory, for the cgroup mount; "" for a unified hierarchy."""
    directories = manager.directories()
    if manager.unified():
        return {"": directories[0]}
    return {os.path.basename(path[: -len(manager.path)]): path for path in directories}


def _launch(
    child: init.Child, config: dict[str, Any], manager: Manager, state: State, joins: list[tuple[str, int]]
) -> Creation:
    ours, child.channel = Channel.pair()
    _add_hooks(child, config, state)
    cgroup_fd = manager.clone_fd()
    try:
        pid, pidfd = _clone(child, config, ours, joins, -1 if cgroup_fd is None else cgroup_fd)
    except BaseException:
        ours.close()
        raise
    finally:
        child.channel.close()
        if cgroup_fd is not None:
            os.close(cgroup_fd)
    try:
        if cgroup_fd is None or _joins_user(joins):
            manager.add(pid)
        if child.mapped and not _joins_user(joins):
            spawn.map_users(config, pid)
        if child.mapped:
            launch.raise_limits(child.plan, pid)
        launch.set_oom_score(child.plan, pid)
        state.born(pid, start_time(pid) or 0)
        state.save(child.plan.seccomp)
        ours.send(go=True)
    except BaseException:
        ours.close()
        _kill(pid, pidfd)
        raise
    return Creation(state, config, ours, pidfd)


def _clone(
    child: init.Child, config: dict[str, Any], ours: Channel, joins: list[tuple[str, int]], cgroup_fd: int
) -> tuple[int, int]:
    flags, offsets = spawn.new_flags(config), (config.get("linux") or {}).get("timeOffsets") or {}
    if _joins_user(joins):
        between = spawn.clone_as_sibling(flags, joins, child.channel, lambda: init.main(child))
        child.channel.close()
        return spawn.hear_of_birth(ours, between)
    around, child.joins = spawn.sides(config, joins)
    pid, pidfd = spawn.clone(flags, around, offsets, cgroup_fd=cgroup_fd)
    if pid == 0:
        init.main(child)
    return pid, pidfd


def _joins_user(joins: Sequence[tuple[str, int]]) -> bool:
    return any(kind == "user" for kind, dummy in joins)


def _add_hooks(child: init.Child, config: dict[str, Any], state: State) -> None:
    declared = config.get("hooks") or {}
    child.hooks_inside = declared.get("createContainer") or []
    child.start_hooks = declared.get("startContainer") or []
    if not any(declared.get(kind) for kind in _BEFORE_START):
        return
    told = {
        "ociVersion": OCI_VERSION,
        "id": state.id,
        "status": "creating",
        "pid": 1,  # as it is inside, where these run
        "bundle": state.bundle,
        "annotations": state.data["annotations"],
    }
    inside, at_start = hooks.runner(told), hooks.runner({**told, "status": "created"})
    child.run_hooks = lambda declared, kind: (inside if kind == "createContainer" else at_start)(declared, kind)


def _state(config: dict[str, Any], manager: Manager, container: str, bundle: str, child: init.Child) -> dict[str, Any]:
    result = {
        "id": container,
        "pid": 0,
        "start_time": 0,
        "bundle": bundle,
        "rootfs": child.rootfs,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "annotations": config.get("annotations") or {},
        "cgroup": manager.path,
        # What exec and the last hooks need: the bundle may change, or be gone by then.
        "hooks": {kind: (config.get("hooks") or {}).get(kind) or [] for kind in _AFTER_START},
        "capabilities": config["process"].get("capabilities") or {},
    }
    if child.plan.seccomp is not None:
        result["seccomp_flags"] = child.plan.seccomp_flags
    return result
