# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containerfiles as they are read: what each instruction means, and what is refused with its line."""

from __future__ import annotations

import textwrap

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import ContainerfileError
from ansible_collections.vessel.host.plugins.module_utils._image.build.plan import State, apply
from ansible_collections.vessel.host.plugins.module_utils._image.build.steps import Config, Copy, Run, Workdir
from ansible_collections.vessel.host.plugins.module_utils._image.config import architecture
from ansible_collections.vessel.host.plugins.module_utils._image.containerfile import mounts
from ansible_collections.vessel.host.plugins.module_utils._image.containerfile.compile import bases, compile, unused
from ansible_collections.vessel.host.plugins.module_utils._image.containerfile.source import read
from ansible_collections.vessel.host.plugins.module_utils._image.containerfile.words import expand, expand_words
from ansible_collections.vessel.host.plugins.module_utils._image.store import Image

CONTEXT = object()  # nothing is looked up in it when a text is compiled
BASE = {"Env": ["PATH=/bin", "BASE=b"], "Cmd": ["base"]}


def compiled(text, build_args=None, target="", images=None, context=CONTEXT):
    def resolve(base):
        return (images or {}).get(base.name) or Image(base.name, "", (), BASE)

    return compile(textwrap.dedent(text), "Containerfile", context, build_args or {}, resolve, target)


def stage(text, **options):
    return compiled(text, **options)[-1]


def body(text, **options):
    """The steps of a stage that is FROM an image."""
    return stage(f"FROM base\n{textwrap.dedent(text)}", **options).steps


def config(text, **options):
    """The configuration that a stage ends with."""
    made = stage(f"FROM base\n{textwrap.dedent(text)}", **options)
    state = State.of(made.base)
    for step in made.steps:
        if not isinstance(step, (Run, Copy)):
            apply(state, step)
    return state.config


# lines
def test_lines_that_go_on_comments_and_case():
    found = read(
        "# a comment\n\n  run one \\\n# in between\n\n   two \\  \n  three\n#last\nFROM x\nRUN a \\\\\nUSER u\r\n", "f"
    ).instructions
    assert [(line.verb, line.rest, line.line) for line in found] == [
        ("RUN", "one    two   three", 3),
        ("FROM", "x", 9),
        ("RUN", "a \\\\", 10),
        ("USER", "u", 11),
    ]


@pytest.mark.parametrize(
    ("text", "escape"),
    [
        ("# escape=`\nFROM x", "`"),
        ("#syntax=docker/dockerfile:1\n# ESCAPE = `\nFROM x", "`"),
        ("# a comment\n# escape=`\nFROM x", "\\"),
        ("\n# escape=`\nFROM x", "\\"),
        ("# unknown=1\n# escape=`\nFROM x", "\\"),
        ("FROM x\n# escape=`", "\\"),
    ],
)
def test_directives_stand_before_all_else(text, escape):
    assert read(text, "f").escape == escape


def test_another_escape():
    steps = stage("# escape=`\nFROM base\nENV A=c:\\x B=`$y\nRUN a `\n  b\n").steps
    assert steps[0].options == {"env": {"A": "c:\\x", "B": "$y"}}
    assert steps[1].command == "a   b"


# words
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("$A", "1"),
        ("${A}b", "1b"),
        ("$Ab", ""),
        ("\\$A", "$A"),
        ("'$A'", "$A"),
        ('"$A \\" \\$A \\n"', '1 " $A \\n'),
        ("a\\ b", "a b"),
        ("${A:-x}${NONE:-x}${EMPTY:-x}", "1xx"),
        ("${A-x}${NONE-x}${EMPTY-x}", "1x"),
        ("${A:+x}${NONE:+x}${EMPTY:+x}", "x"),
        ("${A+x}${NONE+x}${EMPTY+x}", "xx"),
        ("${NONE:-${A}${NONE:-y}}", "1y"),
        ("${NONE:-a b}", "a b"),
        ("${P#*/}${P##*/}", "a/b/cc"),
        ("${P%/*}|${P%%/*}", "/a/b|"),
        ("${P/a/x}|${P//\\//_}", "/x/b/c|_a_b_c"),
        ("$", "$"),
        ("a$", "a$"),
        ("$%", "$%"),
    ],
)
def test_a_word_is_expanded(text, found):
    assert expand(text, {"A": "1", "EMPTY": "", "P": "/a/b/c"}, "\\") == found


def test_words_of_a_value_are_words_unless_it_is_quoted():
    assert expand_words('$A "$A" x$A\'y\' ""', {"A": "1 2"}, "\\") == ["1", "2", "1 2", "x1", "2y"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("'a", "has a ' that is not closed"),
        ('"a', 'has a " that is not closed'),
        ("${A", "has a ${ that is not closed"),
        ("${}", "has a ${ without a variable's name"),
        ("${A!x}", "has an unknown modifier after A"),
        ('"${NONE:?no value}"', "NONE is not set: no value"),
    ],
)
def test_words_that_can_not_be(text, problem):
    with pytest.raises(ContainerfileError) as caught:
        body(f"\nENV X={text}\n")
    assert str(caught.value).startswith("Containerfile:3: ENV: ")
    assert problem in str(caught.value)


# the configuration
@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("ENV A=1 B=$BASE", "Env", ["PATH=/bin", "BASE=b", "A=1", "B=b"]),
        ("ENV PATH=$PATH:/x BASE=new SEEN=$BASE", "Env", ["PATH=/bin:/x", "BASE=new", "SEEN=b"]),
        ("ENV A one  'two' ", "Env", ["PATH=/bin", "BASE=b", "A=one  two"]),
        ('ENV A="x y" B=x\\ y', "Env", ["PATH=/bin", "BASE=b", "A=x y", "B=x y"]),
        ('LABEL "a b"="c=d" e=$BASE', "Labels", {"a b": "c=d", "e": "b"}),
        ("LABEL a b", "Labels", {"a": "b"}),
        ("EXPOSE 80 53/UDP 8000-8002", "ExposedPorts",
         {"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}}),
        ("ARG PORTS='1 2'\nEXPOSE $PORTS", "ExposedPorts", {"1/tcp": {}, "2/tcp": {}}),
        ('VOLUME ["/a b", "/$BASE"]', "Volumes", {"/a b": {}, "/b": {}}),
        ("VOLUME /a /b", "Volumes", {"/a": {}, "/b": {}}),
        ("USER $BASE:users", "User", "b:users"),
        ("WORKDIR /a\nWORKDIR b/\nWORKDIR ../$BASE", "WorkingDir", "/a/b"),
        ("CMD a $BASE", "Cmd", ["/bin/sh", "-c", "a $BASE"]),
        ('CMD ["a", "$BASE"]', "Cmd", ["a", "$BASE"]),
        ("CMD ['a']", "Cmd", ["/bin/sh", "-c", "['a']"]),
        ('ENTRYPOINT ["e"]', "Cmd", None),
        ('CMD ["c"]\nENTRYPOINT ["e"]', "Cmd", ["c"]),
        ("ENTRYPOINT e", "Entrypoint", ["/bin/sh", "-c", "e"]),
        ('SHELL ["/bin/bash", "-ec"]\nCMD x', "Cmd", ["/bin/bash", "-ec", "x"]),
        ('SHELL ["/bin/bash", "-ec"]', "Shell", ["/bin/bash", "-ec"]),
        ("STOPSIGNAL SIGQUIT", "StopSignal", "SIGQUIT"),
        ("STOPSIGNAL 9", "StopSignal", "9"),
        ("HEALTHCHECK NONE", "Healthcheck", {"Test": ["NONE"]}),
        ("HEALTHCHECK CMD a b", "Healthcheck", {"Test": ["CMD-SHELL", "a b"]}),
        ('HEALTHCHECK --interval=1m30s --retries=2 --start-period=0 CMD ["a"]', "Healthcheck",
         {"Test": ["CMD", "a"], "Interval": 90 * 10**9, "Retries": 2}),
        ("ONBUILD RUN a\nONBUILD COPY b c", "OnBuild", ["RUN a", "COPY b c"]),
    ],
)  # fmt: skip
def test_the_configuration(text, key, value):
    assert config(text).get(key) == value


def test_history_has_what_docker_writes():
    steps = body('ENV A=1\nLABEL a="b c"\nCMD x\nEXPOSE 80\nMAINTAINER me <m@x>\nARG V=1\nUSER u')
    assert [step.created_by for step in steps] == [
        "ENV A=1",
        "LABEL a=b c",
        'CMD ["/bin/sh", "-c", "x"]',
        "EXPOSE 80",
        "MAINTAINER me <m@x>",
        "ARG V=1",
        "USER u",
    ]


# arguments
def run_args(text, **options):
    return [step for step in stage(text, **options).steps if isinstance(step, Run)][-1]


def test_arguments_have_their_scope():
    text = """
        ARG VERSION=1
        ARG OTHER=2
        FROM base:$VERSION AS one
        ARG VERSION
        ARG LOCAL=l
        FROM one
        ARG OTHER
        ENV E=$OTHER$LOCAL$VERSION
        RUN x
        """
    assert stage(text).steps[1].options == {"env": {"E": "2l1"}}  # a stage has those of the one that it is made from
    assert dict(run_args(text).args) == {"VERSION": "1", "LOCAL": "l", "OTHER": "2"}
    given = {"VERSION": "9", "LOCAL": "L", "NONE": ""}
    made = compiled(text, build_args=given)
    assert made[0].base.name == "base:9"
    assert made[1].steps[1].options == {"env": {"E": "2L9"}}
    assert unused(textwrap.dedent(text), "Containerfile", given) == ["NONE"]


def test_an_argument_without_a_value_is_none():
    assert run_args("FROM base\nARG A\nARG B=\nRUN x").args == {"B": ""}
    assert run_args("FROM base\nARG A B=$C C=1\nRUN x", build_args={"A": "2"}).args == {"A": "2", "B": "", "C": "1"}


def test_the_environment_comes_before_arguments():
    step = run_args("FROM base\nARG BASE=arg\nENV X=$BASE\nRUN x")
    assert State({"Env": ["BASE=b"]}, []).env(step)["BASE"] == "b"
    assert config("ARG BASE=arg\nENV X=$BASE")["Env"][-1] == "X=b"


def test_proxies_need_no_declaration_and_are_no_arguments():
    step = run_args("FROM base\nRUN x", build_args={"http_proxy": "p"})
    assert (step.args, step.hidden) == ({}, {"http_proxy": "p"})
    assert unused("FROM base", "Containerfile", {"HTTP_PROXY": "p"}) == []


def test_the_platform_is_there_for_who_asks():
    text = "FROM --platform=$BUILDPLATFORM base\nARG TARGETARCH\nENV A=$TARGETARCH B=x$TARGETOS"
    assert stage(text).steps[1].options == {"env": {"A": architecture(), "B": "x"}}
    assert bases(text, "f", {})[0].platform == f"linux/{architecture()}"


# stages
STAGES = """
    FROM scratch AS files
    COPY a /a
    FROM builder AS build
    RUN make
    FROM base AS unused
    RUN never
    FROM tools AS Final
    COPY --from=build /out /
    COPY --from=0 /a /a
    COPY --from=registry.example/other:1 /b /b
    RUN --mount=from=files,target=/f x
    """


def test_only_what_the_target_needs_is_built():
    assert [made.name for made in compiled(STAGES)] == ["files", "build", "final"]
    assert [made.name for made in compiled(STAGES, target="build")] == ["build"]
    assert [made.name for made in compiled(STAGES, target="0")] == ["files"]
    assert [made.name for made in compiled(STAGES, target="FINAL")][-1] == "final"


def test_what_a_stage_copies_from():
    made = compiled(STAGES)
    assert made[0].base.layers == ()
    copies = [step for step in made[-1].steps if isinstance(step, Copy)]
    assert [getattr(step.origin, "name", step.origin) for step in copies] == [1, 0, "registry.example/other:1"]
    assert all(step.keep for step in copies)
    assert made[-1].steps[-1].mounts[0].origin == 0


def test_images_are_known_before_anything_is_compiled():
    names = [image.name for image in bases(textwrap.dedent(STAGES), "f", {})]
    assert names == ["builder", "tools", "registry.example/other:1"]
    assert [image.name for image in bases(textwrap.dedent(STAGES), "f", {}, "build")] == ["builder"]


def test_triggers_of_the_base_are_done_once():
    base = Image("parent", "", (), {"OnBuild": ["ENV A=1", "COPY <<E /x\n1\nE\n", "RUN echo $A"], "Cmd": ["x"]})
    made = stage("FROM parent\nCMD y", images={"parent": base})
    assert [type(step) for step in made.steps] == [Config, Config, Copy, Run, Config]
    assert made.steps[2].inline == (("E", "1\n"),)
    state = State.of(made.base)
    for step in made.steps:
        if isinstance(step, Config):
            apply(state, step)
    assert state.config == {"Env": ["A=1"], "Cmd": ["/bin/sh", "-c", "y"]}


# what makes layers
def test_commands():
    steps = body(
        """
        RUN a $X  "b"
        RUN ["a", "$X"]
        RUN --network=none a
        RUN --network=default --mount=type=cache,target=/c --mount=type=secret,id=s,env=S a
        """
    )
    assert [step.command for step in steps] == ['a $X  "b"', ["a", "$X"], "a", "a"]
    assert [step.network for step in steps] == ["host", "host", "none", "host"]
    cache, secret = steps[-1].mounts
    assert (cache.kind, cache.id, cache.target) == ("cache", "/c", "/c")
    assert (secret.id, secret.env, secret.target, secret.mode) == ("s", "S", "", 0o400)


def test_heredocs_of_commands():
    steps = body(
        """
        RUN <<EOF
        a \\
        # no comment
          b $X
        EOF
        RUN cat <<A > /a && cat <<-'B' > /b
        1
        A
        \t2
        \tB
        RUN <<EOF
        #!/usr/bin/python3
        print(1)
        EOF
        """
    )
    assert steps[0].command == "a \\\n# no comment\n  b $X\n"
    assert steps[1].command == "cat <<A > /a && cat <<-'B' > /b\n1\nA\n\t2\nB\n"
    assert (steps[2].command, steps[2].scripts) == (
        ["/dev/pipes/EOF"],
        (("/dev/pipes/EOF", "#!/usr/bin/python3\nprint(1)\n"),),
    )


def test_copies():
    steps = body(
        """
        ARG D=dest
        COPY a b* /$D/
        COPY ["a b", "c"]
        COPY --chown=u:g --chmod=0750 --link --exclude=*.o --exclude=x a /a
        COPY --chown=5 a /a
        ADD x.tar /
        ADD --checksum=sha256:%s https://example.org/f /f
        """
        % ("0" * 64)
    )
    steps = [step for step in steps if isinstance(step, Copy)]
    assert [(step.sources, step.dest) for step in steps[:2]] == [(("a", "b*"), "/dest/"), (("a b",), "c")]
    third = steps[2]
    assert (third.user, third.group, third.mode, third.directory_mode) == ("u", "g", 0o750, 0o750)
    assert third.excluded == ("*.o", "x")
    assert (steps[3].user, steps[3].group) == ("5", None)
    assert [step.unpack for step in steps] == [False] * 4 + [True] * 2
    assert steps[5].urls == (("https://example.org/f", "0" * 64),)
    assert all(step.origin is CONTEXT for step in steps[:5])


def test_heredocs_of_copies():
    steps = body(
        """
        ENV X=1
        COPY <<one <<"two" /dir/
        $X "q" \\$X
        one
        $X
        two
        COPY <<-three /file
        \ta
        \t\tb
        \tthree
        """
    )
    assert steps[1].inline == (("one", '1 "q" $X\n'), ("two", "$X\n"))
    assert steps[2].inline == (("three", "a\nb\n"),)
    assert (steps[1].sources, steps[1].dest, steps[2].dest) == ((), "/dir/", "/file")


def test_a_working_directory_is_a_step():
    (step,) = body("WORKDIR $BASE/x")
    assert (type(step), step.path) == (Workdir, "b/x")


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, "there is no instruction in it"),
        ("# only\n", 1, "there is no instruction in it"),
        ("ARG A=1", 1, "ARG: no FROM follows; a Containerfile begins with one"),
        ("RUN x\nFROM a", 1, "RUN: stands before the first FROM; only ARG may"),
        ("FROM a\n\nFORM b", 3, "unknown instruction FORM"),
        ("FROM a\nRUN", 2, "RUN: nothing follows it"),
        ("FROM a AS", 1, "FROM: 'a AS' is not IMAGE or IMAGE AS NAME"),
        ("FROM $NONE", 1, "FROM: '$NONE' names no image; an ARG before the first FROM has no value"),
        ("FROM --platfrom=x a", 1, "FROM: unknown flag --platfrom; there are --platform"),
        ("FROM a AS x\nFROM b AS X", 2, "FROM: the stage x is there already"),
        ("FROM a\nCOPY --from=1 x /", 2, "COPY: --from=1 is no earlier stage; there are 0, and the first is 0"),
        ("FROM a\nCOPY --form=x x /", 2, "COPY: unknown flag --form; there are --from, --chown, --chmod"),
        ("FROM a\nCOPY x", 2, "COPY: 'x' is not SOURCE … DESTINATION"),
        ("FROM a\nCOPY x y z", 2, "COPY: 'z' takes several sources, so that it has to end with /"),
        ("FROM a\nCOPY --chmod=u+x x /", 2, "COPY: --chmod=u+x is no octal number such as 755"),
        ("FROM a\nADD https://x/y /", 2, "ADD: https://x/y has to be given with its content's digest"),
        ("FROM a\nADD https://x/y.git /", 2, "ADD: https://x/y.git is a git repository"),
        ("FROM a\nENV A", 2, "ENV: 'A' has no value; write A=VALUE"),
        ("FROM a\nENV A=1 B", 2, "ENV: 'B' is not NAME=VALUE"),
        ("FROM a\nEXPOSE http", 2, "EXPOSE: 'http' is not a port"),
        ("FROM a\nEXPOSE 70000", 2, "EXPOSE: '70000' is not a port"),
        ("FROM a\nUSER $NONE", 2, "USER: '$NONE' is nobody"),
        ("FROM a\nSHELL bash", 2, "SHELL: takes a JSON list"),
        ("FROM a\nSTOPSIGNAL SIGNONE", 2, "STOPSIGNAL: 'SIGNONE' is no signal"),
        ("FROM a\nHEALTHCHECK x", 2, "HEALTHCHECK: 'x' is neither NONE nor CMD"),
        ("FROM a\nHEALTHCHECK --interval=5 CMD x", 2, "HEALTHCHECK: --interval=5 is no duration"),
        ("FROM a\nONBUILD FROM x", 2, "ONBUILD: FROM can't be a trigger"),
        ("FROM a\nRUN --network=bridge x", 2, "RUN: --network=bridge is not one of default, host, none"),
        ("FROM a\nRUN --mount=type=ssh x", 2, "RUN: --mount=type=ssh: type=ssh is not one of bind, cache"),
        ("FROM a\nRUN --mount=type=cache x", 2, "RUN: --mount=type=cache: it has no target"),
        ("FROM a\nRUN --security=insecure x", 2, "RUN: unknown flag --security"),
        ("FROM a\nRUN []", 2, "RUN: an empty list is no command"),
        ("FROM a\nRUN <<EOF\nx", 2, "the heredoc EOF has no end; a line EOF ends it"),
        ("# escape=x\nFROM a", 1, "escape='x' is neither"),
        ("# escape=`\n# escape=`\nFROM a", 2, "the directive escape stands there twice"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text, line, problem):
    with pytest.raises(ContainerfileError) as caught:
        compiled(text)
    assert str(caught.value).startswith(f"Containerfile:{line}: {problem}"), str(caught.value)


def test_a_target_that_is_no_stage():
    with pytest.raises(ContainerfileError, match="there is no stage 'x' to be the target; its stages are files, build"):
        compiled(STAGES, target="x")


def test_without_a_context_nothing_is_copied_from_it():
    with pytest.raises(ContainerfileError, match=r"Containerfile:2: COPY: there is no context"):
        compiled("FROM a\nCOPY x /", context=None)
    assert compiled("FROM a\nCOPY --from=b x /", context=None)


# mounts
@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("type=bind,source=a,target=/t", {"kind": "bind", "target": "/t", "source": "a", "readonly": True}),
        ("src=a,dst=/t,rw,from=x", {"kind": "bind", "target": "/t", "source": "a", "readonly": False, "from": "x"}),
        ("type=tmpfs,target=/t,size=64m", {"kind": "tmpfs", "target": "/t", "size": 64 << 20, "mode": 0o1777}),
        ("type=secret,id=s", {"kind": "secret", "id": "s", "target": "/run/secrets/s", "env": "", "mode": 0o400,
                              "required": False}),
        ("type=secret,target=/a/b,required,uid=5,mode=0440",
         {"kind": "secret", "id": "b", "target": "/a/b", "env": "", "mode": 0o440, "required": True, "uid": 5}),
        ("type=cache,target=/c,id=i,sharing=locked,uid=1,gid=2,mode=0700",
         {"kind": "cache", "target": "/c", "id": "i", "source": "", "sharing": "locked", "uid": 1, "gid": 2,
          "mode": 0o700, "readonly": False}),
    ],
)  # fmt: skip
def test_mounts(text, fields):
    assert mounts.parse(text) == fields


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("type=x", "type=x is not one of"),
        ("type=cache,target=/c,sharing=x", "sharing=x is not one of"),
        ("type=tmpfs,target=/c,size=x", "size=x is no number of bytes"),
        ("type=secret", "a secret needs its id"),
        ("type=tmpfs,target=/c,id=x", "id is no option of type=tmpfs"),
        ("type=secret,id=x,uid=me", "uid=me is no number"),
        ("type=secret,id=x,required=maybe", "required=maybe is neither true nor false"),
        ("type=secret,id=x,mode=rw", "mode=rw is no octal number"),
    ],
)
def test_mounts_that_can_not_be(text, problem):
    with pytest.raises(ValueError, match=problem):
        mounts.parse(text)
