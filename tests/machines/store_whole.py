# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on a host after a power cut: prints a line for each thing that is neither whole nor absent.

Arguments: version.py of the engine, and the releases of ansible-core that may lie beside an engine. A layer that has a
file SUMS at its top is as those digests say, and nothing else is in it.
"""

import glob
import hashlib
import importlib.util
import json
import marshal
import os
import sys

STATE, ENGINES = "/var/lib/vessel", "/usr/local/libexec/vessel"


def read(path):
    with open(path, "rb") as file:
        return file.read()


def broken_records():
    """JSON of the store is read by every task: one that is empty or cut off would stop them all."""
    for path in glob.glob(f"{STATE}/**/*.json", recursive=True):
        in_a_layer = path.startswith(f"{STATE}/layers/") and path.count("/") > 5
        if not in_a_layer and "/upper/" not in path:
            try:
                json.loads(read(path))
            except ValueError as error:
                yield f"{path}: {error}"


def broken_layers():
    for record in glob.glob(f"{STATE}/layers/*.json"):
        top = record[: -len(".json")]
        if not os.path.isdir(top):
            yield f"{top} is missing, and its record is there"
        elif os.path.exists(f"{top}/SUMS"):
            yield from broken_files(top)


def broken_files(top):
    wanted = dict(line.split("  ")[::-1] for line in read(f"{top}/SUMS").decode().splitlines())
    there = {os.path.relpath(f"{d}/{name}", top) for d, dummy, names in os.walk(top) for name in names} - {"SUMS"}
    for path in sorted(there ^ set(wanted)):
        yield f"{top}/{path} is there or not, and should be otherwise"
    for path in sorted(there & set(wanted)):
        if hashlib.sha256(read(f"{top}/{path}")).hexdigest() != wanted[path]:
            yield f"{top}/{path} is not what was imported"


def broken_images():
    for path in glob.glob(f"{STATE}/images/names/*.json"):
        identity = json.loads(read(path))["id"].partition(":")[2]
        config = f"{STATE}/images/{identity}/config.json"
        if not os.path.exists(config) or hashlib.sha256(read(config)).hexdigest() != identity:
            yield f"{path} names an image that is not whole"
        else:
            for layer in json.loads(read(config))["rootfs"]["diff_ids"]:
                if not os.path.exists(f"{STATE}/layers/{layer.partition(':')[2]}.json"):
                    yield f"{path}: its layer {layer} is not there"


def broken_engines(versions, borders):
    for home in glob.glob(f"{ENGINES}/*"):
        if home.endswith(".new"):
            continue  # it has no name that anybody runs it by
        digest = versions.digest(versions.from_directory(f"{home}/{versions.PACKAGE}"))
        if os.path.basename(home) not in [versions.name(digest, border) for border in borders]:
            yield f"{home} is not what its name says"
        if not os.access(f"{home}/vessel", os.X_OK) or not read(f"{home}/vessel").startswith(b"#!/"):
            yield f"{home}/vessel can't be run"
        for path in glob.glob(f"{home}/**/*.pyc", recursive=True):
            try:
                marshal.loads(read(path)[16:])
            except (ValueError, EOFError, TypeError) as error:
                yield f"{path}: {error}"
    for link in ("/usr/local/bin/vessel", "/usr/local/bin/vessel-runtime"):
        if os.path.islink(link) and not os.path.exists(link):
            yield f"{link} leads to nothing"


def broken_units():
    for path in glob.glob("/etc/systemd/system/vessel*.service"):
        if not read(path).rstrip().endswith(b"WantedBy=multi-user.target"):
            yield f"{path} is cut off"
    for path in glob.glob("/etc/systemd/system/multi-user.target.wants/vessel*"):
        if not os.path.exists(path):
            yield f"{path} leads to nothing"


def main(version, *releases):
    spec = importlib.util.spec_from_file_location("version", version)
    versions = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(versions)
    checks = (
        broken_records(),
        broken_layers(),
        broken_images(),
        broken_units(),
        broken_engines(versions, ["", *releases]),
    )
    for check in checks:
        for line in check:
            print(line)


main(*sys.argv[1:])
