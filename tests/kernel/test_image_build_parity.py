# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containerfiles, each built by us and by buildah on the same base: the same files, and the same configuration.

Debian's buildah is 1.28. Where it differs from the Dockerfile reference, or reads less of the language than we do, the
row says which part is not compared and why, or gives buildah a text that means the same.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge.image import building, steps
from ansible_collections.vessel.host.plugins.module_utils._image import template
from ansible_collections.vessel.host.plugins.module_utils._image.archive import save
from ansible_collections.vessel.host.plugins.module_utils._image.build import make
from ansible_collections.vessel.host.plugins.module_utils._image.build.steps import Stage
from ansible_collections.vessel.host.plugins.module_utils._image.store import Image, Store
from ansible_collections.vessel.host.plugins.module_utils._kernel.overlay import open_overlay
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from ..image_tars import listing

pytestmark = [pytest.mark.root, pytest.mark.skipif(not shutil.which("buildah"), reason="needs buildah")]

PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:7:8:app:/home/app:/bin/sh\n"
GROUP = "root:x:0:\napps:x:8:\ngrp:x:9:app\n"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BASE = f"""
    FROM scratch
    COPY rootfs/ /
    COPY passwd group /etc/
    ENV PATH={PATH} FROM_BASE=1
    CMD ["sh"]
    LABEL base=yes
    ONBUILD RUN echo triggered > /triggered
    """
# buildah leaves these, empty, in the layer of a RUN.
MOUNT_POINTS = ("etc/hosts", "etc/hostname", "etc/resolv.conf", "run/.containerenv", "run/secrets")
CONFIG = ("Env", "Cmd", "Entrypoint", "WorkingDir", "User", "ExposedPorts", "Volumes", "Labels", "StopSignal")


@dataclass(frozen=True)
class Case:
    """``apart`` are paths and keys of the configuration that are not compared, each with the reason."""

    name: str
    text: str
    buildah: str = ""
    args: dict[str, str] = field(default_factory=dict)
    target: str = ""
    ignore: str = ""
    apart: dict[str, str] = field(default_factory=dict)


CASES = [
    Case(
        "run",
        """
        FROM localhost/base
        RUN echo one > /one && mkdir -p /a/b && chmod 4711 /one && ln -s ../one /a/link && ln /one /a/hard
        RUN rm /etc/group && rm -r /home && mkdir /home && touch /home/new
        RUN ["/bin/sh", "-c", "echo $0 > /exec", "word"]
        """,
    ),
    Case(
        "env",
        """
        FROM localhost/base
        ENV A=1 B="two words" C=$FROM_BASE$A
        ENV OLD form of it
        ENV A=2 SEEN=$A
        RUN echo "$A|$B|$C|$OLD|$SEEN" > /seen
        """,
    ),
    Case(
        "expansion",
        r"""
        FROM localhost/base
        ENV A=1 EMPTY=
        ENV S='$A' D="$A" E=\$A F=${A}b G=${NONE:-x} H=${A:+x} I=${EMPTY:-x} J=${EMPTY:+x}
        LABEL a="$A" "b c"='$A' d=${NONE}
        WORKDIR /w$A
        EXPOSE $A${A}
        """,
    ),
    Case(
        "arguments",
        """
        ARG TAG=latest
        ARG UNUSED=u
        FROM localhost/base:$TAG
        ARG TAG
        ARG LOCAL=l
        ARG GIVEN=default
        ARG NONE
        ENV FROM_ARG=$GIVEN
        RUN echo "$TAG|$UNUSED|$LOCAL|$GIVEN|$NONE" > /args
        """,
        args={"GIVEN": "given"},
    ),
    Case(
        "workdir",
        """
        FROM localhost/base
        WORKDIR /a/b
        WORKDIR c/
        RUN pwd > pwd
        WORKDIR ../d
        COPY file .
        COPY dir sub/
        WORKDIR /etc
        """,
    ),
    Case(
        "user",
        """
        FROM localhost/base
        USER app
        WORKDIR /made/here
        RUN id > /tmp/id && touch mine && echo "$HOME" > /tmp/home
        USER 12:34
        RUN touch /tmp/numbers
        USER root
        """,
    ),
    Case(
        "copy",
        """
        FROM localhost/base
        COPY file /
        COPY file /renamed
        COPY file /new/dir/
        COPY dir /tree
        COPY dir/ /etc
        COPY file dir/one /several/
        COPY dir/*.txt d?r/one /globbed/
        COPY ["with blank", "/with blank"]
        COPY link /followed
        COPY linked/ /through
        """,
    ),
    Case(
        "owners",
        """
        FROM localhost/base
        COPY --chown=5 file /five
        COPY --chown=5:6 dir /deep/owned
        COPY --chown=app file /named
        COPY --chown=app:grp file /both
        COPY --chown=0:grp --chmod=0640 file /moded
        COPY --chmod=755 dir /tree
        """,
    ),
    Case(
        "over",
        """
        FROM localhost/base
        RUN mkdir -p /srv/dir/sub && echo old > /srv/dir/one && chown -R 3:4 /srv && ln -s srv /link \
            && ln -s one /srv/dir/sym
        COPY dir /srv/dir
        COPY file /link/file
        COPY dir /link/
        """,
    ),
    Case(
        "ignore",
        """
        FROM localhost/base
        COPY . /all
        COPY dir /dir
        """,
        ignore="# comment\nfile\ndir/*.txt\n!dir/b.txt\n**/deep\nwith*\nrootfs\n",
    ),
    Case(
        "add",
        """
        FROM localhost/base
        ADD archive.tar /tar/
        ADD archive.tar.gz archive.tar.xz /packed/
        ADD file no.tar /plain/
        COPY archive.tar /not/
        ADD --chown=5:6 archive.tar /owned
        """,
        apart=dict.fromkeys(
            ("owned/top", "owned/top/archive.tar", "owned/top/hard", "owned/top/link"),
            "buildah keeps the archive's owners; BuildKit gives those of --chown, as we do",
        ),
    ),
    Case(
        "stages",
        """
        FROM localhost/base AS build
        RUN mkdir -p /out/bin && echo tool > /out/bin/tool && chown -R 7:8 /out && chmod 4755 /out/bin/tool
        FROM localhost/base AS unused
        RUN exit 1
        FROM localhost/base AS middle
        COPY --from=build /out /middle
        FROM build
        COPY --from=middle /middle/bin/tool /tool
        COPY --from=0 /out/bin /bin2/
        COPY --from=localhost/base --chown=app /etc/passwd /passwd
        RUN cat /tool > /seen
        """,
    ),
    Case(
        "target",
        """
        FROM localhost/base AS one
        RUN echo 1 > /one
        LABEL stage=one
        FROM one AS two
        RUN exit 1
        """,
        target="one",
    ),
    Case(
        "scratch",
        """
        FROM scratch
        COPY dir /dir
        COPY file /
        ENTRYPOINT ["/file"]
        """,
        apart={"Env": "buildah, as docker, gives an image from nothing a PATH; ours get it when they run"},
    ),
    Case(
        "commands",
        """
        FROM localhost/base
        SHELL ["/bin/sh", "-ec"]
        RUN echo "$0" > /shell
        CMD echo one
        ENTRYPOINT ["/bin/echo", "two"]
        CMD ["three"]
        STOPSIGNAL SIGQUIT
        USER app:grp
        EXPOSE 80 53/udp 8000-8001
        LABEL a=b "c d"="e f"
        """,
        apart={"ExposedPorts": "a range is one key in buildah; docker writes each port"},
    ),
    Case(
        "entrypoint",
        """
        FROM localhost/base
        ENTRYPOINT exec sleep 1
        """,
    ),
    Case(
        "command",
        """
        FROM localhost/base
        CMD exec sleep 2
        ENTRYPOINT ["sh"]
        """,
        apart={"Cmd": "buildah drops a CMD of before ENTRYPOINT; by the reference only the base's is reset"},
    ),
    Case(
        "volumes",
        """
        FROM localhost/base
        RUN mkdir /data && touch /data/before
        VOLUME /data
        VOLUME ["/made", "/with blank"]
        RUN touch /data/after
        """,
        apart={
            "data/after": "buildah throws away what is written to a volume, as docker's old builder; BuildKit keeps it",
            "made": "buildah makes the directory of a volume",
            "with blank": "the same",
        },
    ),
    Case(
        "health",
        """
        FROM localhost/base
        HEALTHCHECK --interval=5s --timeout=1m CMD true
        """,
    ),
    Case(
        "onbuild",
        """
        FROM localhost/base AS parent
        RUN rm -f /triggered
        ONBUILD RUN echo child > /child
        ONBUILD ENV CHILD=1
        FROM parent
        RUN cat /child > /seen
        """,
        apart={
            "child": "buildah 1.28 runs no triggers of an earlier stage; BuildKit does",
            "seen": "the same",
            "Env": "the same",
        },
        buildah="""
        FROM localhost/base
        RUN rm -f /triggered
        RUN echo child > /child
        ENV CHILD=1
        RUN cat /child > /seen
        """,
    ),
    Case(
        "lines",
        "# escape=`\nFROM localhost/base\n# comment\nRUN echo a `\n# within\n\n  b `\n  > /lines\nENV A=c:`\n  B=`$A\n",
        apart={"Env": "in words buildah takes \\ for the escape, whatever the directive says"},
    ),
    Case(
        "mounts",
        """
        FROM localhost/base AS other
        RUN echo from > /from
        FROM localhost/base
        RUN --mount=type=tmpfs,target=/scratch touch /scratch/x && ls /scratch > /tmpfs
        RUN --mount=type=cache,target=/cache echo kept > /cache/x
        RUN --mount=type=cache,target=/cache cat /cache/x > /cached
        RUN --mount=type=bind,from=other,source=/from,target=/mnt/f cat /mnt/f > /bound
        RUN --mount=type=bind,source=dir,target=/ctx cat /ctx/one > /context
        """,
        apart={
            "scratch": "buildah leaves the mount points",
            "cache": "the same",
            "mnt": "the same",
            "mnt/f": "the same",
            "ctx": "the same",
        },
    ),
    Case(
        "heredocs",
        """
        FROM localhost/base
        ENV X=1
        RUN <<EOF
        echo "$X" > /one
        echo '
        two' >> /one
        EOF
        RUN cat <<A > /a && cat <<-B > /b
        1 $X
        A
        \t2
        \tB
        COPY <<file <<"literal" /files/
        $X "q"
        file
        $X
        literal
        """,
        buildah="""
        FROM localhost/base
        ENV X=1
        RUN printf '1\\n\\ntwo\\n' > /one
        RUN printf '1 1\\n' > /a && printf '2\\n' > /b
        RUN mkdir /files && printf '1 "q"\\n' > /files/file && printf '$X\\n' > /files/literal
        """,
    ),
]


# the two builders
class Buildah:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        conf = directory / "containers.conf"
        conf.write_text('[containers]\ndefault_ulimits = []\n[engine]\ncgroup_manager = "cgroupfs"\n')
        storage = directory / "storage.conf"
        graph, run = directory / "graph", directory / "run"
        storage.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{graph}"\nrunroot = "{run}"\n')
        self.env = {
            **os.environ,
            "CONTAINERS_CONF": str(conf),
            "CONTAINERS_STORAGE_CONF": str(storage),
            "TMPDIR": str(directory),
        }

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            ["buildah", *words], env=self.env, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def load(self, archive: str, name: str) -> None:
        self("tag", self("pull", "--quiet", f"oci-archive:{archive}").splitlines()[-1], name)

    def build(self, case: Case, context: Path) -> tuple[dict, dict]:
        file = self.directory / "Containerfile"
        file.write_text(textwrap.dedent(case.buildah or case.text))
        args = [word for name, value in case.args.items() for word in ("--build-arg", f"{name}={value}")]
        target = ["--target", case.target] if case.target else []
        common = ("--quiet", "--isolation", "chroot", "--format", "docker", "--layers=false")
        self("bud", *common, *args, *target, "--tag", "localhost/made", "--file", str(file), str(context))
        config = json.loads(self("inspect", "--type", "image", "localhost/made"))["Docker"]["config"]
        container = self("from", "--pull-never", "localhost/made")
        try:
            return listing(self("mount", container), times=False), config
        finally:
            self("umount", container)
            self("rm", container)


class Ours:
    def __init__(self, root: Path) -> None:
        self.paths = Paths.at(str(root))
        self.store = Store(self.paths)

    def build(self, name: str, text: str, context: Path, **options) -> Image:
        made = building.Containerfile(textwrap.dedent(text), "Containerfile", "", str(context), **options)
        with building.Source(self.store, name) as source:
            stages = source.stages(made)
            return make.build(self.store, name, stages, {}, lambda request: steps.run(self.paths, name, request))

    def look(self, image: Image, scratch: Path) -> dict:
        directories = self.store.directories(image)
        for name in ("upper", "work"):
            (scratch / name).mkdir(parents=True)
        root = open_overlay(directories[::-1], str(scratch / "upper"), str(scratch / "work"))
        try:
            return listing(f"/proc/self/fd/{root}", times=False)
        finally:
            os.close(root)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("parity")
    yield path
    assert str(path) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture(scope="module")
def context(place):
    path = place / "context"
    for name, text in {
        "file": "a file\n",
        "dir/one": "one\n",
        "dir/a.txt": "a\n",
        "dir/b.txt": "b\n",
        "dir/sub/deep": "deep\n",
        "with blank": "blank\n",
        "no.tar": "this is none\n",
        "passwd": PASSWD,
        "group": GROUP,
    }.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
        (path / name).chmod(0o644)
    (path / "dir/one").chmod(0o750)
    (path / "dir/sub").chmod(0o711)
    (path / "dir/link").symlink_to("one")
    (path / "link").symlink_to("dir/one")
    (path / "linked").symlink_to("dir/sub")
    for owned in ("file", "dir", "dir/one"):
        os.chown(path / owned, 1000, 1000)
    for mode, name in (("w", "archive.tar"), ("w:gz", "archive.tar.gz"), ("w:xz", "archive.tar.xz")):
        with tarfile.open(path / name, mode) as tar:
            for entry, kind, fields in (
                ("top", tarfile.DIRTYPE, {"mode": 0o700}),
                (f"top/{name}", tarfile.REGTYPE, {"mode": 0o4755, "uid": 3, "gid": 4}),
                ("top/link", tarfile.SYMTYPE, {"linkname": name}),
                ("top/hard", tarfile.LNKTYPE, {"linkname": f"top/{name}", "mode": 0o4755, "uid": 3, "gid": 4}),
            ):
                member = tarfile.TarInfo(entry)
                member.type = kind
                for key, value in fields.items():
                    setattr(member, key, value)
                data = b"content" if kind == tarfile.REGTYPE else b""
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture(scope="module")
def ours(place):
    return Ours(place / "vessel")


@pytest.fixture(scope="module")
def buildah(place, ours, context):
    """Both have the base: ours is made, and buildah gets it from the archive that we write of it."""
    bare = Image("busybox", "", (template.build(ours.store, "busybox", {}, "busybox"),))
    rootfs = ours.look(bare, place / "bare")
    assert "bin/busybox" in rootfs
    files = [
        {"copy": {"content": PASSWD, "dest": "/etc/passwd"}},
        {"copy": {"content": GROUP, "dest": "/etc/group"}},
        {"env": {"PATH": PATH, "FROM_BASE": "1"}},
        {"cmd": ["sh"]},
        {"label": {"base": "yes"}},
    ]
    with building.Source(ours.store, "base") as source:
        base = make.build(ours.store, "localhost/base:latest", [Stage(bare, source.steps(files))], {}, None)
    save(ours.store, base, str(place / "base.tar"))
    other = place / "buildah"
    other.mkdir()
    peer = Buildah(other)
    peer.load(str(place / "base.tar"), "localhost/base:latest")
    yield peer
    peer("rm", "--all")
    peer("rmi", "--all", "--force")


def differences(mine, theirs, keys):
    """{what: (ours, theirs)}; what is empty is as good as missing."""
    return {
        key: (mine.get(key), theirs.get(key)) for key in keys if (mine.get(key) or None) != (theirs.get(key) or None)
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_same_image(case, ours, buildah, context, tmp_path):
    (context / ".dockerignore").write_text(case.ignore or "rootfs\n")
    options = {"build_args": case.args, "target": case.target}
    image = ours.build("made:1", case.text, context, **options)
    mine, (theirs, config) = ours.look(image, tmp_path), buildah.build(case, context)
    assert differences(mine, theirs, {*mine, *theirs} - {*case.apart, *MOUNT_POINTS}) == {}
    config.get("Labels", {}).pop("io.buildah.version", None)
    assert differences(image.config, config, set(CONFIG) - set(case.apart)) == {}
    if case.name == "health":
        assert image.config["Healthcheck"] == config["Healthcheck"]
    assert ours.build("made:1", case.text, context, **options).id == image.id
