# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""create: everything up to the user's process, which then waits at its gate for start."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from typing import Any, Optional

from .._cgroup.manager import Manager, open_manager
from .._errors import KernelError, StartError, VesselError
from .._kernel import namespaces
from .._kernel.process import namespace_id, start_time
from .._rootfs import plan as rootfs_plan
from . import bundle as bundles
from . import hooks, init, launch
from .channel import Channel, raised
from .state import State, directory

# Joined in the parent: they take effect for its children only (pid_namespaces(7), time_namespaces(7)).
_FOR_CHILDREN = ("pid", "time")


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
                return {"step": "set-up", "message": "the child ended without a word", "errno": 0, "hint": ""}
            if "hooks" not in message:
                return message
            declared = self.config.get("hooks") or {}
            state = {**self.state.to_oci(), "status": "creating"}
            hooks.run_all(state, declared.get("prestart") or [], "prestart")
            hooks.run_all(state, declared.get("createRuntime") or [], "createRuntime")
            self.channel.send(go=True)

    def abort(self) -> None:
        """Kill the child and take away what was made for it."""
        try:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self.pidfd)
        discard(self.state.directory, self.state.manager())


def discard(path: str, manager: Optional[Manager]) -> None:
    """Remove a container's group and its directory."""
    if manager is not None:
        manager.kill()
        manager.remove()
    for name in ("gate", "state.json", "state.json.new"):
        try:
            os.unlink(f"{path}/{name}")
        except FileNotFoundError:
            pass
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass


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
) -> Creation:
    """Clone the container's first process, which sets itself up meanwhile; many may be begun before one is finished.

    ``config`` is the bundle's config.json where the caller has it already, and checked it.
    """
    bundle = os.path.realpath(bundle)
    config = bundles.load(bundle) if config is None else config
    child = _child(config, bundle)
    child.stdio, child.pivot, child.keyring = stdio, pivot, keyring
    child.preserve = tuple(preserve)
    path = directory(root, container)
    manager = open_manager(_cgroup_path(config, container))
    _claim(path, container)
    opened: list[int] = []
    try:
        manager.create()
        manager.apply((config.get("linux") or {}).get("resources") or {})
        _complete(child, config, path, manager, console_socket, opened)
        return _launch(child, config, manager, root, container, bundle)
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
    return begin(root, container, bundle, **options).finish()


def _cgroup_path(config: dict[str, Any], container: str) -> str:
    path = (config.get("linux") or {}).get("cgroupsPath") or f"/vessel-runtime/{container}"
    return "/" + "/".join(part for part in path.split("/") if part)


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
    child.new_user = kinds.get("user") == ""
    child.new_cgroup = kinds.get("cgroup") == ""
    return child


def _complete(
    child: init.Child, config: dict[str, Any], path: str, manager: Manager, console_socket: str, opened: list[int]
) -> None:
    """What needs the host: descriptors of namespaces, the gate, the console's socket."""
    groups = _groups(manager)
    child.operations = rootfs_plan.operations(config, os.path.dirname(child.rootfs) or "/", groups)
    child.protections = rootfs_plan.protections(config)
    child.joins = _joins(config, opened)
    declared = config.get("hooks") or {}
    child.hooks_inside = declared.get("createContainer") or []
    child.start_hooks = declared.get("startContainer") or []
    if any(declared.get(kind) for kind in ("prestart", "createRuntime", "createContainer", "startContainer")):
        child.run_hooks = hooks.runner({"ociVersion": "1.0.2", "id": os.path.basename(path), "status": "created"})
    if child.terminal:
        if not console_socket:
            raise StartError("process.terminal is true, and no console socket was given", hint="use --console-socket")
        child.console = _connect(console_socket)
        opened.append(child.console)
    child.gate = _listen(f"{path}/gate")


def _groups(manager: Manager) -> dict[str, str]:
    """Hierarchy: the container's own directory, for the cgroup mount; "" for a unified hierarchy."""
    directories = manager.directories()
    if manager.unified():
        return {"": directories[0]}
    return {os.path.basename(path[: -len(manager.path)]): path for path in directories}


def _connect(path: str) -> int:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError as error:
        raise KernelError("connect to the console socket", path, error.errno or 0) from None
    return sock.detach()


def _listen(path: str) -> socket.socket:
    """A socket address has 108 bytes; through the directory's descriptor the path's length does not matter."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with DirectoryFd(os.path.dirname(path)) as fd:
        sock.bind(f"/proc/self/fd/{fd}/{os.path.basename(path)}")
    sock.listen(1)
    return sock


class DirectoryFd:
    """A directory open for a while."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> int:
        self.fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return self.fd

    def __exit__(self, *error: object) -> None:
        os.close(self.fd)


def _joins(config: dict[str, Any], opened: list[int]) -> list[tuple[str, int]]:
    """Namespaces to be joined by path, the user namespace first."""
    found = []
    for entry in (config.get("linux") or {}).get("namespaces") or []:
        if entry.get("path"):
            fd = os.open(entry["path"], os.O_RDONLY | os.O_CLOEXEC)
            opened.append(fd)
            found.append((entry["type"], fd))
    return sorted(found, key=lambda join: join[0] != "user")


def _launch(
    child: init.Child, config: dict[str, Any], manager: Manager, root: str, container: str, bundle: str
) -> Creation:
    ours, child.channel = Channel.pair()
    before = [(kind, fd) for kind, fd in child.joins if kind in _FOR_CHILDREN]
    child.joins = [(kind, fd) for kind, fd in child.joins if kind not in _FOR_CHILDREN]
    flags = _clone_flags(config)
    cgroup_fd = manager.clone_fd()
    with _ForChildren(before):
        pid, pidfd = namespaces.clone3(flags, cgroup_fd=-1 if cgroup_fd is None else cgroup_fd)
        if pid == 0:
            init.main(child)
    child.channel.close()
    if cgroup_fd is not None:
        os.close(cgroup_fd)
    data = _state(config, manager, container, bundle, child.rootfs, pid)
    creation = Creation(State(root, data), config, ours, pidfd)
    try:
        if cgroup_fd is None:
            manager.add(pid)
        if child.new_user:
            _map_users(config, pid)
        creation.state.save()
        ours.send(go=True)
    except BaseException:
        ours.close()
        creation.abort()
        raise
    return creation


def _clone_flags(config: dict[str, Any]) -> int:
    """New namespaces all at once, but for the cgroup's, which must wait until the process is in its group."""
    entries = (config.get("linux") or {}).get("namespaces") or []
    kinds = [entry["type"] for entry in entries if not entry.get("path") and entry["type"] != "cgroup"]
    return sum(namespaces.FLAGS[kind] for kind in kinds)


class _ForChildren:
    """pid and time namespaces of the children to come, and back again."""

    def __init__(self, joins: Sequence[tuple[str, int]]) -> None:
        self.joins = joins

    def __enter__(self) -> None:
        for kind, fd in self.joins:
            namespaces.setns(fd, namespaces.FLAGS[kind])

    def __exit__(self, *error: object) -> None:
        for kind, dummy in self.joins:
            home = os.open(f"/proc/self/ns/{namespaces.FILES[kind]}", os.O_RDONLY | os.O_CLOEXEC)
            namespaces.setns(home, namespaces.FLAGS[kind])
            os.close(home)


def _map_users(config: dict[str, Any], pid: int) -> None:
    for key, file in (("uidMappings", "uid_map"), ("gidMappings", "gid_map")):
        lines = [f"{m['containerID']} {m['hostID']} {m['size']}" for m in config["linux"][key]]
        try:
            with open(f"/proc/{pid}/{file}", "w") as out:
                out.write("\n".join(lines))
        except OSError as error:
            raise KernelError(f"write {'; '.join(lines)} to", f"/proc/{pid}/{file}", error.errno or 0) from None


def _state(
    config: dict[str, Any], manager: Manager, container: str, bundle: str, rootfs: str, pid: int
) -> dict[str, Any]:
    return {
        "id": container,
        "pid": pid,
        "start_time": start_time(pid) or 0,
        "bundle": bundle,
        "rootfs": rootfs,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + "Z",
        "annotations": config.get("annotations") or {},
        "cgroup": manager.path,
        "user_namespace": namespace_id(pid, "user"),
    }
