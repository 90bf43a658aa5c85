# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Option values as users write them, into one canonical form; what YAML mangled on the way is refused.

Every function takes the value and the option's path (``networks[0].ipv4_address``) and raises OptionError, which names
the path, the value and what would be right.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Callable

from .._errors import OptionError

Parser = Callable[[Any, str], Any]

_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([bkmgtp]?)(?:i?b)?$", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
_NUMBER_MAX = (1 << 63) - 1  # what the kernel and JSON's readers have for a number
DURATION_MAX = 10**9  # seconds, 31 years; the supervisor takes no more (protocol.py)
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
# A name becomes a host name, a directory and the end of a cgroup: 63 is the shortest of their limits (RFC 1123).
_NAME_MAX = 63


def parse_str(value: Any, option: str) -> str:
    """A string; a whole number stands for its digits."""
    if isinstance(value, bool):
        raise OptionError(
            option,
            value,
            "is a boolean, not a string",
            hint="YAML reads yes, no, on and off as booleans; put the value in quotes",
        )
    if isinstance(value, float):
        raise OptionError(option, value, "is a number that YAML may have rounded", hint="put the value in quotes")
    if not isinstance(value, (str, int)):
        raise OptionError(option, value, "is not a string")
    text = str(value)
    if "\0" in text:
        raise OptionError(option, text, "holds a NUL byte; the kernel's strings end there")
    return text


def parse_word(value: Any, option: str) -> str:
    """A string that must not be empty."""
    text = parse_str(value, option)
    if not text.strip():
        raise OptionError(option, text, "is empty; give a value or leave the option out")
    return text


def parse_name(value: Any, option: str) -> str:
    """The name of a resource: it becomes part of paths, cgroups and host names."""
    text = parse_str(value, option)
    if not _NAME.fullmatch(text) or len(text) > _NAME_MAX:
        raise OptionError(
            option, text, f"is not a name; use letters, digits, _ . and -, a letter or digit first, {_NAME_MAX} at most"
        )
    return text


def parse_path(value: Any, option: str) -> str:
    """An absolute path, without a trailing slash and without .. in it."""
    text = parse_word(value, option)
    if not text.startswith("/"):
        raise OptionError(option, text, "is not an absolute path; begin it with /")
    if ".." in text.split("/"):
        raise OptionError(option, text, "holds ..; write the path that is meant")
    return "/" + "/".join(part for part in text.split("/") if part not in ("", "."))


def parse_bool(value: Any, option: str) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("yes", "true", "on", "y", "1", "no", "false", "off", "n", "0"):
        return value.lower() in ("yes", "true", "on", "y", "1")
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise OptionError(option, value, "is not a boolean; use true or false")


def integer(minimum: int | None = None, maximum: int | None = None, *, also: Sequence[int] = ()) -> Parser:
    """A parser of whole numbers between the bounds, or one of ``also``."""

    def parse(value: Any, option: str) -> int:
        if isinstance(value, bool):
            raise OptionError(option, value, "is a boolean, not a number")
        try:
            if isinstance(value, float) and not value.is_integer():
                raise ValueError
            number = int(value)
        except (TypeError, ValueError):
            raise OptionError(option, value, "is not a whole number") from None
        if number in also:
            return number
        low = minimum is not None and number < minimum
        if low or number > (_NUMBER_MAX if maximum is None else maximum):
            shown = value if abs(number) <= _NUMBER_MAX else "a number of that length"
            raise OptionError(option, shown, f"is out of range; use {_bounds(minimum, maximum)}{_or(also)}")
        return number

    return parse


def _bounds(minimum: int | float | None, maximum: int | float | None) -> str:
    if maximum is None:
        return f"{minimum} or more"
    return f"{maximum} or less" if minimum is None else f"{minimum} to {maximum}"


def _or(also: Sequence[int]) -> str:
    return "".join(f", or {number}" for number in also)


def number(minimum: float = 0.0, maximum: float | None = None) -> Parser:
    """A parser of numbers with a fraction."""

    def parse(value: Any, option: str) -> float:
        if isinstance(value, bool):
            raise OptionError(option, value, "is a boolean, not a number")
        try:
            result = float(value)
        except (TypeError, ValueError):
            raise OptionError(option, value, "is not a number") from None
        if not math.isfinite(result) or result < minimum or (maximum is not None and result > maximum):
            raise OptionError(option, value, f"is out of range; use {_bounds(minimum, maximum)}")
        return result

    return parse


def size(minimum: int = 0, *, also: Sequence[int] = ()) -> Parser:
    """A parser of bytes: a number, or one with b, k, m, g, t or p (powers of 1024); "64m" and 67108864 are one."""

    def parse(value: Any, option: str) -> int:
        remedy = f"use bytes, or a number with b, k, m, g or t{_or(also)}"
        if isinstance(value, bool):
            raise OptionError(option, value, f"is a boolean, not a size; {remedy}")
        text = str(value).strip()
        if text.lstrip("-").isdecimal() and int(text) in also:
            return int(text)
        match = _SIZE.match(text)
        if not match:
            raise OptionError(option, value, f"is not a size; {remedy}")
        result = (
            int(float(match[1]) * _UNITS[match[2].lower()])
            if "." in match[1]
            else int(match[1]) * _UNITS[match[2].lower()]
        )
        if result < minimum:
            raise OptionError(option, value, f"is too small; use {minimum} bytes or more{_or(also)}")
        if result >= 1 << 63:  # what the kernel counts bytes in
            raise OptionError(option, value, "is too large; use less than 8192p")
        return result

    return parse


parse_size = size()


def parse_duration(value: Any, option: str) -> float:
    """Seconds: a number, or 1h30m, 90s, 500ms."""
    remedy = "use seconds, or 1h30m, 90s, 500ms"
    if isinstance(value, bool):
        raise OptionError(option, value, f"is a boolean, not a duration; {remedy}")
    if isinstance(value, (int, float)):
        return _seconds(float(value), value, option)
    text = str(value).strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return _seconds(float(text), value, option)
    parts = _DURATION.findall(text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise OptionError(option, value, f"is not a duration; {remedy}")
    return _seconds(sum(float(n) * _SECONDS[u] for n, u in parts), value, option)


def _seconds(seconds: float, value: Any, option: str) -> float:
    """Enough digits make a float infinite, too."""
    if not 0 <= seconds <= DURATION_MAX:
        raise OptionError(option, value, f"is not a duration; use 0 to {DURATION_MAX} seconds, or 1h30m, 90s, 500ms")
    return seconds


def parse_mode(value: Any, option: str) -> int:
    """Permission bits from a quoted octal string. A number is refused: YAML has read 0755 as 493 or as 755 by then."""
    if isinstance(value, str) and re.fullmatch(r"0?o?[0-7]{1,4}", value):
        return int(value.replace("o", ""), 8)
    if isinstance(value, int) and not isinstance(value, bool):
        raise OptionError(option, value, "is a number; put the octal mode in quotes, as in '0755'")
    raise OptionError(option, value, "is not a mode; use an octal string in quotes, as in '0755'")


def choice(*choices: str) -> Parser:
    def parse(value: Any, option: str) -> str:
        # YAML 1.1 reads the word no as false: for a choice that has it, that is what was meant.
        text = "no" if value is False and "no" in choices else parse_str(value, option)
        if text not in choices:
            raise OptionError(option, text, f"is not one of {', '.join(choices)}")
        return text

    return parse


def listing(item: Parser, *, unique: bool = False, ordered: bool = True) -> Parser:
    """A parser of lists; where the order says nothing, the canonical form is sorted."""

    def parse(value: Any, option: str) -> list[Any]:
        if not isinstance(value, (list, tuple)):
            raise OptionError(option, value, "is not a list; write each item on a line of its own, after a dash")
        items = [item(element, f"{option}[{index}]") for index, element in enumerate(value)]
        if unique:
            for index, element in enumerate(items):
                if element in items[:index]:
                    raise OptionError(f"{option}[{index}]", value[index], "stands in the list twice")
        return items if ordered else sorted(items, key=str)

    return parse


def mapping(item: Parser, key: Parser = parse_word) -> Parser:
    def parse(value: Any, option: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise OptionError(option, value, "is not a mapping; write name: value")
        result: dict[str, Any] = {}
        for given, element in sorted(value.items(), key=str):
            name = key(given, option)
            if name in result:
                raise OptionError(f"{option}.{given}", element, f"is {name} once more; give it one value")
            result[name] = item(element, f"{option}.{given}")
        return result

    return parse


def parse_signal(value: Any, option: str) -> int:
    """A signal by name, with or without SIG, or by number (signal(7)); real-time signals as RTMIN+n."""
    import signal

    if isinstance(value, bool):
        raise OptionError(option, value, "is a boolean, not a signal; use a name such as SIGTERM")
    text = str(value).upper()
    if text.isdecimal():
        if 1 <= int(text) <= signal.SIGRTMAX:
            return int(text)
        raise OptionError(option, value, f"is not a signal; use 1 to {int(signal.SIGRTMAX)} or a name such as SIGTERM")
    base, dummy, offset = text.removeprefix("SIG").partition("+")
    found = getattr(signal, f"SIG{base}", None)
    if not isinstance(found, int) or (offset and not offset.isdecimal()):
        raise OptionError(option, value, "is not a signal; use a name such as SIGTERM or its number")
    number = int(found) + int(offset or 0)
    if number > signal.SIGRTMAX:
        raise OptionError(option, value, f"is not a signal; RTMAX is {int(signal.SIGRTMAX)}")
    return number


def parse_command(value: Any, option: str) -> list[str]:
    """A command as a list, or as one string split as the shell splits words."""
    if isinstance(value, (list, tuple)):
        return [parse_str(word, f"{option}[{index}]") for index, word in enumerate(value)]
    import shlex

    text = parse_str(value, option)
    try:
        return shlex.split(text)
    except ValueError as error:
        raise OptionError(
            option, text, f"can't be split into words ({str(error).lower()}); write it as a list"
        ) from None
