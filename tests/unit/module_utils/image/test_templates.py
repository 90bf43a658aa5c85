# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates without running one: where packages come from, and which busybox will do."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import DependencyError, OptionError
from ansible_collections.vessel.host.plugins.module_utils._image import busybox, debian, template

ONE_LINE = """
# deb http://commented/debian bookworm main
deb http://mirror/debian bookworm main contrib # and more
deb [arch=amd64 signed-by=/etc/keys/own.gpg] http://mirror/debian bookworm-updates main
deb [ signed-by=/usr/share/keyrings/debian-archive-keyring.gpg ] http://mirror/security bookworm-security main
deb-src http://mirror/debian bookworm main
deb http://flat/ ./
deb broken
"""
DEB822 = """Types: deb deb-src
URIs: http://one/debian http://two/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /etc/keys/own.gpg

# a comment
Types: deb
URIs: http://off/debian
Suites: trixie
Components: main
Enabled: no

Types: deb
URIs: http://key/debian
Suites: sid
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
"""


@pytest.fixture
def host(tmp_path, monkeypatch):
    (tmp_path / "sources.list").write_text(ONE_LINE)
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/new.sources").write_text(DEB822)
    (tmp_path / "sources.list.d/ignored.save").write_text("deb http://ignored/debian x main")
    monkeypatch.setattr(debian, "_SOURCES", (str(tmp_path / "sources.list"), str(tmp_path / "sources.list.d")))
    return tmp_path


OWN = "[signed-by=/etc/keys/own.gpg] "


def test_the_hosts_own_sources(host):
    assert debian.sources() == [
        ("", "http://mirror/debian", "bookworm", ["main", "contrib"]),
        (OWN, "http://mirror/debian", "bookworm-updates", ["main"]),
        ("", "http://mirror/security", "bookworm-security", ["main"]),
        ("", "http://flat/", "./", []),
        (OWN, "http://one/debian", "trixie", ["main"]),
        (OWN, "http://one/debian", "trixie-updates", ["main"]),
        (OWN, "http://two/debian", "trixie", ["main"]),
        (OWN, "http://two/debian", "trixie-updates", ["main"]),
        ("", "http://key/debian", "sid", ["main"]),
    ]


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Programs that are on the PATH, and do nothing."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))

    def install(*names):
        for name in names:
            (path / name).write_text("#!/bin/sh\n")
            (path / name).chmod(0o755)
        return path

    return install


def test_mmdebstrap_with_the_hosts_sources_of_the_suite(host, tools):
    path = tools("mmdebstrap", "debootstrap")
    options = {"packages": ["nginx", "curl"], "architecture": "arm64", "components": ["main", "contrib"]}
    command, _env = debian.command("/rootfs", options)
    assert command[0] == f"{path}/mmdebstrap"
    assert "--include=nginx,curl" in command
    assert "--architectures=arm64" in command
    assert "--variant=minbase" in command
    assert "--dpkgopt=path-exclude=/usr/share/man/*" in command
    assert command[-5:] == [
        "bookworm",
        "/rootfs",
        "deb http://mirror/debian bookworm main contrib",
        f"deb {OWN}http://mirror/debian bookworm-updates main contrib",
        "deb http://mirror/security bookworm-security main contrib",
    ]


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ({"mirror": "http://mine/debian"}, ["bookworm", "/rootfs", "http://mine/debian"]),
        ({"suite": "bullseye"}, ["bullseye", "/rootfs"]),
        ({"suite": "sid", "docs": True}, ["sid", "/rootfs", "deb http://key/debian sid main"]),
    ],
)
def test_mmdebstrap_with_another_mirror(host, tools, options, end):
    tools("mmdebstrap")
    command, _env = debian.command("/rootfs", options)
    assert command[-len(end) :] == end
    assert ("--dpkgopt=path-exclude=/usr/share/man/*" in command) is not options.get("docs", False)


def test_debootstrap_where_mmdebstrap_is_missing(host, tools):
    path = tools("debootstrap")
    command, _env = debian.command("/rootfs", {"packages": ["nginx"], "suite": "trixie"})
    assert command == [
        f"{path}/debootstrap", "--variant=minbase", "--components=main", "--include=nginx",
        "trixie", "/rootfs", "http://one/debian",
    ]  # fmt: skip
    assert debian.command("/rootfs", {"suite": "buster"})[0][-1] == debian.MIRROR
    assert debian.command("/rootfs", {"mirror": "http://m/d"})[0][-1] == "http://m/d"


def test_neither(tools):
    tools()
    with pytest.raises(DependencyError, match=r"needs mmdebstrap or debootstrap on the target \(install mmdebstrap\)"):
        template.check("debian", "template")


def test_what_apt_goes_through(tools, monkeypatch):
    path = tools("apt-config")
    (path / "apt-config").write_text(
        "#!/bin/sh\necho \"http_proxy='http://proxy:3142/'\"\necho \"https_proxy='DIRECT'\"\n"
    )
    monkeypatch.delenv("http_proxy", raising=False)
    assert debian._proxies() == {"http_proxy": "http://proxy:3142/"}
    monkeypatch.setenv("http_proxy", "http://mine/")
    assert debian._proxies() == {}


def test_an_image_is_of_no_machine_and_no_moment(tmp_path):
    for path in ("var/lib/apt/lists/partial", "var/cache/apt/archives", "var/log/apt", "tmp", "run"):
        (tmp_path / path).mkdir(parents=True)
    gone = ["var/lib/apt/lists/x_Packages", "var/cache/apt/archives/x.deb", "var/log/dpkg.log", "tmp/x", "run/x.pid",
            "etc/resolv.conf", "etc/hostname", "var/lib/dpkg/status-old"]  # fmt: skip
    kept = ["etc/passwd", "var/lib/dpkg/status"]
    for path in (*gone, *kept, "etc/machine-id", "etc/apt/apt.conf.d/99mmdebstrap"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    debian.clean(str(tmp_path))
    assert [path for path in gone if (tmp_path / path).exists()] == []
    assert [path for path in kept if (tmp_path / path).read_text() != "x"] == []
    assert (tmp_path / "etc/machine-id").read_text() == ""
    assert (tmp_path / "var/lib/apt/lists/partial").is_dir()
    assert (tmp_path / "etc/apt/apt.conf.d/99mmdebstrap").read_text() == 'Acquire::Languages "none";\n'


# busybox
def elf(*kinds, bits=64, order="<"):
    """An ELF file with program headers of these kinds."""
    size, at = (56, 64) if bits == 64 else (32, 52)
    head = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1 if order == "<" else 2]) + bytes(58)
    head = bytearray(head[:at])
    struct.pack_into(f"{order}{'Q' if bits == 64 else 'I'}", head, 32 if bits == 64 else 28, at)
    struct.pack_into(f"{order}HH", head, 54 if bits == 64 else 42, size, len(kinds))
    return bytes(head) + b"".join(struct.pack(f"{order}I", kind) + bytes(size - 4) for kind in kinds)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_busybox_that_needs_a_loader_will_not_do(tmp_path, monkeypatch, bits, order):
    path = tmp_path / "busybox"
    monkeypatch.setattr(busybox, "_PATHS", (str(path),))
    path.write_bytes(elf(1, 6, 7, bits=bits, order=order))
    assert busybox.program() == str(path)
    for data in (elf(1, 3, 7, bits=bits, order=order), b"#!/bin/sh\n", b""):
        path.write_bytes(data)
        with pytest.raises(
            DependencyError, match=r"needs a static /bin/busybox on the target \(install busybox-static\)"
        ):
            template.check("busybox", "template")


# all
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("suse", "template: 'suse' is no template; use debian, busybox or the path of a script"),
        ("/nonexistent", "template: '/nonexistent' is not an executable file on the target"),
        ("/tmp", "template: '/tmp' is not an executable file on the target"),
        ("/etc/passwd", "template: '/etc/passwd' is not an executable file on the target"),
    ],
)
def test_what_is_no_template(name, sentence):
    with pytest.raises(OptionError) as caught:
        template.check(name, "template")
    assert str(caught.value) == sentence


def test_a_scripts_content_is_part_of_its_key(tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    template.check(str(script), "template")
    before = template.key(str(script), {"a": "1"})
    assert template.key(str(script), {"a": "1"}) == before
    assert template.key(str(script), {"a": "2"}) != before
    os.utime(script, (1, 1))
    assert template.key(str(script), {"a": "1"}) == before
    Path(script).write_text("#!/bin/sh\n:\n")
    assert template.key(str(script), {"a": "1"}) != before


def test_debians_options_are_its_key():
    assert template.key("debian", {"suite": "a"}) == template.key("debian", {"suite": "a"})
    assert template.key("debian", {"suite": "a"}) != template.key("debian", {"suite": "b"})
