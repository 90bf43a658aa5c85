# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of modules volume and network. What is declared is called thing; the container box is on such a network."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._kernel import mount
from ansible_collections.vessel.host.tests.patience import patient

from .options_box import Box
from .options_container import default_route
from .options_table import Alike, Also, rows
from .warm import NET, SIX, WarmPlace

# volumes

row = rows("volume")


def volume_there(place: WarmPlace) -> bool:
    return place.volume("thing").is_dir()


def file_system(place: WarmPlace) -> str:
    path = place.volume("thing")
    return "" if not path.exists() else "mounted" if os.path.ismount(path) else "directory"


def capacity(place: WarmPlace) -> int | str:
    info = os.statvfs(place.volume("thing"))
    total = info.f_blocks * info.f_frsize
    return total if total < 1 << 27 else "much"  # by default half of the memory, which a small host has too


def owner(place: WarmPlace) -> tuple[int, int, str]:
    info = place.volume("thing").stat()
    return info.st_uid, info.st_gid, f"{stat.S_IMODE(info.st_mode):04o}"


def told(kind: str, fact: str = "labels") -> Any:
    return lambda place: place.task(f"{kind}_info", name="thing")[f"{kind}s"][0][fact]


def type_there(place: WarmPlace) -> str:
    return mount.mounted(str(place.volume("thing")))


def flags(place: WarmPlace) -> list[str]:
    """The mount's own, without those that every mount has."""
    found = mount.mount_at(str(place.volume("thing")))
    return sorted(set(found.words if found else ()) - {"rw", "relatime", "nosuid", "nodev"})


def bound(place: WarmPlace) -> bool:
    return place.volume("thing").is_dir() and os.path.samefile(place.volume("thing"), "/usr/share")


def image(place: WarmPlace) -> os.stat_result:
    return (place.volume("thing").parent / "image").stat()


GONE, THERE = Also(state="absent"), Also(state="present")
row("name", volume_there, ("thing", True), made=False)
row("state", volume_there, (GONE, False), (THERE, True))
row("driver", file_system, ("tmpfs", "mounted"), made=False, name="tmpfs")
row("driver", file_system, ("directory", "directory"), made=False, name="directory")
USR = {"driver": "mount", "device": "/usr/share", "fstype": "none", "options": ["bind", "ro"]}
row("driver", type_there, (Also(driver="loop", size="2m"), "ext4"), made=False, name="loop")
row("driver", bound, (Also(**USR), True), made=False, name="mount")
row("device", bound, (Also(**{**USR, "device": " /usr/share"}), True, Also(**USR)), made=False)
row("fstype", type_there, (Also(driver="loop", size="2m", fstype="ext4"), "ext4", Also(size="2m")), made=False)
row(
    "options",
    flags,
    ("noexec,noatime", ["noatime", "noexec"], ["noatime", "noexec"]),
    (["ro"], ["ro"], "ro"),
    ([], [], ""),
    driver="loop",
    size="2m",
)
row(
    "preallocate",
    lambda place: image(place).st_blocks * 512 >= 2 << 20,
    (True, True, "yes"),
    (False, Alike(True, "what was taken is not given back")),
    driver="loop",
    size="2m",
)
row(
    "size",
    lambda place: image(place).st_size,
    ("4m", 4 << 20, 4194304),
    ("6m", 6 << 20),
    driver="loop",
    name="loop",
    **{"size": "2m"},
)
SHARED = {"sharing": "onewriter"}
row("sharing", told("volume", "sharing"), ("onewriter", "onewriter"), ("all", "all"))
row("lease_duration", told("volume", "lease_duration"), ("10s", 10.0, 10), ("1m", 60.0), **SHARED)
row("size", capacity, ("2m", 2 << 20, 2097152, "2048k"), ("4m", 4 << 20), (0, "much", "0"), driver="tmpfs")
row("owner", owner, ("12", (12, 0, "0755"), 12), ("nobody", (65534, 0, "0755"), "65534"), ("root", (0, 0, "0755")))
row("group", owner, ("34", (0, 34, "0755"), 34), ("nogroup", (0, 65534, "0755")), (0, (0, 0, "0755")))
row("mode", owner, ("0750", (0, 0, "0750"), "750", "0o750"), ("1777", (0, 0, "1777")))
row("labels", told("volume"), ({"a": "1", "b": "2"}, {"a": "1", "b": "2"}, {"b": 2, "a": "1"}), ({}, {}))

# networks

row = rows("network")


def bridge(place: WarmPlace) -> str:
    return place.paths.link("br", "thing")


def network_there(place: WarmPlace) -> bool:
    return os.path.exists(f"/sys/class/net/{bridge(place)}/bridge")


def prefixes(place: WarmPlace) -> tuple[list[str], list[str], list[str]]:
    """The subnets of the bridge and of the container, and where the container's default route leads."""
    box = Box(place)
    return (
        [a.rpartition(".")[0] for a in host_addresses(place)],
        [a.rpartition(".")[0] for a in box.addresses()],
        default_route(box),
    )


def host_addresses(place: WarmPlace, family: str = "inet") -> list[str]:
    words = ["ip", "-o", "address", "show", "dev", bridge(place), "scope", "global"]
    lines = subprocess.run(words, capture_output=True, text=True, timeout=patient(20), check=True).stdout.splitlines()
    return [line.split()[3].partition("/")[0] for line in lines if line.split()[2] == family]


def newcomer(place: WarmPlace) -> bool:
    """Does who comes now get an address of the upper half?"""
    probe = Box(place, "probe")
    probe.make(networks=[{"name": "thing"}])
    address = probe.addresses()[0]
    probe.remove()
    return int(address.rpartition(".")[2]) >= 128


def six(place: WarmPlace) -> tuple[list[str], list[str]]:
    """As much of the addresses as was declared."""
    found = (host_addresses(place, "inet6"), Box(place).addresses("inet6"))
    first, second = (sorted({f"{address.partition('::')[0]}::" for address in addresses}) for addresses in found)
    return first, second


def has_six(place: WarmPlace) -> tuple[bool, bool]:
    return bool(host_addresses(place, "inet6")), bool(Box(place).addresses("inet6"))


def reaches_neighbour(place: WarmPlace) -> bool:
    """Over to another network of the host. Nobody listens there: to be refused is to have reached it."""
    peer = Box(place, "peer").addresses()[0]
    words = ["nsenter", f"--net=/proc/{Box(place).pid}/ns/net", "timeout", "1", "bash", "-c", f"< /dev/tcp/{peer}/9"]
    return "refused" in subprocess.run(words, capture_output=True, text=True, timeout=patient(20), check=False).stderr


def mtus(place: WarmPlace) -> tuple[int, ...]:
    with open(f"/sys/class/net/{bridge(place)}/mtu") as file:
        return int(file.read()), *(int(link["mtu"]) for link in Box(place).links().values())


def route_and_world(place: WarmPlace) -> list[str]:
    return default_route(Box(place))


def shown(*words: str) -> list[dict[str, Any]]:
    done = subprocess.run(words, capture_output=True, text=True, timeout=patient(20), check=False)
    return list(json.loads(done.stdout or "[]"))


def tunnel(place: WarmPlace, key: str) -> Any:
    """What the kernel shows of the link to other hosts."""
    for link in shown("ip", "-j", "-d", "link", "show", "dev", bridge(place).replace("br", "vx", 1)):
        return link["linkinfo"]["info_data"].get(key)
    return None


def led_to(place: WarmPlace) -> list[str]:
    entries = shown("bridge", "-j", "fdb", "show", "dev", bridge(place).replace("br", "vx", 1))
    return sorted(entry["dst"] for entry in entries if "dst" in entry)


def called(place: WarmPlace) -> str:
    """What the container takes the name for."""
    lines = Box(place).read("/etc/hosts").splitlines()
    return next((line.split()[0] for line in lines if line.split()[1:] == ["printer"]), "")


def admitted(place: WarmPlace) -> tuple[bool, ...]:
    """Does a neighbour get to two ports of the container? Nobody listens there: to be refused is to have got there."""
    probe = Box(place, "probe")
    probe.make(networks=[{"name": "thing"}], labels={"role": "probe"})
    target = Box(place).addresses()[0]
    words = ["nsenter", f"--net=/proc/{probe.pid}/ns/net", "timeout", "1", "bash", "-c"]
    told = [
        subprocess.run([*words, f"< /dev/tcp/{target}/{port}"], capture_output=True, text=True, check=False).stderr
        for port in (9, 10)
    ]
    probe.remove()
    return tuple("refused" in text for text in told)


NOBODY = (False, False)
ON_THE_NET = {"subnet": f"{NET}7.0/24"}
row("name", network_there, ("thing", True), made=False)
row("state", network_there, (GONE, False), (THERE, True))
row("driver", network_there, ("bridge", True), made=False, name="bridge")
row("subnet", prefixes, (f"{NET}8.0/24", ([f"{NET}8"], [f"{NET}8"], [f"{NET}8.1"])),
    (f"{NET}7.0/24", ([f"{NET}7"], [f"{NET}7"], [f"{NET}7.1"])), **ON_THE_NET)  # fmt: skip
row("gateway", lambda place: (host_addresses(place), default_route(Box(place))),
    (f"{NET}7.254", ([f"{NET}7.254"], [f"{NET}7.254"])), (f"{NET}7.1", ([f"{NET}7.1"], [f"{NET}7.1"])), **ON_THE_NET)  # fmt: skip
row("ip_range", newcomer, (f"{NET}7.128/25", True), (f"{NET}7.0/25", False), **ON_THE_NET)
row("ipv6", has_six, (True, (True, True), "yes"), (False, (False, False)), **ON_THE_NET)
row("subnet6", six, (f"{SIX}:8::/64", ([f"{SIX}:8::"], [f"{SIX}:8::"]), f"{SIX}:8::/64"),
    (f"{SIX}:9::/64", ([f"{SIX}:9::"], [f"{SIX}:9::"])), subnet6=f"{SIX}:7::/64", **ON_THE_NET)  # fmt: skip
row("gateway6", lambda place: host_addresses(place, "inet6"), (f"{SIX}:7::fe", [f"{SIX}:7::fe"], f"{SIX}:7:0::fe"),
    (f"{SIX}:7::1", [f"{SIX}:7::1"]), subnet6=f"{SIX}:7::/64", **ON_THE_NET)  # fmt: skip
row("internal", route_and_world, (True, [], "yes"), (False, [f"{NET}7.1"]), **ON_THE_NET)
row("isolate", reaches_neighbour, (True, False), (False, True), **ON_THE_NET)
row("mtu", mtus, (1400, (1400, 1400), "1400"), (1500, (1500, 1500)), **ON_THE_NET)
VNI = 100000 + os.getpid()
ACROSS = {**ON_THE_NET, "driver": "vxlan", "vni": VNI, "ip_range": f"{NET}7.0/25", "peers": ["198.51.100.2"],
          "local": "198.51.100.1"}  # fmt: skip
row("driver", lambda place: tunnel(place, "id"), (Also(**ACROSS), VNI), made=False, name="vxlan")
row("vni", lambda place: tunnel(place, "id"), (VNI + 1, VNI + 1, str(VNI + 1)), (VNI, VNI), **ACROSS)
row("port", lambda place: tunnel(place, "port"), (4790, 4790, "4790"), (4789, 4789), **ACROSS)
row(
    "local",
    lambda place: tunnel(place, "local"),
    ("198.51.100.9", "198.51.100.9"),
    ("198.51.100.1", "198.51.100.1"),
    **ACROSS,
)
row("device", lambda place: tunnel(place, "link"), ("lo", "lo"), **ACROSS)
row("peers", led_to, (["198.51.100.3", "198.51.100.2"], ["198.51.100.2", "198.51.100.3"], ["198.51.100.2", "198.51.100.3"]),
    ({"other": "198.51.100.4"}, ["198.51.100.4"], {"other": {"address": "198.51.100.4"}}), ({}, []), **ACROSS)  # fmt: skip
row("names", called, ({"printer": "10.9.9.9"}, "10.9.9.9", {"printer": ["10.9.9.9"]}), ({}, ""), **ON_THE_NET)
row("allow", admitted, ([], NOBODY), ([{}], (True, True)), **ON_THE_NET)
row("allow.from", admitted, ([{"from": "odd"}], NOBODY), ([{"from": "probe"}], (True, True), [{"from": ["probe"]}]),
    ([{"from": {"role": "odd"}}], NOBODY), ([{"from": {"role": "probe"}}], (True, True)), **ON_THE_NET)  # fmt: skip
row("allow.to", admitted, ([{"to": "odd"}], NOBODY), ([{"to": "box"}], (True, True)), **ON_THE_NET)
row("allow.ports", admitted, ([{"ports": [9]}], (True, False), [{"ports": ["9"]}]),
    ([{"ports": ["1-9", "10-99"]}], (True, True)), **ON_THE_NET)  # fmt: skip
row("allow.protocol", admitted, ([{"protocol": "udp"}], NOBODY), ([{"protocol": "tcp"}], (True, True)), **ON_THE_NET)
row("labels", told("network"), ({"a": "1"}, {"a": "1"}, {"a": 1}), ({}, {}), **ON_THE_NET)
row("force", network_there, (Also(state="absent", force=True), False), **ON_THE_NET)
