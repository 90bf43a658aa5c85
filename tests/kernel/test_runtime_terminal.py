# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Terminals: of a container and of one more process in it, at a socket's other end and at our own terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._runtime import start

from .runtime_box import DEV, PROC, PTS, ConsoleSocket, read_until

pytestmark = pytest.mark.root

COLLECTIONS = Path(__file__).parents[2] / "collection"
PROGRAM = f"""
import sys
sys.path.insert(0, {str(COLLECTIONS)!r})
from ansible_collections.vessel.host.plugins.module_utils._cli.runtime import main
sys.exit(main())
"""
MOUNTS = [PROC, DEV, PTS]


class AtTerminal:
    """vessel-runtime at a terminal of its own, as a person has one."""

    def __init__(self, box, *args: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 41, 101, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        command = [sys.executable, "-IS", "-c", PROGRAM, "--root", box.root, *args]
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, words: str) -> str:
        return read_until(self.master, words)

    def end(self) -> int:
        code = self.process.wait(20)
        assert termios.tcgetattr(self.slave) == self.before, "the terminal is left as it was"
        os.close(self.master)
        os.close(self.slave)
        return code


def test_terminal_of_a_container(box):
    console = ConsoleSocket(box.top)
    try:
        script = "tty; stty size; stat -c %t:%T /dev/console; test -t 2 && read line; echo got $line; exit 5"
        options = {"console_socket": console.path}
        size = {"height": 20, "width": 60}
        changes = {"process__terminal": True, "process__consoleSize": size, "process__user": {"uid": 9, "gid": 9}}
        with box.created(script, mounts=MOUNTS, options=options, **changes) as state:
            master, name = console.receive()
            assert os.fstat(master).st_rdev == os.makedev(5, 2)
            start.start(box.root, state.id)
            text = read_until(master, "88:0")
            os.write(master, b"word\n")
            text += read_until(master, "got word")
            assert os.waitstatus_to_exitcode(os.waitpid(state.pid, 0)[1]) == 5
            os.close(master)
        assert name == "/dev/pts/0"
        assert text.split()[:4] == ["/dev/pts/0", "20", "60", "88:0"]
    finally:
        console.close()


def test_end_of_the_terminal_hangs_the_container_up(box):
    console = ConsoleSocket(box.top)
    try:
        options = {"console_socket": console.path}
        script = "trap 'exit 4' HUP; echo ready; while :; do sleep 0.01; done"
        with box.created(script, mounts=MOUNTS, options=options, process__terminal=True) as state:
            master = console.receive()[0]
            start.start(box.root, state.id)
            read_until(master, "ready")
            os.close(master)
            assert os.waitstatus_to_exitcode(os.waitpid(state.pid, 0)[1]) == 4
    finally:
        console.close()


def bundle(box, script: str, **changes):
    return box.bundle(box.config(script, mounts=MOUNTS, **changes))


def test_run_at_our_terminal(box):
    script = "tty; stty size; trap 'echo interrupted; exit 6' INT; echo ready; while :; do sleep 0.01; done"
    name, directory = bundle(box, script, process__terminal=True)
    terminal = AtTerminal(box, "run", "-b", directory, name)
    text = terminal.until("ready")
    terminal.type("\x03")  # ^C goes to the process inside, as a key of its terminal
    terminal.until("interrupted")
    assert terminal.end() == 6
    assert text.splitlines()[:2] == ["/dev/pts/0", "41 101"]


def test_exec_at_our_terminal(box):
    with box.running(mounts=MOUNTS) as state:
        script = "stty size; trap 'stty size; exit 7' WINCH; echo ready; while :; do sleep 0.01; done"
        pid_file = box.top / "pid"
        terminal = AtTerminal(box, "exec", "-t", "--pid-file", str(pid_file), state.id, "sh", "-c", script)
        assert terminal.until("ready").startswith("41 101")
        assert int(pid_file.read_text()) in state.manager().pids()
        fcntl.ioctl(terminal.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 70, 0, 0))
        os.kill(terminal.process.pid, signal.SIGWINCH)
        assert "30 70" in terminal.until("30 70")
        assert terminal.end() == 7


def command(box, *args: str, **options) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-IS", "-c", PROGRAM, "--root", box.root, *args]
    streams = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    return subprocess.run(words, check=False, timeout=60, **{**streams, **options})


def test_detached_terminal_needs_a_socket(box):
    name, directory = bundle(box, "true", process__terminal=True)
    done = command(box, "run", "-d", "-b", directory, name)
    assert (done.returncode, "needs --console-socket" in done.stderr) == (2, True)
    done = command(box, "create", "-b", directory, name)
    assert (done.returncode, "use --console-socket" in done.stderr) == (1, True)
    with box.running(mounts=MOUNTS) as state:
        done = command(box, "exec", "-d", "-t", state.id, "true")
        assert (done.returncode, "needs --console-socket" in done.stderr) == (2, True)


# what the command does without a terminal
def test_signals_reach_the_process(box):
    script = "trap 'echo term; exit 8' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.01; done"
    name, directory = bundle(box, script)
    words = [sys.executable, "-IS", "-c", PROGRAM, "--root", box.root, "run", "-b", directory, name]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == "usr1\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "term\n"
        assert process.wait(10) == 8


def test_kept_after_its_end(box):
    name, directory = bundle(box, "exit 3")
    assert command(box, "run", "--keep", "-b", directory, name).returncode == 3
    assert json.loads(command(box, "state", name).stdout)["status"] == "stopped"
    assert command(box, "delete", name).returncode == 0


def test_exec_by_flags_and_by_a_file(box):
    (box.top / "process.json").write_text(json.dumps({"args": ["pwd"], "cwd": "/tmp", "env": ["PATH=/bin"]}))
    name, directory = bundle(box, "sleep 1000", process__env=["PATH=/bin", "OWN=1"])
    assert (
        command(
            box, "run", "-d", "-b", directory, name, stdout=subprocess.DEVNULL, stderr=None, capture_output=False
        ).returncode
        == 0
    )
    script = "id -u; id -G; pwd; echo $OWN $MORE; grep -E 'CapBnd|NoNew' /proc/self/status"
    flags = ["-u", "3:4", "-g", "5", "-e", "MORE=2", "--cwd", "/etc", "--cap", "CAP_KILL", "--no-new-privs"]
    done = command(box, "exec", *flags, name, "sh", "-c", script)
    assert done.stdout.split() == ["3", "4", "5", "/etc", "1", "2", "CapBnd:", "0000000000000020", "NoNewPrivs:", "1"]
    assert command(box, "exec", "-p", str(box.top / "process.json"), name).stdout == "/tmp\n"
    done = command(box, "exec", name, "nothing")
    assert (done.returncode, done.stderr.startswith("vessel-runtime: exec nothing: executable file")) == (255, True)
    for words, problem in (
        (["exec", name], "needs a command"),
        (["exec", "-u", "root", name, "x"], "--user: 'root' is no number"),
        (["exec", "--none", name, "x"], "no such option: --none"),
        (["kill", name, "NONE"], "no such signal: NONE"),
        (["update", name], "needs something to change"),
        (["update", "--memory", "much", name], "--memory: 'much' is no size"),
        (["list", "-f", "xml"], "'xml' is not one of table, json"),
        (["none"], "no such verb: none"),
        (["state"], "the container's id is missing"),
        (["create", "--preserve-fds", "50", name], "descriptor 3 is not open"),
    ):
        done = command(box, *words)
        assert (done.returncode, problem in done.stderr) == (2, True), done.stderr
    assert command(box, "update", "--memory", "32m", "--pids-limit", "55", name).returncode == 0
    done = command(box, "ps", name)
    assert [line.split()[-2:] for line in done.stdout.splitlines()] == [["TIME", "CMD"], ["sleep", "1000"]]
    stats = json.loads(command(box, "events", "--stats", name).stdout)
    assert (stats["type"], stats["data"]["pids"], stats["data"]["memory"]["usage"]["limit"]) == (
        "stats",
        {"current": 1, "limit": 55},
        32 << 20,
    )
    assert command(box, "delete", "-f", name).returncode == 0


def test_descriptors_of_a_socket_activation(box):
    name, directory = bundle(box, "echo $LISTEN_FDS $LISTEN_PID; cat <&3; cat <&4")
    for file, words in (("a", "first "), ("b", "second")):
        (box.top / file).write_text(words)
    first, second = (os.open(box.top / file, os.O_RDONLY) for file in ("a", "b"))
    try:
        redirected = f'exec "$@" 3<&{first} 4<&{second}'
        words = ["bash", "-c", redirected, "bash", sys.executable, "-IS", "-c", PROGRAM, "--root", box.root]
        done = subprocess.run(
            [*words, "run", "--preserve-fds", "1", "-b", directory, name],
            env={**os.environ, "LISTEN_FDS": "1"},
            pass_fds=(first, second),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    finally:
        os.close(first)
        os.close(second)
    assert done.stdout == "1 1\nfirst second"


def test_warning_of_a_hook(box):
    name, directory = bundle(box, "true", hooks={"poststop": [{"path": "/bin/false"}]})
    log = box.top / "log"
    done = command(box, "--log", str(log), "--log-format", "json", "run", "-b", directory, name)
    assert (done.returncode, done.stderr) == (0, "vessel-runtime: warning: poststop hook /bin/false ended with 1\n")
    entry = json.loads(log.read_text())
    assert (entry["level"], entry["msg"]) == ("warning", "poststop hook /bin/false ended with 1")
    assert time.strptime(entry["time"], "%Y-%m-%dT%H:%M:%SZ")
