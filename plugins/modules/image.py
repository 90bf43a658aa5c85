#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image
version_added: 0.1.0
short_description: Declare an image for containers
description:
  - Fetches an image from a registry, makes one from an archive, a root file system, a template or a container, or
    builds it in layers on another image.
  - Each layer is on the disk once, whatever number of images have it, and is cached by the digest of all that goes into
    it. An image that was made from the same is not made again.
  - Equal inputs make equal images. There is no time in them.
options:
  name:
    description:
      - Name of the image, as V(NAME), V(NAME:TAG), V(NAME@DIGEST) or V(DOMAIN/NAME:TAG). The default tag is V(latest).
      - With O(source=registry) it says where the image is, with docker's defaults, V(docker.io) and V(library/).
    type: str
    required: true
  state:
    description:
      - V(present) makes the image.
      - V(absent) removes it, and the layers that nothing else needs. It is refused while a container uses the image,
        unless O(force=true).
    type: str
    choices: [present, absent]
    default: present
  source:
    description:
      - What the image, or its lowest layer, is made from. Instead of it, O(from) names an image to build on.
      - V(registry) fetches it, as O(pull) says. It is the default.
      - V(archive) is a tar file that C(docker save) or C(podman save) wrote, or one with an OCI image layout.
      - V(rootfs) is a root file system, as a tar file or as a directory.
      - V(template) installs one; see O(template).
      - V(container) takes what O(container) has written, as one more layer over its image.
    type: str
    choices: [registry, archive, rootfs, template, container]
  pull:
    description:
      - When the image, or the one that O(from) names, is fetched from its registry.
      - V(missing) fetches it when the host lacks it. It is the default.
      - V(always) asks the registry each time, and fetches what is another one by its digest.
      - V(never) makes the host's own the only one.
    type: str
    choices: [missing, always, never]
  platform:
    description:
      - Which of an index's images is fetched, as V(linux/arm64) or V(linux/arm/v7). The default is this host's.
    type: str
  mirrors:
    description:
      - Registries that are asked before the image's own, in order, each as V(HOST[:PORT][/PREFIX]).
    type: list
    elements: str
  tls_verify:
    description:
      - Whether the registry's certificate is verified, which is the default.
      - With V(false) it is not, and a registry that speaks no TLS is reached without it.
    type: bool
  ca_path:
    description:
      - A file of certificates on the target, in PEM, that the registry's is verified against.
    type: path
  client_cert:
    description:
      - The certificate on the target that the registry is shown, in PEM.
    type: path
  client_key:
    description:
      - The key of O(client_cert), where it is in a file of its own.
    type: path
  auth_file:
    description:
      - Credentials on the target, as C(docker login) and C(podman login) write them.
      - The default is the first that there is of E(REGISTRY_AUTH_FILE), C(/run/containers/0/auth.json),
        C(~/.config/containers/auth.json) and C(~/.docker/config.json).
    type: path
  username:
    description:
      - Who asks the registry, instead of what O(auth_file) says.
    type: str
  password:
    description:
      - The password or token of O(username).
    type: str
  path:
    description:
      - The archive or root file system on the target.
      - What is there counts as unchanged while names, sizes, owners, modes and times of its files are.
    type: path
  archive_name:
    description:
      - Which image of the archive is meant, by the name that it has there. Needed when it holds several.
    type: str
  container:
    description:
      - The container whose writable layer is taken with O(source=container).
      - It may run. Stop or pause it first where its files have to fit one another.
      - The image has the configuration of the container's image, not what the container's declaration says.
    type: str
  max_size:
    description:
      - The most bytes that a layer may unpack to, such as V(2g). Holes of sparse files count. There is no limit by
        default.
    type: str
  device_nodes:
    description:
      - What becomes of device nodes in layers. V(refuse), the default, refuses the image, V(skip) leaves them out, and
        V(make) makes them.
    type: str
    choices: [refuse, skip, make]
  template:
    description:
      - V(debian) installs Debian by C(mmdebstrap), or by C(debootstrap) where that is missing.
      - V(busybox) is the target's statically linked C(/bin/busybox) and little more.
      - The path of an executable on the target is run as C(lxc-create) runs templates. It finds the directory that it
        has to fill in E(LXC_ROOTFS), and each of O(template_options) as an argument C(--NAME=VALUE).
    type: str
  template_options:
    description:
      - What the template is told.
      - For V(debian) these are C(suite) (default V(bookworm)), C(variant) (V(minbase)), C(mirror), C(packages) (a
        list), C(components) (a list, V([main])), C(architecture) and C(docs) (whether to keep manuals and
        translations, V(false)).
      - V(busybox) has none.
    type: dict
  from:
    description:
      - The image that this one is built on. One that the host lacks is fetched, as O(pull) says.
      - With neither O(layers) nor another option that changes it, this one is the same image under another name.
    type: str
  layers:
    description:
      - Steps of the build, in order, each on what the ones before made.
      - A step whose layer is cached is not done again.
    type: list
    elements: dict
    suboptions:
      run:
        description:
          - A command. A string is for C(/bin/sh -c), a list is a program and its arguments.
          - It runs as a container with the host's network, and as root unless the base image names a user.
        type: raw
      copy:
        description:
          - A file or directory into the layer.
        type: dict
        suboptions:
          src:
            description:
              - The file or directory on the target.
            type: path
          content:
            description:
              - The file's content instead.
            type: str
          dest:
            description:
              - Where it goes. With a slash at the end, O(layers[].copy.src) goes into that directory.
            type: str
            required: true
          owner:
            description:
              - User id of the owner; the default is V(0).
            type: int
          group:
            description:
              - Group id; the default is V(0).
            type: int
          mode:
            description:
              - Permission bits, as an octal string in quotes.
              - The default is those of O(layers[].copy.src), or V('0644').
            type: str
      env:
        description:
          - Variables for the steps that follow, and for containers of the image.
        type: dict
  cmd:
    description:
      - What containers run by default. A string is split into words as a shell does it.
    type: raw
  entrypoint:
    description:
      - What O(cmd) is given to. Naming it drops the base's command.
    type: list
    elements: str
  env:
    description:
      - Variables for containers of the image; they join those of the base.
    type: dict
  user:
    description:
      - Who containers run as, as V(USER) or V(USER:GROUP), names or numbers.
    type: str
  working_dir:
    description:
      - Where containers start.
    type: path
  exposed_ports:
    description:
      - Ports that containers listen at, such as V(80) or V(53/udp). Nothing is published by it.
    type: list
    elements: str
  volumes:
    description:
      - Directories that are meant to be volumes. Nothing is mounted by it.
    type: list
    elements: str
  labels:
    description:
      - Words of your own; they join those of the base.
    type: dict
  stop_signal:
    description:
      - The signal that asks a container to end.
    type: str
  healthcheck:
    description:
      - How to tell that a container is well.
    type: dict
    suboptions:
      test:
        description:
          - The command. A string is for the shell in the container, a list is a program and its arguments, and V(NONE)
            takes the base's check away.
        type: raw
        required: true
      interval:
        description:
          - Time between two checks, such as V(30s), which is the default.
        type: str
      timeout:
        description:
          - How long a check may take; the default is V(30s).
        type: str
      retries:
        description:
          - How many checks in a row must fail before the container counts as unhealthy; the default is V(3).
        type: int
      start_period:
        description:
          - For how long after the start failures do not count; the default is V(0s).
        type: str
      start_interval:
        description:
          - Time between two checks during O(healthcheck.start_period); the default is V(5s).
        type: str
  force:
    description:
      - With O(state=present), make the image again, steps that are cached included.
      - With O(state=absent), take the name away although containers use the image. They keep its layers.
    type: bool
    default: false
extends_documentation_fragment:
  - vessel.host.installation
  - vessel.host.attributes
  - vessel.host.attributes.converge
attributes:
  idempotent:
    support: partial
    details:
      - With O(force=true) the image is made again each time.
requirements:
  - mmdebstrap or debootstrap, for O(template=debian)
  - busybox-static, for O(template=busybox)
seealso:
  - module: vessel.host.image_info
  - module: vessel.host.container
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: Debian
  vessel.host.image:
    name: debian
    source: template
    template: debian
    template_options:
      suite: bookworm
      packages: [ca-certificates]

- name: A web server on it
  vessel.host.image:
    name: shop/nginx
    from: debian
    layers:
      - run: apt-get update && apt-get install -y --no-install-recommends nginx-light && rm -rf /var/lib/apt/lists/*
      - copy:
          src: /srv/shop/nginx.conf
          dest: /etc/nginx/nginx.conf
          mode: "0644"
    cmd: [nginx, -g, daemon off;]
    exposed_ports: ["80"]
    stop_signal: SIGQUIT

- name: From a registry of one's own
  vessel.host.image:
    name: registry.example.com/shop/app:1.4
    ca_path: /etc/ssl/shop-ca.pem
    username: deploy
    password: "{{ registry_password }}"

- name: Debian as the hub has it this week
  vessel.host.image:
    name: debian:bookworm-slim
    pull: always

- name: What was done in a container, as an image
  vessel.host.image:
    name: golden
    source: container
    container: workshop

- name: From an archive that lies on the target
  vessel.host.image:
    name: registry:2
    source: archive
    path: /srv/images/registry.tar

- name: No such image
  vessel.host.image:
    name: registry:2
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order; layers from the cache are not among it.
  returned: always
  type: list
  elements: str
  sample:
    - "image shop/nginx:latest: build from debian:latest"
    - "image shop/nginx:latest: build layer: run apt-get update"
image:
  description: The image as it is now; empty when there is none.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the image with its tag.
      type: str
      returned: always
      sample: shop/nginx:latest
    id:
      description: Digest of its configuration.
      type: str
      returned: always
      sample: sha256:3b7f…
    repo_digests:
      description: Where it came from, as V(REPOSITORY@DIGEST); empty for one that was made here.
      type: list
      elements: str
      returned: always
    created:
      description: When an image that was loaded was made; empty for one of our own.
      type: str
      returned: always
    architecture:
      description: The machine that it is for.
      type: str
      returned: always
      sample: amd64
    size:
      description: Bytes of all its layers on the disk.
      type: int
      returned: always
    shared_size:
      description: Bytes of the layers that other images have too.
      type: int
      returned: always
    own_size:
      description: Bytes of the layers that no other image has; not all of them are free when the image goes, where a
        container uses it or the build cache keeps them.
      type: int
      returned: always
    layers:
      description: The layers, the base first, each with RV(ignore:digest) and RV(ignore:size).
      type: list
      elements: dict
      returned: always
    history:
      description: What made it, in words.
      type: list
      elements: str
      returned: always
    config:
      description: The C(config) object of the OCI image configuration.
      type: dict
      returned: always
    containers:
      description: Names of the containers whose declaration names the image.
      type: list
      elements: str
      returned: always
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.module import Facts, VesselModule, run
from ansible_collections.vessel.host.plugins.module_utils._ansible.urls import Urls
from ansible_collections.vessel.host.plugins.module_utils._converge import image_facts, images
from ansible_collections.vessel.host.plugins.module_utils._converge.image_options import DIRECTIVES, OPTIONS
from ansible_collections.vessel.host.plugins.module_utils._converge.plan import Plan
from ansible_collections.vessel.host.plugins.module_utils._converge.registries import set_transport


def converge(module: VesselModule) -> tuple[Plan, Facts]:
    set_transport(Urls)
    paths, name = module.paths, module.desired["name"]

    return images.plan(paths, module.desired, progress=module.progress), lambda: {
        "image": image_facts.Facts(paths).of(name)
    }


def main() -> None:
    run((*DIRECTIVES, *OPTIONS), converge, locks=lambda desired: [(images.KIND, desired["name"])])


if __name__ == "__main__":
    main()
