"""The targets of a class: `sla: {delay-p99: 10ms, jitter: 5ms, loss: 0.1%, throughput: 2mbit, mos: 4.0}`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from shaper.model.sla import DelayTarget, JitterTarget, MosTarget
from shaper.policy.kinds import Kind
from shaper.policy.text import did_you_mean, quoted
from shaper.policy.values import Amount, limit, one_of, quantity, ratio, refuse, said
from shaper.stats import CODECS
from shaper.units import format_duration, parse_duration

KEYS = ("delay-p50", "delay-p95", "delay-p99", "delay-p99.9", "jitter", "loss", "throughput", "mos")
MOS_KEYS = ("least", "codec", "path")
_PERCENTILE = re.compile(r"(delay|jitter)-p([0-9]{1,3}(?:\.[0-9]{1,3})?)\Z")
_USUAL = 0.99
"""The percentile of `jitter`, where none is named."""
_LONGEST = 3600.0
_CODEC = "g711-plc"


class SlaSpec(NamedTuple):
    """Targets as written: `loss` a ratio, `throughput` still to be resolved."""

    delays: tuple[DelayTarget, ...] = ()
    loss: float | None = None
    throughput: Amount | None = None
    jitters: tuple[JitterTarget, ...] = ()
    mos: MosTarget | None = None


def sla(value: object) -> SlaSpec:
    """A mapping of targets; every wrong one is reported (ValidationError with one line for each)."""
    if not isinstance(value, dict):
        hint = "write a mapping, such as {delay-p99: 10ms, loss: 0.1%}"
        raise refuse(Kind.WRONG_TYPE, f"expected targets, found {said(value)}", hint)
    times: dict[str, dict[float, float]] = {"delay": {}, "jitter": {}}
    keys: dict[str, dict[float, str]] = {"delay": {}, "jitter": {}}
    rest: dict[str, Any] = {}
    wrong: list[InitErrorDetails] = []
    for key, target in value.items():
        try:
            if key == "loss":
                rest[key] = _loss(target)
            elif key == "throughput":
                rest[key] = limit(target)
            elif key == "mos":
                rest[key] = _mos(target, wrong)
            else:
                what, percentile = _percentile(key)
                if percentile in times[what]:
                    message = f"{quoted(key)} names a percentile that is there already"
                    raise refuse(Kind.DUPLICATE_KEY, message, "keep one of the two")
                times[what][percentile] = _time(target, what)
                keys[what][percentile] = key
        except PydanticCustomError as error:
            wrong.append(InitErrorDetails(type=error, loc=(key,), input=target))
    for what, found in times.items():
        wrong += _contradicting(found, keys[what])
    if wrong:
        raise ValidationError.from_exception_data("sla", wrong)
    return SlaSpec(
        tuple(DelayTarget(*each) for each in sorted(times["delay"].items())),
        jitters=tuple(JitterTarget(*each) for each in sorted(times["jitter"].items())),
        **rest,
    )


def _contradicting(found: dict[float, float], keys: dict[float, str]) -> Iterator[InitErrorDetails]:
    """Percentiles that may be later than a higher one, which more packets must keep: nothing would ever judge them."""
    for percentile, seconds in sorted(found.items()):
        tighter = [(other, bound) for other, bound in found.items() if other > percentile and bound < seconds]
        if not tighter:
            continue
        other, bound = min(tighter, key=lambda each: each[1])
        key, higher = keys[percentile], keys[other]
        message = f"{quoted(key)} allows {format_duration(seconds)}, and {quoted(higher)} only {format_duration(bound)}"
        hint = f"write at most {format_duration(bound)}, or take one of the two out"
        yield InitErrorDetails(type=refuse(Kind.CONTRADICTING_TARGETS, message, hint), loc=(key,), input=seconds)


def _percentile(key: str) -> tuple[str, float]:
    """Of which quantity, and which percentile in 0..1."""
    if key == "jitter":
        return key, _USUAL
    what, dash, number = key.partition("-p")
    if what not in ("delay", "jitter") or not dash:
        hint = f"{did_you_mean(key, KEYS)}targets are delay-p and a percentile, jitter, loss, throughput, mos"
        raise refuse(Kind.UNKNOWN_KEY, f"{quoted(key)} is not a target", hint)
    match = _PERCENTILE.match(key)
    if match is None or not 0 < Decimal(match[2]) < 100:
        hint = f"write one above 0 and below 100 with at most three decimals, such as {what}-p99 or {what}-p99.9"
        raise refuse(Kind.BAD_PERCENTILE, f"{quoted(number)} is not a percentile", hint)
    return what, float(Decimal(match[2]) / 100)


def _time(value: object, what: str) -> float:
    seconds = quantity(value, parse_duration, "a duration", "10ms")
    if not 0 < seconds <= _LONGEST:
        raise refuse(Kind.BAD_QUANTITY, f"a {what} of {quoted(value)} can be no target", "above 0 and at most an hour")
    return seconds


def _loss(value: object) -> float:
    parsed = ratio(value)
    if parsed == 1:
        raise refuse(Kind.BAD_PERCENT, "a loss of 100% is kept by a link that is down", "such as 0.1%")
    return parsed


def _mos(value: object, wrong: list[InitErrorDetails]) -> MosTarget | None:
    """`4.0`, or `{least: 4.0, codec: g729a, path: 30ms}`; what is wrong in the mapping goes to `wrong`."""
    if not isinstance(value, dict):
        return _reachable(MosTarget(_score(value), _CODEC))
    found: dict[str, Any] = {"least": None, "codec": _CODEC, "path": 0.0}
    readers: dict[str, Callable[[object], Any]] = {"least": _score, "codec": _codec, "path": _path}
    before = len(wrong)
    for key, each in value.items():
        try:
            if key not in readers:
                hint = f"{did_you_mean(key, MOS_KEYS)}the keys here are {', '.join(MOS_KEYS)}"
                raise refuse(Kind.UNKNOWN_KEY, f"unknown key {quoted(key)}", hint)
            found[key] = readers[key](each)
        except PydanticCustomError as error:
            wrong.append(InitErrorDetails(type=error, loc=("mos", key), input=each))
    if len(wrong) > before:
        return None
    if found["least"] is None:
        raise refuse(Kind.MISSING_KEY, "the key 'least' is missing", "such as `least: 4.0`")
    return _reachable(MosTarget(**found))


def _score(value: object) -> float:
    try:
        score = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
    except ValueError:
        score = None
    if score is None or not 1 < score <= 4.5:
        raise refuse(Kind.BAD_QUANTITY, f"{said(value)} is not a mean opinion score", "above 1 and at most 4.5, as 4.0")
    return score


def _path(value: object) -> float:
    return quantity(value, parse_duration, "a duration", "30ms")


def _codec(value: object) -> str:
    return one_of(CODECS, value, Kind.UNKNOWN_NAME, "is not a codec")


def _reachable(target: MosTarget) -> MosTarget:
    """Raises a problem where no queue at all would still sound too bad."""
    if target.best < target.least:
        way = f" over a way of {format_duration(target.path)}" if target.path else ""
        message = f"{target.codec}{way} scores {target.best:.2f} at best, less than {target.least:g}"
        raise refuse(Kind.MOS_UNREACHABLE, message, "promise less, or name a codec that is better")
    return target
