# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules run by the hundred: one process has imported them, and forks for each task, which is a module's own process.

What a task does is what it does in a process of its own; only the third of a second for imports is saved, and to read
the engine's sources for its version.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.vessel.host.tests.kernel.module_runner import COLLECTIONS, PLUGINS
from ansible_collections.vessel.host.tests.patience import patient

from .place import Place

# Several runs of these tests may share a host, and must not share a subnet or a port: NET with a digit after it is the
# beginning of an IPv4 network, SIX that of an IPv6 one, and PORT the first of ten.
_RUN = os.getpid()
NET = f"10.{100 + _RUN % 90}.{1 + _RUN // 90 % 24}"
SIX = f"fd00:{1000 + _RUN % 9000}"
PORT = 21000 + _RUN % 1000 * 10
# But for those that are an action on the controller.
MODULES = sorted(path.stem for path in (PLUGINS / "modules").glob("*.py") if "def main()" in path.read_text())
TRAP = "trap 'exit 0' TERM; sleep 100000 & wait"  # a first process that ends when it is told to
_PROGRAM = """
import atexit, json, os, sys, traceback
sys.path.insert(0, sys.argv[1])
from importlib import import_module
from pathlib import Path
from ansible.module_utils.testing import patch_module_args
host = "ansible_collections.vessel.host.plugins."
mains = {name: import_module(host + "modules." + name).main for name in sys.argv[2:]}
engine = Path(sys.argv[1], (host + "module_utils").replace(".", "/"))
for path in engine.glob("_*/**/*.py"):
    import_module(host + "module_utils." + ".".join(path.relative_to(engine).with_suffix("").parts))
install = import_module(host + "module_utils._cli.install")
install.version()  # of what it is part of; a process keeps it

def task(request):
    os.environ.update(request["environ"])
    try:
        with patch_module_args(request["args"]):
            mains[request["module"]]()
        return 0
    except SystemExit as end:
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 70

for line in sys.stdin:
    streams = [os.memfd_create(name) for name in ("stdout", "stderr")]
    child = os.fork()
    if child == 0:
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        for number, stream in enumerate(streams, 1):
            os.dup2(stream, number)
            os.close(stream)
        code = task(json.loads(line))
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    texts = [os.pread(stream, os.fstat(stream).st_size, 0).decode() for stream in streams]
    for stream in streams:
        os.close(stream)
    print(json.dumps([code, *texts]), flush=True)
"""


class Server:
    """The process that forks; it is there from the first task on. ``before`` are words that start it, as unshare's."""

    def __init__(self, *before: str) -> None:
        self._command = [*before, sys.executable, "-c", _PROGRAM, str(COLLECTIONS), *MODULES]
        self._process: subprocess.Popen[str] | None = None

    def _ready(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
        return self._process

    @property
    def pid(self) -> int:
        return self._ready().pid

    def run(
        self,
        module: str,
        args: dict[str, Any],
        *,
        check: bool = False,
        environ: dict[str, str] | None = None,
        timeout: float = 120.0,
    ) -> dict[str, Any]:
        """The module's result; one that failed has ``failed`` in it."""
        process = self._ready()
        assert process.stdin is not None
        assert process.stdout is not None
        internal = {"check_mode": check, "diff": True, "module_name": f"vessel.host.{module}"}
        given = {**args, **{f"_ansible_{key}": value for key, value in internal.items()}}
        process.stdin.write(json.dumps({"module": module, "args": given, "environ": environ or {}}) + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], patient(timeout))[0]:
            self.close()
            raise AssertionError(f"{module} did not end within {patient(timeout):g} s: {args}")
        code, stdout, stderr = json.loads(process.stdout.readline())
        assert stdout.strip(), f"{module} gave no result (exit code {code}): {stderr}"
        result = json.loads(stdout.strip().splitlines()[-1])
        result.pop("invocation", None)
        assert code == (1 if result.get("failed") else 0), stderr
        assert stderr == ""
        return dict(result)

    def close(self) -> None:
        """It has a process group of its own, and what a task had running goes with it."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


class WarmPlace(Place):
    """An installation of which one may ask a lot."""

    def __init__(self, root: str, *before: str) -> None:
        super().__init__(root)
        self.server = Server(*before)
        self.environ: dict[str, str] = {}
        self.files = Path()  # where a test keeps files of its own

    def task(
        self, module: str, *, check: bool = False, fails: bool = False, patience: float = 120.0, **args: Any
    ) -> dict[str, Any]:
        result = self.server.run(
            module, {"root": self.root, **args}, check=check, environ=self.environ, timeout=patience
        )
        assert bool(result.get("failed")) == fails, result.get("msg")
        return result

    def quartet(self, module: str, args: dict[str, Any], changes: str = "CCnn") -> list[dict[str, Any]]:
        """Check, apply, apply, check. ``changes`` has a C for each that must be changed, an n for the others."""
        results = [self.task(module, check=check, **args) for check in (True, False, False, True)]
        seen = "".join("C" if result["changed"] else "n" for result in results)
        assert seen == changes, [result.get("actions") for result in results]
        if changes == "CCnn" and "actions" in results[0]:
            assert results[0]["actions"] == results[1]["actions"], "check mode told another story"
        return results

    def furnish(self, first: int = 1) -> None:
        """Images, networks and volumes for all who come; NET with ``first`` is the first of two networks."""
        self.task("image", name="bb", source="template", template="busybox", cmd=["sh", "-c", TRAP])
        marker = {"copy": {"content": "", "dest": "/marker"}}
        self.task("image", name="marked", **{"from": "bb", "layers": [marker]})
        self.task(
            "image", name="entry", entrypoint=["/bin/sleep", "7000"], cmd=["7001"], **{"from": "bb", "layers": []}
        )
        self.task("network", name="one", subnet=f"{NET}{first}.0/24")
        self.task("network", name="two", subnet=f"{NET}{first + 1}.0/24", subnet6=f"{SIX}:{first - 1}::/64")
        for volume in ("data", "more"):
            self.task("volume", name=volume)
            (self.volume(volume) / f"in-{volume}").write_text(volume)

    def home(self, kind: str, name: str) -> Path:
        return Path(self.paths.resource(kind, name))

    def volume(self, name: str) -> Path:
        """Where the volume's files are on the host."""
        return self.home("volumes", name) / "data"

    def remove(self) -> None:
        try:
            super().remove()
        finally:
            self.server.close()


@contextmanager
def open_place(of: str) -> Iterator[WarmPlace]:
    """An installation that all users of the host get to, as they do not to pytest's directories."""
    with tempfile.TemporaryDirectory(prefix=f"vessel-{of}-") as directory:
        os.chmod(directory, 0o755)
        place = WarmPlace(f"{directory}/vessel")
        try:
            place.busybox()
            yield place
        finally:
            place.remove()
        assert not Path(place.paths.callers).exists()
