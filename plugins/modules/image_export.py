#!/usr/bin/python
# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_export
version_added: 0.1.0
short_description: Write an image to a file
description:
  - Writes an image of this host to an archive or into an OCI image layout, as other tools read them.
  - What is there already is left as it is when it holds the image under its name, in the same form.
  - The same image gives the same bytes, and has the same id where it is loaded.
options:
  name:
    description:
      - Name of the image.
    type: str
    required: true
  path:
    description:
      - Where it goes on the target. The directory above it must be there.
      - A file there that is no archive of images is refused, but for an empty one; so is a directory that is neither
        empty nor an OCI image layout.
    type: path
    required: true
  format:
    description:
      - V(oci-archive) is a tar with an OCI image layout, V(docker-archive) what C(docker save) writes.
      - V(oci) is a directory with an OCI image layout. One that is there gets the image in addition, in place of the
        one that has its name.
    type: str
    choices: [oci-archive, docker-archive, oci]
    default: oci-archive
  compress:
    description:
      - Whether layers are compressed by gzip. What is there already counts, compressed or not.
    type: bool
    default: false
  force:
    description:
      - Write it in any case, in place of any file. The content of a directory is not removed.
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
      - With O(force=true) it is written each time.
seealso:
  - module: vessel.host.image
author:
  - The vessel.host authors (@vessel-host)
"""

EXAMPLES = r"""
- name: For docker load
  vessel.host.image_export:
    name: shop/nginx
    path: /srv/images/nginx.tar
    format: docker-archive

- name: Into a directory that skopeo can copy from
  vessel.host.image_export:
    name: shop/nginx
    path: /srv/layout
    format: oci
    compress: true
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode.
  returned: always
  type: list
  elements: str
  sample: ["image shop/nginx:latest: export to /srv/images/nginx.tar"]
"""

from ansible_collections.vessel.host.plugins.module_utils._ansible.module import Facts, VesselModule, run
from ansible_collections.vessel.host.plugins.module_utils._converge.image import exports, images
from ansible_collections.vessel.host.plugins.module_utils._converge.image.exports import OPTIONS
from ansible_collections.vessel.host.plugins.module_utils._converge.plan import Plan


def converge(module: VesselModule) -> tuple[Plan, Facts]:
    return exports.plan(module.paths, module.desired), dict


def main() -> None:
    run(OPTIONS, converge, locks=lambda paths, desired: [(images.KIND, desired["name"])])


if __name__ == "__main__":
    main()
