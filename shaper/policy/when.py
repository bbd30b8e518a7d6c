"""The scalars of a schedule: days, hours and time zones.

As in `values`, every function takes the bare value and raises PydanticCustomError.
"""

from __future__ import annotations

import re
from datetime import tzinfo
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from shaper.model.schedule import DAY, DAYS
from shaper.policy.kinds import Kind
from shaper.policy.text import did_you_mean
from shaper.policy.values import refuse, said

_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?\Z")
_LONG = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_OF_THE_MACHINE = frozenset({"localtime", "posixrules"})


class Zone(NamedTuple):
    """A time zone by its name."""

    name: str
    clock: tzinfo


def days(value: object) -> frozenset[int]:
    """`mon`, `mon-fri`, `fri-mon` (over the weekend) or `daily`; Monday is 0."""
    text = value.strip().lower() if isinstance(value, str) else ""
    if text == "daily":
        return frozenset(range(7))
    first, dash, last = (part.strip() for part in text.partition("-"))
    begin, end = _day(first), _day(last if dash else first)
    if begin is None or end is None:
        wrong = last if begin is not None else first
        hint = f"{did_you_mean(wrong, (*DAYS, *_LONG))}write mon, mon-fri, [sat, sun] or daily"
        raise refuse(Kind.BAD_DAYS, f"{said(value)} names no days of the week", hint)
    return frozenset((begin + number) % 7 for number in range((end - begin) % 7 + 1))


def _day(text: str) -> int | None:
    return next((number for number, both in enumerate(zip(DAYS, _LONG, strict=True)) if text in both), None)


def clock(value: object) -> int:
    """`08:00`, or `08:00:30`, in seconds after midnight; `24:00` is the midnight that ends a day."""
    match = _CLOCK.match(value) if isinstance(value, str) else None
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 60, 0)
    second = hours * 3600 + minutes * 60 + seconds
    if max(minutes, seconds) > 59 or second > DAY:
        hint = 'write hours and minutes, such as "08:00" or "18:30"'
        raise refuse(Kind.BAD_CLOCK, f"{said(value)} is not a time of day", hint)
    return second


def zone(value: object) -> Zone:
    """`Europe/Paris`: a name of the IANA time zone database. The machine's own would be another elsewhere."""
    if isinstance(value, str) and value not in _OF_THE_MACHINE:
        try:
            return Zone(value, ZoneInfo(value))
        except (LookupError, ValueError, OSError):
            pass
    hint = f"{_did_you_mean_the_zone(str(value))}such as Europe/Paris or UTC"
    raise refuse(Kind.UNKNOWN_ZONE, f"{said(value)} is not a time zone", hint)


def _did_you_mean_the_zone(text: str) -> str:
    """By the city, which is what people get wrong least."""
    city = text.rpartition("/")[2].lower().replace(" ", "_")
    if city in _cities():
        return f"did you mean {_cities()[city]!r}? "
    near = (name for last, name in _cities().items() if last[:1] == city[:1])
    return did_you_mean(text, near)


@cache
def _cities() -> dict[str, str]:
    """The zones by the last part of their names."""
    zones = sorted(available_timezones() - _OF_THE_MACHINE)
    return {name.rpartition("/")[2].lower(): name for name in zones}
