# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of images, as docker has them."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError
from ansible_collections.vessel.host.plugins.module_utils._image.reference import Reference, parse, same

SHA256, SHA512 = "a" * 64, "b" * 128


@pytest.mark.parametrize(
    ("text", "found", "canonical"),
    [
        ("debian", Reference("debian", tag="latest"), "debian:latest"),
        ("debian:12", Reference("debian", tag="12"), "debian:12"),
        ("library/debian", Reference("library/debian", tag="latest"), "library/debian:latest"),
        ("localhost/shop:1", Reference("shop", "localhost", "1"), "localhost/shop:1"),
        ("localhost:5000/shop", Reference("shop", "localhost:5000", "latest"), "localhost:5000/shop:latest"),
        ("quay.io/a/b/c:v1.0_x-y", Reference("a/b/c", "quay.io", "v1.0_x-y"), "quay.io/a/b/c:v1.0_x-y"),
        ("Registry.Example:443/x", Reference("x", "Registry.Example:443", "latest"), "Registry.Example:443/x:latest"),
        ("[2001:db8::1]:5000/x", Reference("x", "[2001:db8::1]:5000", "latest"), "[2001:db8::1]:5000/x:latest"),
        ("127.0.0.1:5000/x:2", Reference("x", "127.0.0.1:5000", "2"), "127.0.0.1:5000/x:2"),
        ("x:5000", Reference("x", tag="5000"), "x:5000"),
        ("a-b.c_d__e", Reference("a-b.c_d__e", tag="latest"), "a-b.c_d__e:latest"),
        (f"x@sha256:{SHA256}", Reference("x", digest=f"sha256:{SHA256}"), f"x@sha256:{SHA256}"),
        (f"x@sha512:{SHA512}", Reference("x", digest=f"sha512:{SHA512}"), f"x@sha512:{SHA512}"),
        (
            f"h.io:1/x:t@sha256:{SHA256}",
            Reference("x", "h.io:1", "t", f"sha256:{SHA256}"),
            f"h.io:1/x:t@sha256:{SHA256}",
        ),
        ("x:" + "t" * 128, Reference("x", tag="t" * 128), "x:" + "t" * 128),
    ],
)
def test_names(text, found, canonical):
    assert parse(text, "image") == found
    assert str(parse(text, "image")) == canonical
    assert parse(canonical, "image") == found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not the name of an image (write NAME"),
        ("Debian", "is not the name of an image (names of images are lower case)"),
        ("debian/Slim", "is not the name of an image (names of images are lower case)"),
        ("Debian/slim", "is not the name of an image (names of images are lower case)"),
        ("docker.io/Debian:1", "is not the name of an image (names of images are lower case)"),
        ("my image", "is not the name of an image (take the white space out)"),
        ("debian\n", "is not the name of an image (take the white space out)"),
        (" debian", "is not the name of an image (take the white space out)"),
        ("debian:", "is not the name of an image (write NAME"),
        ("debian:-1", "is not the name of an image (write NAME"),
        ("debian:a:b", "is not the name of an image (write NAME"),
        ("debian:" + "t" * 129, "is not the name of an image (write NAME"),
        ("a//b", "is not the name of an image (write NAME"),
        ("/a", "is not the name of an image (write NAME"),
        ("a/", "is not the name of an image (write NAME"),
        ("a/../b", "is not the name of an image (write NAME"),
        ("a___b", "is not the name of an image (write NAME"),
        ("-a", "is not the name of an image (write NAME"),
        ("a.", "is not the name of an image (write NAME"),
        ("http://a/b", "is not the name of an image (write NAME"),
        ("a;rm", "is not the name of an image (write NAME"),
        ("naïve", "is not the name of an image (write NAME"),
        ("x@", "is not the name of an image (write NAME"),
        (f"x@sha256:{SHA256}@sha256:{SHA256}", "is not the name of an image (write NAME"),
        (f"x@sha256:{SHA256[1:]}", "has a bad digest; sha256 has 64 hexadecimal digits in lower case"),
        (f"x@sha256:{SHA256.upper()}", "has a bad digest; sha256 has 64 hexadecimal digits in lower case"),
        (f"x@sha256:{'g' * 64}", "has a bad digest; sha256 has 64 hexadecimal digits in lower case"),
        (f"x@md5:{'a' * 32}", "has a digest by md5; sha256 and sha512 are known"),
        ("a" * 256, "is too long; the name has 256 characters of 255"),
        (SHA256, "looks like a digest, not a name (write sha256:DIGEST for an image's id)"),
    ],
)
def test_what_is_no_name(text, sentence):
    with pytest.raises(OptionError) as caught:
        parse(text, "containers.web.image")
    assert str(caught.value).startswith(f"containers.web.image: {text!r} {sentence}")


def test_other_tools_write_the_same_name_short_or_long():
    assert same("debian", "docker.io/library/debian:latest")
    assert same("a/b:1", "docker.io/a/b:1")
    assert not same("debian", "quay.io/library/debian")
    assert not same("debian:11", "debian")
    assert same("No Name", "No Name")
