# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container may, when nothing is declared: capabilities, paths, devices and system calls. Policy as data.

The seccomp profile is a list of what is allowed. It holds what programs of a distribution call, in groups by what they
are for, up to Linux 6.12; what reaches beyond the container is opened by the capability that the kernel asks for it
anyway, so that adding a capability is enough.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from typing import Any

# The usual set of container engines without NET_RAW, which forges packets on the bridge, and MKNOD, which names disks.
DEFAULT_CAPS = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)

# What tells of the host or its other processes, although it lies in the container's own proc and sysfs.
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
# What sets something of the whole host for a process with uid 0, without asking for a capability.
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# linux.resources.devices; the runtime adds null, zero, full, random, urandom, tty, ptmx and pts.
DEVICE_RULES: tuple[dict[str, Any], ...] = ({"allow": False, "access": "rwm"},)
PRIVILEGED_DEVICE_RULES: tuple[dict[str, Any], ...] = ({"allow": True, "access": "rwm"},)


# AppArmor's part: what a process with all capabilities of the container must not do to the host all the same. Globs
# with [^...] are how that language says "all but": below /sys/fs a container writes to its own cgroup alone.
APPARMOR_PROFILE = "vessel-default"
APPARMOR_TEXT = """
profile vessel-default flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (send, receive) peer=vessel-default,
  ptrace (trace, read, tracedby, readby) peer=vessel-default,

  deny mount,
  deny /proc/* w,
  deny /proc/{acpi,bus,fs,irq,scsi,sys,tty}/** wklx,
  deny /proc/{kcore,kmem,mem,sysrq-trigger} rwklx,
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/{firmware,devices/virtual/powercap,kernel/security}/** rwklx,
}
"""


def device_rules(*, privileged: bool = False) -> list[dict[str, Any]]:
    """The rules to begin with; later ones override earlier ones."""
    return [dict(rule) for rule in (PRIVILEGED_DEVICE_RULES if privileged else DEVICE_RULES)]


_FILES = """
    access chdir chmod chown chown32 chroot close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
    fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync
    flock fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64
    ioctl lchown lchown32 link linkat _llseek lseek lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at
    newfstatat open openat openat2 pipe pipe2 readahead readlink readlinkat rename renameat renameat2 rmdir splice stat
    stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range sync_file_range2 syncfs tee truncate truncate64
    umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice arm_fadvise64_64 arm_sync_file_range
    cachestat file_getattr file_setattr listmount statmount
"""
_XATTR = """
    fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr
    lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat
"""
_TRANSFER = """
    io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit pread64 preadv preadv2
    pwrite64 pwritev pwritev2 read readv sendfile sendfile64 write writev
"""
_MEMORY = """
    brk get_mempolicy madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap
    mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_madvise
    process_mrelease remap_file_pages
"""
_PROCESSES = """
    capget capset execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait futex_waitv
    futex_wake get_robust_list get_thread_area getpgid getpgrp getpid getpriority getppid getrlimit getrusage getsid
    gettid ioprio_get ioprio_set pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq set_robust_list
    set_thread_area set_tid_address setpgid setpriority setrlimit setsid ugetrlimit vfork wait4 waitid waitpid
"""
_SCHEDULING = """
    getcpu sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield
"""
_USERS = """
    getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32 getresuid
    getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setregid
    setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32
"""
_SIGNALS = """
    alarm kill pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
    rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaction sigaltstack signal signalfd signalfd4 sigpending
    sigprocmask sigreturn sigsuspend tgkill tkill
"""
_TIME = """
    adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
    timerfd_gettime64 timerfd_settime timerfd_settime64 times
"""
_WAITING = """
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
    eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch _newselect poll ppoll
    ppoll_time64 pselect6 pselect6_time64 select
"""
_SOCKETS = """
    accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 recvmsg
    send sendmmsg sendmsg sendto setsockopt shutdown socketpair
"""
_IPC = """
    ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
    mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget
"""
# What takes rights away, asks what there is, or is how the processor is spoken to.
_SYSTEM = """
    getrandom landlock_add_rule landlock_create_ruleset landlock_restrict_self lsm_get_self_attr lsm_list_modules
    seccomp sysinfo uname arch_prctl modify_ldt riscv_flush_icache riscv_hwprobe s390_pci_mmio_read
    s390_pci_mmio_write s390_runtime_instr swapcontext breakpoint cacheflush set_tls rtas uretprobe
    switch_endian
"""
# Harmless since 4.8, when the kernel began to filter what a tracer makes its child call.
_TRACING = "process_vm_readv process_vm_writev ptrace"

_ALLOWED = (
    _FILES, _XATTR, _TRANSFER, _MEMORY, _PROCESSES, _SCHEDULING, _USERS, _SIGNALS, _TIME, _WAITING, _SOCKETS, _IPC,
    _SYSTEM, _TRACING,
)  # fmt: skip

# Where the kernel asks for the capability, or should (those that look into other processes and memory).
_BY_CAPABILITY = {
    "CAP_BPF": "bpf",
    "CAP_CHECKPOINT_RESTORE": "bpf kcmp",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_set_self_attr mount
        mount_setattr move_mount open_tree open_tree_attr perf_event_open pivot_root quotactl quotactl_fd setdomainname
        sethostname setns umount umount2 unshare
    """,
    "CAP_SYS_BOOT": "kexec_file_load kexec_load reboot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYSLOG": "syslog",
}

# Programs that are 32-bit run on a 64-bit kernel; x32 does not, few kernels have it.
_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    "s390x": ["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
    "ppc64le": ["SCMP_ARCH_PPC64LE"],
    "riscv64": ["SCMP_ARCH_RISCV64"],
}

# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET; NEWTIME is not clone(2)'s.
_NAMESPACE_FLAGS = 0x7E020000
_AF_VSOCK = 40
_ENOSYS = 38
# PER_LINUX and PER_LINUX32, each with and without UNAME26, and the question what it is.
_PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)


def _allow(*names: str, args: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": list(names), "action": "SCMP_ACT_ALLOW"}
    return {**rule, "args": list(args)} if args else rule


def _refuse(name: str) -> dict[str, Any]:
    """As a kernel that does not have it, so that programs do without."""
    return {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS}


def _argument(index: int, op: str, value: int, second: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": second}


def _new_processes(machine: str) -> list[dict[str, Any]]:
    """clone without new namespaces. A filter can't look into clone3's struct; on ENOSYS a libc takes clone."""
    flags = 1 if machine.startswith("s390") else 0  # clone(2): there the first two arguments are the other way round
    return [
        _allow("clone", args=[_argument(flags, "MASKED_EQ", _NAMESPACE_FLAGS)]),
        _refuse("clone3"),
    ]


def seccomp_profile(caps: Iterable[str], machine: str = "") -> dict[str, Any]:
    """linux.seccomp of a container that holds ``caps``."""
    machine = machine or platform.machine()
    held = set(caps)
    names = {name for group in _ALLOWED for name in group.split()}
    for capability in held & set(_BY_CAPABILITY):
        names.update(_BY_CAPABILITY[capability].split())
    # First, because libseccomp lets in behind each socket call the one that held them all on 32-bit x86, whose
    # arguments no filter sees. On ENOSYS a libc takes the separate calls (Linux 4.3).
    rules = [_refuse("socketcall"), _allow(*sorted(names))]
    rules += [_allow("personality", args=[_argument(0, "EQ", value)]) for value in _PERSONALITIES]
    # To the hypervisor and its other guests; what a network namespace holds back, this family does not heed.
    rules.append(_allow("socket", args=[_argument(0, "NE", _AF_VSOCK)]))
    if "CAP_SYS_ADMIN" not in held:
        rules += _new_processes(machine)
    profile: dict[str, Any] = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": rules}
    if machine in _ARCHITECTURES:
        profile["architectures"] = _ARCHITECTURES[machine]
    return profile


SECCOMP = seccomp_profile(DEFAULT_CAPS)
