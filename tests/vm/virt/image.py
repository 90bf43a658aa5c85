# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image: a Debian root file system in ext4, its kernel, its initrd; without a mount on this host.

A directory images/HASH with ``root.img`` (raw, sparse), ``vmlinuz``, ``initrd``, and the host key that its sshd has
until a machine gets its own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from . import cache, initrd, programs, ssh
from .suites import SUITES
from .variants import VARIANTS

SIZE = "16G"  # sparse: what is not written takes no place
BUILD_TIMEOUT = 900.0
# A host that is reached over ssh and by Ansible.
BARE = (
    "systemd", "systemd-sysv", "dbus", "udev", "kmod", "libpam-systemd", "openssh-server", "iproute2", "procps",
    "less", "ca-certificates", "e2fsprogs", "apt", "python3",
)  # fmt: skip
PACKAGES = (
    *BARE, "strace", "curl", "apparmor",
    # what vessel.host asks of a host
    "python3-pyroute2", "nftables", "busybox-static", "zstd",
)  # fmt: skip
# Not as a dependency: the kernel's scripts would make an initrd that nobody boots, and busybox is the initrd's alone.
_KERNEL = "linux-image-cloud-amd64"
_FETCH_KERNEL = f"""
set -e
kernel=$(chroot "$1" apt-cache depends {_KERNEL} | sed -n 's/^ *Depends: \\(linux-image-[0-9]\\)/\\1/p' | head -n 1)
mkdir "$1/var/cache/boot"
chroot "$1" sh -c 'cd /var/cache/boot && apt-get -qq -o APT::Sandbox::User=root download "$@"' \\
    sh busybox-static "$kernel"
"""
# Slirp's own addresses; asking its DHCP server for them would take a second.
_NETWORK = """\
[Match]
Name=eth0
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
"""
_FILES = {
    "etc/hostname": "vm\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/resolv.conf": "nameserver 10.0.2.3\n",
    "etc/systemd/network/eth0.network": _NETWORK,
    "etc/ssh/sshd_config.d/vm.conf": "UseDNS no\nPrintLastLog no\n",
    "etc/fstab": "",
    "etc/machine-id": "",  # made at the first boot; a missing one would make systemd set up everything anew
    # What would wake up in the middle of a test, or waits for nobody.
    **{f"etc/systemd/system/{unit}": "" for unit in (
        "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer",
        "e2scrub_reap.service", "systemd-networkd-wait-online.service", "serial-getty@ttyS0.service",
    )},
}  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What an image is made of: names of SUITES and VARIANTS, packages besides theirs, and another mirror."""

    suite: str = "bookworm"
    variant: str = "cgroup2"
    packages: tuple[str, ...] = ()
    mirror: str = ""

    @property
    def all_packages(self) -> tuple[str, ...]:
        kind = VARIANTS[self.variant]
        return (*(BARE if kind.bare else PACKAGES), *self.packages, *kind.packages)


def build(wanted: Wanted) -> Path:
    """The directory of the image; made when the cache has none of the same inputs. About 40 seconds, then none."""
    kind = VARIANTS[wanted.variant]
    public = ssh.key().with_suffix(".pub").read_text()
    # What only the kernel is told makes no other image.
    content = {key: value for key, value in asdict(kind).items() if key != "kernel"}
    sources = [Path(module.__file__ or "").read_text() for module in (initrd, initrd.cpio)]
    suite = asdict(SUITES[wanted.suite])
    packages = wanted.all_packages
    inputs = [wanted.suite, suite, SIZE, packages, wanted.mirror, _FETCH_KERNEL, _FILES, content, public, sources]
    target = cache.directory("images") / cache.digest([*inputs, Path(__file__).read_text()])
    return cache.made(target, lambda new: _make(new, wanted, public))


def _make(new: Path, wanted: Wanted, public: str) -> None:
    programs.need("mmdebstrap", "mke2fs", "dpkg-deb", "unshare", "ssh-keygen")
    kind = VARIANTS[wanted.variant]
    with _scratch(new, "root.") as root, _scratch(new, "boot.") as boot:
        root.chmod(0o755)  # it becomes the guest's /
        _bootstrap(root, wanted)
        release = _kernel(root, boot, new)
        _configure(root, {**_FILES, **kind.files}, public, ssh.host_key(new))
        (new / "initrd").write_bytes(initrd.make(boot, root, release))
        for command in (("systemctl", "enable", "systemd-networkd"), ("depmod", release), *kind.finish):
            _inside(root, *command)
        _pack(root, new / "root.img")


@contextmanager
def _scratch(new: Path, prefix: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=new, prefix=prefix) as name:
        yield Path(name)


def _bootstrap(root: Path, wanted: Wanted) -> None:
    suite = SUITES[wanted.suite]
    command = ["mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--variant=minbase"]
    command += ["--skip=check/empty,check/qemu", f"--include={','.join(wanted.all_packages)}"]
    command += ["--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/doc/*"]
    command += ["--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*"]
    command += ['--aptopt=Acquire::Languages "none"', '--aptopt=APT::Install-Recommends "false"']
    command += [*suite.options, f"--customize-hook={_FETCH_KERNEL}", wanted.suite, str(root)]
    programs.run(*command, *([wanted.mirror] if wanted.mirror else []), timeout=BUILD_TIMEOUT)


def _kernel(root: Path, boot: Path, new: Path) -> str:
    """Unpack the kernel, its modules and busybox into ``boot``; the kernel's release, as uname says it."""
    for package in (root / "var/cache/boot").iterdir():
        programs.run("dpkg-deb", "-x", str(package), str(boot), timeout=120)
    shutil.rmtree(root / "var/cache/boot")
    (image,) = (boot / "boot").glob("vmlinuz-*")
    shutil.move(str(image), new / "vmlinuz")
    for modules in (boot / "lib/modules", boot / "usr/lib/modules"):
        if modules.is_dir():
            shutil.copytree(modules, root / "usr/lib/modules", dirs_exist_ok=True)
    release = image.name.partition("-")[2]
    _inside(root, "depmod", release)  # the initrd wants to know what depends on what
    return release


def _configure(root: Path, files: dict[str, str], public: str, host_key: Path) -> None:
    for path in (root / "etc/ssh").glob("ssh_host_*"):
        path.unlink()
    _install(root / "etc/ssh/ssh_host_ed25519_key", host_key.read_text(), 0o600)
    _install(root / "etc/ssh/ssh_host_ed25519_key.pub", host_key.with_suffix(".pub").read_text())
    _install(root / "root/.ssh/authorized_keys", public, 0o600)
    (root / "root/.ssh").chmod(0o700)
    (root / "var/log/journal").mkdir(exist_ok=True)  # the journal is kept over a reboot
    for name, text in files.items():
        path = root / name
        if path.suffix in (".timer", ".service") and not text:
            path.symlink_to("/dev/null")
        else:
            _install(path, text)


def _install(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _inside(root: Path, *command: str) -> None:
    """Run a program of the image in it. /proc is there in a mount namespace that ends with the program."""
    script = 'mount -t proc proc "$1/proc" && root=$1 && shift && exec chroot "$root" "$@"'
    argv = ["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh", str(root), *command]
    programs.run(*argv, timeout=300, env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})


def _pack(root: Path, target: Path) -> None:
    # A new sparse file is zeros already: neither this host nor the guest's kernel need write the inode tables again.
    options = "lazy_itable_init=0,assume_storage_prezeroed=1,root_owner=0:0"
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-m", "0", "-E", options]
    programs.run(*command, "-d", str(root), str(target), SIZE, timeout=300)
