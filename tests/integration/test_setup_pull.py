# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pull mode: the units that the role setup writes, and what they run, as systemd would run it; systemd itself does so
in the scenario vm_setup."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.tests.patience import patient

from .controller import CHECKOUT
from .place import Place

pytestmark = [pytest.mark.root, pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")]
BIN = Path(sys.executable).parent
SETTINGS = {
    "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "collection"),
    "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
    "ANSIBLE_NOCOLOR": "1",
}


class Pulling:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.place = Place(str(directory / "vessel"))
        self.repository = directory / "repository"
        self.units = directory / "units"
        self.units.mkdir()
        self.repository.mkdir()
        self._git("init", "--quiet", "--initial-branch=main")

    def _git(self, *words: str) -> None:
        identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")
        subprocess.run(["git", *identity, *words], cwd=self.repository, check=True, timeout=60)

    def commit(self, *words: str, **files: str) -> None:
        for name, content in files.items():
            (self.repository / f"{name}.yml").write_text(content)
        self._git("add", ".")
        self._git(*words[1:], "commit", "--quiet", "--message=more", *words[:1])

    def role(self, tasks: str, *, fails: bool = False, **given: Any) -> str:
        """The role's file of tasks, with what it has in a host's /etc in a directory of the test's."""
        variables = {
            "setup_pull_state": "enabled",
            "setup_pull_url": f"file://{self.repository}",
            "setup_pull_version": "main",
            "setup_pull_ansible": f"{BIN}/ansible-pull",
            "_setup_unit_directory": str(self.units),
            "_setup_pull_store": str(self.directory / "store"),
            "_setup_pull_library": str(self.directory / "library"),
            "_setup_pull_environment_path": str(self.directory / "env"),
            **given,
        }
        task = {"ansible.builtin.include_role": {"name": "vessel.host.setup", "tasks_from": tasks}}
        gather = {"ansible.builtin.setup": {"gather_subset": ["!all", "!min", "python", "distribution"]}}
        words = ["ansible.builtin.include_vars", {"file": f"{CHECKOUT}/roles/setup/vars/Debian.yml"}]
        book = {"hosts": "near", "gather_facts": False, "tasks": [gather, dict([words]), task]}
        (self.directory / "play.yml").write_text(json.dumps([book]))
        inventory = f"near ansible_connection=local ansible_python_interpreter={sys.executable},"
        (self.directory / "inventory").write_text(inventory.rstrip(","))
        # As extra variables: those of a play are no match for a role's own.
        (self.directory / "variables").write_text(json.dumps(variables))
        command = [f"{BIN}/ansible-playbook", "-i", "inventory", "-e", "@variables", "play.yml"]
        done = run(command, cwd=self.directory, env={**os.environ, **SETTINGS})
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    def start(self) -> subprocess.CompletedProcess[str]:
        """What systemd does when the service is started: its commands one after the other, until one fails."""
        lines = (self.units / "vessel-pull.service").read_text().splitlines()
        variables = [shlex.split(line)[0] for line in (self.directory / "env").read_text().splitlines()[1:]]
        environ = dict(variable.split("=", 1) for variable in variables)
        said = ""
        for line in lines:
            if line.startswith("ExecStart="):
                words = [word.replace("$$", "$").replace("%%", "%") for word in shlex.split(line.partition("=")[2])]
                done = run(words, env={"HOME": str(self.directory), "PATH": os.environ["PATH"], **environ}, cwd="/")
                said += done.stdout
                if done.returncode:
                    break
        return subprocess.CompletedProcess([], done.returncode, said)


def run(command: list[str], **given: Any) -> subprocess.CompletedProcess[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(command, check=False, timeout=patient(300), **pipes, **given)


@pytest.fixture
def pulling(tmp_path: Path) -> Iterator[Pulling]:
    pulling = Pulling(tmp_path)
    try:
        yield pulling
    finally:
        pulling.place.remove()


def site(word: str) -> str:
    body = {"image": "bb", "network_mode": "none", "command": ["sleep", "1000"], "stop_signal": "KILL"}
    stack = {
        "name": "shop",
        "images": {"bb": {"source": "template", "template": "busybox"}},
        "containers": {"web": {**body, "env": {"WORD": word}}},
    }
    return json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [{"vessel.host.stack": stack}]}])


def changes(said: str) -> str:
    """Of the play; ansible-pull's own step tells of the repository otherwise."""
    return re.findall(r"changed=(\d+)", said)[-1]


@pytest.mark.timeout(600)
def test_a_host_that_pulls_has_what_the_repository_says(pulling: Pulling, tmp_path: Path) -> None:
    run([f"{BIN}/ansible-galaxy", "collection", "build", "--output-path", str(tmp_path)], cwd=CHECKOUT)
    tarball = next(tmp_path.glob("vessel-host-*.tar.gz"))
    collections = {"collections": [{"name": str(tarball), "type": "file"}]}
    pulling.commit(local=site("one's $HOME 100%"), requirements=json.dumps(collections))
    key, strange = tmp_path / "key", tmp_path / "strange"
    for path in (key, strange):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=60)
    (tmp_path / "signers").write_text(f"tester@example.org {key.with_suffix('.pub').read_text()}")
    trust = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "gpg.ssh.allowedSignersFile",
        "GIT_CONFIG_VALUE_0": str(tmp_path / "signers"),
    }
    environment = {**trust, "VESSEL_ROOT": pulling.place.root, "SECRET": "it's $ecret"}
    given = {"setup_pull_environment": environment, "setup_pull_interval": "1h", "setup_pull_arguments": ["-v"]}
    pulling.role("pull_units", **given)
    assert "changed=0" in pulling.role("pull_units", **given)
    service, timer = (pulling.units / f"vessel-pull.{kind}" for kind in ("service", "timer"))
    assert "ecret" not in service.read_text()
    assert (tmp_path / "env").stat().st_mode & 0o777 == 0o600
    assert "OnUnitInactiveSec=1h\nRandomizedDelaySec=5min\n" in timer.read_text()
    if shutil.which("systemd-analyze"):
        verified = run(["systemd-analyze", "verify", str(service), str(timer)])
        assert str(pulling.units) not in verified.stdout, verified.stdout

    done = pulling.start()
    assert (done.returncode, changes(done.stdout)) == (0, "1"), done.stdout
    pid = pulling.place.facts("web")["pid"]
    assert "WORD=one's $HOME 100%" in Path(f"/proc/{pid}/environ").read_text().split("\0")
    assert (tmp_path / "store/collections/ansible_collections/vessel/host/galaxy.yml").exists() or (
        tmp_path / "store/collections/ansible_collections/vessel/host/MANIFEST.json"
    ).exists()
    done = pulling.start()
    assert (done.returncode, changes(done.stdout)) == (0, "0"), done.stdout
    assert pulling.place.facts("web")["pid"] == pid

    # Whatever is not signed by somebody who is trusted does not get here.
    pulling.role("pull_units", **given, setup_pull_verify_commit=True)
    signed = ("-S", "-c", "gpg.format=ssh", "-c")
    for words in ((), (*signed, f"user.signingkey={strange}")):
        pulling.commit(*words, local=site(f"{len(words)}"))
        done = pulling.start()
        assert done.returncode != 0
        assert "verify" in done.stdout.lower()
        assert pulling.place.facts("web")["pid"] == pid
    pulling.commit(*signed, f"user.signingkey={key}", local=site("three"))
    done = pulling.start()
    assert (done.returncode, changes(done.stdout)) == (0, "1"), done.stdout
    pid = pulling.place.facts("web")["pid"]
    assert "WORD=three" in Path(f"/proc/{pid}/environ").read_text()

    # What a run has left that lost its power, or somebody who was there, is no matter.
    repository = tmp_path / "store/repository"
    (repository / "local.yml").write_text(site("nobody's"))
    done = pulling.start()
    assert (done.returncode, changes(done.stdout)) == (0, "0"), done.stdout
    (repository / ".git/index.lock").touch()
    (repository / "local.yml").unlink()
    done = pulling.start()
    assert (done.returncode, changes(done.stdout)) == (0, "0"), done.stdout
    (repository / ".git/refs/heads/main").write_text("")
    done = pulling.start()
    assert (done.returncode, changes(done.stdout)) == (0, "0"), done.stdout
    assert pulling.place.facts("web")["pid"] == pid


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"setup_pull_url": "https://me:word@example.org/x.git"}, "setup_pull_url: has a password in it"),
        (
            {"setup_pull_ansible": "somewhere"},
            "setup_pull_ansible: somewhere is neither auto, package, venv nor",
        ),
    ],
)
def test_what_would_fail_in_each_run_is_refused(pulling: Pulling, given: dict[str, Any], words: str) -> None:
    assert words in pulling.role("pull_check", fails=True, **given)


@pytest.mark.skipif(os.path.exists("/run/systemd/system"), reason="this host runs systemd")
def test_a_host_without_systemd_is_refused(pulling: Pulling) -> None:
    said = pulling.role("pull_check", fails=True)
    assert "setup_pull_state: enabled needs systemd, whose timer it is" in said


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_a_time_that_systemd_can_not_read_is_refused(pulling: Pulling) -> None:
    there = {"_setup_systemd_directory": str(pulling.directory)}
    pulling.role("pull_check", **there)
    said = pulling.role("pull_check", fails=True, **there, setup_pull_interval="often")
    assert "setup_pull_interval: often is no time span" in said


def test_the_role_is_whole_without_it(tmp_path: Path) -> None:
    """All of the role in check mode, which changes nothing of this host: what includes what is known when it runs."""
    book = [{"hosts": "all", "gather_facts": False, "roles": ["vessel.host.setup"]}]
    (tmp_path / "play.yml").write_text(json.dumps(book))
    words = ["--inventory=near,", "--connection=local", "--check", "-e", "ansible_python_interpreter=/usr/bin/python3"]
    done = run([f"{BIN}/ansible-playbook", *words, "play.yml"], cwd=tmp_path, env={**os.environ, **SETTINGS})
    assert done.returncode == 0, done.stdout
    assert "pull_absent.yml for near" in done.stdout
