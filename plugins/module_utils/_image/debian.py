# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The debian template: mmdebstrap, or debootstrap where that is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from .._errors import DependencyError
from .._kernel.file import remove_tree
from .record import listdir

DEFAULTS: dict[str, Any] = {
    "suite": "bookworm",
    "variant": "minbase",
    "mirror": "",
    "packages": [],
    "components": ["main"],
    "architecture": "",
    "docs": False,
}
MIRROR = "http://deb.debian.org/debian"
_DOCS = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*")
_KEPT_DOCS = ("/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias")
_SOURCES = ("/etc/apt/sources.list", "/etc/apt/sources.list.d")
# mmdebstrap knows Debian's keys by itself; those of others have to be named.
_OWN_KEYS = "/usr/share/keyrings/debian-archive-keyring."
# What dpkg and apt write to the disk byte by byte is thrown away as a whole when it fails.
_DPKG = ("force-unsafe-io",)
_APT = 'Acquire::Languages "none";'  # stays in the image; no container reads descriptions in French
_APT_FILE = "etc/apt/apt.conf.d/99mmdebstrap"
_APT_ONCE = 'APT::Install-Recommends "false";'

# What belongs to one machine or one moment: directories are emptied, files go, and machine-id is to be made anew.
_EMPTIED = ("var/lib/apt/lists", "var/cache/apt", "var/cache/man", "var/log", "var/tmp", "tmp", "run")
_REMOVED = (
    "etc/resolv.conf",
    "etc/hostname",
    "etc/.pwd.lock",
    "usr/sbin/policy-rc.d",
    "var/lib/dbus/machine-id",
    "var/cache/ldconfig/aux-cache",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/templates.dat-old",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/available-old",
    "var/lib/dpkg/available",
)
_TRUNCATED = ("etc/machine-id",)


def program() -> str:
    """The one that the target has; DependencyError when it has none."""
    for name in ("mmdebstrap", "debootstrap"):
        found = shutil.which(name)
        if found:
            return found
    raise DependencyError("template debian needs mmdebstrap or debootstrap on the target", hint="install mmdebstrap")


def command(rootfs: str, options: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """What fills the directory: arguments, and variables of the environment."""
    options = {**DEFAULTS, **options}
    path = program()
    make = _mmdebstrap if path.endswith("/mmdebstrap") else _debootstrap
    return make(path, rootfs, options), _proxies()


def _mmdebstrap(path: str, rootfs: str, options: Mapping[str, Any]) -> list[str]:
    found = [path, "--quiet", "--mode=root", "--format=directory", f"--variant={options['variant']}"]
    found += [f"--components={','.join(options['components'])}", "--skip=check/empty,check/qemu"]
    found += [f"--dpkgopt={option}" for option in (*_DPKG, *dpkg_options(docs=options["docs"]))]
    found += [f"--aptopt={_APT}", f"--aptopt={_APT_ONCE}"]
    found += [f"--architectures={options['architecture']}"] if options["architecture"] else []
    found += [f"--include={','.join(options['packages'])}"] if options["packages"] else []
    return [*found, options["suite"], rootfs, *_mirrors(options)]


def _debootstrap(path: str, rootfs: str, options: Mapping[str, Any]) -> list[str]:
    found = [path, f"--variant={options['variant']}", f"--components={','.join(options['components'])}"]
    found += [f"--arch={options['architecture']}"] if options["architecture"] else []
    found += [f"--include={','.join(options['packages'])}"] if options["packages"] else []
    own = (uri for dummy, uri, suite, dummies in sources() if suite == options["suite"])
    mirror = options["mirror"] or next(own, MIRROR)
    return [*found, options["suite"], rootfs, mirror]


def dpkg_options(*, docs: bool) -> list[str]:
    """They stay in the image, so that packages installed later leave the same out."""
    if docs:
        return []
    return [f"path-exclude={path}" for path in _DOCS] + [f"path-include={path}" for path in _KEPT_DOCS]


def _mirrors(options: Mapping[str, Any]) -> list[str]:
    """The declared mirror; else what the host itself has of that suite; else the default of the tool."""
    if options["mirror"]:
        return [str(options["mirror"])]
    suite = options["suite"]
    own = (suite, f"{suite}-updates", f"{suite}-security", f"{suite}/updates")
    lines = [
        f"deb {words}{uri} {found} {' '.join(options['components'])}"
        for words, uri, found, components in sources()
        if found in own and "main" in components
    ]
    return lines if any(f" {suite} " in line for line in lines) else []


def sources() -> list[tuple[str, str, str, list[str]]]:
    """(options, URI, suite, components) of each source of packages that the host's apt has (sources.list(5))."""
    listed, directory = _SOURCES
    found = _one_line(_read(listed))
    for name in listdir(directory):
        text = _read(f"{directory}/{name}")
        if name.endswith(".list"):
            found += _one_line(text)
        elif name.endswith(".sources"):
            found += _deb822(text)
    return found


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _one_line(text: str) -> list[tuple[str, str, str, list[str]]]:
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 3 or words[0] != "deb":
            continue
        options = ""
        if words[1].startswith("["):
            end = next((index for index, word in enumerate(words) if word.endswith("]")), len(words) - 1)
            options = " ".join(words[1 : end + 1])[1:-1]
            words = [words[0], *words[end + 1 :]]
        if len(words) >= 3:
            keys = [word for word in options.split() if word.startswith("signed-by=")]
            found.append((_signed(keys[0][len("signed-by=") :] if keys else ""), words[1], words[2], words[3:]))
    return found


def _deb822(text: str) -> list[tuple[str, str, str, list[str]]]:
    found = []
    for stanza in text.split("\n\n"):
        fields = dict(_fields(stanza))
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false"):
            continue
        signed = fields.get("signed-by", "")
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                found.append((_signed(signed), uri, suite, fields.get("components", "").split()))
    return found


def _fields(stanza: str) -> Iterator[tuple[str, str]]:
    for line in stanza.splitlines():
        name, colon, value = line.partition(":")
        if colon and not line.startswith(("#", " ", "\t")):
            yield name.strip().lower(), value.strip()


def _signed(keyring: str) -> str:
    """As an option of a source; a key that stands in the file itself can't be passed on."""
    if not keyring.startswith("/") or keyring.startswith(_OWN_KEYS):
        return ""
    return f"[signed-by={keyring}] "


def _proxies() -> dict[str, str]:
    """What the host's apt goes through: the tools' own apt does not read its configuration."""
    import subprocess

    if not shutil.which("apt-config"):
        return {}
    asked = ["http_proxy", "Acquire::http::Proxy", "https_proxy", "Acquire::https::Proxy"]
    done = subprocess.run(["apt-config", "shell", *asked], capture_output=True, text=True, check=False)
    pairs = [line.partition("=")[::2] for line in done.stdout.splitlines()]
    found = {name: value.strip("'") for name, value in pairs}
    return {name: value for name, value in found.items() if "://" in value and name not in os.environ}


def clean(rootfs: str) -> None:
    """What belongs to one machine or one moment must not be in an image."""
    for path in _EMPTIED:
        for directory, dummy, files in os.walk(f"{rootfs}/{path}"):
            for name in files:
                os.unlink(f"{directory}/{name}")
    for path in _REMOVED:
        remove_tree(f"{rootfs}/{path}")
    for path in _TRUNCATED:
        if os.path.isfile(f"{rootfs}/{path}"):
            os.truncate(f"{rootfs}/{path}", 0)
    if os.path.isfile(f"{rootfs}/{_APT_FILE}"):
        with open(f"{rootfs}/{_APT_FILE}", "w", encoding="ascii") as file:
            file.write(f"{_APT}\n")
