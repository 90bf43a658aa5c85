# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine, asked over ssh: labels of processes and files, and what the audit log has; also after a reboot."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from pathlib import Path

import pytest

PORT = "18485"
CONFINED = ("web", "writer", "owner", "spy")
STATE = "/var/lib/vessel"
SHARED = "system_u:object_r:container_file_t:s0"


@pytest.fixture(scope="module")
def url():
    """Where the guest's published port is on this host."""
    record = json.loads(Path(os.environ["VESSEL_VM_PLACE"], "record.json").read_text())
    return f"http://127.0.0.1:{record['wires']['ports'][PORT]}/"


@pytest.fixture
def inspected(host):
    """What the host's own command says, by name."""
    found = json.loads(host.check_output(f"vessel inspect {' '.join((*CONFINED, 'free'))}"))
    return {container["name"]: container for container in found}


def process(host, container):
    label = host.check_output(f"cat /proc/{container['status']['pid']}/attr/current")
    return label.rstrip("\0")


def pair(host, name):
    """The categories that the container keeps."""
    return host.check_output(f"cat {STATE}/containers/{name}/level")


def own_file(host, name):
    return f"system_u:object_r:container_file_t:{pair(host, name)}"


def file(host, path):
    return host.check_output(f"stat --format %C {path}")


def denials(host):
    """Denials in the audit log, each a line."""
    return re.findall(r"^type=(?:USER_)?AVC .*denied.*$", host.check_output("cat /var/log/audit/audit.log*"), re.M)


def test_it_is_enforced(host):
    assert host.check_output("getenforce") == "Enforcing"


def test_the_page_comes_through_the_published_port(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert answer.read() == b"scribe\n"


def test_one_finds_the_other_by_name(host):
    assert host.check_output("vessel exec writer wget -q -O - http://web/") == "scribe"


def test_each_is_confined_with_categories_of_its_own(host, inspected):
    pairs = {name: pair(host, name) for name in CONFINED}
    assert len(set(pairs.values())) == len(CONFINED)
    for name, level in pairs.items():
        assert re.fullmatch(r"s0:c\d+,c\d+", level)
        assert process(host, inspected[name]) == f"system_u:system_r:container_t:{level}"


def test_the_supervisor_is_what_systemd_starts(host):
    pid = host.check_output("systemctl show --property=MainPID --value vessel")
    assert ":initrc_t:" in host.check_output(f"cat /proc/{pid}/attr/current")


def test_what_is_told_is_what_is(host, inspected):
    for name in CONFINED:
        security = inspected[name]["security"]
        assert security["process_label"] == process(host, inspected[name])
        assert security["mount_label"] == own_file(host, name)


def test_one_that_asks_for_it_has_no_label_of_its_own(host, inspected):
    assert "container_t" not in process(host, inspected["free"])
    assert inspected["free"]["security"]["mount_label"] == ""


def test_what_is_executed_in_one_has_its_label(host):
    for name in CONFINED:
        label = host.check_output(f"vessel exec {name} cat /proc/self/attr/current").rstrip("\0")
        assert label == f"system_u:system_r:container_t:{pair(host, name)}"


def test_so_has_a_health_check(host, inspected):
    label = host.check_output(f"tr -d '\\0' < {STATE}/volumes/private/data/health")
    assert label == process(host, inspected["owner"])
    assert inspected["owner"]["status"]["health"]["status"] == "healthy"


def test_words_go_in_and_out(host):
    assert host.check_output("echo in | vessel exec -i web cat") == "in"
    assert host.run("vessel exec web sh -c 'echo out; echo error >&2; exit 7'").rc == 7
    host.check_output("vessel exec web echo to a file > /root/said")
    assert host.check_output("cat /root/said") == "to a file"


def test_a_layer_has_the_label_of_its_container(host):
    host.check_output("vessel exec owner touch /tmp/made")
    for path in ("word", "tmp/made"):
        assert file(host, f"{STATE}/containers/owner/upper/{path}") == own_file(host, "owner")


def test_so_have_names_and_log(host):
    own = own_file(host, "owner")
    assert {file(host, f"{STATE}/containers/owner/etc/{name}") for name in ("hosts", "resolv.conf", "hostname")} == {
        own
    }
    assert file(host, f"{STATE}/containers/owner/log") == own
    assert host.check_output("vessel logs owner").splitlines()[-1] == "mine"


def test_file_systems_of_its_own_can_be_written_to(host):
    script = "for d in /memory /dev/shm /dev /tmp; do echo x > $d/x || exit 1; done; ls -ld /dev/mqueue"
    host.check_output(f"vessel exec owner sh -c '{script}'")


def test_volumes_are_labelled_as_declared(host):
    assert file(host, f"{STATE}/volumes/pages/data") == SHARED
    assert file(host, f"{STATE}/volumes/scratch/data") == SHARED
    assert file(host, f"{STATE}/volumes/private/data") == own_file(host, "owner")
    for path in ("", "/below", "/word", "/passwd"):
        assert file(host, f"/srv/shared{path}") == SHARED


def test_no_link_leads_a_label_out(host):
    assert ":etc_t:" in file(host, "/etc/passwd")


def test_what_is_written_to_a_shared_volume_is_shared(host):
    host.check_output("vessel exec owner sh -c 'echo ours > /shared/ours'")
    assert host.check_output("vessel exec spy cat /shared/ours") == "ours"


def test_restorecon_finds_nothing_to_do(host):
    assert host.check_output(f"restorecon -R -n -v {STATE}/layers {STATE}/volumes") == ""


@pytest.mark.parametrize("path", ["/layer/word", "/layer-word", "/private/word", "/private-word"])
def test_what_is_anothers_is_not_read(host, path):
    """The spy has a path to it and is root; only its label is in the way, and the audit log says so."""
    before = len(denials(host))
    done = host.run(f"vessel exec spy cat {path}")
    assert done.rc != 0
    assert "Permission denied" in done.stderr
    host.check_output("sleep 1")
    new = denials(host)[before:]
    assert [line for line in new if f"scontext=system_u:system_r:container_t:{pair(host, 'spy')} " in line], new


def test_nothing_else_was_denied(host):
    """Neither to containers nor to the engine, since the machine was made; what systemd's own programs lack at a boot
    is the policy's business."""
    spy = pair(host, "spy")
    ours = [line for line in denials(host) if re.search(r"[st]context=\S*:container_(ro_)?(file_)?t:", line)]
    engine = [line for line in denials(host) if re.search(r"scontext=\S*:(initrc_t|unconfined_t):", line)]
    assert [line for line in [*ours, *engine] if f":container_t:{spy} " not in line] == []
