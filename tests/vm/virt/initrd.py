# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An initrd of busybox and the modules of virtio-blk.

Debian's cloud kernel has NVMe built in and virtio not, but only a virtio disk's state can be saved and loaded; so
something has to load virtio before the root file system is there.
"""

from __future__ import annotations

import lzma
from pathlib import Path

from . import cpio

DISK = "/dev/vda"
# With this word on the kernel's command line the machine ends at once: it has shown that it boots. The kernel hands
# words that it does not know to init, as long as there is no dot in them.
PROBE = "vmprobe"
BOOTED = "the initrd is reached"
_WANTED = ("virtio_pci", "virtio_blk")
# Without /proc: where it is mounted in an initrd, a static program of glibc 2.36 aborts over its own /proc/self/exe.
_INIT = """\
#!/bin/busybox sh
export PATH=/bin
case " $* " in *" {probe} "*) echo "{booted}"; busybox poweroff -f ;; esac
busybox mount -t devtmpfs devtmpfs /dev
for module in {modules}; do busybox insmod "/modules/$module" || echo "initrd: cannot load $module"; done
tries=0
until [ -b {disk} ] || [ "$tries" -eq 200 ]; do tries=$((tries + 1)); busybox usleep 50000; done
busybox mount -t ext4 -o rw {disk} /root || echo "initrd: cannot mount {disk}"
busybox mount --move /dev /root/dev
exec busybox switch_root /root /sbin/init
"""


def make(boot: Path, root: Path, release: str) -> bytes:
    """``boot`` is where busybox-static is unpacked, ``root`` has the kernel's modules."""
    modules = root / "usr/lib/modules" / release
    built_in = {_name(line) for line in (modules / "modules.builtin").read_text().splitlines()}
    wanted = tuple(name for name in _WANTED if name not in built_in)
    paths = ordered((modules / "modules.dep").read_text(), wanted)
    init = _INIT.format(disk=DISK, probe=PROBE, booted=BOOTED, modules=" ".join(_name(path) for path in paths))
    members = {name: cpio.directory() for name in ("bin", "modules", "dev", "root")}
    members["init"] = cpio.program(init.encode())
    busybox = next(path for path in (boot / "bin/busybox", boot / "usr/bin/busybox") if path.exists())
    members["bin/busybox"] = cpio.program(busybox.read_bytes())
    for path in paths:
        members[f"modules/{_name(path)}"] = cpio.program(_content(modules / path))
    return cpio.pack(members)


def _name(path: str) -> str:
    return Path(path).name.partition(".")[0]


def _content(path: Path) -> bytes:
    """As it is linked: busybox hands the kernel what it reads, and only newer kernels unpack."""
    content = path.read_bytes()
    return lzma.decompress(content) if path.suffix == ".xz" else content


def ordered(dependencies: str, wanted: tuple[str, ...]) -> list[str]:
    """The wanted modules and all that they need, each after what it needs. ``dependencies`` is modules.dep(5)."""
    needs = {}
    for line in dependencies.splitlines():
        path, dummy, others = line.partition(":")
        needs[path] = others.split()
    found: list[str] = []
    for name in wanted:
        path = next(path for path in needs if _name(path) == name)
        # modules.dep names what comes last first.
        found += [other for other in [*reversed(needs[path]), path] if other not in found]
    return found
