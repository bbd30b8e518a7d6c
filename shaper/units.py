"""Rates, durations, sizes and ratios: text to numbers and back.

Inside the program a rate is an `int` in bit/s counting layer-2 bytes, a duration a `float` in seconds,
a size an `int` in bytes, a ratio a `float` in 0..1. Text always carries its unit.
"""

from __future__ import annotations

import re
from decimal import Decimal

_NUMBER = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-zµ/%]*)\s*$")
_RATES = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9, "tbit": 10**12}
_TIMES = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_SIZES = {"b": 1, "kb": 10**3, "mb": 10**6, "kib": 2**10, "mib": 2**20}
_AMBIGUOUS = re.compile(r"^([kmgt]?)(bps|b/s)$", re.IGNORECASE)


class UnitError(ValueError):
    """The text is no quantity of the wanted kind. `hint` tells how it should be written.

    `kind` is the slug of the problem: "missing-unit", "ambiguous-unit", "bad-percent" or "bad-quantity".
    """

    def __init__(self, message: str, hint: str, kind: str = "bad-quantity") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.kind = kind


def _split(text: str, what: str, example: str) -> tuple[Decimal, str]:
    match = _NUMBER.match(text)
    if match is None:
        raise UnitError(f"{text!r} is not a {what}", f"write it as a number and a unit, such as {example}")
    number, unit = Decimal(match[1]), match[2]
    if not unit:
        raise UnitError(f"{text!r} has no unit", f"a {what} needs its unit, such as {example}", "missing-unit")
    return number, unit


def parse_rate(text: str) -> int:
    """`20mbit` -> 20_000_000 bit/s. Raises UnitError; `kbps` and its kin are refused with both readings."""
    number, unit = _split(text, "rate", "20mbit")
    if ambiguous := _AMBIGUOUS.match(unit):
        prefix = ambiguous[1].lower()
        bits = number * _RATES[f"{prefix}bit"]
        raise UnitError(
            f"{text!r} is ambiguous: tc reads {unit} as bytes, most of the field as bits",
            f"write {format_rate(int(bits))} if you mean bits, {format_rate(int(bits * 8))} if you mean bytes",
            "ambiguous-unit",
        )
    factor = _RATES.get(unit) or _RATES.get(unit.lower())
    if factor is None:
        raise UnitError(f"{text!r}: {unit!r} is not a unit of rate", f"use one of {', '.join(_RATES)}")
    rate = number * factor
    if rate != int(rate) or rate < 8:
        raise UnitError(f"{text!r} is not a whole number of bits of at least 8bit", "such as 64kbit or 20mbit")
    if rate > 10**15:
        raise UnitError(f"{text!r} is beyond what the kernel can hold", "the largest rate is 1000tbit")
    return int(rate)


def parse_duration(text: str) -> float:
    """`10ms` -> 0.01 s. Raises UnitError."""
    number, unit = _split(text, "duration", "10ms")
    factor = _TIMES.get(unit.lower().replace("µ", "u"))
    if factor is None:
        raise UnitError(f"{text!r}: {unit!r} is not a unit of time", f"use one of {', '.join(_TIMES)}")
    return float(number * factor)


def parse_size(text: str) -> int:
    """`64kb` -> 64_000 bytes. Raises UnitError."""
    number, unit = _split(text, "size", "64kb")
    factor = _SIZES.get(unit.lower())
    if factor is None:
        raise UnitError(f"{text!r}: {unit!r} is not a unit of size", f"use one of {', '.join(_SIZES)}")
    return int(number * factor)


def parse_percent(text: str) -> float:
    """`0.5%` -> 0.005, in 0..1. Raises UnitError."""
    number, unit = _split(text, "percentage", "5%")
    if unit != "%":
        raise UnitError(f"{text!r} is not a percentage", "write it with a percent sign, such as 5%", "bad-percent")
    if number > 100:
        raise UnitError(f"{text!r} is more than the whole", "a percentage here is between 0% and 100%", "bad-percent")
    return float(number / 100)


def _trim(number: float, digits: int) -> str:
    text = f"{number:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_rate(rate: float) -> str:
    """20_000_000 -> `20mbit`, exact to a thousandth of the unit it picks."""
    for unit, factor in reversed(_RATES.items()):
        if rate >= factor > 1:
            return f"{_trim(rate / factor, 3)}{unit}"
    return f"{_trim(rate, 0)}bit"


def format_duration(seconds: float) -> str:
    """0.01 -> `10ms`."""
    if seconds >= 1:
        return f"{_trim(seconds, 2)}s"
    if seconds >= 1e-3:
        return f"{_trim(seconds * 1e3, 2)}ms"
    if seconds >= 1e-6:
        return f"{_trim(seconds * 1e6, 1)}us"
    return f"{_trim(seconds * 1e9, 0)}ns"


def format_size(size: float) -> str:
    """64_000 -> `64kb`."""
    if size >= 10**6:
        return f"{_trim(size / 10**6, 2)}mb"
    if size >= 10**3:
        return f"{_trim(size / 10**3, 2)}kb"
    return f"{_trim(size, 0)}b"


def format_percent(ratio: float) -> str:
    """0.005 -> `0.5%`."""
    return f"{_trim(ratio * 100, 3)}%"
