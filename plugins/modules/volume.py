#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: volume
version_added: 0.1.0
short_description: Declare a volume for containers
description:
  - Declares data that outlives the containers that use it.
  - What is in a volume is removed by O(state=absent) on the volume itself, and by nothing else.
options:
  name:
    description: Name of the volume.
    type: str
    required: true
  state:
    description:
      - V(present) makes the volume as declared. Options that are not given stay as they are.
      - V(absent) removes it with its data. It is refused while a container's declaration names the volume.
    type: str
    choices: [present, absent]
    default: present
  driver:
    description:
      - V(directory) is a directory on the host's disk.
      - V(tmpfs) is memory. It is shared by all who mount it and survives their restarts, but no reboot.
      - V(loop) is a file system of a fixed O(size) in a file on the host's disk, so that what fills it fills no other.
      - V(mount) is a file system that is there already, of a server (nfs, cifs), a block device, or a directory of the
        host. It is mounted and unmounted, and nothing in it is made or removed, also not by O(state=absent).
      - What somebody has unmounted is mounted again by a task that has the volume or starts a container with it; a
        V(tmpfs) from a container that runs with it where there is one. Without it no container is started.
      - The default is V(directory). The driver of a volume can't change.
    type: str
    choices: [directory, tmpfs, loop, mount]
  device:
    description:
      - What the driver V(mount) mounts, as mount(8) takes it. V(SERVER:/PATH) for nfs, V(//SERVER/SHARE) for cifs,
        a path below C(/dev), C(UUID=), C(LABEL=), C(PARTUUID=) or C(PARTLABEL=) for a block device, the path of a
        directory with O(fstype=none).
      - It can't change. Remove the volume first; what is on the device stays.
    type: str
  fstype:
    description:
      - Type of the file system, such as V(nfs), V(cifs), V(ext4), V(xfs) or V(9p); V(none) with O(options=bind) is a
        directory of the host.
      - Types with a helper (C(/sbin/mount.TYPE)) are mounted by that, which for V(nfs) and V(cifs) must be installed
        (Debian has them in C(nfs-common) and C(cifs-utils)); others by the kernel alone.
      - Of O(driver=loop) it is V(ext4), which is the default, V(xfs) or V(btrfs). The host needs its tools.
      - It can't change.
    type: str
  options:
    description:
      - Options of the mount as mount(8) takes them, as a list or one string with commas. C(nosuid) and C(nodev) are set
        unless C(suid) and C(dev) are among them.
      - A change is a remount while containers run with the volume, and another mount while none does. C(noexec) and
        the other flags that are one mount's own reach a container when it is started the next time.
      - Passwords are refused, for the process list would show them. Give C(credentials=PATH), a file of the host that
        root alone can read.
    type: list
    elements: str
  size:
    description:
      - The most that a V(tmpfs) or V(loop) volume holds, in bytes or with a unit, such as V(64m).
      - The default of V(tmpfs) is V(0), for half of the host's memory. A V(loop) needs a size, and its file system's
        own tables are part of it.
      - A V(loop) grows while it is used. It never shrinks.
    type: str
  preallocate:
    description:
      - Whether the host's disk keeps room for all of a V(loop) from the start. Without, its file is sparse, and a full
        disk is an error of whoever writes to the volume.
      - To turn it off gives no room back.
    type: bool
  sharing:
    description:
      - Who may write to the volume at a time. V(all) is whoever has it mounted.
      - V(onewriter) is one container of one host. A container that has the volume other than C(ro) is started when it
        has a lease on it, a file on the storage itself. See RV(volume.lease) and the guide C(docs/volumes.md) for what
        that can promise and what it can't.
      - It is for storage that several hosts have mounted. A V(tmpfs), a V(loop) and file systems of block devices are
        one host's alone, and are refused.
      - The default is V(all). A change counts from the next start of each container.
    type: str
    choices: [all, onewriter]
  lease_duration:
    description:
      - For how long a lease of O(sharing=onewriter) lasts that nobody renews, as seconds or with units, such as V(1m).
      - So long another host waits for the volume of one that has died. A container whose host can't reach the storage
        is ended after two thirds of it, so a server's restart should not take longer.
      - V(3s) to V(1h). The default is V(30s).
    type: str
  break_lease:
    description:
      - Whether to take the lease of O(sharing=onewriter) from the container that has it, without waiting until it ends.
      - It is for a host that is known to be off. A container that still runs there goes on writing until its host sees
        that the lease is gone.
    type: bool
    default: false
  owner:
    description:
      - Owner of the volume's top directory, as a number, or as a name of the host's.
      - An image may have another number for the same name, so a number is the safer choice.
      - Without it a new volume is root's, and an existing one stays as it is.
    type: str
  group:
    description:
      - Group of the volume's top directory, as a number, or as a name of the host's.
      - Without it a new volume is root's, and an existing one stays as it is.
    type: str
  mode:
    description:
      - Permission bits of the volume's top directory, as an octal string in quotes.
      - Without it a new volume has V('0755'), and an existing one stays as it is.
    type: str
  labels:
    description:
      - Words of your own about the volume. All labels are replaced by those given.
    type: dict
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.attributes
  - vessel.host.attributes.converge
seealso:
  - module: vessel.host.volume_info
  - module: vessel.host.container
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: A place for a database
  vessel.host.volume:
    name: shop-db
    owner: "999"
    group: "999"
    mode: "0700"

- name: Memory that two containers share
  vessel.host.volume:
    name: sockets
    driver: tmpfs
    size: 1m

- name: A disk of ten gigabytes of its own, which may grow later
  vessel.host.volume:
    name: uploads
    driver: loop
    size: 10g

- name: An export of a server, for one writer at a time
  vessel.host.volume:
    name: shop-db
    driver: mount
    device: "filer:/export/shop-db"
    fstype: nfs
    options: [nfsvers=4.2, hard, noatime]
    sharing: onewriter

- name: A share, with a password that is in a file of the host
  vessel.host.volume:
    name: scans
    driver: mount
    device: //filer/scans
    fstype: cifs
    options: [credentials=/etc/vessel-scans, uid=1000, ro]

- name: No such volume, and no such data
  vessel.host.volume:
    name: shop-db
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order.
  returned: always
  type: list
  elements: str
  sample: ["volume shop-db: set mode (live)"]
volume:
  description: The volume as it is now; empty when there is none.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the volume.
      type: str
      returned: always
      sample: shop-db
    driver:
      description: The driver.
      type: str
      returned: always
      sample: directory
    size:
      description: The most bytes that it holds, as declared; 0 for no limit of its own.
      type: int
      returned: always
      sample: 0
    owner:
      description: User id of the owner.
      type: int
      returned: always
      sample: 999
    group:
      description: Group id.
      type: int
      returned: always
      sample: 999
    mode:
      description: Permission bits.
      type: str
      returned: always
      sample: "0700"
    labels:
      description: The labels.
      type: dict
      returned: always
    mountpoint:
      description: Where the data is on the host.
      type: str
      returned: always
      sample: /var/lib/vessel/volumes/shop-db/data
    device:
      description: What is mounted; null for drivers that mount nothing of others.
      type: str
      returned: always
      sample: "filer:/export/shop-db"
    fstype:
      description: Type of the file system, as declared.
      type: str
      returned: always
      sample: nfs
    options:
      description: The declared options of the mount.
      type: list
      elements: str
      returned: always
      sample: [hard]
    preallocate:
      description: Whether the disk keeps room for all of it.
      type: bool
      returned: always
    sharing:
      description: Who may write to it at a time.
      type: str
      returned: always
      sample: all
    lease_duration:
      description: Seconds that a lease lasts unrenewed.
      type: float
      returned: always
      sample: 30.0
    lease:
      description:
        - Of O(sharing=onewriter), who has the lease, by RV(ignore:host) and RV(ignore:container), RV(ignore:since)
          when, by that host's clock, and for how many seconds a lease lasts that nobody renews (RV(ignore:duration)).
        - It is null when nobody has it, and of other volumes.
      type: dict
      returned: always
    problem:
      description: Why it could not be looked at, such as a server that does not answer; null when it could.
      type: str
      returned: always
    present:
      description: Whether the host has it mounted; what is mounted is gone after a reboot until it is put back.
      type: bool
      returned: always
    containers:
      description: Names of the containers whose declaration has the volume.
      type: list
      elements: str
      returned: always
      sample: [db]
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.module import Facts, VesselModule, run
from ansible_collections.vessel.host.plugins.module_utils._converge import store, volumes
from ansible_collections.vessel.host.plugins.module_utils._converge.plan import Plan
from ansible_collections.vessel.host.plugins.module_utils._options.volume import DIRECTIVES, OPTIONS


def converge(module: VesselModule) -> tuple[Plan, Facts]:
    paths, name = module.paths, module.desired["name"]

    def facts() -> dict:
        declared = store.read_spec(paths, volumes.KIND, name) is not None
        return {"volume": volumes.info(paths, name) if declared else {}}

    return volumes.plan(paths, module.desired), facts


def main() -> None:
    run((*DIRECTIVES, *OPTIONS), converge, locks=lambda paths, desired: [(volumes.KIND, desired["name"])])


if __name__ == "__main__":
    main()
