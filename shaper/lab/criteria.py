"""What the demo must show, as a function of its result: which of the criteria it fails, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

STATIC_AT_LEAST = 15
STRUCTURED_AT_LEAST = 5
OF_STATIC, OF_STRUCTURED = 0.10, 0.50
UTILISATION_MARGIN = 0.03
DROPS_AT_LEAST, DROPS_RATIO, DROPS_PACKETS = 1000, 0.01, 3
DELAY_RATIO, DELAY_SECONDS = 0.10, 0.001


def failed(result: Mapping[str, Any]) -> list[str]:
    """Every criterion that the result of a whole demo fails; empty when it shows what it should."""
    return [*_violations(result), *_utilisation(result), *_drops(result), *_delays(result)]


def _violations(result: Mapping[str, Any]) -> Iterator[str]:
    total: dict[str, int] = {}
    for path, modes in result["classes"].items():
        for mode, one in modes.items():
            if one["violation_seconds"] is None:
                yield f"{path}: the {mode} run gives no account of its SLA"
            total[mode] = total.get(mode, 0) + (one["violation_seconds"] or 0)
    static, structured, controlled = total["static"], total["structured"], total["controlled"]
    if static < STATIC_AT_LEAST:
        yield f"static: {static} violation-seconds, at least {STATIC_AT_LEAST} are expected of this traffic"
    if structured < STRUCTURED_AT_LEAST:
        yield f"structured: {structured} violation-seconds, at least {STRUCTURED_AT_LEAST} are expected of this traffic"
    if controlled > OF_STATIC * static:
        yield f"controlled: {controlled} violation-seconds, more than 10% of the static run's {static}"
    if controlled > OF_STRUCTURED * structured:
        yield f"controlled: {controlled} violation-seconds, more than 50% of the structured run's {structured}"


def _utilisation(result: Mapping[str, Any]) -> Iterator[str]:
    static, controlled = result["utilisation"]["static"], result["utilisation"]["controlled"]
    if static is None or controlled is None:
        yield "utilisation was not measured"
    elif controlled < static - UTILISATION_MARGIN:
        yield f"utilisation: {controlled:.1%} controlled, more than 3 points below the static run's {static:.1%}"


def _drops(result: Mapping[str, Any]) -> Iterator[str]:
    kernel, measured = result["drops"]["kernel"], result["drops"]["measured"]
    if kernel < DROPS_AT_LEAST:
        yield f"drops: {kernel} in the kernel's counters, at least {DROPS_AT_LEAST} are wanted to compare"
    if measured is None:
        yield "drops: none were measured from packets"
    elif abs(measured - kernel) > max(DROPS_RATIO * kernel, DROPS_PACKETS):
        yield f"drops: {measured} measured from packets, {kernel} in the kernel's counters"


def _delays(result: Mapping[str, Any]) -> Iterator[str]:
    for path, modes in result["classes"].items():
        for mode, one in modes.items():
            theirs, ours = one["receiver"]["delay_p99_s"], one["delay_p99_s"]
            if theirs is None:
                continue
            if ours is None:
                yield f"{path}: the {mode} run measured no delay"
            elif abs(ours - theirs) > max(DELAY_RATIO * theirs, DELAY_SECONDS):
                yield f"{path}: p99 {ours * 1e3:.2f} ms in the {mode} run, {theirs * 1e3:.2f} ms at the receiver"
