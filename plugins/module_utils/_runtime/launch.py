# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a prepared child to the user's process: what create and exec share. Runs in the child; imports nothing there."""

from __future__ import annotations

import errno
import os
import resource
import stat
from typing import Any, Optional

from .._errors import StartError
from .._kernel import caps, process, seccomp

_HINTS = {
    errno.ENOENT: "the command, its interpreter or its loader is not in the image",
    errno.E2BIG: "the command and the environment are too long; one string may have 128 KiB (execve(2))",
    errno.EACCES: "the file is not executable for this user, or lies on a mount with noexec",
    errno.ENOEXEC: "the file is no program of this architecture, or a script without #!",
}


class Plan:
    """Everything that the child needs at the end, worked out by the parent: after clone there is no time to fail."""

    def __init__(self, spec: dict[str, Any], program: Optional[bytes], flags: int = 0) -> None:
        self.args: list[str] = spec["args"]
        self.env = environment(spec.get("env") or [])
        self.cwd: str = spec["cwd"]
        user = spec.get("user") or {}
        self.uid, self.gid = int(user.get("uid") or 0), int(user.get("gid") or 0)
        self.groups = [int(gid) for gid in user.get("additionalGids") or []]
        self.umask = user.get("umask")
        sets = spec.get("capabilities") or {}  # none are named: none are held
        self.caps = {name: list(sets.get(name) or []) for name in _SETS}
        self.last_cap = caps.last_cap()
        self.no_new_privs = bool(spec.get("noNewPrivileges"))
        self.rlimits = [_rlimit(limit) for limit in spec.get("rlimits") or []]
        self.oom_score_adj = spec.get("oomScoreAdj")
        self.label = _label(spec)
        self.key_label: str = spec.get("selinuxLabel") or ""
        self.seccomp, self.seccomp_flags = program, flags


_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def environment(entries: list[str]) -> dict[str, str]:
    return {entry.partition("=")[0]: entry.partition("=")[2] for entry in entries}


def _label(spec: dict[str, Any]) -> tuple[str, str]:
    """(file below /proc/self/attr, content) that gives the next program its profile or label."""
    profile, label = spec.get("apparmorProfile"), spec.get("selinuxLabel")
    if profile:
        own = os.path.isdir("/proc/self/attr/apparmor")  # Linux 5.8
        return ("apparmor/exec" if own else "exec"), f"exec {profile}"
    return ("exec", str(label)) if label else ("", "")


def _rlimit(limit: dict[str, Any]) -> tuple[str, int, int, int]:
    """config.json's numbers are unsigned; Python's infinity is -1."""
    values = [-1 if int(limit[key]) >= 2**63 - 1 else int(limit[key]) for key in ("soft", "hard")]
    return limit["type"], int(getattr(resource, limit["type"])), values[0], values[1]


def compile_seccomp(config: dict[str, Any]) -> tuple[Optional[bytes], int]:
    """(program, flags) of linux.seccomp; (None, 0) when there is none."""
    profile = (config.get("linux") or {}).get("seccomp")
    if not profile:
        return None, 0
    flags = sum(seccomp.FLAGS.get(name, 0) for name in profile.get("flags") or [])
    return seccomp.compile(profile), flags


def set_limits(plan: Plan) -> None:
    for name, number, soft, hard in plan.rlimits:
        try:
            resource.setrlimit(number, (soft, hard))
        except (ValueError, PermissionError):
            raise _too_high(name, soft, hard) from None


def raise_limits(plan: Plan, pid: int) -> None:
    """In a user namespace nobody may raise a hard limit, so its parent does it for the child."""
    for name, number, soft, hard in plan.rlimits:
        now_soft, now_hard = resource.prlimit(pid, number)
        if now_hard != resource.RLIM_INFINITY and (hard == resource.RLIM_INFINITY or hard > now_hard):
            try:
                resource.prlimit(pid, number, (now_soft, hard))
            except (ValueError, PermissionError):
                raise _too_high(name, soft, hard) from None


def _too_high(name: str, soft: int, hard: int) -> StartError:
    hint = "raising a hard limit needs CAP_SYS_RESOURCE, which this host does not give"
    return StartError(f"{name} {soft}:{hard} is above the limit of this host", errno=errno.EPERM, hint=hint)


def set_oom_score(plan: Plan, pid: int) -> None:
    """By the parent: the child may be in a container whose /proc is not to be trusted."""
    if plan.oom_score_adj is None:
        return
    try:
        fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(plan.oom_score_adj).encode())
        finally:
            os.close(fd)
    except PermissionError:
        hint = "lowering it needs CAP_SYS_RESOURCE, which this host does not give"
        raise StartError(f"oom_score_adj {plan.oom_score_adj} is refused", errno=errno.EACCES, hint=hint) from None


def set_label(plan: Plan) -> None:
    """Through the host's /proc: in a container's anything could be there."""
    file, content = plan.label
    if not file:
        return
    try:
        fd = os.open(f"/proc/self/attr/{file}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, content.encode())
        finally:
            os.close(fd)
    except OSError as error:
        code = error.errno or 0
        hint = "the profile or label must be loaded on this host"
        text = f"label {content}: {os.strerror(code)} [{errno.errorcode.get(code, code)}]"
        raise StartError(text, errno=code, hint=hint) from None


def set_key_label(plan: Plan) -> None:
    """The session keyring that is made next is the container's (proc_pid_attr(5), keycreate)."""
    if not plan.key_label:
        return
    fd = os.open("/proc/self/attr/keycreate", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, plan.key_label.encode())
    finally:
        os.close(fd)


def set_home(plan: Plan) -> None:
    """HOME from the container's passwd where the environment has none, as every runtime does since runc did."""
    if "HOME" in plan.env:
        return
    plan.env["HOME"] = "/"
    for line in _passwd().split(b"\n"):
        fields = line.split(b":")
        if len(fields) > 5 and fields[2] == str(plan.uid).encode():
            plan.env["HOME"] = os.fsdecode(fields[5]) or "/"
            return


def _passwd(limit: int = 1 << 20) -> bytes:
    """An image may have none, or something else there: a fifo must not make us wait."""
    try:
        fd = os.open("/etc/passwd", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, limit) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)


def find(plan: Plan) -> str:
    """The file that args[0] names, looked up in the container's PATH as execvp(3) does.

    A relative one is so to the working directory, to which nobody has changed yet.
    """
    name = plan.args[0]
    if "/" in name:
        _require_executable(name, plan.cwd)
        return name
    denied = False
    for directory in (plan.env.get("PATH") or "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").split(
        ":"
    ):
        path = f"{directory or '.'}/{name}"
        try:
            mode = os.stat(os.path.join(plan.cwd, path)).st_mode
        except OSError:
            continue
        if stat.S_ISREG(mode) and mode & 0o111:
            return path
        denied = True
    code = errno.EACCES if denied else errno.ENOENT
    problem = "is not executable" if denied else "not found in $PATH"
    raise StartError(f"exec {name}: executable file {problem} [{errno.errorcode[code]}]", errno=code, hint=_HINTS[code])


def _require_executable(path: str, cwd: str) -> None:
    try:
        mode = os.stat(os.path.join(cwd, path)).st_mode
    except OSError as error:
        code = error.errno or errno.ENOENT
        text = f"exec {path}: {os.strerror(code)} [{errno.errorcode[code]}]"
        raise StartError(text, errno=code, hint=_HINTS.get(code, "")) from None
    if not stat.S_ISREG(mode) or not mode & 0o111:
        text = f"exec {path}: {os.strerror(errno.EACCES)} [EACCES]"
        raise StartError(text, errno=errno.EACCES, hint=_HINTS[errno.EACCES])


def make_cwd(plan: Plan) -> None:
    """Docker's habit: a working directory that the image does not have is made, for root."""
    try:
        os.makedirs(plan.cwd, exist_ok=True)
    except OSError as error:
        if error.errno != errno.EROFS:  # what is missing then is said when the directory is changed to
            raise _no_cwd(plan, error) from None


def become(plan: Plan) -> None:
    """The user, then the capabilities, then the filter: each step takes away what the one before needed."""
    if plan.umask is not None:
        os.umask(int(plan.umask))
    if plan.seccomp is not None and not plan.no_new_privs:
        # Without no_new_privs the filter needs CAP_SYS_ADMIN, which is about to go.
        seccomp.install(plan.seccomp, plan.seccomp_flags)
    # As root first: a directory that its user can't enter by itself may still be where it starts.
    entered = _enter(plan, denied=True)
    caps.drop_bounding(plan.caps["bounding"], plan.last_cap)
    caps.keep_caps(True)
    process.setgroups(plan.groups)
    os.setgid(plan.gid)
    os.setuid(plan.uid)
    # One that is not permitted and inheritable too can't be ambient (capabilities(7)); runc spec names such.
    caps.apply(
        effective=plan.caps["effective"],
        permitted=plan.caps["permitted"],
        inheritable=plan.caps["inheritable"],
        ambient=set(plan.caps["ambient"]) & set(plan.caps["inheritable"]) & set(plan.caps["permitted"]),
        last=plan.last_cap,
    )
    caps.keep_caps(False)
    if not entered:
        _enter(plan, denied=False)
    if plan.no_new_privs:
        process.set_no_new_privs()
        if plan.seccomp is not None:
            seccomp.install(plan.seccomp, plan.seccomp_flags)


def _enter(plan: Plan, *, denied: bool) -> bool:
    """Change to the working directory; False when it is refused, which with ``denied`` is no error yet."""
    try:
        os.chdir(plan.cwd)
    except PermissionError as error:
        if denied:
            return False
        raise _no_cwd(plan, error) from None
    except OSError as error:
        raise _no_cwd(plan, error) from None
    # A descriptor leaked into the child could make the directory one of the host's, outside the root.
    if not os.getcwd().startswith("/"):
        raise StartError(f"cwd {plan.cwd}: it is outside of the container's root", errno=errno.ENOENT)
    return True


def _no_cwd(plan: Plan, error: OSError) -> StartError:
    code = error.errno or errno.ENOTDIR
    return StartError(f"cwd {plan.cwd}: {os.strerror(code)} [{errno.errorcode[code]}]", errno=code)


def execute(plan: Plan, path: str) -> None:
    """Does not return. A script without #! is not given to a shell: that is what the kernel's answer is for."""
    try:
        os.execve(path, plan.args, plan.env)
    except OSError as error:
        code = error.errno or errno.ENOENT
        text = f"exec {path}: {os.strerror(code)} [{errno.errorcode[code]}]"
        raise StartError(text, errno=code, hint=_HINTS.get(code, "")) from None
