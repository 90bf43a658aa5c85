# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The border between Ansible and the engine: options in, results out, errors into ``fail_json``, in this place alone.

A module is its documentation and a call of ``run`` (what changes something) or ``report`` (what only reads).
"""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import traceback
from collections.abc import Iterable, Iterator
from typing import Any, Callable, NoReturn, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.parameters import remove_values
from ansible.module_utils.errors import RequiredError, UnsupportedError

from .._converge.plan import Plan
from .._converge.store import lock
from .._errors import OptionError, VesselError
from .._image.progress import QUIET, Progress, ProgressFile
from .._options.parse import parse_path
from .._options.record import Option, arguments, parse_options, secret_texts
from .._options.sent import WANTED, take
from .._paths import Paths


def parse_target_path(value: Any, option: str) -> str:
    """A path on the target, where ~ and $VARIABLES may stand, as in any Ansible module."""
    return parse_path(os.path.expanduser(os.path.expandvars(value)) if isinstance(value, str) else value, option)


def parse_root(value: Any, option: str) -> str:
    """The writable layers lie there, and an overlay's options are a text with marks."""
    path = parse_target_path(value, option)
    marks = [mark for mark in ",:\\" if mark in path]
    if marks:
        problem = f"has {' and '.join(marks)} in it, by which overlayfs parts its options; use another directory"
        raise OptionError(option, path, problem)
    return path


ROOT = Option("root", parse_root, "path")

Facts = Callable[[], "dict[str, Any]"]
Locks = Iterable["tuple[str, str]"]


class VesselModule(AnsibleModule):  # type: ignore[misc]
    """An AnsibleModule that parses what the user wrote, not what Ansible made of it.

    ``desired`` holds the given options in canonical form, and the defaults that the documentation names; ``paths`` is
    the installation that ``root`` names; ``sent`` is what the action plugin said beside the options.
    """

    def __init__(
        self, options: tuple[Option, ...], *, supports_check_mode: bool = True, needs_root: bool = True, **spec: Any
    ) -> None:
        self.options = (*options, ROOT)
        self.raw: dict[str, Any] = {}
        self.progress = QUIET
        self._ready = False
        super().__init__(arguments(self.options), supports_check_mode=supports_check_mode, **spec)
        self._ready = True
        with boundary(self):
            self.desired = self._parse(self.params)
            self.paths = Paths.at(self.desired.pop("root", None))
            if needs_root:
                self._require_root()

    def _load_params(self) -> None:
        """Ansible turns true into 'True' and 1.10 into '1.1' where a string is asked for; kept is what was written."""
        super()._load_params()
        self.sent = take(self.params)
        given = {key: value for key, value in self.params.items() if not key.startswith("_ansible")}
        self.raw = copy.deepcopy(given)
        # Ansible looks for secrets only where the argument spec leads, and a stack's containers are a mapping to it.
        self.no_log_values.update(secret_texts(self.options, given))

    def _parse(self, converted: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        given = dict(self.raw)
        for option in self.options:
            for name in (option.name, *option.aliases):
                # Lists and mappings may come as one string (ad-hoc commands, key=value): Ansible has taken it apart.
                if converted and isinstance(given.get(name), str) and option.type in ("list", "dict"):
                    given[name] = converted[name]
        desired = parse_options(self.options, given)
        for option in self.options:
            if option.shown_default is not None:
                desired.setdefault(option.name, option.default)
        return desired

    def _require_root(self) -> None:
        if os.geteuid() != 0:
            raise VesselError(
                f"{self._name}: needs root, and runs as uid {os.geteuid()}", hint="set become: true for the task"
            )

    def fail_json(self, msg: str, **kwargs: Any) -> NoReturn:
        """Until the options are taken, a problem of ours is told before Ansible's: it names value and remedy."""
        if not self._ready:
            msg = self._better(msg)
        super().fail_json(msg=msg, **kwargs)
        raise AssertionError("contract violation: fail_json returned")

    def _better(self, msg: str) -> str:
        result = getattr(self, "validation_result", None)
        first = result.errors[0] if result is not None and result.errors else None
        if isinstance(first, (UnsupportedError, RequiredError)):
            return msg
        try:
            self._parse()
        except OptionError as error:
            return self.sentence(error)
        return msg

    @contextlib.contextmanager
    def telling(self) -> Iterator[Progress]:
        """What tells those who follow, if any do. No secret is told."""
        if not self.sent.token:
            yield QUIET
            return
        progress = ProgressFile(self.paths, self.sent.token, lambda text: str(remove_values(text, self.no_log_values)))
        try:
            yield progress
        finally:
            progress.close()

    def sentence(self, error: BaseException) -> str:
        """What the user reads of an error. A secret must not stand in it, in whatever form repr() gave it."""
        if isinstance(error, OptionError) and self._secret(error.value):
            return f"{error.option}: the value (secret, not shown) {error.problem}"
        if isinstance(error, OSError) and not isinstance(error, VesselError):
            return oserror_sentence(error)
        return str(error)

    def _secret(self, value: Any) -> bool:
        if isinstance(value, dict):
            return any(self._secret(item) for item in value.values())
        if isinstance(value, (list, tuple)):
            return any(self._secret(item) for item in value)
        return value not in (None, "") and not isinstance(value, bool) and str(value) in self.no_log_values


def oserror_sentence(error: OSError) -> str:
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
    where = " -> ".join(names) or "system call"
    code = errno.errorcode.get(error.errno or 0, str(error.errno))
    return f"{where}: {error.strerror or error} [{code}]"


@contextlib.contextmanager
def boundary(module: VesselModule, result: Optional[dict[str, Any]] = None) -> Iterator[None]:
    """The one place where an error of the engine becomes a failed task. ``result`` is what it then says besides."""
    result = {} if result is None else result
    try:
        yield
    except (VesselError, OSError) as error:
        module.fail_json(msg=module.sentence(error), error_type=type(error).__name__, **result)
    except Exception as error:
        text = traceback.format_exc()
        msg = f"unexpected {type(error).__name__}: {error}; this is a defect of vessel.host, please report it"
        module.fail_json(msg=msg, exception=text, traceback=text, error_type=type(error).__name__, **result)


def run(
    options: tuple[Option, ...],
    converge: Callable[[VesselModule], tuple[Plan, Facts]],
    *,
    locks: Callable[[Paths, dict[str, Any]], Locks] = lambda paths, desired: (),
    **spec: Any,
) -> None:
    """A module that makes things so.

    ``converge`` compares and gives the plan, and what tells the resource's facts once the plan is done. ``locks`` names
    the resources (kind, name) that are the task's alone meanwhile. ``spec`` is for AnsibleModule.
    """
    module = VesselModule(options, **spec)
    result: dict[str, Any] = {"changed": False, "actions": []}
    with boundary(module, result), contextlib.ExitStack() as stack:
        # Reading needs no lock: what is stored is replaced whole.
        for kind, name in [] if module.check_mode else sorted(set(locks(module.paths, module.desired))):
            stack.enter_context(lock(module.paths, kind, name))
        module.progress = stack.enter_context(module.telling())
        plan, facts = converge(module)
        wanted = [] if module.check_mode else plan.needs()
        if wanted or module.sent.asking:
            module.exit_json(changed=False, **{WANTED: wanted})
        for text in plan.warnings:
            module.warn(text)
        actions = plan.describe()
        if not module.check_mode:
            _apply(plan, result)
        result.update(changed=bool(plan), actions=actions)
        if module._diff:
            result["diff"] = plan.diff()
        result.update(facts())
    module.exit_json(**result)


def _apply(plan: Plan, result: dict[str, Any]) -> None:
    """A plan that fails says what of it stays done all the same."""
    try:
        plan.apply()
    except BaseException:
        left = plan.describe_left()
        result.update(changed=bool(left), actions=left)
        raise


def report(options: tuple[Option, ...], gather: Callable[[VesselModule], dict[str, Any]], **spec: Any) -> None:
    """A module that tells; ``changed`` is false unless ``gather`` says otherwise."""
    module = VesselModule(options, **spec)
    with boundary(module):
        result = {"changed": False, **gather(module)}
    module.exit_json(**result)
