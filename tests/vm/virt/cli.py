# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: ``python3 tests/vm/vm.py VERB``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, Optional

from . import accelerator, cache, image, machine, making, process, qemu, ssh
from .errors import VmError
from .suites import SUITES
from .variants import VARIANTS

Arguments = argparse.Namespace


def main(argv: Optional[Sequence[str]] = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.verb(arguments) or 0)
    except VmError as error:
        print(f"vm: {error}", file=sys.stderr)
        return 1


def build(arguments: Arguments) -> None:
    print(image.build(_image(arguments)))


def start(arguments: Arguments) -> None:
    """One that is there is switched on again with its own disk; else a new one is made."""
    directory = machine.place(arguments.name)
    with cache.locked(directory):
        if (directory / "record.json").exists():
            found = machine.find(arguments.name)
            if not found.running():
                found.power_on()
                found.settle()
        else:
            found = making.start(directory, *_wanted(arguments))
    print(json.dumps(_shown(found), indent=1))


def _wanted(arguments: Arguments) -> tuple[qemu.Hardware, qemu.Wires, Optional[process.Identity], bool]:
    qemu.version()  # a missing QEMU is told before an image is built for it
    path = image.build(_image(arguments))
    hardware = qemu.Hardware(str(path), arguments.variant, "tcg", arguments.memory, arguments.cpus)
    hardware.accelerator = arguments.accelerator or accelerator.choose(hardware)
    ports = dict.fromkeys([machine.SSH, *arguments.publish], 0)
    if arguments.wire:
        machine.place(arguments.wire)  # a name as any
        hardware.wire = True
    return hardware, qemu.Wires(ports, arguments.offline, arguments.wire), _owner(arguments.owner), arguments.cold


def _owner(pid: int) -> Optional[process.Identity]:
    owner = process.identify(pid) if pid else None
    if pid and not owner:
        raise VmError(f"there is no process {pid} that could own the machine")
    return owner


def _image(arguments: Arguments) -> image.Wanted:
    packages = tuple(sorted(filter(None, arguments.packages.split(","))))
    return image.Wanted(arguments.suite, arguments.variant, packages, arguments.mirror)


def _shown(found: machine.Machine) -> dict[str, Any]:
    identity = found.running()
    return {
        "name": found.name,
        "state": "running" if identity else "off",
        "orphan": found.is_orphan(),
        "pid": identity[0] if identity else None,
        "variant": found.hardware.variant,
        "accelerator": found.hardware.accelerator,
        "ports": found.wires.ports,
        "ssh_config": str(found.directory / "ssh_config"),
        "console": str(found.directory / "serial.log"),
    }


def list_machines(arguments: Arguments) -> None:
    found = [_shown(one) for one in machine.all_of_them()]
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    for one in found:
        words = [one["name"], one["state"], one["variant"], one["accelerator"], f"pid {one['pid']}"]
        print(*words, *(["orphan"] if one["orphan"] else []), sep="\t")


def shell(arguments: Arguments) -> int:
    return ssh.interactive(machine.find(arguments.name).directory, arguments.command)


def put(arguments: Arguments) -> None:
    ssh.copy(machine.find(arguments.name).directory, arguments.local, f":{arguments.remote}", timeout=600)


def get(arguments: Arguments) -> None:
    ssh.copy(machine.find(arguments.name).directory, f":{arguments.remote}", arguments.local, timeout=600)


def stop(arguments: Arguments) -> None:
    found = machine.find(arguments.name)
    if found.running():
        found.power_off()


def kill(arguments: Arguments) -> None:
    machine.find(arguments.name).cut_power()


def reboot(arguments: Arguments) -> None:
    machine.find(arguments.name).reboot()


def save(arguments: Arguments) -> None:
    machine.find(arguments.name).snapshot(arguments.tag)


def load(arguments: Arguments) -> None:
    machine.find(arguments.name).restore(arguments.tag)


def destroy(arguments: Arguments) -> None:
    """One that is not there is destroyed already."""
    names = list(arguments.names)
    names += [one.name for one in machine.all_of_them() if arguments.all or (arguments.orphans and one.is_orphan())]
    for name in names:
        directory = machine.place(name)
        with cache.locked(directory):
            if (directory / "record.json").exists():
                machine.find(name).remove()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vm.py", description="Virtual machines for tests.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, function: Any, text: str, *words: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(verb=function)
        for word in words:
            added.add_argument(word)
        return added

    made = verb("build", build, "make the image, or take it from the cache; print its directory")
    started = verb("start", start, "make and boot a machine, or switch one on; print what it is as JSON", "name")
    for each in (made, started):
        each.add_argument("--variant", choices=sorted(VARIANTS), default="cgroup2")
        each.add_argument("--suite", choices=sorted(SUITES), default="bookworm")
        each.add_argument("--packages", default="", help="packages besides the common ones, with commas")
        each.add_argument("--mirror", default=os.environ.get("VESSEL_VM_MIRROR", ""))
    started.add_argument("--memory", type=int, default=1024, help="MiB (1024)")
    started.add_argument("--cpus", type=int, default=2)
    started.add_argument("--publish", type=int, action="append", default=[], metavar="PORT", help="a port of the guest")
    started.add_argument("--offline", action="store_true", help="nothing outside is reached from within")
    started.add_argument(
        "--wire", default="", metavar="OTHER", help="a second network card, which leads to that machine"
    )
    started.add_argument("--cold", action="store_true", help="boot, instead of loading the memory of one that has")
    started.add_argument("--accelerator", choices=["kvm", "tcg"], help="instead of trying out whether KVM works")
    owner = int(os.environ.get("VESSEL_VM_OWNER") or os.getppid())
    started.add_argument("--owner", type=int, default=owner, metavar="PID", help="whose end orphans it; 0: none")
    verb("list", list_machines, "what there is").add_argument("--json", action="store_true")
    verb("ssh", shell, "a shell, or a command", "name").add_argument("command", nargs=argparse.REMAINDER)
    verb("put", put, "copy into the machine", "name", "local", "remote")
    verb("get", get, "copy out of it", "name", "remote", "local")
    verb("stop", stop, "press the power button and wait; start switches it on again", "name")
    verb("kill", kill, "cut the power", "name")
    verb("reboot", reboot, "reboot and wait", "name")
    verb("save", save, "keep disk and memory under a tag", "name", "tag")
    verb("load", load, "go back to a tag", "name", "tag")
    removed = verb("destroy", destroy, "end machines and remove all they have")
    removed.add_argument("names", nargs="*")
    removed.add_argument("--orphans", action="store_true", help="those whose owner is gone")
    removed.add_argument("--all", action="store_true")
    return parser
