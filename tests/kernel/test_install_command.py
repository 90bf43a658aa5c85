# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command vessel, as an administrator types it."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cli import install

from .monitor_host import Site, wait_for

pytestmark = pytest.mark.root

TALKER = "trap 'exit 3' TERM; echo ready; while true; do usleep 20000; done"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("command") / "site")
    for applet in ("id", "env", "pwd", "stty", "tty"):
        (site.rootfs / "bin" / applet).symlink_to("busybox")
    (site.rootfs / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nweb:x:33:44::/srv:/bin/sh\n")
    (site.rootfs / "etc" / "group").write_text("root:x:0:\nweb:x:44:\n")
    site.bundle("talker", TALKER)
    Path(site.paths.resource("containers", "talker"), "spec.json").write_text(
        json.dumps({"image": "busybox", "published_ports": ["0.0.0.0:8080:80/tcp"], "name": "talker"})
    )
    client = install.ensure(site.paths)
    yield site
    for name in site.names:
        client.call("remove", name=name, timeout=0)
    client.close()
    site.assert_clean()
    install.remove(site.paths) if not os.path.isdir(f"{site.paths.run}/bundles") else None
    site.close()


@pytest.fixture
def vessel(site):
    def run(*args, code=0, stdin=None):
        done = subprocess.run(
            [f"{site.paths.bin}/vessel", *args],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    run("start", "talker")
    wait_for(lambda: "ready" in site.output("talker"))
    return run


def test_ps(site, vessel):
    head, line = vessel("ps").splitlines()
    pid = site.status("talker")["pid"]
    assert head.split() == ["NAME", "STATUS", "PID", "IMAGE", "PORTS", "HEALTH", "RESTARTS", "AGE"]
    assert line.split()[:7] == ["talker", "running", str(pid), "busybox", "0.0.0.0:8080:80/tcp", "-", "0"]
    assert head.index("IMAGE") == line.index("busybox")
    (entry,) = json.loads(vessel("ps", "--json"))
    assert (entry["name"], entry["status"], entry["pid"]) == ("talker", "running", pid)
    assert "no such container: nobody" in vessel("ps", "nobody", code=1)


def test_stop_start_restart(site, vessel):
    mark = Path(site.paths.resource("containers", "talker"), "stopped")
    assert vessel("stop", "talker") == "talker\n"
    assert mark.exists(), "a reboot would start it again"
    assert "exited (3)" in vessel("ps")
    vessel("start", "talker")
    assert not mark.exists()
    before = site.status("talker")["pid"]
    wait_for(lambda: site.output("talker").count("ready") >= 2)
    vessel("restart", "-t", "1", "talker")
    assert site.status("talker")["pid"] != before
    assert "no such container: nobody" in vessel("stop", "nobody", code=1)
    text = vessel("start", "talker", "nobody", code=1)
    assert "vessel: no such container: nobody (vessel restore" in text


def test_shutdown_is_no_stop(site, vessel):
    assert vessel("shutdown") == "talker\n"
    assert "exited (3)" in vessel("ps")
    assert vessel("shutdown") == ""
    assert not Path(site.paths.resource("containers", "talker"), "stopped").exists(), "it would not come back"


def test_exec(site, vessel):
    assert vessel("exec", "talker", "echo", "-n", "hello") == "hello"
    vessel("exec", "talker", "sh", "-c", "exit 7", code=7)
    assert vessel("exec", "-i", "talker", "cat", stdin="through") == "through"
    assert vessel("exec", "talker", "cat") == ""
    assert vessel("exec", "-e", "A=b c", "-w", "/tmp", "talker", "sh", "-c", "echo $A; pwd") == "b c\n/tmp\n"
    assert vessel("exec", "-u", "web", "talker", "id", "-u") == "33\n"
    assert vessel("exec", "-u", "web", "talker", "id", "-g") == "44\n"
    assert "nope" in vessel("exec", "talker", "/bin/nope", code=127)
    assert "EACCES" in vessel("exec", "talker", "/etc/passwd", code=126)
    assert "no such container: nobody" in vessel("exec", "nobody", "true", code=125)
    assert "COMMAND is missing" in vessel("exec", "talker", code=2)
    assert "-e: 'A' is not KEY=VALUE" in vessel("exec", "-e", "A", "talker", "true", code=2)


def test_exec_is_signalled(site, vessel):
    program = "trap 'exit 44' INT; echo set; while true; do usleep 10000; done"
    process = subprocess.Popen(
        [f"{site.paths.bin}/vessel", "exec", "talker", "sh", "-c", program], stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"set\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 44
    process.stdout.close()


def at_terminal(command):
    """(pid, our end of the terminal)."""
    pid, fd = pty.fork()
    if pid == 0:
        try:
            os.execv(command[0], command)
        finally:
            os._exit(99)
    return pid, fd


def read_until(fd, text, timeout=10.0):
    data = b""
    deadline = time.monotonic() + timeout
    while text not in data:
        assert time.monotonic() < deadline, data
        if select.select([fd], [], [], 0.1)[0]:
            try:
                data += os.read(fd, 4096)
            except OSError:  # EIO: the last of the other end is gone
                break
    assert text in data, data
    return data


def test_exec_at_a_terminal(site, vessel):
    import fcntl
    import struct
    import termios

    pid, fd = at_terminal([f"{site.paths.bin}/vessel", "exec", "-it", "talker", "sh"])
    read_until(fd, b"# ")
    os.write(fd, b"tty; echo is$((1+1))\n")
    assert b"/dev/pts/" in read_until(fd, b"is2")
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 37, 123, 0, 0))
    time.sleep(0.2)
    os.write(fd, b"stty size\n")
    read_until(fd, b"37 123")
    os.write(fd, b"sleep 500\n")
    time.sleep(0.2)
    os.write(fd, b"\x03")  # ^C is the container's terminal's, not ours
    os.write(fd, b"echo on$((1+1)); exit 5\n")
    read_until(fd, b"on2")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    os.close(fd)
    assert not [name for name in os.listdir(site.paths.run) if name.startswith("console")]


def test_logs(site, vessel):
    site.bundle("lines", "i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo line $i; done; exec sleep 1000")
    vessel("start", "lines")
    wait_for(lambda: "line 100\n" in site.output("lines"))
    path = Path(site.paths.log("lines"))
    assert vessel("logs", "lines") == path.read_text()
    Path(f"{path}.1").write_text("older 1\nolder 2\n")
    assert vessel("logs", "lines") == "older 1\nolder 2\n" + path.read_text()
    assert vessel("logs", "-n", "2", "lines") == "line 99\nline 100\n"
    assert vessel("logs", "-n101", "lines").startswith("older 2\nline 1\n")
    assert vessel("logs", "-n", "0", "lines") == ""
    assert vessel("logs", "--tail=5000", "lines").startswith("older 1\n")
    assert "no such container" in vessel("logs", "nobody", code=1)
    assert "'x' is no number" in vessel("logs", "-n", "x", "lines", code=2)


def test_logs_follow_a_rotated_file_to_its_end(site, vessel):
    count = "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo line $i of what is followed"
    command = f"{count}; [ $((i%100)) = 0 ] && usleep 60000; done"
    site.bundle("far", command, log={"max_size": 20_000, "max_file": 20})
    vessel("start", "far")
    done = subprocess.run(
        [f"{site.paths.bin}/vessel", "logs", "-f", "far"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == [f"line {i} of what is followed" for i in range(1, 4001)]
    assert os.path.exists(f"{site.paths.log('far')}.1")


def test_stats_and_inspect(site, vessel):
    head, line = vessel("stats", "talker").splitlines()
    assert head.split()[0] == "NAME"
    assert line.split()[0] == "talker"
    (entry,) = json.loads(vessel("stats", "--json", "talker"))
    assert entry["memory_usage"] > 0
    assert entry["pids_current"] >= 1
    data = json.loads(vessel("inspect", "talker"))
    assert data["status"]["pid"] == site.status("talker")["pid"]
    assert data["config"]["hostname"] == "talker"
    assert data["spec"]["image"] == "busybox"
    assert len(json.loads(vessel("inspect", "talker", "talker"))) == 2


def test_monitor_daemon_and_version(site, vessel):
    pid = int(vessel("monitor", "--daemon"))
    assert f"(pid {pid}, " in vessel("version")


def test_words_that_are_none(site, vessel):
    assert "no such verb: fly" in vessel("fly", code=2)
    assert "no such option: --fast" in vessel("ps", "--fast", code=2)
    assert "option --root needs a value" in vessel("--root", code=2)
    assert vessel("--help").startswith("usage: vessel")
    assert vessel("stop", "--help") == "  start | stop | restart NAME... [-t SECONDS]\n"
    assert "NAME is missing" in vessel("stop", code=2)
    # another installation has nothing of this one
    assert vessel("--root", str(site.root / "other"), "ps").splitlines()[1:] == []


def test_a_reader_that_has_enough(site, vessel):
    command = f"{site.paths.bin}/vessel logs lines 2>&1 | head -n 1"
    assert subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout == "older 1\n"
