# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host said of its containers, as hosts of an inventory: variables, groups, and how they are reached.

What a host says is data, and nothing more is taken of it than what its place is for.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible.template import trust_as_template

# What container_info returns of a container.
FACTS = (
    *("name", "state", "pid", "started_at", "finished_at", "exit_code", "oom_killed", "error", "restarts", "health"),
    *("image", "image_id", "labels", "stacks", "security", "networks", "published_ports", "limits", "usage"),
    *("log_path", "config"),
)
PREFIX = "vessel_"
ALL = f"{PREFIX}containers"  # the group of all containers
GROUPINGS = ("host", "stack", "label", "image", "state", "health")
MARK = "vessel facts of this host:"
# The installation's command, as Paths.at() has it; a host that has none has no containers. The mark tells what it says
# from what a login shell may say. /usr/local/bin is open to all, another root may be closed to who is not root.
COMMAND = (
    "root={{ ansible_vessel_root | default(vessel_inventory_root, true) | quote }}; root=${root:-$VESSEL_ROOT}; "
    "vessel=${root:+$root/bin}; vessel=${vessel:-/usr/local/bin}/vessel; "
    f'echo "{MARK}"; if test -e "$vessel"; then exec "$vessel" facts; '
    'elif test -z "$root" || test "$(id -u)" = 0; then echo "[]"; '
    'else echo "$vessel is not there, or not to be seen by $(id -un); set become" >&2; exit 1; fi'
)
CONNECTION = "vessel.host.container"
OURS = "ansible_vessel_"  # what begins a variable of the connection
NOT_THE_HOSTS = ("inventory_hostname", "ansible_pipelining")  # which ssh's plugin reads, and the container's too
BECOME = {"sudo": ["-n"], "doas": ["-n"], "dzdo": ["-n"], "pfexec": []}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class NoFacts(ValueError):
    """What a host said is no list of containers."""


def parse(said: str) -> list[dict[str, Any]]:
    """The containers; NoFacts where that is none of ours."""
    text = said.partition(MARK)[2].strip()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise NoFacts(f"it did not answer as vessel does: {text[:200]!r}") from None
    return checked(found)


def reason(text: str) -> str:
    """Why there is no answer, and what helps where the one who asked may not read what root has."""
    ours = text.strip().startswith("vessel: ") and "Permission denied" in text
    return f"{text.strip()}; only root can read that, so set become" if ours else text


def untagged(value: Any) -> Any:
    """Without what Ansible may have noted about strings on their way, which JMESPath takes for another type."""
    return json.loads(json.dumps(value))


def checked(found: Any) -> list[dict[str, Any]]:
    """Of each container the facts that we know; NoFacts where they are not what they should be."""
    if not isinstance(found, list):
        raise NoFacts("it did not answer with a list of containers")
    result: dict[str, dict[str, Any]] = {}
    for facts in found:
        problem = _problem(facts)
        if problem:
            raise NoFacts(f"it did not answer as vessel does: {problem}")
        result[facts["name"]] = {name: facts[name] for name in FACTS if name in facts}
    return [result[name] for name in sorted(result)]


def _problem(facts: Any) -> str:
    """What is wrong with the facts that groups and names are made of; empty where nothing is."""
    if not isinstance(facts, dict):
        return "a container that is no mapping"
    if not isinstance(facts.get("name"), str) or not _NAME.fullmatch(facts["name"]):
        return f"the name {facts.get('name')!r}"
    for name in ("state", "image"):
        if not isinstance(facts.get(name), str):
            return f"{name} of {facts['name']}"
    labels, stacks, health = facts.get("labels"), facts.get("stacks", []), facts.get("health")
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        return f"labels of {facts['name']}"
    if not isinstance(stacks, list) or not all(isinstance(stack, str) for stack in stacks):
        return f"stacks of {facts['name']}"
    if health is not None and not isinstance(health, dict):
        return f"health of {facts['name']}"
    return ""


def variables(facts: Mapping[str, Any], host: str) -> dict[str, Any]:
    return {**{f"{PREFIX}{name}": value for name, value in facts.items()}, f"{PREFIX}host": host}


def groups(facts: Mapping[str, Any], host: str, wanted: Iterable[str]) -> Iterator[str]:
    """Names of groups, not yet fit to be such."""
    yield ALL
    status = (facts.get("health") or {}).get("status")
    found: dict[str, list[str]] = {
        "host": [host],
        "stack": list(facts.get("stacks", [])),
        "label": [f"{key}_{value}" if value else key for key, value in facts["labels"].items()],
        "image": [facts["image"]],
        "state": [facts["state"]],
        "health": [status] if isinstance(status, str) else [],
    }
    for kind in wanted:
        for value in found[kind]:
            if value:
                yield f"{PREFIX}{kind}_{value}"


# how it is reached
def connection(
    name: str, host: str, own: Mapping[str, Any], options: Iterable[str], is_template: Callable[[Any], bool]
) -> dict[str, Any]:
    """The variables of vessel.host.container: what the host has of ``options`` is the host's own, as it is there."""
    result = {"ansible_host": host} if not {"ansible_host", "ansible_ssh_host"} & set(own) else {}
    for option in own:
        if option.startswith(OURS) or (option in options and option not in NOT_THE_HOSTS):
            value = own[option]
            plain = isinstance(value, (str, int, float)) and not is_template(value)
            # A template is about the host's variables, and a secret needs no second place.
            result[option] = value if plain else reference(option)
    return {**result, "ansible_connection": CONNECTION, f"{OURS}container": name}


def reference(option: str) -> Any:
    """The host's variable, by the time that it is needed. The host's name is data, and so is not written into it."""
    return trust_as_template(f"{{{{ hostvars[{PREFIX}host]['{option}'] }}}}")


def become_command(method: str, user: str = "", executable: str = "") -> str:
    """What begins a command that becomes root on the host and asks for nothing; empty where no such method is known."""
    method = method.rpartition(".")[2]
    if method not in BECOME:
        return ""
    words = [executable or method, *BECOME[method], *(["-u", user] if user not in ("", "root") else [])]
    return shlex.join(words)
