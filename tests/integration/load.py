# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load on a published port, as a machine outside would make it: from a network namespace of its own, by the host's
address. Run as a program it is the machine; each request is a connection of its own, and each that fails is counted.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from types import TracebackType

from ansible_collections.vessel.host.tests.kernel.module_runner import COLLECTIONS
from ansible_collections.vessel.host.tests.patience import patient

THREADS = 4
LONGEST = patient(10)  # seconds for a request


class Outside:
    """The namespace, on a wire to the host; ``host`` is the host's address on it."""

    def __init__(self, name: str, net: str) -> None:
        self.name = name
        self.link = f"{name[:13]}-h"
        self.host = f"{net}.1"
        ip("netns", "add", name)
        ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("address", "add", f"{self.host}/24", "dev", self.link)
        ip("link", "set", self.link, "up")
        ip("-n", name, "address", "add", f"{net}.2/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")

    def remove(self) -> None:
        ip("netns", "delete", self.name)  # the wire goes with it

    def program(self, *args: str) -> subprocess.Popen[str]:
        command = ["ip", "netns", "exec", self.name, sys.executable, __file__, self.host, *args]
        env = {**os.environ, "PYTHONPATH": str(COLLECTIONS)}
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=patient(20))


class Load:
    """Requests for as long as the block takes; ``answers`` counts them by what was answered, ``failed`` those that
    were not answered as they should."""

    def __init__(self, outside: Outside, port: int) -> None:
        self._command = (outside, str(port))
        self.answers: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    def __enter__(self) -> Load:
        outside, port = self._command
        self._process = outside.program(port)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "going\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        said, dummy = self._process.communicate("", timeout=patient(60))
        found = json.loads(said)
        self.answers, self.failed = Counter(found["answers"]), Counter(found["failed"])


def ask(address: tuple[str, int], path: str = "/") -> str:
    """The body, when all of it came."""
    with socket.create_connection(address, timeout=LONGEST) as peer:
        peer.settimeout(LONGEST)
        peer.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        data = b""
        while piece := peer.recv(65536):
            data += piece
    head, dummy, body = data.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0] or not body.endswith(b"\n"):
        raise ConnectionError("no whole answer")
    return body.decode().strip()


def main(host: str, port: int) -> None:
    answers: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            try:
                answers[ask((host, port))] += 1
            except OSError as error:
                failed[type(error).__name__] += 1

    threads = [threading.Thread(target=go_on) for dummy in range(THREADS)]
    for thread in threads:
        thread.start()
    print("going", flush=True)
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"answers": answers, "failed": failed}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
