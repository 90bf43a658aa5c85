# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Projects: how files are read, merged, included and extended, and what of them a stack declares."""

# ruff: noqa: E501 - a row of a table is a line
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.plugin_utils.compose.errors import ComposeError

from .conftest import Directory

ONE = "services: {one: {image: bb}}"


def merged(directory: Directory, *contents: str, **options: Any) -> dict[str, Any]:
    """Of the service one in files that override each other."""
    names = []
    for number, content in enumerate(contents):
        names.append(f"{number}.yaml")
        directory.write(names[-1], content if "services" in content else f"services: {{one: {{image: bb, {content}}}}}")
    return directory.stack("", *names, **options)


def one(directory: Directory, *contents: str, **options: Any) -> dict[str, Any]:
    made = merged(directory, *contents, name="p", **options)["containers"]["p-one-1"]
    return {name: value for name, value in made.items() if name not in ("image", "networks")}


MERGED: list[tuple[str, str, dict[str, Any]]] = [
    ("command: [a], entrypoint: [x]", "command: b c, entrypoint: [y]", {"command": ["b", "c"], "entrypoint": ["y"]}),
    ("command: [a]", "working_dir: /x", {"command": ["a"], "working_dir": "/x"}),
    ("environment: [A=1, B=1]", "environment: {B: 2, C: 3}", {"env": {"A": "1", "B": "2", "C": "3"}}),
    ("environment: {A: 1, B: 1}", "environment: {A: !reset null}", {"env": {"B": "1"}}),
    ("environment: {A: 1}", "environment: !reset {}", {}),
    ("environment: {A: 1}", "environment: !override {B: 2}", {"env": {"B": "2"}}),
    ("labels: {a: 1}", "labels: [a=2, b=3]", {"labels": {"a": "2", "b": "3"}}),
    ("ports: ['80:80', '81:81/udp']", "ports: ['80:80/tcp', 82]", {"published_ports": ["80:80/tcp", "81:81/udp", "82/tcp"]}),
    ("ports: ['80:80']", "ports: !override ['81:80']", {"published_ports": ["81:80/tcp"]}),
    ("ports: ['80:80']", "ports: !reset []", {}),
    ("ports: [{target: 80, published: 80}]", "ports: ['80:80']", {"published_ports": ["80:80/tcp"]}),
    ("volumes: ['/a:/x', '/b:/y']", "volumes: ['/c:/x:ro']", {"volumes": ["/c:/x:ro", "/b:/y"]}),
    ("volumes: ['/a:/x']", "volumes: [{type: tmpfs, target: /x}]", {"tmpfs": ["/x"]}),
    ("devices: ['/dev/null:/dev/x']", "devices: ['/dev/zero:/dev/x']", {"devices": ["/dev/zero:/dev/x"]}),
    ("tmpfs: /a", "tmpfs: [/b, /a]", {"tmpfs": ["/a", "/b"]}),
    ("dns: 192.0.2.1", "dns: 192.0.2.2", {"dns_servers": ["192.0.2.1", "192.0.2.2"]}),
    ("cap_add: [CHOWN]", "cap_add: [CHOWN, FOWNER]", {"capabilities": ["CHOWN", "FOWNER"]}),
    ("ulimits: {nofile: {soft: 1, hard: 2}, nproc: 3}", "ulimits: {nofile: 5}", {"ulimits": ["nofile:5", "nproc:3"]}),
    ("healthcheck: {test: a, retries: 3}", "healthcheck: {test: [CMD, b]}", {"healthcheck": {"test": ["CMD", "b"], "retries": 3}}),
    ("logging: {driver: json-file, options: {max-size: 1m}}", "logging: {options: {max-file: 2}}",
     {"log_driver": "file", "log_options": {"max-size": "1m", "max-file": 2}}),
    ("logging: {driver: json-file, options: {max-size: 1m}}", "logging: {driver: none}", {"log_driver": "none"}),
    ("extra_hosts: ['a:192.0.2.1']", "extra_hosts: {b: 192.0.2.2}", {"etc_hosts": {"a": "192.0.2.1", "b": "192.0.2.2"}}),
    ("deploy: {resources: {limits: {cpus: 1}}}", "deploy: {resources: {limits: {memory: 1m}}}", {"cpus": 1, "memory": "1m"}),
    ("mem_limit: 1m", "mem_limit: !reset null", {}),
    ("restart: always", "restart:", {"restart_policy": "always"}),
    ("sysctls: [net.core.somaxconn=1]", "sysctls: {net.core.somaxconn: 2}", {"sysctls": {"net.core.somaxconn": "2"}}),
]  # fmt: skip


@pytest.mark.parametrize(("base", "over", "expected"), MERGED, ids=[f"{base} < {over}" for base, over, dummy in MERGED])
def test_merged(directory: Directory, base: str, over: str, expected: dict[str, Any]) -> None:
    assert one(directory, base, over) == expected


def test_documents_of_a_file_override_each_other(directory: Directory) -> None:
    assert one(directory, f"{ONE}\n---\nservices: {{one: {{command: a}}}}\n---\n") == {"command": ["a"]}


def test_a_form_that_does_not_fit_the_other(directory: Directory) -> None:
    directory.write("a.yaml", "services: {one: {image: bb, build: {context: .}}}")
    directory.write("b.yaml", "services: {one: {sysctls: 5}}")
    said = directory.refused("", "a.yaml", "b.yaml")
    assert said == "./b.yaml: services.one.sysctls: 5 is a number; give a list or a mapping"


# names


@pytest.mark.parametrize(
    ("content", "options", "name"),
    [
        (ONE, {}, "someshop1"),
        (f"name: own\n{ONE}", {}, "own"),
        (f"name: own\n{ONE}", {"name": "Given"}, "Given"),
        (f"name: own\n{ONE}", {"variables": {"COMPOSE_PROJECT_NAME": "var"}}, "var"),
        (f"name: ${{X:-deep}}er\n{ONE}", {}, "deeper"),
    ],
)
def test_the_name(directory: Directory, content: str, options: dict[str, Any], name: str) -> None:
    made = directory.stack(content, **options)
    assert made["name"] == name
    assert list(made["containers"]) == [f"{name}-one-1"]
    assert list(made["networks"]) == [f"{name}_default"]


def test_the_last_files_name_counts_and_is_a_variable(directory: Directory) -> None:
    made = merged(directory, f"name: a\n{ONE}", "name: b\nservices: {one: {}}")
    assert made["name"] == "b"
    assert one(directory, "hostname: $COMPOSE_PROJECT_NAME") == {"hostname": "p"}
    made = merged(
        directory, "name: a\nservices: {one: {image: bb, hostname: $COMPOSE_PROJECT_NAME}}", "name: b\nservices: {}"
    )
    assert made["containers"]["b-one-1"]["hostname"] == "b"


def test_a_name_that_is_none(directory: Directory) -> None:
    said = directory.refused(f"name: My Shop\n{ONE}")
    assert said.startswith("./compose.yaml: name: 'My Shop' is no project's name; use lower-case letters")
    with pytest.raises(ComposeError, match="is not a name"):
        directory.stack(ONE, name="x" * 60)


# profiles and dependencies

PROFILES = """
services:
  foo: {image: bb}
  bar: {image: bb, profiles: [test]}
  baz: {image: bb, depends_on: [bar], profiles: [test]}
  zot: {image: bb, depends_on: [bar], profiles: [debug]}
"""


@pytest.mark.parametrize(
    ("profiles", "services"),
    [
        ([], ["foo"]),
        (["test"], ["bar", "baz", "foo"]),
        (["debug", "test"], ["bar", "baz", "foo", "zot"]),
        (["*"], ["bar", "baz", "foo", "zot"]),
    ],
)
def test_profiles(directory: Directory, profiles: list[str], services: list[str]) -> None:
    made = directory.stack(PROFILES, name="p", profiles=profiles)
    assert sorted(made["containers"]) == [f"p-{service}-1" for service in services]
    variable = directory.stack(PROFILES, name="p", variables={"COMPOSE_PROFILES": ",".join(profiles)})
    assert variable == made


def test_a_dependency_that_is_not_enabled(directory: Directory) -> None:
    said = directory.refused(PROFILES, profiles=["debug"])
    assert said == (
        "./compose.yaml: services.zot.depends_on: 'bar' names a service that is not enabled; it is in the profiles test"
    )
    optional = "services: {one: {image: bb, depends_on: {two: {condition: service_healthy, required: false}}}, two: {image: bb, profiles: [x]}}"
    assert "depends_on" not in directory.stack(optional, name="p")["containers"]["p-one-1"] or (
        directory.stack(optional, name="p")["containers"]["p-one-1"]["depends_on"] == {}
    )
    there = directory.stack(optional, name="p", profiles=["x"])["containers"]["p-one-1"]
    assert there["depends_on"] == {"p-two-1": "healthy"}


def test_what_is_refused_is_so_where_it_is_enabled(directory: Directory) -> None:
    content = "services: {one: {image: bb}, two: {image: bb, tty: true, profiles: [x]}}"
    assert len(directory.stack(content)["containers"]) == 1
    assert directory.refused(content, profiles=["x"]).startswith("./compose.yaml: services.two.tty: True can't be")


def test_all_that_is_refused_is_told_at_once(directory: Directory) -> None:
    one = "one: {image: bb, tty: true, build: {context: ., sbom: true}}"
    content = f"{{models: {{a: {{model: x}}}}, services: {{{one}, two: {{image: bb, tty: true}}}}}}"
    told = [line.split(": ")[1] for line in directory.refused(content).splitlines()]
    assert told == ["models", "services.one.tty", "services.one.build.sbom", "services.two.tty"]


def test_conditions_of_replicas(directory: Directory) -> None:
    content = """
    services:
      one: {image: bb, depends_on: {two: {condition: service_completed_successfully}}, links: [three], pid: "service:three"}
      two: {image: bb, scale: 2}
      three: {image: bb}
    """
    made = directory.stack(content, name="p")["containers"]
    assert made["p-one-1"]["depends_on"] == {"p-two-1": "completed", "p-two-2": "completed", "p-three-1": "started"}
    assert made["p-one-1"]["pid_mode"] == "container:p-three-1"
    said = directory.refused(content.replace("service:three", "service:two"))
    assert "services.one.pid: 'service:two' has 2 containers; it can join one" in said


# networks, volumes, secrets, configs, images


def test_a_link_asks_for_no_less_than_a_dependency(directory: Directory) -> None:
    both = ["links: [two]", "depends_on: {two: {condition: service_healthy}}"]
    for one, two in (both, reversed(both)):
        made = directory.stack(f"services: {{one: {{image: bb, {one}, {two}}}, two: {{image: bb}}}}", name="p")
        assert made["containers"]["p-one-1"]["depends_on"] == {"p-two-1": "healthy"}


@pytest.mark.parametrize("nothing", ["networks: ", "networks: []", "network_mode: ", "hostname: "])
def test_the_default_network_where_none_is_named(directory: Directory, nothing: str) -> None:
    assert directory.service(nothing) == {}


def test_networks(directory: Directory) -> None:
    content = """
    name: p
    services:
      one: {image: bb, networks: {b: {priority: 5}, a: , ext: {gw_priority: 1, aliases: [x, one]}}}
      two: {image: bb, network_mode: none}
    networks:
      a:
        name: own-name
        internal: true
        enable_ipv6: true
        labels: [k=v]
        driver_opts: {com.docker.network.driver.mtu: 1400}
        ipam: {config: [{subnet: 10.9.0.0/24, gateway: 10.9.0.9, ip_range: 10.9.0.128/25}, {subnet: "fd00:9::/64"}]}
      b:
      ext: {external: true, name: there}
      unused: {driver: bridge}
    """
    made = directory.stack(content)
    assert [network["name"] for network in made["containers"]["p-one-1"]["networks"]] == ["there", "p_b", "own-name"]
    assert made["containers"]["p-one-1"]["networks"][0]["aliases"] == ["one", "x"]
    assert made["networks"] == {
        "p_b": {},
        "own-name": {
            "internal": True,
            "ipv6": True,
            "labels": {"k": "v"},
            "mtu": 1400,
            "subnet": "10.9.0.0/24",
            "gateway": "10.9.0.9",
            "ip_range": "10.9.0.128/25",
            "subnet6": "fd00:9::/64",
        },
    }


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        ("{driver: overlay}", "networks.a.driver: 'overlay' is not one of bridge, default"),
        ("{driver_opts: {x: y}}", "networks.a.driver_opts.x: 'y' is an option of docker's driver; there is com.docker"),
        ("{ipam: {driver: x}}", "networks.a.ipam.driver: 'x' takes drivers of docker's"),
        ("{ipam: {config: [{subnet: 10.0.0.1/8}]}}", "networks.a.ipam.config[0].subnet: '10.0.0.1/8' is not a subnet"),
        ("{ipam: {config: [{gateway: 10.0.0.1}]}}", "networks.a.ipam.config[0]: has no subnet"),
        (
            "{ipam: {config: [{subnet: 10.0.0.0/24}, {subnet: 10.0.1.0/24}]}}",
            "networks.a.ipam.config[1]: '10.0.1.0/24' is one more",
        ),
        ("{enable_ipv4: false}", "networks.a.enable_ipv4: False can't be switched off"),
        ("[]", "networks.a: [] is a list; give a mapping or nothing"),
    ],
)
def test_a_network_that_is_refused(directory: Directory, network: str, sentence: str) -> None:
    content = f"services: {{one: {{image: bb, networks: [a]}}}}\nnetworks: {{a: {network}}}"
    assert directory.refused(content).startswith(f"./compose.yaml: {sentence}")


def test_volumes(directory: Directory) -> None:
    content = """
    name: p
    services:
      one: {image: bb, scale: 2, volumes: ["data:/d", "ext:/e", /anon, "named:/n"]}
    volumes: {data: {labels: {a: 1}}, ext: {external: {name: there}}, named: {name: own}, unused: }
    """
    made = directory.stack(content)
    assert made["volumes"] == {"p_data": {"labels": {"a": "1"}}, "own": {}, "p-one-1_anon": {}, "p-one-2_anon": {}}
    assert made["containers"]["p-one-2"]["volumes"] == ["p_data:/d", "there:/e", "p-one-2_anon:/anon", "own:/n"]


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (
            '{type: nfs, o: "addr=10.0.0.9,rw,nfsvers=4", device: ":/export/a"}',
            {"driver": "mount", "fstype": "nfs", "device": "10.0.0.9:/export/a", "options": ["rw", "nfsvers=4"]},
        ),
        (
            '{type: nfs4, o: "addr=fd00::9", device: ":/export"}',
            {"driver": "mount", "fstype": "nfs4", "device": "[fd00::9]:/export", "options": []},
        ),
        (
            "{type: none, o: bind, device: /srv/data}",
            {"driver": "mount", "fstype": "none", "device": "/srv/data", "options": ["bind"]},
        ),
        (
            '{type: tmpfs, device: tmpfs, o: "size=100m,uid=1000,mode=0700"}',
            {"driver": "tmpfs", "size": "100m", "owner": "1000", "mode": "0700"},
        ),
        ("{type: nfs}", "device: is missing; give what is to be mounted"),
        ("{device: /dev/sdb1}", "type: is missing; give the type of the file system, or none for a directory"),
        ("{type: ext4, device: /d, share: x}", "share: 'x' is no option of docker's local driver"),
        ("{type: cifs, device: //f/s, o: password=x}", "o: 'password=(not shown)' would show in the process list"),
        ('{type: tmpfs, o: "size=1m,nr_inodes=5"}', "o: 'nr_inodes=5' can't be had for a volume in memory"),
    ],
)
def test_what_docker_would_mount(directory: Directory, given: str, made: dict[str, object] | str) -> None:
    content = f"""
    name: p
    services: {{one: {{image: bb, volumes: ["data:/d"]}}}}
    volumes: {{data: {{driver: local, driver_opts: {given}}}}}
    """
    if isinstance(made, str):
        assert directory.refused(content).startswith(f"./compose.yaml: volumes.data.driver_opts.{made}")
    else:
        assert directory.stack(content)["volumes"] == {"p_data": made}


def test_a_long_name_of_a_volume_without_one(directory: Directory) -> None:
    made = directory.service(f"volumes: [/{'deep/' * 20}]")["volumes"]
    assert len(made[0].partition(":")[0]) == 63


def test_secrets_and_configs(directory: Directory) -> None:
    directory.write("s.txt", "of the file\n")
    content = """
    name: p
    services:
      one:
        image: bb
        secrets: [file, {source: var, target: /run/secrets/other, uid: "5", gid: 6, mode: 0400}]
        configs: [{source: text, target: /etc/text, uid: "5", mode: "0640"}, file]
    secrets: {file: {file: s.txt}, var: {environment: TOKEN}}
    configs: {text: {content: "$WHO $$WHO {{ who }}"}, file: {file: s.txt}}
    """
    made = directory.stack(content, variables={"TOKEN": "{{ t }}", "WHO": "me"})
    assert made["containers"]["p-one-1"]["secrets"] == [
        {"name": "file", "content": "of the file\n", "mode": "0444"},
        {"name": "other", "content": "{{ t }}", "mode": "0400", "uid": "5", "gid": 6},
    ]
    assert made["containers"]["p-one-1"]["image"] == "p-one-configs"
    assert made["images"]["p-one-configs"] == {
        "from": "bb",
        "layers": [
            {"copy": {"content": "me $WHO {{ who }}", "dest": "/etc/text", "mode": "0640", "owner": "5"}},
            {"copy": {"content": "of the file\n", "dest": "/file", "mode": "0444"}},
        ],
    }


@pytest.mark.parametrize(
    ("rest", "sentence"),
    [
        (
            "secrets: [s]}}\nsecrets: {s: {external: true}}",
            "secrets.s.external: True can't be; there is no store of secrets",
        ),
        ("secrets: [s]}}\nsecrets: {s: {}}", "secrets.s: needs one of file and environment"),
        (
            "secrets: [s]}}\nsecrets: {s: {environment: NONE}}",
            "secrets.s.environment: 'NONE' is a variable that is not set",
        ),
        (
            "secrets: [s]}}\nsecrets: {s: {file: none}}",
            "secrets.s.file: 'none' can't be read on the controller, at ./none: No",
        ),
        (
            "secrets: [{source: s, target: /etc/s}]}}\nsecrets: {s: {file: f}}",
            "services.one.secrets[0].target: '/etc/s' is a path",
        ),
        (
            "secrets: [{source: s, mode: rw}]}}\nsecrets: {s: {file: f}}",
            "services.one.secrets[0].mode: 'rw' is not a mode",
        ),
        (
            "configs: [{source: c, target: x}]}}\nconfigs: {c: {content: x}}",
            "services.one.configs[0].target: 'x' is not an abs",
        ),
        (
            "tmpfs: /x, configs: [{source: c, target: /x/y}]}}\nconfigs: {c: {content: x}}",
            "services.one.configs[0].target: '/x/y' is below /x",
        ),
        (
            "configs: [c]}}\nconfigs: {c: {content: x, file: f}}",
            "configs.c: needs one of file, content and environment",
        ),
    ],
)
def test_a_secret_or_config_that_is_refused(directory: Directory, rest: str, sentence: str) -> None:
    directory.write("f", "x")
    said = directory.refused(f"services: {{one: {{image: bb, {rest}")
    assert said.startswith(f"./compose.yaml: {sentence}"), said


def test_builds(directory: Directory) -> None:
    directory.write("app/Dockerfile", "FROM bb")
    directory.write("app/other.df", "FROM bb\nRUN true")
    content = """
    name: p
    services:
      one: {build: app}
      two:
        image: registry.example/two:1
        build:
          context: ./app
          dockerfile: other.df
          args: [A=1, KNOWN, UNKNOWN]
          labels: {l: 1}
          target: last
          tags: [two:latest, "registry.example/two:1"]
          secrets: [s, {source: s, target: t}]
          pull: true
          cache_from: [x]
      three: {build: {dockerfile_inline: "FROM bb\\nRUN true"}}
      four: {image: bb4, platform: linux/arm64, pull_policy: always}
    secrets: {s: {environment: KNOWN}}
    """
    made = directory.stack(content, variables={"KNOWN": "k"})
    context = f"{directory.path}/app"
    assert made["images"] == {
        "p-one": {"src": context, "containerfile": "FROM bb\n"},
        "registry.example/two:1": {
            "src": context,
            "containerfile": "FROM bb\nRUN true\n",
            "build_args": {"A": "1", "KNOWN": "k"},
            "labels": {"l": "1"},
            "target": "last",
            "pull": "always",
            "secrets": [{"id": "s", "value": "k"}, {"id": "t", "value": "k"}],
        },
        "two:latest": {"from": "registry.example/two:1"},
        "p-three": {"containerfile": "FROM bb\nRUN true\n"},
        "bb4": {"platform": "linux/arm64", "pull": "always"},
    }
    assert {name: body["image"] for name, body in made["containers"].items()} == {
        "p-one-1": "p-one",
        "p-two-1": "registry.example/two:1",
        "p-three-1": "p-three",
        "p-four-1": "bb4",
    }


# extends and include


def test_extends_moves_paths(directory: Directory) -> None:
    directory.write(
        "parts/base.yaml",
        """
    services:
      base: {image: bb, volumes: ["./x:/x"], env_file: [a.env, {path: b.env, required: false}], build: app, extends: {service: b, file: more/c.yaml}}
    secrets: {s: {file: s.txt}}
    """,
    )
    directory.write(
        "parts/more/c.yaml", "services: {b: {label_file: l.env, volumes: [{type: bind, source: y, target: /y}]}}"
    )
    directory.write("parts/a.env", "A=1")
    directory.write("parts/more/l.env", "l=1")
    directory.write("parts/app/Dockerfile", "FROM bb\n")
    made = directory.stack(
        "services: {one: {extends: {service: base, file: parts/base.yaml}, image: one}}",
        name="p",
        target_directory="/t",
    )
    container = made["containers"]["p-one-1"]
    assert container["volumes"] == ["/t/parts/more/y:/y", "/t/parts/x:/x"]
    assert (container["env"], container["labels"]) == ({"A": "1"}, {"l": "1"})
    assert made["images"]["one"]["src"] == f"{directory.path}/parts/app"


def test_a_cycle_of_extends(directory: Directory) -> None:
    said = directory.refused("services: {a: {extends: b}, b: {extends: {service: a}}}")
    assert said == (
        "./compose.yaml: services.a.extends: is a cycle: a in ./compose.yaml -> b in ./compose.yaml -> a in ./compose.yaml"
    )
    said = directory.refused("services: {a: {extends: none}}")
    assert said == "./compose.yaml: services.a.extends.service: 'none' is no service of ./compose.yaml; there are a"


def test_an_error_names_the_file_that_says_it(directory: Directory) -> None:
    directory.write("base.yaml", "services: {base: {image: bb, tty: true}}")
    directory.write("over.yaml", "services: {one: {gpus: all}}")
    extending = "services: {one: {extends: {service: base, file: base.yaml}, labels: {a: b}}}"
    assert directory.refused(extending).startswith("./base.yaml: services.one.tty: True")
    assert directory.refused(ONE, "compose.yaml", "over.yaml").startswith("./over.yaml: services.one.gpus: 'all'")


def test_include(directory: Directory) -> None:
    directory.write(
        "sub/compose.yaml", "name: no\nservices: {two: {image: $IMAGE, secrets: [s]}}\nsecrets: {s: {file: s}}"
    )
    directory.write("sub/.env", "IMAGE=sub\nWHO=sub")
    directory.write("sub/s", "deep")
    directory.write("over.yaml", "services: {two: {hostname: $WHO}}")
    content = f"include: [{{path: [sub/compose.yaml, over.yaml]}}]\n{ONE}"
    made = directory.stack(content, name="p", variables={"WHO": "above"})
    assert made["containers"]["p-two-1"]["image"] == "sub"
    assert made["containers"]["p-two-1"]["hostname"] == "above"
    assert made["containers"]["p-two-1"]["secrets"][0]["content"] == "deep"
    directory.write("else.env", "IMAGE=else")
    other = directory.stack(f"include: [{{path: sub/compose.yaml, env_file: else.env}}]\n{ONE}", name="p")
    assert other["containers"]["p-two-1"]["image"] == "else"


def test_include_that_is_refused(directory: Directory) -> None:
    directory.write("sub/compose.yaml", "services: {one: {image: bb}}\ninclude: [../compose.yaml]")
    cycle = f"./sub/compose.yaml: include[0].path: '{directory.path}/sub/../compose.yaml' includes itself: ./compose.yaml -> "
    assert directory.refused(f"include: [sub/compose.yaml]\n{ONE}").startswith(cycle.replace(str(directory.path), "."))
    directory.write("sub/compose.yaml", ONE)
    said = directory.refused(f"include: [sub/compose.yaml]\n{ONE}")
    assert said.startswith("./compose.yaml: services.one: is in an included file too; put what is to be over it")
    said = directory.refused(f"include: [none.yaml]\n{ONE}")
    assert said.startswith(
        "./compose.yaml: include[0].path: './none.yaml' can't be read on the controller, at ./none.yaml"
    )


# files that are none


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("services: [", "./compose.yaml:1: is no YAML: "),
        ("services:\n  a: {image: b}\n  a: {image: c}", "./compose.yaml:3: is no YAML: 'a' stands there twice, before in line 2"),
        ("- a", "./compose.yaml: ['a'] is no compose file; give a mapping with services"),
        ("the words of a key", "./compose.yaml: is no compose file; give a mapping with services"),
        ("# nothing", "./compose.yaml: has no services"),
        ("name: x", "./compose.yaml: has no services"),
        ("services: {}", "./compose.yaml: has no services"),
        ("service: {}", "./compose.yaml: service: is no attribute of the compose specification; there are configs"),
        ("services: {'a b': {image: b}}", "./compose.yaml: services: 'a b' is no name"),
        ("services: {a: }", "./compose.yaml: services.a: None is nothing; give a mapping"),
        ("services: {a: {}}", "./compose.yaml: services.a: has neither image nor build"),
        ("services: {a: {image: !shell id}}", "./compose.yaml:1: is no YAML: could not determine a constructor for the tag"),
        ("services: {a: {image: b}}\nmodels: {m: {model: x}}", "./compose.yaml: models: "),
    ],
)  # fmt: skip
def test_no_compose_file(directory: Directory, content: str, sentence: str) -> None:
    assert directory.refused(content).startswith(sentence)


def test_aliases_that_unfold_themselves(directory: Directory) -> None:
    lines = ["x-0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    said = directory.refused("\n".join([*lines, ONE]))
    assert said == "./compose.yaml: has more than 100000 values, with what its aliases stand for"


def test_yaml_is_that_of_compose_and_not_of_ansible(directory: Directory) -> None:
    found = directory.service("environment: {A: yes, B: 12:30, C: 0o17, D: 2020-01-01, E: on, F: 017, G: 1_000, H: .5}")
    assert found["env"] == {
        "A": "yes",
        "B": "12:30",
        "C": "15",
        "D": "2020-01-01",
        "E": "on",
        "F": "15",
        "G": "1_000",
        "H": "0.5",
    }


def test_content_and_files_together(directory: Directory) -> None:
    path = directory.write("compose.yaml", "services: {one: {image: bb, environment: {A: 1}}}")
    content = {"services": {"one": {"environment": {"B": "$C"}}}}
    made = directory.stack(compose=[path, content], name="p", variables={"C": "c"})
    assert made["containers"]["p-one-1"]["env"] == {"A": "1", "B": "c"}
    with pytest.raises(ComposeError) as caught:
        directory.stack(compose={"services": {"one": {"image": "bb", "tty": True}}})
    assert str(caught.value).startswith("compose: services.one.tty: True can't be")
    with pytest.raises(ComposeError, match="compose: 5 is neither a file's path nor a mapping"):
        directory.stack(compose=5)


def test_env_files(directory: Directory) -> None:
    directory.write(".env", "A=1\nB=$A$OVER")
    directory.write("x.env", "A=2")
    assert one(directory, "labels: {x: $A-$B}", variables={"OVER": "o"}) == {"labels": {"x": "1-1o"}}
    assert one(directory, "labels: {x: $A-$B}", env_files=["x.env"]) == {"labels": {"x": "2-"}}
    assert directory.missing == {"B"}
    with pytest.raises(ComposeError, match=r"compose_env_files: '.*none\.env' can't be read"):
        one(directory, "hostname: x", env_files=["none.env"])
