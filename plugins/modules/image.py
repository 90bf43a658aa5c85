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
  - Equal inputs make equal images. Times in them are those of files that commands wrote, when their layer was made.
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
      - V(layout) is a directory with an OCI image layout.
      - V(rootfs) is a root file system, as a tar file or as a directory.
      - V(template) installs one; see O(template).
      - V(container) takes what O(container) has written, as one more layer over its image.
    type: str
    choices: [registry, archive, layout, rootfs, template, container]
  pull:
    description:
      - When the image, or the one that O(from) names, is fetched from its registry.
      - V(missing) fetches it when the host lacks it. It is the default.
      - V(always) asks the registry each time, and fetches what is another one by its digest.
      - V(never) makes the host's own the only one.
    type: str
    choices: [missing, always, never]
  push:
    description:
      - Whether the registry that O(name) says shall have the image. What it has already is not sent.
      - To push an image that is there under another name, give that one in O(from).
    type: bool
    default: false
  verify:
    description:
      - Whether what is stored of the image is read and hashed again. A layer that is damaged is made or fetched anew;
        the task fails where containers are over it.
      - It takes as long as reading all of the image.
    type: bool
    default: false
  public_key:
    description:
      - A public key on the target, in PEM. An image without a signature by it, as C(cosign sign --key) makes one, is
        refused when it is fetched.
      - The program C(openssl) on the target verifies it.
    type: path
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
      - With V(false) it is not, and a registry that speaks no TLS is reached without it; this holds for O(mirrors) too.
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
      - The archive, layout or root file system on the target.
      - What is there counts as unchanged while names, sizes, owners, modes and times of its files are.
    type: path
  src:
    description:
      - The archive, or the root file system's tar, on the controller, instead of O(path). It is found as
        M(ansible.builtin.copy) finds its C(src), so first in a role's C(files).
      - It is sent when the target needs it, into Ansible's own directory for temporary files, and removed afterwards.
        What counts is the file's content, wherever it is. An image that was made from it is not made again, and the
        same under another name needs nothing sent.
      - In check mode nothing is sent.
      - With O(containerfile) it is the context of the build, a directory on the controller, without what its
        C(.containerignore) or C(.dockerignore) leaves out. Times of files say nothing then.
    type: path
  archive_name:
    description:
      - Which image of the archive or layout is meant, by the name that it has there. Needed when it holds several.
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
      - It is also the most that an archive may unpack to which is compressed as a whole.
    type: str
  device_nodes:
    description:
      - What becomes of device nodes in layers. V(refuse), the default, refuses the image, V(skip) leaves them out, and
        V(make) makes them.
      - A layer is on the disk once. Where V(skip) left devices out that V(make) asks for, it is unpacked again, and
        that is refused while containers are over it.
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
      - Steps of the build, in order, each on what the ones before made. An item has one directive, with the meaning
        that it has in a Dockerfile.
      - C(run), C(copy), C(add) and C(workdir) make layers, the others only say something in the image's configuration.
        A layer is made from the layers below it and from what the step itself has and sees, and as long as all of that
        is the same it is taken from the cache. A label that changed runs nothing again.
    type: list
    elements: dict
    suboptions:
      run:
        description:
          - A command. A string is for the shell, which is C(/bin/sh -c) or the last O(layers[].shell); a list is a
            program and its arguments.
          - It runs as a container, as the user, in the directory and with the variables that the base and the steps
            before say.
        type: raw
      network:
        description:
          - What O(layers[].run) sees of the network. V(host) is the host's own, V(none) is a loopback interface only.
        type: str
        choices: [host, none]
      secrets:
        description:
          - Which of O(secrets) the command gets, each as the file C(/run/secrets/ID), which only root can read.
            It lies in memory, is in no layer, and what is in it makes no other layer.
        type: list
        elements: str
      mounts:
        description:
          - More that the command sees while it runs, and that is in no layer, each written as C(RUN --mount) of a
            Dockerfile has it, for example V(type=cache,target=/root/.cache).
          - V(type=cache) (C(target), C(id), C(sharing), C(mode), C(uid), C(gid), C(from), C(source), C(ro)) is a
            directory that is there again in the next build. M(vessel.host.prune) removes it with the build cache.
          - V(type=tmpfs) (C(target), C(size), C(mode)) is empty and in memory.
          - V(type=bind) (C(source), C(target), C(from), C(rw)) is a copy of a file or directory of the target, or of
            the image C(from). What the command writes there is lost.
          - V(type=secret) (C(id), C(target), C(env), C(mode), C(uid), C(gid), C(required)) is one of O(secrets) at
            another place, for another user, or as a variable.
        type: list
        elements: str
      copy:
        description:
          - Files into the layer. Directories that are missing on the way are made, and have the same owner.
        type: dict
        suboptions:
          src:
            description:
              - A file or directory on the target, or a list of them. Of a directory its content is copied.
              - With O(layers[].copy.from), paths in that image.
            type: raw
          content:
            description:
              - The file's content instead.
            type: str
          from:
            description:
              - An image to copy from. The files keep their owners, unless O(layers[].copy.owner) or
                O(layers[].copy.group) is given.
            type: str
          dest:
            description:
              - Where it goes; a relative path is below the working directory so far. With a slash at the end,
                O(layers[].copy.src) goes into that directory, as it does when a directory is there.
            type: str
            required: true
          owner:
            description:
              - The owner, as a number or as a name of the image's C(/etc/passwd); the default is V(0).
            type: str
          group:
            description:
              - The group, as a number or as a name of the image's C(/etc/group); the default is V(0).
            type: str
          mode:
            description:
              - Permission bits of files, as an octal string in quotes. Directories can be searched by who can read
                them.
              - The default is those of O(layers[].copy.src), or V('0644').
            type: str
      add:
        description:
          - Files as with O(layers[].copy), but what is a tar archive, plain or packed with gzip, bzip2, xz or zstd,
            is unpacked into O(layers[].add.dest); its files keep their owners.
        type: dict
        suboptions:
          src:
            description:
              - A file or directory on the target, or a list of them, or the address of one file (V(https://…)),
                which is fetched and not unpacked, and needs O(layers[].add.checksum).
            type: raw
            required: true
          dest:
            description:
              - As O(layers[].copy.dest).
            type: str
            required: true
          owner:
            description:
              - As O(layers[].copy.owner).
            type: str
          group:
            description:
              - As O(layers[].copy.group).
            type: str
          mode:
            description:
              - As O(layers[].copy.mode), but the default for a file that is fetched is V('0600').
            type: str
          checksum:
            description:
              - The digest that the fetched file must have, as V(sha256:) with 64 hexadecimal digits.
              - It is what the step is known by; while it is the same nothing is fetched.
            type: str
      env:
        description:
          - Variables for the steps that follow, and for containers of the image.
        type: dict
      workdir:
        description:
          - Where the commands that follow, and containers of the image, start. A relative path is below the one
            before. Where it is missing it is made, for the user so far.
        type: str
      user:
        description:
          - Who the commands that follow, and containers of the image, run as; see O(user).
        type: str
      expose:
        description:
          - See O(exposed_ports).
        type: list
        elements: str
      label:
        description:
          - See O(labels).
        type: dict
      volume:
        description:
          - See O(volumes). What later steps write there stays in the image.
        type: list
        elements: str
      entrypoint:
        description:
          - See O(entrypoint). It drops the base's command, but not one of a step before.
        type: list
        elements: str
      cmd:
        description:
          - See O(cmd).
        type: raw
      shell:
        description:
          - What the string of O(layers[].run) is given to from here on, such as V([/bin/bash, -ec]).
        type: list
        elements: str
      stop_signal:
        description:
          - See O(stop_signal).
        type: str
      healthcheck:
        description:
          - See O(healthcheck).
        type: dict
        suboptions:
          test:
            description:
              - See O(healthcheck.test).
            type: raw
            required: true
          interval:
            description:
              - See O(healthcheck.interval).
            type: str
          timeout:
            description:
              - See O(healthcheck.timeout).
            type: str
          retries:
            description:
              - See O(healthcheck.retries).
            type: int
          start_period:
            description:
              - See O(healthcheck.start_period).
            type: str
          start_interval:
            description:
              - See O(healthcheck.start_interval).
            type: str
  containerfile:
    description:
      - A Containerfile (Dockerfile) to build the image from, instead of O(from) and O(layers). Each of its instructions
        becomes such a step.
      - A text of several lines is the Containerfile itself. One line is a path on the target; a relative one is below
        O(context). With O(src) it is on the controller, and a relative one below that.
      - An image that it names and the host lacks is fetched, as O(pull) says.
      - The whole language is read, with heredocs, several stages and C(RUN --mount). C(ADD) fetches an address only
        with C(--checksum), and no git repository. C(RUN --mount=type=ssh), C(RUN --security) and C(COPY --parents) are
        refused. A stage that O(target) does not need is not built.
    type: str
  context:
    description:
      - The directory on the target that C(COPY) and C(ADD) take files from. Nothing outside of it is reached, also not
        through symlinks in it.
      - Without O(containerfile), its C(Containerfile) or C(Dockerfile) is built.
      - What C(.containerignore) or C(.dockerignore) in it names is not there; a file of the Containerfile's own name
        with one of them at its end comes first.
    type: path
  build_args:
    description:
      - Values for C(ARG) of the Containerfile. Proxies (C(http_proxy) and its like) need no C(ARG), and make no other
        layer.
      - They are seen in the image's history; give what is secret as O(secrets).
      - A warning names those that no C(ARG) declares.
    type: dict
  target:
    description:
      - The stage of the Containerfile that becomes the image, by its name or number; the default is the last.
    type: str
  secrets:
    description:
      - What steps can ask for by O(layers[].secrets), or by C(RUN --mount=type=secret).
      - It is in no layer, in no history, and not in what the image is compared by. Lines of it that a step prints are
        shown as V(********).
    type: list
    elements: dict
    suboptions:
      id:
        description:
          - What steps call it.
        type: str
        required: true
      src:
        description:
          - A file on the target.
        type: path
      value:
        description:
          - The content instead.
        type: str
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

- name: The same image in another registry
  vessel.host.image:
    name: mirror.example.com/shop/app:1.4
    from: registry.example.com/shop/app:1.4
    push: true

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

- name: From an archive that lies on the controller, in the role's files; it is sent once
  vessel.host.image:
    name: registry:2
    source: archive
    src: registry.tar

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
      description:
        - Where it came from, and where it was pushed to, as V(REPOSITORY@DIGEST); empty for one that is here alone.
      type: list
      elements: str
      returned: always
    created:
      description: When an image from elsewhere was made, as it says itself; when one of our own got its name.
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
from ansible_collections.vessel.host.plugins.module_utils._converge.image import facts, images
from ansible_collections.vessel.host.plugins.module_utils._converge.image.registries import set_transport
from ansible_collections.vessel.host.plugins.module_utils._converge.plan import Plan
from ansible_collections.vessel.host.plugins.module_utils._options.image import DIRECTIVES, OPTIONS


def converge(module: VesselModule) -> tuple[Plan, Facts]:
    set_transport(Urls)
    paths, name = module.paths, module.desired["name"]

    plan = images.plan(paths, module.sent.into(module.desired), progress=module.progress)
    return plan, lambda: {"image": facts.Facts(paths).of(name)}


def main() -> None:
    run((*DIRECTIVES, *OPTIONS), converge, locks=images.locks)


if __name__ == "__main__":
    main()
