"""A leaf queue's options in tc's words."""

from __future__ import annotations

import math

from shaper.tree import CodelOptions, FqPieOptions, LeafOptions, PieOptions, RedOptions, SfqOptions

_AVERAGE_PACKET = 1000


def leaf_words(options: LeafOptions) -> str:
    """The kind with its options."""
    match options:
        case CodelOptions():
            return (
                f"codel limit {options.limit} target {options.target}us interval {options.interval}us "
                f"{_ecn(options.ecn)}"
            )
        case PieOptions():
            return f"pie limit {options.limit} {_pie(options)}"
        case FqPieOptions():
            return (
                f"fq_pie limit {options.limit} flows {options.flows} quantum {options.quantum} "
                f"memory_limit {options.memory} ecn_prob {options.ecn_prob} {_pie(options)}"
            )
        case RedOptions():
            return _red(options)
        case SfqOptions():
            return (
                f"sfq limit {options.limit} quantum {options.quantum} perturb {options.perturb} "
                f"divisor {options.divisor} flows {options.flows} depth {options.depth}"
                f"{' headdrop' if options.headdrop else ''}"
            )


def _ecn(on: bool) -> str:
    return "ecn" if on else "noecn"


def _pie(options: PieOptions | FqPieOptions) -> str:
    """tc 6.1 reads the switches of PIE only where they are on or off by name."""
    update = options.update or 15_000
    words = [f"target {options.target}us tupdate {update}us alpha {options.alpha} beta {options.beta}"]
    words += [_ecn(options.ecn), "bytemode" if options.bytemode else "nobytemode"]
    words.append("dq_rate_estimator" if options.rate_estimator else "no_dq_rate_estimator")
    return " ".join(words)


def _red(options: RedOptions) -> str:
    """tc makes the weight of a burst and the idle table of a bandwidth: those that give the numbers meant."""
    burst, bandwidth = _burst(options), _bandwidth(options)
    words = [f"red limit {options.limit} min {options.least} max {options.most} avpkt {_AVERAGE_PACKET}"]
    words += [f"burst {burst} bandwidth {bandwidth}bit"]
    words += ["adaptive" if options.adaptive else f"probability {(options.probability + 0.5) / 2**32:.12g}"]
    words += [word for word, on in (("ecn", options.ecn), ("harddrop", options.harddrop)) if on]
    return " ".join(words)


def _burst(options: RedOptions) -> int:
    """Packets of which tc makes this weight (tc_red_eval_ewma() in iproute2)."""
    burst: int = math.ceil(options.least / _AVERAGE_PACKET)
    while _weight(burst, options.least) < options.weight:
        burst += max(1, burst // 16)
    return burst


def _weight(burst: int, least: int) -> int:
    over = burst + 1 - least / _AVERAGE_PACKET
    return next((log for log in range(1, 32) if over <= (1 - (1 - 2.0**-log) ** burst) / 2.0**-log), 31)


def _bandwidth(options: RedOptions) -> int:
    """bit/s of which tc makes cells of this size (tc_red_eval_idle_damping() in iproute2, whose unit is 64 ns)."""
    ticks = 384.0 * 2.0**options.cell * -math.log1p(-(2.0**-options.weight)) / 31
    return max(8, round(_AVERAGE_PACKET * 8 * 10**9 / (ticks * 64)))
